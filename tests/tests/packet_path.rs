//! The whole packet path on a real kernel: every way to reach all nodes, both families of addresses, TCP, UDP and echo, small
//! and large MTUs, published containers, lost packets, cookies and floods, while nodes come and go. What is asserted is what must
//! always hold (DESIGN); how long things take is `bench failover`'s.
//!
//! Each scenario takes some seconds. The long forms are ignored by default; they take minutes:
//! `cargo xtask test --test packet_path -- --ignored`.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::thread;
use std::time::Duration;

use lb_user::clock::Time;
use lb_user::control::api::Status;
use rollcall_tests::backend::LARGE;
use rollcall_tests::caller::{Call, Caller, Callers, Line, LineReport};
use rollcall_tests::capture::{Capture, Flow, Kind};
use rollcall_tests::client::{Answer, Https};
use rollcall_tests::container::{self, Container, PUBLISHED};
use rollcall_tests::lab::{
    CLIENT, CLUSTER_IP, CLUSTER_IP6, Lab, Mode, NODE_DMZ, Plan, mac_text, takes_multicast,
};
use rollcall_tests::mixed::{self, EVERY_KIND, Mixed, MixedOutcome};
use rollcall_tests::node::{Cluster, PATIENCE};
use rollcall_tests::report::line;
use rollcall_tests::responder::PORT;
use rollcall_tests::scenario::SETTLE;
use rollcall_tests::syn_flood::{Memory, SynFlood};
use rollcall_tests::traffic::{Browsers, Habit, Pulse};
use rollcall_tests::watch::Watch;

/// What agents and proxies may grow by under a flood, each.
const PROCESS_GROWTH: u64 = 32 << 20;
/// What the kernel's memory may grow by: both nodes' full backlogs of half-open connections are a few megabytes.
const KERNEL_GROWTH: u64 = 64 << 20;

/// `nodes` nodes with IPv6 and the small service.
fn dual_stack(nodes: u8) -> Plan {
    Plan { ipv6: true, rules: mixed::RULE.to_owned(), ..Plan::nodes(nodes) }
}

/// The same, without what only TCP over IPv4 needs.
fn tcp_only(nodes: u8) -> Plan {
    Plan { rules: mixed::TCP_RULE.to_owned(), ..Plan::nodes(nodes) }
}

#[test]
fn multicast_mode_answers_everything_once_through_a_death_and_a_return() {
    through_a_death_and_a_return(Plan { mode: Mode::Multicast, ..dual_stack(2) }, EVERY_KIND);
}

#[test]
fn igmp_mode_answers_everything_once_through_a_death_and_a_return() {
    through_a_death_and_a_return(Plan { mode: Mode::Igmp, ..dual_stack(2) }, EVERY_KIND);
}

/// `MixedOutcome::assert_sound` also looks for frames whose source is the cluster MAC, on all ports of the switch.
#[test]
fn unicast_mode_answers_everything_once_through_a_death_and_a_return() {
    through_a_death_and_a_return(Plan { mode: Mode::Unicast, ..dual_stack(2) }, EVERY_KIND);
}

#[test]
fn with_ipv4_alone_calls_and_echo_are_answered_once_through_a_death_and_a_return() {
    through_a_death_and_a_return(tcp_only(2), &[Kind::Tcp, Kind::Echo]);
}

/// The first node is the default host, so that echo moves, too.
fn through_a_death_and_a_return(plan: Plan, kinds: &[Kind]) -> MixedOutcome {
    let mut scenario = Mixed::start(&plan, kinds).unwrap();
    let begin = Time::now();
    thread::sleep(Duration::from_secs(1));
    for ip in scenario.cluster.lab.cluster_ips() {
        let known = scenario.cluster.lab.neighbour(ip).unwrap();
        assert_eq!(known, Some(mac_text(plan.mode.cluster_mac())), "the router's neighbour {ip}");
    }
    let fault = Time::now();
    scenario.power_off("arr1").unwrap();
    thread::sleep(SETTLE);
    let settled = Time::now();
    thread::sleep(Duration::from_secs(1));
    let returning = Time::now();
    scenario.power_on("arr1").unwrap();
    scenario.cluster.converge().unwrap();
    let seen = scenario.finish().unwrap();
    let families = if plan.ipv6 { 2 } else { 1 };
    seen.assert_served(kinds, families, begin, fault);
    seen.assert_served(kinds, families, settled, returning);
    seen.assert_sound();
    seen
}

