//! Every message survives its bytes; every other byte string is refused without a panic.

use std::sync::Arc;

use lb_common::table::{BUCKETS, Bucket, TABLES};
use proptest::prelude::*;

use super::*;
use crate::cluster::operate::{Cause, Change};
use crate::cluster::sets::BucketSet;

fn heartbeat() -> Heartbeat {
    let node = Priority::new(2).unwrap();
    Heartbeat {
        period: Duration::from_millis(20),
        multiplier: 5,
        incarnation: 7,
        phase: Phase::Serving,
        intent: Intent::Draining,
        rank: node,
        health: Health { deaf: true, settled: true, ..Health::default() },
        wants: vec![
            Want { weight: 50, ready: false, leaving: true, aside: false },
            Want { weight: 50, ready: false, leaving: true, aside: false },
            Want { weight: 0, ready: true, leaving: false, aside: true },
        ],
        mac: [2, 0, 0, 0, 0, 9],
        facts: 0xfac7,
        switched: 11,
        known: vec![0xfac8, 0xfac9, 0xfac6],
        ready: true,
        removes: 1 << 63,
        table: TableId { epoch: 12, author: 1, incarnation: 5 },
        state_version: 99,
        hears: 0x8000_0000_0000_0002,
        traffic: Traffic { packets: 70_000, bytes: 1 << 40, connections: 12 },
        generations: Generations { current: 0x00c0_ffee, candidate: 0x7ea },
        peers: vec![PeerReport {
            node,
            alive: true,
            flaps: true,
            suspect: Duration::from_millis(100),
            incarnation: 3,
            state_version: 41,
            accepted: 8,
        }],
    }
}

pub(in crate::cluster) fn beat() -> Message {
    Message::Heartbeat(Box::new(heartbeat()))
}

/// A state of two owner tables; its sets are as disjoint as a node's are.
fn state(seed: u16) -> State {
    let node = |number| Priority::new(number).unwrap();
    let release = |heir, id| Release { heir: node(heir), incarnation: 2, id, set: BucketSet::EMPTY };
    let holdings = |seed: u16| {
        let mut holdings = Holdings { released: vec![release(3, 9), release(4, 10)], ..Holdings::NONE };
        for bucket in Bucket::all() {
            match (bucket.index() as u16 / (1 + seed % 97)).wrapping_mul(seed) % 7 {
                0 => holdings.departing.insert(bucket),
                1 => holdings.released[0].set.insert(bucket),
                2 => {
                    holdings.departing.insert(bucket);
                    holdings.released[1].set.insert(bucket);
                }
                3 => {}
                _ => holdings.holds.insert(bucket),
            }
        }
        holdings
    };
    let members = vec![node(1), node(3)];
    let owner = |bucket: Bucket| [Some(node(1)), Some(node(3)), None][bucket.index() * usize::from(seed) % 3];
    let owners = Owners::new(&Bucket::all().map(owner).collect::<Vec<_>>(), &members);
    let causes = vec![Cause { node: node(3), change: Change::Joined }];
    let published = Published { epoch: 5, members, owners: vec![owners; 2], causes };
    State {
        holdings: vec![holdings(seed), holdings(seed / 2)],
        published: seed.is_multiple_of(2).then(|| Arc::new(published)),
    }
}

/// The largest state that there may be: every table full of buckets that no two neighbours share, and of releases.
fn largest_state() -> State {
    let members: Vec<Priority> = (1..=Priority::MAX).filter_map(Priority::new).collect();
    let table = |table: usize| {
        let release = |heir: &Priority| Release {
            heir: *heir,
            incarnation: u32::MAX,
            id: u32::MAX,
            set: BucketSet::EMPTY,
        };
        let mut holdings = Holdings { released: members.iter().map(release).collect(), ..Holdings::NONE };
        assert_eq!(holdings.released.len(), MAX_RELEASES);
        let turn = |bucket: Bucket| (bucket.index() * (2 * table + 1) + bucket.index() / 64) % MAX_RELEASES;
        for bucket in Bucket::all() {
            holdings.released[turn(bucket)].set.insert(bucket);
            if bucket.index() % 3 == 0 {
                holdings.departing.insert(bucket);
            }
        }
        let owners: Vec<_> = Bucket::all().map(|bucket| Some(members[turn(bucket)])).collect();
        (holdings, Owners::new(&owners, &members))
    };
    let (holdings, owners) = (0..TABLES).map(table).unzip();
    let causes = members.iter().map(|node| Cause { node: *node, change: Change::Fell }).collect();
    let published = Published { epoch: u64::MAX, members: members.clone(), owners, causes };
    State { holdings, published: Some(Arc::new(published)) }
}

#[test]
fn a_heartbeat_survives_its_bytes() {
    let message = Message::Heartbeat(Box::new(heartbeat()));
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    assert_eq!(Message::decode(&bytes), Ok(message));
    for end in 0..bytes.len() {
        assert!(Message::decode(&bytes[..end]).is_err(), "accepted {end} of {} bytes", bytes.len());
    }
    bytes.push(0);
    assert_eq!(Message::decode(&bytes), Err(Malformed::Trailing));
}

