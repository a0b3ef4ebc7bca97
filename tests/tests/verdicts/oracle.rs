//! A second opinion on well-formed frames: parsed by etherparse, hashed by the crate siphasher, decided by what DESIGN says, with no
//! line of lb-common but the names of the reasons and the bytes of the owner tables. So a mistake in the code that kernel and
//! host share does not hide.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::net::IpAddr;

use etherparse::{ArpPacketSlice, LaxIpSlice, LaxNetSlice, LaxSlicedPacket, TcpHeaderSlice, UdpHeaderSlice};
use lb_common::table::{Affinity, BucketState};
use lb_common::verdict::Reason;
use proptest::prelude::*;
use rollcall_tests::verdicts::{Outcome, Setting};
use siphasher::sip::SipHasher13;

use crate::frames::*;
use crate::generator::well_formed;
use crate::random::{mixed, runner};
use crate::scene::*;

#[test]
fn a_second_parser_and_policy_comes_to_the_same_verdicts() {
    const CASES: u32 = 9_000;
    let mut reasons = BTreeMap::new();
    for oracle in oracles() {
        let setting = oracle.setting();
        let count = std::cell::RefCell::new(&mut reasons);
        let agree = |frame: Vec<u8>| {
            let Outcome { reason, rule, .. } = setting.feed(&frame);
            let expected = oracle.verdict(&frame);
            prop_assert_eq!((reason, rule), expected, "the host (left) and the oracle on {:02x?}", frame);
            *count.borrow_mut().entry(reason).or_insert(0u32) += 1;
            Ok(())
        };
        runner(CASES).run(&well_formed(oracle.scene.vlans), agree).unwrap();
    }
    let frames: u32 = reasons.values().sum();
    println!("{frames} frames: {reasons:?}");
    assert!(frames >= 50_000 && reasons.len() > 25, "{frames} frames of {} reasons", reasons.len());
}

fn oracles() -> Vec<Oracle> {
    let oracle =
        |vlans, default_host, lease| Oracle { scene: Scene { vlans, default_host, ..Scene::new() }, lease };
    vec![
        oracle([0, 0], false, true),
        oracle([0, 0], true, true),
        oracle([0, 0], false, false),
        oracle([0, 0], true, false),
        oracle([7, 0], true, true),
        oracle([5, 7], false, true),
    ]
}

/// Decides by the cluster as an operator would describe it. There are no sockets.
struct Oracle {
    scene: Scene,
    lease: bool,
}

/// A flow as far as rule and bucket depend on it.
struct Flow {
    vip: IpAddr,
    client: IpAddr,
    protocol: u8,
    port: u16,
    client_port: u16,
}

type Verdict = (Reason, u8);

impl Oracle {
    fn setting(&self) -> Setting {
        let mut setting = self.scene.setting();
        setting.tables.fill(mixed());
        setting.lease = self.lease;
        setting
    }

    fn verdict(&self, frame: &[u8]) -> Verdict {
        let packet = LaxSlicedPacket::from_ethernet(frame).unwrap();
        let tags: Vec<u16> = packet.vlan_ids().iter().map(|id| id.value()).filter(|&id| id != 0).collect();
        let own: Vec<u16> = self.scene.vlans.into_iter().filter(|&id| id != 0).collect();
        if tags != own {
            return (Reason::Vlan, 0);
        }
        match &packet.net {
            None => (Reason::OtherProtocolFamily, 0),
            Some(LaxNetSlice::Arp(arp)) => (self.arp(arp), 0),
            Some(LaxNetSlice::Ipv4(ip)) => self.ip(&LaxIpSlice::Ipv4(ip.clone()), frame),
            Some(LaxNetSlice::Ipv6(ip)) => self.ip(&LaxIpSlice::Ipv6(ip.clone()), frame),
        }
    }

