//! What the kernel's sockets decide: every bucket state, lease, kind of packet and kind of real socket, for both families.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use std::{fs, thread};

use etherparse::{Ipv4Header, TcpHeader, TcpOptionElement};
use lb_common::packet::protocol;
use lb_common::table::BucketState;
use lb_common::verdict::{LocalSocket, Reason};
use rollcall_tests::netns::{in_own_netns, run};
use rollcall_tests::verdicts::{Fate, Kernel};
use socket2::{Domain, Protocol, Socket, Type};

use crate::frames::*;
use crate::scene::*;

#[test]
fn a_running_connection_passes_where_its_socket_is() {
    let checked = in_own_netns(|| check_all(V4));
    println!("{checked} combinations");
}

#[test]
fn a_running_connection_passes_where_its_socket_is_over_ipv6() {
    let checked = in_own_netns(|| check_all(V6));
    println!("{checked} combinations");
}

fn check_all(pair: Pair) -> u64 {
    let sockets = Sockets::open(pair);
    let mut setting = Scene::new().setting();
    let mut kernel = Kernel::load(&setting).unwrap();
    let mut checked = 0;
    for (state, lease) in states() {
        setting.lease = lease;
        fill(&mut setting, state);
        kernel.apply(&setting).unwrap();
        for case in sockets.cases() {
            for flags in (0..64).chain([0xc2, 0xd0]) {
                setting.socket = case.on_the_host(flags);
                let outcome = feed_both(&mut kernel, &setting, &case.frame(pair, flags));
                let expected = expected(state, lease, flags, case.kind);
                let found = (outcome.fate, outcome.reason);
                assert_eq!(found, expected, "{state:?}, lease {lease}, {:?}, flags {flags:#04x}", case.kind);
                checked += 1;
            }
        }
    }
    assert_eq!(kernel.audit().unwrap().values().sum::<u64>(), checked);
    checked
}

/// A cookie that was valid, but for another client or another cluster IP, is none.
#[test]
fn a_cookie_counts_only_for_its_own_flow() {
    in_own_netns(|| {
        let sockets = Sockets::open(V4);
        let mut setting = Scene::new().setting();
        fill(&mut setting, BucketState::Arriving);
        let mut kernel = Kernel::load(&setting).unwrap();
        let mut judge = |pair: Pair, port, acknowledgement, cookie_ok| {
            setting.socket = LocalSocket::Listener { cookie_ok };
            let frame = pair.frame(protocol::TCP, &tcp(port, HTTPS_PORT, ACK, acknowledgement));
            feed_both(&mut kernel, &setting, &frame).reason
        };
        let cookie = sockets.cookie.wrapping_add(1);
        // Its highest byte counts minutes, the rest is a hash and the MSS.
        let of_another_time = cookie.wrapping_add(1 << 24);
        let neighbour = V4.of_client("203.0.113.11".parse().unwrap());
        assert_eq!(judge(V4, COOKIE_PORT, cookie, true), Reason::LocalCookie);
        assert_eq!(judge(V4, COOKIE_PORT + 10, cookie, false), Reason::ListenerOnly);
        assert_eq!(judge(V4, COOKIE_PORT, of_another_time, false), Reason::ListenerOnly);
        assert_eq!(judge(neighbour, COOKIE_PORT, cookie, false), Reason::ListenerOnly);
    });
}

/// What holds behind VLAN tags, IP options and extension headers too: the socket is looked for by what they carry.
#[test]
fn a_socket_is_found_whatever_headers_are_before() {
    for pair in [V4, V6] {
        in_own_netns(move || {
            let sockets = Sockets::open(pair);
            let mut setting = Scene::new().setting();
            setting.config.vlans = [5, 7];
            fill(&mut setting, BucketState::Departing);
            let mut kernel = Kernel::load(&setting).unwrap();
            for case in sockets.cases() {
                setting.socket = case.on_the_host(ACK);
                let frame = tagged(&with_headers(&case.frame(pair, ACK), pair), &[5, 7]);
                let outcome = feed_both(&mut kernel, &setting, &frame);
                let expected = expected(BucketState::Departing, true, ACK, case.kind);
                assert_eq!((outcome.fate, outcome.reason), expected, "{:?}", case.kind);
            }
        });
    }
}

