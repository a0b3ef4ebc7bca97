//! Packets in, verdicts and packets out: the program in the kernel against the policy on the host and against what DESIGN
//! says, with real sockets where a verdict asks for one.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails, in its helpers too")]

use std::cell::{Cell, RefCell};
use std::io::Read as _;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;
use std::{fs, thread};

use etherparse::{PacketBuilder, PacketBuilderStep};
use lb_common::packet::TcpFlags;
use lb_common::table::{Affinity, BucketState, BucketTable, Config, PortRules, Rule};
use lb_common::verdict::{LocalSocket, Reason};
use proptest::prelude::*;
use proptest::test_runner::{Config as RunnerConfig, TestRunner};
use rollcall_tests::netns::{in_own_netns, run};
use rollcall_tests::verdicts::{Fate, Kernel, Outcome, Setting};
use socket2::{Domain, Protocol, Socket, Type};

const VIP: [u8; 4] = [192, 168, 50, 8];
const CLIENT: [u8; 4] = [203, 0, 113, 10];
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 6];
const CLUSTER_MAC: [u8; 6] = [3, 0xbf, 192, 168, 50, 8];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const RST: u8 = TcpFlags::RST;
const FIN: u8 = TcpFlags::FIN;
const PSH: u8 = 0x08;

#[test]
fn every_behaviour_has_its_verdict_in_the_kernel_and_on_the_host() {
    in_own_netns(|| {
        for row in rows() {
            let mut setting = setting();
            (row.change)(&mut setting);
            let outcome = feed_both(&mut Kernel::load(&setting).unwrap(), &setting, &row.frame);
            assert_eq!(outcome.reason, row.reason, "{}", row.name);
            assert_eq!(outcome.fate, row.fate, "{}", row.name);
            let expected = row.out.unwrap_or_else(|| expected_frame(&row.frame, row.reason));
            assert_eq!(outcome.frame, expected, "{}", row.name);
        }
    });
}

#[test]
fn a_running_connection_passes_where_its_socket_is() {
    in_own_netns(|| {
        let sockets = Sockets::open();
        let mut setting = setting();
        let mut kernel = Kernel::load(&setting).unwrap();
        for (state, lease) in states() {
            setting.lease = lease;
            setting.tables = vec![BucketTable::filled(state); 2];
            kernel.apply(&setting).unwrap();
            for case in sockets.cases() {
                for flags in [SYN, ACK, FIN | ACK, FIN, RST, RST | ACK, PSH | ACK, SYN | ACK, SYN | FIN, 0] {
                    setting.socket = case.on_the_host(flags);
                    let frame = tcp(case.client_port, case.port, flags, case.acknowledgement);
                    let outcome = feed_both(&mut kernel, &setting, &frame);
                    let expected = passes(state, lease, flags, case.kind);
                    assert_eq!(
                        outcome.fate == Fate::Passed,
                        expected,
                        "{state:?}, lease {lease}, {:?}, flags {flags:#04x}: {:?}",
                        case.kind,
                        outcome.reason
                    );
                }
            }
        }
    });
}

#[test]
fn kernel_and_host_agree_on_random_and_mutated_frames() {
    in_own_netns(|| {
        let mut setting = setting();
        // Every state occurs, the lease lives: each branch is reached.
        for table in &mut setting.tables {
            for (number, byte) in table.0.iter_mut().enumerate() {
                *byte = number as u8 % 4;
            }
        }
        let kernel = RefCell::new(Kernel::load(&setting).unwrap());
        let fed = Cell::new(0);
        let cases = RunnerConfig { cases: 24_000, failure_persistence: None, ..RunnerConfig::default() };
        let agree = |frame: Vec<u8>| {
            fed.set(fed.get() + 1);
            let in_kernel = kernel.borrow_mut().feed(&frame);
            let in_kernel = in_kernel.map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
            prop_assert_eq!(in_kernel, setting.feed(&frame));
            Ok(())
        };
        TestRunner::new(cases).run(&any_frame(), agree).unwrap();
        let counters = kernel.borrow().counters().unwrap();
        let counted: u64 = counters.iter().map(|count| count.packets).sum();
        assert_eq!(counted, fed.get(), "every frame is counted once");
    });
}