    fn arp(&self, arp: &ArpPacketSlice<'_>) -> Reason {
        let address = |bytes: &[u8]| IpAddr::from(<[u8; 4]>::try_from(bytes).unwrap());
        let (sender, target) = (address(arp.sender_protocol_addr()), address(arp.target_protocol_addr()));
        if arp.operation().0 != 1 || !self.scene.vips.contains(&target) {
            Reason::OtherArp
        } else if sender == target && arp.sender_hw_addr() == CLUSTER_MAC {
            Reason::Announcement
        } else if self.lease {
            Reason::ArpAnswered
        } else {
            Reason::ArpNoLease
        }
    }

    fn ip(&self, ip: &LaxIpSlice<'_>, frame: &[u8]) -> Verdict {
        if let Some(reason) = self.solicitation(ip) {
            return (reason, 0);
        }
        let (client, vip) = (ip.source_addr(), ip.destination_addr());
        if !self.scene.vips.contains(&vip) {
            return (Reason::OtherAddress, 0);
        }
        let headers = Headers::of(ip);
        if headers.too_many(ip, frame) {
            return (Reason::TooManyHeaders, 0);
        }
        if headers.later_fragment {
            return (if self.lease { Reason::Fragment } else { Reason::FragmentNoLease }, 0);
        }
        let payload = ip.payload();
        let flow = |protocol, client_port, port| Flow { vip, client, protocol, port, client_port };
        match (payload.ip_number.0, vip.is_ipv6()) {
            (6, _) => {
                let tcp = TcpHeaderSlice::from_slice(payload.payload).unwrap();
                let opens = tcp.syn() && !tcp.ack() && !tcp.rst() && !tcp.fin();
                self.tcp(&flow(6, tcp.source_port(), tcp.destination_port()), opens)
            }
            (17, _) => {
                let udp = UdpHeaderSlice::from_slice(payload.payload).unwrap();
                if udp.destination_port() == HEARING_PORT && is_hearing_test(frame, &payload.payload[8..]) {
                    return (Reason::HearingTest, 0);
                }
                self.unprotected(&flow(17, udp.source_port(), udp.destination_port()))
            }
            (1, false) | (58, true) => self.icmp(client, vip, payload.payload, frame),
            (protocol, _) if self.scene.default_host => self.unprotected(&flow(protocol, 0, 0)),
            (_, _) => (Reason::OtherProtocol, 0),
        }
    }

    /// Of a neighbour solicitation, if it is one that the cluster looks at.
    fn solicitation(&self, ip: &LaxIpSlice<'_>) -> Option<Reason> {
        let ip = ip.ipv6()?;
        let (header, payload) = (ip.header(), ip.payload());
        let whole = payload.payload.len() >= 24 && header.payload_length() >= 24;
        let first = header.next_header().0 == 58 && header.hop_limit() == 255;
        if !first || !whole || payload.payload[..2] != [135, 0] {
            return None;
        }
        let to = IpAddr::V6(header.destination_addr());
        let to_vip = self.scene.vips.contains(&to);
        let target = IpAddr::from(<[u8; 16]>::try_from(&payload.payload[8..24]).unwrap());
        let to_group = header.destination()[..13] == v6(group_of(target))[..13];
        match (self.scene.vips.contains(&target), to_vip, to_group) {
            (_, false, false) => None,
            (true, _, _) if self.lease => Some(Reason::NeighbourAnswered),
            (true, _, _) => Some(Reason::NeighbourNoLease),
            (false, true, _) => Some(Reason::OtherIcmp),
            (false, false, true) => Some(Reason::OtherAddress),
        }
    }

