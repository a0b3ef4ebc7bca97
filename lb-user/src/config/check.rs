//! The raw mirror to the checked model: every relation between values, and all that is wrong at once. Pure: what needs a
//! file or an interface to be looked at is for `files.rs` and `preflight.rs`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use lb_common::table::CLUSTER_IPS;

use super::model::{Cluster, ClusterIp, Local, Mode, Node, Priority, Unmatched};
use super::parse::on_a_share;
use super::problem::Problem;
use super::raw::{ClusterFile, ClusterTable, NodeFile, NodeTable, Time};
use crate::config::spanned::Spanned;

mod balance;
mod checks;
mod exchange;
mod headers;
mod health;
mod limits;
mod local;
mod log;
mod message;
mod names;
mod paths;
mod protection;
mod proxies;
mod returning;
mod rewrite;
mod routes;
mod rules;
mod service;
mod sites;
mod store;
mod tcp;

pub(super) use exchange::EXCHANGE;
use returning::Returning;

/// Checks the cluster file.
pub(crate) fn cluster(raw: &ClusterFile) -> Result<Cluster, Vec<Problem>> {
    let mut problems = Problems::default();
    let cluster = cluster_of(raw, &mut problems);
    problems.unless_any(cluster)
}

/// Checks this node's file against the cluster that it names a node of.
pub(crate) fn local(raw: &NodeFile, nodes: &[Node]) -> Result<Local, Vec<Problem>> {
    let mut problems = Problems::default();
    let local = local::local(raw, nodes, &mut problems);
    problems.unless_any(local)
}

/// Checks what of this node's file needs no look at the cluster.
pub(crate) fn local_alone(raw: &NodeFile) -> Result<(), Vec<Problem>> {
    let mut problems = Problems::default();
    let facts = local::facts(raw, &mut problems);
    problems.unless_any(facts).map(|_| ())
}

/// What was found wrong so far. A check that fails adds to it and yields `None`, so that the others still run.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    fn unless_any<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) | None => Err(self.0),
        }
    }

    /// `value`, or what `problem` says of its place.
    fn require<T>(&mut self, value: Option<T>, problem: impl FnOnce() -> Problem) -> Option<T> {
        if value.is_none() {
            self.add(problem());
        }
        value
    }

    /// The number, if it is within `range`.
    fn number<T>(&mut self, what: &str, raw: &Spanned<T>, range: RangeInclusive<T>) -> Option<T>
    where
        T: PartialOrd + Display + Copy,
    {
        let value = *raw.get_ref();
        let within = range.contains(&value).then_some(value);
        self.require(within, || {
            let (low, high) = range.into_inner();
            Problem::at(raw.span(), format!("`{what}` is {value}, outside {low} to {high}"))
        })
    }

    /// The time, if it is within `range`.
    fn time(&mut self, what: &str, raw: &Spanned<Time>, range: RangeInclusive<Duration>) -> Option<Duration> {
        let Time(value) = *raw.get_ref();
        let within = range.contains(&value).then_some(value);
        self.require(within, || {
            let (low, high) = range.into_inner();
            Problem::at(
                raw.span(),
                format!("`{what}` is {}, outside {} to {}", words(value), words(low), words(high)),
            )
        })
    }

    /// The IPv4 address.
    fn address(&mut self, raw: &Spanned<String>) -> Option<Ipv4Addr> {
        self.require(raw.get_ref().parse().ok(), || not_ipv4(raw, "192.168.50.6"))
    }

    /// The path of a request.
    fn path(&mut self, what: &str, raw: &Spanned<String>) -> Option<String> {
        let path = raw.get_ref();
        let sound = path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic()) && path.len() <= 1024;
        self.require(sound.then(|| path.clone()), || {
            Problem::at(raw.span(), format!("{what}: \"{path}\" is not a path"))
                .hint("it begins with / and has no spaces")
        })
    }

    /// The choice with this name.
    fn choice<T: Copy>(&mut self, what: &str, raw: &Spanned<String>, choices: &[(&str, T)]) -> Option<T> {
        let found = choices.iter().find(|(name, _)| name == raw.get_ref());
        self.require(found.map(|&(_, choice)| choice), || {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let text = format!("`{what}` cannot be \"{}\"", raw.get_ref());
            Problem::at(raw.span(), text).hint(format!("choose {}", names.join(" or ")))
        })
    }

    /// Reports a value that was given before; says where else.
    fn unique<K: Ord + Display>(
        &mut self,
        seen: &mut BTreeMap<K, String>,
        key: K,
        owner: &str,
        place: Place<'_>,
    ) {
        if let Some(other) = seen.get(&key) {
            self.add(
                Problem::at(place.span, format!("{} {key} belongs to {other} already", place.what))
                    .hint("each must have its own"),
            );
        } else {
            seen.insert(key, owner.to_owned());
        }
    }
}

