//! Who is believed. What the messages mean is tested in `node`.

use super::super::wire::Part;
use super::*;

pub(super) const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

pub(super) fn node(number: u8) -> Priority {
    Priority::new(number).unwrap()
}

pub(super) fn link(me: u8, session: u8) -> Link {
    let peers = [1, 2].into_iter().filter(|peer| *peer != me).map(node);
    Link::new(node(me), peers, ClusterSecret::parse(SECRET).unwrap(), [session; 16])
}

pub(super) fn message(version: u64) -> Message {
    Message::Part(Part { version, index: 0, total: 1, bytes: vec![1, 2, 3] })
}

/// Both sides believe each other.
pub(super) fn introduced() -> (Link, Link) {
    let (mut a, mut b) = (link(1, 0xa), link(2, 0xb));
    introduce(&mut a, &mut b);
    (a, b)
}

fn introduce(a: &mut Link, b: &mut Link) {
    let (from, to) = (a.me, b.me);
    assert_eq!(b.open(&a.seal(to, &message(1))), Err(Refused::Unproven(from)));
    let reply = a.open(&b.seal(from, &message(2)));
    assert!(reply.is_ok_and(|heard| heard.new_session), "the reply echoes the new session");
    let heard = b.open(&a.seal(to, &message(3))).unwrap();
    assert_eq!(heard, Heard { from, new_session: true, message: message(3) });
}

#[test]
fn strangers_prove_themselves_in_one_round_trip() {
    let (mut a, mut b) = introduced();
    let heard = b.open(&a.seal(node(2), &message(4))).unwrap();
    assert!(!heard.new_session);
}

#[test]
fn a_number_counts_once_and_an_old_one_not_at_all() {
    let (mut a, mut b) = introduced();
    let sealed: Vec<Vec<u8>> = (0..200).map(|version| a.seal(node(2), &message(version))).collect();
    assert!(b.open(&sealed[199]).is_ok());
    assert!(b.open(&sealed[198]).is_ok(), "overtaken");
    assert_eq!(b.open(&sealed[199]), Err(Refused::Replay));
    assert_eq!(b.open(&sealed[198]), Err(Refused::Replay));
    assert!(b.open(&sealed[199 - 127]).is_ok(), "the window's far end");
    assert_eq!(b.open(&sealed[199 - 128]), Err(Refused::Replay));
}

#[test]
fn a_heartbeat_that_a_newer_one_has_overtaken_says_so_once() {
    let (mut a, mut b) = introduced();
    let heartbeat = |link: &mut Link| link.seal(node(2), &super::super::wire::tests::beat());
    let [older, newer] = [heartbeat(&mut a), heartbeat(&mut a)];
    assert!(b.open(&newer).is_ok());
    assert_eq!(b.open(&older), Err(Refused::Overtaken(node(1))));
    assert_eq!(b.open(&older), Err(Refused::Replay));
}

#[test]
fn replayed_sessions_do_not_keep_a_node_out_that_started_anew() {
    // Recordings of three earlier starts of each node, replayed to both ten times as often as they speak.
    let recordings: Vec<(Vec<u8>, Vec<u8>)> = (1..4)
        .map(|start| (link(1, start).seal(node(2), &message(1)), link(2, start).seal(node(1), &message(1))))
        .collect();
    let (_, mut b) = introduced();
    let mut a = link(1, 0xaa);
    let rounds = (0..100).take_while(|_| {
        for (from_a, from_b) in recordings.iter().cycle().take(10) {
            let _ = (a.open(from_b), b.open(from_a));
        }
        let (from_a, from_b) = (a.seal(node(2), &message(2)), b.seal(node(1), &message(2)));
        let believed = [a.open(&from_b).is_ok(), b.open(&from_a).is_ok()];
        believed != [true, true]
    });
    let rounds = rounds.count();
    assert!(rounds < 30, "not after {rounds} rounds");
}

#[test]
fn a_recorded_session_is_not_believed_after_its_sender_started_anew() {
    let (mut a, mut b) = introduced();
    let recorded: Vec<Vec<u8>> = (4..8).map(|version| a.seal(node(2), &message(version))).collect();
    let mut restarted = link(1, 0xaa);
    introduce(&mut restarted, &mut b);
    for datagram in &recorded {
        assert_eq!(b.open(datagram), Err(Refused::Unproven(node(1))));
    }
    assert!(b.open(&restarted.seal(node(2), &message(9))).is_ok(), "the living session goes on");
}

#[test]
fn a_recorded_session_is_not_believed_after_its_receiver_started_anew() {
    let (mut a, _) = introduced();
    let recorded: Vec<Vec<u8>> = (4..8).map(|version| a.seal(node(2), &message(version))).collect();
    let mut restarted = link(2, 0xbb);
    for datagram in &recorded {
        assert_eq!(restarted.open(datagram), Err(Refused::Unproven(node(1))));
    }
}

