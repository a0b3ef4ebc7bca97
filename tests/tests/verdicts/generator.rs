//! Frames of all kinds, for proptest: well-formed ones, and what damage makes of them.

use std::net::IpAddr;

use lb_common::packet::protocol;
use lb_common::verdict::HEARING_TEST;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::frames::*;
use crate::scene::*;

/// A frame with well-formed headers, most of them for a cluster IP of `Scene::new`, most of them with its tags.
pub(crate) fn well_formed(vlans: [u16; 2]) -> impl Strategy<Value = Vec<u8>> {
    let untagged = prop_oneof![
        24 => (ip_packet(), any::<bool>()).prop_map(|(packet, own)| {
            if own { patched(frame(&packet), 0, &OWN_MAC) } else { frame(&packet) }
        }),
        2 => any_arp(),
        3 => any_solicitation(),
        1 => select(vec![0x002e, 0x0805, 0x0842, 0x8035, 0x8847, 0x8863, 0x88cc, 0xffff])
            .prop_map(|number| ethernet(CLUSTER_MAC, number, &[0; 46])),
    ];
    let right: Vec<u16> = vlans.into_iter().filter(|&vlan| vlan != 0).collect();
    let any = select(vec![vec![], vec![0], vec![7], vec![0, 7], vec![5, 7], vec![7, 5], vec![8], vec![0, 0]]);
    let tags = prop_oneof![12 => Just(right), 1 => any];
    let padding = prop_oneof![8 => Just(0usize), 3 => 0usize..60, 1 => 1_000usize..5_000];
    (untagged, tags, padding).prop_map(|(frame, tags, padding)| {
        let mut frame = tagged(&frame, &tags);
        frame.resize(frame.len() + padding, 0);
        frame
    })
}

/// What is done to a frame: bytes set, bytes cut off the end.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    changes: Vec<(Index, u8)>,
    end: Option<Index>,
}

impl Damage {
    /// 14 bytes at least: the kernel feeds no shorter ones.
    pub(crate) fn of(&self, frame: &[u8]) -> Vec<u8> {
        const HEADERS: usize = 120;
        let mut frame = frame.to_vec();
        if let Some(end) = self.end {
            frame.truncate(end.index(frame.len().min(HEADERS)).max(14));
        }
        for (at, byte) in &self.changes {
            let at = at.index(frame.len().min(HEADERS));
            frame[at] = *byte;
        }
        frame
    }
}

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    // The bytes that mean something somewhere, and any.
    let byte = prop_oneof![
        select(vec![0, 1, 2, 4, 5, 6, 8, 17, 20, 40, 43, 44, 47, 51, 58, 59, 60, 0x45, 0x60, 128, 135, 255]),
        any::<u8>(),
    ];
    let changes = prop::collection::vec((any::<Index>(), byte), 0..4);
    let end = prop::option::weighted(0.25, any::<Index>());
    (changes, end).prop_map(|(changes, end)| Damage { changes, end })
}

/// No frame in particular.
pub(crate) fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 14..200)
}

fn pair() -> impl Strategy<Value = Pair> {
    let v4 = (any::<[u8; 4]>(), select(vec![VIP4, VIP4, VIP4, OTHER_VIP4, OWN4]))
        .prop_map(|(client, vip)| Pair { client: client.into(), vip });
    let v6 = (any::<[u8; 16]>(), select(vec![VIP6, VIP6, VIP6, OTHER_VIP6, OWN6]))
        .prop_map(|(client, vip)| Pair { client: client.into(), vip });
    prop_oneof![v4, v6]
}

/// What an IP packet carries; what depends on the family is decided when it is written.
#[derive(Clone, Debug)]
enum Body {
    Tcp { from: u16, to: u16, flags: u8, acknowledgement: u32 },
    Udp { from: u16, to: u16, payload: Vec<u8> },
    Echo,
    Icmp(u8),
    Error { kind: u8, quoted: Quoted },
    Other(u8),
}

/// A packet that an ICMP error quotes.
#[derive(Clone, Debug)]
struct Quoted {
    vip: bool,
    body: Box<Body>,
    headers: Headers,
    cut: Option<Index>,
}

/// What stands between the IP header and its payload.
#[derive(Clone, Debug)]
struct Headers {
    /// IPv6: these extension headers, of these lengths; IPv4: as many words of options.
    options: Vec<(u8, u8)>,
    fragment: Option<(u16, bool)>,
}

fn headers() -> impl Strategy<Value = Headers> {
    let header = (select(vec![DESTINATION, DESTINATION, ROUTING]), prop_oneof![9 => 0u8..4, 1 => 40u8..80]);
    let options = prop_oneof![6 => Just(vec![]), 2 => prop::collection::vec(header, 0..9)];
    let fragment = prop::option::weighted(0.15, (prop_oneof![Just(0u16), 1u16..8192], any::<bool>()));
    (options, fragment).prop_map(|(options, fragment)| Headers { options, fragment })
}

fn tcp_or_udp() -> impl Strategy<Value = Body> {
    let named = select(vec![443u16, 443, 445, 8000, 25, 23, 9000, 10_443, 143, 65_535, 22]);
    let flags = prop_oneof![Just(SYN), Just(ACK), any::<u8>()];
    let tcp = (any::<u16>(), prop_oneof![9 => named, 1 => any::<u16>()], flags, any::<u32>())
        .prop_map(|(from, to, flags, acknowledgement)| Body::Tcp { from, to, flags, acknowledgement });
    let named = select(vec![443u16, 443, 53, 0, 9, 10, 123]);
    let udp =
        (any::<u16>(), prop_oneof![9 => named, 1 => any::<u16>()], prop::collection::vec(any::<u8>(), 0..12))
            .prop_map(|(from, to, payload)| Body::Udp { from, to, payload });
    prop_oneof![2 => tcp, 1 => udp]
}

