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
