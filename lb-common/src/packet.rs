//! packet -> parse: what a frame is, as far as a verdict depends on it.
//!
//! Bytes are read only through [`Packet`], which checks every bound and copies out by value. Reading goes in steps, each asked
//! for by the verdict when it needs it: a frame for another address costs a look at its destination and no more. Nothing here
//! decides anything (`verdict.rs`), and no checksum is verified: the kernel does that for what passes, and on veth they are
//! not yet filled in.

use crate::address::Address;

/// How to read a frame's bytes: the one door, so that bounds are checked in one place.
///
/// The kernel's side is a pair of packet pointers (lb-ebpf), the host's a slice. A header is read whole and by one check: of two
/// checks, one inside the other, LLVM drops the second, and the verifier does not see why. Reads are of two bytes or more: the
/// verifier (measured on 6.18) gains no bound from a one-byte read at a variable offset.
pub trait Packet {
    /// The `N` bytes at `offset`, or `None` where the frame ends before them.
    fn get<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

/// How to write a frame's bytes in place.
pub trait PacketMut: Packet {
    /// Writes the `N` bytes at `offset`; `None`, and nothing written, where the frame ends before them.
    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()>;

    /// Adds `by` bytes at the end; `None`, and nothing added, where there is no room.
    fn grow(&mut self, by: usize) -> Option<()>;
}

/// What follows a frame's Ethernet header and tags, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// IPv4.
    Ipv4(usize),
    /// IPv6.
    Ipv6(usize),
    /// ARP.
    Arp(usize),
    /// Nothing that could be for a cluster IP.
    Foreign(Foreign),
}

/// Why a frame cannot be for a cluster IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It ends before its destination is known.
    Short,
    /// Its VLAN tags are not those of the cluster IPs, so it belongs to another interface of this host.
    Vlan,
    /// Another protocol.
    Protocol,
}

/// An ARP packet about Ethernet and IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Whether it is a request; anything else counts as not.
    pub request: bool,
    /// Who asks.
    pub sender_mac: [u8; 6],
    /// Who asks; 0.0.0.0 in a probe (RFC 5227).
    pub sender: Address,
    /// Whose MAC address is asked for.
    pub target: Address,
}

/// An IP packet whose header makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Where its header begins in the frame.
    pub offset: usize,
    /// Who sent it.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// The protocol that it carries, behind all IPv6 extension headers.
    pub protocol: u8,
    /// Where that begins in the frame.
    pub payload: usize,
    /// How many bytes of it the header states; `usize::MAX` where it leaves that open.
    pub payload_len: usize,
    /// Whether it is a fragment that does not begin its packet: no ports, no flags.
    pub later_fragment: bool,
}

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The frame, or the length that the IP header states, ends inside a header.
    Truncated,
    /// The IP header's version is not that of its EtherType, or its length is below 20 bytes.
    IpHeader,
    /// More than `EXTENSION_HEADERS` IPv6 extension headers, or `HEADERS_END` bytes of headers.
    TooManyHeaders,
    /// The TCP header's length is below 20 bytes.
    TcpHeader,
}

/// A TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Where it begins in the frame.
    pub offset: usize,
    /// Source and destination port.
    pub ports: Ports,
    /// Acknowledgement number; means something only if the ACK flag is set.
    pub acknowledgement: u32,
    /// Flags.
    pub flags: TcpFlags,
}

/// The first four bytes of TCP and UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
}

/// The flags byte of a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// The sender has no more to send.
    pub const FIN: u8 = 0x01;
    /// A connection begins.
    pub const SYN: u8 = 0x02;
    /// The connection is refused or dropped.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;

    /// Whether any of `flags` is set.
    #[inline(always)]
    pub const fn any(self, flags: u8) -> bool {
        self.0 & flags != 0
    }

    /// Whether the packet asks for a new connection: SYN without ACK, RST, FIN.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }
}

/// What an ICMP message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp {
    /// Echo request.
    Echo,
    /// An error about a packet of ours: unreachable, packet too big, time exceeded, parameter problem, source quench.
    Error,
    /// Anything else; a neighbour solicitation is looked for before (`Ipv6Head::solicitation`).
    Other,
}

