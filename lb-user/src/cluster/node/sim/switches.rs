//! Single rules of configurations that change while the cluster runs, without chance.

use lb_common::table::BUCKETS;

use super::*;

fn node(number: u8) -> Priority {
    Priority::new(number).unwrap()
}

impl Sim {
    /// A cluster that has converged, of the first `members` of `count` hosts.
    fn of_members(count: u8, members: u8, seed: u64) -> Self {
        let mut sim = Self::usual(count, seed);
        let first = sim.configurations.get_mut(&1).unwrap();
        first.members.retain(|member| member.number() <= members);
        sim.schedule(sim.now, Happening::Look);
        sim.converge()
    }

    fn facts(&self) -> Vec<u64> {
        self.hosts.iter().map(|host| host.node().map_or(0, |node| node.settings.facts)).collect()
    }

    fn preparation(&self, host: usize) -> Option<Preparation> {
        self.hosts[host].node().unwrap().preparation(self.hosts[host].clock.at(self.now))
    }

    /// How much of the second table each host accepts.
    fn shares(&self) -> Vec<usize> {
        self.hosts.iter().map(|host| host.accepts[1].len()).collect()
    }

    /// Long enough for a switch, and what follows of it, to be over.
    fn settle(&mut self) {
        self.run(self.bounds.converge + MS * 700);
        self.check_complete();
    }

    fn accepted(&self) -> Vec<Vec<BucketSet>> {
        self.hosts.iter().map(|host| host.accepts.clone()).collect()
    }

    fn heard(&self, host: usize, event: &Event) -> bool {
        self.hosts[host].events.contains(event)
    }
}

#[test]
fn all_switch_within_a_round_trip_once_the_last_has_prepared_and_one_is_told() {
    let mut sim = Sim::of_members(3, 3, 1);
    let facts = sim.write(|next| next.weights.extend([(node(2), 50)]));
    sim.prepare(0, facts);
    sim.prepare(1, facts);
    sim.switch(0, facts);
    sim.run(MS * 500);
    assert_eq!(sim.facts(), [1, 1, 1]);
    let waits = Preparation { facts, wanted: true, awaited: vec![node(3)], leaving: Vec::new() };
    assert_eq!(sim.preparation(0), Some(waits));
    sim.prepare(2, facts);
    sim.run(sim.network.most * 2 + MS * 3);
    assert_eq!(sim.facts(), [facts; 3]);
    let since: Vec<u64> = sim.hosts.iter().map(|host| host.node().unwrap().facts.since).collect();
    assert!(since[0] > 0 && since == [since[0]; 3], "at one epoch: {since:?}");
    assert!((0..3).all(|host| sim.preparation(host).is_none()));
    sim.settle();
}

#[test]
fn a_node_is_added_while_the_others_serve() {
    for starts_first in [false, true] {
        let mut sim = Sim::of_members(3, 2, 2);
        assert_eq!(sim.shares(), [BUCKETS / 2, BUCKETS / 2, 0]);
        let facts = sim.write(|next| next.members.extend([node(3)]));
        sim.hosts[2].facts = facts;
        if starts_first {
            sim.start(2);
            sim.run(Duration::from_secs(1));
            assert_eq!(sim.hosts[2].node().unwrap().phase, Phase::Starting);
            assert!(sim.heard(2, &Event::NotConfigured { by: node(1) }), "{}", sim.views());
        }
        sim.prepare_all(facts);
        sim.switch(1, facts);
        sim.settle();
        if !starts_first {
            sim.start(2);
        }
        sim.settle();
        assert_eq!(sim.facts(), [facts; 3]);
        assert!(sim.shares().iter().all(|share| share.abs_diff(BUCKETS / 3) <= 1), "{:?}", sim.shares());
    }
}

#[test]
fn a_removed_node_hands_its_share_over_first_and_is_a_stranger_then() {
    let mut sim = Sim::of_members(3, 3, 3);
    sim.connect(60);
    let facts = sim.write(|next| next.members.retain(|member| *member != node(1)));
    sim.prepare_all(facts);
    sim.switch(2, facts);
    sim.run(MS * 60);
    assert_eq!(sim.facts(), [1; 3], "it ends its connections before the others forget it");
    sim.check_complete();
    assert_eq!(sim.shares(), [0, BUCKETS / 2, BUCKETS / 2]);
    sim.settle();
    assert_eq!(sim.facts(), [1, facts, facts]);
    assert!(sim.heard(0, &Event::Removed(true)));
    assert!(!sim.hosts[1].node().unwrap().peers.contains_key(&node(1)));
    // Its agent is started anew with what it had.
    sim.start(0);
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.hosts[0].node().unwrap().phase, Phase::Starting);
    assert!(sim.heard(0, &Event::NotConfigured { by: node(2) }), "{}", sim.views());
    assert_eq!(sim.shares()[0], 0);
}

