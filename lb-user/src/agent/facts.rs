//! What must be equal on all nodes of a cluster, as one number.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

use crate::config::model::Cluster;

/// A digest of the cluster facts: what decides which node answers, not what the proxy publishes.
pub(super) fn digest_of(cluster: &Cluster) -> u64 {
    let mut text = String::new();
    let Cluster { cluster_ips, mode, nodes, rules, unmatched, timing, observe, .. } = cluster;
    // Writing to a string cannot fail.
    let _ = write!(text, "{mode:?} {unmatched:?} {timing:?} {observe}");
    for ip in cluster_ips {
        let _ = write!(text, " {}/{}", ip.address, ip.prefix);
    }
    for node in nodes {
        let _ = write!(text, " {:?} {} {} {}", node.name, node.priority, node.address, node.weight);
    }
    for rule in rules {
        let _ = write!(text, " {rule} {:?} {} {:?}", rule.affinity, rule.local, rule.spread);
    }
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
