//! Ethernet, VLAN tags, ARP and neighbour solicitations.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use lb_common::packet::protocol;
use lb_common::verdict::Reason;
use rollcall_tests::verdicts::Setting;

use crate::frames::*;
use crate::scene::*;
use crate::table::{Row, answers, drops, passes, untouched};

pub(crate) fn rows() -> Vec<Row> {
    let rows = [
        ethernet_rows(),
        arp_rows(),
        other_arp_rows(),
        solicitation_rows(),
        probe_rows(),
        other_solicitation_rows(),
    ];
    rows.into_iter().flatten().chain([V4, V6].into_iter().flat_map(vlan_rows)).collect()
}

fn ethernet_rows() -> Vec<Row> {
    let syn = || V4.tcp(40_000, 443, SYN);
    vec![
        untouched(
            "an unknown protocol",
            ethernet(CLUSTER_MAC, 0x88cc, &[0; 46]),
            Reason::OtherProtocolFamily,
        )
        .mine(),
        untouched("an IEEE 802.3 length", ethernet(CLUSTER_MAC, 46, &[0; 46]), Reason::OtherProtocolFamily)
            .mine(),
        untouched("IPv4 without a byte", ethernet(CLUSTER_MAC, 0x0800, &[]), Reason::Short).mine(),
        untouched("IPv6 without a byte", ethernet(CLUSTER_MAC, 0x86dd, &[]), Reason::Short).mine(),
        untouched("ARP without a byte", ethernet(CLUSTER_MAC, 0x0806, &[]), Reason::OtherArp).mine(),
        untouched("a tag without a byte", ethernet(CLUSTER_MAC, 0x8100, &[]), Reason::Short).mine(),
        untouched("a tag that is cut", tagged(&syn(), &[0])[..17].to_vec(), Reason::Short).mine(),
        untouched("a second tag that is cut", tagged(&syn(), &[0, 0])[..21].to_vec(), Reason::Short).mine(),
        passes("padded to 60 bytes", [syn(), vec![0; 6]].concat(), Reason::NewMine).mine().under(HTTPS),
        passes("of 9,000 bytes", [syn(), vec![0; 8_946]].concat(), Reason::NewMine).mine().under(HTTPS),
        passes("to this very interface's MAC", patched(syn(), 0, &OWN_MAC), Reason::NewMine)
            .mine()
            .under(HTTPS),
        untouched("observing, what passes is not changed", syn(), Reason::NewMine)
            .mine()
            .when(observe)
            .under(HTTPS),
        untouched("observing drops nothing", syn(), Reason::Other).when(observe).under(HTTPS),
        untouched("observing answers no ARP", arp(1, ROUTER4, VIP4), Reason::ArpAnswered).when(observe),
        untouched("observing answers no solicitation", asked(&[]), Reason::NeighbourAnswered).when(observe),
    ]
}

fn observe(setting: &mut Setting) {
    setting.config.observe = 1;
}