#[test]
fn another_key_is_refused_and_changes_nothing() {
    let (mut a, mut b) = introduced();
    let mut foreign =
        Link::new(node(1), [node(2)], ClusterSecret::parse(&SECRET.replace('0', "f")).unwrap(), [0xa; 16]);
    foreign.seq = 100;
    assert_eq!(b.open(&foreign.seal(node(2), &message(1))), Err(Refused::Forged(node(1))));
    assert!(b.open(&a.seal(node(2), &message(4))).is_ok());
}

#[test]
fn nodes_that_seal_with_different_keys_believe_each_other_while_both_accept_both() {
    let (old, new) = (SECRET.to_owned(), SECRET.replace('0', "f"));
    let with = |me: u8, lines: [&str; 2]| {
        let lines = format!("{}\n{}\nseed {old}", lines[0], lines[1]);
        let secret = ClusterSecret::parse(&lines).unwrap();
        Link::new(node(me), [node(3 - me)], secret, [me; 16])
    };
    let (mut a, mut b) = (with(1, [&old, &new]), with(2, [&new, &old]));
    introduce(&mut a, &mut b);
    assert!(a.open(&b.seal(node(1), &message(4))).is_ok());
    let mut double = with(2, [&old, &new]);
    double.session = [9; 16];
    double.key = aead(&double.epochs.current().secret.heartbeat_key(2, &double.session));
    double.peers.insert(node(3), Peer::default());
    assert_eq!(b.open(&double.seal(node(1), &message(1))), Err(Refused::OwnPriority));
}

#[test]
fn every_bit_is_sealed() {
    let (mut a, mut b) = introduced();
    let datagram = a.seal(node(2), &message(4));
    for bit in 0..datagram.len() * 8 {
        let mut forged = datagram.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(b.open(&forged).is_err(), "bit {bit}");
    }
    assert!(b.open(&datagram).is_ok());
}

#[test]
fn a_second_node_with_our_priority_is_named() {
    let (_, mut b) = introduced();
    let mut double = link(2, 0xd);
    double.peers.insert(node(3), Peer::default());
    assert_eq!(b.open(&double.seal(node(1), &message(1))), Err(Refused::OwnPriority));
}

#[test]
fn a_datagram_for_another_node_or_from_none_of_ours_is_a_strangers() {
    let (mut a, mut b) = introduced();
    assert_eq!(b.open(&a.seal(node(3), &message(1))), Err(Refused::Stranger));
    let mut stranger = link(1, 0xa);
    stranger.me = node(9);
    assert_eq!(b.open(&stranger.seal(node(2), &message(1))), Err(Refused::Stranger));
}

#[test]
fn a_link_that_goes_on_in_another_program_is_believed_and_believes_nothing_twice() {
    let (mut a, mut b) = introduced();
    let old = b.seal(node(1), &message(4));
    a.open(&old).unwrap();
    let before = a.seal(node(2), &message(5));
    let saved: SavedLink = serde_json::from_slice(&serde_json::to_vec(&a.save()).unwrap()).unwrap();
    let mut a = Link::resume(saved, node(1), ClusterSecret::parse(SECRET).unwrap()).unwrap();
    assert_eq!(a.open(&old), Err(Refused::Replay));
    let after = a.seal(node(2), &message(6));
    for datagram in [&before, &after] {
        let heard = b.open(datagram).unwrap();
        assert!(!heard.new_session, "nobody notices the change");
    }
    assert!(!a.open(&b.seal(node(1), &message(7))).unwrap().new_session);
}

/// A secret with this key, which leaves the flow hash as it is.
fn other_secret(digit: char) -> ClusterSecret {
    let key = String::from(digit).repeat(64);
    ClusterSecret::parse(&format!("{key}\nseed {SECRET}")).unwrap()
}

fn at(millis: u64) -> Time {
    Time::from_nanos(1_000_000_000) + std::time::Duration::from_millis(millis)
}

const OVERLAP: u64 = 5000;

#[test]
fn nodes_that_switch_one_after_the_other_hear_each_other_all_the_while() {
    let (mut a, mut b) = introduced();
    let heard = |heard: Result<Heard, Refused>| !heard.unwrap().new_session;
    for link in [&mut a, &mut b] {
        link.expect(other_secret('d'));
    }
    assert!(heard(b.open(&a.seal(node(2), &message(4)))), "under the old one");
    let late = a.seal(node(2), &message(5));
    a.switch(other_secret('d'), at(0));
    for version in 6..9 {
        assert!(heard(b.open(&a.seal(node(2), &message(version)))), "under the new one");
        assert!(heard(a.open(&b.seal(node(1), &message(version)))), "which is answered under it");
    }
    assert!(heard(b.open(&late)), "what was on its way counts");
    b.switch(other_secret('d'), at(10));
    assert!(heard(a.open(&b.seal(node(1), &message(9)))));
    assert!(heard(b.open(&a.seal(node(2), &message(10)))));
}

