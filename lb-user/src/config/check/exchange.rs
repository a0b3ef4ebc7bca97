//! `[exchange]`: one table that stands for a whole profile.
//!
//! What Exchange publishes, and how long each of its protocols is silent: "Default settings for Exchange virtual directories" and
//! "Client-specific message size limits" (Microsoft Learn); MS-ASCMD 2.2.3.196.3 (Wait: up to 59 minutes); MS-OXCMAPIHTTP 2.2.3.3.5
//! (a pending response moves every 30 s); MS-RPCH 2.2.3.1.1 (Pragma MinConnTimeout: up to 4 hours); EWS's GetStreamingEvents (up to
//! 30 minutes). Sizes are Exchange's own limits or more: the proxy must not be the narrower door.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Problems;
use super::routes::{bounds, networks};
use super::sites::{Draft, Redirect, Said, tls};
use crate::config::model::{Action, Bounds, HeaderEdits, PathMatch, Route, Service};
use crate::config::problem::Problem;
use crate::config::raw::{
    BoundsTable, Ecp, ExchangeTable, FarmTable, HealthTable, ProtectionTable, nowhere, response_timeout,
};
use crate::config::spanned::Spanned;
use crate::proxy::protect::networks::Network;

/// The name of the farm that `[exchange]` stands for.
pub(in crate::config) const EXCHANGE: &str = "exchange";

/// The farm that `[exchange]` stands for.
pub(super) fn farm(raw: &ExchangeTable) -> FarmTable {
    FarmTable {
        name: nowhere(EXCHANGE.to_owned()),
        servers: raw.servers.clone(),
        min_servers: raw.min_servers.clone(),
        tls: None,
        verify: raw.verify.clone(),
        ca: raw.ca.clone(),
        pins: raw.pins.clone(),
        balance: raw.balance.clone(),
        health: raw.health.clone(),
        tests: DIRECTORIES.iter().filter_map(|directory| test(directory, raw)).collect(),
        response_timeout: raw.response_timeout.clone().unwrap_or_else(response_timeout),
        connect_timeout: raw.connect_timeout.clone(),
        reuse: raw.reuse.clone(),
    }
}

/// The test of a directory, unless the farm's own counts for it.
fn test(directory: &Directory, raw: &ExchangeTable) -> Option<(String, Spanned<HealthTable>)> {
    if !has_test(directory, raw) || !is_published(directory, raw) {
        return None;
    }
    let said = raw.tests.get(directory.name);
    let table = said.map(|said| said.get_ref().clone()).unwrap_or_default();
    let path = || nowhere(format!("{}/healthcheck.htm", directory.path));
    let table = HealthTable { path: Some(table.path.unwrap_or_else(path)), ..table };
    let span = said.map(Spanned::span).unwrap_or_default();
    Some((directory.name.to_owned(), Spanned::new(span, table)))
}

/// Managed Availability tells of each protocol for itself; of REST it is not known to. OWA's is the farm's own test.
fn has_test(directory: &Directory, raw: &ExchangeTable) -> bool {
    let one_for_all = raw.health.path.is_some();
    let tells = !["owa", "api"].contains(&directory.name);
    raw.tests.contains_key(directory.name) || (tells && !one_for_all)
}

fn is_published(directory: &Directory, raw: &ExchangeTable) -> bool {
    match directory.name {
        "ecp" => !matches!(raw.ecp, Ecp::Closed),
        "rpc" => raw.rpc,
        "api" => raw.api,
        _ => true,
    }
}

/// The site that `[exchange]` stands for.
pub(super) fn draft<'a>(
    raw: &'a ExchangeTable,
    shared: &ProtectionTable,
    problems: &mut Problems,
) -> Draft<'a> {
    Draft {
        names: &raw.names,
        certificate: &raw.certificate,
        key: raw.key.as_ref(),
        tls: tls(&raw.password_file, &raw.ocsp, raw.client_certificates.as_ref(), problems),
        port: &raw.port,
        redirect: if raw.redirect_http { Redirect::IfAdmitted } else { Redirect::No },
        acme: raw.acme.as_ref(),
        service: service(raw, shared, problems),
    }
}

/// What Exchange's servers do not bear.
pub(super) fn refused(raw: &ExchangeTable, problems: &mut Problems) {
    if let Some(tls) = raw.tls.as_ref().filter(|tls| !*tls.get_ref()) {
        let text = "`[exchange]` cannot have `tls = false`: SSL offloading ends Extended Protection, by which Exchange tells a \
                    client's logon from one that was passed on";
        let hint = "where the servers have it off and you mean it: a [[farm]] with tls = false, and a [[site]] for it";
        problems.add(Problem::at(tls.span(), text).hint(hint));
    }
    if let Some(reuse) = raw.reuse.as_ref().filter(|reuse| *reuse.get_ref() == "shared") {
        let text = "`[exchange]` cannot have `reuse = \"shared\"`: NTLM and Kerberos log a connection on, and whoever got it next would \
                    be answered as somebody else";
        problems.add(Problem::at(reuse.span(), text).hint("remove it"));
    }
}

fn service(raw: &ExchangeTable, shared: &ProtectionTable, problems: &mut Problems) -> Option<Service> {
    let routes = routes(raw, problems);
    let said = Said {
        hsts: raw.hsts.as_ref(),
        allow: &raw.allow,
        deny: &raw.deny,
        rates: [raw.rate.as_ref(), raw.logon_rate.as_ref()],
        shared,
        mitigations_off: &raw.mitigations_off,
        acme: raw.acme.as_ref(),
        headers: (&raw.request_headers, &raw.response_headers),
        rewrite: &raw.rewrite,
        maps: &raw.maps,
        maintenance: raw.maintenance.as_ref(),
    };
    said.service(routes, true, false, problems)
}