/// Which tags a frame needs, where the cluster IPs are in no VLAN, in one, and in two.
fn vlan_rows(pair: Pair) -> Vec<Row> {
    const NONE: [u16; 2] = [0, 0];
    const ONE: [u16; 2] = [7, 0];
    const TWO: [u16; 2] = [5, 7];
    let right: [([u16; 2], &[u16]); 10] = [
        (NONE, &[]),
        (NONE, &[0]),
        (NONE, &[0, 0]),
        (ONE, &[7]),
        (ONE, &[0, 7]),
        (ONE, &[7, 0]),
        (TWO, &[5, 7]),
        ([4095, 0], &[4095]),
        ([1, 4094], &[1, 4094]),
        ([7, 7], &[7, 7]),
    ];
    let wrong: [([u16; 2], &[u16]); 19] = [
        (NONE, &[7]),
        (NONE, &[0, 7]),
        (NONE, &[7, 0]),
        (NONE, &[4095]),
        (ONE, &[]),
        (ONE, &[0]),
        (ONE, &[0, 0]),
        (ONE, &[8]),
        (ONE, &[7, 7]),
        (ONE, &[7, 8]),
        (ONE, &[8, 7]),
        (ONE, &[0, 0, 7]),
        (TWO, &[]),
        (TWO, &[5]),
        (TWO, &[7]),
        (TWO, &[7, 5]),
        (TWO, &[5, 0]),
        (TWO, &[0, 5, 7]),
        (TWO, &[5, 5]),
    ];
    // More tags than are read, of which those that were are right: no IP is seen.
    let too_many: [([u16; 2], &[u16]); 3] = [(NONE, &[0, 0, 0]), (ONE, &[7, 0, 0]), (TWO, &[5, 7, 0])];
    let row = |kind: fn(String, Vec<u8>, Reason) -> Row, reason, (own, tags): ([u16; 2], &[u16])| {
        let name = format!("tags {tags:?} where the cluster has {own:?}, {pair:?}");
        let frame = tagged(&pair.tcp(40_000, 443, SYN), tags);
        kind(name, frame, reason).mine().when(move |setting| setting.config.vlans = own)
    };
    let right = right.map(|case| row(passes, Reason::NewMine, case).under(HTTPS));
    let wrong = wrong.map(|case| row(untouched, Reason::Vlan, case));
    let too_many = too_many.map(|case| row(untouched, Reason::OtherProtocolFamily, case));
    right.into_iter().chain(wrong).chain(too_many).collect()
}

fn arp_rows() -> Vec<Row> {
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let in_vlan = |setting: &mut Setting| setting.config.vlans = [7, 0];
    let request = || arp(1, ROUTER4, VIP4);
    let reply = || arp_reply(ROUTER4, VIP4);
    let answered = Reason::ArpAnswered;
    let relayed = patched(request(), 6, &[2, 0, 0, 0, 0, 0x77]);
    vec![
        answers("a request", request(), answered, reply()),
        answers(
            "for the other cluster IP",
            arp(1, ROUTER4, OTHER_VIP4),
            answered,
            arp_reply(ROUTER4, OTHER_VIP4),
        ),
        answers("a probe (RFC 5227)", arp(1, nobody, VIP4), answered, arp_reply(nobody, VIP4)),
        answers("a stranger that claims it", arp(1, VIP4, VIP4), answered, arp_reply(VIP4, VIP4)),
        answers(
            "to this node alone, as lease probes are",
            patched(request(), 0, &OWN_MAC),
            answered,
            reply(),
        ),
        answers("padded", [request(), vec![0; 18]].concat(), answered, [reply(), vec![0; 18]].concat()),
        answers(
            "by way of a relay: the answer goes back there",
            relayed,
            answered,
            patched(reply(), 0, &[2, 0, 0, 0, 0, 0x77]),
        ),
        answers("in its VLAN", tagged(&request(), &[7]), answered, tagged(&reply(), &[7])).when(in_vlan),
        answers("with a priority tag", tagged(&request(), &[0]), answered, tagged(&reply(), &[0])),
        answers("of the cluster for its other IP", from_cluster(1, VIP4, OTHER_VIP4), answered, {
            let reply = arp_reply(VIP4, OTHER_VIP4);
            let reply = patched(reply, 32, &CLUSTER_MAC);
            patched(reply, 0, &CLIENT_MAC)
        }),
        untouched("in another VLAN", tagged(&request(), &[8]), Reason::Vlan).when(in_vlan),
        untouched("in no VLAN", request(), Reason::Vlan).when(in_vlan),
        drops("an announcement of the cluster", from_cluster(1, VIP4, VIP4), Reason::Announcement),
        drops("the same after the lease", from_cluster(1, VIP4, VIP4), Reason::Announcement).expired(),
        drops("after the lease", request(), Reason::ArpNoLease).expired(),
        drops("after the lease, even where TCP ignores it", request(), Reason::ArpNoLease)
            .expired()
            .when(|setting| setting.config.ignore_lease = 1),
    ]
}

fn from_cluster(operation: u16, sender: IpAddr, target: IpAddr) -> Vec<u8> {
    patched(arp_from(CLUSTER_MAC, operation, sender, target), 6, &CLIENT_MAC)
}

