//! What must be equal on all nodes of a cluster, as one number; and which differences of two configurations a running agent can take.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use aws_lc_rs::digest::{self, SHA256};

use crate::config::model::{Cluster, Config, Files, PortRule, Priority, Spread, Timing};
use crate::config::secret::ClusterSecret;
use crate::dataplane::plan::tables_of;

/// A digest of the cluster facts: what decides which node answers, not what the proxy publishes, nor how each node comes back,
/// is reached on a second path or tests its services. Where the nodes share their configuration, what heartbeats are sealed with is one of
/// them, so that all change it at once; where each has it in a file, keys are changed by one node after the other.
pub(super) fn facts_of(config: &Config, secret: &ClusterSecret) -> u64 {
    let key = match config.files {
        Files::Held(_) => Some(secret.key_id()),
        Files::Disk => None,
    };
    digest_of(&config.cluster, secret.hash_seed(), key)
}

/// `seed` is the flow hash's, `key` the name of what heartbeats are sealed with.
fn digest_of(cluster: &Cluster, seed: [u64; 2], key: Option<[u8; 8]>) -> u64 {
    let mut text = String::new();
    let Cluster { cluster_ips, mode, nodes, rules, unmatched, timing, observe, .. } = cluster;
    // Writing to a string cannot fail.
    let _ = write!(text, "{mode:?} {unmatched:?} {timing:?} {observe} {seed:?}");
    if let Some(key) = key {
        let _ = write!(text, " {key:?}");
    }
    for ip in cluster_ips {
        let _ = write!(text, " {}/{}", ip.address, ip.prefix);
    }
    for node in nodes {
        let _ = write!(text, " {:?} {} {} {}", node.name, node.priority, node.address, node.weight);
    }
    // How rules are checked decides at most which of them share a table.
    for (rule, table) in rules.iter().zip(tables_of(rules)) {
        let _ = write!(text, " {rule} {:?} {} {:?} {table:?}", rule.affinity, rule.local, rule.spread);
    }
    let digest = digest::digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What a running agent cannot change of what it works with, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Differences {
    /// It takes that up by beginning anew in the same process, beside a proxy that goes on; no connection ends by it (`renewal.rs`).
    pub(super) renewed: Vec<&'static str>,
    /// It takes that up when it is started anew.
    pub(super) restart: Vec<&'static str>,
}

/// What is different for a running agent. What the proxy serves is none of it, nor what the cluster switches to (`switched`).
pub(super) fn differences(before: &Config, now: &Config) -> Differences {
    let Cluster {
        cluster_ips,
        mode,
        nodes: _,
        rules,
        unmatched,
        timing,
        gateway: _,
        observe,
        failback: _,
        hold_down: _,
        ramp: _,
        initial_state,
        // Followed by what talks to it.
        store: _,
        sites: _,
        farms: _,
        limits: _,
        tcp: _,
        drain_timeout: _,
        log: _,
        protection: _,
        trusted_proxies: _,
    } = &before.cluster;
    let new = &now.cluster;
    let precise = |timing: &Timing| timing.needs_precise_lease();
    let those = |parts: &[(&'static str, bool)]| -> Vec<&'static str> {
        parts.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect()
    };
    let renewed = [
        ("the cluster IPs (`ip`)", *cluster_ips != new.cluster_ips),
        ("`mode`", *mode != new.mode),
        (
            "the port rules ([[rule]], or what sites and TCP services add to them)",
            unweighted(rules) != unweighted(&new.rules),
        ),
        ("`unmatched`", *unmatched != new.unmatched),
        (
            "the periods of heartbeats, from below 60 ms of suspect time to above or back",
            precise(timing) != precise(&new.timing),
        ),
        ("`initial_state`", *initial_state != new.initial_state),
    ];
    let restart = [
        ("this node's own entry ([[node]])", place(before) != place(now)),
        ("the nodes' second addresses", has_second_path(before) != has_second_path(now)),
        ("`observe`", *observe != new.observe),
        ("this node's own file", before.local != now.local),
    ];
    Differences { renewed: those(&renewed), restart: those(&restart) }
}

/// What a running cluster switches to of what it works with, by name.
pub(super) fn switched(before: &Config, now: &Config) -> Vec<&'static str> {
    let (old, new) = (&before.cluster, &now.cluster);
    let parts = [
        ("nodes", old.nodes != new.nodes),
        ("weights and handling priorities of rules", old.rules != new.rules),
        ("heartbeats", old.timing != new.timing),
        ("gateway", old.gateway != new.gateway),
        ("failback", old.failback != new.failback),
        ("hold_down", old.hold_down != new.hold_down),
        ("ramp", old.ramp != new.ramp),
    ];
    parts.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect()
}

/// Where this node is: its priority and addresses.
fn place(config: &Config) -> (Priority, Ipv4Addr, Option<Ipv4Addr>) {
    let me = config.me();
    (me.priority, me.address, me.second_address)
}

fn has_second_path(config: &Config) -> bool {
    config.cluster.nodes.iter().any(|node| node.second_address.is_some())
}

/// The rules, whatever shares nodes have of them: which bucket a packet falls into hangs on all the rest.
fn unweighted(rules: &[PortRule]) -> Vec<PortRule> {
    let unweighted = |rule: &PortRule| PortRule {
        spread: Spread {
            weights: BTreeMap::new(),
            handling_priorities: BTreeMap::new(),
            ..rule.spread.clone()
        },
        ..rule.clone()
    };
    rules.iter().map(unweighted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_for;

    #[test]
    fn nodes_agree_on_what_decides_ownership_and_not_on_more() {
        let before = digest(FILE, [1, 2]);
        assert_eq!(digest(FILE, [1, 2]), before);
        for (from, to) in [
            ("mode = \"igmp\"", "mode = \"igmp\"\nfailback = \"manual\"\nhold_down = 1\nramp = 1"),
            ("mode = \"igmp\"", "mode = \"igmp\"\ninitial_state = \"stopped\"\ndrain_timeout = 1"),
            ("priority = 1", "priority = 1\nsecond_address = \"10.0.0.6\""),
            ("ports = 25", "ports = 25\ncheck = { tcp = true }"),
        ] {
            assert_eq!(digest(&FILE.replace(from, to), [1, 2]), before, "{to}");
        }
        assert_ne!(digest(FILE, [1, 3]), before, "another seed");
        for (from, to) in [
            ("priority = 1", "priority = 2"),
            ("ports = 25", "ports = 26"),
            ("mode = \"igmp\"", "mode = \"igmp\"\nprofile = \"vm\""),
        ] {
            assert_ne!(digest(&FILE.replace(from, to), [1, 2]), before, "{to}");
        }
    }

    #[test]
    fn the_secret_is_a_fact_where_nodes_share_their_configuration() {
        let secret = |key: &str| {
            ClusterSecret::parse(&format!("{}\nseed {}", key.repeat(64), "a".repeat(64))).unwrap()
        };
        let mut config = crate::agent::explain::tests::config();
        config.files = Files::Disk;
        assert_eq!(facts_of(&config, &secret("b")), facts_of(&config, &secret("c")));
        config.files = Files::Held(std::sync::Arc::default());
        assert_ne!(facts_of(&config, &secret("b")), facts_of(&config, &secret("c")));
        assert_eq!(facts_of(&config, &secret("b")), facts_of(&config, &secret("b")));
    }

    #[test]
    fn a_check_that_gives_rules_other_tables_makes_a_difference() {
        let many: String = (0..40).map(|port| format!("[[rule]]\nports = {}\n", 1000 + port)).collect();
        let file = format!("{FILE}{many}");
        let checked = file.replace("ports = 25", "ports = 25\ncheck = { tcp = true }");
        assert_ne!(digest(&file, [1, 2]), digest(&checked, [1, 2]));
    }

    const FILE: &str = r#"[cluster]
ip = "192.168.50.8/24"
mode = "igmp"
[[node]]
name = "arr1"
address = "192.168.50.6"
priority = 1
[[rule]]
ports = 25
"#;

    fn digest(file: &str, seed: [u64; 2]) -> u64 {
        let thread = std::thread::current().id();
        let path = std::env::temp_dir().join(format!("rollcall-facts-{}-{thread:?}", std::process::id()));
        std::fs::write(&path, file).unwrap();
        let config = load_for(&path, None);
        std::fs::remove_file(&path).unwrap();
        digest_of(&config.unwrap().cluster, seed, None)
    }
}
