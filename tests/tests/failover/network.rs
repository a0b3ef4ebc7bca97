//! The network's own faults: a firewall between the nodes, a segment in two parts, a router that restarts.

use std::fs;
use std::thread;
use std::time::Duration;

use lb_common::table::BUCKETS;
use lb_user::clock::Time;
use lb_user::control::api::Status;
use rollcall_tests::capture::Gone;
use rollcall_tests::lab::{GATEWAY, GATEWAY6, Plan};
use rollcall_tests::node::Cluster;
use rollcall_tests::report::line;
use rollcall_tests::scenario::{Load, Scenario};

use crate::settle;

#[test]
fn heartbeats_filtered_on_one_node_move_nothing_and_the_event_names_the_port() {
    heartbeats_filtered(&["arr1"]);
}

#[test]
fn heartbeats_filtered_on_both_nodes_move_nothing_and_the_event_names_the_port() {
    heartbeats_filtered(&["arr1", "arr2"]);
}

fn heartbeats_filtered(on: &[&str]) {
    let mut scenario = Scenario::on(Cluster::start(2).unwrap(), Load::LIGHT).unwrap();
    let (held, fault) = scenario.before_fault("arr1").unwrap();
    // Of a node that starts after it, the first says that it is silent, and is right.
    let before: Vec<u64> =
        on.iter().map(|name| scenario.cluster.node(name).latest_event().unwrap()).collect();
    for name in on {
        let place = scenario.cluster.node(name).place.clone();
        scenario.cluster.lab.filter_heartbeats(&place).unwrap();
    }
    settle();
    for (name, before) in on.iter().zip(before) {
        let events = scenario.cluster.node(name).events_since(before).unwrap();
        let told = events.iter().filter(|event| event.kind == "heartbeats-filtered");
        let told: Vec<_> = told.map(|event| event.text.as_str()).collect();
        assert!(told.iter().any(|text| text.contains("UDP port 7644")), "no event names the port: {told:?}");
        assert!(
            events.iter().all(|event| event.kind != "suspect"),
            "{name} suspects a living node: {events:?}"
        );
    }
    assert_eq!(scenario.cluster.node("arr1").holds().unwrap(), held, "buckets moved");
    for name in on {
        let place = scenario.cluster.node(name).place.clone();
        scenario.cluster.lab.pass_heartbeats(&place).unwrap();
    }
    scenario.cluster.converge().unwrap();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(scenario.cluster.node("arr1").holds().unwrap(), held, "buckets moved");
    let end = Time::now();
    thread::sleep(Duration::from_millis(100));
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage(&format!("heartbeats filtered on {}", on.join(" and ")), fault, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
    outcome.assert_all_answered(fault, end);
}

#[test]
fn a_segment_of_two_nodes_falls_apart_and_heals() {
    segment_falls_apart(2, &["arr2"]);
}

#[test]
fn a_segment_of_three_nodes_falls_apart_and_heals_whoever_has_the_router() {
    segment_falls_apart(3, &["arr1", "arr2"]);
}

#[test]
fn a_segment_of_eight_nodes_falls_apart_and_heals() {
    segment_falls_apart(8, &["arr6", "arr7", "arr8"]);
}

/// For the nodes two parts meet when they have heard each other and what the other holds, not with the first frame that crosses:
/// that takes a period and some exchanges, on a busy machine some more. What is answered twice in that time is printed.
const MEETING: Duration = Duration::from_millis(100);

/// The part with these nodes is without the router. Connections through the others stay.
fn segment_falls_apart(nodes: u8, lost: &[&str]) {
    let mut scenario = Scenario::start(nodes).unwrap();
    let places = |cluster: &mut Cluster| -> Vec<_> {
        lost.iter().map(|name| cluster.node(name).place.clone()).collect()
    };
    let places = places(&mut scenario.cluster);
    let places: Vec<_> = places.iter().collect();
    let (held, fault) = scenario.before_fault(lost[0]).unwrap();
    scenario.cluster.lab.split_off(&places).unwrap();
    let by = Time::now();
    settle();
    let healed = Time::now();
    scenario.cluster.lab.rejoin(&places).unwrap();
    scenario.cluster.converge().unwrap();
    thread::sleep(Duration::from_secs(1));
    let told = merges_told(&scenario.cluster);
    let gone: Vec<_> =
        places.iter().map(|place| Gone { mac: place.mac, from: fault, by, until: Some(healed) }).collect();
    let outcome = scenario.finish(&gone).unwrap();
    outcome.print_outage(&format!("{nodes} nodes, {} split off", lost.join(" and ")), fault, &held);
    line(format!("the nodes told of the merge so often: {told:?}"));
    let doubles = outcome.flows.second_answers(&gone);
    if let (Some(first), Some(last)) = (doubles.first(), doubles.last()) {
        let (first, last) = (first.since(healed), last.since(healed));
        line(format!("{} flows answered twice, {first:?} to {last:?} after the parts met", doubles.len()));
    }
    outcome.assert_sound_but_for(|at| at >= healed && at < healed + MEETING);
    for number in 1..=nodes {
        let name = format!("arr{number}");
        if !lost.contains(&name.as_str()) {
            outcome.assert_unbroken(&name);
        }
    }
    assert!(told.iter().any(|&count| count > 0), "no event tells of the merge");
    assert!(told.iter().all(|&count| count <= 1), "a node tells of one merge more than once: {told:?}");
}

/// How often each node has told that two parts met.
fn merges_told(cluster: &Cluster) -> Vec<u32> {
    let told = cluster.nodes.iter().map(|node| {
        let events = node.events().unwrap();
        events.iter().filter(|event| event.kind == "merged").map(|event| event.count).sum::<u32>()
    });
    told.collect()
}

#[test]
fn a_router_that_restarts_moves_nothing_and_breaks_no_connection() {
    let mut scenario = Scenario::on(Cluster::start(3).unwrap(), Load::LIGHT).unwrap();
    let (held, fault) = scenario.before_fault("arr1").unwrap();
    scenario.cluster.lab.stop_router().unwrap();
    settle();
    assert_eq!(scenario.cluster.node("arr1").holds().unwrap(), held, "buckets moved");
    scenario.cluster.lab.start_router().unwrap();
    let back = Time::now();
    scenario.cluster.converge().unwrap();
    settle();
    assert_eq!(scenario.cluster.node("arr1").holds().unwrap(), held, "buckets moved");
    let end = Time::now();
    thread::sleep(Duration::from_millis(100));
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("router restarted, counted from its return", back, &held);
    outcome.assert_sound();
    for name in ["arr1", "arr2", "arr3"] {
        outcome.assert_unbroken(name);
    }
    assert!(fault < back);
    // In some runs no node answers the router's first question by ARP; it asks again after a second, and then all do.
    outcome.assert_all_answered(back + Duration::from_secs(2), end);
}

#[test]
fn a_node_that_the_gateway_no_longer_answers_steps_down_and_takes_its_share_again() {
    let mut scenario = Scenario::start(3).unwrap();
    let (held, fault) = scenario.before_fault("arr1").unwrap();
    let place = scenario.cluster.node("arr1").place.clone();
    scenario.cluster.lab.hide_gateway(&place).unwrap();
    let node = scenario.cluster.node("arr1");
    node.wait_until("it has stepped down", |status| {
        status.tables.iter().all(|table| table.mine + table.arriving == 0)
    })
    .unwrap();
    let events = scenario.cluster.node("arr1").events().unwrap();
    assert!(events.iter().any(|event| event.kind == "stepped-down"), "no event says so: {events:?}");
    settle();
    scenario.cluster.lab.show_gateway().unwrap();
    let node = scenario.cluster.node("arr1");
    node.wait_until("it has a share again", |status| status.tables.iter().any(|table| table.mine > 0))
        .unwrap();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("gateway lost by one of three", fault, &held);
    outcome.assert_sound();
    for name in ["arr1", "arr2", "arr3"] {
        outcome.assert_unbroken(name);
    }
}

#[test]
fn a_gateway_that_has_only_an_ipv6_address_is_watched_like_any_other() {
    let mut cluster = Cluster::raise(&Plan { ipv6: true, load: false, ..Plan::nodes(2) }).unwrap();
    cluster.lab.router.ip(&format!("addr del {GATEWAY}/24 dev dmz")).unwrap();
    for node in &cluster.nodes {
        let file = fs::read_to_string(&node.config).unwrap();
        let changed = file.replace(&format!("\"{GATEWAY}\""), &format!("\"{GATEWAY6}\""));
        assert_ne!(changed, file, "the configuration names no gateway");
        fs::write(&node.config, changed).unwrap();
    }
    cluster.node("arr1").start().unwrap();
    let alone =
        |status: &Status| status.tables.iter().all(|table| table.mine + table.arriving == BUCKETS as u32);
    // A node that is alone serves once the gateway has answered it.
    cluster.node("arr1").wait_until("it serves alone", alone).unwrap();
    cluster.start_agents().unwrap();
    cluster.settle().unwrap();
    let place = cluster.node("arr1").place.clone();
    cluster.lab.hide_gateway6(&place).unwrap();
    cluster.node("arr2").wait_until("it has all that the other hands over", alone).unwrap();
    let events = cluster.node("arr1").events().unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert!(kinds.contains(&"stepped-down"), "no event says so: {kinds:?}");
    cluster.lab.show_gateway6().unwrap();
    let shares = |status: &Status| status.tables.iter().any(|table| table.mine > 0);
    cluster.node("arr1").wait_until("it has a share again", shares).unwrap();
    cluster.settle().unwrap();
    let left = cluster.tear_down();
    assert!(left.is_empty(), "the lab left behind: {}", left.join(", "));
}