    fn tcp(&self, flow: &Flow, opens: bool) -> Verdict {
        let (number, rule) = match self.rule(flow) {
            Ok(found) => found,
            Err(verdict) => return verdict,
        };
        if !opens && !rule.local {
            return self.unprotected(flow);
        }
        let reason = match (self.state(&rule, flow), opens, self.lease) {
            (BucketState::Other, _, _) => Reason::Other,
            (BucketState::Departing, true, _) => Reason::NewDeparting,
            (BucketState::Mine | BucketState::Arriving, true, false) => Reason::NewNoLease,
            (BucketState::Mine, true, true) => Reason::NewMine,
            (BucketState::Arriving, true, true) => Reason::NewArriving,
            (BucketState::Mine, false, true) => Reason::Mine,
            (BucketState::Mine | BucketState::Arriving | BucketState::Departing, false, _) => {
                Reason::NoSocket
            }
        };
        (reason, number)
    }

    fn unprotected(&self, flow: &Flow) -> Verdict {
        let (number, rule) = match self.rule(flow) {
            Ok(found) => found,
            Err(verdict) => return verdict,
        };
        let reason = match (self.state(&rule, flow), self.lease) {
            (BucketState::Other, _) => Reason::Other,
            (BucketState::Departing, _) => Reason::Departing,
            (BucketState::Mine | BucketState::Arriving, false) => Reason::NoLease,
            (BucketState::Mine, true) => Reason::Mine,
            (BucketState::Arriving, true) => Reason::Arriving,
        };
        (reason, number)
    }

    fn icmp(&self, client: IpAddr, vip: IpAddr, message: &[u8], frame: &[u8]) -> Verdict {
        let (echo, errors): (u8, &[u8]) =
            if vip.is_ipv6() { (128, &[1, 2, 3, 4]) } else { (8, &[3, 4, 11, 12]) };
        if message[0] == echo {
            let flow = Flow { vip, client, protocol: 0, port: 0, client_port: 0 };
            let reason = match (self.state(&rule_0(), &flow), self.lease) {
                (BucketState::Other | BucketState::Departing, _) => Reason::EchoOther,
                (BucketState::Mine | BucketState::Arriving, true) => Reason::Echo,
                (BucketState::Mine | BucketState::Arriving, false) => Reason::EchoNoLease,
            };
            return (reason, 0);
        }
        if !errors.contains(&message[0]) {
            return (Reason::OtherIcmp, 0);
        }
        let Some(flow) = self.quoted(&message[8..], frame) else {
            return (Reason::BadQuote, 0);
        };
        match self.rule(&flow) {
            Err(verdict) => verdict,
            Ok((number, rule)) => match self.state(&rule, &flow) {
                BucketState::Other => (Reason::IcmpErrorOther, number),
                BucketState::Mine | BucketState::Arriving | BucketState::Departing => {
                    (Reason::IcmpError, number)
                }
            },
        }
    }

    /// The flow of a packet that the cluster sent.
    fn quoted(&self, packet: &[u8], frame: &[u8]) -> Option<Flow> {
        let (ip, cut) = LaxIpSlice::from_slice(packet).ok()?;
        if cut.is_some() {
            // etherparse 0.21 must not be asked for headers that are not there whole.
            return None;
        }
        let headers = Headers::of(&ip);
        let (vip, client, payload) = (ip.source_addr(), ip.destination_addr(), ip.payload());
        let sent_by_cluster = self.scene.vips.contains(&vip);
        if !sent_by_cluster || headers.later_fragment || headers.too_many(&ip, frame) {
            return None;
        }
        let protocol = payload.ip_number.0;
        let (port, client_port) = match (protocol, payload.payload) {
            (6 | 17, &[p0, p1, c0, c1, ..]) => (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([c0, c1])),
            (6 | 17, _) => return None,
            (_, _) => (0, 0),
        };
        Some(Flow { vip, client, protocol, port, client_port })
    }

