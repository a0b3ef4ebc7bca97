//! From the checked configuration to what the XDP program and the owner tables need. A plain function: facts of this machine
//! (MAC address, kernel) are filled in by the loader.

use std::net::IpAddr;

use lb_common::address::Address;
use lb_common::flow::bucket_of;
use lb_common::table::{self, Affinity, Bucket, PortRules, RULES, Rule, TABLES, Vips};

use crate::config::model::{
    Cluster, ClusterIp, Config, Filtering, HEARTBEAT_PORT, Mode, PortRule, Protocol, Spread, Unmatched,
};

/// What the kernel needs to know of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The program's read-only data; `own_mac`, `snt_isn_offset` and capturing are still zero. The number of a port rule is its
    /// place in the configuration plus one.
    pub config: table::Config,
    /// Which rule each port falls under: the lists that the cluster IPs name. At least one.
    pub port_lists: Vec<PortRules>,
    /// The owner tables, in the order of their indices. The first is always the default host's: rule 0, echo, and `single`
    /// rules without handling priorities.
    pub tables: Vec<TablePlan>,
}

/// An owner table: rules that are spread alike share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePlan {
    /// How; never `Disabled`.
    pub spread: Spread,
    /// Its rules, as `tcp 443`, in the order of the configuration.
    pub rules: Vec<String>,
}

impl Plan {
    /// Plans `config`. `seed` is the cluster's hash key, equal on all nodes.
    pub fn new(config: &Config, seed: [u64; 2]) -> Self {
        let cluster = &config.cluster;
        let tables = plan_tables(&cluster.rules);
        let (port_lists, vips) = plan_ports(cluster);
        let first = cluster.cluster_ips.first();
        let [outer, inner] = [config.local.vlans.first(), config.local.vlans.get(1)];
        Self {
            config: table::Config {
                seed,
                vips,
                rules: plan_rules(cluster, &tables),
                vlans: [outer.copied().unwrap_or(0), inner.copied().unwrap_or(0)],
                cluster_mac: first.map_or([0; 6], |ip| cluster_mac(cluster.mode, ip.address)),
                observe: u8::from(cluster.observe),
                hearing_port: HEARTBEAT_PORT,
                ..table::Config::EMPTY
            },
            port_lists,
            tables,
        }
    }

    /// The owner table and the bucket of a connection of this host, by its local and its remote end; `None` if it is not for a
    /// cluster IP or an enabled rule.
    pub fn locate(
        &self,
        local: std::net::SocketAddr,
        remote: std::net::SocketAddr,
    ) -> Option<(usize, Bucket)> {
        let vip = self.config.vips.get(self.config.vips.find(&Address::from(local.ip()))?);
        let list = self.port_lists.get(usize::from(vip.tcp))?;
        let rule = self.config.rules.get(usize::from(list.0[usize::from(local.port())]))?;
        let bucket = bucket_of(self.config.seed, rule, &Address::from(remote.ip()), remote.port());
        (rule.enabled != 0).then_some((usize::from(rule.table), bucket))
    }
}

/// The MAC address that all nodes answer for the cluster IPs; `first` is the first of them. As NLB's (KB4494444), and with IPv6
/// the last four bytes in place of an IPv4 address.
pub fn cluster_mac(mode: Mode, first: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match first {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
    };
    match mode {
        Mode::Multicast => [0x03, 0xbf, a, b, c, d],
        Mode::Igmp => [0x01, 0x00, 0x5e, 0x7f, c, d],
        Mode::Unicast => [0x02, 0xbf, a, b, c, d],
    }
}

/// Writes a MAC address the usual way.
pub fn format_mac(mac: [u8; 6]) -> String {
    let octets: Vec<String> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

fn plan_tables(rules: &[PortRule]) -> Vec<TablePlan> {
    let mut tables = vec![TablePlan { spread: Spread::plain(Filtering::Single), rules: Vec::new() }];
    for rule in rules.iter().filter(|rule| rule.spread.filtering != Filtering::Disabled) {
        let known = tables.iter_mut().find(|table| table.spread == rule.spread);
        match known {
            Some(table) => table.rules.push(rule.to_string()),
            None => tables.push(TablePlan { spread: rule.spread.clone(), rules: vec![rule.to_string()] }),
        }
    }
    // check.rs refuses more.
    tables.truncate(TABLES);
    tables
}

/// Rule 0, then the port rules.
fn plan_rules(cluster: &Cluster, tables: &[TablePlan]) -> [Rule; RULES] {
    let mut rules = [Rule::DISABLED; RULES];
    let enabled = u8::from(cluster.unmatched == Unmatched::DefaultHost);
    rules[0] = Rule { enabled, ..Rule::new(0, Affinity::Single) };
    for (place, rule) in rules.iter_mut().skip(1).zip(&cluster.rules) {
        let table = tables.iter().position(|table| table.spread == rule.spread);
        let sticky = u8::from(rule.spread.stickiness.is_some());
        *place = table.map_or(Rule::DISABLED, |table| Rule {
            local: u8::from(rule.local),
            sticky,
            ..Rule::new(table as u8, rule.affinity)
        });
    }
    rules
}

/// The lists of ports, equal ones once, and the cluster IPs that name them.
fn plan_ports(cluster: &Cluster) -> (Vec<PortRules>, Vips) {
    let mut lists: Vec<PortRules> = Vec::new();
    let mut number = |list: PortRules| {
        let known = lists.iter().position(|known| *known == list);
        known.unwrap_or_else(|| {
            lists.push(list);
            lists.len() - 1
        }) as u8
    };
    let vips = cluster.cluster_ips.iter().map(|ip| {
        let (tcp, udp) = (list_of(cluster, ip, Protocol::Tcp), list_of(cluster, ip, Protocol::Udp));
        (Address::from(ip.address), number(tcp), number(udp))
    });
    let vips: Vec<_> = vips.collect();
    let vips =
        Vips::new(&vips).expect("invariant: check.rs refuses too many cluster IPs, and one given twice");
    (lists, vips)
}

fn list_of(cluster: &Cluster, ip: &ClusterIp, protocol: Protocol) -> PortRules {
    let mut ports = PortRules([0; 65_536]);
    for (rule, number) in cluster.rules.iter().zip(1..) {
        let of_ip = rule.ip.is_none_or(|own| own == ip.address);
        if of_ip && (rule.protocol == protocol || rule.protocol == Protocol::Both) {
            ports.0[usize::from(rule.first_port)..=usize::from(rule.last_port)].fill(number);
        }
    }
    ports
}
