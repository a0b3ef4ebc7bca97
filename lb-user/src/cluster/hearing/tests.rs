//! Situations of some seconds, and what each node makes of them.

use super::*;

/// A cluster in which each node reads its own hearing and sends heartbeats once a tenth of a second.
struct Cluster {
    now: Time,
    nodes: Vec<Hearing>,
    serves: Vec<bool>,
    alive: Vec<bool>,
    /// Whether tests arrive at a node.
    reached: Vec<bool>,
    heard: Vec<BTreeMap<Priority, Time>>,
}

const STEP: Duration = Duration::from_millis(100);

fn node(index: usize) -> Priority {
    Priority::new(index as u8 + 1).unwrap()
}

impl Cluster {
    fn of(count: usize) -> Self {
        Self {
            now: Time::from_nanos(1_000_000_000_000),
            nodes: (0..count).map(|_| Hearing::default()).collect(),
            serves: vec![true; count],
            alive: vec![true; count],
            reached: vec![true; count],
            heard: vec![BTreeMap::new(); count],
        }
    }

    /// Lets time pass; gives every change with the second in which it came.
    fn run(&mut self, seconds: u64) -> Vec<(usize, State, u64)> {
        let mut changes = Vec::new();
        for step in 0..seconds * 10 {
            self.now = self.now + STEP;
            let all = 0..self.nodes.len();
            for me in all.clone() {
                // Each node sends, and reads, at another tenth of the second.
                let senders = all.clone().filter(|&peer| peer != me && self.serves[peer] && self.alive[peer]);
                let due = senders.filter(|&peer| self.reached[me] && step % 10 == peer as u64);
                self.heard[me].extend(due.map(|peer| (node(peer), self.now)));
                if step % 10 == 9 - me as u64 {
                    let heard = self.heard[me].clone();
                    self.nodes[me].handle_heard(heard, self.now);
                }
            }
            for me in all.clone().filter(|&me| self.alive[me]) {
                let neighbour = |peer: usize| Neighbour {
                    node: node(peer),
                    serves: self.serves[peer],
                    hears: self.nodes[peer].hears(self.now),
                };
                let alive: Vec<_> =
                    all.clone().filter(|&peer| peer != me && self.alive[peer]).map(neighbour).collect();
                let state = self.nodes[me].handle_timeout(self.serves[me], &alive, self.now);
                changes.extend(state.map(|state| (me, state, step / 10)));
            }
        }
        changes
    }
}

#[test]
fn whoever_hears_nothing_while_others_do_is_deaf() {
    use State::{Deaf, Fine, Nowhere};
    // How many nodes, which tests do not reach, and how each ends after 20 s.
    let rows: [(&str, usize, &[usize], &[State]); 8] = [
        ("two, both hear", 2, &[], &[Fine, Fine]),
        ("two, one deaf", 2, &[1], &[Fine, Deaf]),
        ("two, the default host deaf", 2, &[0], &[Deaf, Fine]),
        ("two, both deaf", 2, &[0, 1], &[Nowhere, Nowhere]),
        ("three, one deaf", 3, &[1], &[Fine, Deaf, Fine]),
        ("three, two deaf", 3, &[0, 1], &[Deaf, Deaf, Fine]),
        ("three, all deaf", 3, &[0, 1, 2], &[Nowhere; 3]),
        ("one alone", 1, &[0], &[Fine]),
    ];
    for (what, count, deaf, expected) in rows {
        let mut cluster = Cluster::of(count);
        assert_eq!(cluster.run(10), [], "{what}: nobody is deaf yet");
        deaf.iter().for_each(|&deaf| cluster.reached[deaf] = false);
        cluster.run(20);
        let states: Vec<State> = cluster.nodes.iter().map(|node| node.state).collect();
        assert_eq!(states, expected, "{what}");
    }
}

#[test]
fn deafness_is_found_within_seven_seconds_and_ends_after_three_of_hearing() {
    let mut cluster = Cluster::of(2);
    cluster.run(10);
    cluster.reached[1] = false;
    assert!(matches!(cluster.run(10)[..], [(1, State::Deaf, 4..=6)]));
    cluster.reached[1] = true;
    assert!(matches!(cluster.run(10)[..], [(1, State::Fine, 3..=5)]));
}

#[test]
fn a_network_that_stops_delivering_to_all_makes_nobody_deaf_on_the_way() {
    for offset in 0..10 {
        let mut cluster = Cluster::of(3);
        cluster.run(10);
        // The last test reaches some nodes and not others.
        for step in 0..3 {
            cluster.reached[(offset + step) % 3] = false;
            cluster.now = cluster.now + STEP;
        }
        let changes = cluster.run(20);
        assert!(changes.iter().all(|(_, state, _)| *state == State::Nowhere), "{changes:?}");
        cluster.reached.fill(true);
        let changes = cluster.run(20);
        assert!(changes.iter().all(|(_, state, _)| *state == State::Fine), "{changes:?}");
    }
}

#[test]
fn one_test_that_arrives_does_not_end_deafness() {
    let mut cluster = Cluster::of(2);
    cluster.run(10);
    cluster.reached[1] = false;
    cluster.run(10);
    cluster.reached[1] = true;
    cluster.run(1);
    cluster.reached[1] = false;
    assert_eq!(cluster.run(10), []);
    assert!(cluster.nodes[1].is_deaf());
}

#[test]
fn a_node_that_just_began_to_serve_is_given_time() {
    let mut cluster = Cluster::of(2);
    cluster.serves[1] = false;
    cluster.reached[1] = false;
    assert_eq!(cluster.run(20), [], "who does not serve is not judged");
    cluster.serves[1] = true;
    let changes = cluster.run(10);
    assert!(matches!(changes[..], [(1, State::Deaf, 4..)]), "{changes:?}");
}

#[test]
fn a_deaf_node_stays_so_while_the_other_is_away() {
    let mut cluster = Cluster::of(2);
    cluster.run(10);
    cluster.reached[1] = false;
    cluster.run(10);
    cluster.alive[0] = false;
    assert_eq!(cluster.run(10), []);
    cluster.alive[0] = true;
    assert_eq!(cluster.run(10), [], "it is as deaf as before, and must not be trusted in between");
}

#[test]
fn without_readings_nothing_is_judged_and_nothing_heard() {
    let mut hearing = Hearing::default();
    let peer = Neighbour { node: node(1), serves: true, hears: 1 };
    for second in 0..60 {
        assert_eq!(hearing.handle_timeout(true, &[peer], Time::from_nanos(second * 1_000_000_000)), None);
    }
    assert_eq!(hearing.hears(Time::default()), 0);
}
