//! Frames, layer by layer. A layer is the bytes from its header to the end, so layers nest: `frame(ip(.., tcp(..)))`. Checksums
//! of TCP, UDP and ICMP are left out where a test does not look at them: the program does not either.

use std::net::IpAddr;

use etherparse::{Ipv4Header, TcpHeader};
use lb_common::packet::{TcpFlags, protocol};

pub(crate) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 6];
pub(crate) const CLUSTER_MAC: [u8; 6] = [3, 0xbf, 192, 168, 50, 8];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const SYN: u8 = TcpFlags::SYN;
pub(crate) const ACK: u8 = TcpFlags::ACK;
pub(crate) const RST: u8 = TcpFlags::RST;
pub(crate) const FIN: u8 = TcpFlags::FIN;
pub(crate) const PSH: u8 = 0x08;
/// The sequence number of a client's SYN.
pub(crate) const CLIENT_ISN: u32 = 1_000;

/// IPv6 extension headers (IANA).
pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const DESTINATION: u8 = 60;

/// Other protocols.
pub(crate) const GRE: u8 = 47;

/// A client and the cluster IP that it talks to, of one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) client: IpAddr,
    pub(crate) vip: IpAddr,
}

impl Pair {
    pub(crate) fn is_v6(self) -> bool {
        self.vip.is_ipv6()
    }

    /// From the client to the cluster IP.
    pub(crate) fn packet(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        ip(self.client, self.vip, protocol, payload)
    }

    /// A frame from the client to the cluster IP.
    pub(crate) fn frame(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        frame(&self.packet(protocol, payload))
    }

    pub(crate) fn tcp(self, from: u16, to: u16, flags: u8) -> Vec<u8> {
        self.frame(protocol::TCP, &tcp(from, to, flags, 1))
    }

    pub(crate) fn udp(self, from: u16, to: u16) -> Vec<u8> {
        self.frame(protocol::UDP, &udp(from, to, b"quic"))
    }

    /// The protocol number of this family's ICMP.
    pub(crate) fn icmp_protocol(self) -> u8 {
        if self.is_v6() { protocol::ICMPV6 } else { protocol::ICMP }
    }

    /// An ICMP message of this type.
    pub(crate) fn icmp(self, kind: u8, body: &[u8]) -> Vec<u8> {
        self.frame(self.icmp_protocol(), &icmp(kind, body))
    }

    pub(crate) fn echo(self) -> Vec<u8> {
        self.icmp(if self.is_v6() { 128 } else { 8 }, b"ping")
    }

    /// An error of a router on the way, which quotes `quoted`: fragmentation needed, packet too big.
    pub(crate) fn too_big(self, quoted: &[u8]) -> Vec<u8> {
        self.icmp(if self.is_v6() { 2 } else { 3 }, quoted)
    }

    /// What this cluster IP sends to the client, as an error quotes it.
    pub(crate) fn answer(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        ip(self.vip, self.client, protocol, payload)
    }

    /// The same pair with another client.
    pub(crate) fn of_client(self, client: IpAddr) -> Self {
        Self { client, ..self }
    }

    /// The same pair with another address of the cluster's side.
    pub(crate) fn to(self, vip: IpAddr) -> Self {
        Self { vip, ..self }
    }
}

/// An Ethernet frame for the cluster MAC around an IP packet.
pub(crate) fn frame(packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
    ethernet(CLUSTER_MAC, ethertype, packet)
}

pub(crate) fn ethernet(to: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &CLIENT_MAC, &ethertype.to_be_bytes(), payload].concat()
}

/// The frame with these VLAN tags in front of what it has, outermost first; all but the last are service tags.
pub(crate) fn tagged(frame: &[u8], vlans: &[u16]) -> Vec<u8> {
    const PRIORITY: u16 = 0xe000;
    let mut tags = Vec::new();
    for (vlan, number) in vlans.iter().zip(1..) {
        let kind: u16 = if number == vlans.len() { 0x8100 } else { 0x88a8 };
        tags.extend([kind, PRIORITY | vlan].map(u16::to_be_bytes).as_flattened());
    }
    [&frame[..12], &tags, &frame[12..]].concat()
}