/// What an ICMP error says of the packet that caused it: one that this cluster sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Who sent it.
    pub source: Address,
    /// To whom.
    pub destination: Address,
    /// The protocol.
    pub protocol: u8,
    /// Its ports, where it is TCP or UDP.
    pub ports: Ports,
}

/// Length of the Ethernet header without tags.
pub const ETHERNET_LEN: usize = 14;

/// How many IPv6 extension headers are stepped over.
pub const EXTENSION_HEADERS: usize = 6;

/// Headers that begin beyond this byte of the frame are not read.
pub const HEADERS_END: usize = 0x1ff;

/// The IP protocol numbers that matter (IANA).
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

const ARP_LEN: usize = 28;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const TCP_LEN: usize = 20;
const UDP_LEN: usize = 8;
const ICMP_LEN: usize = 8;
const PORTS_LEN: usize = 4;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Steps over the Ethernet header and up to two tags. `vlans` are the tags of frames for the cluster IPs, outermost first, 0
/// for none; a tag of VLAN 0 carries only a priority, and Linux treats such a frame as untagged.
#[inline(always)]
pub fn link<P: Packet + ?Sized>(packet: &P, vlans: [u16; 2]) -> Link {
    let Some(mut ethertype) = packet.get::<2>(ETHERNET_LEN - 2).map(u16::from_ne_bytes) else {
        return Link::Foreign(Foreign::Short);
    };
    let [mut expected, mut next] = vlans;
    let mut offset = ETHERNET_LEN;
    for _ in 0..2 {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_SERVICE_VLAN {
            break;
        }
        let Some([c0, c1, t0, t1]) = packet.get::<4>(offset) else {
            return Link::Foreign(Foreign::Short);
        };
        let vlan = u16::from_be_bytes([c0, c1]) & 0x0fff;
        if vlan != 0 {
            if vlan != expected {
                return Link::Foreign(Foreign::Vlan);
            }
            (expected, next) = (next, 0);
        }
        ethertype = u16::from_ne_bytes([t0, t1]);
        offset += 4;
    }
    match ethertype {
        _ if expected != 0 => Link::Foreign(Foreign::Vlan),
        ETHERTYPE_IPV4 => Link::Ipv4(offset),
        ETHERTYPE_IPV6 => Link::Ipv6(offset),
        ETHERTYPE_ARP => Link::Arp(offset),
        _ => Link::Foreign(Foreign::Protocol),
    }
}

/// Reads an ARP packet; `None`: too short, or not about Ethernet and IPv4.
#[inline(always)]
pub fn arp<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<Arp> {
    // Hardware type Ethernet, protocol type IPv4, lengths 6 and 4, the operation; then sender and target.
    let [0, 1, 8, 0, 6, 4, o0, o1, m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] =
        packet.get::<ARP_LEN>(offset)?
    else {
        return None;
    };
    Some(Arp {
        request: [o0, o1] == [0, 1],
        sender_mac: [m0, m1, m2, m3, m4, m5],
        sender: Address::v4([s0, s1, s2, s3]),
        target: Address::v4([t0, t1, t2, t3]),
    })
}

/// The fixed part of an IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Head {
    offset: usize,
    bytes: [u8; IPV4_LEN],
}

impl Ipv4Head {
    /// Reads it; `None`: the packet ends before it does.
    #[inline(always)]
    pub fn read<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<Self> {
        Some(Self { offset, bytes: packet.get(offset)? })
    }

    /// Where the packet goes.
    #[inline(always)]
    pub const fn destination(&self) -> Address {
        let [.., a, b, c, d] = self.bytes;
        Address::v4([a, b, c, d])
    }

    /// Whether it is what nearly every packet is: TCP or UDP, behind no options, and no later fragment.
    #[inline(always)]
    pub(crate) const fn is_plain(&self) -> bool {
        let [version, _, _, _, _, _, f0, f1, _, protocol, ..] = self.bytes;
        version == 0x45
            && u16::from_ne_bytes([f0, f1]) & FRAGMENT_OFFSET.to_be() == 0
            && matches!(protocol, protocol::TCP | protocol::UDP)
    }