#[test]
fn an_expired_lease_stops_arp_even_where_tcp_ignores_it() {
    in_own_netns(|| {
        let mut setting = setting();
        setting.lease = false;
        setting.config.ignore_lease = 1;
        setting.tables = vec![BucketTable::filled(BucketState::Mine); 2];
        let mut kernel = Kernel::load(&setting).unwrap();
        let syn = feed_both(&mut kernel, &setting, &tcp(40_000, 443, SYN, 0));
        assert_eq!(syn.reason, Reason::NewMine);
        let arp = feed_both(&mut kernel, &setting, &arp(1, [192, 168, 50, 1], VIP));
        assert_eq!(arp.reason, Reason::ArpNoLease);
    });
}

#[test]
fn the_verifier_has_room_to_spare() {
    in_own_netns(|| {
        let mut kernel = Kernel::load(&setting()).unwrap();
        let instructions = kernel.verified_instructions().unwrap();
        // The kernel's limit is a million; a sudden rise means that it lost track of something.
        assert!(instructions.is_none_or(|count| count < 20_000), "{instructions:?}");
    });
}

/// One behaviour.
struct Row {
    name: &'static str,
    change: fn(&mut Setting),
    frame: Vec<u8>,
    reason: Reason,
    fate: Fate,
    /// The frame afterwards; `None`: as it was, but for the own MAC address where it was accepted.
    out: Option<Vec<u8>>,
}