#[test]
fn ten_thousand_connections_go_on_while_nodes_join_leave_and_die() {
    connections_under_churn(10_000);
}

#[test]
#[ignore = "minutes; see the head of this file"]
fn a_hundred_thousand_connections_go_on_while_nodes_join_leave_and_die() {
    connections_under_churn(100_000);
}

fn connections_under_churn(count: usize) {
    let mut scenario = Mixed::prepare(&tcp_only(3)).unwrap();
    scenario.admit(&[Kind::Tcp], Duration::from_millis(1), count).unwrap();
    let end = Time::now() + Duration::from_secs(600);
    let disturbances = [kill_an_agent, take_power, stop_in_order, drain];
    let mut disturbed = 0;
    while disturbed < disturbances.len() || (scenario.called() < count && Time::now() < end) {
        disturbances[disturbed % disturbances.len()](&mut scenario);
        disturbed += 1;
    }
    line(format!("{disturbed} disturbances"));
    let seen = scenario.finish().unwrap();
    seen.assert_sound();
    assert!(seen.calls.len() >= count, "only {} calls", seen.calls.len());
}

fn kill_an_agent(scenario: &mut Mixed) {
    scenario.cluster.node("arr1").kill_agent();
    scenario.cluster.converge().unwrap();
    scenario.cluster.start_agents().unwrap();
    scenario.cluster.converge().unwrap();
}

fn take_power(scenario: &mut Mixed) {
    scenario.power_off("arr2").unwrap();
    scenario.cluster.converge().unwrap();
    scenario.power_on("arr2").unwrap();
    scenario.cluster.converge().unwrap();
}

fn stop_in_order(scenario: &mut Mixed) {
    let node = scenario.cluster.node("arr3");
    let status = node.stop().unwrap();
    assert!(status.success(), "the agent ended with {status}\n{}", node.log_tail());
    scenario.cluster.start_agents().unwrap();
    scenario.cluster.converge().unwrap();
}

fn drain(scenario: &mut Mixed) {
    let node = scenario.cluster.node("arr1");
    node.drain().unwrap();
    holds_nothing(&mut scenario.cluster, "arr1");
    scenario.cluster.node("arr1").resume().unwrap();
    scenario.cluster.converge().unwrap();
}

fn holds_nothing(cluster: &mut Cluster, name: &str) {
    let empty = |status: &lb_user::control::api::Status| {
        status.tables.iter().all(|table| table.mine + table.arriving == 0)
    };
    cluster.node(name).wait_until("it holds nothing", empty).unwrap();
}

#[test]
fn a_question_by_udp_is_answered_once_by_the_node_that_holds_its_bucket() {
    let mut scenario = Mixed::prepare(&dual_stack(2)).unwrap();
    let held = |scenario: &Mixed| -> Vec<_> {
        let nodes = scenario.cluster.nodes.iter();
        nodes.map(|node| (node.name().to_owned(), node.holds_of(&PORT.to_string()).unwrap())).collect()
    };
    // The cluster is up once the site's shares are; those of this port may still be on their way.
    let mut before = held(&scenario);
    let deadline = Time::now() + Duration::from_secs(20);
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = held(&scenario);
        let rests = now == before;
        before = now;
        if rests {
            break;
        }
        assert!(Time::now() < deadline, "shares do not come to rest");
    }
    scenario.admit(&[Kind::Udp], Duration::ZERO, 0).unwrap();
    thread::sleep(Duration::from_secs(2));
    let held = held(&scenario);
    assert!(held == before, "shares moved while questions were asked");
    let seed = scenario.cluster.seed;
    let seen = scenario.finish().unwrap();
    for question in &seen.questions {
        let owner = held.iter().find(|(_, held)| held.has_client(question.client, seed)).unwrap();
        assert_eq!(question.answers, [owner.0.as_str()], "{question:?}");
    }
    assert!(seen.questions.len() > 500, "only {} questions", seen.questions.len());
    seen.assert_sound();
}