fn other_arp_rows() -> Vec<Row> {
    let request = || arp(1, ROUTER4, VIP4);
    let row = |name: &str, frame| untouched(format!("ARP: {name}"), frame, Reason::OtherArp);
    let mut rows = vec![
        row("a reply", arp(2, ROUTER4, VIP4)),
        row("a reply of the cluster", from_cluster(2, VIP4, VIP4)),
        row("a reverse request", arp(3, ROUTER4, VIP4)),
        row("operation 257", arp(257, ROUTER4, VIP4)),
        row("for another address", arp(1, ROUTER4, OWN4)),
        row("by the cluster IP for another address", arp(1, VIP4, ROUTER4)),
        row("of another kind of hardware", patched(request(), 14, &[0, 6])),
        row("about IPv6", patched(request(), 16, &[0x86, 0xdd])),
        row("with hardware addresses of 8 bytes", patched(request(), 18, &[8])),
        row("with protocol addresses of 16 bytes", patched(request(), 19, &[16])),
        row("for another address, after the lease", arp(1, ROUTER4, OWN4)).expired(),
    ];
    rows.extend((14..42).map(|length| row(&format!("cut to {length} bytes"), request()[..length].to_vec())));
    rows
}

/// What every node answers: the cluster MAC stands in the ARP packet, and never in the Ethernet header.
fn arp_reply(asker: IpAddr, vip: IpAddr) -> Vec<u8> {
    let ethernet = [&CLIENT_MAC[..], &OWN_MAC, &[8, 6]].concat();
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    [&ethernet[..], &head, &CLUSTER_MAC, &v4(vip), &CLIENT_MAC, &v4(asker)].concat()
}

/// A solicitation for the cluster IP as a router sends it, to the group.
fn asked(options: &[u8]) -> Vec<u8> {
    solicitation(ROUTER6, group_of(VIP6), VIP6, options)
}

const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// The option of RFC 7527 against looped-back probes.
const NONCE: [u8; 8] = [14, 1, 1, 2, 3, 4, 5, 6];

fn solicitation_rows() -> Vec<Row> {
    let in_vlans = |setting: &mut Setting| setting.config.vlans = [5, 7];
    let answer = || advertisement(CLIENT_MAC, ROUTER6, VIP6, SOLICITED | OVERRIDE);
    let padded = || [&answer()[..], &NONCE].concat();
    let long = [SOURCE_MAC_OPTION, NONCE].concat();
    let unicast = |options: &[u8]| solicitation(ROUTER6, VIP6, VIP6, options);
    let labelled = patched(asked(&[]), 14, &[0x6e, 1, 2, 3]);
    let answered = Reason::NeighbourAnswered;
    vec![
        answers("a solicitation", asked(&SOURCE_MAC_OPTION), answered, answer()),
        answers("without options: the frame grows", asked(&[]), answered, answer()),
        answers("with two options: the rest is padding", asked(&long), answered, padded()),
        answers("to the cluster IP itself", unicast(&SOURCE_MAC_OPTION), answered, answer()),
        answers("the same without options", unicast(&[]), answered, answer()),
        answers("in its VLANs", tagged(&asked(&[]), &[5, 7]), answered, tagged(&answer(), &[5, 7]))
            .when(in_vlans),
        answers("with a priority tag", tagged(&asked(&long), &[0]), answered, tagged(&padded(), &[0])),
        answers("with a traffic class and a flow label", labelled, answered, answer()),
        answers(
            "of a client on the link",
            solicitation(CLIENT6, group_of(VIP6), VIP6, &[]),
            answered,
            advertisement(CLIENT_MAC, CLIENT6, VIP6, SOLICITED | OVERRIDE),
        ),
        answers(
            "for the other cluster IP",
            solicitation(ROUTER6, group_of(OTHER_VIP6), OTHER_VIP6, &[]),
            answered,
            advertisement(CLIENT_MAC, ROUTER6, OTHER_VIP6, SOLICITED | OVERRIDE),
        ),
        drops("a solicitation after the lease", asked(&[]), Reason::NeighbourNoLease).expired(),
        untouched("a solicitation in another VLAN", tagged(&asked(&[]), &[8]), Reason::Vlan),
    ]
}

