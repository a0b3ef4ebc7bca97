//! Sites and farms: what the proxy publishes.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use toml::Spanned;

use super::{Place, Problems, absolute, is_host};
use crate::config::model::{ClusterIp, Farm, Filtering, HealthTest, PortRule, Server, Site, Verify};
use crate::config::problem::Problem;
use crate::config::raw::{
    ClusterFile, ExchangeTable, FarmTable, HealthTable, ServerEntry, SiteTable, nowhere,
};

/// The name of the farm that `[exchange]` stands for.
const EXCHANGE: &str = "exchange";

/// The checked sites and farms.
pub(super) fn service(
    raw: &ClusterFile,
    ips: Option<&[ClusterIp]>,
    rules: Option<&[PortRule]>,
    problems: &mut Problems,
) -> Option<(Vec<Site>, Vec<Farm>)> {
    let (exchange_site, exchange_farm) = raw.exchange.iter().map(|table| expand(table.get_ref())).unzip();
    let (exchange_site, exchange_farm): (Vec<SiteTable>, Vec<FarmTable>) = (exchange_site, exchange_farm);
    let raw_sites: Vec<&SiteTable> =
        exchange_site.iter().chain(raw.site.iter().map(Spanned::get_ref)).collect();
    let raw_farms: Vec<&FarmTable> =
        exchange_farm.iter().chain(raw.farm.iter().map(Spanned::get_ref)).collect();
    let sites = sites(&raw_sites, &raw_farms, ips, rules, problems);
    let farms = farms(&raw_farms, &raw_sites, problems);
    Some((sites?, farms?))
}

/// The site and the farm that `[exchange]` stands for.
fn expand(raw: &ExchangeTable) -> (SiteTable, FarmTable) {
    let site = SiteTable {
        names: raw.names.clone(),
        certificate: raw.certificate.clone(),
        key: raw.key.clone(),
        port: raw.port.clone(),
        farm: nowhere(EXCHANGE.to_owned()),
    };
    let farm = FarmTable {
        name: nowhere(EXCHANGE.to_owned()),
        servers: raw.servers.clone(),
        min_servers: raw.min_servers.clone(),
        verify: raw.verify.clone(),
        ca: raw.ca.clone(),
        health: raw.health.clone(),
        response_timeout: raw.response_timeout.clone(),
        connect_timeout: raw.connect_timeout.clone(),
    };
    (site, farm)
}

fn sites(
    raw: &[&SiteTable],
    farms: &[&FarmTable],
    ips: Option<&[ClusterIp]>,
    rules: Option<&[PortRule]>,
    problems: &mut Problems,
) -> Option<Vec<Site>> {
    let mut taken = BTreeMap::new();
    let mut sites = Vec::new();
    for table in raw {
        let port = problems.number("port", &table.port, 1..=u16::MAX);
        if let (Some(port), Some(rules)) = (port, rules) {
            admitted(port, table, ips.unwrap_or_default(), rules, problems);
        }
        for name in &table.names {
            let key = format!("{}:{}", name.get_ref(), table.port.get_ref());
            problems.unique(&mut taken, key, "another site", Place { what: "the name", span: name.span() });
        }
        if !farms.iter().any(|farm| farm.name.get_ref() == table.farm.get_ref()) {
            let text = format!("no [[farm]] is named \"{}\"", table.farm.get_ref());
            problems.add(Problem::at(table.farm.span(), text));
        }
        let names = host_names(&table.names, table.certificate.span(), problems);
        let certificate = absolute("certificate", &table.certificate, problems);
        let key = absolute("key", &table.key, problems);
        let site = || {
            let listen = |ip: &ClusterIp| Some(SocketAddr::new(ip.address, port?));
            Some(Site {
                names: names?,
                listen: ips.unwrap_or_default().iter().filter_map(listen).collect(),
                certificate: certificate?,
                key: key?,
                farm: table.farm.get_ref().clone(),
            })
        };
        sites.extend(site());
    }
    (sites.len() == raw.len()).then_some(sites)
}

/// A site that no rule lets through would never be reached.
fn admitted(port: u16, site: &SiteTable, ips: &[ClusterIp], rules: &[PortRule], problems: &mut Problems) {
    let admitting = |ip: &ClusterIp| rules.iter().find(|rule| rule.covers_tcp(ip.address, port));
    let lets =
        |ip: &ClusterIp| admitting(ip).is_some_and(|rule| rule.spread.filtering != Filtering::Disabled);
    if ips.iter().any(lets) {
        return;
    }
    let text = match ips.iter().find_map(admitting) {
        Some(_) => format!("the site's port {port} is in a rule with filtering = \"disabled\""),
        None => format!("no rule lets the site's port {port} through"),
    };
    let span = if site.port.span().is_empty() { site.certificate.span() } else { site.port.span() };
    problems.add(Problem::at(span, text).hint(format!("[[rule]] with ports = {port}")));
}

fn host_names(
    raw: &[Spanned<String>],
    place: std::ops::Range<usize>,
    problems: &mut Problems,
) -> Option<Vec<String>> {
    if raw.is_empty() {
        let problem = Problem::at(place, "`names` is empty: a site needs at least one host name");
        problems.add(problem.hint("names = [\"mail.example.test\"]"));
    }
    let mut names = Vec::new();
    for name in raw {
        names.extend(problems.require(host_name(name.get_ref()), || not_a_host_name(name)));
    }
    (!names.is_empty() && names.len() == raw.len()).then_some(names)
}

/// RFC 1123 host name in lower case, not an address.
pub(super) fn host_name(text: &str) -> Option<String> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(letter)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let address = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    (text.len() <= 253 && text.split('.').all(label) && !address).then(|| text.to_owned())
}

