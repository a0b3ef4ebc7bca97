//! `healthCheck` of a farm: its test of a URL and what clients' requests tell. Pure.

use crate::iis::draft::Line;
use crate::iis::ledger::Became;
use crate::iis::map::values::{time, time_span, within};
use crate::iis::map::{Mapper, patterns};
use crate::iis::model::{self, Settings};
use crate::iis::write::quoted;
use crate::proxy::balance::status::StatusSet;

impl Mapper<'_> {
    /// `[farm.health]`.
    pub(super) fn health(&mut self, farm: &model::Farm, tls: bool) -> Vec<Line> {
        let settings = &farm.health;
        let url = settings.text_or("url", "").to_owned();
        if url.is_empty() {
            let id = if settings.element.is_empty() { farm.own.id } else { settings.id };
            let said = self.model.farms.iter().any(|one| one.own.id == id);
            if !said {
                self.say(id, Became::warned(NO_TEST));
            }
            self.remarks.push(format!("the farm {}: {NO_TEST}", quoted(farm.name())));
            for said in settings.values.values() {
                self.ledger.settle(said.id, Became::unneeded("of a test that is off"));
            }
            return [no_test(), self.live_traffic(farm)].concat();
        }
        self.say_if(settings, Became::mapped("[farm.health]"));
        let mut lines = self.test_url(settings, &url, tls);
        for (name, key, default, least, most) in
            [("interval", "interval", 30_000, 100, 3_600_000), ("timeout", "timeout", 30_000, 10, 300_000)]
        {
            let millis = settings.text(name).and_then(time_span).unwrap_or(default);
            let (millis, sound) = within(millis, least, most);
            let written = time(millis);
            let became = if sound {
                Became::mapped(format!("{key} = {written}"))
            } else {
                Became::warned(format!("{key} = {written}, the nearest that there is"))
            };
            self.say_of(settings, name, became);
            lines.push((key, written));
        }
        let retries: u64 = settings.text_or("retries", "3").parse().unwrap_or(3);
        let failures = retries.clamp(0, 99) + 1;
        lines.push(("failures", failures.to_string()));
        self.say_of(
            settings,
            "retries",
            Became::mapped(format!("failures = {failures}: the first and each retry")),
        );
        lines.extend(self.statuses(settings, "statusCodeMatch", "status", "200-399"));
        let body: String = settings.text_or("responseMatch", "").to_owned();
        if body.len() <= 1024 {
            lines.push(("body", quoted(&body)));
            self.say_of(settings, "responseMatch", Became::mapped("body of the health test"));
        } else {
            lines.push(("body", quoted("")));
            self.say_of(
                settings,
                "responseMatch",
                Became::refused("longer than 1 KiB; write a part of it as `body`"),
            );
        }
        self.say_of(settings, "minServers", Became::mapped("panic_threshold"));
        [lines, self.live_traffic(farm)].concat()
    }

    /// Path and host of the test.
    fn test_url(&mut self, settings: &Settings, url: &str, tls: bool) -> Vec<Line> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = authority.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let plain = |c: char| c.is_ascii_graphic() && !"\"\\#?%".contains(c);
        let sound = path.starts_with('/') && path.chars().all(plain);
        let path = if sound { path } else { "/" };
        let other = !scheme.is_empty() && scheme.eq_ignore_ascii_case("https") != tls;
        let became = if !sound && !rest[end..].is_empty() {
            Became::refused("a path that no health test can have; / is written")
        } else if other {
            Became::warned(
                "servers are tested as they are asked, where ARR's test went another way (http or https)",
            )
        } else {
            Became::mapped(format!("path = {}", quoted(path)))
        };
        self.say_of(settings, "url", became);
        let mut lines = vec![("path", quoted(path))];
        if patterns::is_host_name(&host) {
            lines.push(("host", quoted(&host)));
        }
        lines
    }

    fn statuses(
        &mut self,
        settings: &Settings,
        name: &str,
        key: &'static str,
        default: &str,
    ) -> Option<Line> {
        let text: String = settings.text_or(name, default).split_whitespace().collect();
        if text.parse::<StatusSet>().is_ok() {
            self.say_of(settings, name, Became::mapped(key));
            return Some((key, quoted(&text)));
        }
        self.say_of(
            settings,
            name,
            Became::refused(format!("no list of statuses such as 200-399; write `{key}` yourself")),
        );
        None
    }

    /// ARR's is off unless it has a period.
    fn live_traffic(&mut self, farm: &model::Farm) -> Vec<Line> {
        let settings = &farm.health;
        let millis = settings
            .text("liveTrafficFailurePeriod")
            .and_then(time_span)
            .or_else(|| settings.text("liveTrafficFailurePeriod")?.parse::<u64>().ok()?.checked_mul(1000));
        let names = ["liveTrafficFailureCodes", "maxLiveTrafficFailures", "liveTrafficFailurePeriod"];
        let Some(millis) = millis.filter(|millis| *millis > 0) else {
            names
                .iter()
                .for_each(|name| self.say_of(settings, name, Became::mapped("live_failures = 0: off")));
            return vec![("live_failures", "0".to_owned())];
        };
        let failures =
            settings.text_or("maxLiveTrafficFailures", "10").parse().unwrap_or(10_u64).clamp(1, 1000);
        self.say_of(settings, names[1], Became::mapped(format!("live_failures = {failures}")));
        let (millis, _) = within(millis, 1000, 3_600_000);
        self.say_of(settings, names[2], Became::mapped(format!("live_period = {}", time(millis))));
        let mut lines = vec![("live_failures", failures.to_string()), ("live_period", time(millis))];
        lines.extend(self.statuses(settings, names[0], "live_status", "500-"));
        lines
    }
}

/// A test that any answer passes.
pub(super) fn no_test() -> Vec<Line> {
    vec![("path", quoted("/")), ("status", quoted("100-599")), ("body", quoted(""))]
}

const NO_TEST: &str = "ARR tested no URL of this farm; here a server that answers anything at all is healthy: give a path that says more";
