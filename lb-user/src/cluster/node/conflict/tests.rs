//! What two that use one thing, and what cannot be believed, make of a node: one step after the other, without a network.

use super::*;
use crate::config::model::Filtering;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const START: Time = Time::from_nanos(1_000_000_000_000);
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 99];
const TIMING: Timing = Timing { period: Duration::from_millis(20), multiplier: 5 };

fn peer(number: u8) -> Priority {
    Priority::new(number).unwrap()
}

/// Node 1 of two, the other of which is silent, at a gateway that answers.
struct Host {
    node: Node,
    now: Time,
    events: Vec<(u64, Event)>,
    /// In which milliseconds it asked who has its addresses.
    asked: Vec<u64>,
}

impl Host {
    fn new() -> Self {
        let settings = Settings {
            me: peer(1),
            weight: 50,
            mac: [2, 0, 0, 0, 0, 1],
            peers: vec![peer(2)],
            timing: TIMING,
            tables: vec![Spread::plain(Filtering::Multiple)],
            lease_margin: MS * 6,
            facts: 1,
            gateway: true,
            second_path: false,
            ready: vec![true],
            failback: Failback::Immediate,
            hold_down: Duration::ZERO,
            ramp: Duration::ZERO,
            mandate: Mandate::default(),
            incarnation: 1,
        };
        Self { node: Node::new(settings, START), now: START, events: Vec::new(), asked: Vec::new() }
    }

    fn serving() -> Self {
        let mut host = Self::new();
        host.run(S);
        assert_eq!(host.node.phase, Phase::Serving);
        host.events.clear();
        host.asked.clear();
        host
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + MS;
            self.node.handle_timeout(self.now);
            self.carry_out();
        }
    }

    fn carry_out(&mut self) {
        let ms = u64::try_from(self.now.since(START).as_millis()).unwrap();
        while let Some(command) = self.node.next_command() {
            match command {
                Command::EndRound { lease } => self.node.handle_round(lease, None),
                Command::AskGateway => self.node.handle_gateway(self.now),
                Command::AskAddresses => self.asked.push(ms),
                Command::Report(event) => self.events.push((ms, event)),
                Command::Apply(_)
                | Command::Send { .. }
                | Command::EndLease
                | Command::Ask { .. }
                | Command::Scan
                | Command::FindIdle
                | Command::Switched(_)
                | Command::Keep(_)
                | Command::Wished { .. }
                | Command::Restart
                | Command::Prepared
                | Command::HandedOver => {}
            }
        }
    }

    fn tell(&mut self, tell: impl FnOnce(&mut Node, Time)) {
        tell(&mut self.node, self.now);
        self.carry_out();
    }

    fn count(&self, wanted: &Event) -> usize {
        self.events.iter().filter(|(_, event)| event == wanted).count()
    }

    /// After how many milliseconds it serves, if it does within `time`.
    fn serves_within(&mut self, time: Duration) -> Option<u64> {
        self.run(time);
        self.events.iter().find(|(_, event)| *event == Event::Serving).map(|(ms, _)| *ms)
    }
}

#[test]
fn a_starting_node_asks_three_times_who_has_its_addresses_before_it_serves() {
    let mut host = Host::new();
    let serves = host.serves_within(S).unwrap();
    assert_eq!(host.asked, [1, 21, 41]);
    assert!(serves >= 61, "{serves}");
    host.run(S * 95);
    assert_eq!(host.asked.len(), 6, "then as the default host every 30 s: {:?}", host.asked);
}

#[test]
fn what_another_machine_claims_keeps_a_starting_node_out_for_ten_seconds_after_the_last_sign() {
    for (conflict, told) in [
        (Conflict::OwnAddress { mac: OTHER }, Event::OwnAddressTaken { mac: OTHER }),
        (Conflict::ClusterIp { mac: OTHER }, Event::ClusterIpTaken { mac: OTHER }),
    ] {
        let mut host = Host::new();
        for _ in 0..3 {
            host.tell(|node, now| node.handle_conflict(conflict, OTHER, now));
            assert_eq!(host.serves_within(S * 5), None, "{told:?}");
        }
        assert_eq!(host.node.snapshot(host.now).waiting, Some(told.clone()));
        assert_eq!(host.count(&told), 1);
        let serves = host.serves_within(S * 6).unwrap();
        assert!((20_000..=20_100).contains(&serves), "{told:?}: {serves}");
    }
}

#[test]
fn a_serving_node_goes_on_and_tells_the_operator_once_a_minute() {
    for (conflict, told) in [
        (Conflict::OwnAddress { mac: OTHER }, Event::OwnAddressTaken { mac: OTHER }),
        (Conflict::ClusterIp { mac: OTHER }, Event::ClusterIpTaken { mac: OTHER }),
    ] {
        let mut host = Host::serving();
        for _ in 0..13 {
            host.tell(|node, now| node.handle_conflict(conflict, OTHER, now));
            host.run(S * 10);
        }
        assert_eq!((host.node.phase, host.count(&told)), (Phase::Serving, 3));
        assert_eq!(host.node.snapshot(host.now).problem, Some(told));
        host.run(SHOWN);
        assert_eq!(host.node.snapshot(host.now).problem, None);
    }
}

