//! The IPv4 and IPv6 headers: addresses, lengths, options, extension headers, fragments, and frames that end too soon.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::packet::protocol;
use lb_common::table::BucketState;
use lb_common::verdict::Reason;

use crate::frames::*;
use crate::scene::*;
use crate::table::{Row, drops, passes, untouched};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = vec![];
    rows.extend([V4, V6].into_iter().flat_map(address_rows));
    rows.extend([V4, V6].into_iter().flat_map(protocol_rows));
    rows.extend([V4, V6].into_iter().flat_map(truncated_rows));
    rows.extend(v4_header_rows());
    rows.extend(v4_length_rows());
    rows.extend(v6_header_rows());
    rows.extend(extension_rows());
    rows.extend(v4_fragment_rows());
    rows.extend(v6_fragment_rows());
    rows
}

fn address_rows(pair: Pair) -> Vec<Row> {
    let (own, multicast, nobody): (_, IpAddr, IpAddr) = if pair.is_v6() {
        (OWN6, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::UNSPECIFIED.into())
    } else {
        (OWN4, Ipv4Addr::new(224, 0, 0, 1).into(), Ipv4Addr::UNSPECIFIED.into())
    };
    let syn = |pair: Pair| pair.tcp(40_000, 443, SYN);
    let strange = [("the cluster IP", pair.vip), ("a multicast group", multicast), ("nobody", nobody)];
    let mut rows = vec![
        untouched("to this node's own address", syn(pair.to(own)), Reason::OtherAddress).mine(),
        untouched("to a multicast group", syn(pair.to(multicast)), Reason::OtherAddress).mine(),
        untouched(
            "of a cluster IP to another address",
            syn(pair.of_client(pair.vip).to(own)),
            Reason::OtherAddress,
        )
        .mine(),
    ];
    // A kernel drops such packets itself; until then they are as any other, and one node's.
    for (name, source) in strange {
        let name = format!("from {name}");
        rows.push(passes(&name, syn(pair.of_client(source)), Reason::NewMine).mine().under(HTTPS));
        rows.push(drops(&name, syn(pair.of_client(source)), Reason::Other).under(HTTPS));
    }
    rows
}

/// Neither TCP, UDP nor this family's ICMP.
fn protocol_rows(pair: Pair) -> Vec<Row> {
    const ESP: u8 = 50;
    const AH: u8 = 51;
    const NOTHING: u8 = 59;
    const SCTP: u8 = 132;
    let other_icmp = if pair.is_v6() { protocol::ICMP } else { protocol::ICMPV6 };
    let mut rows = Vec::new();
    for number in [GRE, ESP, AH, NOTHING, SCTP, other_icmp, 4, 41, 255] {
        let name = format!("protocol {number}, {pair:?}");
        let frame = || pair.frame(number, &[8, 0, 0, 0, 1, 2, 3, 4]);
        let default_host = |row: Row| row.when(|setting| setting.config.rules[0].enabled = 1);
        rows.push(drops(&name, frame(), Reason::OtherProtocol).mine());
        rows.push(default_host(passes(&name, frame(), Reason::Mine)).mine());
        rows.push(default_host(passes(&name, frame(), Reason::Arriving)).all(BucketState::Arriving));
        rows.push(default_host(drops(&name, frame(), Reason::Departing)).all(BucketState::Departing));
        rows.push(default_host(drops(&name, frame(), Reason::Other)));
        rows.push(default_host(drops(&name, frame(), Reason::NoLease)).mine().expired());
        let empty = pair.frame(number, &[]);
        rows.push(default_host(passes(format!("empty {name}"), empty, Reason::Mine)).mine());
    }
    rows
}

/// Cut at every byte.
fn truncated_rows(pair: Pair) -> Vec<Row> {
    let ip_end = if pair.is_v6() { 54 } else { 34 };
    let syn = pair.tcp(40_000, 443, SYN);
    let mut rows = Vec::new();
    for length in 14..=syn.len() {
        let frame = syn[..length].to_vec();
        let name = format!("TCP cut to {length} bytes, {pair:?}");
        rows.push(if length < ip_end {
            untouched(name, frame, Reason::Short).mine()
        } else if length < ip_end + 20 {
            drops(name, frame, Reason::Truncated).mine()
        } else {
            passes(name, frame, Reason::NewMine).mine().under(HTTPS)
        });
    }
    rows
}

