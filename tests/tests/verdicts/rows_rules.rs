//! Port rules: which one a packet falls under, which bucket it has, and what the bucket's state and the lease make of it, where no
//! socket is asked for (that is `sockets.rs`).

use std::net::IpAddr;

use lb_common::packet::protocol;
use lb_common::table::{BucketState, BucketTable};
use lb_common::verdict::{HEARING_TEST, Note, Reason};
use rollcall_tests::verdicts::Setting;

use crate::frames::*;
use crate::scene::*;
use crate::table::{Row, drops, passes, untouched};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for pair in [V4, V6] {
        rows.extend(new_rows(pair));
        rows.extend(flag_rows(pair));
        rows.extend(header_rows(pair));
        rows.extend(port_rows(pair));
        rows.extend(default_host_rows(pair));
        rows.extend(affinity_rows(pair));
        rows.extend(unprotected_rows(pair));
        rows.extend(sticky_rows(pair));
        rows.extend(hearing_rows(pair));
    }
    rows.extend(cluster_ip_rows());
    rows
}

fn new_rows(pair: Pair) -> Vec<Row> {
    use BucketState::{Arriving, Departing, Mine, Other};
    let syn = || pair.tcp(40_000, 443, SYN);
    let ignoring = |row: Row| row.expired().when(|setting| setting.config.ignore_lease = 1);
    let rows = vec![
        passes("a new connection", syn(), Reason::NewMine).all(Mine),
        passes("that arrives", syn(), Reason::NewArriving).all(Arriving),
        drops("that departs", syn(), Reason::NewDeparting).all(Departing),
        drops("another node's", syn(), Reason::Other).all(Other),
        drops("after the lease", syn(), Reason::NewNoLease).all(Mine).expired(),
        drops("that arrives after the lease", syn(), Reason::NewNoLease).all(Arriving).expired(),
        drops("that departs after the lease", syn(), Reason::NewDeparting).all(Departing).expired(),
        drops("another node's after the lease", syn(), Reason::Other).all(Other).expired(),
        drops("of a state that the agent never writes", syn(), Reason::Other)
            .when(|setting| setting.tables.fill(BucketTable([7; 4096]))),
        ignoring(passes("where the lease is ignored", syn(), Reason::NewMine)).all(Mine),
        ignoring(passes(
            "a running one where the lease is ignored",
            pair.tcp(40_000, 443, ACK),
            Reason::Mine,
        ))
        .all(Mine),
    ];
    let rows = rows.into_iter().map(|row| row.under(HTTPS));
    let udp = drops("UDP, where TCP ignores the lease", pair.udp(40_000, 443), Reason::NoLease);
    rows.chain([ignoring(udp).all(Mine).under(QUIC)]).collect()
}

/// What is a new connection, and what is not.
fn flag_rows(pair: Pair) -> Vec<Row> {
    const URG: u8 = 0x20;
    const ECE: u8 = 0x40;
    const CWR: u8 = 0x80;
    let mut rows = Vec::new();
    for flags in 0..=u8::MAX {
        let new = flags & SYN != 0 && flags & (ACK | FIN | RST) == 0;
        let (mine, arriving) =
            if new { (Reason::NewMine, Reason::NewArriving) } else { (Reason::Mine, Reason::NoSocket) };
        let name = format!("TCP flags {flags:#04x}");
        let frame = pair.tcp(40_000, 443, flags);
        rows.push(passes(&name, frame.clone(), mine).mine().under(HTTPS));
        let kind = if new { passes } else { drops };
        rows.push(kind(name, frame, arriving).all(BucketState::Arriving).under(HTTPS));
    }
    for flags in [SYN, SYN | PSH, SYN | URG, SYN | ECE | CWR] {
        rows.push(passes("new", pair.tcp(40_000, 443, flags), Reason::NewMine).mine().under(HTTPS));
    }
    for flags in [0, ACK, SYN | ACK, SYN | FIN, SYN | RST, RST, FIN] {
        rows.push(passes("not new", pair.tcp(40_000, 443, flags), Reason::Mine).mine().under(HTTPS));
    }
    rows
}

/// The headers of TCP and UDP.
fn header_rows(pair: Pair) -> Vec<Row> {
    let start = if pair.is_v6() { 54 } else { 34 };
    let mut rows = Vec::new();
    for words in 0..16 {
        let frame = patched(pair.tcp(40_000, 443, SYN), start + 12, &[words << 4]);
        let name = format!("a TCP header of {words} words");
        // Beyond the frame or not: options decide nothing.
        rows.push(if words < 5 {
            drops(name, frame, Reason::BadTcpHeader).mine()
        } else {
            passes(name, frame, Reason::NewMine).mine().under(HTTPS)
        });
    }
    for length in 0..8 {
        let frame = pair.udp(40_000, 443)[..start + length].to_vec();
        rows.push(drops(format!("UDP cut to {length} bytes"), frame, Reason::Truncated).mine());
    }
    let empty = pair.frame(protocol::UDP, &udp(40_000, 443, b""));
    rows.push(passes("UDP without a payload", empty, Reason::Mine).mine().under(QUIC));
    rows
}

