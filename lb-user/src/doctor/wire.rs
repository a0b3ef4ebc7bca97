//! The frames that the doctor sends, as bytes.
//!
//! *Calls* ask a node to listen, and its answers say what arrived: frames of EtherType 0x88b5 (IEEE 802, local experimental) from
//! one node's own MAC address to another's. *Probes* go to a cluster MAC: IPv4 and UDP to the other node's own address, because
//! what becomes of a frame on its way depends on that. A switch that snoops floods what is not IP, and drops what carries a unicast
//! address to a multicast MAC address; and the packet program lets pass what is not for a cluster IP, whether or not it is there.
//!
//! ```text
//! "rcdoctr1" | kind u8 | mode u8 | from u8 | to u8 | number u16 | run 16 bytes | tag 16 bytes     numbers big-endian
//! ```
//! The tag is an HMAC-SHA256 of all before it, cut to 16 bytes, under a key that comes from the cluster secret; `run` is drawn anew by
//! each doctor, so that nothing of another run counts.

use std::net::Ipv4Addr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use crate::checksum::checksum;
use crate::config::model::{Mode, Priority};

/// The EtherType of calls and their answers.
pub(crate) const CALLS: u16 = 0x88b5;

/// The UDP port of probes. No socket is bound to it: they are read from the interface.
pub(crate) const PROBE_PORT: u16 = 7646;

/// An Ethernet header's length.
pub(super) const ETHERNET: usize = 14;

const MAGIC: &[u8; 8] = b"rcdoctr1";
const TAG: usize = 16;
const SIGNED: usize = 30;
const LENGTH: usize = SIGNED + TAG;
/// Where a probe's message begins: Ethernet, IPv4 without options, UDP.
const BEFORE_PROBE: usize = ETHERNET + 20 + 8;

/// The longest frame of all these.
pub(super) const LONGEST: usize = BEFORE_PROBE + LENGTH;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// Which node sends it, and to which.
    pub(super) from: Priority,
    pub(super) to: Priority,
    /// Which of the frames of a mode.
    pub(super) number: u16,
    /// Whose doctor, and when.
    pub(super) run: [u8; 16],
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Listen for probes.
    Call,
    /// Answer to `Call`: I do.
    Ready,
    /// Sent to the cluster MAC of this mode.
    Probe(Mode),
    /// Answer to `Probe`: it arrived.
    Arrived(Mode),
}

/// The keys of tags: the first signs, all are accepted.
#[derive(Clone)]
pub(crate) struct Keys(Vec<hmac::Key>);

impl Keys {
    pub(crate) fn of(keys: &[[u8; 32]]) -> Self {
        Self(keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)).collect())
    }

    fn sign(&self, bytes: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        if let Some(key) = self.0.first() {
            tag.copy_from_slice(&hmac::sign(key, bytes).as_ref()[..TAG]);
        }
        tag
    }

    fn accept(&self, bytes: &[u8], tag: &[u8]) -> bool {
        let fits =
            |key: &hmac::Key| verify_slices_are_equal(&hmac::sign(key, bytes).as_ref()[..TAG], tag).is_ok();
        self.0.iter().any(fits)
    }
}

impl Message {
    /// As a frame between two nodes' own MAC addresses.
    pub(super) fn call_frame(&self, to: [u8; 6], from: [u8; 6], keys: &Keys) -> Vec<u8> {
        let mut frame = [to, from].concat();
        frame.extend(CALLS.to_be_bytes());
        frame.extend(self.encode(keys));
        frame
    }

    /// As a frame to a cluster MAC, from one node's address to another's.
    pub(super) fn probe_frame(
        &self,
        (to, cluster_mac): (Ipv4Addr, [u8; 6]),
        (from, own_mac): (Ipv4Addr, [u8; 6]),
        keys: &Keys,
    ) -> Vec<u8> {
        let mut udp = [PROBE_PORT.to_be_bytes(), PROBE_PORT.to_be_bytes()].concat();
        // No checksum (RFC 768): the tag says more.
        udp.extend([0, (8 + LENGTH) as u8, 0, 0]);
        udp.extend(self.encode(keys));
        let mut frame = [cluster_mac, own_mac].concat();
        frame.extend([0x08, 0x00]);
        frame.extend(ipv4(17, from, to, &udp));
        frame
    }

