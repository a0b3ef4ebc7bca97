//! Health tests of farms.

use std::collections::BTreeSet;
use std::num::{NonZeroU8, NonZeroU16};
use std::time::Duration;

use super::Problems;
use super::names::{host_name, not_a_host_name};
use crate::config::model::{DEFAULT_TEST, HealthTest};
use crate::config::problem::Problem;
use crate::config::raw::{FarmTable, HealthTable, Statuses, Time};
use crate::config::spanned::Spanned;
use crate::proxy::balance::monitor::{Expectation, LiveTraffic, Thresholds};
use crate::proxy::balance::status::StatusSet;

/// A farm's tests, its own first. `site`: the first name of a site that uses the farm; `used`: the tests that routes name;
/// `unsure`: of some site it is not known.
pub(super) fn tests(
    raw: &FarmTable,
    site: Option<&String>,
    used: &BTreeSet<&str>,
    unsure: bool,
    problems: &mut Problems,
) -> Option<Vec<HealthTest>> {
    let usual = HealthTest::plain(site.map_or("", String::as_str));
    let own = test(DEFAULT_TEST, &raw.health, &usual, problems);
    let start = own.clone().unwrap_or(usual);
    let mut tests: Vec<_> = own.into_iter().collect();
    if let Some((_, extra)) = raw.tests.iter().nth(MOST_TESTS) {
        let text = format!("a farm has at most {MOST_TESTS} tests beside its own");
        problems.add(Problem::at(extra.span(), text));
    }
    for (name, table) in &raw.tests {
        let sound = is_name(name).then_some(());
        let named = problems.require(sound, || not_a_name(name, table));
        if !used.contains(name.as_str()) && !unsure {
            let problem = Problem::at(table.span(), format!("no route uses the test \"{name}\""));
            problems.add(problem.hint(format!("test = \"{name}\" in a [[site.route]]")));
        }
        tests.extend(named.and(test(name, table.get_ref(), &start, problems)));
    }
    (tests.len() == raw.tests.len() + 1).then_some(tests)
}

/// `start`, less what the table says otherwise.
fn test(name: &str, raw: &HealthTable, start: &HealthTest, problems: &mut Problems) -> Option<HealthTest> {
    let start = start.clone();
    let path = or(start.path, &raw.path, |raw| problems.path("health test", raw));
    let methods = [("GET", "GET"), ("HEAD", "HEAD"), ("OPTIONS", "OPTIONS")];
    let method =
        or(start.method, &raw.method, |raw| problems.choice("method", raw, &methods).map(str::to_owned));
    let host =
        or(start.host, &raw.host, |raw| problems.require(host_name(raw.get_ref()), || not_a_host_name(raw)));
    let statuses = or(start.expect.statuses, &raw.status, |raw| statuses(raw, problems));
    // An answer to HEAD has none.
    let start_body = if raw.method.as_ref().is_some_and(|method| method.get_ref() == "HEAD") {
        String::new()
    } else {
        start.expect.body
    };
    let body = or(start_body, &raw.body, |raw| body(raw, problems));
    if let (Some("HEAD"), Some(raw), Some(false)) =
        (method.as_deref(), &raw.body, body.as_ref().map(String::is_empty))
    {
        let problem = Problem::at(raw.span(), "an answer to HEAD has no `body`");
        problems.add(problem.hint("method = \"GET\", or body = \"\""));
        return None;
    }
    let second = Duration::from_secs(1);
    let mut time = |what: &str, start, raw: &Option<Spanned<Time>>, range| {
        or(start, raw, |raw| problems.time(what, raw, range))
    };
    let interval = time("interval", start.interval, &raw.interval, second / 10..=second * 3600);
    let timeout = time("timeout", start.timeout, &raw.timeout, second / 100..=second * 300);
    let mut count = |what: &str, start, raw: &Option<Spanned<u8>>| {
        or(start, raw, |raw| problems.number(what, raw, 1..=100).and_then(NonZeroU8::new))
    };
    let failures = count("failures", start.thresholds.failures, &raw.failures);
    let successes = count("successes", start.thresholds.successes, &raw.successes);
    let live_traffic = live_traffic(raw, start.live_traffic, problems);
    Some(HealthTest {
        name: name.to_owned(),
        path: path?,
        method: method?,
        host: host?,
        expect: Expectation { statuses: statuses?, body: body? },
        interval: interval?,
        timeout: timeout?,
        thresholds: Thresholds { failures: failures?, successes: successes? },
        live_traffic: live_traffic?,
    })
}

/// `None`: what is said cannot be.
fn live_traffic(
    raw: &HealthTable,
    start: Option<LiveTraffic>,
    problems: &mut Problems,
) -> Option<Option<LiveTraffic>> {
    let start = start.unwrap_or_else(LiveTraffic::plain);
    let failures =
        or(start.failures.get(), &raw.live_failures, |raw| problems.number("live_failures", raw, 0..=1000));
    let second = Duration::from_secs(1);
    let period =
        or(start.period, &raw.live_period, |raw| problems.time("live_period", raw, second..=second * 3600));
    let statuses = or(start.statuses, &raw.live_status, |raw| statuses(raw, problems).map(Some));
    let (period, statuses) = (period?, statuses?);
    Some(NonZeroU16::new(failures?).map(|failures| LiveTraffic { failures, period, statuses }))
}

/// What the file says, or `start`.
fn or<T, R>(start: T, raw: &Option<Spanned<R>>, read: impl FnOnce(&Spanned<R>) -> Option<T>) -> Option<T> {
    raw.as_ref().map_or(Some(start), read)
}

fn statuses(raw: &Spanned<Statuses>, problems: &mut Problems) -> Option<StatusSet> {
    match raw.get_ref().0.parse() {
        Ok(statuses) => Some(statuses),
        Err(error) => {
            problems.add(Problem::of_error(raw.span(), error));
            None
        }
    }
}

fn body(raw: &Spanned<String>, problems: &mut Problems) -> Option<String> {
    let text = raw.get_ref();
    problems.require((text.len() <= LONGEST_BODY).then(|| text.clone()), || {
        Problem::at(raw.span(), format!("`body` has {} bytes, more than {LONGEST_BODY}", text.len()))
            .hint("a part of the answer suffices")
    })
}

fn is_name(name: &str) -> bool {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    (1..=32).contains(&name.len()) && name.chars().all(sound) && name != DEFAULT_TEST
}

fn not_a_name(name: &str, table: &Spanned<HealthTable>) -> Problem {
    Problem::at(table.span(), format!("\"{name}\" is not a name for a health test"))
        .hint("up to 32 small letters, digits, - and _; \"default\" is what [farm.health] is called")
}

/// Most tests of a farm beside its own.
const MOST_TESTS: usize = 31;

/// Most bytes that an answer is searched for.
const LONGEST_BODY: usize = 1024;
