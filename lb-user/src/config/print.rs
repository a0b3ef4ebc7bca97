//! A cluster's configuration as the file could have it, with nothing left to a default: what `[exchange]` stands for is written out. Pure.

use std::fmt;
use std::time::Duration;

use toml::Value;

mod cluster;
mod headers;
mod health;
mod limits;
mod protection;
mod rewrite;
mod rules;
mod store;
mod tcp;

use self::health::HealthTable;
use self::protection::{ProtectionTable, TrustedProxyTable, rate};
use self::tcp::TcpTable;
use super::model::{
    Action, Clients, Cluster, Farm, Maintenance, PathMatch, Response, Reuse, Route, Server, Service, Site,
    Verify,
};
use super::raw::Time;
use crate::proxy::access::{Format, LogSettings, Query};
use crate::proxy::balance::hash::HashOf;
use crate::proxy::balance::settings::Algorithm;
use crate::proxy::protect::networks::Network;
use crate::proxy::rewrite::mitigation::MITIGATIONS;

/// The whole file that means `cluster`.
pub(crate) fn whole(cluster: &Cluster) -> String {
    let farms = cluster.farms.iter().map(|farm| format!("{}\n", FarmTable(farm)));
    let sites = cluster.sites.iter().map(|site| format!("{}\n", SiteTable(site)));
    let tcp = cluster.tcp.iter().map(|service| format!("{}\n", TcpTable(service)));
    let protection = format!("{}\n", ProtectionTable(&cluster.protection));
    let proxies = cluster.trusted_proxies.iter().map(|proxy| format!("{}\n", TrustedProxyTable(proxy)));
    let nodes = [
        cluster::table(cluster),
        store::table(cluster.store.as_ref()),
        cluster::nodes(&cluster.nodes),
        rules::tables(cluster),
    ];
    let shared = [limits::table(&cluster.limits), log(cluster.log), protection].into_iter().chain(proxies);
    nodes.into_iter().chain(shared).chain(farms).chain(sites).chain(tcp).collect()
}

fn log(log: LogSettings) -> String {
    let format = match log.format {
        Format::Json => "json",
        Format::W3c => "w3c",
    };
    let query = match log.query {
        Query::Masked => "masked",
        Query::Off => "off",
    };
    format!("[log]\nformat = \"{format}\"\nquery = \"{query}\"\n\n")
}

struct FarmTable<'a>(&'a Farm);

impl fmt::Display for FarmTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Farm { name, servers, balance, min_servers, verify, tests, connect_timeout, reuse } = self.0;
        writeln!(f, "[[farm]]\nname = {}\nservers = [", quoted(name))?;
        servers.iter().try_for_each(|server| writeln!(f, "  {},", ServerEntry(server)))?;
        writeln!(f, "]\nmin_servers = {min_servers}")?;
        match verify {
            Verify::SameCertificate => writeln!(f, "verify = \"same-certificate\"")?,
            Verify::Ca(path) => writeln!(f, "ca = {}", quoted(&path.to_string_lossy()))?,
            Verify::Pins(pins) => {
                let pins: Vec<String> = pins.iter().map(ToString::to_string).collect();
                writeln!(f, "pins = {}", list(&pins))?;
            }
            Verify::Nothing => writeln!(f, "verify = \"none\"")?,
            Verify::Clear => writeln!(f, "tls = false")?,
        }
        writeln!(f, "connect_timeout = {}", time(*connect_timeout))?;
        let reuse = match reuse {
            Reuse::Own => "own",
            Reuse::Shared => "shared",
        };
        writeln!(f, "reuse = \"{reuse}\"")?;
        writeln!(
            f,
            "[farm.balance]\n{}\nslow_start = {}",
            algorithm(&balance.algorithm),
            time(balance.slow_start)
        )?;
        writeln!(f, "queue = {}\nqueue_timeout = {}", balance.queue.length, time(balance.queue.timeout))?;
        writeln!(f, "panic_threshold = {}", balance.panic_threshold)?;
        if let Some(name) = &balance.affinity_cookie {
            writeln!(f, "affinity_cookie = {}", quoted(name))?;
        }
        tests.iter().try_for_each(|test| write!(f, "{}", HealthTable(test)))
    }
}

struct ServerEntry<'a>(&'a Server);

impl fmt::Display for ServerEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { name, address, share } = self.0;
        let state = share.state.as_str();
        write!(f, "{{ name = {}, address = \"{address}\", weight = {}", quoted(name), share.weight.get())?;
        write!(f, ", state = \"{state}\", backup = {}", share.backup)?;
        match share.connections {
            Some(connections) => write!(f, ", connections = {connections} }}"),
            None => write!(f, " }}"),
        }
    }
}

fn algorithm(algorithm: &Algorithm) -> String {
    let named = |name: &str| format!("algorithm = \"{name}\"");
    match algorithm {
        Algorithm::WeightedRoundRobin => named("round-robin"),
        Algorithm::LeastRequests => named("least-requests"),
        Algorithm::LeastResponseTime => named("least-response-time"),
        Algorithm::WeightedTotalTraffic => named("least-traffic"),
        Algorithm::Hash(HashOf::Url) => named("hash-url"),
        Algorithm::Hash(HashOf::Client) => named("hash-client"),
        Algorithm::Hash(HashOf::Header(name)) => format!("hash_header = {}", quoted(name)),
        Algorithm::Hash(HashOf::Cookie(name)) => format!("hash_cookie = {}", quoted(name)),
        Algorithm::Hash(HashOf::Query(names)) => format!("hash_query = {}", list(names)),
    }
}

