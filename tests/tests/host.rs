//! What an agent leaves on its host: nothing, after an orderly stop and after `cleanup`. What it refuses to begin is in
//! `bad_input.rs`.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

use std::collections::BTreeSet;

use rollcall_tests::lab::Plan;
use rollcall_tests::node::Cluster;

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