#[test]
fn a_removed_node_that_slept_through_it_gives_up_what_it_held() {
    let mut sim = Sim::of_members(3, 3, 4);
    sim.freeze(0, Duration::from_secs(6), true);
    sim.run(Duration::from_secs(2));
    let facts = sim.write(|next| next.members.retain(|member| *member != node(1)));
    sim.prepare_all(facts);
    sim.switch(2, facts);
    sim.run(Duration::from_secs(1));
    assert_eq!(sim.facts()[1..], [facts, facts]);
    // It wakes with a lease, by a clock that stood still, and nobody speaks to it any more.
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.shares()[0], 0, "{}", sim.views());
    assert_eq!(sim.hosts[0].node().unwrap().phase, Phase::Starting);
    sim.check_complete();
}

#[test]
fn a_removal_that_is_withdrawn_in_time_brings_the_node_back() {
    let mut sim = Sim::of_members(3, 3, 5);
    let facts = sim.write(|next| next.members.retain(|member| *member != node(3)));
    sim.prepare_all(facts);
    sim.switch(0, facts);
    sim.run(MS * 200);
    assert_eq!(sim.hosts[2].node().unwrap().phase, Phase::Stopping);
    sim.withdraw(0);
    sim.settle();
    assert_eq!(sim.facts(), [1; 3]);
    assert!(sim.shares()[2].abs_diff(BUCKETS / 3) <= 1, "{:?}", sim.shares());
    assert!(sim.heard(2, &Event::Removed(false)));
}

#[test]
fn weights_that_change_on_all_move_nothing_there_and_back() {
    let mut sim = Sim::of_members(2, 2, 6);
    let before = sim.accepted();
    let facts = sim.write(|next| next.weights = [(node(1), 100), (node(2), 100)].into());
    sim.prepare_all(facts);
    sim.switch(0, facts);
    for _ in 0..300 {
        sim.run(MS);
        assert_eq!(sim.accepted(), before, "the proportion is the same");
    }
    assert_eq!(sim.facts(), [facts; 2]);
    let facts = sim.write(|next| next.weights = [(node(1), 30), (node(2), 10)].into());
    sim.prepare_all(facts);
    sim.switch(1, facts);
    sim.settle();
    assert_eq!(sim.shares(), [BUCKETS * 3 / 4, BUCKETS / 4]);
}

#[test]
fn what_was_withdrawn_is_not_switched_to_unless_it_was_already() {
    let mut sim = Sim::of_members(2, 2, 7);
    let facts = sim.write(|_| {});
    sim.prepare_all(facts);
    sim.withdraw(1);
    sim.run(MS * 50);
    sim.switch(0, facts);
    sim.settle();
    assert_eq!(sim.facts(), [1, 1]);
    assert_eq!(sim.preparation(0).unwrap().awaited, [node(2)]);
    // The first has switched before it hears that the second no longer wants to.
    sim.prepare(1, facts);
    sim.withdraw(0);
    sim.prepare(0, facts);
    sim.run(MS * 50);
    sim.withdraw(1);
    sim.switch(0, facts);
    sim.settle();
    assert_eq!(sim.facts(), [facts, facts]);
    sim.check_complete();
}

#[test]
fn what_was_withdrawn_long_ago_is_unknown() {
    let mut sim = Sim::of_members(2, 2, 8);
    let facts = sim.write(|_| {});
    sim.prepare(0, facts);
    sim.withdraw(0);
    let known = |sim: &Sim| sim.hosts[0].node().unwrap().facts.digests();
    assert_eq!(known(&sim), [facts]);
    sim.run(Duration::from_secs(11));
    assert_eq!(known(&sim), [0; 0]);
}

#[test]
fn two_switches_one_after_the_other_end_with_the_second() {
    for between in 0..20 {
        let mut sim = Sim::of_members(3, 3, 9 + between);
        let first = sim.write(|next| next.weights.extend([(node(1), 10)]));
        sim.prepare_all(first);
        sim.switch(0, first);
        sim.run(Duration::from_micros(between * 400));
        let second = sim.write(|next| next.weights.extend([(node(1), 90)]));
        sim.prepare_all(second);
        sim.switch(2, second);
        sim.settle();
        assert_eq!(sim.facts(), [second; 3]);
    }
}

#[test]
fn a_node_that_sleeps_through_the_switch_catches_up() {
    for (asleep, seed) in [(MS * 60, 10), (MS * 400, 11), (Duration::from_secs(4), 12)] {
        let mut sim = Sim::of_members(4, 3, seed);
        let facts = sim.write(|next| next.members.extend([node(4)]));
        sim.prepare_all(facts);
        sim.run(MS * 30);
        sim.pause(1, asleep);
        sim.run(MS * 10);
        sim.switch(0, facts);
        sim.hosts[3].facts = facts;
        sim.start(3);
        sim.run(asleep);
        sim.settle();
        assert_eq!(sim.facts(), [facts; 4], "{}", sim.views());
        assert!(sim.shares().iter().all(|share| *share == BUCKETS / 4), "{:?}", sim.shares());
    }
}