#[test]
fn a_node_that_dies_takes_only_its_own_connections_of_ipv6_with_it() {
    let mut cluster = Cluster::start_on(&dual_stack(2)).unwrap();
    let capture = Capture::start(&cluster.lab).unwrap();
    let https = Https::new6(&cluster.lab, cluster.certificates.client().unwrap());
    let pulses: Vec<_> = (0..16).map(|_| Pulse::start(&https).unwrap()).collect();
    let known = cluster.lab.neighbour(CLUSTER_IP6.into()).unwrap();
    assert_eq!(known, Some(mac_text(Mode::Multicast.cluster_mac())));
    let gone = cluster.power_off("arr1").unwrap();
    thread::sleep(SETTLE);
    assert_all_answered(&https, 200);
    cluster.power_on("arr1").unwrap();
    cluster.start_agents().unwrap();
    cluster.converge().unwrap();
    assert_all_answered(&https, 200);
    let survivors: Vec<_> = pulses.into_iter().map(|pulse| (pulse.client, pulse.finish().unwrap())).collect();
    let flows = capture.finish().unwrap();
    let dead =
        survivors.iter().filter(|(client, _)| flows.answered_by(Flow::https(*client)) == Some(gone.mac));
    let dead: BTreeSet<_> = dead.map(|(client, _)| *client).collect();
    assert!((1..16).contains(&dead.len()), "{} of 16 connections were the dead node's", dead.len());
    for (client, report) in survivors.iter().filter(|(client, _)| !dead.contains(client)) {
        assert_eq!(report.broken, None, "{client}");
    }
    assert_eq!(flows.answered_twice(&[gone]), Vec::<String>::new());
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// `count` requests by two browsers, none of which may fail.
fn assert_all_answered(https: &Https, count: usize) {
    let habit = Habit { pause: Duration::from_millis(2), per_connection: 2, most: count / 2 };
    let browsers = Browsers::start(https, 2, habit);
    let end = Time::now() + PATIENCE;
    while browsers.done() < count && Time::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    let requests = browsers.finish().unwrap();
    let failed: Vec<_> = requests.iter().filter(|request| request.error.is_some()).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), requests.len(), failed[0]);
    assert_eq!(requests.len(), count);
}

#[test]
fn a_client_behind_a_small_mtu_downloads_ten_megabytes_from_each_node() {
    downloads_behind_a_small_mtu(&Plan { small_hop: true, ..Plan::nodes(2) });
}

#[test]
fn a_client_behind_a_small_mtu_downloads_by_ipv6_too() {
    let cluster = downloads_behind_a_small_mtu(&Plan { small_hop: true, ..dual_stack(2) });
    let (_, too_big6) = cluster.lab.packets_too_big().unwrap();
    assert!(too_big6 > 0, "nothing was too big");
}

fn downloads_behind_a_small_mtu(plan: &Plan) -> Cluster {
    let cluster = Cluster::start_on(plan).unwrap();
    let capture = Capture::start(&cluster.lab).unwrap();
    for https in cluster.https_of_all().unwrap() {
        for node in ["arr1", "arr2"] {
            let mut connection = cluster.connect_through(&https, &capture, node).unwrap();
            connection.download(LARGE.0, 10 << 20, |_| {}).unwrap();
        }
    }
    let (too_big, _) = cluster.lab.packets_too_big().unwrap();
    assert!(too_big > 0, "nothing was too big");
    assert_eq!(capture.finish().unwrap().answered_twice(&[]), Vec::<String>::new());
    cluster
}