/// A virtual directory of the profile.
struct Directory {
    /// Its name in `[exchange.route.NAME]`.
    name: &'static str,
    path: &'static str,
    minutes: u64,
    total: Option<Duration>,
    body: u64,
}

const MIB: u64 = 1 << 20;

/// All that is published. `/powershell` never is, nor is anything else.
const DIRECTORIES: [Directory; 9] = [
    Directory { name: "owa", path: "/owa", minutes: 15, total: None, body: 64 * MIB },
    Directory { name: "ecp", path: "/ecp", minutes: 15, total: None, body: 64 * MIB },
    Directory { name: "ews", path: "/ews", minutes: 40, total: None, body: 128 * MIB },
    Directory {
        name: "activesync",
        path: "/microsoft-server-activesync",
        minutes: 65,
        total: None,
        body: 64 * MIB,
    },
    Directory {
        name: "autodiscover",
        path: "/autodiscover",
        minutes: 2,
        total: Some(Duration::from_secs(300)),
        body: MIB,
    },
    Directory { name: "mapi", path: "/mapi", minutes: 10, total: None, body: 64 * MIB },
    Directory { name: "oab", path: "/oab", minutes: 10, total: None, body: 0 },
    // Its inbound channel says a length of up to 2 GiB, of which nothing is kept.
    Directory { name: "rpc", path: "/rpc", minutes: 250, total: None, body: 2048 * MIB },
    Directory {
        name: "api",
        path: "/api",
        minutes: 2,
        total: Some(Duration::from_secs(600)),
        body: 32 * MIB,
    },
];

fn routes(raw: &ExchangeTable, problems: &mut Problems) -> Option<Vec<Route>> {
    let routes = raw.route.iter().map(|(name, table)| (name, table.span()));
    let tests = raw.tests.iter().map(|(name, table)| (name, table.span()));
    for (name, span) in routes.chain(tests) {
        if !DIRECTORIES.iter().any(|directory| directory.name == name) {
            let names: Vec<&str> = DIRECTORIES.iter().map(|directory| directory.name).collect();
            let problem = Problem::at(span, format!("there is no route `{name}` in the profile"));
            problems.add(problem.hint(format!("one of {}", names.join(", "))));
        }
    }
    let ecp = match &raw.ecp {
        Ecp::Closed => Some(None),
        Ecp::Open => Some(Some(Vec::new())),
        Ecp::Networks(list) => networks(list, problems).map(Some),
    };
    let mut routes = vec![home()];
    let mut sound = true;
    for directory in &DIRECTORIES {
        match bounds_of(directory, raw, problems) {
            Some(bounds) => routes.extend(published(directory, raw, ecp.as_ref()?.as_deref(), bounds)),
            None => sound = false,
        }
    }
    routes.push(refusing("/powershell", "remote PowerShell is never published"));
    sound.then_some(routes)
}

/// What nobody types: the mailbox behind the bare name.
fn home() -> Route {
    let path = PathMatch::Exactly("/".to_owned());
    Route { path, ..to("/", Action::Redirect { status: 302, to: "/owa/".to_owned() }, Bounds::default()) }
}

fn bounds_of(directory: &Directory, raw: &ExchangeTable, problems: &mut Problems) -> Option<Bounds> {
    let silence = match &raw.response_timeout {
        Some(time) => time.get_ref().0,
        None => Duration::from_secs(60 * directory.minutes),
    };
    let start = Bounds { silence, total: directory.total, body: directory.body };
    let none = BoundsTable::default();
    bounds(raw.route.get(directory.name).map_or(&none, Spanned::get_ref), start, problems)
}

/// The routes of a directory: to the farm, or closed, or to the farm for some.
fn published(
    directory: &Directory,
    raw: &ExchangeTable,
    ecp: Option<&[Network]>,
    bounds: Bounds,
) -> Vec<Route> {
    let test = has_test(directory, raw).then(|| directory.name.to_owned());
    let open = Route { test, ..to(directory.path, Action::Farm(EXCHANGE.to_owned()), bounds) };
    match directory.name {
        "ecp" => match ecp {
            None => vec![refusing(directory.path, ECP_CLOSED)],
            Some([]) => vec![open],
            Some(list) => {
                vec![Route { networks: list.to_vec(), ..open }, refusing(directory.path, ECP_ELSEWHERE)]
            }
        },
        "rpc" if !raw.rpc => {
            vec![refusing(directory.path, "Outlook Anywhere is off; rpc = true publishes it")]
        }
        "api" if !raw.api => vec![refusing(directory.path, "REST is off; api = true publishes it")],
        _ => vec![open],
    }
}

fn to(path: &str, action: Action, bounds: Bounds) -> Route {
    Route {
        path: PathMatch::Under(path.to_owned()),
        ignore_case: true,
        hosts: Vec::new(),
        headers: BTreeMap::new(),
        methods: Vec::new(),
        networks: Vec::new(),
        edits: HeaderEdits::default(),
        action,
        test: None,
        bounds,
    }
}

fn refusing(path: &str, why: &str) -> Route {
    to(path, Action::Refuse { why: why.to_owned() }, Bounds::default())
}

/// What stops working by it is said where it is seen: here, which `rollcall check`, `rollcall explain` and the access log show, and in
/// the README.
const ECP_CLOSED: &str = "ecp = \"closed\" (the default): the administration pages and OWA's options, which lie under /ecp, \
                          are not published; ecp = [\"10.0.0.0/8\"] opens them to a network, ecp = \"open\" to all";

const ECP_ELSEWHERE: &str = "ecp lists networks: the administration pages and OWA's options, which lie under /ecp, are published \
                             to clients in those alone";
