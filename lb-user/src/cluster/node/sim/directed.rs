//! Single rules, without chance.

use lb_common::table::BUCKETS;

use super::super::beat::PARTS_A_ROUND;
use super::*;

const DRAIN: Wish = Wish::Drain { table: None };

/// How many buckets are a fair share of so many nodes.
fn fair(nodes: usize) -> std::ops::RangeInclusive<usize> {
    BUCKETS / nodes..=BUCKETS.div_ceil(nodes)
}

fn arrived_at(now: Time) -> Arrived {
    Arrived { at: now, path: Path::First }
}

impl Sim {
    pub(super) fn usual(count: u8, seed: u64) -> Self {
        let mut sim = Self::new(count, seed, Setup::usual());
        sim.log = Some(Vec::new());
        sim.watch.keeps_events = true;
        sim
    }

    /// A cluster that has converged.
    pub(super) fn converged(count: u8, seed: u64) -> Self {
        Self::usual(count, seed).converge()
    }

    /// One whose second table is sticky, and in which every bucket is busy.
    fn sticky(count: u8, seed: u64) -> Self {
        let mut sim = Self::usual(count, seed);
        sim.setup.tables[1].stickiness = Some(STICKINESS);
        let mut sim = sim.converge();
        sim.check_balanced();
        sim.busy = BucketSet::FULL;
        sim
    }

    /// One that tests its hearing.
    fn hearing(count: u8, seed: u64) -> Self {
        let mut sim = Self::converged(count, seed);
        sim.hearing = true;
        sim.schedule(sim.now, Happening::Hearing);
        sim.run(Duration::from_secs(6));
        sim
    }

    pub(super) fn converge(mut self) -> Self {
        (0..self.hosts.len()).for_each(|host| self.start(host));
        self.run(Duration::from_secs(4));
        self.check_complete();
        self
    }

    fn node_mut(&mut self, host: usize) -> &mut Node {
        &mut self.hosts[host].agent.as_mut().unwrap().node
    }

    /// Who accepts new connections of `bucket` in owner table `table`.
    fn acceptors(&self, table: usize, bucket: Bucket) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].accepts[table].contains(bucket)).collect()
    }

    /// Every bucket has an acceptor; that none has two is checked all the time.
    pub(super) fn check_complete(&self) {
        for (table, missing) in self.watch.missing.iter().enumerate() {
            if !missing.is_empty() {
                self.fail(&format!("{} buckets of table {table} have no acceptor", missing.len()));
            }
        }
    }

    /// Every node accepts its share of the second table, and the first that of the first.
    fn check_balanced(&self) {
        for host in 0..self.hosts.len() {
            assert!(fair(self.hosts.len()).contains(&self.share(host)), "{}", self.views());
        }
        assert_eq!(self.acceptors(0, Bucket::new(5).unwrap()), [0]);
    }

    fn count(&self, host: usize, state: BucketState) -> usize {
        self.hosts[host].buckets(1, &[state]).len()
    }

    /// How many buckets of the second table `host` accepts.
    fn share(&self, host: usize) -> usize {
        self.hosts[host].accepts[1].len()
    }
}

#[test]
fn two_nodes_share_to_one_bucket_and_the_default_host_has_the_single_table() {
    let sim = Sim::converged(2, 1);
    assert_eq!(sim.count(0, BucketState::Mine), BUCKETS / 2);
    assert_eq!(sim.count(1, BucketState::Mine), BUCKETS / 2);
    assert_eq!(sim.acceptors(0, Bucket::new(5).unwrap()), [0]);
}

#[test]
fn a_dead_nodes_share_is_taken_over_within_the_suspect_time() {
    let mut sim = Sim::converged(2, 2);
    sim.power_off(1);
    sim.run(MS * 125);
    assert_eq!(sim.count(0, BucketState::Mine) + sim.count(0, BucketState::Arriving), BUCKETS);
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.count(0, BucketState::Mine), BUCKETS, "dead: nothing of it can live on");
}

#[test]
fn a_silent_agent_loses_its_share_but_not_its_connections() {
    let mut sim = Sim::converged(2, 3);
    sim.connect(60);
    sim.pause(0, Duration::from_secs(5));
    sim.run(MS * 4900);
    sim.check_complete();
    assert!(
        sim.count(1, BucketState::Arriving) >= BUCKETS / 2,
        "its kernel answers: its connections may live"
    );
    sim.run(Duration::from_secs(3));
    sim.check_complete();
    assert_eq!(sim.count(0, BucketState::Mine) + sim.count(0, BucketState::Arriving), BUCKETS / 2);
}