pub(super) fn not_a_host_name(raw: &Spanned<String>) -> Problem {
    let text = raw.get_ref();
    let problem = Problem::at(raw.span(), format!("\"{text}\" is not a host name in lower case"));
    let lower = text.to_ascii_lowercase();
    match host_name(&lower) {
        Some(lower) => problem.hint(format!("\"{lower}\"")),
        None if text.contains('*') => problem.hint("list the names one by one"),
        None => problem.hint("a name such as \"mail.example.test\", without scheme, port or path"),
    }
}

fn farms(raw: &[&FarmTable], sites: &[&SiteTable], problems: &mut Problems) -> Option<Vec<Farm>> {
    let mut names = BTreeMap::new();
    let mut farms = Vec::new();
    for table in raw {
        let name = table.name.get_ref();
        let place = Place { what: "the name", span: table.name.span() };
        problems.unique(&mut names, name.clone(), "another farm", place);
        farms.extend(farm(table, sites, problems));
    }
    (farms.len() == raw.len()).then_some(farms)
}

fn farm(raw: &FarmTable, sites: &[&SiteTable], problems: &mut Problems) -> Option<Farm> {
    let name = raw.name.get_ref();
    let site = sites.iter().find(|site| site.farm.get_ref() == name);
    if site.is_none() {
        problems.add(Problem::at(raw.name.span(), format!("no site uses the farm \"{name}\"")));
    }
    let first_name = site.and_then(|site| site.names.first()).map(Spanned::get_ref);
    let servers = servers(raw, problems);
    let most = servers.as_ref().map_or(usize::MAX, Vec::len);
    let min_servers = problems.number("min_servers", &raw.min_servers, 1..=most);
    let verify = verify(raw, problems);
    let health = health(&raw.health, first_name, problems);
    let second = Duration::from_secs(1);
    let response_timeout = problems.time("response_timeout", &raw.response_timeout, second..=second * 86_400);
    let connect_timeout = problems.time("connect_timeout", &raw.connect_timeout, second / 10..=second * 300);
    Some(Farm {
        name: name.clone(),
        servers: servers?,
        min_servers: min_servers?,
        verify: verify?,
        health: health?,
        response_timeout: response_timeout?,
        connect_timeout: connect_timeout?,
    })
}

fn servers(raw: &FarmTable, problems: &mut Problems) -> Option<Vec<Server>> {
    if raw.servers.is_empty() {
        let problem = Problem::at(raw.name.span(), "`servers` is empty: a farm needs at least one server");
        problems.add(problem.hint("servers = [\"10.0.0.36\", \"10.0.0.37\"]"));
    }
    let (mut names, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    let mut servers = Vec::new();
    for entry in &raw.servers {
        let Some(server) = problems.require(server(entry.get_ref()), || not_a_server(entry)) else {
            continue;
        };
        let place = |what| Place { what, span: entry.span() };
        problems.unique(&mut names, server.name.clone(), "another server", place("the name"));
        problems.unique(&mut addresses, server.address, "another server", place("address"));
        servers.push(server);
    }
    (!servers.is_empty() && servers.len() == raw.servers.len()).then_some(servers)
}

fn server(raw: &ServerEntry) -> Option<Server> {
    let address: SocketAddrV4 = match raw.address.parse() {
        Ok(address) => address,
        Err(_) => SocketAddrV4::new(raw.address.parse().ok()?, 443),
    };
    let name = raw.name.clone().unwrap_or_else(|| raw.address.clone());
    let sound = is_host(*address.ip()) || address.ip().is_loopback();
    let named = (1..=63).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic());
    (sound && named && address.port() > 0).then_some(Server { name, address })
}

fn not_a_server(raw: &Spanned<ServerEntry>) -> Problem {
    let ServerEntry { name, address } = raw.get_ref();
    let text = match name {
        Some(name) => format!("server \"{name}\" at \"{address}\" cannot be used"),
        None => format!("\"{address}\" is not the address of a server"),
    };
    Problem::at(raw.span(), text)
        .hint("\"10.0.0.36\" or \"10.0.0.36:8443\"; names of up to 63 visible characters")
}

fn verify(raw: &FarmTable, problems: &mut Problems) -> Option<Verify> {
    let chosen = match &raw.verify {
        Some(written) => {
            let choices = [("same-certificate", true), ("none", false)];
            Some((problems.choice("verify", written, &choices)?, written.span()))
        }
        None => None,
    };
    match (chosen, &raw.ca) {
        (Some((_, span)), Some(_)) => {
            let problem = Problem::at(span, "`verify` and `ca` exclude each other");
            problems.add(problem.hint("keep `ca` where a CA vouches for the servers"));
            None
        }
        (None, Some(ca)) => absolute("ca", ca, problems).map(Verify::Ca),
        (Some((false, _)), None) => Some(Verify::Nothing),
        (Some((true, _)) | None, None) => Some(Verify::SameCertificate),
    }
}

fn health(raw: &HealthTable, site: Option<&String>, problems: &mut Problems) -> Option<HealthTest> {
    let path = problems.path("health test", &raw.path);
    let host = match &raw.host {
        Some(name) => problems.require(host_name(name.get_ref()), || not_a_host_name(name)),
        None => site.cloned(),
    };
    let second = Duration::from_secs(1);
    let status = problems.number("status", &raw.status, 100..=599);
    let interval = problems.time("interval", &raw.interval, second / 10..=second * 3600);
    let timeout = problems.time("timeout", &raw.timeout, second / 100..=second * 300);
    let failures = problems.number("failures", &raw.failures, 1..=100);
    Some(HealthTest {
        path: path?,
        host: host?,
        status: status?,
        body: raw.body.clone(),
        interval: interval?,
        timeout: timeout?,
        failures: u8::try_from(failures?).ok()?,
    })
}