#[test]
fn jumbo_frames_come_through_the_native_program() {
    let mut cluster = Cluster::start_on(&Plan { mtu: 9000, ..Plan::nodes(2) }).unwrap();
    let capture = Capture::start(&cluster.lab).unwrap();
    let https = cluster.https().unwrap();
    for node in ["arr1", "arr2"] {
        assert_eq!(cluster.node(node).status().unwrap().interface.xdp, "native");
        let place = cluster.node(node).place.clone();
        let [long, beyond] =
            [3500, 9014].map(|length| Watch::for_longer(&cluster.lab, &place, length).unwrap());
        let mut connection = cluster.connect_through(&https, &capture, node).unwrap();
        let upload = connection.request("POST", "/EWS/Exchange.asmx", &vec![7; 2 << 20]).unwrap();
        assert_eq!(upload.status, 200);
        connection.download(LARGE.0, 10 << 20, |_| {}).unwrap();
        let (long, beyond) = (long.finish().unwrap().count, beyond.finish().unwrap().count);
        assert!(long > 20 && beyond == 0, "{node} got {long} long frames, {beyond} longer than the MTU");
    }
}

#[test]
fn echo_is_answered_once_and_at_most_once_while_the_default_host_dies_and_returns() {
    let seen = through_a_death_and_a_return(dual_stack(2), &[Kind::Echo]);
    let lost = seen.pings.iter().filter(|ping| ping.replies == 0).count();
    println!("{lost} of {} echo requests were not answered", seen.pings.len());
}