#[test]
fn a_peer_with_another_cluster_mac_is_no_foreign_machine() {
    let mut host = Host::new();
    host.tell(|node, now| node.handle_answer(Answer::Kernel { node: peer(2), mac: OTHER }, now));
    host.tell(|node, now| node.handle_conflict(Conflict::ClusterIp { mac: [3; 6] }, OTHER, now));
    assert_eq!(host.node.conflicts.keeps_out(host.now), None);
}

#[test]
fn a_newcomer_stays_out_for_as_long_as_it_is_refused() {
    let taken = Event::PriorityTaken { by: peer(2) };
    let mut host = Host::new();
    for _ in 0..8 {
        host.tell(|node, now| node.handle_refusal(peer(2), Refusal::PriorityTaken, now));
        assert_eq!(host.serves_within(S), None);
    }
    assert_eq!(host.node.snapshot(host.now).waiting, Some(taken.clone()));
    let serves = host.serves_within(S * 6).unwrap();
    assert!((12_000..=12_100).contains(&serves), "{serves}");
    host.tell(|node, now| node.handle_refusal(peer(2), Refusal::PriorityTaken, now));
    host.run(S);
    assert_eq!((host.node.phase, host.count(&taken)), (Phase::Serving, 1), "who serves was there before");
}

#[test]
fn a_node_that_waits_for_a_peer_names_what_is_wrong_with_its_datagrams() {
    let rows = [
        (Refused::Forged(peer(2)), Event::OtherSecret(peer(2))),
        (Refused::Malformed(Malformed::Version(9)), Event::OtherVersion(9)),
        (Refused::OwnPriority, Event::OwnPriority),
        (Refused::Malformed(Malformed::Truncated), Event::WaitingFor(peer(2))),
    ];
    for (refused, reason) in rows {
        let mut host = Host::new();
        // Its data path answers, so it is not silent.
        host.tell(|node, now| node.handle_answer(Answer::Kernel { node: peer(2), mac: OTHER }, now));
        for _ in 0..100 {
            host.tell(|node, now| node.handle_answer(Answer::Lease { mac: OTHER }, now));
            host.tell(|node, now| node.handle_refused(refused, Some(peer(2)), now));
            host.run(MS * 20);
        }
        assert_eq!(host.node.phase, Phase::Starting);
        assert_eq!(host.node.snapshot(host.now).waiting, Some(reason), "{refused:?}");
    }
}

#[test]
fn what_anybody_can_forge_keeps_nobody_out() {
    for refused in [Refused::Forged(peer(2)), Refused::Malformed(Malformed::Version(9)), Refused::OwnPriority]
    {
        let mut host = Host::new();
        for _ in 0..50 {
            host.tell(|node, now| node.handle_refused(refused, Some(peer(2)), now));
            host.run(MS * 20);
        }
        assert_eq!(host.node.phase, Phase::Serving, "{refused:?}");
    }
}

#[test]
fn a_second_node_with_a_peers_priority_is_told_once_a_minute_and_shown() {
    let mut host = Host::serving();
    for _ in 0..61 {
        host.tell(|node, now| node.handle_duplicate(peer(2), now));
        host.run(S);
    }
    assert_eq!(host.count(&Event::Duplicate(peer(2))), 2);
    let snapshot = host.node.snapshot(host.now);
    assert_eq!(snapshot.problem, Some(Event::Duplicate(peer(2))));
    assert_eq!(snapshot.refused.duplicate, 61);
}

#[test]
fn hostile_datagrams_are_counted_by_kind_and_fill_no_log() {
    let mut host = Host::serving();
    let kinds = [
        Refused::Malformed(Malformed::NotOurs),
        Refused::Malformed(Malformed::Field("priority")),
        Refused::Malformed(Malformed::Version(1)),
        Refused::Malformed(Malformed::Version(2)),
        Refused::Stranger,
        Refused::Forged(peer(2)),
        Refused::OwnPriority,
        Refused::Replay,
        Refused::Overtaken(peer(2)),
        Refused::Unproven(peer(2)),
    ];
    for _ in 0..1000 {
        for kind in kinds {
            host.tell(|node, now| node.handle_refused(kind, Some(peer(2)), now));
        }
    }
    let expected = RefusedCounts {
        malformed: 2000,
        other_version: 2000,
        stranger: 1000,
        forged: 1000,
        own_priority: 1000,
        duplicate: 0,
        replay: 1000,
        unproven: 1000,
    };
    assert_eq!(host.node.snapshot(host.now).refused, expected);
    let told: Vec<&Event> = host.events.iter().map(|(_, event)| event).collect();
    assert_eq!(told, [&Event::OtherVersion(1), &Event::OtherSecret(peer(2)), &Event::OwnPriority]);
}