    /// What a call or its answer says; `None`: it is none, or not of this cluster.
    pub(super) fn of_call(frame: &[u8], keys: &Keys) -> Option<Self> {
        (frame.get(12..ETHERNET)? == CALLS.to_be_bytes()).then_some(())?;
        let message = Self::decode(frame.get(ETHERNET..ETHERNET + LENGTH)?, keys)?;
        match message.kind {
            Kind::Call | Kind::Ready | Kind::Arrived(_) => Some(message),
            Kind::Probe(_) => None,
        }
    }

    /// What a probe says; `None`: it is none, or not of this cluster.
    pub(super) fn of_probe(frame: &[u8], keys: &Keys) -> Option<Self> {
        let ip = frame.get(ETHERNET..)?;
        let udp = ip.first() == Some(&0x45) && ip.get(9) == Some(&17);
        (frame.get(12..ETHERNET)? == [0x08, 0x00] && udp).then_some(())?;
        let message = Self::decode(frame.get(BEFORE_PROBE..LONGEST)?, keys)?;
        match message.kind {
            Kind::Probe(_) => Some(message),
            Kind::Call | Kind::Ready | Kind::Arrived(_) => None,
        }
    }

    fn encode(&self, keys: &Keys) -> Vec<u8> {
        let (kind, mode) = match self.kind {
            Kind::Call => (0, 0),
            Kind::Ready => (1, 0),
            Kind::Probe(mode) => (2, mode_number(mode)),
            Kind::Arrived(mode) => (3, mode_number(mode)),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend([kind, mode, self.from.number(), self.to.number()]);
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.run);
        let tag = keys.sign(&bytes);
        bytes.extend(tag);
        bytes
    }

    fn decode(bytes: &[u8], keys: &Keys) -> Option<Self> {
        let (signed, tag) = bytes.split_at_checked(SIGNED)?;
        (signed.starts_with(MAGIC) && keys.accept(signed, tag)).then_some(())?;
        let mode = || mode_of(*signed.get(9)?);
        let kind = match (signed.get(8)?, signed.get(9)?) {
            (0, 0) => Kind::Call,
            (1, 0) => Kind::Ready,
            (2, _) => Kind::Probe(mode()?),
            (3, _) => Kind::Arrived(mode()?),
            (_, _) => return None,
        };
        Some(Self {
            kind,
            from: Priority::new(*signed.get(10)?)?,
            to: Priority::new(*signed.get(11)?)?,
            number: u16::from_be_bytes([*signed.get(12)?, *signed.get(13)?]),
            run: signed.get(14..SIGNED)?.try_into().ok()?,
        })
    }
}

fn mode_number(mode: Mode) -> u8 {
    match mode {
        Mode::Multicast => 1,
        Mode::Igmp => 2,
        Mode::Unicast => 3,
    }
}

fn mode_of(number: u8) -> Option<Mode> {
    match number {
        1 => Some(Mode::Multicast),
        2 => Some(Mode::Igmp),
        3 => Some(Mode::Unicast),
        _ => None,
    }
}

/// An ICMP echo request in a frame.
pub(super) fn echo_request(
    (to, to_mac): (Ipv4Addr, [u8; 6]),
    (from, from_mac): (Ipv4Addr, [u8; 6]),
    id: u16,
    number: u16,
) -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0];
    icmp.extend(id.to_be_bytes());
    icmp.extend(number.to_be_bytes());
    icmp.extend(b"rollcall doctor.");
    let sum = checksum(&[&icmp]);
    icmp[2..4].copy_from_slice(&sum);
    let mut frame = [to_mac, from_mac].concat();
    frame.extend([0x08, 0x00]);
    frame.extend(ipv4(1, from, to, &icmp));
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An ICMP echo reply in a frame: the destination MAC address, the source and destination, the id and the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EchoReply {
    pub(super) to_mac: [u8; 6],
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    pub(super) id: u16,
    pub(super) number: u16,
}