/// A time as it could be written in the file.
fn words(time: Duration) -> String {
    if time.subsec_nanos() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}

/// What a value is called, and where it stands.
struct Place<'a> {
    what: &'a str,
    span: Range<usize>,
}

fn cluster_of(raw: &ClusterFile, problems: &mut Problems) -> Option<Cluster> {
    let table = &raw.cluster;
    let cluster_ips = cluster_ips(table, problems);
    let mode = mode(table, problems);
    let nodes = nodes(&raw.node, problems);
    if let (Some(ips), Some(nodes)) = (&cluster_ips, &nodes) {
        paths::networks(table, ips, &raw.node, nodes, problems);
    }
    paths::second_path(cluster_ips.as_deref(), &raw.node, nodes.as_deref().unwrap_or_default(), problems);
    let rules = rules::rules(raw, cluster_ips.as_deref(), nodes.as_deref(), problems);
    let unmatched = problems.choice(
        "unmatched",
        &table.unmatched,
        &[("drop", Unmatched::Drop), ("default-host", Unmatched::DefaultHost)],
    );
    let timing = returning::timing(table, problems);
    let gateway = gateway(table, cluster_ips.as_deref(), nodes.as_deref(), problems);
    let store = store::store(&raw.config, problems);
    let limits = limits::limits(&raw.limits, problems);
    let log = log::log(&raw.log, problems);
    let protection = protection::protection(&raw.protection, problems);
    let trusted_proxies = proxies::proxies(&raw.trusted_proxy, problems);
    let drain_timeout =
        problems.time("drain_timeout", &table.drain_timeout, Duration::ZERO..=Duration::from_secs(3600));
    let returning = returning::returning(table, problems);
    let service = service::service(raw, cluster_ips.as_deref(), rules.as_deref(), problems);
    let published = service.as_ref();
    let tcp = tcp::services(raw, cluster_ips.as_deref(), rules.as_deref(), published, problems);
    let (sites, farms) = service?;
    let Returning { failback, hold_down, ramp, initial_state } = returning?;
    Some(Cluster {
        cluster_ips: cluster_ips?,
        mode: mode?,
        nodes: nodes?,
        rules: rules?,
        unmatched: unmatched?,
        timing: timing?,
        gateway: gateway?,
        observe: table.observe,
        store: store?,
        sites,
        farms,
        limits: limits?,
        log: log?,
        protection: protection?,
        trusted_proxies: trusted_proxies?,
        tcp: tcp?,
        drain_timeout: drain_timeout?,
        failback,
        hold_down,
        ramp,
        initial_state,
    })
}

fn cluster_ips(table: &ClusterTable, problems: &mut Problems) -> Option<Vec<ClusterIp>> {
    let written: Vec<&Spanned<String>> = table.ip.iter().chain(&table.ips).collect();
    if written.is_empty() {
        let problem = Problem::of_file("the cluster has no IP address: `ip` is missing in [cluster]");
        problems.add(problem.hint("ip = \"192.168.50.8/24\", with the prefix length of its network"));
    }
    if let Some(extra) = written.get(CLUSTER_IPS) {
        problems.add(Problem::at(extra.span(), format!("more than {CLUSTER_IPS} cluster IPs")));
    }
    let mut ips: Vec<ClusterIp> = Vec::new();
    for raw in &written {
        let Some(ip) = problems.require(cluster_ip(raw.get_ref()), || not_a_cluster_ip(raw)) else {
            continue;
        };
        if ips.iter().any(|other| other.address == ip.address) {
            problems.add(Problem::at(raw.span(), format!("cluster IP {} is given twice", ip.address)));
        }
        ips.push(ip);
    }
    if let (Some(first), false) = (written.first(), ips.iter().any(|ip| ip.address.is_ipv4())) {
        let text = "no cluster IP is an IPv4 address: by one, nodes ask each other whether they still serve";
        problems.add(Problem::at(first.span(), text).hint("add one of the nodes' network to `ips`"));
        return None;
    }
    (!ips.is_empty() && ips.len() == written.len()).then_some(ips)
}

fn cluster_ip(text: &str) -> Option<ClusterIp> {
    let (address, prefix) = text.split_once('/')?;
    let ip = ClusterIp { address: address.parse().ok()?, prefix: prefix.parse().ok()? };
    // 30 and 126 are the longest prefixes with room for a cluster IP, a node and the router.
    let (fits, host) = match ip.address {
        IpAddr::V4(address) => ((8..=30).contains(&ip.prefix), is_host(address)),
        IpAddr::V6(address) => ((8..=126).contains(&ip.prefix), is_v6_host(address)),
    };
    (fits && host && !ip.is_edge()).then_some(ip)
}

