//! How heartbeats fare: what was refused, how late this node is, which way to a peer is lost. Pure.

use std::time::Duration;

use super::{Facts, name};
use crate::cluster::node::RefusedCounts;
use crate::cluster::peer::Path;
use crate::control::api::HeartbeatStatus;

pub(super) fn status(facts: &Facts<'_>) -> HeartbeatStatus {
    let snapshot = facts.snapshot;
    let refused = counts(&snapshot.refused).map(|(kind, count, _)| (kind.to_owned(), count));
    HeartbeatStatus {
        late_ms: millis(snapshot.late),
        wrongly_suspected: snapshot.wrongly_suspected,
        refused: refused.into_iter().collect(),
        remarks: remarks(facts),
    }
}

/// On which path a peer is not heard while it is on the other.
pub(super) fn path_word(path: Path) -> &'static str {
    match path {
        Path::First => "first",
        Path::Second => "second",
    }
}

/// By kind, and in words, unless it is what happens in a cluster that is well.
fn counts(refused: &RefusedCounts) -> [(&'static str, u64, Option<&'static str>); 8] {
    let RefusedCounts {
        malformed,
        other_version,
        stranger,
        forged,
        own_priority,
        duplicate,
        replay,
        unproven,
    } = *refused;
    [
        ("malformed", malformed, Some("malformed")),
        ("other-version", other_version, Some("of another protocol version")),
        ("stranger", stranger, Some("of no configured node")),
        ("forged", forged, Some("sealed with another secret")),
        ("own-priority", own_priority, Some("with this node's own priority")),
        ("duplicate", duplicate, Some("from an address that is not their node's")),
        ("replay", replay, Some("heard before or too old")),
        // Some come at each start of a peer.
        ("unproven", unproven, None),
    ]
}

/// What an operator should know, a sentence each; none while all is well.
fn remarks(facts: &Facts<'_>) -> Vec<String> {
    let snapshot = facts.snapshot;
    let lost = snapshot.peers.iter().filter_map(|peer| {
        let way = match peer.lost_path? {
            Path::First => "through the cluster NIC, only on the second path",
            Path::Second => "on the second path, only through the cluster NIC",
        };
        Some(format!("{} is not heard {way}", name(facts.config, peer.node)))
    });
    let late = (snapshot.late > facts.config.cluster.timing.period).then(|| {
        let (late, period) = (millis(snapshot.late), millis(facts.config.cluster.timing.period));
        format!("within the last minute this node's own went out {late} ms late, and a period is {period} ms: what keeps this host busy?")
    });
    let counts = counts(&snapshot.refused);
    let refused = counts.iter().filter(|(_, count, _)| *count > 0);
    let refused: Vec<_> =
        refused.filter_map(|(_, count, words)| Some(format!("{count} {}", (*words)?))).collect();
    let refused = (!refused.is_empty())
        .then(|| format!("datagrams refused since the agent started: {}", refused.join(", ")));
    let wrongly = snapshot.wrongly_suspected;
    let wrongly = (wrongly > 0)
        .then(|| format!("nodes that lived were suspected {wrongly} times since the agent started"));
    lost.chain(late).chain(refused).chain(wrongly).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
