//! What an agent leaves on its host: nothing, after an orderly stop and after `cleanup`. What it refuses to begin is in
//! `bad_input.rs`.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;

use lb_user::control::api::Status;
use rollcall_tests::lab::{CLUSTER_IP, Plan};
use rollcall_tests::node::Cluster;
use rollcall_tests::sys::run;

#[test]
fn an_orderly_stop_leaves_the_host_as_it_was() {
    let (mut cluster, before) = raised();
    cluster.start_agents().unwrap();
    cluster.converge().unwrap();
    let node = cluster.node("arr1");
    assert_ne!(node.footprint().unwrap(), before, "a running agent has a footprint");
    assert!(node.stop().unwrap().success(), "{}", node.log_tail());
    assert_same(&node.footprint().unwrap(), &before);
}

#[test]
fn cleanup_after_a_kill_leaves_the_host_as_it_was() {
    let (mut cluster, before) = raised();
    cluster.start_agents().unwrap();
    cluster.converge().unwrap();
    let node = cluster.node("arr1");
    node.kill_agent();
    node.cleanup().unwrap();
    assert_same(&node.footprint().unwrap(), &before);
    node.cleanup().unwrap();
    node.start().unwrap();
    cluster.converge().unwrap();
}

#[test]
fn an_observing_agent_counts_and_changes_nothing() {
    let (mut cluster, before) = raised();
    let file = cluster.node("arr1").config.clone();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("[cluster]\n", "[cluster]\nobserve = true\n", 1)).unwrap();
    let node = cluster.node("arr1");
    node.start().unwrap();
    node.wait_until("it observes", |status| status.state == "observing").unwrap();

    // Makes the router ask for the cluster IP's MAC address, which nobody has.
    let ask = || UdpSocket::bind("0.0.0.0:0")?.send_to(b"who?", (CLUSTER_IP, 9));
    cluster.lab.router.enter(ask).unwrap().unwrap();
    let asked = |status: &Status| {
        status.counters.iter().any(|(reason, count)| reason.starts_with("arp-") && count.packets > 0)
    };
    let node = cluster.node("arr1");
    node.wait_until("it has counted the router's question", asked).unwrap();
    let after = node.footprint().unwrap();
    let its_own = ["link: ", "pins: ", "lock: ", "file: ", "process: "];
    let changed: Vec<_> =
        after.difference(&before).filter(|line| !its_own.iter().any(|own| line.starts_with(own))).collect();
    assert!(changed.is_empty(), "changed: {changed:#?}");
    let neighbours =
        run("ip", ["-n", cluster.lab.router.name(), "neigh", "show", &CLUSTER_IP.to_string()]).unwrap();
    assert!(!neighbours.contains("lladdr"), "somebody answered: {neighbours}");
    let node = cluster.node("arr1");
    assert!(node.stop().unwrap().success(), "{}", node.log_tail());
    assert_same(&node.footprint().unwrap(), &before);
}

/// Two nodes with their files, no agent, and the first one's footprint.
fn raised() -> (Cluster, BTreeSet<String>) {
    let mut cluster = Cluster::raise(&Plan::nodes(2)).unwrap();
    let before = cluster.node("arr1").footprint().unwrap();
    (cluster, before)
}

fn assert_same(after: &BTreeSet<String>, before: &BTreeSet<String>) {
    let left: Vec<_> = after.difference(before).collect();
    let lost: Vec<_> = before.difference(after).collect();
    assert!(left.is_empty() && lost.is_empty(), "left behind: {left:#?}\ntaken away: {lost:#?}");
}
