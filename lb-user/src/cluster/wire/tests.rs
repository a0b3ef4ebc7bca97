//! Every message survives its bytes; every other byte string is refused without a panic.

use lb_common::table::Bucket;
use proptest::prelude::*;

use super::*;

fn heartbeat() -> Heartbeat {
    let node = Priority::new(2).unwrap();
    Heartbeat {
        period: Duration::from_millis(20),
        multiplier: 5,
        incarnation: 7,
        phase: Phase::Serving,
        draining: true,
        ready: false,
        weight: 50,
        mac: [2, 0, 0, 0, 0, 9],
        facts: 0xfac7,
        table: TableId { epoch: 12, author: 1 },
        state_version: 99,
        peers: vec![PeerReport { node, alive: true, incarnation: 3, state_version: 41, accepted: 8 }],
    }
}

fn set(seed: u16) -> BucketSet {
    match seed % 4 {
        0 => BucketSet::EMPTY,
        1 => BucketSet::FULL,
        _ => (0..200).filter_map(|n: u16| Bucket::new(n.wrapping_mul(seed) % 4096)).collect(),
    }
}

fn state(seed: u16) -> State {
    let node = |number| Priority::new(number).unwrap();
    let holdings = |seed| Holdings {
        holds: set(seed),
        departing: set(seed + 1),
        released: vec![Release { heir: node(3), incarnation: 2, id: 9, set: set(seed + 2) }],
    };
    State {
        holdings: vec![holdings(seed), holdings(seed + 1)],
        published: seed.is_multiple_of(2).then(|| Published {
            epoch: 5,
            members: vec![node(1), node(3)],
            shares: vec![vec![set(seed), set(seed + 3)]; 2],
        }),
    }
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
fn a_heartbeat_to_the_largest_cluster_fits_one_datagram() {
    let peers =
        (1..=64).map(|n| PeerReport { node: Priority::new(n).unwrap(), ..heartbeat().peers[0] }).collect();
    let mut bytes = Vec::new();
    Message::Heartbeat(Box::new(Heartbeat { peers, ..heartbeat() })).encode(&mut bytes);
    assert!(bytes.len() + HEADER + 24 + 16 <= 1400, "{} bytes", bytes.len());
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
