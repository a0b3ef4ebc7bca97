//! What an operator does, while people work: none of it costs a request.

use lb_user::clock::Time;
use rollcall_tests::lab::Plan;
use rollcall_tests::node::Cluster;
use rollcall_tests::scenario::{Load, Scenario};
use rollcall_tests::traffic::{Browsers, Habit};

use crate::{assert_no_request_failed, settle};

#[test]
fn a_third_node_joins_under_load_and_no_request_fails() {
    joins(3);
}

#[test]
fn an_eighth_node_joins_under_load_and_no_request_fails() {
    joins(8);
}

/// The last of so many nodes joins.
fn joins(nodes: u8) {
    let mut cluster = Cluster::raise(&Plan::nodes(nodes)).unwrap();
    let newcomer = format!("arr{nodes}");
    for node in cluster.nodes.iter_mut().filter(|node| node.name() != newcomer) {
        node.start().unwrap();
    }
    cluster.converge().unwrap();
    let mut scenario = Scenario::on(cluster, Load::default()).unwrap();
    let browsers = Browsers::start(&scenario.cluster.https().unwrap(), 6, Habit::default());
    let begin = Time::now();
    scenario.cluster.node(&newcomer).start().unwrap();
    scenario.cluster.converge().unwrap();
    let held = scenario.cluster.node(&newcomer).holds().unwrap();
    settle();
    assert_no_request_failed(browsers);
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage(&format!("{newcomer} joined"), begin, &held);
    outcome.assert_sound();
    for number in 1..nodes {
        outcome.assert_unbroken(&format!("arr{number}"));
    }
}

#[test]
fn a_drain_that_is_waited_for_ends_with_the_last_connection_and_costs_no_request() {
    let mut scenario = Scenario::start(2).unwrap();
    let browsers = Browsers::start(&scenario.cluster.https().unwrap(), 6, Habit::default());
    let (held, begin) = scenario.before_fault("arr2").unwrap();
    let node = scenario.cluster.node("arr2");
    node.control(&["drain", "--wait", "--timeout", "20s"]).unwrap();
    let status = node.status().unwrap();
    assert!(status.tables.iter().all(|table| table.mine + table.arriving == 0), "it still has a share");
    assert_eq!(status.proxy.unwrap().connections, 0, "the drain did not wait");
    node.resume().unwrap();
    scenario.cluster.converge().unwrap();
    assert_no_request_failed(browsers);
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("drained, waited for", begin, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
}

#[test]
fn a_node_that_is_stopped_and_started_again_costs_no_other_node_a_connection() {
    let mut scenario = Scenario::start(3).unwrap();
    let (held, begin) = scenario.before_fault("arr2").unwrap();
    let node = scenario.cluster.node("arr2");
    node.control(&["stop"]).unwrap();
    node.wait_until("it holds nothing", |status| {
        status.tables.iter().all(|table| table.mine + table.arriving == 0)
    })
    .unwrap();
    settle();
    let node = scenario.cluster.node("arr2");
    node.control(&["start"]).unwrap();
    node.wait_until("it has a share again", |status| status.tables.iter().any(|table| table.mine > 0))
        .unwrap();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("stopped and started", begin, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr3");
}

#[test]
fn a_rolling_restart_of_two_nodes_costs_no_request() {
    rolls(2);
}

#[test]
fn a_rolling_restart_of_three_nodes_costs_no_request() {
    rolls(3);
}

fn rolls(nodes: u8) {
    let mut scenario = Scenario::start(nodes).unwrap();
    let browsers = Browsers::start(&scenario.cluster.https().unwrap(), 6, Habit::default());
    let (held, begin) = scenario.before_fault("arr1").unwrap();
    scenario.cluster.node("arr1").control(&["rolling-restart"]).unwrap();
    scenario.cluster.converge().unwrap();
    assert_no_request_failed(browsers);
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage(&format!("rolling restart of {nodes} nodes"), begin, &held);
    outcome.assert_sound();
    for number in 1..=nodes {
        outcome.assert_unbroken(&format!("arr{number}"));
    }
}
