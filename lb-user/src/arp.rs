//! ARP for IPv4 over Ethernet (RFC 826), as far as probes of the cluster and of the start need it. The XDP program answers by
//! lb-common's own code.

use std::net::Ipv4Addr;

/// An ARP frame's length: Ethernet's least, without its checksum.
pub(crate) const ARP_FRAME: usize = 60;

/// The broadcast MAC address.
pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

const ETHERTYPE: [u8; 2] = [0x08, 0x06];
/// Hardware type Ethernet, protocol type IPv4, their address lengths.
const TYPES: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// An ARP question or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arp {
    /// Ethernet destination.
    pub(crate) to: [u8; 6],
    /// Ethernet source.
    pub(crate) from: [u8; 6],
    /// Question or answer.
    pub(crate) operation: Operation,
    /// Who speaks.
    pub(crate) sender: (Ipv4Addr, [u8; 6]),
    /// Whom it is about.
    pub(crate) target: (Ipv4Addr, [u8; 6]),
}

/// What an ARP frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Who has the target's address?
    Request,
    /// The sender has its address.
    Reply,
}

impl Arp {
    /// The question who has `address`, from a host with `own` addresses, sent to the MAC address `to`.
    pub(crate) fn question(address: Ipv4Addr, to: [u8; 6], own: (Ipv4Addr, [u8; 6])) -> Self {
        Self { to, from: own.1, operation: Operation::Request, sender: own, target: (address, [0; 6]) }
    }

    /// The news, to all, that `address` is at `mac`: in the form of a question, which more hosts heed (RFC 5227, section 3).
    /// Sent from `own_mac`, whatever it says.
    pub(crate) fn announcement(address: Ipv4Addr, mac: [u8; 6], own_mac: [u8; 6]) -> Self {
        let (sender, target) = ((address, mac), (address, [0; 6]));
        Self { to: BROADCAST, from: own_mac, operation: Operation::Request, sender, target }
    }

    /// The frame, padded to Ethernet's least length.
    pub(crate) fn encode(&self) -> [u8; ARP_FRAME] {
        let mut frame = [0; ARP_FRAME];
        frame[..6].copy_from_slice(&self.to);
        frame[6..12].copy_from_slice(&self.from);
        frame[12..14].copy_from_slice(&ETHERTYPE);
        frame[14..20].copy_from_slice(&TYPES);
        frame[21] = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        frame[22..28].copy_from_slice(&self.sender.1);
        frame[28..32].copy_from_slice(&self.sender.0.octets());
        frame[32..38].copy_from_slice(&self.target.1);
        frame[38..42].copy_from_slice(&self.target.0.octets());
        frame
    }

    /// Reads a frame; `None` unless it is ARP for IPv4 over Ethernet.
    pub(crate) fn decode(frame: &[u8]) -> Option<Self> {
        let frame = frame.first_chunk::<42>()?;
        let mac = |at: usize| -> [u8; 6] { std::array::from_fn(|index| frame[at + index]) };
        let ip = |at: usize| Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
        if frame[12..14] != ETHERTYPE || frame[14..20] != TYPES || frame[20] != 0 {
            return None;
        }
        let operation = match frame[21] {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return None,
        };
        Some(Self {
            to: mac(0),
            from: mac(6),
            operation,
            sender: (ip(28), mac(22)),
            target: (ip(38), mac(32)),
        })
    }
}

/// Writes a MAC address the usual way.
pub(crate) fn format_mac(mac: [u8; 6]) -> String {
    let octets: Vec<String> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_question_survives_its_frame() {
        let own = (Ipv4Addr::new(192, 168, 50, 6), [2, 0, 0, 0, 0, 6]);
        let question = Arp::question(Ipv4Addr::new(192, 168, 50, 8), BROADCAST, own);
        let frame = question.encode();
        assert_eq!(Arp::decode(&frame), Some(question));
        assert_eq!(Arp::decode(&frame[..41]), None);
    }

    proptest! {
        #[test]
        fn no_frame_makes_the_decoder_panic(frame in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Arp::decode(&frame);
        }
    }
}
