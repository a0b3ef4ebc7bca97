//! Whether farms and rules are what `[exchange]` stands for, and that table. Pure.
//!
//! It fits where one site sends Exchange's paths, unchanged, to one set of servers. ARR has one health test per farm, so such
//! configurations often have a farm per protocol with the same servers; the profile has a test and time-outs for each by itself.

use super::rules::{Goal, NOTHING_ELSE, Planned};
use super::sites::Plan;
use super::{Mapper, Shape};
use crate::iis::draft::{Exchange, Farm, Line};
use crate::iis::ledger::Became;
use crate::iis::write::quoted;

impl Mapper<'_> {
    /// The table, if it fits or was asked for; it is said why.
    pub(super) fn exchange(&mut self, sites: &[Plan], farms: &[Farm]) -> Option<Exchange> {
        let wanted = match self.known.shape {
            Shape::AsIs => return None,
            Shape::Exchange => true,
            Shape::Fitting => false,
        };
        let reason = match fit(sites, farms) {
            Ok(()) if wanted || is_exchange(sites, farms) => None,
            Ok(()) => Some(
                "nothing in it names a path of Exchange; --exchange writes [exchange] all the same"
                    .to_owned(),
            ),
            Err(why) => Some(why),
        };
        if let Some(why) = reason {
            if !sites.is_empty() {
                self.remarks.push(format!("written as farms, sites and rules, one for one: {why}"));
            }
            return None;
        }
        self.remarks.push(FITS.to_owned());
        let site = &sites[0];
        let paths = paths(site);
        let publishes = |name: &str| paths.iter().any(|path| path == "/" || path == name);
        let mut lines: Vec<Line> = Vec::new();
        for (name, line) in [
            ("/ecp", ("ecp", quoted("open"))),
            ("/rpc", ("rpc", "true".to_owned())),
            ("/api", ("api", "true".to_owned())),
        ] {
            if publishes(name) {
                lines.push(line);
                self.remarks
                    .push(format!("{name} is published, as it was; see whether clients still need it"));
            }
        }
        for missing in DIRECTORIES.iter().filter(|name| ADDED.contains(name) && !publishes(name)) {
            self.remarks.push(format!(
                "{missing} was not published, and is by [exchange]; refuse it by a rule if that was meant"
            ));
        }
        self.settle_rules(site);
        let rules = site.planned.iter().filter(|planned| planned.goal == Goal::Elsewhere);
        let rules = rules.filter(|planned| planned.spec.name != NOTHING_ELSE);
        Some(Exchange {
            face: site.draft.face.clone(),
            servers: farms[0].servers.clone(),
            balance: farms[0].balance.clone(),
            health: health(farms, site.draft.face.names.first()),
            lines,
            rules: rules.map(|planned| planned.spec.clone()).collect(),
            maps: site.draft.maps.clone(),
        })
    }

    /// What the profile stands for in place of rules and times.
    fn settle_rules(&mut self, site: &Plan) {
        let model = self.model;
        let to_farms = site.planned.iter().filter(|planned| planned.goal != Goal::Elsewhere);
        for index in to_farms.map(|planned| planned.index).chain(site.dropped) {
            if let Some(rule) = model.rules.get(index) {
                self.settle_rule(rule, &Became::mapped("[exchange], which has a route for each path"));
            }
        }
        let why = "[exchange] has a time for each path: up to 65 min for ActiveSync, 40 min for EWS";
        for farm in &model.farms {
            let id =
                if farm.protocol.element.is_empty() { farm.own.id } else { farm.protocol.id_of("timeout") };
            self.say(id, Became::warned(why));
        }
    }
}