#[test]
fn the_secret_of_before_is_refused_after_the_overlap_and_no_sooner() {
    let (mut a, mut b) = introduced();
    b.expect(other_secret('d'));
    b.switch(other_secret('d'), at(0));
    b.handle_timeout(at(OVERLAP - 1));
    assert!(b.open(&a.seal(node(2), &message(4))).is_ok());
    b.handle_timeout(at(OVERLAP));
    assert_eq!(b.open(&a.seal(node(2), &message(5))), Err(Refused::Forged(node(1))));
    let mut anew = link(1, 0xaa);
    assert_eq!(b.open(&anew.seal(node(2), &message(1))), Err(Refused::Forged(node(1))), "nor a new session");
    b.set_peers(&[node(3)]);
    assert_eq!(b.open_stranger(&a.seal(node(2), &message(6))), Err(Refused::Stranger));
}

#[test]
fn nothing_is_sealed_with_what_is_only_expected() {
    let (mut a, mut b) = introduced();
    a.expect(other_secret('d'));
    assert!(b.open(&a.seal(node(2), &message(4))).is_ok());
    let mut ahead = Link::new(node(3), [node(2)], other_secret('d'), [3; 16]);
    b.set_peers(&[node(1), node(3)]);
    assert_eq!(b.open(&ahead.seal(node(2), &message(1))), Err(Refused::Forged(node(3))), "not expected here");
}

#[test]
fn a_node_that_comes_back_with_the_old_secret_is_believed_once_it_knows_the_next() {
    let (_, mut b) = introduced();
    b.switch(other_secret('d'), at(0));
    b.handle_timeout(at(OVERLAP));
    let mut a = link(1, 0xaa);
    assert_eq!(a.open(&b.seal(node(1), &message(4))), Err(Refused::Forged(node(2))));
    assert_eq!(b.open(&a.seal(node(2), &message(4))), Err(Refused::Forged(node(1))));
    a.expect(other_secret('d'));
    assert_eq!(a.open(&b.seal(node(1), &message(5))), Err(Refused::Unproven(node(2))));
    // Sealed as b does, whose session it echoes.
    assert!(b.open(&a.seal(node(2), &message(5))).unwrap().new_session);
    assert!(a.open(&b.seal(node(1), &message(6))).unwrap().new_session);
    a.switch(other_secret('d'), at(OVERLAP + 10));
    assert!(!b.open(&a.seal(node(2), &message(6))).unwrap().new_session);
    assert!(!a.open(&b.seal(node(1), &message(7))).unwrap().new_session);
}

#[test]
fn what_came_before_the_secret_that_all_switched_to_is_no_more_expected() {
    let (mut a, mut b) = introduced();
    for digit in ['c', 'd', 'e'] {
        b.expect(other_secret(digit));
    }
    b.switch(other_secret('d'), at(0));
    for (digit, accepted) in [('c', false), ('d', true), ('e', true)] {
        a.switch(other_secret(digit), at(0));
        let heard = b.open(&a.seal(node(2), &message(4)));
        assert_eq!(heard.is_ok(), accepted, "{digit}: {heard:?}");
    }
    // And with them no more keys are tried than these and the one of before.
    assert_eq!(b.epochs.all().count(), 3);
}

#[test]
fn a_replay_is_one_whatever_the_secret_was_meanwhile() {
    let (mut a, mut b) = introduced();
    let recorded = a.seal(node(2), &message(4));
    assert!(b.open(&recorded).is_ok());
    for link in [&mut a, &mut b] {
        link.expect(other_secret('d'));
        link.switch(other_secret('d'), at(0));
    }
    assert_eq!(b.open(&recorded), Err(Refused::Replay));
    assert!(b.open(&a.seal(node(2), &message(5))).is_ok());
    assert_eq!(b.open(&recorded), Err(Refused::Replay));
    b.handle_timeout(at(OVERLAP));
    assert_eq!(b.open(&recorded), Err(Refused::Forged(node(1))));
}

#[test]
fn a_forged_datagram_in_a_known_session_changes_nothing_during_the_overlap() {
    let (mut a, mut b) = introduced();
    b.expect(other_secret('d'));
    let good = a.seal(node(2), &message(4));
    for bit in 0..good.len() * 8 {
        let mut forged = good.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(b.open(&forged).is_err(), "bit {bit}");
    }
    assert!(b.open(&good).is_ok());
}
