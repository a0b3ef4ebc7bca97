//! How things are, put together for `rollcall status`. Pure: everything it says was read elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_common::table::{Bucket, BucketState, BucketTable};

use crate::clock::Time;
use crate::cluster::node::{PeerSnapshot, Snapshot};
use crate::cluster::peer::Standing;
use crate::cluster::wire::Phase;
use crate::config::model::{Config, Filtering, HEARTBEAT_PORT, Node, PEER_PORT, Priority};
use crate::control::api::{Count, InterfaceStatus, NodeStatus, ProxyStatus, Status, TableStatus};

/// What a status is made of.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) config: &'a Config,
    pub(crate) snapshot: &'a Snapshot,
    /// Each owner table's filtering mode and ports.
    pub(crate) tables: &'a [(Filtering, String)],
    pub(crate) interface: InterfaceStatus,
    pub(crate) counters: BTreeMap<String, Count>,
    pub(crate) proxy: Option<ProxyStatus>,
    pub(crate) events: Vec<String>,
    pub(crate) now: Time,
    pub(crate) pid: u32,
}

/// The status that these facts make.
pub(crate) fn status(facts: Facts<'_>) -> Status {
    let Facts { config, snapshot, now, .. } = facts;
    let lease = has_lease(snapshot, now);
    let multiple =
        facts.tables.iter().position(|(filtering, _)| *filtering == Filtering::Multiple).unwrap_or(0);
    let nodes = config.cluster.nodes.iter().map(|node| node_status(&facts, node, multiple)).collect();
    let tables =
        facts.tables.iter().zip(&snapshot.tables).map(|(plan, table)| table_status(plan, table)).collect();
    Status {
        node: config.local.name.clone(),
        problem: problem(&facts, lease),
        state: own_state(config, snapshot).to_owned(),
        epoch: snapshot.table.epoch,
        default_host: snapshot.default_host.map(|node| name(config, node)),
        lease,
        nodes,
        tables,
        interface: facts.interface,
        counters: facts.counters,
        proxy: facts.proxy,
        heartbeat_port: HEARTBEAT_PORT,
        peer_port: PEER_PORT,
        events: facts.events,
        pid: facts.pid,
    }
}

/// Whether the lease lives. A snapshot may be older than a lease is long, so it counts as of its own moment; one that is not
/// renewed for a second comes from a thread that stands still.
fn has_lease(snapshot: &Snapshot, now: Time) -> bool {
    let stale = now.since(snapshot.at) >= Duration::from_secs(1);
    !stale && snapshot.lease.is_some_and(|until| until > snapshot.at)
}

/// The name of the node with this priority.
pub(crate) fn name(config: &Config, priority: Priority) -> String {
    let node = config.cluster.nodes.iter().find(|node| node.priority == priority);
    node.map_or_else(|| format!("node {priority}"), |node| node.name.clone())
}

/// One sentence on what is wrong, the worst first.
fn problem(facts: &Facts<'_>, lease: bool) -> Option<String> {
    let Facts { config, snapshot, .. } = facts;
    if config.cluster.observe {
        return None;
    }
    if let Some(waiting) = &snapshot.waiting {
        return Some(waiting.sentence(|node| name(config, node)));
    }
    if !lease && snapshot.phase == Phase::Serving {
        return Some("the lease has ended: this node accepts no new connections".to_owned());
    }
    let proxy = facts.proxy.as_ref();
    if let Some(proxy) = proxy.filter(|proxy| !proxy.alive) {
        return Some(format!("the proxy is not running (started again {} times)", proxy.restarts));
    }
    let sick = |farm: &str| {
        proxy.is_some_and(|proxy| !proxy.servers.iter().any(|server| server.farm == farm && server.healthy))
    };
    if let Some(farm) = config.cluster.farms.iter().find(|farm| sick(&farm.name)) {
        return Some(format!("no server of the farm {} passes its health test", farm.name));
    }
    let troubled =
        |peer: &&PeerSnapshot| peer.filtered || matches!(peer.standing, Standing::Suspect | Standing::Dead);
    snapshot.peers.iter().find(troubled).map(|peer| trouble(config, peer))
}

