//! What a lab's plan can ask for beside the plain network, and the clients and watches that go with it, each shown to work where
//! no agent runs: a node that has the cluster IPs for itself stands in for a cluster.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::Duration;

use etherparse::TcpHeader;
use lb_user::clock::Time;
use lb_user::sys::{FrameSocket, Received};
use rollcall_tests::asker::{Asker, Question};
use rollcall_tests::backend::{Backend, Certificates};
use rollcall_tests::caller::{Call, Caller, Callers, Line};
use rollcall_tests::capture::{Capture, Kind};
use rollcall_tests::client::Https;
use rollcall_tests::container::{Container, PUBLISHED};
use rollcall_tests::lab::{CLUSTER_IP, Lab, Mode, NODE_DMZ, Plan, mac_text, takes_multicast};
use rollcall_tests::pinger::{Ping, Pinger};
use rollcall_tests::responder::{PORT, Responder};
use rollcall_tests::syn_flood::SynFlood;
use rollcall_tests::watch::Watch;
use socket2::{Domain, Protocol, Socket, Type};

/// A lab in which the first node has the cluster IPs and the small service.
fn stand_in(plan: &Plan) -> (Responder, Lab) {
    let lab = Lab::raise(plan).unwrap();
    let namespace = &lab.places[0].namespace;
    for ip in lab.cluster_ips() {
        take(&lab, ip);
    }
    let responder = Responder::start(namespace, "arr1", &lab.cluster_ips(), PORT).unwrap();
    (responder, lab)
}

fn take(lab: &Lab, ip: IpAddr) {
    let prefix = if ip.is_ipv6() { "128 nodad" } else { "32" };
    let (address, options) = prefix.split_once(' ').unwrap_or((prefix, ""));
    lab.places[0].namespace.ip(&format!("addr add {ip}/{address} dev {NODE_DMZ} {options}")).unwrap();
}

fn callers(lab: &Lab, target: SocketAddr, count: usize) -> Vec<Caller> {
    (0..count).map(|_| Caller::new(lab, target).unwrap()).collect()
}

#[test]
fn both_families_reach_the_service_by_tcp_udp_and_echo_and_are_captured() {
    let (_responder, lab) = stand_in(&Plan { ipv6: true, ..Plan::nodes(1) });
    let capture = Capture::start(&lab).unwrap();
    for ip in lab.cluster_ips() {
        let target = SocketAddr::new(ip, PORT);
        let calls = Callers::start(callers(&lab, target, 2), Duration::ZERO, 500);
        let (asker, pinger) = (Asker::start(&lab, target).unwrap(), Pinger::start(&lab, ip).unwrap());
        thread::sleep(Duration::from_millis(700));
        let calls = calls.finish().unwrap();
        let (questions, pings) = (asker.finish().unwrap(), pinger.finish().unwrap());
        println!("{ip}: {} calls, {} questions, {} pings", calls.len(), questions.len(), pings.len());
        assert!(calls.len() > 100 && questions.len() > 100 && pings.len() > 50);
        assert!(calls.iter().all(|call: &Call| call.answer.as_deref() == Ok("arr1")), "{calls:?}");
        assert!(questions.iter().all(|question: &Question| question.answers == ["arr1"]), "{questions:?}");
        assert!(pings.iter().all(|ping: &Ping| ping.replies == 1), "{pings:?}");
    }
    let flows = capture.finish().unwrap();
    for kind in [Kind::Tcp, Kind::Udp, Kind::Echo] {
        for v6 in [false, true] {
            let count = flows.of(kind).filter(|flow| flow.client.is_ipv6() == v6).count();
            assert!(count > 50, "{count} of {kind:?}, IPv6: {v6}");
        }
    }
    assert_eq!(flows.answered_again(), Vec::<String>::new());
    assert_eq!(flows.answered_twice(&[]), Vec::<String>::new());
}

#[test]
fn behind_the_small_hop_the_path_mtu_is_found_by_icmp() {
    let lab = Lab::raise(&Plan { ipv6: true, small_hop: true, ..Plan::light(1) }).unwrap();
    lab.cluster_ips().into_iter().for_each(|ip| take(&lab, ip));
    let certificates = Certificates::make(&lab.folder()).unwrap();
    let _web = Backend::start(&lab, &lab.places[0].namespace, "arr1", &certificates).unwrap();
    let tls = certificates.client().unwrap();
    for https in [Https::new(&lab, tls.clone()), Https::new6(&lab, tls)] {
        let mut received = 0;
        let mut connection = https.connect().unwrap();
        connection.download("/owa/large.bin", 2 << 20, |bytes| received += bytes).unwrap();
        assert_eq!(received, 2 << 20);
    }
    let (too_big, too_big6) = lab.packets_too_big().unwrap();
    assert!(too_big > 0 && too_big6 > 0, "IPv4 {too_big}, IPv6 {too_big6}");
}