#[expect(clippy::too_many_lines, reason = "a table, one behaviour a row")]
fn rows() -> Vec<Row> {
    use Fate::{Dropped, Passed, Sent};
    let router = [192, 168, 50, 1];
    let nothing: fn(&mut Setting) = |_| ();
    let expired: fn(&mut Setting) = |setting| setting.lease = false;
    let mine: fn(&mut Setting) = |setting| setting.tables = vec![BucketTable::filled(BucketState::Mine); 2];
    let observe: fn(&mut Setting) = |setting| setting.config.observe = 1;
    let row = |name, change, frame, reason, fate| Row { name, change, frame, reason, fate, out: None };
    let mut answered =
        row("an ARP request is answered", nothing, arp(1, router, VIP), Reason::ArpAnswered, Sent);
    answered.out = Some(arp_reply(router));
    let mut probed = row("an ARP probe is answered", nothing, arp(1, [0; 4], VIP), Reason::ArpAnswered, Sent);
    probed.out = Some(arp_reply([0; 4]));
    let syn = || tcp(40_000, 443, SYN, 0);
    vec![
        answered,
        probed,
        row("no answer after the lease", expired, arp(1, router, VIP), Reason::ArpNoLease, Dropped),
        row("an ARP reply is not ours", nothing, arp(2, router, VIP), Reason::OtherArp, Passed),
        row("ARP for another address", nothing, arp(1, router, [192, 168, 50, 6]), Reason::OtherArp, Passed),
        row("ARP that is cut short", nothing, arp(1, router, VIP)[..40].to_vec(), Reason::OtherArp, Passed),
        row("observing answers no ARP", observe, arp(1, router, VIP), Reason::ArpAnswered, Passed),
        row("observing drops nothing", observe, syn(), Reason::Other, Passed),
        row("IPv6 is not ours", nothing, ethertype(0x86dd), Reason::OtherProtocolFamily, Passed),
        row("another address", mine, to([192, 168, 50, 6]), Reason::OtherAddress, Passed),
        row("another node's bucket", nothing, syn(), Reason::Other, Dropped),
        row("a new connection", mine, syn(), Reason::NewMine, Passed),
        row("a running connection", mine, tcp(40_000, 443, ACK, 1), Reason::Mine, Passed),
        row(
            "a new connection after the lease",
            |s| {
                s.lease = false;
                s.tables[1] = BucketTable::filled(BucketState::Mine);
            },
            syn(),
            Reason::NewNoLease,
            Dropped,
        ),
        row(
            "affinity none: this very port's bucket",
            |s| s.set_bucket(1, Affinity::None, CLIENT, 40_000, BucketState::Mine),
            syn(),
            Reason::NewMine,
            Passed,
        ),
        row(
            "affinity single: any port's bucket",
            |s| s.set_bucket(1, Affinity::Single, CLIENT, 7, BucketState::Mine),
            tcp(40_000, 444, SYN, 0),
            Reason::NewMine,
            Passed,
        ),
        row(
            "a rule of table 0",
            |s| s.set_bucket(0, Affinity::Single, CLIENT, 0, BucketState::Mine),
            tcp(40_000, 25, SYN, 0),
            Reason::NewMine,
            Passed,
        ),
        row("a disabled rule", mine, tcp(40_000, 23, SYN, 0), Reason::RuleDisabled, Dropped),
        row("a port that no rule names", mine, tcp(40_000, 22, SYN, 0), Reason::Unmatched, Dropped),
        row(
            "the same to the default host",
            |s| {
                s.config.rules[0].enabled = 1;
                s.tables[0] = BucketTable::filled(BucketState::Mine);
            },
            tcp(40_000, 22, SYN, 0),
            Reason::NewMine,
            Passed,
        ),
        row(
            "echo to the default host",
            |s| s.set_bucket(0, Affinity::Single, CLIENT, 0, BucketState::Mine),
            icmp(8, VIP),
            Reason::Echo,
            Passed,
        ),
        row("echo elsewhere", nothing, icmp(8, VIP), Reason::EchoOther, Dropped),
        row(
            "echo after the lease",
            |s| {
                s.lease = false;
                s.tables[0] = BucketTable::filled(BucketState::Mine);
            },
            icmp(8, VIP),
            Reason::EchoNoLease,
            Dropped,
        ),
        row("an ICMP error", expired, icmp(3, VIP), Reason::IcmpError, Passed),
        row("another ICMP", mine, icmp(13, VIP), Reason::OtherIcmp, Dropped),
        row("UDP", mine, udp(), Reason::OtherProtocol, Dropped),
        row("a later fragment", nothing, fragment(185), Reason::Fragment, Passed),
        row("a later fragment after the lease", expired, fragment(185), Reason::FragmentNoLease, Dropped),
        row("a first fragment is judged as TCP", nothing, fragment(0), Reason::Other, Dropped),
        row("IPv4 options", mine, with_options(), Reason::NewMine, Passed),
        row("an IP header of 16 bytes", mine, patched(syn(), 14, 0x44), Reason::BadIpHeader, Dropped),
        row("IP version 6 in an IPv4 frame", mine, patched(syn(), 14, 0x65), Reason::BadIpHeader, Dropped),
        row("a TCP header of 16 bytes", mine, patched(syn(), 46, 0x40), Reason::BadTcpHeader, Dropped),
        row("a stated length without TCP", mine, patched(syn(), 17, 30), Reason::Truncated, Dropped),
        row("cut inside TCP", mine, syn()[..50].to_vec(), Reason::Truncated, Dropped),
        row("cut inside IP", mine, syn()[..30].to_vec(), Reason::Short, Passed),
        row("padded to 60 bytes", mine, [syn(), vec![0; 6]].concat(), Reason::NewMine, Passed),
        row("a priority tag is no VLAN", mine, tagged(&syn(), &[0]), Reason::NewMine, Passed),
        row("two priority tags", mine, tagged(&syn(), &[0, 0]), Reason::NewMine, Passed),
        row("a VLAN is another interface", mine, tagged(&syn(), &[7]), Reason::Vlan, Passed),
    ]
}

/// Cluster IPs .8; table 0 single, table 1 multiple; ports 443 (affinity none), 444 (affinity single), 25 (table 0), 23
/// (disabled), 8443 (as 443, nobody listens). The lease lives, every bucket is another node's.
fn setting() -> Setting {
    let rule = |table, affinity: Affinity| Rule { table, affinity: affinity as u8, enabled: 1, reserved: 0 };
    let mut config = Config {
        seed: [1, 2],
        cluster_ip_count: 1,
        cluster_mac: CLUSTER_MAC,
        own_mac: OWN_MAC,
        ..Config::EMPTY
    };
    config.cluster_ips[0] = VIP;
    config.rules[0].affinity = Affinity::Single as u8;
    config.rules[1] = rule(1, Affinity::None);
    config.rules[2] = rule(1, Affinity::Single);
    config.rules[3] = rule(0, Affinity::Single);
    config.rules[4] = Rule::DISABLED;
    let mut port_rules = Box::new(PortRules([0; 65_536]));
    for (port, number) in [(443, 1), (8443, 1), (444, 2), (25, 3), (23, 4)] {
        port_rules.0[port] = number;
    }
    Setting {
        config,
        port_rules,
        tables: vec![BucketTable::filled(BucketState::Other); 2],
        lease: true,
        socket: LocalSocket::None,
    }
}