fn trouble(config: &Config, peer: &PeerSnapshot) -> String {
    let node = name(config, peer.node);
    if peer.filtered {
        return format!(
            "heartbeats from {node} do not arrive though its data path answers: let UDP port {HEARTBEAT_PORT} through"
        );
    }
    match peer.standing {
        Standing::Dead => format!("{node} is dead: its host answers no ARP"),
        Standing::Suspect => format!(
            "{node} is silent though its host answers ARP: is its agent running, and does a firewall let UDP port {HEARTBEAT_PORT} through?"
        ),
        Standing::Unknown | Standing::Alive | Standing::Stopped => format!("{node} is in trouble"),
    }
}

fn own_state(config: &Config, snapshot: &Snapshot) -> &'static str {
    match snapshot.phase {
        _ if config.cluster.observe => "observing",
        Phase::Starting => "starting",
        Phase::Serving if snapshot.draining => "draining",
        Phase::Serving => "serving",
        Phase::Stopping | Phase::Stopped => "stopping",
    }
}

fn peer_state(peer: &PeerSnapshot) -> &'static str {
    match (peer.standing, peer.phase) {
        (Standing::Unknown, _) => "unknown",
        (Standing::Suspect, _) => "suspect",
        (Standing::Dead, _) => "dead",
        (Standing::Stopped, _) | (Standing::Alive, Some(Phase::Stopped)) => "stopped",
        (Standing::Alive, None | Some(Phase::Starting)) => "starting",
        (Standing::Alive, Some(Phase::Stopping)) => "draining",
        (Standing::Alive, Some(Phase::Serving)) if peer.draining => "draining",
        (Standing::Alive, Some(Phase::Serving)) => "serving",
    }
}

fn node_status(facts: &Facts<'_>, node: &Node, table: usize) -> NodeStatus {
    let common = NodeStatus {
        name: node.name.clone(),
        priority: node.priority.number(),
        address: node.address.to_string(),
        ..NodeStatus::default()
    };
    let Some(peer) = facts.snapshot.peers.iter().find(|peer| peer.node == node.priority) else {
        let holds = facts
            .snapshot
            .tables
            .get(table)
            .map_or(0, |table| count(table, BucketState::Mine) + count(table, BucketState::Arriving));
        let ready = facts.proxy.as_ref().is_none_or(|proxy| proxy.ready);
        let state = own_state(facts.config, facts.snapshot).to_owned();
        return NodeStatus { state, holds, ready, silent_ms: None, ..common };
    };
    let silent = peer.last_heard.map(|heard| facts.now.since(heard).as_millis());
    NodeStatus {
        state: peer_state(peer).to_owned(),
        holds: peer.holds.get(table).copied().unwrap_or(0),
        silent_ms: silent.map(|silent| u64::try_from(silent).unwrap_or(u64::MAX)),
        ready: peer.ready,
        ..common
    }
}

fn table_status((filtering, ports): &(Filtering, String), table: &BucketTable) -> TableStatus {
    let letter = |bucket| match table.state(bucket) {
        BucketState::Other => '.',
        BucketState::Mine => 'm',
        BucketState::Arriving => 'a',
        BucketState::Departing => 'd',
    };
    TableStatus {
        filtering: match filtering {
            Filtering::Multiple => "multiple",
            Filtering::Single => "single",
            Filtering::Disabled => "disabled",
        }
        .to_owned(),
        ports: ports.clone(),
        mine: count(table, BucketState::Mine),
        arriving: count(table, BucketState::Arriving),
        departing: count(table, BucketState::Departing),
        states: Bucket::all().map(letter).collect(),
    }
}

fn count(table: &BucketTable, state: BucketState) -> u32 {
    Bucket::all().map(|bucket| u32::from(table.state(bucket) == state)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::wire::TableId;

    #[test]
    fn a_lease_counts_as_of_the_snapshot_unless_that_is_stale() {
        let at = Time::from_nanos(1_000_000_000);
        let ms = Duration::from_millis;
        let snapshot = |lease: Option<Duration>| Snapshot {
            at,
            phase: Phase::Serving,
            draining: false,
            waiting: None,
            lease: lease.map(|left| at + left),
            table: TableId::default(),
            default_host: None,
            tables: Vec::new(),
            sticking: Vec::new(),
            deaf: false,
            peers: Vec::new(),
        };
        let rows = [
            (Some(ms(80)), ms(0), true),
            (Some(ms(80)), ms(100), true),
            (Some(ms(80)), ms(1000), false),
            (Some(ms(0)), ms(0), false),
            (None, ms(0), false),
        ];
        for (lease, age, lives) in rows {
            assert_eq!(has_lease(&snapshot(lease), at + age), lives, "{lease:?} left, {age:?} old");
        }
    }
}