    /// The number of the flow's rule, and the rule; or why nothing serves it.
    fn rule(&self, flow: &Flow) -> Result<(u8, PortRule), Verdict> {
        let fits = |rule: &PortRule| rule.fits(flow.vip, flow.protocol, flow.port);
        match self.scene.rules.iter().position(fits) {
            Some(place) if self.scene.rules[place].enabled => {
                Ok((place as u8 + 1, self.scene.rules[place].clone()))
            }
            Some(place) => Err((Reason::RuleDisabled, place as u8 + 1)),
            None if self.scene.default_host => Ok((0, rule_0())),
            None => Err((Reason::Unmatched, 0)),
        }
    }

    fn state(&self, rule: &PortRule, flow: &Flow) -> BucketState {
        let mut hasher = SipHasher13::new_with_keys(self.scene.seed[0], self.scene.seed[1]);
        hasher.write(&hashed(rule.affinity, flow.client, flow.client_port));
        let bucket = hasher.finish() as usize % 4096;
        match mixed().0[bucket] {
            1 => BucketState::Mine,
            2 => BucketState::Arriving,
            3 => BucketState::Departing,
            _ => BucketState::Other,
        }
    }
}

/// What of a client is hashed: its network and its port, as they stand in a packet.
fn hashed(affinity: Affinity, client: IpAddr, port: u16) -> Vec<u8> {
    let (v4_prefix, v6_prefix, port) = match affinity {
        Affinity::None => (32, 128, port),
        Affinity::Single => (32, 128, 0),
        Affinity::Network { v4, v6 } => (v4, v6, 0),
    };
    let network = match client {
        IpAddr::V4(ip) => (ip.to_bits() >> (32 - v4_prefix) << (32 - v4_prefix)).to_be_bytes().to_vec(),
        IpAddr::V6(ip) => (ip.to_bits() >> (128 - v6_prefix) << (128 - v6_prefix)).to_be_bytes().to_vec(),
    };
    [network, port.to_be_bytes().to_vec()].concat()
}

/// What no rule names: as one rule, by the client's address.
fn rule_0() -> PortRule {
    PortRule {
        vip: None,
        protocol: 0,
        ports: 0..=0,
        table: SINGLE,
        affinity: Affinity::Single,
        enabled: true,
        local: true,
        sticky: false,
    }
}

fn is_hearing_test(frame: &[u8], payload: &[u8]) -> bool {
    let genuine = payload.starts_with(b"rchear1") && frame[..6] == CLUSTER_MAC;
    genuine && payload.get(7).is_some_and(|node| (1..=64).contains(node))
}

/// Of IPv4 fragments, and of IPv6 extension headers.
struct Headers {
    count: usize,
    later_fragment: bool,
}

impl Headers {
    fn of(ip: &LaxIpSlice<'_>) -> Self {
        use etherparse::Ipv6ExtensionSlice as Extension;
        match ip {
            LaxIpSlice::Ipv4(ip) => {
                Self { count: 0, later_fragment: ip.header().fragments_offset().value() != 0 }
            }
            LaxIpSlice::Ipv6(ip) => {
                let extensions: Vec<Extension<'_>> = ip.extensions().clone().into_iter().collect();
                let is_later = |extension: &Extension<'_>| match extension {
                    Extension::Fragment(header) => header.fragment_offset().value() != 0,
                    Extension::HopByHop(_)
                    | Extension::Routing(_)
                    | Extension::DestinationOptions(_)
                    | Extension::Authentication(_) => false,
                };
                Self { count: extensions.len(), later_fragment: extensions.iter().any(is_later) }
            }
        }
    }

    /// More than six, or one that ends beyond the frame's first 511 bytes. A fragment header that hides all that follows is the last
    /// that is read.
    fn too_many(&self, ip: &LaxIpSlice<'_>, frame: &[u8]) -> bool {
        let LaxIpSlice::Ipv6(ip) = ip else {
            return false;
        };
        let end = ip.payload().payload.as_ptr() as usize - frame.as_ptr() as usize;
        let hidden = if self.later_fragment { 8 } else { 0 };
        self.count > 6 || self.count > 0 && end - hidden > 511
    }
}
