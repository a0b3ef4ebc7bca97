//! What an agent leaves on its host, and what it refuses to begin: nothing but a clear message, and the host as it was.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::process::Output;

use rollcall_tests::lab::{CLUSTER_IP, NODE_DMZ, Plan};
use rollcall_tests::node::{Cluster, Node};

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
fn a_second_agent_on_the_same_interface_is_refused_and_the_first_serves_on() {
    let (mut cluster, _) = raised();
    cluster.start_agents().unwrap();
    cluster.converge().unwrap();
    let node = cluster.node("arr1");
    let before = node.footprint().unwrap();
    let second = run(node);
    assert_refused(&second, 1, &["already", NODE_DMZ]);
    assert_same(&node.footprint().unwrap(), &before);
    cluster.converge().unwrap();
}

#[test]
fn a_cluster_ip_that_another_machine_answers_is_refused() {
    let (mut cluster, before) = raised();
    let other = cluster.node("arr2").place.namespace.clone();
    other.ip(&format!("addr add {CLUSTER_IP}/24 dev {NODE_DMZ}")).unwrap();
    let node = cluster.node("arr1");
    let refused = run(node);
    // The message names the machine that answers, so that it can be found.
    assert_refused(&refused, 1, &[&CLUSTER_IP.to_string(), "02:aa:c0:a8:32:07"]);
    assert_same(&node.footprint().unwrap(), &before);
}

#[test]
fn an_unknown_interface_is_refused() {
    let (mut cluster, before) = raised();
    let node = cluster.node("arr1");
    edit(node, "node.toml", NODE_DMZ, "eth7");
    assert_refused(&run(node), 2, &["eth7", NODE_DMZ]);
    assert_same(&node.footprint().unwrap(), &before);
}

#[test]
fn a_cluster_ip_outside_the_interfaces_network_is_refused() {
    let (mut cluster, before) = raised();
    let node = cluster.node("arr1");
    edit(node, "cluster.toml", "192.168.50.8/24", "192.168.51.8/24");
    assert_refused(&run(node), 2, &["192.168.51.8"]);
    assert_same(&node.footprint().unwrap(), &before);
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let (mut cluster, before) = raised();
    let node = cluster.node("arr1");
    let taken = node.place.namespace.enter(|| TcpListener::bind("0.0.0.0:443"));
    let taken = taken.unwrap().unwrap();
    assert_refused(&run(node), 1, &["443"]);
    drop(taken);
    assert_same(&node.footprint().unwrap(), &before);
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let (mut cluster, before) = raised();
    let secret = cluster.lab.folder().join("cluster.secret");
    fs::set_permissions(secret, fs::Permissions::from_mode(0o644)).unwrap();
    let node = cluster.node("arr1");
    assert_refused(&run(node), 2, &["cluster.secret", "chmod 600"]);
    assert_same(&node.footprint().unwrap(), &before);
}

/// Two nodes with their files, no agent, and the first one's footprint.
fn raised() -> (Cluster, BTreeSet<String>) {
    let mut cluster = Cluster::raise(&Plan::nodes(2)).unwrap();
    let before = cluster.node("arr1").footprint().unwrap();
    (cluster, before)
}

/// Runs an agent that is expected to end by itself.
fn run(node: &Node) -> Output {
    let config = node.config.to_string_lossy().into_owned();
    node.rollcall_for(&["run", "--config", &config], std::time::Duration::from_secs(20)).unwrap()
}

fn edit(node: &Node, file: &str, from: &str, to: &str) {
    let path = node.config.with_file_name(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

fn assert_refused(output: &Output, status: i32, names: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{message}");
    for name in names {
        assert!(message.contains(name), "the message does not name {name:?}:\n{message}");
    }
}

fn assert_same(after: &BTreeSet<String>, before: &BTreeSet<String>) {
    let left: Vec<_> = after.difference(before).collect();
    let lost: Vec<_> = before.difference(after).collect();
    assert!(left.is_empty() && lost.is_empty(), "left behind: {left:#?}\ntaken away: {lost:#?}");
}