fn v4_header_rows() -> Vec<Row> {
    let syn = || V4.tcp(40_000, 443, SYN);
    let mut rows = Vec::new();
    for words in 0..=15 {
        let name = format!("an IPv4 header of {words} words");
        let without = patched(syn(), 14, &[0x40 | words]);
        if words < 5 {
            rows.push(drops(name, without, Reason::BadIpHeader).mine());
            continue;
        }
        let options = usize::from(words - 5) * 4;
        let mut frame = patched(without.clone(), 16, &(40 + options as u16).to_be_bytes());
        frame.splice(34..34, std::iter::repeat_n(1, options));
        rows.push(passes(&name, frame, Reason::NewMine).mine().under(HTTPS));
        if words > 5 {
            rows.push(drops(format!("{name}, of which some are TCP's"), without, Reason::Truncated).mine());
        }
    }
    for version in (0..16).filter(|&version| version != 4) {
        let frame = patched(syn(), 14, &[version << 4 | 5]);
        rows.push(drops(format!("version {version} in IPv4"), frame, Reason::BadIpHeader).mine());
    }
    rows
}

/// What the header says of its packet's length.
fn v4_length_rows() -> Vec<Row> {
    let stated = |length: u16| patched(V4.tcp(40_000, 443, SYN), 16, &length.to_be_bytes());
    let mut rows = vec![
        passes("0, as in aggregates beyond 64 KiB", stated(0), Reason::NewMine).mine().under(HTTPS),
        passes("exactly TCP", stated(40), Reason::NewMine).mine().under(HTTPS),
        passes("more than the frame", stated(1_500), Reason::NewMine).mine().under(HTTPS),
    ];
    for length in [1, 19, 20, 30, 39] {
        rows.push(drops(format!("{length} bytes"), stated(length), Reason::Truncated).mine());
    }
    let udp = patched(V4.udp(40_000, 443), 16, &27u16.to_be_bytes());
    rows.push(drops("too few for UDP", udp, Reason::Truncated).mine());
    let echo = patched(V4.echo(), 16, &27u16.to_be_bytes());
    rows.push(drops("too few for ICMP", echo, Reason::Truncated).mine());
    rows
}

fn v6_header_rows() -> Vec<Row> {
    let syn = || V6.tcp(40_000, 443, SYN);
    let stated = |length: u16| patched(syn(), 18, &length.to_be_bytes());
    let mut rows = vec![
        passes("a traffic class and a flow label", patched(syn(), 14, &[0x6e, 1, 2, 3]), Reason::NewMine)
            .mine()
            .under(HTTPS),
        passes("0, as in aggregates beyond 64 KiB", stated(0), Reason::NewMine).mine().under(HTTPS),
        passes("exactly TCP", stated(20), Reason::NewMine).mine().under(HTTPS),
        passes("more than the frame", stated(1_500), Reason::NewMine).mine().under(HTTPS),
    ];
    for length in [1, 10, 19] {
        rows.push(drops(format!("{length} bytes"), stated(length), Reason::Truncated).mine());
    }
    for version in (0..16).filter(|&version| version != 6) {
        let frame = patched(syn(), 14, &[version << 4]);
        rows.push(drops(format!("version {version} in IPv6"), frame, Reason::BadIpHeader).mine());
    }
    rows
}

/// A SYN behind these headers.
fn behind(headers: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let (next, payload) = extended(headers, protocol::TCP, &tcp(40_000, 443, SYN, 0));
    V6.frame(next, &payload)
}

