//! The faults of `agents` and `machines`, one after the other, in clusters of three and of eight nodes.

use std::thread;
use std::time::Duration;

use lb_user::clock::Time;
use rollcall_tests::scenario::Scenario;

use crate::settle;

#[test]
fn of_three_nodes_silent_agents_cost_nobody_a_connection() {
    silent_agents(3);
}

#[test]
fn of_eight_nodes_silent_agents_cost_nobody_a_connection() {
    silent_agents(8);
}

/// One agent is killed and comes back, then another is stopped for five seconds.
fn silent_agents(nodes: u8) {
    let mut scenario = Scenario::start(nodes).unwrap();
    let (held, killed) = scenario.before_fault("arr1").unwrap();
    scenario.cluster.node("arr1").kill_agent();
    settle();
    let silent_until = Time::now();
    scenario.cluster.start_agents().unwrap();
    scenario.cluster.converge().unwrap();
    let (held_by_second, stopped) = scenario.before_fault("arr2").unwrap();
    scenario.cluster.node("arr2").pause_agent();
    thread::sleep(Duration::from_secs(5));
    let stopped_until = Time::now();
    scenario.cluster.node("arr2").unpause_agent();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage(&format!("{nodes} nodes, agent killed"), killed, &held);
    outcome.print_outage(&format!("{nodes} nodes, agent stopped for 5 s"), stopped, &held_by_second);
    outcome.assert_sound();
    for number in 1..=nodes {
        outcome.assert_unbroken(&format!("arr{number}"));
    }
    outcome.assert_data_in_every_second("arr1", killed, silent_until);
    outcome.assert_data_in_every_second("arr2", stopped, stopped_until);
}

#[test]
fn of_three_nodes_lost_machines_cost_only_their_own_connections() {
    lost_machines(3);
}

#[test]
fn of_eight_nodes_lost_machines_cost_only_their_own_connections() {
    lost_machines(8);
}

/// One node's cable is pulled and put back, then another has no power and returns.
fn lost_machines(nodes: u8) {
    let mut scenario = Scenario::start(nodes).unwrap();
    let held = scenario.cluster.node("arr1").holds().unwrap();
    let mut unplugged = scenario.cluster.pull_cable("arr1").unwrap();
    settle();
    scenario.cluster.plug_cable("arr1", &mut unplugged).unwrap();
    scenario.cluster.converge().unwrap();
    let held_by_second = scenario.cluster.node("arr2").holds().unwrap();
    let off = scenario.cluster.power_off("arr2").unwrap();
    settle();
    scenario.cluster.power_on("arr2").unwrap();
    scenario.cluster.start_agents().unwrap();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[unplugged, off]).unwrap();
    outcome.print_outage(&format!("{nodes} nodes, cable pulled"), unplugged.from, &held);
    outcome.print_outage(&format!("{nodes} nodes, power lost"), off.from, &held_by_second);
    outcome.assert_sound();
    for number in 3..=nodes {
        outcome.assert_unbroken(&format!("arr{number}"));
    }
}

#[test]
fn eight_nodes_without_power_start_together() {
    let mut scenario = Scenario::start(8).unwrap();
    let names: Vec<_> = scenario.cluster.nodes.iter().map(|node| node.name().to_owned()).collect();
    let held = scenario.cluster.node("arr1").holds().unwrap();
    let gone: Vec<_> = names.iter().map(|name| scenario.cluster.power_off(name).unwrap()).collect();
    names.iter().for_each(|name| scenario.cluster.power_on(name).unwrap());
    scenario.cluster.start_agents().unwrap();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&gone).unwrap();
    outcome.print_outage("all eight without power", gone[0].from, &held);
    outcome.assert_sound();
}
