//! Sites and farms: what the proxy publishes.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use super::balance::{balance, share};
use super::health::tests;
use super::routes::Target;
use super::sites::{self, sites};
use super::{Place, Problems, absolute, exchange, is_host};
use crate::config::model::{
    Action, Bounds, ClusterIp, Farm, HealthTest, PortRule, Reuse, Server, Service, Site, Verify,
};
use crate::config::problem::Problem;
use crate::config::raw::{ClusterFile, FarmTable, ServerEntry};
use crate::config::spanned::Spanned;
use crate::proxy::balance::set::MAX_SERVERS;
use crate::proxy::tls::{Fingerprint, MalformedFingerprint};

/// The checked sites and farms.
pub(super) fn service(
    raw: &ClusterFile,
    ips: Option<&[ClusterIp]>,
    rules: Option<&[PortRule]>,
    problems: &mut Problems,
) -> Option<(Vec<Site>, Vec<Farm>)> {
    let exchange = raw.exchange.as_ref().map(Spanned::get_ref);
    if let Some(table) = exchange {
        exchange::refused(table, problems);
    }
    let exchange_farm = exchange.map(exchange::farm);
    let raw_farms: Vec<&FarmTable> =
        exchange_farm.iter().chain(raw.farm.iter().map(Spanned::get_ref)).collect();
    let targets: BTreeMap<&str, Target<'_>> = raw_farms.iter().map(|farm| target(farm)).collect();
    let mut drafts: Vec<_> =
        exchange.map(|table| exchange::draft(table, &raw.protection, problems)).into_iter().collect();
    let shared = &raw.protection;
    drafts.extend(raw.site.iter().map(|site| sites::draft(site.get_ref(), &targets, shared, problems)));
    let uses: Vec<Use> = drafts
        .iter()
        .filter_map(|draft| Some((draft.names.first()?.get_ref(), draft.service.as_ref()?)))
        .flat_map(|(name, service)| self::uses(name, service))
        .collect();
    let unsure = drafts.iter().any(|draft| draft.service.is_none());
    let sites = sites(drafts, ips, rules, problems);
    let farms = farms(&raw_farms, &uses, unsure, problems);
    Some((sites?, farms?))
}

fn target(farm: &FarmTable) -> (&str, Target<'_>) {
    let silence = farm.response_timeout.get_ref().0;
    let bounds = Bounds { silence, ..Bounds::default() };
    (farm.name.get_ref().as_str(), Target { bounds, tests: &farm.tests })
}

/// A route that goes to a farm.
struct Use {
    farm: String,
    test: Option<String>,
    /// The first name of its site.
    site: String,
}

fn uses(site: &str, service: &Service) -> Vec<Use> {
    let to = |farm: &String, test: &Option<String>| Use {
        farm: farm.clone(),
        test: test.clone(),
        site: site.to_owned(),
    };
    let routes = service.routes.iter().filter_map(|route| match &route.action {
        Action::Farm(farm) => Some(to(farm, &route.test)),
        Action::Redirect { .. } | Action::Respond { .. } | Action::Refuse { .. } => None,
    });
    routes.collect()
}

/// `unsure`: of some site it is not known what it uses.
fn farms(raw: &[&FarmTable], uses: &[Use], unsure: bool, problems: &mut Problems) -> Option<Vec<Farm>> {
    let mut names = BTreeMap::new();
    let mut farms = Vec::new();
    for table in raw {
        let name = table.name.get_ref();
        let place = Place { what: "the name", span: table.name.span() };
        problems.unique(&mut names, name.clone(), "another farm", place);
        let its: Vec<&Use> = uses.iter().filter(|used| used.farm == *name).collect();
        if its.is_empty() && !unsure {
            problems.add(Problem::at(table.name.span(), format!("no site uses the farm \"{name}\"")));
        }
        let first_name = its.first().map(|used| &used.site);
        let used = its.iter().filter_map(|used| used.test.as_deref()).collect();
        let tests = tests(table, first_name, &used, unsure || its.is_empty(), problems);
        farms.extend(farm(table, tests, problems));
    }
    (farms.len() == raw.len()).then_some(farms)
}

fn farm(raw: &FarmTable, tests: Option<Vec<HealthTest>>, problems: &mut Problems) -> Option<Farm> {
    let name = raw.name.get_ref();
    let servers = servers(raw, problems);
    let most = servers.as_ref().map_or(usize::MAX, Vec::len);
    let min_servers = problems.number("min_servers", &raw.min_servers, 1..=most);
    let balance = balance(raw, most, problems);
    let verify = verify(raw, problems);
    let reuse = match &raw.reuse {
        Some(reuse) => problems.choice("reuse", reuse, &[("own", Reuse::Own), ("shared", Reuse::Shared)]),
        None => Some(Reuse::Own),
    };
    let second = Duration::from_secs(1);
    let in_range = problems.time("response_timeout", &raw.response_timeout, second..=second * 86_400);
    let connect_timeout = problems.time("connect_timeout", &raw.connect_timeout, second / 10..=second * 300);
    in_range?;
    Some(Farm {
        name: name.clone(),
        servers: servers?,
        balance: balance?,
        min_servers: min_servers?,
        verify: verify?,
        tests: tests?,
        connect_timeout: connect_timeout?,
        reuse: reuse?,
    })
}

