//! TCP services: ports that are passed on as they come.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::names::{host_name, not_a_host_name};
use super::routes::access;
use super::service::listed;
use super::sites::admitted;
use super::{Place, Problems, node_name};
use crate::config::model::{
    ClientAddress, ClusterIp, Farm, HeaderVersion, PortRule, Server, Site, TcpHealth, TcpService,
};
use crate::config::problem::Problem;
use crate::config::raw::{ClusterFile, TcpHealthTable, TcpTable};
use crate::config::spanned::Spanned;

/// The checked services, beside what is published already.
pub(super) fn services(
    raw: &ClusterFile,
    ips: Option<&[ClusterIp]>,
    rules: Option<&[PortRule]>,
    published: Option<&(Vec<Site>, Vec<Farm>)>,
    problems: &mut Problems,
) -> Option<Vec<TcpService>> {
    let ips = ips.unwrap_or_default();
    let sites = published.iter().flat_map(|(sites, _)| sites);
    let farms = published.iter().flat_map(|(_, farms)| farms);
    let mut names: BTreeMap<String, String> =
        farms.map(|farm| (farm.name.clone(), "a farm".to_owned())).collect();
    let taken = sites.flat_map(|site| site.listen.iter().chain(&site.redirect));
    let mut ports: BTreeMap<u16, String> = taken.map(|at| (at.port(), "a site".to_owned())).collect();
    let mut services = Vec::new();
    for table in raw.tcp.iter().map(Spanned::get_ref) {
        let name = Place { what: "the name", span: table.name.span() };
        problems.unique(&mut names, table.name.get_ref().clone(), "another service", name);
        let port = |what| Place { what, span: table.port.span() };
        problems.unique(&mut ports, *table.port.get_ref(), "another service", port("port"));
        if let Some(rules) = rules {
            admitted(*table.port.get_ref(), port("the service's port"), ips, rules, problems);
        }
        services.extend(service(table, ips, problems));
    }
    (services.len() == raw.tcp.len()).then_some(services)
}

fn service(raw: &TcpTable, ips: &[ClusterIp], problems: &mut Problems) -> Option<TcpService> {
    let name = problems.require(node_name(raw.name.get_ref()), || {
        let text = format!("\"{}\" cannot name a service", raw.name.get_ref());
        Problem::at(raw.name.span(), text).hint("1 to 63 letters, digits, `-`, `_`, `.`")
    });
    let port = problems.number("port", &raw.port, 1..=u16::MAX)?;
    let servers = listed(&raw.servers, port, problems);
    let sni = sni(raw, port, problems);
    if raw.servers.is_empty() && raw.sni.is_empty() {
        let problem = Problem::at(raw.name.span(), "the service has neither `servers` nor `sni`");
        problems.add(problem.hint(format!("servers = [\"10.0.0.36\"], which is port {port} there, too")));
    }
    let (servers, sni) = (servers?, sni?);
    let client_address = client_address(raw, &servers, &sni, problems);
    let second = Duration::from_secs(1);
    let idle_timeout = match &raw.idle_timeout {
        Some(written) => problems.time("idle_timeout", written, second..=second * 86_400),
        None if [SMTP, SUBMISSION].contains(&port) => Some(second * 600),
        None => Some(second * 1800),
    };
    let connect_timeout = problems.time("connect_timeout", &raw.connect_timeout, second / 10..=second * 300);
    let most = 1..=1_000_000;
    let max_connections = problems.number("max_connections", &raw.max_connections, most.clone());
    let max_connections_per_client =
        problems.number("max_connections_per_client", &raw.max_connections_per_client, most);
    let (allow, deny) = access(&raw.allow, &raw.deny, problems)?;
    let health = health(&raw.health, !sni.is_empty(), problems);
    Some(TcpService {
        name: name?,
        listen: ips.iter().map(|ip| SocketAddr::new(ip.address, port)).collect(),
        servers,
        sni,
        client_address: client_address?,
        idle_timeout: idle_timeout?,
        connect_timeout: connect_timeout?,
        max_connections: max_connections?,
        max_connections_per_client: max_connections_per_client?,
        allow,
        deny,
        health: health?,
    })
}

