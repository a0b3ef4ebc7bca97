//! Heartbeats on two paths: the cluster NIC, and a second address in the LAN.

use std::net::Ipv4Addr;

use lb_user::clock::Time;
use rollcall_tests::lab::{NODE_DMZ, NODE_LAN, Plan};
use rollcall_tests::node::{Cluster, Node};
use rollcall_tests::scenario::{Load, Scenario};

/// Two nodes that serve and hear each other in the DMZ and in the LAN.
fn start() -> Scenario {
    let mut cluster = Cluster::raise(&Plan::nodes(2)).unwrap();
    for place in cluster.lab.places.clone() {
        let line = |key: &str, address: Ipv4Addr| format!("{key} = \"{address}\"\n");
        let first = line("address", place.address);
        let both = first.clone() + &line("second_address", place.lan_address);
        cluster.rewrite(&first, &both).unwrap();
    }
    cluster.serve().unwrap();
    Scenario::on(cluster, Load::default()).unwrap()
}

#[test]
fn while_one_of_two_paths_is_cut_nothing_moves_and_each_node_tells_which() {
    let mut scenario = start();
    let before: Vec<_> = scenario.cluster.nodes.iter().map(|node| node.latest_event().unwrap()).collect();
    let (held, fault) = scenario.before_fault("arr1").unwrap();
    for (interface, path) in [(NODE_DMZ, "on its first path"), (NODE_LAN, "on its second path")] {
        cut(&mut scenario.cluster, interface, path);
        assert!(scenario.cluster.node("arr1").holds().unwrap() == held, "buckets moved");
    }
    for (node, before) in scenario.cluster.nodes.iter().zip(before) {
        assert_told_of_none(node, before, &["suspect", "heartbeats-filtered", "wrongly-suspected"]);
    }
    let end = Time::now();
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("each path cut in turn", fault, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
    outcome.assert_nearly_all_answered(fault, end);
}

/// Both nodes miss each other there, say so, and say that it is over.
fn cut(cluster: &mut Cluster, interface: &str, path: &str) {
    for node in &cluster.nodes {
        cluster.lab.filter_heartbeats_on(&node.place, interface).unwrap();
    }
    for node in &mut cluster.nodes {
        let told = |kind: &str| format!("{kind} {path}");
        node.wait_for_event(&told("path-lost"), |event| {
            event.kind == "path-lost" && event.text.contains(path)
        })
        .unwrap();
    }
    for node in &cluster.nodes {
        cluster.lab.pass_heartbeats(&node.place).unwrap();
    }
    for node in &mut cluster.nodes {
        let told = |kind: &str| format!("{kind} {path}");
        node.wait_for_event(&told("path-found"), |event| {
            event.kind == "path-found" && event.text.contains(path)
        })
        .unwrap();
    }
}

/// By the other path the node itself says that it holds nothing any more: nobody has to find it silent.
#[test]
fn a_node_without_its_cluster_cable_hands_over_by_its_second_path() {
    let mut scenario = start();
    let before = scenario.cluster.node("arr2").latest_event().unwrap();
    let held = scenario.cluster.node("arr1").holds().unwrap();
    let mut gone = scenario.cluster.pull_cable("arr1").unwrap();
    scenario
        .cluster
        .node("arr2")
        .wait_until("it serves alone", |status| status.tables.iter().all(|table| !table.states.contains('.')))
        .unwrap();
    scenario.cluster.plug_cable("arr1", &mut gone).unwrap();
    scenario.cluster.converge().unwrap();
    assert_told_of_none(scenario.cluster.node("arr2"), before, &["suspect"]);
    let outcome = scenario.finish(&[gone]).unwrap();
    outcome.print_outage("cable pulled, with a second path", gone.from, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr2");
}

/// Since the event `before` it has noted none of these kinds.
fn assert_told_of_none(node: &Node, before: u64, kinds: &[&str]) {
    let since = node.events_since(before).unwrap();
    let since: Vec<_> = since.iter().filter(|event| kinds.contains(&event.kind.as_str())).collect();
    assert!(since.is_empty(), "{} missed the other: {since:#?}", node.name());
}