fn servers(raw: &FarmTable, problems: &mut Problems) -> Option<Vec<Server>> {
    if raw.servers.is_empty() {
        let problem = Problem::at(raw.name.span(), "`servers` is empty: a farm needs at least one server");
        problems.add(problem.hint("servers = [\"10.0.0.36\", \"10.0.0.37\"]"));
    }
    let port = if is_clear(raw) { 80 } else { 443 };
    listed(&raw.servers, port, problems).filter(|servers| !servers.is_empty())
}

/// Servers that are written without a port have `port`.
pub(super) fn listed(
    entries: &[Spanned<ServerEntry>],
    port: u16,
    problems: &mut Problems,
) -> Option<Vec<Server>> {
    if let Some(extra) = entries.get(MAX_SERVERS) {
        problems.add(Problem::at(extra.span(), format!("more than {MAX_SERVERS} servers in a farm")));
    }
    let (mut names, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    let mut servers = Vec::new();
    for entry in entries {
        let Some(server) = problems.require(server(entry.get_ref(), port), || not_a_server(entry)) else {
            continue;
        };
        let place = |what| Place { what, span: entry.span() };
        problems.unique(&mut names, server.name.clone(), "another server", place("the name"));
        problems.unique(&mut addresses, server.address, "another server", place("address"));
        servers.push(server);
    }
    (servers.len() == entries.len()).then_some(servers)
}

fn server(raw: &ServerEntry, port: u16) -> Option<Server> {
    let address: SocketAddrV4 = match raw.address.parse() {
        Ok(address) => address,
        Err(_) => SocketAddrV4::new(raw.address.parse().ok()?, port),
    };
    let name = raw.name.clone().unwrap_or_else(|| raw.address.clone());
    let sound = is_host(*address.ip()) || address.ip().is_loopback();
    let named = (1..=63).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic());
    let share = share(raw)?;
    (sound && named && address.port() > 0).then_some(Server { name, address, share })
}

fn not_a_server(raw: &Spanned<ServerEntry>) -> Problem {
    let ServerEntry { name, address, .. } = raw.get_ref();
    let text = match name {
        Some(name) => format!("server \"{name}\" at \"{address}\" cannot be used"),
        None => format!("\"{address}\" is not the address of a server"),
    };
    Problem::at(raw.span(), text).hint(
        "\"10.0.0.36\" or \"10.0.0.36:8443\"; names of up to 63 visible characters, weights of 1 to 1000",
    )
}

fn is_clear(raw: &FarmTable) -> bool {
    raw.tls.as_ref().is_some_and(|tls| !*tls.get_ref())
}

fn verify(raw: &FarmTable, problems: &mut Problems) -> Option<Verify> {
    let chosen = match &raw.verify {
        Some(written) => {
            let choices = [("same-certificate", true), ("none", false)];
            Some((problems.choice("verify", written, &choices)?, written.span()))
        }
        None => None,
    };
    let pins = pins(&raw.pins, problems)?;
    if is_clear(raw) {
        let none = chosen.is_none() && raw.ca.is_none() && pins.is_empty();
        return problems.require(none.then_some(Verify::Clear), || {
            Problem::at(
                raw.name.span(),
                "`verify`, `ca` and `pins` say what a server shows in TLS, and `tls` is false",
            )
            .hint("remove one of the two")
        });
    }
    match (chosen, &raw.ca, pins.as_slice()) {
        (None, None, []) => Some(Verify::SameCertificate),
        (Some((same, _)), None, []) => Some(if same { Verify::SameCertificate } else { Verify::Nothing }),
        (None, Some(ca), []) => absolute("ca", ca, problems).map(Verify::Ca),
        (None, None, [_, ..]) => Some(Verify::Pins(pins)),
        (chosen, ..) => {
            let span = chosen.map_or(raw.name.span(), |(_, span)| span);
            let problem = Problem::at(span, "of `verify`, `ca` and `pins` only one can be");
            problems.add(problem.hint("keep `ca` where a CA vouches for the servers"));
            None
        }
    }
}

fn pins(raw: &[Spanned<String>], problems: &mut Problems) -> Option<Vec<Fingerprint>> {
    let mut pins = Vec::new();
    for pin in raw {
        match pin.get_ref().parse() {
            Ok(pin) => pins.push(pin),
            Err(error) => {
                let MalformedFingerprint { .. } = error;
                problems.add(Problem::of_error(pin.span(), error));
            }
        }
    }
    (pins.len() == raw.len()).then_some(pins)
}