/// Which rule a port falls under.
fn port_rows(pair: Pair) -> Vec<Row> {
    let named = [
        (443, HTTPS),
        (444, HTTPS),
        (445, HTTPS),
        (8000, AFFINE),
        (8010, AFFINE),
        (25, SMTP),
        (9000, NETWORK),
        (10_443, CONTAINER),
        (65_530, LAST_PORTS),
        (65_535, LAST_PORTS),
    ];
    let mut rows = Vec::new();
    for (port, rule) in named {
        let name = format!("TCP to port {port}");
        rows.push(passes(&name, pair.tcp(40_000, port, SYN), Reason::NewMine).mine().under(rule));
        rows.push(drops(name, pair.tcp(40_000, port, SYN), Reason::Other).under(rule));
    }
    for (port, rule) in [(443, QUIC), (0, FIRST_PORTS), (9, FIRST_PORTS)] {
        let name = format!("UDP to port {port}");
        rows.push(passes(&name, pair.udp(40_000, port), Reason::Mine).mine().under(rule));
        rows.push(drops(name, pair.udp(40_000, port), Reason::Other).under(rule));
    }
    for port in [0, 22, 53, 442, 446, 7_999, 8_011, 65_529] {
        let name = format!("TCP to port {port}, which no rule names");
        rows.push(drops(name, pair.tcp(40_000, port, SYN), Reason::Unmatched).mine());
    }
    for port in [10, 25, 444, 8000, HEARING_PORT, 65_535] {
        let name = format!("UDP to port {port}, which no rule names");
        rows.push(drops(name, pair.udp(40_000, port), Reason::Unmatched).mine());
    }
    rows.push(drops("a disabled rule", pair.tcp(40_000, 23, SYN), Reason::RuleDisabled).mine().under(TELNET));
    rows.push(drops("a disabled UDP rule", pair.udp(40_000, 123), Reason::RuleDisabled).mine().under(NO_NTP));
    rows
}

/// Rule 0 with `unmatched = "default-host"`.
fn default_host_rows(pair: Pair) -> Vec<Row> {
    let enabled = |row: Row| row.when(|setting| setting.config.rules[0].enabled = 1);
    let (tcp, udp) = (|flags| pair.tcp(40_000, 22, flags), || pair.udp(40_000, 22));
    let rows = vec![
        passes("a port that no rule names", tcp(SYN), Reason::NewMine).mine(),
        passes("running", tcp(ACK), Reason::Mine).mine(),
        drops("on another node", tcp(SYN), Reason::Other),
        drops("on its way, without a socket", tcp(ACK), Reason::NoSocket).all(BucketState::Arriving),
        passes("UDP that no rule names", udp(), Reason::Mine).mine(),
        drops("UDP on another node", udp(), Reason::Other),
        passes("in the table of rule 0", tcp(SYN), Reason::NewMine)
            .when(|setting| setting.tables[0] = BucketTable::filled(BucketState::Mine)),
        passes("in the client's bucket", tcp(SYN), Reason::NewMine)
            .when(move |setting| setting.set_bucket(0, pair.client, 7, BucketState::Mine)),
    ];
    rows.into_iter().map(enabled).collect()
}

