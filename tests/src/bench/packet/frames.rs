//! The frames that are measured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use etherparse::PacketBuilder;

/// The cluster IPs.
pub(super) const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 50, 8));
/// See `V4`.
pub(super) const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 8));
/// The port that is served.
pub(super) const PORT: u16 = 443;
/// The client's.
pub(super) const CLIENT_PORT: u16 = 40_000;
/// Where frames for the cluster IPs go. Multicast, so that the peers' stack takes them too.
const CLUSTER_MAC: [u8; 6] = [3, 0xbf, 192, 168, 50, 8];

/// A kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// For an address of this host.
    Foreign,
    /// The same, IPv6.
    ForeignV6,
    /// Of a TCP connection, without data.
    Ack,
    /// Of a TCP connection, 1400 bytes.
    Data,
    /// Opens a TCP connection.
    Syn,
    /// UDP.
    Datagram,
    /// `Ack` over IPv6.
    V6Ack,
    /// `Syn` over IPv6.
    V6Syn,
    /// `Ack` with the tag of VLAN 100.
    Tagged,
}

impl Frame {
    /// Its bytes, with right checksums.
    pub(super) fn bytes(self) -> Result<Vec<u8>> {
        let own = IpAddr::from([192, 168, 50, 6]);
        let own_v6 = IpAddr::from([0xfd00, 0x50, 0, 0, 0, 0, 0, 6]);
        match self {
            Self::Foreign => tcp(own, false, 0),
            Self::ForeignV6 => tcp(own_v6, false, 0),
            Self::Ack => tcp(V4, false, 0),
            Self::Data => tcp(V4, false, 1_400),
            Self::Syn => tcp(V4, true, 0),
            Self::Datagram => datagram(),
            Self::V6Ack => tcp(V6, false, 0),
            Self::V6Syn => tcp(V6, true, 0),
            Self::Tagged => {
                let frame = tcp(V4, false, 0)?;
                Ok([&frame[..12], &[0x81, 0, 0, 100], &frame[12..]].concat())
            }
        }
    }
}

fn tcp(to: IpAddr, opens: bool, payload: usize) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], CLUSTER_MAC);
    let builder = match to {
        IpAddr::V4(to) => builder.ipv4([203, 0, 113, 10], to.octets(), 64),
        IpAddr::V6(to) => {
            builder.ipv6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10], to.octets(), 64)
        }
    };
    let builder = builder.tcp(CLIENT_PORT, PORT, 1, 65_535);
    let builder = if opens { builder.syn() } else { builder.ack(1) };
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0; payload])?;
    Ok(frame)
}

fn datagram() -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], CLUSTER_MAC);
    let builder = builder.ipv4([203, 0, 113, 10], [192, 168, 50, 8], 64).udp(CLIENT_PORT, PORT);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"example")?;
    Ok(frame)
}
