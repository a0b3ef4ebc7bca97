//! Echo, ICMP errors and other ICMP.

use std::net::IpAddr;

use lb_common::packet::protocol;
use lb_common::table::{BucketState, BucketTable};
use lb_common::verdict::Reason;
use rollcall_tests::verdicts::Setting;

use crate::frames::*;
use crate::scene::*;
use crate::table::{Row, drops, passes};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for pair in [V4, V6] {
        rows.extend(echo_rows(pair));
        rows.extend(other_rows(pair));
        rows.extend(error_rows(pair));
        rows.extend(quoted_rule_rows(pair));
        rows.extend(bad_quote_rows(pair));
    }
    rows
}

/// Echo goes to the default host: to the holder of the client's bucket in the table of rule 0.
fn echo_rows(pair: Pair) -> Vec<Row> {
    use BucketState::{Arriving, Departing, Mine, Other};
    let of_client = move |port| move |setting: &mut Setting| setting.set_bucket(0, pair.client, port, Mine);
    let table =
        |number: usize| move |setting: &mut Setting| setting.tables[number] = BucketTable::filled(Mine);
    vec![
        passes("echo", pair.echo(), Reason::Echo).all(Mine),
        passes("that arrives", pair.echo(), Reason::Echo).all(Arriving),
        drops("that departs", pair.echo(), Reason::EchoOther).all(Departing),
        drops("of another node", pair.echo(), Reason::EchoOther).all(Other),
        drops("after the lease", pair.echo(), Reason::EchoNoLease).all(Mine).expired(),
        drops("that arrives after the lease", pair.echo(), Reason::EchoNoLease).all(Arriving).expired(),
        drops("that departs after the lease", pair.echo(), Reason::EchoOther).all(Departing).expired(),
        drops("where TCP ignores the lease", pair.echo(), Reason::EchoNoLease)
            .all(Mine)
            .expired()
            .when(|setting| setting.config.ignore_lease = 1),
        passes("in the client's bucket", pair.echo(), Reason::Echo).when(of_client(0)),
        passes("whose port never counts", pair.echo(), Reason::Echo).when(of_client(99)),
        passes("in the table of rule 0", pair.echo(), Reason::Echo).when(table(0)),
        drops("not in others", pair.echo(), Reason::EchoOther).when(table(1)),
        passes("whatever becomes of what no rule names", pair.echo(), Reason::Echo)
            .all(Mine)
            .when(|setting| setting.config.rules[0].enabled = 1),
    ]
}

fn other_rows(pair: Pair) -> Vec<Row> {
    let start = if pair.is_v6() { 54 } else { 34 };
    let (echo, errors): (u8, &[u8]) = if pair.is_v6() { (128, &[1, 2, 3, 4]) } else { (8, &[3, 4, 11, 12]) };
    let mut rows = Vec::new();
    for kind in (0..=u8::MAX).filter(|kind| *kind != echo && !errors.contains(kind)) {
        let frame = pair.icmp(kind, &pair.answer(protocol::TCP, &tcp(443, 40_000, ACK, 1)));
        rows.push(drops(format!("ICMP type {kind}, {pair:?}"), frame, Reason::OtherIcmp).mine());
    }
    for length in 0..8 {
        let frame = pair.echo()[..start + length].to_vec();
        rows.push(drops(format!("ICMP cut to {length} bytes, {pair:?}"), frame, Reason::Truncated).mine());
    }
    rows
}

/// A router on the way to the client; whose error it is does not matter.
fn router(pair: Pair) -> Pair {
    let router: IpAddr =
        if pair.is_v6() { "2001:db8:ffff::1".parse().unwrap() } else { "198.51.100.1".parse().unwrap() };
    pair.of_client(router)
}

/// Errors about this cluster's packets go to the owner of the flow, and where it is on its way to both.
fn error_rows(pair: Pair) -> Vec<Row> {
    use BucketState::{Arriving, Departing, Mine, Other};
    let sent = || pair.answer(protocol::TCP, &tcp(443, 40_000, ACK, 1));
    let error = || router(pair).too_big(&sent());
    let of =
        move |port| move |setting: &mut Setting| setting.set_bucket(HTTPS.into(), pair.client, port, Mine);
    let kinds: &[u8] = if pair.is_v6() { &[1, 2, 3, 4] } else { &[3, 4, 11, 12] };
    let mut rows = vec![
        passes("of this node's flow", error(), Reason::IcmpError).all(Mine),
        passes("that arrives", error(), Reason::IcmpError).all(Arriving),
        passes("that departs", error(), Reason::IcmpError).all(Departing),
        drops("of another node's flow", error(), Reason::IcmpErrorOther).all(Other),
        passes("after the lease", error(), Reason::IcmpError).all(Mine).expired(),
        passes("of this very flow", error(), Reason::IcmpError).when(of(40_000)),
        drops("of another flow", error(), Reason::IcmpErrorOther).when(of(40_001)),
    ];
    for &kind in kinds {
        rows.push(
            passes(format!("type {kind}"), router(pair).icmp(kind, &sent()), Reason::IcmpError).all(Mine),
        );
        rows.push(drops(format!("type {kind}"), router(pair).icmp(kind, &sent()), Reason::IcmpErrorOther));
    }
    rows.push(passes("of the client itself", pair.too_big(&sent()), Reason::IcmpError).all(Mine));
    rows.into_iter().map(|row| row.under(HTTPS)).collect()
}

