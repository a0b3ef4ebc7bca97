//! From the checked configuration to what the XDP program and the owner tables need. A plain function: facts of this machine
//! (MAC address, kernel) are filled in by the loader.

use std::net::IpAddr;

use lb_common::address::Address;
use lb_common::flow::bucket_of;
use lb_common::table::{self, Affinity, Bucket, PortRules, RULES, Rule, TABLES, Vips};

use crate::config::model::{
    Check, Cluster, ClusterIp, Config, Filtering, HEARTBEAT_PORT, Mode, PortRule, Protocol, Spread, Unmatched,
};

/// What the kernel needs to know of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The program's read-only data; `own_mac`, `snt_isn_offset` and capturing are still zero. The number of a port rule is its
    /// place in the configuration plus one.
    pub config: table::Config,
    /// Which rule each port falls under: the lists that the cluster IPs name. At least one.
    pub port_lists: Vec<PortRules>,
    /// The owner tables, in the order of their indices. The first is always the default host's: rule 0, echo, and, where not
    /// each rule can have a table of its own, `single` rules without handling priorities and check.
    pub tables: Vec<TablePlan>,
}

/// An owner table: that of one rule, or, where there are too many rules, of all that are spread and checked alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePlan {
    /// How; never `Disabled`.
    pub spread: Spread,
    /// Its rules, as `tcp 443`, in the order of the configuration.
    pub rules: Vec<String>,
    /// How the services behind its rules are tested on each node: a failure of any hands the table's share over.
    pub checks: Vec<Check>,
}

