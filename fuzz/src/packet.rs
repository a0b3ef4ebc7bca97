//! Parse, judge, rewrite: on any bytes none of it panics, and what must hold of every frame holds.
#![no_main]

mod world;

use lb_common::packet::{ETHERNET_LEN, Packet, PacketMut};
use lb_common::table::RULES;
use lb_common::verdict::{Action, Note, Verdict, World, judge, rewrite, sample};
use libfuzzer_sys::fuzz_target;

use crate::world::{CHOICE, CLUSTER_MAC, Choice, Chosen, OWN_MAC, VIP4, VIP6};

fuzz_target!(|input: &[u8]| {
    if let Some((choice, frame)) = input.split_first_chunk::<CHOICE>() {
        check(&Choice(*choice).world(), frame);
    }
});

fn check(world: &Chosen, frame: &[u8]) {
    let config = world.config();
    let verdict = judge(frame, world);
    let action = verdict.action(config);
    sample(frame, verdict, config, frame.len() as u32, 1);
    check_verdict(verdict, world, frame);
    let mut packet = Frame { bytes: frame.to_vec(), room: true };
    assert!(rewrite(verdict, config, &mut packet).is_some(), "no rewrite for {verdict:?}");
    check_rewritten(verdict, action, frame, &packet.bytes);
    let mut narrow = Frame { bytes: frame.to_vec(), room: false };
    let grew = packet.bytes.len() > frame.len();
    assert_eq!(rewrite(verdict, config, &mut narrow).is_none(), grew, "no room is noticed");
}

fn check_verdict(verdict: Verdict, world: &Chosen, frame: &[u8]) {
    assert!(usize::from(verdict.rule()) < RULES);
    let names = |address: &[u8]| frame.windows(address.len()).any(|window| window == address);
    if !names(&VIP4) && !names(&VIP6) {
        // A mistake must never cut an operator's ssh.
        assert_eq!(verdict.action(world.config()), Action::Untouched, "{verdict:?} without a cluster IP");
    }
    match verdict.note() {
        Note::None => {}
        Note::Seen { table, bucket } => {
            assert_eq!(verdict.reason().action(), Action::Accept);
            assert!(table == 2 && bucket.index() < 4096);
        }
        Note::Heard(node) => assert!((1..=64).contains(&node)),
        Note::Arp(offset) | Note::Neighbour(offset) => {
            assert_eq!(verdict.reason().action(), Action::Answer);
            assert!((ETHERNET_LEN..=ETHERNET_LEN + 8).contains(&offset));
        }
    }
}

fn check_rewritten(verdict: Verdict, action: Action, before: &[u8], after: &[u8]) {
    match action {
        Action::Untouched | Action::Drop => assert_eq!(before, after),
        Action::Accept => {
            assert_eq!(after[..6], OWN_MAC);
            assert_eq!(before[6..], after[6..]);
        }
        Action::Answer => {
            assert_eq!(after[6..12], OWN_MAC, "a switch would learn another address");
            assert_ne!(after[6..12], CLUSTER_MAC);
            assert!(after.len() >= before.len() && after.len() <= before.len() + 8);
            if let Note::Neighbour(offset) = verdict.note() {
                check_advertisement(&after[offset..]);
            }
        }
    }
}

/// Its checksum is right, and it says what it should.
fn check_advertisement(packet: &[u8]) {
    let (source, message) = (&packet[8..24], &packet[40..72]);
    // Source, destination and message, then the rest of the pseudo header (RFC 8200, section 8.1).
    let words = packet[8..72].chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum::<u32>() + 32 + 58;
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the checksum");
    assert_eq!(packet[..8], [0x60, 0, 0, 0, 0, 32, 58, 255]);
    assert_eq!((message[0], message[1]), (136, 0));
    assert_eq!((&message[8..24], &message[26..32]), (source, &CLUSTER_MAC[..]));
}

/// A frame that may have room to grow.
struct Frame {
    bytes: Vec<u8>,
    room: bool,
}

impl Packet for Frame {
    fn get<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        Packet::get(self.bytes.as_slice(), offset)
    }
}

impl PacketMut for Frame {
    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        let end = offset.checked_add(N)?;
        self.bytes.get_mut(offset..end)?.copy_from_slice(&bytes);
        Some(())
    }

    fn grow(&mut self, by: usize) -> Option<()> {
        self.room.then(|| self.bytes.resize(self.bytes.len() + by, 0))
    }
}