struct SiteTable<'a>(&'a Site);

impl fmt::Display for SiteTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Site { names, listen, redirect, certificate, key, tls, service } = self.0;
        writeln!(f, "[[site]]\nnames = {}", list(names))?;
        writeln!(f, "certificate = {}", quoted(&certificate.to_string_lossy()))?;
        writeln!(f, "key = {}", quoted(&key.to_string_lossy()))?;
        for (name, path) in [("password_file", &tls.password), ("ocsp", &tls.ocsp)] {
            if let Some(path) = path {
                writeln!(f, "{name} = {}", quoted(&path.to_string_lossy()))?;
            }
        }
        let clients = match &tls.clients {
            Clients::Unasked => None,
            Clients::Optional(ca) => Some((ca, "optional")),
            Clients::Required(ca) => Some((ca, "required")),
        };
        if let Some((ca, mode)) = clients {
            let ca = quoted(&ca.to_string_lossy());
            writeln!(f, "client_certificates = {{ ca = {ca}, mode = \"{mode}\" }}")?;
        }
        let protocols: Vec<_> = tls.protocols.iter().map(|protocol| protocol.name().to_owned()).collect();
        writeln!(f, "protocols = {}", list(&protocols))?;
        if let Some(address) = listen.first() {
            writeln!(f, "port = {}", address.port())?;
        }
        writeln!(f, "redirect_http = {}", !redirect.is_empty())?;
        let Service { routes, rewrite, maps, rewrite_location, acme, edits, .. } = service;
        let Service { mitigations, mitigations_off, allow, deny, rates, hsts, maintenance, .. } = service;
        writeln!(f, "allow = {}\ndeny = {}", networks(allow), networks(deny))?;
        writeln!(f, "rate = {}\nlogon_rate = {}", rate(rates.general), rate(rates.authentication))?;
        if let Some(hsts) = hsts {
            writeln!(f, "hsts = {}", time(*hsts))?;
        }
        if let Some(Maintenance { body, content_type, retry_after, allow }) = maintenance {
            write!(f, "maintenance = {{ text = {}, content_type = {}", quoted(body), quoted(content_type))?;
            writeln!(f, ", retry_after = {}, allow = {} }}", time(*retry_after), networks(allow))?;
        }
        writeln!(f, "mitigations = {mitigations}")?;
        let off: Vec<String> = mitigations_off.iter().cloned().collect();
        writeln!(f, "mitigations_off = {}", list(&off))?;
        if *mitigations {
            for known in MITIGATIONS.iter().filter(|known| !mitigations_off.contains(known.name)) {
                writeln!(f, "# {} ({}): {}", known.name, known.cve, known.what)?;
            }
        }
        writeln!(f, "rewrite_location = {rewrite_location}")?;
        if let Some(address) = acme {
            writeln!(f, "acme = \"{address}\"")?;
        }
        write!(f, "{}", headers::edits(edits))?;
        maps.iter().try_for_each(|(name, map)| write!(f, "{}", rewrite::map(name, map)))?;
        rewrite.iter().try_for_each(|rule| write!(f, "{}", rewrite::rule(rule)))?;
        routes.iter().try_for_each(|route| write!(f, "{}", RouteTable(route)))
    }
}

struct RouteTable<'a>(&'a Route);

impl fmt::Display for RouteTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Route { path, ignore_case, hosts, headers, methods, networks: nets, edits, action, test, bounds } =
            self.0;
        writeln!(f, "[[site.route]]")?;
        match path {
            PathMatch::Under(path) => writeln!(f, "path = {}", quoted(path))?,
            PathMatch::Exactly(path) => writeln!(f, "exact = {}", quoted(path))?,
        }
        writeln!(f, "ignore_case = {ignore_case}")?;
        if !hosts.is_empty() {
            writeln!(f, "hosts = {}", list(hosts))?;
        }
        if !headers.is_empty() {
            writeln!(f, "headers = {}", headers::table(headers))?;
        }
        if !methods.is_empty() {
            writeln!(f, "methods = {}", list(methods))?;
        }
        if !nets.is_empty() {
            writeln!(f, "networks = {}", networks(nets))?;
        }
        write!(f, "{}", headers::edits(edits))?;
        match action {
            Action::Farm(farm) => writeln!(f, "farm = {}", quoted(farm))?,
            Action::Redirect { status, to } => writeln!(f, "redirect = {}\nstatus = {status}", quoted(to))?,
            Action::Respond(Response { status, content_type, body }) => {
                writeln!(f, "respond = {}\nstatus = {status}", quoted(body))?;
                writeln!(f, "content_type = {}", quoted(content_type))?;
            }
            Action::Refuse { why } => return writeln!(f, "refuse = {}", quoted(why)),
        }
        if let Some(test) = test {
            writeln!(f, "test = {}", quoted(test))?;
        }
        writeln!(f, "idle_timeout = {}", time(bounds.silence))?;
        if let Some(total) = bounds.total {
            writeln!(f, "total_timeout = {}", time(total))?;
        }
        writeln!(f, "body_limit = {}", size(bounds.body))
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn networks(networks: &[Network]) -> String {
    let networks: Vec<String> = networks.iter().map(|network| format!("\"{network}\"")).collect();
    format!("[{}]", networks.join(", "))
}

fn time(time: Duration) -> String {
    format!("\"{}\"", Time(time))
}

fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let whole = units.into_iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    whole.map_or(bytes.to_string(), |(name, unit): (_, u64)| format!("\"{}{name}\"", bytes / unit))
}
