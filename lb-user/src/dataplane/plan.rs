//! From the checked configuration to what the XDP program and the owner tables need. A plain function: facts of this machine
//! (MAC address, kernel) are filled in by the loader.

use std::net::Ipv4Addr;

use lb_common::table::{self, Affinity, CLUSTER_IPS, PortRules, RULES, Rule};

use crate::config::model::{Config, Filtering, Mode, PortRule, Unmatched};

/// What the kernel needs to know of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The program's read-only data; `own_mac` and `snt_isn_offset` are still zero.
    pub config: table::Config,
    /// Which rule each port falls under.
    pub port_rules: Box<PortRules>,
    /// The owner tables, in the order of their indices. The first is always a `single` one.
    pub tables: Vec<TablePlan>,
}

/// An owner table: rules with equal mode share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePlan {
    /// `Multiple` or `Single`; never `Disabled`.
    pub filtering: Filtering,
    /// Its rules' port ranges, both ends included, in the order of the ports.
    pub ports: Vec<(u16, u16)>,
}

impl Plan {
    /// Plans `config`. `seed` is the cluster's hash key, equal on all nodes.
    ///
    /// Table 0 is the default host's: `single` rules, echo, and what no rule names. Table 1 exists if there is a `multiple`
    /// rule.
    pub fn new(config: &Config, seed: [u64; 2]) -> Self {
        let cluster = &config.cluster;
        let (rules, port_rules) = plan_rules(&cluster.rules, cluster.unmatched);
        let ips: Vec<Ipv4Addr> = cluster.cluster_ips.iter().map(|ip| ip.address).collect();
        let mut cluster_ips = [[0; 4]; CLUSTER_IPS];
        for (slot, ip) in cluster_ips.iter_mut().zip(&ips) {
            *slot = ip.octets();
        }
        let first = ips.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
        Self {
            config: table::Config {
                seed,
                cluster_ips,
                cluster_ip_count: ips.len().min(CLUSTER_IPS) as u32,
                rules,
                cluster_mac: cluster_mac(cluster.mode, first),
                observe: u8::from(cluster.observe),
                ..table::Config::EMPTY
            },
            port_rules,
            tables: plan_tables(&cluster.rules),
        }
    }
}

/// The MAC address that all nodes answer for the cluster IPs; `first` is the first of them.
pub fn cluster_mac(mode: Mode, first: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = first.octets();
    match mode {
        Mode::Multicast => [0x03, 0xbf, a, b, c, d],
    }
}

/// Writes a MAC address the usual way.
pub fn format_mac(mac: [u8; 6]) -> String {
    let octets: Vec<String> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

fn plan_tables(rules: &[PortRule]) -> Vec<TablePlan> {
    let ports = |filtering| -> Vec<(u16, u16)> {
        let of_mode = rules.iter().filter(|rule| rule.filtering == filtering);
        of_mode.map(|rule| (rule.first_port, rule.last_port)).collect()
    };
    let mut tables = vec![TablePlan { filtering: Filtering::Single, ports: ports(Filtering::Single) }];
    let multiple = ports(Filtering::Multiple);
    if !multiple.is_empty() {
        tables.push(TablePlan { filtering: Filtering::Multiple, ports: multiple });
    }
    tables
}

/// Rule 0, then one rule for each combination that port rules have: two modes times two affinities, and disabled.
fn plan_rules(port_rules: &[PortRule], unmatched: Unmatched) -> ([Rule; RULES], Box<PortRules>) {
    let mut rules = vec![match unmatched {
        Unmatched::Drop => Rule::DISABLED,
        Unmatched::DefaultHost => data_path_rule(Filtering::Single, Affinity::Single),
    }];
    let mut ports = Box::new(PortRules([0; 65_536]));
    for port_rule in port_rules {
        let rule = data_path_rule(port_rule.filtering, port_rule.affinity);
        let known = rules.iter().skip(1).position(|other| *other == rule);
        let number = known.map_or(rules.len(), |place| place + 1);
        if number == rules.len() {
            rules.push(rule);
        }
        let range = usize::from(port_rule.first_port)..=usize::from(port_rule.last_port);
        ports.0[range].fill(number as u8);
    }
    let mut all = [Rule::DISABLED; RULES];
    all[..rules.len()].copy_from_slice(&rules);
    (all, ports)
}

const fn data_path_rule(filtering: Filtering, affinity: Affinity) -> Rule {
    let table = match filtering {
        Filtering::Disabled => return Rule::DISABLED,
        Filtering::Single => 0,
        Filtering::Multiple => 1,
    };
    Rule { table, affinity: affinity as u8, enabled: 1, reserved: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_fall_under_the_rule_of_their_mode_and_affinity() {
        let rules = [
            rule(23, 23, Filtering::Disabled, Affinity::Single),
            rule(25, 25, Filtering::Single, Affinity::None),
            rule(443, 443, Filtering::Multiple, Affinity::None),
            rule(8000, 8099, Filtering::Multiple, Affinity::Single),
            rule(65_535, 65_535, Filtering::Multiple, Affinity::None),
        ];
        let (table, ports) = plan_rules(&rules, Unmatched::Drop);
        let of = |port: usize| table[usize::from(ports.0[port])];
        assert_eq!(of(22), Rule::DISABLED);
        assert_eq!(ports.0[22], 0);
        assert_eq!(of(23), Rule::DISABLED);
        assert_ne!(ports.0[23], 0, "a disabled rule is told from none");
        assert_eq!(of(25), data_path_rule(Filtering::Single, Affinity::None));
        assert_eq!(of(443), data_path_rule(Filtering::Multiple, Affinity::None));
        assert_eq!(of(8099), data_path_rule(Filtering::Multiple, Affinity::Single));
        assert_eq!(ports.0[8100], 0);
        assert_eq!(ports.0[65_535], ports.0[443], "equal rules are one");
    }

    #[test]
    fn the_default_host_takes_what_no_rule_names_if_told_to() {
        let (table, _) = plan_rules(&[], Unmatched::DefaultHost);
        assert_eq!(table[0], data_path_rule(Filtering::Single, Affinity::Single));
    }

    #[test]
    fn table_0_is_single_and_table_1_is_there_for_multiple_rules() {
        let single = rule(25, 25, Filtering::Single, Affinity::None);
        let multiple = rule(443, 444, Filtering::Multiple, Affinity::None);
        let disabled = rule(23, 23, Filtering::Disabled, Affinity::None);
        let tables = plan_tables(&[disabled.clone(), single.clone()]);
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].ports, [(25, 25)]);
        let tables = plan_tables(&[disabled, single, multiple]);
        assert_eq!(tables[1].filtering, Filtering::Multiple);
        assert_eq!(tables[1].ports, [(443, 444)]);
    }

    #[test]
    fn the_multicast_mac_carries_the_first_cluster_ip() {
        let mac = cluster_mac(Mode::Multicast, Ipv4Addr::new(192, 168, 50, 8));
        assert_eq!(format_mac(mac), "03:bf:c0:a8:32:08");
    }

    fn rule(first_port: u16, last_port: u16, filtering: Filtering, affinity: Affinity) -> PortRule {
        PortRule { first_port, last_port, filtering, affinity }
    }
}