/// Feeds a frame to the kernel and to the host, which must agree in everything.
fn feed_both(kernel: &mut Kernel, setting: &Setting, frame: &[u8]) -> Outcome {
    let in_kernel = kernel.feed(frame).unwrap();
    assert_eq!(in_kernel, setting.feed(frame), "the kernel (left) and the host disagree");
    in_kernel
}

fn expected_frame(frame: &[u8], reason: Reason) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if reason.action() == lb_common::verdict::Action::Accept {
        frame[..6].copy_from_slice(&OWN_MAC);
    }
    frame
}

fn states() -> Vec<(BucketState, bool)> {
    let states = [BucketState::Mine, BucketState::Other, BucketState::Arriving, BucketState::Departing];
    states.iter().flat_map(|&state| [(state, true), (state, false)]).collect()
}

/// A kind of real socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    Listener,
    ListenerWithCookie,
    HalfOpen,
    HalfOpenWrongAck,
    Established,
    TimeWait,
}

/// What DESIGN says of a TCP packet, written down a second time.
fn passes(state: BucketState, lease: bool, flags: u8, socket: Kind) -> bool {
    let has = |flag| flags & flag != 0;
    let new = has(SYN) && !has(ACK) && !has(RST) && !has(FIN);
    if state == BucketState::Other {
        return false;
    }
    if new {
        return lease && state != BucketState::Departing;
    }
    if state == BucketState::Mine && lease {
        return true;
    }
    match socket {
        Kind::None | Kind::Listener => false,
        Kind::ListenerWithCookie => has(ACK) && !has(SYN) && !has(RST),
        Kind::HalfOpen => has(ACK) || has(RST),
        Kind::HalfOpenWrongAck => has(RST) && !has(ACK),
        Kind::Established | Kind::TimeWait => true,
    }
}

/// A client's connection as the server's kernel has it, and the number that its packets acknowledge.
struct Case {
    kind: Kind,
    client_port: u16,
    port: u16,
    acknowledgement: u32,
}

impl Case {
    fn on_the_host(&self, flags: u8) -> LocalSocket {
        let has_ack = flags & ACK != 0;
        match self.kind {
            Kind::None => LocalSocket::None,
            Kind::Listener => LocalSocket::Listener { cookie_ok: false },
            Kind::ListenerWithCookie => {
                LocalSocket::Listener { cookie_ok: has_ack && flags & (SYN | RST) == 0 }
            }
            Kind::HalfOpen => LocalSocket::HalfOpen { ack_ok: has_ack },
            Kind::HalfOpenWrongAck => LocalSocket::HalfOpen { ack_ok: false },
            Kind::Established => LocalSocket::Open,
            Kind::TimeWait => LocalSocket::TimeWait,
        }
    }
}

/// Real sockets of each kind, in the caller's network namespace.
struct Sockets {
    _listener: TcpListener,
    _established: (TcpStream, TcpStream),
    half_open: u32,
    cookie: u32,
}

const HALF_OPEN_PORT: u16 = 41_000;
const COOKIE_PORT: u16 = 41_001;
const ESTABLISHED_PORT: u16 = 41_002;
const TIME_WAIT_PORT: u16 = 41_003;
const CLIENT_ISN: u32 = 1_000;

impl Sockets {
    fn open() -> Self {
        run("ip addr add 192.168.50.8/32 dev lo").unwrap();
        run("ip addr add 203.0.113.10/32 dev lo").unwrap();
        // The client's kernel knows nothing of the half-open connection and would reset it.
        run("nft add table ip verdicts").unwrap();
        run("nft add chain ip verdicts out { type filter hook output priority 0 ; }").unwrap();
        run("nft add rule ip verdicts out tcp flags & rst == rst drop").unwrap();
        let listener = TcpListener::bind(SocketAddrV4::new(VIP.into(), 443)).unwrap();
        let established = connect(&listener, ESTABLISHED_PORT);
        let (server, mut client) = connect(&listener, TIME_WAIT_PORT);
        drop(server);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(client);
        wait_for_time_wait();
        syn_cookies(1);
        let half_open = sequence_of_syn_ack(HALF_OPEN_PORT);
        syn_cookies(2);
        let cookie = sequence_of_syn_ack(COOKIE_PORT);
        Self { _listener: listener, _established: established, half_open, cookie }
    }

