//! packet -> parse: what a frame is, as far as a verdict depends on it.
//!
//! Bytes are read only through [`Packet`], which checks every bound and copies out by value. Nothing here decides anything
//! (`verdict.rs`), and no checksum is verified: the kernel does that for what passes, and on veth they are not yet filled in.

/// How to read a frame's bytes: the one door, so that bounds are checked in one place.
///
/// The kernel's side is a pair of packet pointers (lb-ebpf), the host's a slice. Reads are of two bytes or more: the verifier
/// (measured on 6.18) gains no bound from a one-byte read at a variable offset.
pub trait Packet {
    /// The `N` bytes at `offset`, or `None` where the frame ends before them.
    fn get<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

/// How to write a frame's bytes in place.
pub trait PacketMut: Packet {
    /// Writes the `N` bytes at `offset`; `None`, and nothing written, where the frame ends before them.
    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()>;
}

/// A frame as the verdict sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Nothing that could be for a cluster IP.
    Foreign(Foreign),
    /// ARP over Ethernet for IPv4.
    Arp(Arp),
    /// IPv4 with at least the fixed part of its header.
    Ipv4(Ipv4),
}

/// Why a frame cannot be for a cluster IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It ends before its destination is known.
    Short,
    /// It belongs to a VLAN, so to another interface of this host.
    Vlan,
    /// ARP that is not about Ethernet and IPv4, or too short.
    Arp,
    /// Another protocol.
    Protocol,
}

/// An ARP packet, addresses in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Where it begins in the frame.
    pub offset: usize,
    /// The frame's Ethernet source.
    pub source_mac: [u8; 6],
    /// Whether it is a request; anything else counts as not.
    pub request: bool,
    /// Who asks.
    pub sender_mac: [u8; 6],
    /// Who asks; 0.0.0.0 in a probe.
    pub sender_ip: [u8; 4],
    /// Whose MAC address is asked for.
    pub target_ip: [u8; 4],
}

/// An IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Where its header begins in the frame.
    pub offset: usize,
    /// Source address, network order.
    pub source: [u8; 4],
    /// Destination address, network order.
    pub destination: [u8; 4],
    /// What it carries.
    pub payload: Payload,
}

/// What an IPv4 packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// TCP; whole, or the first fragment.
    Tcp(Tcp),
    /// ICMP echo request.
    Echo,
    /// ICMP error about a packet of ours: unreachable, source quench, time exceeded, parameter problem.
    IcmpError,
    /// Any other ICMP.
    OtherIcmp,
    /// A fragment that does not begin its packet: no ports, no flags.
    LaterFragment,
    /// Neither TCP nor ICMP.
    OtherProtocol,
    /// Not to be made sense of.
    Malformed(Malformed),
}

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The frame, or the length that the IP header states, ends inside a header.
    Truncated,
    /// The IP header's version is not 4, or its length is below 20 bytes.
    IpHeader,
    /// The TCP header's length is below 20 bytes.
    TcpHeader,
}

/// A TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Where it begins in the frame.
    pub offset: usize,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Acknowledgement number; means something only if the ACK flag is set.
    pub acknowledgement: u32,
    /// Flags.
    pub flags: TcpFlags,
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
        self.any(Self::SYN) && !self.any(Self::ACK | Self::RST | Self::FIN)
    }
}

/// Length of the Ethernet header without tags.
pub const ETHERNET_LEN: usize = 14;

/// Length of an ARP packet for Ethernet and IPv4.
pub const ARP_LEN: usize = 28;

const IPV4_LEN: usize = 20;
const TCP_LEN: usize = 20;
const ICMP_LEN: usize = 8;

/// Reads a frame.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(packet: &P) -> Frame {
    let Some(ethernet) = packet.get::<ETHERNET_LEN>(0) else {
        return Frame::Foreign(Foreign::Short);
    };
    let [_, _, _, _, _, _, s0, s1, s2, s3, s4, s5, t0, t1] = ethernet;
    match untag(packet, u16::from_be_bytes([t0, t1])) {
        Ok((ETHERTYPE_IPV4, offset)) => parse_ipv4(packet, offset),
        Ok((ETHERTYPE_ARP, offset)) => parse_arp(packet, offset, [s0, s1, s2, s3, s4, s5]),
        Ok(_) => Frame::Foreign(Foreign::Protocol),
        Err(foreign) => Frame::Foreign(foreign),
    }
}

/// Steps over up to two VLAN tags whose VLAN number is 0: they carry only a priority, and Linux treats such a frame as
/// untagged. Gives the innermost EtherType and where its packet begins.
#[inline(always)]
fn untag<P: Packet + ?Sized>(packet: &P, ethertype: u16) -> Result<(u16, usize), Foreign> {
    let mut ethertype = ethertype;
    let mut offset = ETHERNET_LEN;
    for _ in 0..2 {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_SERVICE_VLAN {
            break;
        }
        let [c0, c1, t0, t1] = packet.get::<4>(offset).ok_or(Foreign::Short)?;
        if u16::from_be_bytes([c0, c1]) & 0x0fff != 0 {
            return Err(Foreign::Vlan);
        }
        ethertype = u16::from_be_bytes([t0, t1]);
        offset += 4;
    }
    Ok((ethertype, offset))
}

