//! How things are, put together for `rollcall status`. Pure: everything it says was read elsewhere.

mod heartbeats;
mod problem;
mod told;

use std::time::Duration;

use lb_common::table::{Bucket, BucketState, BucketTable};

use crate::clock::Time;
use crate::cluster::node::{PeerSnapshot, Snapshot};
use crate::cluster::operate::Intent;
use crate::cluster::peer::Standing;
use crate::cluster::wire::{Generations, Phase, Traffic, Want};
use crate::config::model::{Config, Filtering, HEARTBEAT_PORT, Node, PEER_PORT, Priority};
use crate::control::api::{
    CertificateEntry, ConfigurationStatus, Count, InterfaceStatus, NodeStatus, ProxyStatus, RuleStatus,
    ServiceStatus, Status, TableStatus,
};
use crate::dataplane::reasons::{Class, class};
use crate::dataplane::{Plan, TablePlan, Tally};

/// What a status is made of.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) config: &'a Config,
    pub(crate) plan: &'a Plan,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) interface: InterfaceStatus,
    pub(crate) tally: Tally,
    pub(crate) proxy: Option<ProxyStatus>,
    /// By owner table.
    pub(crate) services: &'a [Option<ServiceStatus>],
    pub(crate) connections: u32,
    /// Those that have expired or do so within 30 days.
    pub(crate) certificates: Vec<CertificateEntry>,
    pub(crate) events: Vec<String>,
    pub(crate) now: Time,
    pub(crate) pid: u32,
}

/// The status that these facts make.
pub(crate) fn status(facts: Facts<'_>) -> Status {
    let Facts { config, snapshot, now, .. } = facts;
    let lease = has_lease(snapshot, now);
    let plans = &facts.plan.tables;
    let multiple = plans.iter().position(|table| table.spread.filtering == Filtering::Multiple).unwrap_or(0);
    let nodes = config.cluster.nodes.iter().map(|node| node_status(&facts, node, multiple)).collect();
    let sticking = snapshot.sticking.iter().copied().chain(std::iter::repeat(0));
    let tables = plans.iter().zip(&snapshot.tables).zip(sticking);
    let tables = tables.enumerate().map(|(index, ((plan, table), sticking))| TableStatus {
        intent: intent_word(snapshot.mandate.table(index).intent).to_owned(),
        service: facts.services.get(index).cloned().flatten(),
        ..table_status(plan, table, sticking)
    });
    let tables = tables.collect();
    let (rules, heartbeats) = (rule_statuses(&facts), heartbeats::status(&facts));
    Status {
        node: config.local.name.clone(),
        problem: problem::worst(&facts, lease),
        state: own_state(config, snapshot).to_owned(),
        stands_by: snapshot.aside.map(|aside| told::stands_by(&aside, now)),
        adjusted: told::adjusted(&facts),
        converged: !snapshot.converging,
        epoch: snapshot.table.epoch,
        default_host: snapshot.default_host.map(|node| name(config, node)),
        lease,
        nodes,
        tables,
        interface: facts.interface,
        rules,
        heartbeats,
        counters: facts.tally.totals(),
        proxy: facts.proxy,
        heartbeat_port: HEARTBEAT_PORT,
        peer_port: PEER_PORT,
        certificates: facts.certificates,
        events: facts.events,
        pid: facts.pid,
        // The operator's end knows.
        upgrade: None,
        configuration: ConfigurationStatus::default(),
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

fn own_state(config: &Config, snapshot: &Snapshot) -> &'static str {
    match (snapshot.phase, snapshot.mandate.intent) {
        _ if config.cluster.observe => "observing",
        (Phase::Starting, _) => "starting",
        (Phase::Serving, Intent::Draining) => "draining",
        (Phase::Serving, _) if snapshot.aside.is_some() => "stands by",
        (Phase::Serving, _) => "serving",
        (Phase::Stopped, Intent::Stopped) => "stopped",
        (Phase::Stopped, Intent::Suspended) => "suspended",
        (Phase::Stopping | Phase::Stopped, _) => "stopping",
    }
}

/// A peer's state in one word.
pub(crate) fn peer_word(peer: &PeerSnapshot) -> &'static str {
    match (peer.standing, peer.phase) {
        (Standing::Unknown, _) => "unknown",
        (Standing::Suspect, _) => "suspect",
        (Standing::Dead, _) => "dead",
        (Standing::Stopped, _) | (Standing::Alive, Some(Phase::Stopped)) => match peer.intent {
            Intent::Suspended => "suspended",
            Intent::Started | Intent::Draining | Intent::Stopped => "stopped",
        },
        (Standing::Alive, None | Some(Phase::Starting)) => "starting",
        (Standing::Alive, Some(Phase::Stopping)) => "draining",
        (Standing::Alive, Some(Phase::Serving)) if peer.intent == Intent::Draining => "draining",
        (Standing::Alive, Some(Phase::Serving)) if is_aside(&peer.wants) => "stands by",
        (Standing::Alive, Some(Phase::Serving)) => "serving",
    }
}