/// What of the client decides the bucket.
fn affinity_rows(pair: Pair) -> Vec<Row> {
    let (near, far): (IpAddr, IpAddr) = if pair.is_v6() {
        ("2001:db8:c::ffff".parse().unwrap(), "2001:db8:c:1::1".parse().unwrap())
    } else {
        ("203.0.113.200".parse().unwrap(), "203.0.112.10".parse().unwrap())
    };
    let of = |rule: u8, client, port| {
        move |setting: &mut Setting| setting.set_bucket(rule.into(), client, port, BucketState::Mine)
    };
    let syn = |port| pair.tcp(40_000, port, SYN);
    let (client, far_pair) = (pair.client, pair.of_client(far));
    vec![
        passes("none: this very port's", syn(443), Reason::NewMine)
            .when(of(HTTPS, client, 40_000))
            .under(HTTPS),
        drops("none: another port's", syn(443), Reason::Other).when(of(HTTPS, client, 40_001)).under(HTTPS),
        drops("none: another client's", syn(443), Reason::Other).when(of(HTTPS, near, 40_000)).under(HTTPS),
        passes("single: any port's", syn(8000), Reason::NewMine).when(of(AFFINE, client, 7)).under(AFFINE),
        drops("single: another client's", syn(8000), Reason::Other)
            .when(of(AFFINE, near, 40_000))
            .under(AFFINE),
        passes("network: a neighbour's", syn(9000), Reason::NewMine)
            .when(of(NETWORK, near, 7))
            .under(NETWORK),
        drops("network: another network's", syn(9000), Reason::Other)
            .when(of(NETWORK, far, 40_000))
            .under(NETWORK),
        passes("network: that network's", far_pair.tcp(1, 9000, SYN), Reason::NewMine)
            .when(of(NETWORK, far, 40_000))
            .under(NETWORK),
        passes("UDP, none: this very port's", pair.udp(40_000, 443), Reason::Mine)
            .when(of(QUIC, client, 40_000))
            .under(QUIC),
        drops("UDP, none: another port's", pair.udp(40_000, 443), Reason::Other)
            .when(of(QUIC, client, 40_001))
            .under(QUIC),
        passes("of its own table", syn(9000), Reason::NewMine)
            .when(|setting| setting.tables[2] = BucketTable::filled(BucketState::Mine))
            .under(NETWORK),
        drops("of another table", syn(9000), Reason::Other)
            .when(|setting| setting.tables[1] = BucketTable::filled(BucketState::Mine))
            .under(NETWORK),
    ]
}

/// What moves with its bucket at once: UDP, and TCP that does not end in this network namespace.
fn unprotected_rows(pair: Pair) -> Vec<Row> {
    use BucketState::{Arriving, Departing, Mine, Other};
    let udp = || pair.udp(40_000, 443);
    let tcp = |flags| pair.tcp(40_000, 10_443, flags);
    // State, lease; what becomes of a new connection, and of anything else.
    let table = [
        (Mine, true, Reason::NewMine, Reason::Mine),
        (Mine, false, Reason::NewNoLease, Reason::NoLease),
        (Arriving, true, Reason::NewArriving, Reason::Arriving),
        (Arriving, false, Reason::NewNoLease, Reason::NoLease),
        (Departing, true, Reason::NewDeparting, Reason::Departing),
        (Departing, false, Reason::NewDeparting, Reason::Departing),
        (Other, true, Reason::Other, Reason::Other),
        (Other, false, Reason::Other, Reason::Other),
    ];
    let mut rows = Vec::new();
    for (state, lease, new, running) in table {
        let accepted = lease && matches!(state, Mine | Arriving);
        let kind = if accepted { passes } else { drops };
        let name = format!("{state:?}, lease {lease}");
        let row = |name: String, frame, reason| {
            kind(name, frame, reason).all(state).when(move |setting| setting.lease = lease)
        };
        rows.push(row(format!("UDP, {name}"), udp(), running).under(QUIC));
        for flags in [ACK, PSH | ACK, FIN | ACK, RST, SYN | ACK, SYN | FIN, 0] {
            rows.push(row(format!("flags {flags:#04x}, {name}"), tcp(flags), running).under(CONTAINER));
        }
        rows.push(row(format!("SYN, {name}"), tcp(SYN), new).under(CONTAINER));
    }
    rows
}

/// Buckets whose clients stay are stamped while packets of them are accepted.
fn sticky_rows(pair: Pair) -> Vec<Row> {
    let of = move |rule: u8| {
        move |setting: &Setting| {
            let bucket = setting.bucket(rule.into(), pair.client, 0);
            Note::Seen { table: 3, bucket }
        }
    };
    let (imap, dns) = (of(STICKY), of(DNS));
    let (tcp, udp) = (|flags| pair.tcp(40_000, 143, flags), || pair.udp(40_000, 53));
    vec![
        passes("a new connection stamps", tcp(SYN), Reason::NewMine).mine().under(STICKY).stamps(imap),
        passes("one that arrives stamps", tcp(SYN), Reason::NewArriving)
            .all(BucketState::Arriving)
            .under(STICKY)
            .stamps(imap),
        passes("a running connection stamps", tcp(ACK), Reason::Mine).mine().under(STICKY).stamps(imap),
        passes("UDP stamps", udp(), Reason::Mine).mine().under(DNS).stamps(dns),
        drops("what is dropped stamps nothing", tcp(SYN), Reason::Other).under(STICKY),
        drops("nor after the lease", tcp(SYN), Reason::NewNoLease).mine().expired().under(STICKY),
        drops("nor on its way out", udp(), Reason::Departing).all(BucketState::Departing).under(DNS),
        passes("nor does a fragment", patched_fragment(pair), Reason::Fragment).mine(),
        untouched("observing stamps too", tcp(SYN), Reason::NewMine)
            .mine()
            .under(STICKY)
            .stamps(imap)
            .when(|setting| setting.config.observe = 1),
    ]
}