/// The frame with IPv4 options, or with IPv6 extension headers.
fn with_headers(frame: &[u8], pair: Pair) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if pair.is_v6() {
        let (next, headers) =
            extended(&[(HOP_BY_HOP, options(1)), (DESTINATION, options(0))], protocol::TCP, &[]);
        let length = u16::from_be_bytes([frame[18], frame[19]]) + headers.len() as u16;
        frame = patched(frame, 18, &length.to_be_bytes());
        frame[20] = next;
        frame.splice(54..54, headers);
    } else {
        let length = u16::from_be_bytes([frame[16], frame[17]]) + 8;
        frame = patched(frame, 16, &length.to_be_bytes());
        frame[14] = 0x47;
        frame.splice(34..34, [1; 8]);
    }
    frame
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
fn expected(state: BucketState, lease: bool, flags: u8, socket: Kind) -> (Fate, Reason) {
    let has = |flag| flags & flag != 0;
    let new = has(SYN) && !has(ACK) && !has(RST) && !has(FIN);
    match (state, new, lease) {
        (BucketState::Other, _, _) => (Fate::Dropped, Reason::Other),
        (BucketState::Departing, true, _) => (Fate::Dropped, Reason::NewDeparting),
        (BucketState::Mine | BucketState::Arriving, true, false) => (Fate::Dropped, Reason::NewNoLease),
        (BucketState::Mine, true, true) => (Fate::Passed, Reason::NewMine),
        (BucketState::Arriving, true, true) => (Fate::Passed, Reason::NewArriving),
        (BucketState::Mine, false, true) => (Fate::Passed, Reason::Mine),
        (BucketState::Mine | BucketState::Arriving | BucketState::Departing, false, _) => {
            expected_of_socket(flags, socket)
        }
    }
}