fn is_aside(wants: &[Want]) -> bool {
    wants.iter().any(|want| want.aside)
}

/// What an operator wants, in one word.
pub(crate) fn intent_word(intent: Intent) -> &'static str {
    match intent {
        Intent::Started => "started",
        Intent::Draining => "draining",
        Intent::Stopped => "stopped",
        Intent::Suspended => "suspended",
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
        return own_status(facts, common, table);
    };
    let Traffic { packets, bytes, connections } = peer.traffic;
    let silent = peer.last_heard.map(|heard| facts.now.since(heard).as_millis());
    NodeStatus {
        state: peer_word(peer).to_owned(),
        intent: intent_word(peer.intent).to_owned(),
        rank: peer.rank.number(),
        incarnation: peer.incarnation,
        stands_by: is_aside(&peer.wants),
        cut_off: peer.health.cut_off,
        holds: peer.holds.get(table).copied().unwrap_or(0),
        shares: peer.holds.clone(),
        silent_ms: silent.map(|silent| u64::try_from(silent).unwrap_or(u64::MAX)),
        ready: peer.wants.iter().all(|want| want.ready),
        deaf: peer.health.deaf,
        lost_path: peer.lost_path.map(|path| heartbeats::path_word(path).to_owned()),
        passed: peer.phase.map(|_| Count { packets, bytes }),
        connections: peer.phase.map(|_| connections),
        ..common
    }
    .with_generations(peer.generations)
}

impl NodeStatus {
    fn with_generations(self, Generations { current, candidate }: Generations) -> Self {
        let name = |beginning: u64| (beginning != 0).then(|| format!("{beginning:016x}"));
        Self { generation: name(current), candidate: name(candidate), ..self }
    }
}

fn own_status(facts: &Facts<'_>, common: NodeStatus, table: usize) -> NodeStatus {
    let snapshot = facts.snapshot;
    let proxied = facts.proxy.as_ref().map_or(0, |proxy| proxy.connections);
    NodeStatus {
        state: own_state(facts.config, snapshot).to_owned(),
        intent: intent_word(snapshot.mandate.intent).to_owned(),
        rank: snapshot.rank.number(),
        incarnation: Some(snapshot.incarnation),
        stands_by: snapshot.aside.is_some(),
        cut_off: snapshot.health.cut_off,
        holds: snapshot.tables.get(table).map_or(0, held),
        shares: snapshot.tables.iter().map(held).collect(),
        ready: snapshot.wants.iter().all(|want| want.ready) && !snapshot.health.deaf,
        deaf: snapshot.health.deaf,
        passed: Some(facts.tally.passed()),
        connections: Some(facts.connections.max(proxied)),
        ..common
    }
    .with_generations(snapshot.generations)
}