fn sni(raw: &TcpTable, port: u16, problems: &mut Problems) -> Option<BTreeMap<String, Vec<Server>>> {
    let mut pools = BTreeMap::new();
    for (name, entries) in &raw.sni {
        let written = Spanned::new(entries.span(), name.clone());
        let name = problems.require(host_name(name), || not_a_host_name(&written));
        if entries.get_ref().is_empty() {
            let problem = Problem::at(entries.span(), format!("\"{}\" has no servers", written.get_ref()));
            problems.add(problem.hint("remove the name, or write its servers, such as [\"10.0.0.36\"]"));
        }
        let servers = listed(entries.get_ref(), port, problems);
        pools.insert(name?, servers?);
    }
    Some(pools)
}

/// What servers learn of the client's address. Where mail comes in, nobody gets a default: an MTA that sees every sender at an
/// address of its own network may relay for all of them, and cannot judge any by SPF (RFC 7208) or a block list.
fn client_address(
    raw: &TcpTable,
    servers: &[Server],
    sni: &BTreeMap<String, Vec<Server>>,
    problems: &mut Problems,
) -> Option<ClientAddress> {
    let Some(written) = &raw.client_address else {
        let mut all = servers.iter().chain(sni.values().flatten());
        if *raw.port.get_ref() != SMTP && all.all(|server| server.address.port() != SMTP) {
            return Some(ClientAddress::Hidden);
        }
        let text = "`client_address` is missing: mail from everywhere would come to the servers from this node's address";
        problems.add(Problem::at(raw.port.span(), text).hint(
            "a server that lets its own network relay is then an open relay, and SPF and block lists judge this node in \
             place of the sender. client_address = \"proxy-protocol\" for servers that read it (postfix: \
             smtpd_upstream_proxy_protocol = haproxy; Exchange does not), or \"hidden\" once no server trusts this node",
        ));
        return None;
    };
    if written.get_ref() == "transparent" {
        let text = "client_address = \"transparent\" is not supported yet: the locked-in proxy has no right to other hosts' addresses";
        let hint = "choose \"proxy-protocol\" or \"hidden\"; or let the router send the port to the servers themselves";
        problems.add(Problem::at(written.span(), text).hint(hint));
        return None;
    }
    let choices = [
        ClientAddress::Hidden,
        ClientAddress::Header(HeaderVersion::V2),
        ClientAddress::Header(HeaderVersion::V1),
    ]
    .map(|choice| (choice.as_str(), choice));
    problems.choice("client_address", written, &choices)
}

fn health(raw: &TcpHealthTable, by_name: bool, problems: &mut Problems) -> Option<TcpHealth> {
    if let Some(tcp) = &raw.tcp {
        if !tcp.get_ref() {
            problems.add(Problem::at(tcp.span(), "`tcp = false` tests nothing").hint("tcp = true"));
        } else if raw.banner.is_some() {
            let problem = Problem::at(tcp.span(), "`tcp` and `banner` exclude each other");
            problems.add(problem.hint("keep `banner`, which needs a connection, too"));
        }
    }
    if let Some(banner) = &raw.banner {
        let text = banner.get_ref();
        if by_name {
            let problem = Problem::at(banner.span(), "`banner` with `sni`: with TLS the client speaks first");
            problems.add(problem.hint("tcp = true"));
        } else if text.is_empty() || text.len() > LONGEST_LINE || text.contains(['\r', '\n']) {
            let problem = Problem::at(banner.span(), "`banner` is not how a line begins");
            problems
                .add(problem.hint(format!("1 to {LONGEST_LINE} bytes without a line end, such as \"220\"")));
        }
    }
    let second = Duration::from_secs(1);
    let interval = problems.time("interval", &raw.interval, second / 10..=second * 3600);
    let timeout = problems.time("timeout", &raw.timeout, second / 100..=second * 300);
    let failures = problems.number("failures", &raw.failures, 1..=100);
    Some(TcpHealth {
        banner: raw.banner.as_ref().map(|banner| banner.get_ref().clone()),
        interval: interval?,
        timeout: timeout?,
        failures: u8::try_from(failures?).ok()?,
    })
}

const SMTP: u16 = 25;

/// RFC 6409.
const SUBMISSION: u16 = 587;

/// A reply line of SMTP (RFC 5321, 4.5.3.1.5).
const LONGEST_LINE: usize = 512;