#[inline(always)]
fn parse_arp<P: Packet + ?Sized>(packet: &P, offset: usize, source_mac: [u8; 6]) -> Frame {
    let Some(arp) = packet.get::<ARP_LEN>(offset) else {
        return Frame::Foreign(Foreign::Arp);
    };
    // Hardware type Ethernet, protocol type IPv4, lengths 6 and 4, the operation; then sender and target.
    let [0, 1, 8, 0, 6, 4, o0, o1, m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] =
        arp
    else {
        return Frame::Foreign(Foreign::Arp);
    };
    Frame::Arp(Arp {
        offset,
        source_mac,
        request: [o0, o1] == [0, 1],
        sender_mac: [m0, m1, m2, m3, m4, m5],
        sender_ip: [s0, s1, s2, s3],
        target_ip: [t0, t1, t2, t3],
    })
}

#[inline(always)]
fn parse_ipv4<P: Packet + ?Sized>(packet: &P, offset: usize) -> Frame {
    let Some(header) = packet.get::<IPV4_LEN>(offset) else {
        return Frame::Foreign(Foreign::Short);
    };
    let [version_ihl, _, l0, l1, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = header;
    let head = Ipv4Head {
        version_ihl,
        total_len: u16::from_be_bytes([l0, l1]),
        fragment: u16::from_be_bytes([f0, f1]) & 0x1fff,
        protocol,
    };
    Frame::Ipv4(Ipv4 {
        offset,
        source: [s0, s1, s2, s3],
        destination: [d0, d1, d2, d3],
        payload: parse_payload(packet, offset, &head),
    })
}

/// The fields of an IPv4 header that say what follows it.
struct Ipv4Head {
    version_ihl: u8,
    total_len: u16,
    /// Fragment offset, in units of 8 bytes.
    fragment: u16,
    protocol: u8,
}

#[inline(always)]
fn parse_payload<P: Packet + ?Sized>(packet: &P, ip_offset: usize, head: &Ipv4Head) -> Payload {
    let header_len = (head.version_ihl & 0x0f) as usize * 4;
    if head.version_ihl >> 4 != 4 || header_len < IPV4_LEN {
        return Payload::Malformed(Malformed::IpHeader);
    }
    if head.fragment != 0 {
        return Payload::LaterFragment;
    }
    let needed = match head.protocol {
        PROTOCOL_TCP => TCP_LEN,
        PROTOCOL_ICMP => ICMP_LEN,
        _ => return Payload::OtherProtocol,
    };
    // 0 is what the kernel writes into aggregates of more than 64 KiB. A stated length beyond the frame is the kernel's
    // to drop: in generic mode the program may see an aggregate whose later parts are elsewhere.
    if head.total_len != 0 && (head.total_len as usize) < header_len + needed {
        return Payload::Malformed(Malformed::Truncated);
    }
    let offset = ip_offset + header_len;
    let payload =
        if head.protocol == PROTOCOL_TCP { parse_tcp(packet, offset) } else { parse_icmp(packet, offset) };
    payload.unwrap_or(Payload::Malformed(Malformed::Truncated))
}

#[inline(always)]
fn parse_tcp<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<Payload> {
    let header = packet.get::<TCP_LEN>(offset)?;
    let [s0, s1, d0, d1, _, _, _, _, a0, a1, a2, a3, data_offset, flags, ..] = header;
    if data_offset >> 4 < 5 {
        return Some(Payload::Malformed(Malformed::TcpHeader));
    }
    Some(Payload::Tcp(Tcp {
        offset,
        source_port: u16::from_be_bytes([s0, s1]),
        destination_port: u16::from_be_bytes([d0, d1]),
        acknowledgement: u32::from_be_bytes([a0, a1, a2, a3]),
        flags: TcpFlags(flags),
    }))
}

#[inline(always)]
fn parse_icmp<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<Payload> {
    let [kind, ..] = packet.get::<ICMP_LEN>(offset)?;
    Some(match kind {
        8 => Payload::Echo,
        3 | 4 | 11 | 12 => Payload::IcmpError,
        _ => Payload::OtherIcmp,
    })
}

impl Packet for [u8] {
    fn get<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let end = offset.checked_add(N)?;
        <[u8]>::get(self, offset..end)?.try_into().ok()
    }
}

impl PacketMut for [u8] {
    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        let end = offset.checked_add(N)?;
        self.get_mut(offset..end)?.copy_from_slice(&bytes);
        Some(())
    }
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            parse(bytes.as_slice());
        }

        #[test]
        fn no_ipv4_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 14..100)) {
            bytes[12..14].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
            parse(bytes.as_slice());
        }

        #[test]
        fn what_is_found_lies_in_the_frame(mut bytes in prop::collection::vec(any::<u8>(), 60..100)) {
            bytes[12..14].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
            bytes[14] = 0x40 | bytes[14] & 0x0f;
            bytes[20..22].copy_from_slice(&[0, 0]);
            bytes[23] = PROTOCOL_TCP;
            if let Frame::Ipv4(Ipv4 { payload: Payload::Tcp(tcp), .. }) = parse(bytes.as_slice()) {
                prop_assert!(tcp.offset + TCP_LEN <= bytes.len());
                prop_assert_eq!(tcp.flags.0, bytes[tcp.offset + 13]);
            }
        }
    }

    #[test]
    fn a_write_beyond_the_end_changes_nothing() {
        let mut bytes = [7; 4];
        assert_eq!(bytes.as_mut_slice().put(3, [1, 2]), None);
        assert_eq!(bytes.as_mut_slice().put(usize::MAX, [1, 2]), None);
        assert_eq!(bytes, [7; 4]);
    }
}