/// How many buckets of it this node holds.
pub(crate) fn held(table: &BucketTable) -> u32 {
    count(table, BucketState::Mine) + count(table, BucketState::Arriving)
}

/// Each port rule's packets; last what no rule names.
fn rule_statuses(facts: &Facts<'_>) -> Vec<RuleStatus> {
    let rules = &facts.config.cluster.rules;
    let named = rules.iter().zip(1..).map(|(rule, number)| rule_status(facts, number, rule.to_string()));
    named.chain([rule_status(facts, 0, String::new())]).collect()
}

fn rule_status(facts: &Facts<'_>, number: usize, text: String) -> RuleStatus {
    let rule = facts.plan.config.rule(number);
    let table = (rule.enabled != 0).then_some(usize::from(rule.table));
    let mut status = RuleStatus { rule: text, table, ..RuleStatus::default() };
    for (reason, count) in facts.tally.of_rule(number) {
        match class(reason) {
            // Of rule 0 these are the most, and none of its business.
            Class::NotOurs | Class::Cluster => continue,
            Class::Passed => status.accepted.add(count),
            Class::LeftToOthers => status.left_to_others.add(count),
            Class::Refused => status.refused.add(count),
        }
        status.reasons.insert(reason.as_str().to_owned(), count);
    }
    status.dropped = status.left_to_others;
    status.dropped.add(status.refused);
    status
}

fn table_status(plan: &TablePlan, table: &BucketTable, sticking: u32) -> TableStatus {
    let letter = |bucket| match table.state(bucket) {
        BucketState::Other => '.',
        BucketState::Mine => 'm',
        BucketState::Arriving => 'a',
        BucketState::Departing => 'd',
    };
    TableStatus {
        filtering: match plan.spread.filtering {
            Filtering::Multiple => "multiple",
            Filtering::Single => "single",
            Filtering::Disabled => "disabled",
        }
        .to_owned(),
        ports: plan.rules.join(", "),
        sticky_seconds: plan.spread.stickiness.map_or(0, |stickiness| stickiness.timeout.as_secs()),
        sticking,
        mine: count(table, BucketState::Mine),
        arriving: count(table, BucketState::Arriving),
        departing: count(table, BucketState::Departing),
        intent: String::new(),
        service: None,
        states: Bucket::all().map(letter).collect(),
    }
}

fn count(table: &BucketTable, state: BucketState) -> u32 {
    Bucket::all().map(|bucket| u32::from(table.state(bucket) == state)).sum()
}

#[cfg(test)]
mod tests {
    use lb_common::verdict::Reason;

    use super::super::{explain, holders::tests};
    use super::*;

    /// As of the snapshot, without a proxy; `counted`: by rule, why a packet of 100 bytes met its fate.
    fn of(config: &Config, plan: &Plan, snapshot: &Snapshot, counted: &[(usize, Reason)]) -> Status {
        status(Facts {
            config,
            plan,
            snapshot,
            interface: InterfaceStatus::default(),
            tally: Tally::of(3, counted),
            proxy: None,
            services: &[],
            connections: 0,
            certificates: Vec::new(),
            events: Vec::new(),
            now: snapshot.at,
            pid: 1,
        })
    }