pub(crate) fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = payload.len() as u16;
            let mut header =
                Ipv4Header::new(length, 64, protocol.into(), from.octets(), to.octets()).unwrap();
            header.header_checksum = header.calc_header_checksum();
            [&header.to_bytes(), payload].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = (payload.len() as u16).to_be_bytes();
            let head = [0x60, 0, 0, 0, length[0], length[1], protocol, 64];
            [&head[..], &from.octets(), &to.octets(), payload].concat()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => panic!("{from} and {to}"),
    }
}

/// IPv6 extension headers and what they carry: the first one's number, and the bytes.
pub(crate) fn extended(headers: &[(u8, Vec<u8>)], protocol: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    let mut bytes = payload.to_vec();
    let mut next = protocol;
    for (number, header) in headers.iter().rev() {
        let mut whole = header.clone();
        whole[0] = next;
        bytes.splice(0..0, whole);
        next = *number;
    }
    (next, bytes)
}

/// An extension header of `8 + 8 * more` bytes that is all padding (RFC 8200, section 4.2).
pub(crate) fn options(more: u8) -> Vec<u8> {
    let length = 8 + 8 * usize::from(more);
    let mut header = vec![0; length];
    header[1] = more;
    // Pad1 does it for all the rest.
    header
}

/// A fragment header: the offset in units of eight bytes.
pub(crate) fn fragment_header(offset: u16, more: bool) -> Vec<u8> {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    vec![0, 0, high, low, 0, 0, 0, 7]
}

pub(crate) fn tcp(from: u16, to: u16, flags: u8, acknowledgement: u32) -> Vec<u8> {
    let mut header = TcpHeader::new(from, to, CLIENT_ISN + 1, 65_535);
    header.acknowledgment_number = acknowledgement;
    let mut segment = header.to_bytes().to_vec();
    segment[13] = flags;
    if flags & PSH != 0 {
        segment.extend(b"GET /owa");
    }
    segment
}

pub(crate) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let head = [from, to, length, 0].map(u16::to_be_bytes);
    [head.as_flattened(), payload].concat()
}

/// An ICMP message of this type, with eight bytes of header.
pub(crate) fn icmp(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], body].concat()
}

pub(crate) fn patched(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// The frame, untagged, whose IP header states a payload of this length instead; 0: no length at all.
pub(crate) fn restated(frame: Vec<u8>, payload: usize) -> Vec<u8> {
    let (at, header) = if frame[12] == 0x86 { (18, 0) } else { (16, 20) };
    let length = if payload == 0 { 0 } else { header + payload as u16 };
    patched(frame, at, &length.to_be_bytes())
}

/// An ARP packet about Ethernet and IPv4, from the client's MAC address, to all.
pub(crate) fn arp(operation: u16, sender: IpAddr, target: IpAddr) -> Vec<u8> {
    arp_from(CLIENT_MAC, operation, sender, target)
}

pub(crate) fn arp_from(mac: [u8; 6], operation: u16, sender: IpAddr, target: IpAddr) -> Vec<u8> {
    let (sender, target) = (v4(sender), v4(target));
    let packet =
        [&[0, 1, 8, 0, 6, 4][..], &operation.to_be_bytes(), &mac, &sender, &[0; 6], &target].concat();
    ethernet([0xff; 6], 0x0806, &packet)
}

pub(crate) fn v4(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => panic!("{address}"),
    }
}

pub(crate) fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(_) => panic!("{address}"),
    }
}

/// The solicited-node group of an IPv6 address (RFC 4291, section 2.7.1).
pub(crate) fn group_of(address: IpAddr) -> IpAddr {
    let [.., a, b, c] = v6(address);
    IpAddr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// An option with the sender's MAC address (RFC 4861, section 4.6.1).
pub(crate) const SOURCE_MAC_OPTION: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 1];

/// A neighbour solicitation.
pub(crate) fn solicitation(from: IpAddr, to: IpAddr, target: IpAddr, options: &[u8]) -> Vec<u8> {
    let body = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &v6(target), options].concat();
    frame(&patched(ip(from, to, protocol::ICMPV6, &body), 7, &[255]))
}