/// Probes come from nobody, so all are told.
fn probe_rows() -> Vec<Row> {
    const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
    let nobody = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let all_nodes = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    let row = |name: &str, vip, options: &[u8]| {
        let probe = solicitation(nobody, group_of(vip), vip, options);
        let answer = advertisement(ALL_NODES_MAC, all_nodes, vip, OVERRIDE);
        answers(name, probe, Reason::NeighbourAnswered, answer)
    };
    vec![row("a probe", VIP6, &[]), row("a probe with a nonce", OTHER_VIP6, &NONCE)]
}

fn other_solicitation_rows() -> Vec<Row> {
    const HOP_LIMIT: usize = 14 + 7;
    const CODE: usize = 54 + 1;
    let to_vip = || solicitation(ROUTER6, VIP6, VIP6, &[]);
    let with_header = |to: IpAddr| {
        let body = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &v6(VIP6)].concat();
        let (next, payload) = extended(&[(HOP_BY_HOP, options(0))], protocol::ICMPV6, &body);
        frame(&patched(ip(ROUTER6, to, next, &payload), 7, &[255]))
    };
    let foreign = |name, frame| untouched(name, frame, Reason::OtherAddress).mine();
    let other = |name, frame| drops(name, frame, Reason::OtherIcmp).mine();
    let mut rows = vec![
        foreign("for another address", solicitation(ROUTER6, group_of(OWN6), OWN6, &[])),
        foreign("for an address in the same group", {
            let same_group = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 8));
            solicitation(ROUTER6, group_of(VIP6), same_group, &[])
        }),
        foreign("to an address of this node, for it", solicitation(ROUTER6, OWN6, OWN6, &[])),
        foreign("routed to the group", patched(asked(&[]), HOP_LIMIT, &[254])),
        foreign("to the group with code 1", patched(asked(&[]), CODE, &[1])),
        foreign("to the group with a short stated length", patched(asked(&[]), 18, &[0, 23])),
        foreign("to the group behind another header", with_header(group_of(VIP6))),
        foreign("to the group in a packet of version 4", patched(asked(&[]), 14, &[0x45])),
        foreign(
            "to all nodes",
            solicitation(ROUTER6, IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)), VIP6, &[]),
        ),
        other("routed to the cluster IP", patched(to_vip(), HOP_LIMIT, &[64])),
        other("to the cluster IP with code 1", patched(to_vip(), CODE, &[1])),
        other("to the cluster IP with a short stated length", patched(to_vip(), 18, &[0, 23])),
        other("to the cluster IP behind another header", with_header(VIP6)),
        other("to the cluster IP for another address", solicitation(ROUTER6, VIP6, OWN6, &[])),
        other("an advertisement to the cluster IP", patched(to_vip(), 54, &[136])),
        other("a router solicitation to the cluster IP", patched(to_vip(), 54, &[133])),
        drops(
            "to the cluster IP in a packet of version 4",
            patched(to_vip(), 14, &[0x45]),
            Reason::BadIpHeader,
        )
        .mine(),
    ];
    rows.extend((54..78).map(|length| foreign("to the group, cut", asked(&[])[..length].to_vec())));
    rows.extend((62..78).map(|length| other("to the cluster IP, cut", to_vip()[..length].to_vec())));
    rows
}

/// What every node answers, checksum and all as etherparse makes it.
fn advertisement(to_mac: [u8; 6], to: IpAddr, vip: IpAddr, flags: u8) -> Vec<u8> {
    let option = [&[2, 1][..], &CLUSTER_MAC].concat();
    let builder = PacketBuilder::ethernet2(OWN_MAC, to_mac).ipv6(v6(vip), v6(to), 255);
    let mut frame = Vec::new();
    let payload = [&v6(vip)[..], &option].concat();
    builder.icmpv6_raw(136, 0, [flags, 0, 0, 0]).write(&mut frame, &payload).unwrap();
    frame
}