fn body() -> impl Strategy<Value = Body> {
    let hearing = (0u8..70).prop_map(|node| Body::Udp {
        from: HEARING_PORT,
        to: HEARING_PORT,
        payload: [&HEARING_TEST[..], &[node]].concat(),
    });
    let quoted = prop_oneof![8 => tcp_or_udp(), 1 => Just(Body::Echo), 1 => Just(Body::Other(GRE))];
    let quoted = (prop::bool::weighted(0.9), quoted, headers(), prop::option::weighted(0.2, any::<Index>()))
        .prop_map(|(vip, body, headers, cut)| Quoted { vip, body: Box::new(body), headers, cut });
    prop_oneof![
        10 => tcp_or_udp(),
        1 => hearing,
        1 => Just(Body::Echo),
        1 => any::<u8>().prop_map(Body::Icmp),
        4 => (any::<u8>(), quoted).prop_map(|(kind, quoted)| Body::Error { kind, quoted }),
        1 => select(vec![GRE, 50, 59, 132, 4, 41, 89, 103, 253, 255]).prop_map(Body::Other),
    ]
}

fn ip_packet() -> impl Strategy<Value = Vec<u8>> {
    (pair(), body(), headers()).prop_map(|(pair, body, headers)| {
        let (protocol, payload) = body.payload(pair);
        headers.packet(pair.client, pair.vip, protocol, &payload)
    })
}

impl Body {
    /// The protocol's number, and the payload of a packet from the client to the cluster.
    fn payload(&self, pair: Pair) -> (u8, Vec<u8>) {
        match self {
            Self::Tcp { from, to, flags, acknowledgement } => {
                (protocol::TCP, tcp(*from, *to, *flags, *acknowledgement))
            }
            Self::Udp { from, to, payload } => (protocol::UDP, udp(*from, *to, payload)),
            Self::Echo => (pair.icmp_protocol(), icmp(if pair.is_v6() { 128 } else { 8 }, b"ping")),
            Self::Icmp(kind) => (pair.icmp_protocol(), icmp(*kind, &[0; 12])),
            Self::Error { kind, quoted } => {
                let kinds = if pair.is_v6() { [1, 2, 3, 4] } else { [3, 4, 11, 12] };
                let kind = kinds[usize::from(*kind) % kinds.len()];
                (pair.icmp_protocol(), icmp(kind, &quoted.bytes(pair)))
            }
            Self::Other(number) => (*number, vec![0; 8]),
        }
    }

    /// The same, from the cluster to the client.
    fn answer(&self, pair: Pair) -> (u8, Vec<u8>) {
        match self {
            Self::Tcp { from, to, flags, acknowledgement } => {
                (protocol::TCP, tcp(*to, *from, *flags, *acknowledgement))
            }
            Self::Udp { from, to, payload } => (protocol::UDP, udp(*to, *from, payload)),
            Self::Echo | Self::Icmp(_) | Self::Error { .. } | Self::Other(_) => self.payload(pair),
        }
    }
}

impl Quoted {
    fn bytes(&self, pair: Pair) -> Vec<u8> {
        let (protocol, payload) = self.body.answer(pair);
        let from = if self.vip { pair.vip } else { pair.client };
        let mut packet = self.headers.packet(from, pair.client, protocol, &payload);
        if let Some(cut) = self.cut {
            packet.truncate(cut.index(packet.len()));
        }
        packet
    }
}

impl Headers {
    fn packet(&self, from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        if from.is_ipv6() {
            self.v6(from, to, protocol, payload)
        } else {
            self.v4(from, to, protocol, payload)
        }
    }

    fn v4(&self, from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let words = self.options.len();
        let options = vec![1; words * 4];
        let length = (20 + options.len() + payload.len()) as u16;
        let mut packet = patched(ip(from, to, protocol, payload), 2, &length.to_be_bytes());
        packet[0] = 0x45 + words as u8;
        packet.splice(20..20, options);
        match self.fragment {
            Some((offset, more)) => patched(packet, 6, &(offset | u16::from(more) << 13).to_be_bytes()),
            None => packet,
        }
    }

    fn v6(&self, from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut headers: Vec<(u8, Vec<u8>)> =
            self.options.iter().map(|&(kind, more)| (kind, options(more))).collect();
        headers.extend(self.fragment.map(|(offset, more)| (FRAGMENT, fragment_header(offset, more))));
        let (next, bytes) = extended(&headers, protocol, payload);
        ip(from, to, next, &bytes)
    }
}

fn any_arp() -> impl Strategy<Value = Vec<u8>> {
    let sender = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), Just(VIP4)];
    let mac = select(vec![CLIENT_MAC, CLUSTER_MAC]);
    (mac, 1u16..4, sender, select(vec![VIP4, OTHER_VIP4, OWN4]))
        .prop_map(|(mac, operation, sender, target)| arp_from(mac, operation, sender, target))
}

fn any_solicitation() -> impl Strategy<Value = Vec<u8>> {
    let from = select(vec![ROUTER6, CLIENT6, IpAddr::from([0; 16])]);
    let target = select(vec![VIP6, VIP6, OTHER_VIP6, OWN6]);
    let options: Vec<&'static [u8]> =
        vec![&[], &SOURCE_MAC_OPTION, &[14, 1, 1, 2, 3, 4, 5, 6, 14, 1, 1, 2, 3, 4, 5, 6]];
    (from, target, any::<bool>(), select(options)).prop_map(|(from, target, unicast, options)| {
        let to = if unicast { target } else { group_of(target) };
        solicitation(from, to, target, options)
    })
}