fn extension_rows() -> Vec<Row> {
    let padding = |count| vec![(DESTINATION, options(0)); count];
    let accepted = |name: &str, frame| passes(name, frame, Reason::NewMine).mine().under(HTTPS);
    let too_many = |name: &str, frame| drops(name, frame, Reason::TooManyHeaders).mine();
    let cut = |name: &str, frame| drops(name, frame, Reason::Truncated).mine();
    let udp = || {
        let (next, payload) = extended(&padding(2), protocol::UDP, &udp(40_000, 443, b""));
        V6.frame(next, &payload)
    };
    let each = [
        (HOP_BY_HOP, options(1)),
        (DESTINATION, options(0)),
        (ROUTING, options(2)),
        (FRAGMENT, fragment_header(0, true)),
    ];
    let mut rows = vec![
        accepted("all four", behind(&each)),
        accepted("six headers", behind(&padding(6))),
        too_many("seven headers", behind(&padding(7))),
        too_many("seven, the last a fragment header", behind(&[padding(6), vec![each[3].clone()]].concat())),
        accepted("headers up to byte 510", behind(&[(DESTINATION, options(56))])),
        too_many("headers up to byte 518", behind(&[(DESTINATION, options(57))])),
        too_many("a header of 2,048 bytes", behind(&[(HOP_BY_HOP, options(255))])),
        too_many("the same, and the frame ends", behind(&[(HOP_BY_HOP, options(255))])[..62].to_vec()),
        passes("UDP behind headers", udp(), Reason::Mine).mine().under(QUIC),
        cut("cut before the header", behind(&padding(1))[..54].to_vec()),
        cut("cut inside the header", behind(&padding(1))[..55].to_vec()),
        cut("cut inside a fragment header", behind(&each[3..])[..57].to_vec()),
        cut("cut behind a header", behind(&padding(1))[..62].to_vec()),
        cut("cut inside TCP behind a header", behind(&padding(1))[..81].to_vec()),
        cut("a stated length that ends inside a header", patched(behind(&padding(1)), 18, &[0, 4])),
        cut(
            "a stated length that ends inside TCP behind a header",
            patched(behind(&padding(1)), 18, &[0, 27]),
        ),
        drops("another node's behind headers", behind(&padding(2)), Reason::Other).under(HTTPS),
        drops(
            "nothing behind a header",
            V6.frame(DESTINATION, &patched(options(0), 0, &[59])),
            Reason::OtherProtocol,
        )
        .mine(),
        drops("authentication is another protocol", behind(&[(51, options(0))]), Reason::OtherProtocol)
            .mine(),
    ];
    for (header, name) in each.iter().zip(["hop-by-hop", "destination", "routing", "fragment"]) {
        rows.push(accepted(name, behind(std::slice::from_ref(header))));
    }
    rows
}

fn v4_fragment_rows() -> Vec<Row> {
    const MORE: u16 = 0x2000;
    const DO_NOT: u16 = 0x4000;
    let with = |bits: u16| patched(V4.tcp(40_000, 443, SYN), 20, &bits.to_be_bytes());
    let later = |name: &str, bits| passes(name, with(bits), Reason::Fragment);
    let tiny = patched(V4.frame(protocol::UDP, &[1]), 20, &[0, 1]);
    vec![
        passes("not to be fragmented", with(DO_NOT), Reason::NewMine).mine().under(HTTPS),
        passes("the first is judged as TCP", with(MORE), Reason::NewMine).mine().under(HTTPS),
        drops("the first, another node's", with(MORE), Reason::Other).under(HTTPS),
        drops("a first that ends inside TCP", with(MORE)[..50].to_vec(), Reason::Truncated).mine(),
        later("a middle one", MORE | 185),
        later("the last", 370),
        later("the second byte's", 1),
        later("of the highest offset", 0x1fff),
        passes("one byte of UDP", tiny, Reason::Fragment),
        passes("in a bucket that leaves", with(185), Reason::Fragment).all(BucketState::Departing),
        drops("a later one after the lease", with(185), Reason::FragmentNoLease).mine().expired(),
        untouched("a later one to another address", patched(with(185), 30, &v4(OWN4)), Reason::OtherAddress),
    ]
}

fn v6_fragment_rows() -> Vec<Row> {
    let with = |offset, more| behind(&[(FRAGMENT, fragment_header(offset, more))]);
    let behind_options =
        behind(&[(HOP_BY_HOP, options(0)), (FRAGMENT, fragment_header(9, true)), (DESTINATION, options(0))]);
    vec![
        passes("atomic", with(0, false), Reason::NewMine).mine().under(HTTPS),
        passes("the first is judged as TCP", with(0, true), Reason::NewMine).mine().under(HTTPS),
        drops("the first, another node's", with(0, true), Reason::Other).under(HTTPS),
        drops("a first that ends inside TCP", with(0, true)[..80].to_vec(), Reason::Truncated).mine(),
        passes("a middle one", with(185, true), Reason::Fragment),
        passes("the last", with(370, false), Reason::Fragment),
        passes("of the highest offset", with(0x1fff, true), Reason::Fragment),
        passes("behind options, with more options", behind_options, Reason::Fragment),
        passes("cut behind its header", with(185, true)[..62].to_vec(), Reason::Fragment),
        passes("in a bucket that leaves", with(185, true), Reason::Fragment).all(BucketState::Departing),
        drops("a later one after the lease", with(185, true), Reason::FragmentNoLease).mine().expired(),
        drops("cut inside its header", with(185, true)[..57].to_vec(), Reason::Truncated),
    ]
}
