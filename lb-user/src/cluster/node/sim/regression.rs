//! Holes that seeds found, each as the shortest way into it.

use super::*;

impl Sim {
    /// Frames are so fast that what is bounded takes as long as it says.
    fn on_a_fast_network(mut self) -> Self {
        self.network.most = MS / 5;
        self.bounds = Bounds::of(&self.setup, self.network.most);
        self
    }

    fn filter(&mut self, from: usize, to: usize) {
        self.change_network("heartbeats are filtered".to_owned(), |network| {
            network.ways[from][to].filtered = true;
        });
    }
}

/// Seeds 1678 and 2990. All probes met a host that stood still, and it woke with a lease.
#[test]
fn a_host_that_stands_still_behind_a_filter_is_not_taken_over_before_its_lease_ends() {
    for before in (20..100).step_by(2) {
        let mut sim = Sim::converged(2, before);
        sim.filter(1, 0);
        sim.run(MS * u32::try_from(before).unwrap());
        sim.freeze(1, MS * 62, false);
        sim.run(Duration::from_secs(1));
        sim.check_complete();
    }
}

/// Seeds 39, 768 and 1585. Half the share was given to the node that stopped, which so never did.
#[test]
fn a_node_that_drains_takes_the_share_of_one_that_stops() {
    let mut sim = Sim::converged(2, 1);
    sim.wish(0, 0, Wish::Drain { table: None });
    sim.run(MS * 100);
    sim.wish(1, 1, Wish::Stop { table: None });
    sim.run(MS * 50);
    assert_eq!(sim.hosts[0].accepts, [BucketSet::FULL, BucketSet::FULL], "{}", sim.views());
    sim.run(Duration::from_secs(1));
    assert_eq!(sim.hosts[1].node().unwrap().phase, Phase::Stopped);
    sim.check_complete();
}

/// Seed 2932. It went on as a node that stops, without a lease, and later served without one.
#[test]
fn a_node_that_loses_its_cable_while_it_stops_has_stopped_and_can_start_again() {
    let mut sim = Sim::converged(2, 2);
    sim.connect(40);
    sim.wish(1, 1, Wish::Stop { table: None });
    sim.run(MS * 10);
    sim.cable(1, false);
    sim.run(MS * 20);
    sim.cable(1, true);
    assert_eq!(sim.hosts[1].node().unwrap().phase, Phase::Stopped);
    sim.wish(1, 1, Wish::Resume);
    sim.run(Duration::from_secs(1));
    assert!(sim.hosts[1].lease_lives(sim.now), "{}", sim.views());
    assert!(!sim.hosts[1].accepts[1].is_empty(), "{}", sim.views());
    sim.check_complete();
}

/// Seed 1866. A node that joined others beside a silent one showed its lease first, while nobody took what it should have.
#[test]
fn a_node_that_joins_others_beside_a_silent_one_takes_its_share_at_once() {
    for seed in 0..20 {
        let mut sim = Sim::converged(4, seed).on_a_fast_network();
        let lost = sim.hosts[0].priority;
        sim.cable(0, false);
        while sim.hosts[1].node().unwrap().peers[&lost].standing != Standing::Suspect {
            sim.run(MS / 10);
        }
        sim.kill_agent(2);
        sim.run(MS);
        sim.cable(0, true);
        sim.run(sim.bounds.converge);
        sim.check_complete();
    }
}

/// Seed 53. It waited out the lease of one that had just died, and then as for one that might begin as well.
#[test]
fn a_node_that_begins_beside_one_that_has_just_died_takes_its_share_in_time() {
    for late in 0..20 {
        let mut sim = Sim::converged(2, 3).on_a_fast_network();
        sim.cable(1, false);
        sim.run(Duration::from_secs(2) + MS * late);
        sim.cable(1, true);
        sim.kill_agent(0);
        sim.run(sim.bounds.converge);
        sim.check_complete();
    }
}

/// Seed 1963. It had slept through the goodbye of another and through that one's new start, and read the goodbye on waking.
#[test]
fn a_goodbye_that_came_before_a_node_began_again_is_not_believed() {
    let mut sim = Sim::converged(2, 4);
    sim.pause(1, MS * 1300);
    sim.run(MS * 100);
    sim.filter(1, 0);
    sim.run(MS * 500);
    sim.begin_to_end(0);
    sim.run(Duration::from_secs(2));
    sim.check_complete();
}

/// Seed 5139. Two tables had one name, and who followed the older one agreed to the other.
#[test]
fn a_default_host_that_began_anew_gives_its_tables_other_names() {
    let mut sim = Sim::converged(3, 5);
    let before = sim.hosts[0].node().unwrap().table_id();
    for _ in 0..6 {
        sim.freeze(2, MS * 400, true);
        sim.start(0);
        sim.run(MS * 380);
        let now = sim.hosts[0].node().unwrap().table_id();
        assert!(now.epoch > 0 && now.incarnation != before.incarnation, "{now:?} after {before:?}");
        sim.run(Duration::from_secs(1));
        sim.check_complete();
    }
}