    /// What else the header says.
    #[inline(always)]
    pub fn parse(&self) -> Result<Ip, Malformed> {
        let [version, _, l0, l1, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, ..] = self.bytes;
        let header_len = (version & 0x0f) as usize * 4;
        if version >> 4 != 4 || header_len < IPV4_LEN {
            return Err(Malformed::IpHeader);
        }
        // 0 is what the kernel writes into aggregates of more than 64 KiB. A stated length beyond the frame is the kernel's to
        // drop: in generic mode the program may see an aggregate whose later parts are elsewhere.
        let total_len = u16::from_be_bytes([l0, l1]) as usize;
        Ok(Ip {
            offset: self.offset,
            source: Address::v4([s0, s1, s2, s3]),
            destination: self.destination(),
            protocol,
            payload: self.offset + header_len,
            payload_len: rest(total_len, header_len),
            later_fragment: u16::from_ne_bytes([f0, f1]) & FRAGMENT_OFFSET.to_be() != 0,
        })
    }
}

/// What is left of a stated length behind these headers; 0 states none.
#[inline(always)]
fn rest(stated: usize, headers: usize) -> usize {
    // Signed: the compiler makes one comparison of this and the next one, and of saturating_sub none but its own.
    if stated == 0 { usize::MAX } else { (stated as isize - headers as isize).max(0) as usize }
}

/// An IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Head {
    offset: usize,
    bytes: [u8; IPV6_LEN],
}

impl Ipv6Head {
    /// Reads it; `None`: the packet ends before it does.
    #[inline(always)]
    pub fn read<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<Self> {
        Some(Self { offset, bytes: packet.get(offset)? })
    }

    /// Where the packet comes from.
    #[inline(always)]
    pub const fn source(&self) -> Address {
        let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = self.bytes;
        Address::v6([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p])
    }

    /// Where the packet goes.
    #[inline(always)]
    pub const fn destination(&self) -> Address {
        let [.., a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.bytes;
        Address::v6([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p])
    }

    /// Whether it is what nearly every packet is: TCP or UDP, behind no extension headers.
    #[inline(always)]
    pub(crate) const fn is_plain(&self) -> bool {
        let [_, _, _, _, _, _, next, ..] = self.bytes;
        matches!(next, protocol::TCP | protocol::UDP)
    }

    /// What else the header and the extension headers say.
    #[inline(always)]
    pub fn parse<P: Packet + ?Sized>(&self, packet: &P) -> Result<Ip, Malformed> {
        let [version, _, _, _, l0, l1, next, ..] = self.bytes;
        if version >> 4 != 6 {
            return Err(Malformed::IpHeader);
        }
        let extensions = extensions(packet, self.offset + IPV6_LEN, next)?;
        // 0 is what the kernel writes into aggregates of more than 64 KiB; see `Ipv4Head::parse`.
        let stated = u16::from_be_bytes([l0, l1]) as usize;
        let length = extensions.end - (self.offset + IPV6_LEN);
        Ok(Ip {
            offset: self.offset,
            source: self.source(),
            destination: self.destination(),
            protocol: extensions.protocol,
            payload: extensions.end,
            payload_len: rest(stated, length),
            later_fragment: extensions.later_fragment,
        })
    }

    /// Whose MAC address it asks for, if it carries a neighbour solicitation. `None`: it carries none, or not a valid one (RFC
    /// 4861, section 7.1.1), or behind extension headers, where nobody's solicitations are.
    #[inline(always)]
    pub fn solicitation<P: Packet + ?Sized>(&self, packet: &P) -> Option<Address> {
        const SOLICITATION_LEN: usize = 24;
        let [0x60..=0x6f, _, _, _, l0, l1, protocol::ICMPV6, 255, ..] = self.bytes else {
            return None;
        };
        let body = packet.get::<SOLICITATION_LEN>(self.offset + IPV6_LEN)?;
        let [135, 0, _, _, _, _, _, _, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = body else {
            return None;
        };
        let whole = u16::from_be_bytes([l0, l1]) as usize >= SOLICITATION_LEN;
        whole.then_some(Address::v6([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]))
    }
}

/// What is behind the extension headers of an IPv6 packet.
struct Extensions {
    protocol: u8,
    end: usize,
    later_fragment: bool,
}

/// Steps over hop-by-hop options, routing and destination options headers, and the fragment header (RFC 8200, section 4).
#[inline(always)]
fn extensions<P: Packet + ?Sized>(packet: &P, at: usize, next: u8) -> Result<Extensions, Malformed> {
    let (mut end, mut protocol) = (at, next);
    for _ in 0..EXTENSION_HEADERS {
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let [next, length] = packet.get::<2>(end).ok_or(Malformed::Truncated)?;
                protocol = next;
                end += 8 + length as usize * 8;
            }
            FRAGMENT => {
                let [next, _, f0, f1] = packet.get::<4>(end).ok_or(Malformed::Truncated)?;
                protocol = next;
                end += 8;
                if u16::from_be_bytes([f0, f1]) & 0xfff8 != 0 {
                    return Ok(Extensions { protocol, end, later_fragment: true });
                }
            }
            _ => return Ok(Extensions { protocol, end, later_fragment: false }),
        }
        if end > HEADERS_END {
            return Err(Malformed::TooManyHeaders);
        }
    }
    match protocol {
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT => Err(Malformed::TooManyHeaders),
        _ => Ok(Extensions { protocol, end, later_fragment: false }),
    }
}