    #[test]
    fn the_status_tells_what_each_rule_passed_and_left_to_others() {
        let config = explain::tests::config();
        let plan = Plan::new(&config, [7, 9]);
        let counted = [
            (0, Reason::Echo),
            (0, Reason::OtherAddress),
            (2, Reason::NewMine),
            (2, Reason::Mine),
            (2, Reason::Other),
            (2, Reason::NoSocket),
            (2, Reason::NewNoLease),
        ];
        let mut snapshot = tests::snapshot(vec![BucketTable::filled(BucketState::Mine); plan.tables.len()]);
        snapshot.peers = vec![PeerSnapshot {
            traffic: Traffic { packets: 9, bytes: 900, connections: 2 },
            generations: Generations { current: 0x00c0_ffee << 32, candidate: 0 },
            health: crate::cluster::wire::Health { deaf: true, ..Default::default() },
            ..tests::peer(2, plan.tables.len(), &[], &[])
        }];
        let status = of(&config, &plan, &snapshot, &counted);
        let packets = |rule: &RuleStatus| {
            [rule.accepted, rule.dropped, rule.left_to_others, rule.refused].map(|count| count.packets)
        };
        let rules: Vec<_> = status.rules.iter().map(|rule| (rule.rule.as_str(), packets(rule))).collect();
        // In the order of their ports.
        assert_eq!(rules, [("udp 53", [0; 4]), ("tcp 443", [2, 3, 2, 1]), ("", [1, 0, 0, 0])]);
        assert_eq!(status.rules[1].reasons["no-socket"], Count { packets: 1, bytes: 100 });
        assert!(!status.rules[2].reasons.contains_key("other-address"));
        let passed: Vec<_> = status.nodes.iter().map(|node| node.passed.unwrap().packets).collect();
        assert_eq!(passed, [3, 9]);
        assert!(status.nodes[1].deaf);
        let generations: Vec<_> = status.nodes.iter().map(|node| node.generation.as_deref()).collect();
        assert_eq!(generations, [None, Some("00c0ffee00000000")]);
        assert_eq!(status.nodes[1].candidate, None);
    }

    #[test]
    fn heartbeats_are_told_of_when_there_is_something_to_say() {
        use crate::cluster::node::RefusedCounts as Refused;
        use crate::cluster::peer::Path;
        let config = explain::tests::config();
        let plan = Plan::new(&config, [7, 9]);
        let none = Refused::default();
        let ms = Duration::from_millis;
        type Row<'a> = (&'a str, (Duration, u64), Option<Path>, Refused, &'a [&'a str]);
        let rows: [Row<'_>; 6] = [
            ("all is well", (ms(3), 0), None, Refused { unproven: 9, ..none }, &[]),
            ("a late round", (ms(48), 0), None, none, &["went out 48 ms late, and a period is 20 ms"]),
            ("a wrong suspicion", (ms(0), 2), None, none, &["nodes that lived were suspected 2 times"]),
            ("one path", (ms(0), 0), Some(Path::First), none, &["is not heard through the cluster NIC"]),
            ("the other", (ms(0), 0), Some(Path::Second), none, &["is not heard on the second path"]),
            (
                "refused",
                (ms(0), 0),
                None,
                Refused { forged: 3, replay: 12, other_version: 1, ..none },
                &["started: 1 of another protocol version, 3 sealed with another secret, 12 heard before"],
            ),
        ];
        for (what, (late, wrongly_suspected), lost_path, refused, expected) in rows {
            let tables = vec![BucketTable::filled(BucketState::Mine); plan.tables.len()];
            let mut snapshot = Snapshot { late, wrongly_suspected, refused, ..tests::snapshot(tables) };
            snapshot.peers = vec![PeerSnapshot { lost_path, ..tests::peer(2, plan.tables.len(), &[], &[]) }];
            let status = of(&config, &plan, &snapshot, &[]);
            let remarks = &status.heartbeats.remarks;
            assert_eq!(remarks.len(), expected.len(), "{what}: {remarks:?}");
            let said = remarks.iter().zip(expected).all(|(remark, text)| remark.contains(text));
            assert!(said, "{what}: {remarks:?}");
            assert_eq!(status.heartbeats.refused["forged"], refused.forged, "{what}");
            assert_eq!(status.nodes[1].lost_path.is_some(), lost_path.is_some(), "{what}");
        }
    }

    #[test]
    fn a_lease_counts_as_of_the_snapshot_unless_that_is_stale() {
        let at = Time::from_nanos(1_000_000_000);
        let ms = Duration::from_millis;
        let snapshot = |lease: Option<Duration>| Snapshot {
            lease: lease.map(|left| at + left),
            ..tests::snapshot(Vec::new())
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