/// Why it cannot be.
fn fit(sites: &[Plan], farms: &[Farm]) -> Result<(), String> {
    let [site] = sites else {
        return Err(format!("there are {} sites, and [exchange] is one", sites.len()));
    };
    let Some((first, others)) = farms.split_first() else {
        return Err("there is no farm".to_owned());
    };
    if let Some(other) = others.iter().find(|other| other.servers != first.servers) {
        return Err(format!(
            "the farms {} and {} have other servers",
            quoted(&first.name),
            quoted(&other.name)
        ));
    }
    if let Some(clear) = farms.iter().find(|farm| !farm.tls) {
        return Err(format!(
            "the farm {} is spoken to in clear, which [exchange] cannot be",
            quoted(&clear.name)
        ));
    }
    if others.iter().any(|other| other.balance != first.balance) {
        return Err("its farms are balanced in different ways".to_owned());
    }
    if site.draft.comment.contains("NOT HERE") {
        return Err("a rule could not be carried over".to_owned());
    }
    let live = site.planned.iter().filter(|planned| planned.spec.enabled);
    let changes = |planned: &&Planned| match &planned.goal {
        Goal::Farm { unchanged, .. } => !unchanged || !planned.spec.set.is_empty(),
        Goal::Any(_) => true,
        Goal::Elsewhere => false,
    };
    match live.clone().find(changes) {
        Some(planned) => {
            Err(format!("the rule {} changes what servers are asked", quoted(&planned.spec.name)))
        }
        None => Ok(()),
    }
}

/// Whether there is a sign of Exchange.
fn is_exchange(sites: &[Plan], farms: &[Farm]) -> bool {
    let of_path = sites.iter().flat_map(paths).any(|path| DIRECTORIES.contains(&path.as_str()));
    let tested = farms
        .iter()
        .flat_map(|farm| &farm.health)
        .any(|(key, value)| *key == "path" && value.contains("/healthcheck.htm"));
    let named =
        sites.iter().flat_map(|site| &site.draft.face.names).any(|name| name.starts_with("autodiscover."));
    of_path || tested || named
}

/// Where the site's requests for farms lie; `/` is everywhere.
fn paths(site: &Plan) -> Vec<String> {
    if site.draft.farm.is_some() {
        return vec!["/".to_owned()];
    }
    site.draft.routes.iter().map(|route| route.path.clone()).collect()
}

/// The test of the first farm, without the paths that the profile has itself.
fn health(farms: &[Farm], first_name: Option<&String>) -> Vec<Line> {
    let own = |value: &str| value.ends_with("/healthcheck.htm\"");
    let same = |key: &str, value: &str| {
        farms.iter().all(|farm| farm.health.iter().any(|(k, v)| *k == key && v == value))
    };
    let lines = farms.first().map(|farm| farm.health.clone()).unwrap_or_default();
    let path = lines.iter().find(|(key, _)| *key == "path").is_some_and(|(_, value)| !own(value));
    // A test of nothing is worse than the profile's.
    let tested = path || lines.iter().any(|(key, value)| *key == "path" && own(value));
    if !tested || lines.iter().any(|(key, value)| *key == "status" && value == "\"100-599\"") {
        return Vec::new();
    }
    lines
        .into_iter()
        .filter(|(key, value)| match *key {
            "path" => path && same(key, value),
            // As it is by itself.
            "host" => first_name.is_none_or(|name| *value != quoted(name)),
            // ARR's defaults would take any answer of a server for a good one; the profile asks for what Exchange writes.
            "body" => value != "\"\"" || path,
            "status" => value != "\"200-399\"" || path,
            _ => true,
        })
        .collect()
}

/// What the profile publishes, and what it can.
const DIRECTORIES: [&str; 9] = [
    "/owa",
    "/ecp",
    "/ews",
    "/microsoft-server-activesync",
    "/autodiscover",
    "/mapi",
    "/oab",
    "/rpc",
    "/api",
];

/// What it publishes by itself.
const ADDED: [&str; 6] = ["/owa", "/ews", "/microsoft-server-activesync", "/autodiscover", "/mapi", "/oab"];

const FITS: &str = "written as [exchange], since one site sends paths of Exchange to one set of servers: it has health tests, times and \
                    mitigations for each path, and publishes nothing else; --as-is writes farms, sites and rules one for one";