#[test]
fn a_drained_node_keeps_its_connections_and_gets_its_share_back() {
    let mut sim = Sim::converged(3, 4);
    sim.connect(60);
    sim.wish(1, 1, DRAIN);
    sim.run(MS * 100);
    sim.check_complete();
    assert_eq!(sim.count(1, BucketState::Mine) + sim.count(1, BucketState::Arriving), 0);
    sim.wish(1, 1, Wish::Resume);
    sim.run(MS * 100);
    sim.check_complete();
    let share = sim.count(1, BucketState::Mine) + sim.count(1, BucketState::Arriving);
    assert!(fair(3).contains(&share), "{share}");
}

#[test]
fn a_busy_bucket_moves_once_it_has_waited_long_enough_and_an_idle_one_before() {
    let mut sim = Sim::sticky(2, 20);
    sim.power_off(1);
    sim.run(Duration::from_secs(3));
    sim.hosts[0].finds = 0;
    assert_eq!(sim.share(0), BUCKETS);
    sim.power_on(1);
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.share(1), 0, "the joiner waits for the clients");
    assert_eq!(sim.acceptors(0, Bucket::new(5).unwrap()), [0], "the table that is not sticky does not");
    let sticking = |sim: &Sim| sim.hosts[0].node().unwrap().snapshot(sim.now).sticking;
    assert_eq!(sticking(&sim), [0, BUCKETS as u32 / 2]);
    // The upper half moves; of it every other bucket falls idle.
    sim.busy = Bucket::all().filter(|bucket| bucket.index() % 2 == 0).collect();
    sim.run(MS * 1100);
    assert_eq!(sim.share(1), BUCKETS / 4, "idle ones have moved");
    assert_eq!(sticking(&sim), [0, BUCKETS as u32 / 4]);
    sim.run(Duration::from_secs(3));
    sim.check_complete();
    assert_eq!(sim.share(1), BUCKETS / 2, "after max_hold the rest have, too");
    assert_eq!(sticking(&sim), [0, 0]);
    let finds = sim.hosts[0].finds;
    assert!((4..=6).contains(&finds), "asked {finds} times in about 5 s, at most once a second");
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.hosts[0].finds, finds, "nothing waits any more");
}

#[test]
fn a_dead_nodes_busy_buckets_move_at_once() {
    let mut sim = Sim::sticky(3, 21);
    assert!(fair(3).contains(&sim.share(1)));
    sim.power_off(1);
    sim.run(MS * 130);
    sim.check_complete();
    assert_eq!(sim.share(0) + sim.share(2), BUCKETS);
}

#[test]
fn a_drain_waits_for_sticky_clients_and_a_stop_or_a_failed_service_does_not() {
    let mut sim = Sim::sticky(2, 22);
    sim.wish(0, 0, DRAIN);
    sim.run(Duration::from_secs(4));
    assert_eq!(sim.share(0), BUCKETS / 2);
    sim.run(MS * 1100);
    assert_eq!(sim.share(0), 0, "for max_hold at most");

    let mut sim = Sim::sticky(2, 23);
    sim.wish(0, 0, DRAIN);
    sim.run(Duration::from_secs(1));
    sim.order(0, Order::Stop);
    sim.run(MS * 100);
    assert!(sim.hosts[0].handed_over);
    assert_eq!(sim.share(1), BUCKETS);

    let mut sim = Sim::sticky(2, 24);
    sim.tell(0, |node, now| node.handle_ready(&[false; 2], now));
    sim.run(MS * 100);
    assert_eq!(sim.share(1), BUCKETS);
}

#[test]
fn a_move_that_is_taken_back_begins_to_wait_anew() {
    let mut sim = Sim::sticky(2, 25);
    for _ in 0..4 {
        sim.wish(0, 0, DRAIN);
        sim.run(Duration::from_secs(3));
        sim.wish(0, 0, Wish::Resume);
        sim.run(MS * 500);
    }
    assert_eq!(sim.share(0), BUCKETS / 2);
}

#[test]
fn a_deaf_node_hands_its_share_over_and_gets_it_back() {
    let mut sim = Sim::hearing(2, 26);
    assert_eq!(sim.share(0), BUCKETS / 2);
    sim.hosts[0].deaf = true;
    sim.run(Duration::from_secs(7));
    sim.check_complete();
    assert_eq!(sim.share(0), 0);
    assert!(sim.hosts[0].events.contains(&Event::Deaf));
    let now = sim.now;
    let peer = &sim.hosts[1].node().unwrap().snapshot(now).peers[0];
    assert!(peer.health.deaf && peer.wants.iter().all(|want| !want.ready));
    sim.hosts[0].deaf = false;
    sim.run(Duration::from_secs(6));
    sim.check_complete();
    assert_eq!(sim.share(0), BUCKETS / 2);
    assert!(sim.hosts[0].events.contains(&Event::Hears));
}