#[test]
fn connections_into_a_container_keep_to_one_node_over_a_join_and_a_death() {
    let plan = Plan { rules: container::RULE.to_owned(), ..Plan::nodes(2) };
    let mut cluster = Cluster::raise(&plan).unwrap();
    let containers = cluster.lab.places.iter().map(|place| Container::start(&cluster.lab, place).unwrap());
    let containers: Vec<_> = containers.collect();
    cluster.node("arr1").start().unwrap();
    cluster.converge().unwrap();
    let capture = Capture::start(&cluster.lab).unwrap();
    let before = open_lines(&cluster.lab, 12);
    cluster.start_agents().unwrap();
    cluster.converge().unwrap();
    // Clients stay with arr1 until their bucket is idle; which ones are is looked for once a second.
    let joined = |status: &Status| {
        let table = status.tables.iter().find(|table| table.ports.contains("8080"));
        table.is_some_and(|table| table.mine > 1000)
    };
    cluster.node("arr2").wait_until("it has its share of the idle buckets", joined).unwrap();
    assert_eq!(called(&cluster.lab, 12), names(&["arr1", "arr2"]));
    let after = open_lines(&cluster.lab, 12);
    thread::sleep(Duration::from_secs(1));
    let before = finish(before);
    for report in &before {
        assert_eq!((&report.by, &report.broken), (&names(&["arr1"]), &None), "{report:?}");
    }
    let gone = cluster.power_off("arr1").unwrap();
    thread::sleep(SETTLE);
    assert_eq!(called(&cluster.lab, 12), names(&["arr2"]));
    for report in finish(after) {
        assert_eq!(report.by.len(), 1, "{report:?}");
        assert!(report.broken.is_none() || report.by == names(&["arr1"]), "{report:?}");
    }
    assert_eq!(capture.finish().unwrap().answered_twice(&[gone]), Vec::<String>::new());
    drop(containers);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Connections into the container, each from another address.
fn open_lines(lab: &Lab, count: usize) -> Vec<Line> {
    // Whose node has died gets no answer for ever; that need not take long to find.
    let caller = || Caller::new(lab, PUBLISHED).unwrap().patient(Duration::from_secs(5));
    (0..count).map(|_| Line::open(caller()).unwrap()).collect()
}

fn finish(lines: Vec<Line>) -> Vec<LineReport> {
    lines.into_iter().map(|line| line.finish().unwrap()).collect()
}

/// Who answers calls into the container from new addresses; all of them are answered.
fn called(lab: &Lab, count: usize) -> BTreeSet<String> {
    let callers = (0..count).map(|_| Caller::new(lab, PUBLISHED).unwrap()).collect();
    let calls = Callers::start(callers, Duration::from_millis(5), 20 * count).finish_all().unwrap();
    calls.into_iter().map(|call: Call| call.answer.unwrap()).collect()
}

#[test]
fn a_handshake_whose_answer_was_lost_completes_without_a_reset_after_the_bucket_moved() {
    let mut cluster = Cluster::start(2).unwrap();
    let capture = Capture::start(&cluster.lab).unwrap();
    cluster
        .lab
        .router
        .nft(&format!(
            "table ip lossy {{ chain forward {{ type filter hook forward priority filter;\n\
             ip daddr {CLIENT} tcp flags & (syn | ack) == (syn | ack) drop\n}}\n}}"
        ))
        .unwrap();
    // Two nodes answer one SYN. The router's connection tracking would take the second handshake for one that does not fit, and
    // let parts of it reach the client from behind the NAT, to be reset: what is tested are the nodes.
    cluster.lab.router.sysctl("net/netfilter/nf_conntrack_tcp_be_liberal", "1").unwrap();
    let mut https = cluster.https().unwrap();
    https.patience = PATIENCE;
    let clients: Vec<_> = (0..16).map(|_| in_background(https.clone())).collect();
    wait_for("every SYN is answered", || capture.so_far().of(Kind::Tcp).count() >= clients.len());
    let half_open = capture.so_far();
    let by_first = half_open.of(Kind::Tcp).filter(|flow| {
        half_open.answered_by(**flow).and_then(|mac| cluster.lab.node_of_mac(mac)).unwrap().name == "arr1"
    });
    assert!(by_first.count() > 0, "the node that is drained answered no SYN");
    cluster.node("arr1").drain().unwrap();
    holds_nothing(&mut cluster, "arr1");
    cluster.lab.router.nft("delete table ip lossy").unwrap();
    for client in clients {
        assert_eq!(client.join().unwrap().status, 200);
    }
    let flows = capture.finish().unwrap();
    assert_eq!(flows.reset().collect::<Vec<_>>(), Vec::<&Flow>::new(), "resets");
}

/// A client that connects and asks for a page.
fn in_background(https: Https) -> thread::JoinHandle<Answer> {
    thread::spawn(move || https.connect().unwrap().get("/owa/").unwrap())
}

/// A cookie names no node: only the kernel's secret tells one node's from another's, and the lab's nodes share a kernel. So in
/// here both may take a client's last step for a handshake with them, while its bucket moves; but only one began it.
#[test]
fn with_cookies_for_every_syn_no_handshake_fails_while_shares_move() {
    let plan = Plan { syncookies: true, ..tcp_only(2) };
    let mut scenario = Mixed::prepare(&plan).unwrap();
    let target = SocketAddr::from((CLUSTER_IP, PORT));
    // Short calls: in a longer one the second node would get to speak.
    let callers = (0..8).map(|_| Caller::new(&scenario.cluster.lab, target).unwrap()).collect();
    scenario.call(callers, Duration::from_millis(2), usize::MAX);
    for disturb in [kill_an_agent, drain, kill_an_agent, drain] {
        disturb(&mut scenario);
        thread::sleep(Duration::from_millis(300));
    }
    let seen = scenario.finish().unwrap();
    seen.assert_sound_but_for_two_answers();
    assert_eq!(seen.flows.accepted_twice(), Vec::<String>::new());
    let failed: Vec<_> = seen.calls.iter().filter(|call| call.answer.is_err()).collect();
    assert!(failed.is_empty(), "{} of {} calls failed: {:?}", failed.len(), seen.calls.len(), failed[0]);
    assert!(seen.calls.len() > 500, "only {} calls", seen.calls.len());
}

#[test]
fn a_flood_of_two_hundred_thousand_spoofed_syns_stops_nobody_and_costs_no_memory() {
    syns_with_spoofed_sources(200_000);
}

#[test]
#[ignore = "minutes; see the head of this file"]
fn a_flood_of_five_million_spoofed_syns_stops_nobody_and_costs_no_memory() {
    syns_with_spoofed_sources(5_000_000);
}

fn syns_with_spoofed_sources(count: u64) {
    let cluster = Cluster::start(2).unwrap();
    let https = cluster.https().unwrap();
    let pulses: Vec<_> = (0..16).map(|_| Pulse::start(&https).unwrap()).collect();
    let before = Memory::of(&cluster).unwrap();
    let from = Time::now();
    let flood = SynFlood::start(&cluster.lab, SocketAddrV4::new(CLUSTER_IP, 443), count).unwrap();
    assert_eq!(flood.finish().unwrap(), count);
    let to = Time::now();
    let after = Memory::of(&cluster).unwrap();
    for pulse in pulses {
        let report = pulse.finish().unwrap();
        assert_eq!(report.broken, None);
        assert!(report.alive_in_every_second(from, to), "silent for {:?}", report.longest_gap());
    }
    line(format!("{count} SYNs in {:?}; before: {before:?}; after: {after:?}", to.since(from)));
    assert_eq!(after.grown_since(&before, PROCESS_GROWTH, KERNEL_GROWTH), Vec::<String>::new());
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn group_memberships_are_there_before_and_after_the_agent_is_killed() {
    let plan = Plan { mode: Mode::Igmp, snooping: true, ..dual_stack(2) };
    let mut cluster = Cluster::start_on(&plan).unwrap();
    let groups: [IpAddr; 2] = ["239.255.50.8".parse().unwrap(), "ff02::1:ff00:8".parse().unwrap()];
    let members = |cluster: &Cluster| groups.map(|group| cluster.lab.listeners(group).unwrap());
    let nodes = names(&["arr1", "arr2"]);
    wait_for("the switch knows of both groups", || {
        members(&cluster).iter().all(|ports| ports.is_superset(&nodes))
    });
    cluster.node("arr1").kill_agent();
    // Longer than a membership that nobody renews; see `lab/switch.rs`.
    thread::sleep(Duration::from_secs(7));
    for ports in members(&cluster) {
        assert!(ports.is_superset(&nodes), "the switch knows of {ports:?}");
    }
    let namespace = &cluster.node("arr1").place.namespace;
    assert!(takes_multicast(namespace, NODE_DMZ, Mode::Igmp.cluster_mac()).unwrap());
}

#[test]
fn a_node_that_a_snooping_switch_keeps_out_says_that_it_is_deaf_and_serves_no_longer() {
    deaf_and_healed(&Plan { mode: Mode::Igmp, snooping: true, ..dual_stack(2) });
}

#[test]
fn a_node_that_a_plain_switch_keeps_out_says_that_it_is_deaf_and_serves_no_longer() {
    deaf_and_healed(&Plan { mode: Mode::Unicast, ..dual_stack(2) });
}

fn deaf_and_healed(plan: &Plan) {
    let mut scenario = Mixed::start(plan, &[Kind::Tcp]).unwrap();
    let place = scenario.cluster.node("arr2").place.clone();
    scenario.cluster.lab.deafen(&place).unwrap();
    let deaf = |problem: &Option<String>| problem.as_ref().is_some_and(|text| text.contains("deaf"));
    let node = scenario.cluster.node("arr2");
    node.wait_until("it says that it is deaf", |status| deaf(&status.problem)).unwrap();
    holds_nothing(&mut scenario.cluster, "arr2");
    let settled = Time::now();
    thread::sleep(Duration::from_secs(2));
    let healing = Time::now();
    scenario.cluster.lab.undeafen(&place).unwrap();
    let node = scenario.cluster.node("arr2");
    node.wait_until("it is no longer deaf", |status| !deaf(&status.problem)).unwrap();
    scenario.cluster.converge().unwrap();
    let seen = scenario.finish().unwrap();
    seen.assert_served(&[Kind::Tcp], 2, settled, healing);
    seen.assert_sound();
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Time::now() + PATIENCE;
    while !done() {
        assert!(Time::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