#[test]
fn long_frames_are_seen_with_a_jumbo_mtu_and_not_without() {
    for (mtu, expected) in [(9000, true), (1500, false)] {
        let (_responder, lab) = stand_in(&Plan { mtu, ..Plan::light(1) });
        lab.pass_natively(&lab.places[0].namespace, NODE_DMZ).unwrap();
        let watch = Watch::for_longer(&lab, &lab.places[0], 3500).unwrap();
        let beyond = Watch::for_longer(&lab, &lab.places[0], u32::from(mtu) + 14).unwrap();
        upload(&lab);
        let (long, beyond) = (watch.finish().unwrap().count, beyond.finish().unwrap().count);
        assert_eq!((long > 0, beyond), (expected, 0), "{long} long frames at MTU {mtu}");
    }
}

/// Sends a megabyte over TCP to the cluster IP.
fn upload(lab: &Lab) {
    use std::io::{Read as _, Write as _};
    let stream = lab.client.enter(|| std::net::TcpStream::connect((CLUSTER_IP, PORT))).unwrap();
    let mut stream = stream.unwrap();
    let mut reader = stream.try_clone().unwrap();
    let answers = thread::spawn(move || reader.read_to_end(&mut Vec::new()));
    stream.write_all(&vec![7; 1 << 20]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    answers.join().unwrap().unwrap();
}

#[test]
fn a_deafened_node_gets_no_frame_for_the_cluster_mac_in_any_mode() {
    for (mode, snooping) in
        [(Mode::Multicast, false), (Mode::Igmp, true), (Mode::Multicast, true), (Mode::Unicast, false)]
    {
        let lab = Lab::raise(&Plan { mode, snooping, ..Plan::light(2) }).unwrap();
        let mac = mac_text(mode.cluster_mac());
        lab.router.ip(&format!("neigh replace {CLUSTER_IP} lladdr {mac} dev dmz nud permanent")).unwrap();
        if snooping {
            // A new querier floods for as long as its groups may take to answer.
            thread::sleep(Duration::from_millis(1500));
        }
        let hears = |what: &str, expected: bool| {
            let watches = [0, 1].map(|node| Watch::for_longer(&lab, &lab.places[node], 1000).unwrap());
            let socket = lab.router.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
            for _ in 0..3 {
                socket.send_to(&[7; 1200], (CLUSTER_IP, 9)).unwrap();
            }
            let [first, second] = watches.map(|watch| watch.finish().unwrap().count);
            assert_eq!((first, second), (if expected { 3 } else { 0 }, 3), "{mode:?}, {snooping}: {what}");
        };
        hears("at first", true);
        lab.deafen(&lab.places[0]).unwrap();
        hears("deafened", false);
        lab.undeafen(&lab.places[0]).unwrap();
        hears("undeafened", true);
    }
}

#[test]
fn a_snooping_switch_knows_who_joined_and_goes_on_knowing() {
    let (_responder, lab) = stand_in(&Plan { ipv6: true, snooping: true, ..Plan::light(2) });
    let place = &lab.places[0];
    place.namespace.ip(&format!("addr add 239.255.50.8/32 dev {NODE_DMZ} autojoin")).unwrap();
    let solicited = "ff02::1:ff00:8".parse().unwrap();
    let groups: [IpAddr; 2] = ["239.255.50.8".parse().unwrap(), solicited];
    let all_joined = || groups.iter().all(|group| lab.listeners(*group).unwrap().contains("arr1"));
    let deadline = Time::now() + Duration::from_secs(10);
    while !all_joined() {
        assert!(Time::now() < deadline, "{:?}", groups.map(|group| lab.listeners(group)));
        thread::sleep(Duration::from_millis(50));
    }
    // Longer than a membership that nobody renews.
    thread::sleep(Duration::from_secs(7));
    assert!(all_joined(), "{:?}", groups.map(|group| lab.listeners(group)));
    assert!(takes_multicast(&place.namespace, NODE_DMZ, [0x01, 0, 0x5e, 0x7f, 50, 8]).unwrap());
    assert!(!takes_multicast(&place.namespace, NODE_DMZ, [0x01, 0, 0x5e, 0x7f, 50, 9]).unwrap());
    let others = groups.map(|group| lab.listeners(group).unwrap().contains("arr2"));
    assert_eq!(others, [false, false]);
}

#[test]
fn a_frame_from_the_cluster_mac_is_found() {
    for mode in [Mode::Multicast, Mode::Igmp, Mode::Unicast] {
        let lab = Lab::raise(&Plan { mode, ..Plan::light(2) }).unwrap();
        let watch = Watch::for_cluster_mac_sources(&lab).unwrap();
        let mut frame = [0; 60];
        frame[5] = 9;
        frame[6..12].copy_from_slice(&mode.cluster_mac());
        send_frame(&lab, &frame);
        assert!(watch.finish().unwrap().count > 0, "{mode:?}");
        // A machine's own may be any with that first byte, also one that begins like unicast mode's cluster MAC.
        for (first, last) in [(0x06, frame[11]), (0x02, !frame[11])] {
            let quiet = Watch::for_cluster_mac_sources(&lab).unwrap();
            (frame[6], frame[11]) = (first, last);
            send_frame(&lab, &frame);
            assert_eq!(quiet.finish().unwrap().count, 0, "{mode:?}");
        }
    }
}

/// From the first node's interface in the DMZ.
fn send_frame(lab: &Lab, frame: &[u8]) {
    let namespace = &lab.places[0].namespace;
    let interface = namespace.interface(NODE_DMZ).unwrap();
    let sent = namespace.enter(|| FrameSocket::open(interface, Received::Nothing)?.send(frame));
    sent.unwrap().unwrap();
}

#[test]
fn a_published_container_answers_and_never_resets_what_it_does_not_know() {
    let (_responder, lab) = stand_in(&Plan::light(1));
    let place = &lab.places[0];
    let container = Container::start(&lab, place).unwrap();
    let capture = Capture::start(&lab).unwrap();
    let line = Line::open(Caller::new(&lab, PUBLISHED).unwrap()).unwrap();
    let calls =
        Callers::start(callers(&lab, PUBLISHED, 2), Duration::from_millis(1), 100).finish_all().unwrap();
    assert!(calls.iter().all(|call| call.answer.as_deref() == Ok("arr1")), "{calls:?}");
    let report = line.finish().unwrap();
    assert_eq!((report.by, report.broken), (["arr1".to_owned()].into(), None));
    for port in [PORT, PUBLISHED.port()] {
        send_stray(&lab, SocketAddrV4::new(CLUSTER_IP, port));
    }
    thread::sleep(Duration::from_millis(300));
    let flows = capture.finish().unwrap();
    let reset: Vec<_> = flows.reset().map(|flow| flow.port).collect();
    assert_eq!(reset, [PORT], "the host itself resets what it does not know, the container does not");
    drop(container);
}

/// Sends a segment of a connection that nobody has.
fn send_stray(lab: &Lab, target: SocketAddrV4) {
    let source = lab.client_address().unwrap();
    let mut segment = TcpHeader::new(5000, target.port(), 7, 100);
    (segment.ack, segment.acknowledgment_number) = (true, 9);
    segment.checksum = segment.calc_checksum_ipv4_raw(source.octets(), target.ip().octets(), &[]).unwrap();
    let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP));
    let socket = lab.client.enter(raw).unwrap().unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.send_to(&segment.to_bytes(), &SocketAddr::from(target).into()).unwrap();
}

#[test]
fn a_flood_leaves_its_target_reachable_and_its_answers_go_nowhere() {
    let (_responder, lab) = stand_in(&Plan { syncookies: true, ..Plan::nodes(1) });
    let key = "/proc/sys/net/ipv4/tcp_syncookies";
    let cookies = lab.places[0].namespace.enter(|| fs::read_to_string(key)).unwrap().unwrap();
    assert_eq!(cookies.trim(), "2");
    let target = SocketAddrV4::new(CLUSTER_IP, PORT);
    let flood = SynFlood::start(&lab, target, 50_000).unwrap();
    let calls = Callers::start(callers(&lab, target.into(), 2), Duration::from_millis(1), 200);
    assert_eq!(flood.finish().unwrap(), 50_000);
    let calls = calls.finish().unwrap();
    assert!(calls.iter().all(|call| call.answer.is_ok()), "{calls:?}");
    assert!(calls.len() > 20, "only {} calls", calls.len());
}