fn expected_of_socket(flags: u8, socket: Kind) -> (Fate, Reason) {
    let has = |flag| flags & flag != 0;
    match socket {
        Kind::None => (Fate::Dropped, Reason::NoSocket),
        Kind::ListenerWithCookie if has(ACK) && !has(SYN) && !has(RST) => (Fate::Passed, Reason::LocalCookie),
        Kind::Listener | Kind::ListenerWithCookie => (Fate::Dropped, Reason::ListenerOnly),
        Kind::HalfOpen if has(ACK) || has(RST) => (Fate::Passed, Reason::LocalHalfOpen),
        Kind::HalfOpenWrongAck if has(RST) && !has(ACK) => (Fate::Passed, Reason::LocalHalfOpen),
        Kind::HalfOpen | Kind::HalfOpenWrongAck => (Fate::Dropped, Reason::HalfOpenOther),
        Kind::Established => (Fate::Passed, Reason::LocalOpen),
        Kind::TimeWait => (Fate::Passed, Reason::LocalTimeWait),
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
    fn frame(&self, pair: Pair, flags: u8) -> Vec<u8> {
        pair.frame(protocol::TCP, &tcp(self.client_port, self.port, flags, self.acknowledgement))
    }

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

const HTTPS_PORT: u16 = 443;
/// Of the same rule, and nobody listens there.
const SILENT_PORT: u16 = 444;
const HALF_OPEN_PORT: u16 = 41_000;
const COOKIE_PORT: u16 = 41_001;
const ESTABLISHED_PORT: u16 = 41_002;
const TIME_WAIT_PORT: u16 = 41_003;

impl Sockets {
    fn open(pair: Pair) -> Self {
        for address in [pair.vip, pair.client] {
            let prefix = if pair.is_v6() { "128 nodad" } else { "32" };
            run(&format!("ip addr add {address}/{prefix} dev lo")).unwrap();
        }
        wait_for_route(pair.client, pair.vip);
        wait_for_route(pair.vip, pair.client);
        // The client's kernel knows nothing of the half-open connection and would reset it.
        run("nft add table inet verdicts").unwrap();
        run("nft add chain inet verdicts out { type filter hook output priority 0 ; }").unwrap();
        run("nft add rule inet verdicts out tcp flags & rst == rst drop").unwrap();
        let listener = TcpListener::bind(SocketAddr::new(pair.vip, HTTPS_PORT)).unwrap();
        let established = connect(pair, &listener, ESTABLISHED_PORT);
        let (server, mut client) = connect(pair, &listener, TIME_WAIT_PORT);
        drop(server);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(client);
        wait_for_time_wait(pair);
        syn_cookies(1);
        let half_open = sequence_of_syn_ack(pair, HALF_OPEN_PORT);
        syn_cookies(2);
        let cookie = sequence_of_syn_ack(pair, COOKIE_PORT);
        Self { _listener: listener, _established: established, half_open, cookie }
    }

    fn cases(&self) -> [Case; 7] {
        let case =
            |kind, client_port, port, acknowledgement| Case { kind, client_port, port, acknowledgement };
        let half_open = self.half_open.wrapping_add(1);
        [
            case(Kind::None, 41_009, SILENT_PORT, 1),
            case(Kind::Listener, 41_009, HTTPS_PORT, 1),
            case(Kind::ListenerWithCookie, COOKIE_PORT, HTTPS_PORT, self.cookie.wrapping_add(1)),
            case(Kind::HalfOpen, HALF_OPEN_PORT, HTTPS_PORT, half_open),
            case(Kind::HalfOpenWrongAck, HALF_OPEN_PORT, HTTPS_PORT, half_open.wrapping_add(1)),
            case(Kind::Established, ESTABLISHED_PORT, HTTPS_PORT, 1),
            case(Kind::TimeWait, TIME_WAIT_PORT, HTTPS_PORT, 1),
        ]
    }
}

/// An IPv6 address takes packets a moment after it is there: the kernel adds its route from a work queue (addrconf_dad_work).
fn wait_for_route(from: IpAddr, to: IpAddr) {
    let sender = UdpSocket::bind(SocketAddr::new(from, 0)).unwrap();
    let receiver = UdpSocket::bind(SocketAddr::new(to, 0)).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    for _ in 0..500 {
        // Until then either may fail.
        let sent = sender.send_to(b"?", receiver.local_addr().unwrap());
        if sent.is_ok() && receiver.recv(&mut [0]).is_ok() {
            return;
        }
    }
    panic!("nothing from {from} reached {to}");
}

fn connect(pair: Pair, listener: &TcpListener, client_port: u16) -> (TcpStream, TcpStream) {
    let client =
        Socket::new(Domain::for_address(listener.local_addr().unwrap()), Type::STREAM, None).unwrap();
    client.bind(&SocketAddr::new(pair.client, client_port).into()).unwrap();
    client.connect(&SocketAddr::new(pair.vip, HTTPS_PORT).into()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (server, client.into())
}

/// Waits for the server's side of the connection that it closed first.
fn wait_for_time_wait(pair: Pair) {
    const TIME_WAIT: &str = "06";
    let table = if pair.is_v6() { "/proc/thread-self/net/tcp6" } else { "/proc/thread-self/net/tcp" };
    for _ in 0..500 {
        let table = fs::read_to_string(table).unwrap();
        let found = table.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (local, state) = (words.next(), words.nth(1));
            local.is_some_and(|local| local.ends_with(":01BB")) && state == Some(TIME_WAIT)
        });
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
fn sequence_of_syn_ack(pair: Pair, client_port: u16) -> u32 {
    let domain = if pair.is_v6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::TCP)).unwrap();
    socket.bind(&SocketAddr::new(pair.client, 0).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut syn = TcpHeader::new(client_port, HTTPS_PORT, CLIENT_ISN, 65_535);
    syn.syn = true;
    // An MSS option, so that a cookie has something to encode.
    syn.set_options(&[TcpOptionElement::MaximumSegmentSize(1_440)]).unwrap();
    syn.checksum = match (pair.client, pair.vip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => syn.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[]),
        (from, to) => syn.calc_checksum_ipv6_raw(v6(from), v6(to), &[]),
    }
    .unwrap();
    socket.send_to(&syn.to_bytes(), &SocketAddr::new(pair.vip, 0).into()).unwrap();
    let mut buffer = [0; 256];
    loop {
        let read = (&socket).read(&mut buffer).unwrap();
        // A raw socket of IPv4 gives the IP header too.
        let segment =
            if pair.is_v6() { &buffer[..read] } else { Ipv4Header::from_slice(&buffer[..read]).unwrap().1 };
        let (tcp, _) = TcpHeader::from_slice(segment).unwrap();
        if tcp.destination_port == client_port && tcp.syn && tcp.ack {
            return tcp.sequence_number;
        }
    }
}
