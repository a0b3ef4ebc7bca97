//! The profile `fast`, whose lease is a few milliseconds: as safe as the default one.

use std::thread;
use std::time::Duration;

use rollcall_tests::lab::Plan;
use rollcall_tests::node::Cluster;
use rollcall_tests::scenario::{Load, Scenario};

use crate::settle;

fn start_fast() -> Scenario {
    let plan = Plan { profile: "fast", ..Plan::nodes(2) };
    Scenario::on(Cluster::start_on(&plan).unwrap(), Load::default()).unwrap()
}

#[test]
fn in_the_fast_profile_a_pulled_cable_costs_only_that_nodes_connections() {
    let mut scenario = start_fast();
    let held = scenario.cluster.node("arr1").holds().unwrap();
    let mut gone = scenario.cluster.pull_cable("arr1").unwrap();
    settle();
    scenario.cluster.plug_cable("arr1", &mut gone).unwrap();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[gone]).unwrap();
    outcome.print_outage("fast, cable pulled", gone.from, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr2");
}

#[test]
fn in_the_fast_profile_a_silent_agent_costs_no_connection() {
    let mut scenario = start_fast();
    let (held, fault) = scenario.before_fault("arr1").unwrap();
    scenario.cluster.node("arr1").pause_agent();
    thread::sleep(Duration::from_secs(5));
    scenario.cluster.node("arr1").unpause_agent();
    scenario.cluster.converge().unwrap();
    let (held_by_killed, killed) = scenario.before_fault("arr2").unwrap();
    scenario.cluster.node("arr2").kill_agent();
    settle();
    scenario.cluster.start_agents().unwrap();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("fast, agent stopped for 5 s", fault, &held);
    outcome.print_outage("fast, agent killed", killed, &held_by_killed);
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
}