impl Plan {
    /// Plans `config`. `seed` is the cluster's hash key, equal on all nodes.
    pub fn new(config: &Config, seed: [u64; 2]) -> Self {
        let cluster = &config.cluster;
        let tables_of = tables_of(&cluster.rules);
        let (port_lists, vips) = plan_ports(cluster);
        let first = cluster.cluster_ips.first();
        let [outer, inner] = [config.local.vlans.first(), config.local.vlans.get(1)];
        Self {
            config: table::Config {
                seed,
                vips,
                rules: plan_rules(cluster, &tables_of),
                vlans: [outer.copied().unwrap_or(0), inner.copied().unwrap_or(0)],
                cluster_mac: first.map_or([0; 6], |ip| cluster_mac(cluster.mode, ip.address)),
                observe: u8::from(cluster.observe),
                precise_lease: u8::from(cluster.timing.needs_precise_lease()),
                hearing_port: HEARTBEAT_PORT,
                ..table::Config::EMPTY
            },
            port_lists,
            tables: plan_tables(&cluster.rules, &tables_of),
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

/// The owner table of each rule, by its place in the configuration; `None`: it is disabled. Each has its own, so that it alone
/// moves when its check fails or an operator says so. Only where there are too many do those share one that are spread and
/// checked alike.
pub(crate) fn tables_of(rules: &[PortRule]) -> Vec<Option<usize>> {
    let enabled = |rule: &&PortRule| rule.spread.filtering != Filtering::Disabled;
    let one_each = rules.iter().filter(enabled).count() < TABLES;
    let mut kinds = vec![(Spread::plain(Filtering::Single), None)];
    let mut table_of = |rule: &PortRule| {
        let kind = (rule.spread.clone(), rule.check.clone());
        let known = kinds.iter().position(|known| !one_each && *known == kind);
        known.unwrap_or_else(|| {
            kinds.push(kind);
            kinds.len() - 1
        })
    };
    // check.rs refuses more tables than there is room for.
    let table_of = |rule| Some(rule).filter(enabled).map(&mut table_of).filter(|&table| table < TABLES);
    rules.iter().map(table_of).collect()
}

fn plan_tables(rules: &[PortRule], tables_of: &[Option<usize>]) -> Vec<TablePlan> {
    let empty = |spread| TablePlan { spread, rules: Vec::new(), checks: Vec::new() };
    let mut tables = vec![empty(Spread::plain(Filtering::Single))];
    for (rule, index) in rules.iter().zip(tables_of) {
        let Some(index) = *index else {
            continue;
        };
        if index == tables.len() {
            tables.push(empty(rule.spread.clone()));
        }
        let table = &mut tables[index];
        table.rules.push(rule.to_string());
        if let Some(check) = rule.check.as_ref().filter(|check| !table.checks.contains(check)) {
            table.checks.push(check.clone());
        }
    }
    tables
}

/// Rule 0, then the port rules.
fn plan_rules(cluster: &Cluster, tables_of: &[Option<usize>]) -> [Rule; RULES] {
    let mut rules = [Rule::DISABLED; RULES];
    let enabled = u8::from(cluster.unmatched == Unmatched::DefaultHost);
    rules[0] = Rule { enabled, ..Rule::new(0, Affinity::Single) };
    let ours = cluster.rules.iter().zip(tables_of);
    for (place, (rule, table)) in rules.iter_mut().skip(1).zip(ours) {
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::config::load_for;

    #[test]
    fn a_flow_falls_under_the_rule_of_its_cluster_ip_protocol_and_port() {
        let plan = plan(
            r#"
ips = ["192.168.50.8/24", "fd00:50::8/64", "192.168.50.9/24"]"#,
            r#"
[[rule]]
ports = 443
[[rule]]
ports = "1-65535"
protocol = "udp"
ip = "192.168.50.9"
filtering = "single"
[[rule]]
ports = 65535
protocol = "both"
ip = "fd00:50::8"
[[rule]]
ports = 23
filtering = "disabled"
"#,
        );
        // In the order of first ports: udp 1-65535, tcp 23, tcp 443, tcp+udp 65535.
        let rows = [
            ("192.168.50.8", Protocol::Tcp, 443, 3),
            ("192.168.50.9", Protocol::Tcp, 443, 3),
            ("fd00:50::8", Protocol::Tcp, 443, 3),
            ("192.168.50.8", Protocol::Udp, 443, 0),
            ("192.168.50.9", Protocol::Udp, 1, 1),
            ("192.168.50.9", Protocol::Udp, 65_535, 1),
            ("192.168.50.8", Protocol::Udp, 65_535, 0),
            ("fd00:50::8", Protocol::Udp, 65_535, 4),
            ("fd00:50::8", Protocol::Tcp, 65_535, 4),
            ("fd00:50::8", Protocol::Tcp, 65_534, 0),
            ("192.168.50.8", Protocol::Tcp, 23, 2),
        ];
        for (ip, protocol, port, number) in rows {
            assert_eq!(rule_of(&plan, ip, protocol, port), number, "{ip} {protocol:?} {port}");
        }
        assert_eq!(plan.config.rules[2].enabled, 0, "disabled");
        assert_eq!(plan.config.rules[0].enabled, 0, "what no rule names is dropped");
        // Lists that are equal are one: .8 has a TCP list of its own, and no UDP port.
        assert_eq!(plan.port_lists.len(), 5);
    }

    #[test]
    fn each_rule_has_a_table_of_its_own_and_the_first_is_the_default_hosts() {
        let plan = plan(
            r#"
ip = "192.168.50.8/24""#,
            r#"
[[rule]]
ports = 25
filtering = "single"
[[rule]]
ports = 80
[[rule]]
ports = 443
affinity = "single"
[[rule]]
ports = 8080
weights = { arr1 = 10 }
[[rule]]
ports = 8081
weights = { arr1 = 10 }
local = false
[[rule]]
ports = 8443
affinity = "network"
stickiness_timeout = "20min"
"#,
        );
        let tables: Vec<Vec<&str>> =
            plan.tables.iter().map(|table| table.rules.iter().map(String::as_str).collect()).collect();
        let expected: [&[&str]; 7] =
            [&[], &["tcp 25"], &["tcp 80"], &["tcp 443"], &["tcp 8080"], &["tcp 8081"], &["tcp 8443"]];
        assert_eq!(tables, expected);
        let rules: Vec<(u8, u8, u8)> =
            plan.config.rules[1..7].iter().map(|rule| (rule.table, rule.local, rule.sticky)).collect();
        assert_eq!(rules, [(1, 1, 0), (2, 1, 0), (3, 1, 0), (4, 1, 0), (5, 0, 0), (6, 1, 1)]);
    }

    /// `count` rules of port 1000 on, each with the line that `line` gives for its number.
    fn many(count: usize, line: impl Fn(usize) -> &'static str) -> String {
        (0..count).map(|n| format!("[[rule]]\nports = {}\n{}\n", 1000 + n, line(n))).collect()
    }

    #[test]
    fn a_disabled_rule_takes_no_table_and_31_others_have_one_each() {
        let rest = many(40, |n| if n < 9 { "filtering = \"disabled\"" } else { "" });
        let plan = plan("\nip = \"192.168.50.8/24\"", &rest);
        assert_eq!(plan.tables.len(), TABLES);
        assert!(plan.tables.iter().skip(1).all(|table| table.rules.len() == 1));
        let rule = |number: usize| (plan.config.rules[number].enabled, plan.config.rules[number].table);
        assert_eq!((rule(9).0, rule(10), rule(40)), (0, (1, 1), (1, 31)));
    }

    #[test]
    fn where_rules_outnumber_tables_those_spread_and_checked_alike_share_one() {
        let checked = "check = { tcp = true, port = 25 }";
        let rest = many(32, |n| match n {
            0 => "filtering = \"single\"",
            1 => "filtering = \"single\"\ncheck = { tcp = true, port = 25 }",
            2 | 3 => checked,
            4 => "check = { tcp = true, port = 26 }",
            5 => "weights = { arr1 = 10 }",
            _ => "",
        });
        let plan = plan("\nip = \"192.168.50.8/24\"", &rest);
        let rows: Vec<(usize, usize)> =
            plan.tables.iter().map(|table| (table.rules.len(), table.checks.len())).collect();
        assert_eq!(rows, [(1, 0), (1, 1), (2, 1), (1, 1), (1, 0), (26, 0)]);
        let tables: Vec<u8> = plan.config.rules[1..8].iter().map(|rule| rule.table).collect();
        assert_eq!(tables, [0, 1, 2, 2, 3, 4, 5]);
    }

    #[test]
    fn the_lease_is_precise_where_the_suspect_time_is_short() {
        for (lines, precise) in [
            ("", 0),
            ("profile = \"fast\"", 1),
            ("profile = \"vm\"", 0),
            ("period_ms = 20\nsuspect_after = 3", 0),
            ("period_ms = 19\nsuspect_after = 3", 1),
        ] {
            let plan = plan(&format!("\nip = \"192.168.50.8/24\"\n{lines}"), "");
            assert_eq!(plan.config.precise_lease, precise, "{lines}");
        }
    }

    #[test]
    fn a_connection_is_located_by_its_local_end_and_its_client() {
        let ips = r#"
ips = ["192.168.50.8/24", "fd00:50::8/64"]"#;
        let plan = plan(ips, "[[rule]]\nports = 443\n[[rule]]\nports = 23\nfiltering = \"disabled\"\n");
        let located = |local: &str, remote: &str| {
            let [local, remote] = [local, remote].map(|end| end.parse::<SocketAddr>().unwrap());
            plan.locate(local, remote)
        };
        let v4 = located("192.168.50.8:443", "203.0.113.10:40000").unwrap();
        let v6 = located("[fd00:50::8]:443", "[2001:db8::10]:40000").unwrap();
        assert_eq!((v4.0, v6.0), (1, 1));
        assert_ne!(v4.1, v6.1);
        for local in ["192.168.50.6:443", "192.168.50.8:22", "192.168.50.8:23"] {
            assert_eq!(located(local, "203.0.113.10:40000"), None, "{local}");
        }
    }

    #[test]
    fn each_mode_has_nlbs_mac_address() {
        let rows = [
            (Mode::Multicast, "192.168.50.8", "03:bf:c0:a8:32:08"),
            (Mode::Igmp, "192.168.50.8", "01:00:5e:7f:32:08"),
            (Mode::Unicast, "192.168.50.8", "02:bf:c0:a8:32:08"),
            (Mode::Unicast, "fd00:50::1:8", "02:bf:00:01:00:08"),
        ];
        for (mode, first, mac) in rows {
            assert_eq!(
                crate::arp::format_mac(cluster_mac(mode, first.parse().unwrap())),
                mac,
                "{mode:?} {first}"
            );
        }
    }

    fn rule_of(plan: &Plan, ip: &str, protocol: Protocol, port: usize) -> u8 {
        let vip = plan.config.vips.find(&Address::from(ip.parse::<IpAddr>().unwrap())).unwrap();
        let vip = plan.config.vips.get(vip);
        let list = if protocol == Protocol::Udp { vip.udp } else { vip.tcp };
        plan.port_lists[usize::from(list)].0[port]
    }

    /// The plan of a cluster of two nodes with these lines of `[cluster]` and after the nodes.
    fn plan(cluster: &str, rest: &str) -> Plan {
        let file = std::env::temp_dir().join(format!("rollcall-plan-{:?}.toml", std::thread::current().id()));
        let node = |number: u8| {
            format!(
                "[[node]]\nname = \"arr{number}\"\naddress = \"192.168.50.{}\"\npriority = {number}\n",
                number + 5
            )
        };
        let text = format!("[cluster]{cluster}\nmode = \"multicast\"\n{}{}{rest}", node(1), node(2));
        std::fs::write(&file, text).unwrap();
        let config = load_for(&file, None);
        std::fs::remove_file(&file).unwrap();
        Plan::new(&config.unwrap(), [1, 2])
    }
}