impl EchoReply {
    /// Reads a frame; `None` unless it is an echo reply over IPv4 without options.
    pub(super) fn decode(frame: &[u8]) -> Option<Self> {
        let frame = frame.first_chunk::<42>()?;
        let address = |at: usize| Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
        let number = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let echo = frame[12..15] == [0x08, 0x00, 0x45] && frame[23] == 1 && frame[34..36] == [0, 0];
        echo.then(|| Self {
            to_mac: std::array::from_fn(|index| frame[index]),
            from: address(26),
            to: address(30),
            id: number(38),
            number: number(40),
        })
    }
}

/// A packet of one hop that is not to be fragmented.
fn ipv4(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    // What is sent here is far shorter than 64 KiB.
    let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut ip = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
    ip.extend(from.octets());
    ip.extend(to.octets());
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum);
    ip.extend(payload);
    ip
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: (Ipv4Addr, [u8; 6]) = (Ipv4Addr::new(192, 168, 50, 6), [2, 0, 0, 0, 0, 6]);
    const B: (Ipv4Addr, [u8; 6]) = (Ipv4Addr::new(192, 168, 50, 7), [2, 0, 0, 0, 0, 7]);
    const CLUSTER: [u8; 6] = [0x03, 0xbf, 192, 168, 50, 8];

    fn message(kind: Kind) -> Message {
        let node = |number| Priority::new(number).unwrap();
        Message { kind, from: node(1), to: node(64), number: 0x1234, run: [9; 16] }
    }

    fn keys() -> Keys {
        Keys::of(&[[1; 32], [2; 32]])
    }

    #[test]
    fn a_message_survives_its_frame() {
        for kind in [Kind::Call, Kind::Ready, Kind::Arrived(Mode::Igmp)] {
            let frame = message(kind).call_frame(B.1, A.1, &keys());
            assert_eq!(frame[..14], *b"\x02\0\0\0\0\x07\x02\0\0\0\0\x06\x88\xb5");
            assert_eq!(Message::of_call(&frame, &keys()), Some(message(kind)));
            assert_eq!(Message::of_probe(&frame, &keys()), None);
        }
        for mode in [Mode::Multicast, Mode::Igmp, Mode::Unicast] {
            let frame = message(Kind::Probe(mode)).probe_frame((B.0, CLUSTER), A, &keys());
            assert_eq!((frame.len(), &frame[..6]), (LONGEST, CLUSTER.as_slice()));
            assert_eq!(checksum(&[&frame[14..34]]), [0, 0]);
            assert_eq!(Message::of_probe(&frame, &keys()), Some(message(Kind::Probe(mode))));
            assert_eq!(Message::of_call(&frame, &keys()), None);
        }
    }

    #[test]
    fn what_another_cluster_signed_or_somebody_changed_is_no_message() {
        let frame = message(Kind::Call).call_frame(B.1, A.1, &keys());
        assert_eq!(Message::of_call(&frame, &Keys::of(&[[3; 32]])), None);
        assert_eq!(Message::of_call(&frame, &Keys::of(&[])), None);
        // While keys are replaced the other node may still sign with the one that comes second here.
        assert_eq!(Message::of_call(&frame, &Keys::of(&[[7; 32], [1; 32]])), Some(message(Kind::Call)));
        for at in ETHERNET..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 1;
            assert_eq!(Message::of_call(&changed, &keys()), None, "byte {at}");
        }
    }

    #[test]
    fn an_echo_goes_out_sound_and_its_reply_is_read() {
        let mut frame = echo_request(B, A, 7, 3);
        assert_eq!(checksum(&[&frame[14..34]]), [0, 0]);
        let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        assert_eq!(checksum(&[&frame[34..14 + length]]), [0, 0]);
        assert_eq!(EchoReply::decode(&frame), None, "a request");
        frame[34] = 0;
        let reply = EchoReply { to_mac: B.1, from: A.0, to: B.0, id: 7, number: 3 };
        assert_eq!(EchoReply::decode(&frame), Some(reply));
    }

    proptest! {
        #[test]
        fn no_frame_makes_the_readers_panic(frame in prop::collection::vec(any::<u8>(), 0..120)) {
            Message::of_call(&frame, &keys());
            Message::of_probe(&frame, &keys());
            EchoReply::decode(&frame);
        }
    }
}