#[test]
fn whoever_dies_in_mid_switch_the_others_end_alike() {
    for dies in 0..3 {
        for after in 0..16 {
            let mut sim = Sim::of_members(3, 3, 100 + after);
            let facts = sim.write(|next| next.weights.extend([(node(2), 20)]));
            sim.prepare_all(facts);
            sim.run(MS * 30);
            sim.switch(0, facts);
            sim.run(Duration::from_micros(after * 500));
            sim.power_off(dies);
            // What the survivors' operators, or agents, say again.
            (0..3).for_each(|host| sim.switch(host, facts));
            sim.settle();
            let living: BTreeSet<u64> = sim.facts().into_iter().filter(|facts| *facts != 0).collect();
            assert_eq!(living, [facts].into());
            sim.hosts[dies].facts = facts;
            sim.power_on(dies);
            sim.settle();
            assert_eq!(sim.facts(), [facts; 3]);
        }
    }
}

#[test]
fn halves_that_come_together_go_by_what_one_has_switched_to_if_the_other_knows_it() {
    let mut sim = Sim::of_members(4, 4, 13);
    let facts = sim.write(|_| {});
    sim.prepare_all(facts);
    sim.run(MS * 30);
    sim.change_network("parted".to_owned(), |network| network.part = vec![0, 0, 1, 1]);
    sim.run(Duration::from_secs(1));
    sim.switch(3, facts);
    sim.run(Duration::from_secs(1));
    assert_eq!(sim.facts(), [1, 1, facts, facts]);
    sim.change_network("healed".to_owned(), Network::heal);
    sim.settle();
    assert_eq!(sim.facts(), [facts; 4]);
    assert_eq!(sim.shares(), [BUCKETS / 4; 4]);
}

#[test]
fn who_has_prepared_nothing_stays_out_when_it_comes_back() {
    let mut sim = Sim::of_members(2, 2, 14);
    sim.power_off(1);
    sim.run(Duration::from_secs(2));
    let facts = sim.write(|_| {});
    sim.prepare(0, facts);
    sim.switch(0, facts);
    sim.run(MS * 50);
    sim.power_on(1);
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.facts(), [facts, 1]);
    assert_eq!(sim.shares(), [BUCKETS, 0]);
    // It prepares the same, and follows those who serve without being told.
    sim.prepare(1, facts);
    sim.settle();
    assert_eq!(sim.shares(), [BUCKETS / 2; 2]);
}

#[test]
fn other_heartbeats_come_into_force_without_a_gap_and_count_for_the_next_death() {
    let slow = Setup::usual().timing;
    let fast = Timing { period: MS * 10, multiplier: 5 };
    let much_slower = Timing { period: MS * 100, multiplier: 5 };
    let mut sim = Sim::of_members(3, 3, 15);
    for timing in [fast, slow, much_slower, fast, much_slower, slow] {
        let facts = sim.write(|next| next.timing = timing);
        sim.prepare_all(facts);
        sim.switch(0, facts);
        sim.run(MS * 700);
        assert_eq!(sim.facts(), [facts; 3]);
        for host in &sim.hosts {
            let node = host.node().unwrap();
            assert_eq!((node.facts.announced(), node.facts.lease_by()), (timing, timing));
            assert!(
                !host
                    .events
                    .iter()
                    .any(|event| matches!(event, Event::Suspect(_) | Event::LeaseLapsed { .. }))
            );
        }
        sim.check_complete();
    }
    let facts = sim.write(|next| next.timing = fast);
    sim.prepare_all(facts);
    sim.switch(1, facts);
    sim.run(MS * 300);
    sim.power_off(0);
    sim.run(fast.suspect() + MS * 30);
    sim.check_complete();
}

#[test]
fn a_lone_node_switches_at_once() {
    let mut sim = Sim::of_members(2, 1, 16);
    let facts = sim.write(|next| next.members.extend([node(2)]));
    sim.prepare(0, facts);
    sim.switch(0, facts);
    assert_eq!(sim.facts(), [facts, 0]);
    sim.settle();
    assert_eq!(sim.shares(), [BUCKETS, 0]);
}

#[test]
fn settings_of_another_node_or_with_other_tables_are_refused() {
    let mut sim = Sim::of_members(2, 2, 17);
    let settings = sim.settings(0, 1);
    let now = sim.now;
    let refused = |sim: &mut Sim, change: fn(&mut Settings)| {
        let mut settings = settings.clone();
        settings.facts = 9;
        change(&mut settings);
        let node = &mut sim.hosts[0].agent.as_mut().unwrap().node;
        node.handle_prepare(settings, now)
    };
    assert_eq!(refused(&mut sim, |next| next.me = node(2)), Err(Unfit::Node));
    assert_eq!(refused(&mut sim, |next| drop(next.tables.pop())), Err(Unfit::Tables));
    assert_eq!(refused(&mut sim, |_| {}), Ok(()));
}