fn patched_fragment(pair: Pair) -> Vec<u8> {
    let segment = tcp(40_000, 143, ACK, 1);
    if pair.is_v6() {
        let (next, payload) = extended(&[(FRAGMENT, fragment_header(1, true))], protocol::TCP, &segment);
        pair.frame(next, &payload)
    } else {
        patched(pair.frame(protocol::TCP, &segment), 20, &[0, 1])
    }
}

/// Tests of who hears frames for the cluster MAC.
fn hearing_rows(pair: Pair) -> Vec<Row> {
    let payload = |node: u8| [&HEARING_TEST[..], &[node]].concat();
    let to = |port, payload: &[u8]| pair.frame(protocol::UDP, &udp(HEARING_PORT, port, payload));
    let test = |node| to(HEARING_PORT, &payload(node));
    let heard = |name: &str, frame| drops(name, frame, Reason::HearingTest).stamps(|_| Note::Heard(2));
    let not = |name: &str, frame| drops(name, frame, Reason::Unmatched).mine();
    let in_vlan = |setting: &mut Setting| setting.config.vlans = [7, 0];
    vec![
        heard("a hearing test", test(2)),
        heard("after the lease", test(2)).expired(),
        heard("whosever bucket it is", test(2)).mine(),
        heard("with more behind it", to(HEARING_PORT, &[payload(2), vec![1; 50]].concat())),
        heard("in its VLAN", tagged(&test(2), &[7])).when(in_vlan),
        drops("of the first node", test(1), Reason::HearingTest).stamps(|_| Note::Heard(1)),
        drops("of the last node", test(64), Reason::HearingTest).stamps(|_| Note::Heard(64)),
        untouched("observing", test(2), Reason::HearingTest)
            .stamps(|_| Note::Heard(2))
            .when(|setting| setting.config.observe = 1),
        not("to this interface's own MAC: it proves nothing", patched(test(2), 0, &OWN_MAC)),
        not("of node 0", test(0)),
        not("of node 65", test(65)),
        not("of node 255", test(255)),
        not("with another beginning", to(HEARING_PORT, b"rchear2\x02")),
        not("a byte too short", to(HEARING_PORT, &payload(2)[..7])),
        not("with a byte beyond the stated length", restated(test(2), 15)),
        not("to another port", to(7_947, &payload(2))),
        not("where none are sent", test(2)).when(|setting| setting.config.hearing_port = 0),
        passes("to port 0 where none are sent", to(0, &payload(2)), Reason::Mine)
            .mine()
            .under(FIRST_PORTS)
            .when(|setting| setting.config.hearing_port = 0),
        untouched(
            "to another address",
            {
                let own = if pair.is_v6() { OWN6 } else { OWN4 };
                pair.to(own).frame(protocol::UDP, &udp(HEARING_PORT, HEARING_PORT, &payload(2)))
            },
            Reason::OtherAddress,
        ),
    ]
}

/// Rules of one cluster IP alone.
fn cluster_ip_rows() -> Vec<Row> {
    let second = |setting: &mut Setting| setting.tables[2] = BucketTable::filled(BucketState::Mine);
    let near = |setting: &mut Setting| {
        setting.set_bucket(OTHERS_HTTPS.into(), "203.0.112.1".parse().unwrap(), 9, BucketState::Mine);
    };
    let (other4, other6) = (V4.to(OTHER_VIP4), V6.to(OTHER_VIP6));
    vec![
        passes("its own rule", other4.tcp(40_000, 443, SYN), Reason::NewMine)
            .when(second)
            .under(OTHERS_HTTPS),
        passes("and affinity", other4.tcp(40_000, 443, SYN), Reason::NewMine).when(near).under(OTHERS_HTTPS),
        drops("which is not the others'", V4.tcp(40_000, 443, SYN), Reason::Other).when(second).under(HTTPS),
        drops("nor the other family's", other6.tcp(40_000, 443, SYN), Reason::Other)
            .when(second)
            .under(HTTPS),
        passes("all others are all cluster IPs'", other4.tcp(40_000, 444, SYN), Reason::NewMine)
            .mine()
            .under(HTTPS),
        passes("UDP is apart", other4.udp(40_000, 443), Reason::Mine).mine().under(QUIC),
        passes("UDP to the other of IPv6", other6.udp(40_000, 443), Reason::Mine).mine().under(QUIC),
        passes("echo to the other", other4.echo(), Reason::Echo).mine(),
        passes("echo to the other of IPv6", other6.echo(), Reason::Echo).mine(),
    ]
}