/// Reads the TCP header that `ip` carries.
#[inline(always)]
pub fn tcp<P: Packet + ?Sized>(packet: &P, ip: &Ip) -> Result<Tcp, Malformed> {
    if ip.payload_len < TCP_LEN {
        return Err(Malformed::Truncated);
    }
    let header = packet.get::<TCP_LEN>(ip.payload).ok_or(Malformed::Truncated)?;
    let [s0, s1, d0, d1, _, _, _, _, a0, a1, a2, a3, length, flags, ..] = header;
    if length >> 4 < 5 {
        return Err(Malformed::TcpHeader);
    }
    Ok(Tcp {
        offset: ip.payload,
        ports: Ports::of([s0, s1, d0, d1]),
        acknowledgement: u32::from_be_bytes([a0, a1, a2, a3]),
        flags: TcpFlags(flags),
    })
}

/// Reads the UDP header that `ip` carries.
#[inline(always)]
pub fn udp<P: Packet + ?Sized>(packet: &P, ip: &Ip) -> Result<Ports, Malformed> {
    if ip.payload_len < UDP_LEN {
        return Err(Malformed::Truncated);
    }
    let [s0, s1, d0, d1, ..] = packet.get::<UDP_LEN>(ip.payload).ok_or(Malformed::Truncated)?;
    Ok(Ports::of([s0, s1, d0, d1]))
}

impl Ports {
    #[inline(always)]
    const fn of([s0, s1, d0, d1]: [u8; 4]) -> Self {
        Self { source: u16::from_be_bytes([s0, s1]), destination: u16::from_be_bytes([d0, d1]) }
    }
}

/// Reads what the ICMP or ICMPv6 message that `ip` carries is about.
#[inline(always)]
pub fn icmp<P: Packet + ?Sized>(packet: &P, ip: &Ip) -> Result<Icmp, Malformed> {
    if ip.payload_len < ICMP_LEN {
        return Err(Malformed::Truncated);
    }
    let [kind, ..] = packet.get::<ICMP_LEN>(ip.payload).ok_or(Malformed::Truncated)?;
    Ok(match (ip.destination.v6, kind) {
        // RFC 792 and RFC 4443.
        (false, 8) | (true, 128) => Icmp::Echo,
        (false, 3 | 4 | 11 | 12) | (true, 1..=4) => Icmp::Error,
        (_, _) => Icmp::Other,
    })
}