    fn cases(&self) -> Vec<Case> {
        let case =
            |kind, client_port, port, acknowledgement| Case { kind, client_port, port, acknowledgement };
        let half_open = self.half_open.wrapping_add(1);
        vec![
            case(Kind::None, 41_009, 8443, 1),
            case(Kind::Listener, 41_009, 443, 1),
            case(Kind::ListenerWithCookie, COOKIE_PORT, 443, self.cookie.wrapping_add(1)),
            case(Kind::HalfOpen, HALF_OPEN_PORT, 443, half_open),
            case(Kind::HalfOpenWrongAck, HALF_OPEN_PORT, 443, half_open.wrapping_add(1)),
            case(Kind::Established, ESTABLISHED_PORT, 443, 1),
            case(Kind::TimeWait, TIME_WAIT_PORT, 443, 1),
        ]
    }
}

fn connect(listener: &TcpListener, client_port: u16) -> (TcpStream, TcpStream) {
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.bind(&SocketAddrV4::new(CLIENT.into(), client_port).into()).unwrap();
    client.connect(&SocketAddrV4::new(VIP.into(), 443).into()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (server, client.into())
}

/// Waits for the server's side of the connection that it closed first.
fn wait_for_time_wait() {
    const TIME_WAIT: &str = " 06 ";
    let local = format!("{:08X}:01BB", u32::from_ne_bytes(VIP));
    for _ in 0..500 {
        let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        let found = table.lines().any(|line| line.contains(TIME_WAIT) && line.contains(&local));
        if found {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("the server's side never came to TIME_WAIT");
}

/// 1: only when the listener's queue is full; 2: always.
fn syn_cookies(value: u8) {
    fs::write("/proc/sys/net/ipv4/tcp_syncookies", value.to_string()).unwrap();
}

/// Sends a SYN past the client's TCP, and gives the sequence number of the answer.
fn sequence_of_syn_ack(client_port: u16) -> u32 {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).unwrap();
    socket.bind(&SocketAddrV4::new(CLIENT.into(), 0).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut syn = etherparse::TcpHeader::new(client_port, 443, CLIENT_ISN, 65_535);
    syn.syn = true;
    // An MSS option, so that a cookie has something to encode.
    syn.set_options(&[etherparse::TcpOptionElement::MaximumSegmentSize(1_460)]).unwrap();
    syn.checksum = syn.calc_checksum_ipv4_raw(CLIENT, VIP, &[]).unwrap();
    let to = SocketAddrV4::new(VIP.into(), 0).into();
    socket.send_to(&syn.to_bytes(), &to).unwrap();
    let mut buffer = [0; 256];
    loop {
        let read = (&socket).read(&mut buffer).unwrap();
        let (ip, rest) = etherparse::Ipv4Header::from_slice(&buffer[..read]).unwrap();
        let (tcp, _) = etherparse::TcpHeader::from_slice(rest).unwrap();
        let from_server = ip.source == VIP && tcp.destination_port == client_port;
        if from_server && tcp.syn && tcp.ack {
            return tcp.sequence_number;
        }
    }
}

fn ipv4() -> PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2(CLIENT_MAC, CLUSTER_MAC).ipv4(CLIENT, VIP, 64)
}

fn tcp(client_port: u16, port: u16, flags: u8, acknowledgement: u32) -> Vec<u8> {
    let mut header = etherparse::TcpHeader::new(client_port, port, CLIENT_ISN + 1, 65_535);
    header.acknowledgment_number = acknowledgement;
    header.syn = flags & SYN != 0;
    header.ack = flags & ACK != 0;
    header.rst = flags & RST != 0;
    header.fin = flags & FIN != 0;
    header.psh = flags & PSH != 0;
    let payload: &[u8] = if header.psh { b"GET /owa" } else { b"" };
    let mut frame = Vec::new();
    ipv4().tcp_header(header).write(&mut frame, payload).unwrap();
    frame
}

fn to(destination: [u8; 4]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(CLIENT_MAC, OWN_MAC).ipv4(CLIENT, destination, 64);
    let mut frame = Vec::new();
    builder.tcp(40_000, 443, 1, 1).syn().write(&mut frame, &[]).unwrap();
    frame
}

fn icmp(kind: u8, destination: [u8; 4]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(CLIENT_MAC, CLUSTER_MAC).ipv4(CLIENT, destination, 64);
    let mut frame = Vec::new();
    builder.icmpv4_raw(kind, 0, [0; 4]).write(&mut frame, &[0; 28]).unwrap();
    frame
}

fn udp() -> Vec<u8> {
    let mut frame = Vec::new();
    ipv4().udp(40_000, 443).write(&mut frame, b"quic").unwrap();
    frame
}

/// A SYN's packet as the fragment that begins at `offset` units of eight bytes.
fn fragment(offset: u16) -> Vec<u8> {
    const MORE_FRAGMENTS: u16 = 0x2000;
    let mut frame = tcp(40_000, 443, SYN, 0);
    frame[20..22].copy_from_slice(&(MORE_FRAGMENTS | offset).to_be_bytes());
    frame
}

fn with_options() -> Vec<u8> {
    let mut frame = tcp(40_000, 443, SYN, 0);
    frame[14] = 0x47;
    frame[17] += 8;
    frame.splice(34..34, [1, 1, 1, 1, 1, 1, 1, 0]);
    frame
}

fn patched(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

fn tagged(frame: &[u8], vlans: &[u16]) -> Vec<u8> {
    let tags = vlans.iter().flat_map(|vlan| [[0x81, 0x00], (0xe000 | vlan).to_be_bytes()].concat());
    [frame[..12].to_vec(), tags.collect(), frame[12..].to_vec()].concat()
}

fn ethertype(number: u16) -> Vec<u8> {
    [&CLUSTER_MAC[..], &CLIENT_MAC, &number.to_be_bytes(), &[0; 46]].concat()
}

fn arp(operation: u16, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4];
    let ethernet = [&[0xff; 6][..], &CLIENT_MAC, &[8, 6]].concat();
    let packet = [&head[..], &operation.to_be_bytes(), &CLIENT_MAC, &sender, &[0; 6], &target];
    [ethernet, packet.concat()].concat()
}

/// What every node answers: the cluster MAC stands in the ARP packet, and never in the Ethernet header.
fn arp_reply(to: [u8; 4]) -> Vec<u8> {
    let ethernet = [&CLIENT_MAC[..], &OWN_MAC, &[8, 6]].concat();
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    let packet = [&head[..], &CLUSTER_MAC, &VIP, &CLIENT_MAC, &to];
    [ethernet, packet.concat()].concat()
}

/// Well-formed frames for a cluster IP, such frames with bytes changed or cut off, and noise. 14 bytes at least: the kernel
/// feeds no shorter ones.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        (any::<u16>(), prop::sample::select(vec![443, 444, 25, 23, 22, 8443]), any::<u8>(), any::<u32>())
            .prop_map(|(from, to, flags, ack)| tcp(from, to, flags, ack)),
        any::<u8>().prop_map(|kind| icmp(kind, VIP)),
        (0u16..8192).prop_map(fragment),
        (1u16..4, any::<[u8; 4]>()).prop_map(|(operation, sender)| arp(operation, sender, VIP)),
        Just(udp()),
        Just(with_options()),
        prop::collection::vec(0u16..3, 1..4).prop_map(|vlans| tagged(&tcp(40_000, 443, SYN, 0), &vlans)),
    ];
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let mutated = (whole, prop::collection::vec(change, 0..4), any::<prop::sample::Index>(), any::<bool>());
    let mutated = mutated.prop_map(|(mut frame, changes, end, cut)| {
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if cut {
            frame.truncate(end.index(frame.len()).max(14));
        }
        frame
    });
    prop_oneof![9 => mutated, 1 => prop::collection::vec(any::<u8>(), 14..200)]
}