#[test]
fn news_is_what_changes_of_the_sender_or_the_receiver_and_what_it_says_of_others_is_told_apart() {
    type Row = (&'static str, fn(&mut Heartbeat), News);
    let (us, third) = (Priority::new(2).unwrap(), Priority::new(3).unwrap());
    let last = heartbeat();
    let with_third =
        |state_version| PeerReport { node: third, state_version, ..last.peers.first().copied().unwrap() };
    let last = Heartbeat { peers: [last.peers.clone(), vec![with_third(1)]].concat(), ..last.clone() };
    let change = |change: fn(&mut Heartbeat)| {
        let mut next = last.clone();
        change(&mut next);
        next.news_since(&last, us)
    };
    let rows: [Row; 22] = [
        ("nothing", |_| {}, News::Nothing),
        ("hearing", |next| next.hears = 0, News::Nothing),
        ("traffic", |next| next.traffic.packets += 1, News::Nothing),
        ("what it has of a third node", |next| next.peers[1].state_version += 1, News::OfOthers),
        ("a third node's standing", |next| next.peers[1].alive = false, News::OfOthers),
        ("what it has of us", |next| next.peers[0].state_version += 1, News::OfItself),
        ("what it accepted of us", |next| next.peers[0].accepted += 1, News::OfItself),
        ("period", |next| next.period *= 2, News::OfItself),
        ("multiplier", |next| next.multiplier += 1, News::OfItself),
        ("incarnation", |next| next.incarnation += 1, News::OfItself),
        ("phase", |next| next.phase = Phase::Stopping, News::OfItself),
        ("intent", |next| next.intent = Intent::Started, News::OfItself),
        ("rank", |next| next.rank = Priority::new(9).unwrap(), News::OfItself),
        ("health", |next| next.health.gateway = true, News::OfItself),
        ("wants", |next| next.wants[0].ready = true, News::OfItself),
        ("facts", |next| next.facts += 1, News::OfItself),
        ("since when they are in force", |next| next.switched += 1, News::OfItself),
        ("what it could switch to", |next| next.known[1] += 1, News::OfItself),
        ("what it withdrew", |next| next.ready = false, News::OfItself),
        ("who has to go", |next| next.removes = 0, News::OfItself),
        ("table", |next| next.table.epoch += 1, News::OfItself),
        ("state", |next| next.state_version += 1, News::OfItself),
    ];
    for (what, alter, expected) in rows {
        assert_eq!(change(alter), expected, "{what}");
    }
}

#[test]
fn a_heartbeat_to_the_largest_cluster_fits_one_datagram() {
    let peers =
        (1..=64).map(|n| PeerReport { node: Priority::new(n).unwrap(), ..heartbeat().peers[0] }).collect();
    // No two neighbours alike, so that nothing is said of several tables at once.
    let want = |weight: usize| Want { weight: weight as u8, ready: true, leaving: false, aside: false };
    let wants = (0..TABLES).map(want).collect();
    let mut bytes = Vec::new();
    Message::Heartbeat(Box::new(Heartbeat { peers, wants, ..heartbeat() })).encode(&mut bytes);
    assert!(bytes.len() + HEADER + 24 + 16 <= 1400, "{} bytes", bytes.len());
}

#[test]
fn the_largest_state_fits_its_parts() {
    let state = largest_state();
    let bytes = state.encode();
    // Per table a byte a bucket twice, and what releases are named by.
    let causes = 1 + 2 * crate::cluster::operate::MAX_CAUSES;
    let bound =
        1 + TABLES * (2 * (BUCKETS + 1) + 1 + MAX_RELEASES * 9) + 9 + usize::from(Priority::MAX) + causes;
    assert!(bytes.len() <= bound && bound <= PART * MAX_PARTS, "{} bytes, at most {bound}", bytes.len());
    assert!(
        bytes.len() > bound - 100,
        "the state of this test is not the largest: {} of {bound}",
        bytes.len()
    );
    assert_eq!(state.parts(1).len(), bytes.len().div_ceil(PART));
    assert_eq!(State::decode(&bytes, TABLES), Ok(state));
}

#[test]
fn equal_tables_are_sent_once() {
    let state = state(10);
    let one = State { holdings: vec![state.holdings[0].clone()], published: None };
    let many = State { holdings: vec![state.holdings[0].clone(); TABLES], published: None };
    // A count of releases, their names, and one byte for the map.
    assert_eq!(many.encode().len(), one.encode().len() + (TABLES - 1) * (1 + 2 * 9 + 1));
}

#[test]
fn owners_that_are_no_members_are_refused() {
    let [first, third] = [1, 3].map(|n| Priority::new(n).unwrap());
    let owners = Owners::new(&[Some(third); BUCKETS], &[first, third]);
    let published = Published { epoch: 1, members: vec![first], owners: vec![owners], causes: vec![] };
    let state = State { holdings: vec![Holdings::NONE], published: Some(Arc::new(published)) };
    assert_eq!(State::decode(&state.encode(), 1), Err(Malformed::Field("owner")));
}

#[test]
fn another_version_is_named() {
    let node = Priority::new(1).unwrap();
    let mut bytes = Header { sender: node, receiver: node, session: [1; 16], seq: 1 }.encode();
    assert!(Header::decode(&bytes).is_ok());
    bytes[4] = 9;
    assert_eq!(Header::decode(&bytes), Err(Malformed::Version(9)));
}

proptest! {
    #[test]
    fn a_state_survives_its_parts(seed in 0u16..4000) {
        let state = state(seed);
        let parts = state.parts(3);
        prop_assert!(parts.iter().all(|part| part.bytes.len() <= PART));
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes.clone()).collect();
        prop_assert_eq!(State::decode(&bytes, 2), Ok(state));
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        let _ = Header::decode(&bytes);
        let _ = Message::decode(&bytes);
        let _ = State::decode(&bytes, 2);
    }

    #[test]
    fn no_mutation_makes_the_decoders_panic(seed in 0u16..4000, at: prop::sample::Index, byte: u8) {
        let mut bytes = state(seed).encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = State::decode(&bytes, 2);
        let mut bytes = Vec::new();
        Message::Heartbeat(Box::new(heartbeat())).encode(&mut bytes);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = Message::decode(&bytes);
    }
}