/// Reads the packet that the ICMP error in `ip` quotes, as far as it says to which flow it belongs. `None`: it, or the message,
/// ends too soon, or it is a later fragment.
#[inline(always)]
pub fn quote<P: Packet + ?Sized>(packet: &P, ip: &Ip) -> Option<Quote> {
    let at = ip.payload + ICMP_LEN;
    let quoted = if ip.destination.v6 {
        Ipv6Head::read(packet, at)?.parse(packet).ok()?
    } else {
        Ipv4Head::read(packet, at)?.parse().ok()?
    };
    if quoted.later_fragment {
        return None;
    }
    let (ports, end) = match quoted.protocol {
        protocol::TCP | protocol::UDP => (Ports::of(packet.get(quoted.payload)?), quoted.payload + PORTS_LEN),
        _ => (Ports { source: 0, destination: 0 }, quoted.payload),
    };
    // What follows the message in the frame is padding.
    if end - ip.payload > ip.payload_len {
        return None;
    }
    let Ip { source, destination, protocol, .. } = quoted;
    Some(Quote { source, destination, protocol, ports })
}

/// Whether an IPv6 address is that of a solicited-node group, ff02::1:ff00:0/104 (RFC 4291, section 2.7.1).
#[inline(always)]
pub const fn is_solicited_node(address: &Address) -> bool {
    const HIGH: u64 = u64::from_ne_bytes([0xff, 2, 0, 0, 0, 0, 0, 0]);
    const LOW: u64 = u64::from_ne_bytes([0, 0, 0, 1, 0xff, 0, 0, 0]);
    const MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]);
    address.high == HIGH && address.low & MASK == LOW
}

impl Packet for [u8] {
    fn get<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let end = offset.checked_add(N)?;
        <[u8]>::get(self, offset..end)?.try_into().ok()
    }
}