/// An address that one machine can have.
fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && !address.is_loopback() && first < 224
}

/// The same of IPv6. A link-local address would be another on each link.
fn is_v6_host(address: Ipv6Addr) -> bool {
    !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !address.is_unicast_link_local()
        && address.to_ipv4_mapped().is_none()
}

impl ClusterIp {
    /// The bits of an address, the leading ones first: an IPv4 address fills the upper quarter.
    fn bits(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        }
    }

    /// The network that it is in.
    fn network(&self) -> u128 {
        Self::bits(self.address) & self.mask()
    }

    fn mask(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// Whether its network has `address` in it.
    pub(crate) fn covers(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        address.is_ipv4() == self.address.is_ipv4() && Self::bits(address) & self.mask() == self.network()
    }

    /// Whether it is its network's own or broadcast address; with IPv6, that of all its routers (RFC 4291, section 2.6.1).
    fn is_edge(&self) -> bool {
        let host = Self::bits(self.address) & !self.mask();
        let last = match self.address {
            IpAddr::V4(_) => !self.mask() >> 96 << 96,
            IpAddr::V6(_) => 0,
        };
        host == 0 || host == last
    }
}

impl Display for ClusterIp {
    /// Its network, such as `192.168.50.0/24`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let network: IpAddr = match self.address {
            IpAddr::V4(_) => Ipv4Addr::from_bits((self.network() >> 96) as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(self.network()).into(),
        };
        write!(f, "{network}/{}", self.prefix)
    }
}

fn not_a_cluster_ip(raw: &Spanned<String>) -> Problem {
    let text = raw.get_ref();
    if let Ok(address) = text.parse::<IpAddr>() {
        let (length, hint) =
            if address.is_ipv4() { (24, ", if the network's mask is 255.255.255.0") } else { (64, "") };
        return Problem::at(
            raw.span(),
            format!("cluster IP {address} lacks the prefix length of its network"),
        )
        .hint(format!("\"{address}/{length}\"{hint}"));
    }
    let text = format!(
        "\"{text}\" is not the address of a host with a prefix length of 8 to 30, or 8 to 126 for IPv6"
    );
    Problem::at(raw.span(), text).hint("\"192.168.50.8/24\" and \"2001:db8::8/64\" are such")
}

fn not_ipv4(raw: &Spanned<String>, example: &str) -> Problem {
    let text = raw.get_ref();
    if text.contains(':') {
        let text = format!("\"{text}\" is an IPv6 address; an IPv4 address is needed here");
        return Problem::at(raw.span(), text)
            .hint("nodes speak IPv4 among themselves; cluster IPs may be IPv6");
    }
    Problem::at(raw.span(), format!("\"{text}\" is not an IPv4 address such as \"{example}\""))
}

fn mode(table: &ClusterTable, problems: &mut Problems) -> Option<Mode> {
    let Some(raw) = &table.mode else {
        let problem = Problem::of_file("`mode` is missing in [cluster]: it says how frames reach all nodes");
        problems.add(
            problem.hint(
                "mode = \"multicast\", as NLB's multicast mode; the router must accept a multicast MAC",
            ),
        );
        return None;
    };
    if raw.get_ref() == "steer" {
        let text = "mode \"steer\" is not supported yet";
        problems.add(Problem::at(raw.span(), text).hint("mode = \"multicast\", \"igmp\" or \"unicast\""));
        return None;
    }
    let choices = [("multicast", Mode::Multicast), ("igmp", Mode::Igmp), ("unicast", Mode::Unicast)];
    problems.choice("mode", raw, &choices)
}

fn nodes(raw: &[Spanned<NodeTable>], problems: &mut Problems) -> Option<Vec<Node>> {
    if raw.is_empty() {
        let problem = Problem::of_file("the cluster has no node");
        problems.add(problem.hint("[[node]] with name, address and priority, once for each node"));
    }
    let (mut names, mut addresses, mut priorities) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut keys = BTreeMap::new();
    let mut nodes = Vec::new();
    for node in raw.iter().map(Spanned::get_ref) {
        let name = node.name.get_ref();
        let Some(checked) = checked_node(node, problems) else {
            continue;
        };
        let place = |what, span| Place { what, span };
        problems.unique(&mut names, name.clone(), "another node", place("the name", node.name.span()));
        problems.unique(&mut addresses, checked.address, name, place("address", node.address.span()));
        problems.unique(
            &mut priorities,
            checked.priority,
            name,
            place("host priority", node.priority.span()),
        );
        if let (Some(mine), Some(written)) = (&checked.keys, &node.keys) {
            let key = mine.fingerprint();
            problems.unique(&mut keys, key, name, place("the key with fingerprint", written.span()));
        }
        nodes.push(checked);
    }
    let without = nodes.iter().find(|node: &&Node| node.keys.is_none());
    if let (Some(without), false) = (without, keys.is_empty()) {
        let text = format!("node {} has no `keys`, but others have", without.name);
        let hint =
            "where nodes share their configuration every one has keys: `rollcall join` on it puts them here";
        problems.add(Problem::of_file(text).hint(hint));
    }
    nodes.sort_by_key(|node| node.priority);
    (!nodes.is_empty() && nodes.len() == raw.len()).then_some(nodes)
}