#[test]
fn where_no_test_arrives_nothing_moves_and_the_operator_is_told() {
    let mut sim = Sim::hearing(3, 27);
    sim.hosts.iter_mut().for_each(|host| host.deaf = true);
    sim.run(Duration::from_secs(10));
    assert_eq!((0..3).map(|host| sim.share(host)).sum::<usize>(), BUCKETS);
    assert!((0..3).all(|host| sim.share(host) >= BUCKETS / 3));
    for host in &sim.hosts {
        assert!(host.events.contains(&Event::HeardNowhere) && !host.events.contains(&Event::Deaf));
    }
}

#[test]
fn what_a_node_has_passed_is_known_to_the_others() {
    let mut sim = Sim::converged(2, 28);
    let traffic = Traffic { packets: 12, bytes: 3400, connections: 3 };
    sim.tell(0, |node, now| node.handle_traffic(traffic, now));
    sim.run(MS * 50);
    assert_eq!(sim.hosts[1].node().unwrap().snapshot(sim.now).peers[0].traffic, traffic);
}

#[test]
fn which_generations_a_node_has_is_known_to_the_others_before_its_next_period() {
    let mut sim = Sim::converged(2, 28);
    let generations = Generations { current: 7, candidate: 9 };
    sim.tell(0, |node, now| node.handle_generations(generations, now));
    sim.run(MS * 5);
    assert_eq!(sim.hosts[1].node().unwrap().snapshot(sim.now).peers[0].generations, generations);
}

#[test]
#[cfg_attr(feature = "simulation", ignore = "few buckets make no large state")]
fn every_part_of_a_large_state_is_sent_within_some_rounds_and_after_the_heartbeats() {
    let mut sim = Sim::converged(3, 29);
    let now = sim.now;
    let node = sim.node_mut(0);
    let turns = Holdings {
        holds: Bucket::all().filter(|bucket| bucket.index() % 3 == 0).collect(),
        departing: Bucket::all().filter(|bucket| bucket.index() % 3 == 1).collect(),
        released: Vec::new(),
    };
    let mut other = turns.clone();
    std::mem::swap(&mut other.holds, &mut other.departing);
    // Neither is equal to the one before, so each is sent whole.
    node.announced.holdings = vec![[turns, other]; 64].concat();
    node.state_version += 1;
    let total = node.announced.parts(1).len();
    assert!(total > 2 * PARTS_A_ROUND, "{total} parts");
    let mut seen = BTreeSet::new();
    for _ in 0..total.div_ceil(PARTS_A_ROUND) {
        node.beat(now);
        let mut sent = Vec::new();
        let mut heartbeats = 0;
        while let Some(command) = node.next_command() {
            if let Command::Send { to, message: Message::Part(part) } = command {
                sent.push((to, part.index));
            } else if let Command::Send { message: Message::Heartbeat(_), .. } = command {
                assert!(sent.is_empty(), "a heartbeat waits for parts");
                heartbeats += 1;
            }
        }
        assert_eq!((heartbeats, sent.len()), (2, 2 * PARTS_A_ROUND));
        seen.extend(sent);
    }
    assert_eq!(seen.len(), 2 * total);
}

#[test]
fn a_node_drains_at_the_wish_of_another() {
    let mut sim = Sim::converged(2, 10);
    let now = sim.now;
    let node = sim.node_mut(0);
    node.handle_wish(7, Priority::new(2).unwrap(), DRAIN, now);
    sim.run(MS * 100);
    sim.check_complete();
    assert_eq!(sim.count(1, BucketState::Mine), 0);
}

#[test]
fn a_node_told_to_stop_before_it_serves_does_not_begin_to() {
    let mut sim = Sim::usual(2, 11);
    sim.start(0);
    sim.order(0, Order::Stop);
    sim.run(Duration::from_secs(1));
    assert!(sim.hosts[0].handed_over);
    assert_eq!(sim.count(0, BucketState::Mine), 0);
}

#[test]
fn a_node_whose_heartbeats_are_not_let_out_says_so_and_does_not_serve() {
    let mut sim = Sim::converged(2, 12);
    let now = sim.now;
    let unsent = Unsent { node: Priority::new(2).unwrap(), reason: "not permitted".to_owned() };
    let node = sim.node_mut(0);
    node.handle_round(None, Some(unsent.clone()));
    node.handle_carrier(false, now);
    node.handle_carrier(true, now);
    node.handle_round(None, Some(unsent.clone()));
    let told = Event::CannotSend(unsent);
    assert_eq!(node.obstacle(), Some(told.clone()));
    assert!(told.sentence(|_| "arr2".into()).contains("UDP port 7644"));
}