// In network order.
const ETHERTYPE_IPV4: u16 = u16::to_be(0x0800);
const ETHERTYPE_ARP: u16 = u16::to_be(0x0806);
const ETHERTYPE_VLAN: u16 = u16::to_be(0x8100);
const ETHERTYPE_IPV6: u16 = u16::to_be(0x86dd);
const ETHERTYPE_SERVICE_VLAN: u16 = u16::to_be(0x88a8);
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;
    use std::{format, vec};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_of_the_cluster_are_stepped_over_and_others_are_foreign() {
        let (vlan, protocol) = (Link::Foreign(Foreign::Vlan), Link::Foreign(Foreign::Protocol));
        let rows: [([u16; 2], &[u16], Link); 12] = [
            ([0, 0], &[], Link::Ipv4(14)),
            ([0, 0], &[0], Link::Ipv4(18)),
            ([0, 0], &[0, 0], Link::Ipv4(22)),
            ([0, 0], &[0, 0, 0], protocol),
            ([0, 0], &[7], vlan),
            ([7, 0], &[7], Link::Ipv4(18)),
            ([7, 0], &[0, 7], Link::Ipv4(22)),
            ([7, 0], &[], vlan),
            ([7, 0], &[7, 7], vlan),
            ([5, 7], &[5, 7], Link::Ipv4(22)),
            ([5, 7], &[7, 5], vlan),
            ([5, 7], &[5], vlan),
        ];
        for (own, tags, expected) in rows {
            let mut frame = vec![0; 12];
            tags.iter().for_each(|tag| frame.extend([[0x81, 0], (0xe000 | tag).to_be_bytes()].concat()));
            frame.extend([8, 0]);
            assert_eq!(link(frame.as_slice(), own), expected, "{tags:?} where the cluster has {own:?}");
        }
    }

    #[test]
    fn a_frame_is_what_its_ethertype_says_if_it_has_one() {
        let frame = |ethertype: [u8; 2]| [vec![0; 12], ethertype.to_vec()].concat();
        let of = |ethertype| link(frame(ethertype).as_slice(), [0, 0]);
        assert_eq!(of([0x08, 0x00]), Link::Ipv4(14));
        assert_eq!(of([0x86, 0xdd]), Link::Ipv6(14));
        assert_eq!(of([0x08, 0x06]), Link::Arp(14));
        assert_eq!(of([0x88, 0xcc]), Link::Foreign(Foreign::Protocol));
        assert_eq!(of([0x88, 0xa8]), Link::Foreign(Foreign::Short));
        assert_eq!(link(&frame([8, 0])[..13], [0, 0]), Link::Foreign(Foreign::Short));
    }

    #[test]
    fn the_length_that_an_ipv4_header_states_counts() {
        let parse = |first: u8, total: u16| {
            let mut packet = [0; 20];
            packet[0] = first;
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            let head = Ipv4Head::read(packet.as_slice(), 0);
            head.map(|head| head.parse().map(|ip| (ip.payload, ip.payload_len)))
        };
        assert_eq!(parse(0x45, 60), Some(Ok((20, 40))));
        assert_eq!(parse(0x4f, 60), Some(Ok((60, 0))));
        assert_eq!(parse(0x4f, 59), Some(Ok((60, 0))));
        assert_eq!(parse(0x45, 0), Some(Ok((20, usize::MAX))));
        assert_eq!(parse(0x44, 60), Some(Err(Malformed::IpHeader)));
        assert_eq!(parse(0x65, 60), Some(Err(Malformed::IpHeader)));
        assert!(Ipv4Head::read([0; 19].as_slice(), 0).is_none());
    }

    /// An IPv6 packet with these extension headers, by their numbers and lengths, and TCP behind them.
    fn with_extensions(headers: &[(u8, u8)]) -> Vec<u8> {
        let mut next: Vec<u8> = headers.iter().map(|(number, _)| *number).collect();
        next.push(protocol::TCP);
        let mut packet = vec![0; IPV6_LEN];
        (packet[0], packet[6]) = (0x60, next[0]);
        for ((_, length), next) in headers.iter().zip(&next[1..]) {
            let mut header = vec![0; 8 + 8 * usize::from(*length)];
            (header[0], header[1]) = (*next, *length);
            packet.extend(header);
        }
        packet
    }

    fn parse_v6(packet: &[u8]) -> Result<(u8, usize), Malformed> {
        let head = Ipv6Head::read(packet, 0).unwrap();
        head.parse(packet).map(|ip| (ip.protocol, ip.payload))
    }

    #[test]
    fn so_many_extension_headers_are_stepped_over_and_no_more() {
        for count in 0..9 {
            let packet = with_extensions(&vec![(DESTINATION_OPTIONS, 1); count]);
            let expected = if count <= EXTENSION_HEADERS {
                Ok((protocol::TCP, IPV6_LEN + 16 * count))
            } else {
                Err(Malformed::TooManyHeaders)
            };
            assert_eq!(parse_v6(&packet), expected, "{count} headers");
        }
    }

    #[test]
    fn extension_headers_may_fill_the_first_bytes_and_no_more() {
        for length in 0..=u8::MAX {
            let end = IPV6_LEN + 8 + 8 * usize::from(length);
            let expected =
                if end <= HEADERS_END { Ok((protocol::TCP, end)) } else { Err(Malformed::TooManyHeaders) };
            assert_eq!(parse_v6(&with_extensions(&[(HOP_BY_HOP, length)])), expected, "up to {end}");
        }
    }

    #[test]
    fn an_extension_header_that_is_cut_is_no_header() {
        let packet = with_extensions(&[(HOP_BY_HOP, 0), (FRAGMENT, 0)]);
        for length in IPV6_LEN..packet.len() {
            // Only the first bytes of each are read; what is missing behind them is the transport's to miss.
            let expected = if length < IPV6_LEN + 8 + 4 {
                Err(Malformed::Truncated)
            } else {
                Ok((protocol::TCP, IPV6_LEN + 16))
            };
            assert_eq!(parse_v6(&packet[..length]), expected, "{length} bytes");
        }
    }

    #[test]
    fn a_later_fragment_hides_what_it_carries() {
        for (offset, later) in [([0, 0], false), ([0, 1], false), ([0, 8], true), ([0xff, 0xf8], true)] {
            let mut packet = with_extensions(&[(FRAGMENT, 0)]);
            packet[IPV6_LEN + 2..IPV6_LEN + 4].copy_from_slice(&offset);
            let ip = Ipv6Head::read(packet.as_slice(), 0).unwrap().parse(packet.as_slice()).unwrap();
            assert_eq!(ip.later_fragment, later, "{offset:?}");
        }
    }

    #[test]
    fn only_a_valid_solicitation_counts() {
        let valid: Vec<u8> = {
            let mut packet = vec![0; IPV6_LEN + 24];
            packet[0] = 0x60;
            (packet[5], packet[6], packet[7], packet[IPV6_LEN]) = (24, protocol::ICMPV6, 255, 135);
            packet[IPV6_LEN + 8..].copy_from_slice(&[9; 16]);
            packet
        };
        let of = |packet: &[u8]| Ipv6Head::read(packet, 0).unwrap().solicitation(packet);
        assert_eq!(of(&valid), Some(Address::v6([9; 8], [9; 8])));
        assert_eq!(of(&valid[..IPV6_LEN + 23]), None);
        // Version, length, protocol, hop limit, type, code.
        for (at, byte) in [(0, 0x40), (5, 23), (6, 6), (7, 254), (IPV6_LEN, 136), (IPV6_LEN + 1, 1)] {
            let mut packet = valid.clone();
            packet[at] = byte;
            assert_eq!(of(&packet), None, "byte {at}");
        }
    }

    #[test]
    fn flags_of_a_new_connection() {
        let opening: Vec<u8> = (0..=u8::MAX).filter(|&flags| TcpFlags(flags).opens()).collect();
        let expected = (0..=u8::MAX).filter(|flags| flags & 0b1_0111 == TcpFlags::SYN);
        assert_eq!(opening, expected.collect::<Vec<_>>());
        assert!(TcpFlags(0xc2).opens(), "with ECN");
    }

    #[test]
    fn solicited_node_groups() {
        let is = |ip: &str| is_solicited_node(&Address::from(ip.parse::<core::net::IpAddr>().unwrap()));
        assert!(is("ff02::1:ff00:0") && is("ff02::1:ffab:cdef"));
        for ip in ["ff02::1", "ff02::1:fe00:8", "ff05::1:ff00:8", "ff02:0:1::1:ff00:8", "0.0.0.1"] {
            assert!(!is(ip), "{ip}");
        }
    }

    proptest! {
        /// Whatever the bytes: every reader gives an answer, and one that lies inside the frame.
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), at in 0usize..130, vlans: [u16; 2]) {
            let packet = bytes.as_slice();
            link(packet, vlans);
            arp(packet, at);
            let ip = Ipv4Head::read(packet, at).and_then(|head| head.parse().ok());
            let ip = ip.or_else(|| Ipv6Head::read(packet, at).and_then(|head| head.parse(packet).ok()));
            if let Some(ip) = ip {
                let headers = (tcp(packet, &ip), udp(packet, &ip), icmp(packet, &ip), quote(packet, &ip));
                prop_assert!(headers.0.is_err() || ip.payload + TCP_LEN <= bytes.len(), "{}", format!("{headers:?}"));
                prop_assert!(headers.1.is_err() || ip.payload + UDP_LEN <= bytes.len());
            }
            if let Some(head) = Ipv6Head::read(packet, at) {
                head.solicitation(packet);
            }
        }

        #[test]
        fn only_bytes_of_the_frame_are_read(bytes in prop::collection::vec(any::<u8>(), 0..20), at in prop_oneof![0usize..30, usize::MAX - 30..=usize::MAX]) {
            let read = Packet::get::<4>(bytes.as_slice(), at).map(|read| read.to_vec());
            prop_assert_eq!(read, at.checked_add(4).and_then(|end| bytes.get(at..end)).map(<[u8]>::to_vec));
        }
    }
}