fn checked_node(raw: &NodeTable, problems: &mut Problems) -> Option<Node> {
    let name = problems.require(node_name(raw.name.get_ref()), || {
        let text = format!("\"{}\" cannot name a node", raw.name.get_ref());
        Problem::at(raw.name.span(), text).hint("1 to 63 letters, digits, `-`, `_`, `.`")
    });
    let address = problems.address(&raw.address);
    let second_address = match &raw.second_address {
        Some(written) => problems.address(written).map(Some),
        None => Some(None),
    };
    let priority = problems.number("priority", &raw.priority, 1..=u32::from(Priority::MAX));
    let weight = problems.number("weight", &raw.weight, 0..=100);
    let keys = match &raw.keys {
        Some(written) => {
            let keys = written.get_ref().parse();
            keys.map_err(|error| problems.add(Problem::of_error(written.span(), error))).ok().map(Some)
        }
        None => Some(None),
    };
    Some(Node {
        name: name?,
        address: address?,
        second_address: second_address?,
        priority: priority.and_then(|number| Priority::new(u8::try_from(number).ok()?))?,
        weight: u8::try_from(weight?).ok()?,
        keys: keys?,
    })
}

fn node_name(text: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    ((1..=63).contains(&text.len()) && text.chars().all(fits)).then(|| text.to_owned())
}

/// `None`: wrong; `Some(None)`: not given.
fn gateway(
    table: &ClusterTable,
    ips: Option<&[ClusterIp]>,
    nodes: Option<&[Node]>,
    problems: &mut Problems,
) -> Option<Option<IpAddr>> {
    let Some(raw) = &table.gateway else {
        return Some(None);
    };
    let address: IpAddr = problems.require(raw.get_ref().parse().ok(), || {
        Problem::at(raw.span(), format!("\"{}\" is not an IP address", raw.get_ref()))
            .hint("write the router's as \"192.168.50.1\", \"fd00:50::1\" or \"fe80::1\"")
    })?;
    let (ips, nodes) = (ips.unwrap_or_default(), nodes.unwrap_or_default());
    let ours = ips.iter().map(|ip| ip.address).chain(nodes.iter().map(|node| node.address.into()));
    if ours.into_iter().any(|own| own == address) {
        problems
            .add(Problem::at(raw.span(), format!("gateway {address} is an address of the cluster itself")));
    } else if !ips.is_empty() && !is_beside(ips, address) {
        let of_family = ips.iter().find(|ip| ip.address.is_ipv4() == address.is_ipv4());
        let problem = match of_family {
            Some(ip) => format!("gateway {address} is not in the cluster IP's network {ip}"),
            None => format!("gateway {address} is in no cluster IP's network"),
        };
        problems.add(Problem::at(raw.span(), problem).hint(hint_on_gateway(address)));
    }
    Some(Some(address))
}

/// Whether a router with this address can be in the nodes' network.
fn is_beside(ips: &[ClusterIp], address: IpAddr) -> bool {
    let of_link = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    of_link || ips.iter().any(|ip| ip.covers(address))
}

fn hint_on_gateway(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "name the router's address in the network of the nodes",
        IpAddr::V6(_) => {
            "name the router's address in the network of an IPv6 cluster IP, its link-local one (fe80:..), or its IPv4 address"
        }
    }
}

/// A relative path would mean another file for each folder that the agent is started in.
fn absolute(what: &str, raw: &Spanned<PathBuf>, problems: &mut Problems) -> Option<PathBuf> {
    let path = raw.get_ref();
    let shown = path.to_string_lossy();
    if shown.starts_with("\\\\") || shown.starts_with("//") {
        problems.add(on_a_share(raw.span(), &format!("`{what}` \"{shown}\"")));
        return None;
    }
    problems.require(path.is_absolute().then(|| path.clone()), || {
        Problem::at(raw.span(), format!("`{what}` is \"{shown}\", not a path from the root"))
            .hint("write it with a leading /")
    })
}
