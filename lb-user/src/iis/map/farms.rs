//! Farms that rules name: servers, health tests, balancing, time-outs. Pure. Here rules get their farms' final names, and sites the routes
//! that give their requests bounds.
//!
//! ARR's defaults are those of its schema (arr_schema.xml): time-out 30 s, health test each 30 s, status 200-399.

mod health;

use std::collections::{BTreeMap, BTreeSet};

use self::health::no_test;
use super::Mapper;
use super::rules::{Behind, Goal, NOTHING_ELSE, Target};
use super::sites::Plan;
use super::values::{self, time, time_span, within};
use crate::iis::draft::{Farm, Fill, Line, Route, Server};
use crate::iis::ledger::Became;
use crate::iis::model::{self, Settings};
use crate::iis::write::quoted;
use crate::proxy::rewrite::spec::ActionSpec;

impl Mapper<'_> {
    /// The farms that sites use; their names go into the sites' rules.
    pub(super) fn farms(&mut self, plans: &mut [Plan]) -> Vec<Farm> {
        let live = plans.iter().flat_map(|plan| &plan.planned).filter(|planned| planned.spec.enabled);
        let targets: BTreeSet<Target> = live.flat_map(|planned| targets(&planned.goal)).collect();
        let names: BTreeMap<Target, String> =
            targets.iter().map(|target| (target.clone(), self.name(target, &targets))).collect();
        let farms = names.iter().map(|(target, name)| self.farm(target, name)).collect();
        plans.iter_mut().for_each(|plan| self.aim(plan, &names));
        let model = self.model;
        for (at, farm) in model.farms.iter().enumerate() {
            if !targets.iter().any(|target| target.behind == Behind::Farm(at)) {
                self.settle_farm(
                    farm,
                    &Became::warned("no rule that is carried over sends requests to this farm"),
                );
            }
        }
        farms
    }

    fn name(&self, target: &Target, all: &BTreeSet<Target>) -> String {
        let both = all.iter().any(|other| other.behind == target.behind && other.tls != target.tls);
        let name = match &target.behind {
            Behind::Farm(at) => self.model.farms[*at].name().to_owned(),
            Behind::Host(host, None) => host.clone(),
            Behind::Host(host, Some(port)) => format!("{host}-{port}"),
        };
        if both && !target.tls { format!("{name}-http") } else { name }
    }

    fn farm(&mut self, target: &Target, name: &str) -> Farm {
        let model = self.model;
        match &target.behind {
            Behind::Farm(at) => self.of_farm(&model.farms[*at], name, target.tls),
            Behind::Host(host, port) => {
                let usual = if target.tls { 443 } else { 80 };
                let address = Fill::of(self.address(host), "its address");
                let server = Server {
                    name: host.clone(),
                    address,
                    port: port.unwrap_or(usual),
                    weight: 100,
                    active: true,
                };
                let proxy = model.proxy.iter().find(|settings| settings.element == "proxy");
                let timeout =
                    proxy.and_then(|proxy| proxy.text("timeout")).and_then(time_span).unwrap_or(120_000);
                let timeout = time(within(timeout, 1000, 86_400_000).0);
                Farm {
                    name: name.to_owned(),
                    comment: "A host that rules name; it is no farm of ARR".to_owned(),
                    servers: vec![server],
                    tls: target.tls,
                    lines: vec![("response_timeout", timeout)],
                    balance: Vec::new(),
                    health: [no_test(), vec![("live_failures", "0".to_owned())]].concat(),
                }
            }
        }
    }

    fn of_farm(&mut self, farm: &model::Farm, name: &str, tls: bool) -> Farm {
        self.settle_own(farm);
        let servers = farm.servers.iter().map(|server| self.server(server, farm, tls)).collect();
        let lines = vec![("response_timeout", self.timeout(farm))];
        self.protocol(farm);
        let (balance, health) = (self.balance(farm), self.health(farm, tls));
        let mut comment = format!("The farm {} of ARR", farm.name());
        if tls {
            comment.push_str(
                "\nServers have to present the site's own certificate, as Extended Protection demands; ARR took any that Windows\n\
                 trusted. Where they have others, write ca = \"/PATH/ca.pem\", or verify = \"none\".",
            );
        }
        let comment = comment.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
        Farm { name: name.to_owned(), comment, servers, tls, lines, balance, health }
    }

    fn settle_own(&mut self, farm: &model::Farm) {
        self.say(farm.own.id, Became::mapped("[[farm]]"));
        for (name, said) in &farm.own.values {
            let became = match name.as_str() {
                "name" => Became::mapped("name of the [[farm]]"),
                "enabled" if farm.own.is(name, true) => Became::mapped("[[farm]]"),
                "enabled" => Became::warned("the farm was off: all its servers are \"disabled\""),
                "passServerHeader" | "passConnectionCloseHeader" => {
                    Became::unneeded("Server passes; see response_headers. Connection belongs to each side")
                }
                _ => Became::unneeded("of Web Farm Framework, which deploys applications"),
            };
            self.ledger.settle(said.id, became);
        }
        if farm.servers.is_empty() {
            self.say(farm.own.id, Became::refused("a farm without servers; write at least one"));
        }
    }

    fn server(&mut self, server: &model::Server, farm: &model::Farm, tls: bool) -> Server {
        let host = server.own.text_or("address", "").to_owned();
        let known = self.address(&host);
        self.say(server.own.id, Became::mapped("servers of the farm"));
        for (name, said) in &server.own.values {
            let became = match name.as_str() {
                "address" if known.is_some() => Became::mapped("servers of the farm"),
                "address" => {
                    Became::warned("a name: servers are addresses here; fill it in, or give it by --hosts")
                }
                "enabled" if server.own.is(name, true) => Became::mapped("servers of the farm"),
                "enabled" => Became::mapped("state = \"disabled\""),
                _ => Became::refused("not known to this import; see what it did in ARR"),
            };
            self.ledger.settle(said.id, became);
        }
        let weight = server.routing.text_or("weight", "100").parse::<u64>().unwrap_or(100);
        let most = farm.servers.iter().filter_map(|one| one.routing.text("weight")?.parse().ok()).max();
        // Ratios stay.
        let scale = most.unwrap_or(100_u64).max(1000).div_ceil(1000);
        let scaled = u32::try_from((weight / scale).clamp(1, 1000)).unwrap_or(1000);
        let (used, unused) = if tls { ("httpsPort", "httpPort") } else { ("httpPort", "httpsPort") };
        let port =
            server.routing.text(used).and_then(|port| port.parse().ok()).filter(|port: &u16| *port > 0);
        for (name, said) in &server.routing.values {
            let became = match name.as_str() {
                "weight" if u64::from(scaled) == weight => Became::mapped(format!("weight = {scaled}")),
                "weight" => Became::warned(format!(
                    "weight = {scaled}: weights are 1 to 1000 here, and keep their ratio"
                )),
                name if name == used && port.is_some() => Became::mapped("the server's port"),
                name if name == used => Became::refused("no port"),
                name if name == unused => Became::unneeded("no rule that is carried over goes there"),
                "hostName" if said.value.is_empty() => Became::unneeded("empty"),
                "hostName" => Became::warned(values::HOST),
                "healthCheckAlternateHostName" if said.value.is_empty() => Became::unneeded("empty"),
                "healthCheckAlternatePort" if said.value == "0" => Became::unneeded("off"),
                "healthCheckAlternateHostName" | "healthCheckAlternatePort" => Became::warned(
                    "each server is tested where it is asked, with the host of the farm's test",
                ),
                _ => Became::refused("not known to this import; see what it did in ARR"),
            };
            self.ledger.settle(said.id, became);
        }
        let blank = "its address: ARR had a name, which is not looked up while serving";
        let named = host.chars().filter(char::is_ascii_graphic).take(63).collect::<String>();
        Server {
            name: if named.is_empty() { "server".to_owned() } else { named },
            address: Fill::of(known, blank),
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            weight: scaled,
            active: server.own.is("enabled", true) && farm.own.is("enabled", true),
        }
    }

    fn timeout(&mut self, farm: &model::Farm) -> String {
        let settings = &farm.protocol;
        let Some(text) = settings.text("timeout") else {
            let id = if settings.element.is_empty() { farm.own.id } else { settings.id };
            self.say(id, Became::warned(SHORT_TIMEOUT));
            return time(30_000);
        };
        let id = settings.id_of("timeout");
        let Some(millis) = time_span(text) else {
            self.say(id, Became::refused("no time; ARR's default of 30 s is written"));
            return time(30_000);
        };
        let (millis, sound) = within(millis, 1000, 86_400_000);
        let written = time(millis);
        let became = match (sound, millis > 30_000) {
            (false, _) => Became::warned(format!("response_timeout = {written}: 1 s to 24 h")),
            (true, true) => Became::mapped(format!("response_timeout = {written}")),
            (true, false) => Became::warned(SHORT_TIMEOUT),
        };
        self.say(id, became);
        written
    }

    fn protocol(&mut self, farm: &model::Farm) {
        if !farm.protocol.element.is_empty() && farm.protocol.text("timeout").is_some() {
            self.say(farm.protocol.id, Became::mapped("the farm"));
        }
        for (name, said) in farm.protocol.values.iter().filter(|(name, _)| *name != "timeout") {
            let became = match name.as_str() {
                "preserveHostHeader" if farm.protocol.is(name, true) => {
                    Became::mapped("servers get the client's Host")
                }
                "preserveHostHeader" => Became::warned(values::HOST),
                _ => values::protocol(&farm.protocol, name),
            };
            self.ledger.settle(said.id, became);
        }
        if let Some(cache) = &farm.cache {
            let on = cache.is("enabled", true);
            let why =
                if on { "answers are never cached here, as Exchange needs it" } else { "off, as it is here" };
            self.say_all(cache, &if on { Became::warned(why) } else { Became::unneeded(why) });
        }
    }

    fn balance(&mut self, farm: &model::Farm) -> Vec<Line> {
        let mut lines = Vec::new();
        let settings = &farm.balancing;
        self.say_if(settings, Became::mapped("[farm.balance]"));
        let algorithm = settings.text_or("algorithm", "WeightedRoundRobin").to_ascii_lowercase();
        let dropped = "ARR's schema says that it falls back to round robin; here it is what it is called";
        let (line, became): (Line, Became) = match algorithm.as_str() {
            "leastrequests" | "1" => (("algorithm", quoted("least-requests")), Became::warned(dropped)),
            "leastresponsetime" | "2" => {
                (("algorithm", quoted("least-response-time")), Became::warned(dropped))
            }
            "weightedtotaltraffic" | "3" => (("algorithm", quoted("least-traffic")), Became::warned(dropped)),
            "requesthash" | "4" => self.hash(settings),
            _ => (("algorithm", quoted("round-robin")), Became::mapped("algorithm = \"round-robin\"")),
        };
        if algorithm != "weightedroundrobin" {
            lines.push(line);
        }
        for (name, said) in &settings.values {
            let became = match name.as_str() {
                "algorithm" => became.clone(),
                "hashServerVariable" | "queryStringNames" if algorithm == "requesthash" => became.clone(),
                "hashServerVariable" | "queryStringNames" => {
                    Became::unneeded("the algorithm does not use it")
                }
                "leastResponseTimePeriod" | "randomizeLBTies" => {
                    Became::unneeded("the algorithm has its own")
                }
                _ => Became::refused("not known to this import; see what it did in ARR"),
            };
            self.ledger.settle(said.id, became);
        }
        lines.extend(self.affinity(farm));
        lines.extend(self.min_servers(farm));
        lines
    }

    fn hash(&self, settings: &Settings) -> (Line, Became) {
        let variable = settings.text_or("hashServerVariable", "").to_ascii_uppercase();
        let names = settings.text_or("queryStringNames", "");
        let names: Vec<String> =
            names.split([',', ';']).map(|name| quoted(name.trim())).filter(|name| name.len() > 2).collect();
        match variable.as_str() {
            "QUERY_STRING" if !names.is_empty() => {
                (("hash_query", format!("[{}]", names.join(", "))), Became::mapped("hash_query"))
            }
            "REMOTE_ADDR" | "REMOTE_HOST" => {
                (("algorithm", quoted("hash-client")), Became::mapped("algorithm = \"hash-client\""))
            }
            "URL" | "UNENCODED_URL" | "REQUEST_URI" | "CACHE_URL" | "PATH_INFO" | "" => {
                (("algorithm", quoted("hash-url")), Became::mapped("algorithm = \"hash-url\""))
            }
            field if field.starts_with("HTTP_") => {
                let field = field[5..].replace('_', "-");
                (("hash_header", quoted(&field)), Became::mapped(format!("hash_header = \"{field}\"")))
            }
            _ => (
                ("algorithm", quoted("hash-url")),
                Became::warned("algorithm = \"hash-url\": there is no hash of that variable"),
            ),
        }
    }

    fn affinity(&mut self, farm: &model::Farm) -> Option<Line> {
        let settings = &farm.affinity;
        let cookie = settings.is("useCookie", false);
        self.say_if(settings, Became::mapped("[farm.balance]"));
        let name = settings.text_or("cookieName", "ARRAffinity");
        let sound = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        for (key, said) in &settings.values {
            let on = settings.is(key, false);
            let became = match key.as_str() {
                "useCookie" if cookie => Became::mapped("affinity_cookie"),
                "useCookie" => Became::unneeded("off, as it is here"),
                "cookieName" if cookie && sound => Became::mapped("affinity_cookie"),
                "cookieName" if cookie => Became::refused("no name of a cookie"),
                "useHostName" | "useServerProvider" if on => Became::refused(
                    "affinity by host name; a [[site.route]] with `hosts` sends a host to a farm of its own",
                ),
                "useExternalCache" if on => Became::warned(
                    "affinity needs no cache on a file share: the cookie says enough to any node",
                ),
                _ => Became::unneeded("of affinity that is off"),
            };
            self.ledger.settle(said.id, became);
        }
        (cookie && sound).then(|| ("affinity_cookie", quoted(name)))
    }

    fn min_servers(&mut self, farm: &model::Farm) -> Option<Line> {
        let least = farm.health.text("minServers")?.parse::<usize>().ok()?.min(farm.servers.len());
        (least > 0).then(|| ("panic_threshold", least.to_string()))
    }

    fn say_of(&mut self, settings: &Settings, name: &str, became: Became) {
        if let Some(said) = settings.values.get(name) {
            self.ledger.settle(said.id, became);
        }
    }

    fn say_if(&mut self, settings: &Settings, became: Became) {
        if !settings.element.is_empty() {
            self.say(settings.id, became);
        }
    }

    fn settle_farm(&mut self, farm: &model::Farm, became: &Became) {
        let parts = [&farm.own, &farm.protocol, &farm.health, &farm.affinity, &farm.balancing];
        let servers = farm.servers.iter().flat_map(|server| [&server.own, &server.routing]);
        for settings in parts.into_iter().chain(farm.cache.as_ref()).chain(servers) {
            self.say_all(settings, became);
        }
    }

    /// Puts names into a site's rules and gives it routes.
    fn aim(&mut self, plan: &mut Plan, names: &BTreeMap<Target, String>) {
        for planned in &mut plan.planned {
            let Goal::Farm { target, rest, .. } = &planned.goal else { continue };
            let scheme = if target.tls { "https" } else { "http" };
            // A rule that is off may name a farm that nobody uses.
            let name = names.get(target).cloned().unwrap_or_else(|| self.name(target, &BTreeSet::new()));
            if let ActionSpec::Rewrite { url, .. } = &mut planned.spec.action {
                *url = format!("{scheme}://{name}{rest}");
            }
        }
        self.rewrite_location(plan);
        if let Some((index, farm)) = only_farm(plan, names) {
            let to = Became::mapped(format!("farm = {} of the [[site]]", quoted(&farm)));
            let rule = &self.model.rules[index];
            self.settle_rule(rule, &to);
            if let Some(planned) = plan.planned.iter().find(|planned| planned.index == index) {
                self.note_action(rule, planned);
            }
            plan.planned.retain(|planned| planned.index != index);
            plan.dropped = Some(index);
            plan.draft.farm = Some(farm);
        } else {
            plan.draft.routes = routes(plan, names);
        }
        plan.draft.rules = plan.planned.iter().map(|planned| planned.spec.clone()).collect();
        let used = |name: &String| {
            plan.draft.rules.iter().any(|rule| format!("{rule:?}").contains(&format!("{{{name}:")))
        };
        plan.draft.maps.retain(|name, _| used(name));
    }

    fn rewrite_location(&self, plan: &mut Plan) {
        let of_host = self.model.proxy.iter().any(|proxy| {
            proxy.element == "proxy"
                && proxy.is("enabled", false)
                && proxy.is("reverseRewriteHostInResponseHeaders", true)
        });
        let on = |target: &Target| match &target.behind {
            Behind::Farm(at) => {
                self.model.farms[*at].protocol.is("reverseRewriteHostInResponseHeaders", false)
            }
            Behind::Host(..) => of_host,
        };
        plan.draft.rewrite_location |=
            plan.planned.iter().flat_map(|planned| targets(&planned.goal)).any(|t| on(&t));
    }
}