#[test]
fn a_suspect_heard_again_may_have_more_than_it_last_told() {
    // arr1 gives arr2 its share and does not hear that arr2 accepted it: arr2's agent stands still meanwhile.
    for seed in 0..40 {
        let mut sim = Sim::converged(2, 100 + seed);
        sim.wish(0, 0, DRAIN);
        sim.run(Duration::from_micros(500 + seed * 400));
        sim.connect(60);
        sim.pause(1, MS * 400);
        sim.run(Duration::from_secs(2));
        sim.check_complete();
    }
}

#[test]
fn a_stopping_node_hands_over_and_says_goodbye() {
    let mut sim = Sim::converged(2, 5);
    sim.order(0, Order::Stop);
    sim.run(MS * 100);
    assert!(sim.hosts[0].handed_over);
    sim.check_complete();
    sim.order(0, Order::Leave);
    sim.run(MS * 30);
    sim.kill_agent(0);
    sim.run(MS * 30);
    assert_eq!(sim.count(1, BucketState::Mine), BUCKETS, "a node that left has no connections");
    assert!(sim.hosts[1].events.contains(&Event::Left(Priority::new(1).unwrap())));
}

#[test]
fn filtered_heartbeats_take_nothing_over_and_name_the_port() {
    let mut sim = Sim::converged(2, 6);
    (sim.network.ways[0][1].filtered, sim.network.ways[1][0].filtered) = (true, true);
    sim.run(Duration::from_secs(2));
    sim.check_complete();
    assert_eq!(sim.count(0, BucketState::Mine), BUCKETS / 2);
    let told = Event::HeartbeatsFiltered(Priority::new(2).unwrap());
    assert!(sim.hosts[0].events.contains(&told));
    assert!(told.sentence(|_| "arr2".into()).contains("UDP port 7644"));
}

#[test]
fn a_cut_cable_ends_the_holdings_and_a_plugged_one_gives_a_share_again() {
    let mut sim = Sim::converged(2, 7);
    sim.cable(0, false);
    sim.run(MS * 200);
    sim.check_complete();
    assert_eq!(sim.count(0, BucketState::Mine), 0);
    sim.cable(0, true);
    sim.run(Duration::from_secs(1));
    sim.check_complete();
    assert_eq!(sim.acceptors(0, Bucket::new(5).unwrap()), [0]);
}

#[test]
fn a_lone_node_serves_once_the_others_are_found_silent() {
    let mut sim = Sim::usual(3, 8);
    sim.hosts[0].powered = false;
    sim.hosts[2].powered = false;
    sim.start(1);
    sim.run(Duration::from_secs(1));
    sim.check_complete();
}

/// Not a test: prints what the core's work costs in a large cluster. In release mode, with `--ignored --nocapture`.
#[test]
#[ignore = "prints figures and judges nothing"]
fn what_settling_costs_with_32_tables_and_8_nodes() {
    let mut setup = Setup::usual();
    setup.tables.resize_with(lb_common::table::TABLES, || Spread::plain(Filtering::Multiple));
    for (spread, weight) in setup.tables.iter_mut().skip(1).zip(1..) {
        spread.weights = [(Priority::new(3).unwrap(), weight)].into();
        spread.stickiness = (weight % 2 == 0).then_some(STICKINESS);
    }
    let mut sim = Sim::new(8, 30, setup).converge();
    let mut now = sim.now;
    for host in [0, 3] {
        let node = sim.node_mut(host);
        let mut measure = |what: &str, times: u32, work: &mut dyn FnMut(&mut Node, Time)| {
            let start = Time::now();
            for _ in 0..times {
                now = now + Duration::from_micros(1);
                work(node, now);
                while node.next_command().is_some() {}
            }
            println!("arr{}: {what}: {:?}", host + 1, Time::now().since(start) / times);
        };
        let peer = Priority::new(2).unwrap();
        measure("a heartbeat that says nothing new", 200, &mut |node, now| {
            let heartbeat = node.peers[&peer].heartbeat.clone().unwrap();
            node.handle_message(peer, false, Message::Heartbeat(Box::new(heartbeat)), arrived_at(now), now);
        });
        measure("a heartbeat that says something new", 200, &mut |node, now| {
            let mut heartbeat = node.peers[&peer].heartbeat.clone().unwrap();
            heartbeat.peers[1].accepted ^= 1;
            node.handle_message(peer, false, Message::Heartbeat(Box::new(heartbeat)), arrived_at(now), now);
        });
        measure("a member that changes", 50, &mut |node, now| {
            let mut heartbeat = node.peers[&peer].heartbeat.clone().unwrap();
            heartbeat.wants[0].ready ^= true;
            node.handle_message(peer, false, Message::Heartbeat(Box::new(heartbeat)), arrived_at(now), now);
        });
        measure("a round of heartbeats", 50, &mut |node, now| node.beat(now));
        measure("a state as parts", 50, &mut |node, _| drop(node.announced.parts(1)));
        measure("a snapshot", 50, &mut |node, now| drop(node.snapshot(now)));
    }
}