/// The rule is that of the quoted packet's answer.
fn quoted_rule_rows(pair: Pair) -> Vec<Row> {
    let about = |protocol, payload: &[u8]| router(pair).too_big(&pair.answer(protocol, payload));
    let about_tcp = |port| about(protocol::TCP, &tcp(port, 40_000, ACK, 1));
    let about_udp = |port| about(protocol::UDP, &udp(port, 40_000, b"quic"));
    let default_host = |setting: &mut Setting| setting.config.rules[0].enabled = 1;
    let ping = || about(pair.icmp_protocol(), &icmp(0, b"ping"));
    let error = |name: &str, frame| passes(name, frame, Reason::IcmpError).mine();
    let mut rows = vec![
        error("about UDP", about_udp(443)).under(QUIC),
        drops("about another node's UDP", about_udp(443), Reason::IcmpErrorOther).under(QUIC),
        error("about another rule", about_tcp(25)).under(SMTP),
        error("about a container's flow", about_tcp(10_443)).under(CONTAINER),
        error("a sticky rule: no stamp", about_tcp(143)).under(STICKY),
        drops("about a disabled rule", about_tcp(23), Reason::RuleDisabled).mine().under(TELNET),
        drops("about what no rule names", about_tcp(22), Reason::Unmatched).mine(),
        drops("about a pong where rule 0 drops", ping(), Reason::Unmatched).mine(),
        error("about what no rule names, default host", about_tcp(22)).when(default_host),
        drops("the same elsewhere", about_tcp(22), Reason::IcmpErrorOther).when(default_host),
        error("about a pong", ping()).when(default_host),
        error("about GRE", about(GRE, &[0; 8])).when(default_host),
        drops("about GRE elsewhere", about(GRE, &[0; 8]), Reason::IcmpErrorOther).when(default_host),
        error("about no payload at all", about(GRE, &[])).when(default_host),
    ];
    if !pair.is_v6() {
        let sent = V4.to(OTHER_VIP4).answer(protocol::TCP, &tcp(443, 40_000, ACK, 1));
        rows.push(error("about the other cluster IP", router(pair).too_big(&sent)).under(OTHERS_HTTPS));
    }
    rows
}

fn bad_quote_rows(pair: Pair) -> Vec<Row> {
    let segment = tcp(443, 40_000, ACK, 1);
    let sent = || pair.answer(protocol::TCP, &segment);
    let about = |quoted: &[u8]| router(pair).too_big(quoted);
    let bad = |name: String, frame| drops(name, frame, Reason::BadQuote).mine();
    let good = |name: &str, frame| passes(name, frame, Reason::IcmpError).mine().under(HTTPS);
    let header = if pair.is_v6() { 40 } else { 20 };
    let own = if pair.is_v6() { OWN6 } else { OWN4 };
    let mut rows = vec![
        bad("of this node's own address".into(), about(&pair.to(own).answer(protocol::TCP, &segment))),
        bad("of a client's packet".into(), about(&pair.packet(protocol::TCP, &segment))),
        bad("of version 5".into(), about(&patched(sent(), 0, &[0x50]))),
        good("with ports and no more", about(&sent()[..header + 4])),
        good("with eight bytes of TCP (RFC 792)", about(&sent()[..header + 8])),
        good("whose stated length is more than is there", about(&sent()[..header + 8])),
    ];
    rows.extend(
        (0..header + 4).map(|length| bad(format!("cut to {length} bytes"), about(&sent()[..length]))),
    );
    // The rest is in the frame, and yet no part of the message.
    let padded = |length| restated(about(&sent()), 8 + length);
    rows.push(bad("that ends before its ports".into(), padded(header + 3)));
    rows.push(bad("that ends in its header".into(), padded(header - 4)));
    rows.push(good("that ends behind its ports", padded(header + 4)));
    rows.push(good("of an aggregate, which states no length", restated(about(&sent()), 0)));
    let (first, later, longer) = quoted_fragments(pair, &segment);
    rows.push(good("a first fragment", about(&first)));
    rows.push(bad("a later fragment".into(), about(&later)));
    rows.push(good("with options", about(&longer)));
    let deep = extended(&vec![(DESTINATION, options(0)); 7], protocol::TCP, &segment);
    if pair.is_v6() {
        rows.push(bad("with seven headers".into(), about(&pair.answer(deep.0, &deep.1))));
    } else {
        rows.push(bad("of a header of 16 bytes".into(), about(&patched(sent(), 0, &[0x44]))));
    }
    rows
}

/// A quoted first fragment, a later one, and a packet with options or extension headers.
fn quoted_fragments(pair: Pair, segment: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    if pair.is_v6() {
        let with = |headers: &[(u8, Vec<u8>)]| {
            let (next, payload) = extended(headers, protocol::TCP, segment);
            pair.answer(next, &payload)
        };
        let fragment = |offset| with(&[(FRAGMENT, fragment_header(offset, true))]);
        (fragment(0), fragment(1), with(&[(DESTINATION, options(0)), (ROUTING, options(1))]))
    } else {
        let sent = || pair.answer(protocol::TCP, segment);
        let mut longer = patched(sent(), 0, &[0x46]);
        longer.splice(20..20, [1, 1, 1, 0]);
        (patched(sent(), 6, &[0x20, 0]), patched(sent(), 6, &[0x20, 1]), longer)
    }
}