pub(super) fn targets(goal: &Goal) -> Vec<Target> {
    match goal {
        Goal::Elsewhere => Vec::new(),
        Goal::Farm { target, .. } => vec![target.clone()],
        Goal::Any(targets) => targets.clone(),
    }
}

/// The rule that sends all that is left to the only farm as it is, and the farm: a site without rules for it says the same.
fn only_farm(plan: &Plan, names: &BTreeMap<Target, String>) -> Option<(usize, String)> {
    let live = || plan.planned.iter().filter(|planned| planned.spec.enabled);
    let used: BTreeSet<Target> = live().flat_map(|planned| targets(&planned.goal)).collect();
    let last = live().next_back().filter(|last| last.takes_all && last.spec.set.is_empty())?;
    let Goal::Farm { target, unchanged: true, .. } = &last.goal else { return None };
    // Others that name it would be bounded alike, but stop before this one: they stay.
    (used.len() == 1).then(|| Some((last.index, names.get(target)?.clone())))?
}

/// Routes that give each farm's requests their bounds. What reaches them is decided by the rules before, the last of which answers what is for
/// no farm.
fn routes(plan: &Plan, names: &BTreeMap<Target, String>) -> Vec<Route> {
    let mut routes = BTreeSet::new();
    for planned in
        plan.planned.iter().filter(|planned| planned.spec.enabled && planned.spec.name != NOTHING_ELSE)
    {
        for farm in targets(&planned.goal).iter().filter_map(|target| names.get(target)) {
            let folders =
                if planned.folders.is_empty() { vec!["/".to_owned()] } else { planned.folders.clone() };
            for path in folders {
                let path = if path == "/" { path } else { path.trim_end_matches('/').to_ascii_lowercase() };
                routes.insert(Route { path, hosts: planned.hosts.clone(), farm: farm.clone() });
            }
        }
    }
    let mut routes: Vec<Route> = routes.into_iter().collect();
    // The narrower first.
    routes.sort_by_key(|route| (usize::MAX - route.path.len(), route.hosts.is_empty(), route.clone()));
    routes
}

const SHORT_TIMEOUT: &str = "30 s or less, ARR's default: Outlook and ActiveSync wait longer for answers, up to an hour; [exchange] has times for each";
