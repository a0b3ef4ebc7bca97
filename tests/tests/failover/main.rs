//! What befalls nodes, on a real kernel: in every scenario new connections come, at more than 20,000 a second but where not one of them may be
//! lost, and others stay open, and all that is answered is captured. What is asserted is what must always hold (DESIGN); times are printed, not asserted.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

mod busy;
mod hostile;
mod many;
mod network;
mod planned;
mod profile;

use std::thread;
use std::time::Duration;

use lb_user::clock::Time;
use rollcall_tests::lab::Plan;
use rollcall_tests::node::Cluster;
use rollcall_tests::scenario::{Load, SETTLE, Scenario};
use rollcall_tests::traffic::{Browsers, Habit};

#[test]
fn a_killed_agent_costs_no_connection_not_even_its_own() {
    let mut scenario = Scenario::start(2).unwrap();
    let node = scenario.cluster.node("arr1");
    let (held, fault) = (node.holds().unwrap(), Time::now());
    node.kill_agent();
    settle();
    let silent_until = Time::now();
    scenario.cluster.start_agents().unwrap();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("agent killed", fault, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr2");
    outcome.assert_unbroken("arr1");
    outcome.assert_data_in_every_second("arr1", fault, silent_until);
}

#[test]
fn a_killed_proxy_costs_only_its_own_connections_and_is_started_again() {
    let mut scenario = Scenario::start(2).unwrap();
    let node = scenario.cluster.node("arr1");
    let (held, fault) = (node.holds().unwrap(), Time::now());
    node.kill_proxy().unwrap();
    node.wait_until("its proxy is started again", |status| {
        let proxy = status.proxy.as_ref();
        proxy.is_some_and(|proxy| proxy.alive && proxy.restarts > 0)
    })
    .unwrap();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("proxy killed", fault, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr2");
}

#[test]
fn a_killed_agent_and_proxy_cost_only_their_own_connections() {
    let mut scenario = Scenario::start(2).unwrap();
    let node = scenario.cluster.node("arr1");
    let (held, fault) = (node.holds().unwrap(), Time::now());
    node.kill_proxy().unwrap();
    node.kill_agent();
    settle();
    scenario.cluster.start_agents().unwrap();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("agent and proxy killed", fault, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr2");
}

#[test]
fn connections_through_a_node_with_a_silent_agent_go_on() {
    let mut scenario = Scenario::start(2).unwrap();
    let node = scenario.cluster.node("arr1");
    let (held, fault) = (node.holds().unwrap(), Time::now());
    node.pause_agent();
    thread::sleep(Duration::from_secs(5));
    node.unpause_agent();
    scenario.cluster.converge().unwrap();
    settle();
    let end = Time::now();
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("agent stopped for 5 s", fault, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr2");
    outcome.assert_unbroken("arr1");
    outcome.assert_data_in_every_second("arr1", fault, end);
}

#[test]
fn a_pulled_cable_costs_only_that_nodes_connections_and_the_node_returns() {
    let mut scenario = Scenario::start(2).unwrap();
    let held = scenario.cluster.node("arr1").holds().unwrap();
    let mut gone = scenario.cluster.pull_cable("arr1").unwrap();
    settle();
    scenario.cluster.plug_cable("arr1", &mut gone).unwrap();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[gone]).unwrap();
    outcome.print_outage("cable pulled", gone.from, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr2");
}

#[test]
fn a_node_without_power_costs_only_its_connections_and_returns_as_new() {
    let mut scenario = Scenario::start(2).unwrap();
    let held = scenario.cluster.node("arr1").holds().unwrap();
    let gone = scenario.cluster.power_off("arr1").unwrap();
    settle();
    scenario.cluster.power_on("arr1").unwrap();
    scenario.cluster.start_agents().unwrap();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[gone]).unwrap();
    outcome.print_outage("power lost", gone.from, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr2");
}

#[test]
fn nodes_that_lose_power_together_start_together() {
    let mut scenario = Scenario::start(2).unwrap();
    let held = scenario.cluster.node("arr1").holds().unwrap();
    let gone = ["arr1", "arr2"].map(|name| scenario.cluster.power_off(name).unwrap());
    for name in ["arr1", "arr2"] {
        scenario.cluster.power_on(name).unwrap();
    }
    scenario.cluster.start_agents().unwrap();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&gone).unwrap();
    outcome.print_outage("both without power", gone[0].from, &held);
    outcome.assert_sound();
}

#[test]
fn with_three_nodes_a_death_breaks_nothing_on_the_others() {
    let mut scenario = Scenario::start(3).unwrap();
    let held = scenario.cluster.node("arr1").holds().unwrap();
    let gone = scenario.cluster.power_off("arr1").unwrap();
    settle();
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[gone]).unwrap();
    outcome.print_outage("one of three without power", gone.from, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr2");
    outcome.assert_unbroken("arr3");
}

#[test]
fn a_drain_costs_no_request_and_no_connection() {
    let mut scenario = Scenario::start(2).unwrap();
    let browsers = Browsers::start(&scenario.cluster.https().unwrap(), 6, Habit::default());
    let node = scenario.cluster.node("arr2");
    let (held, begin) = (node.holds().unwrap(), Time::now());
    node.drain().unwrap();
    node.wait_until("it holds nothing", |status| {
        status.tables.iter().all(|table| table.mine + table.arriving == 0)
    })
    .unwrap();
    settle();
    node.resume().unwrap();
    scenario.cluster.converge().unwrap();
    assert_no_request_failed(browsers);
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("drained", begin, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
}

#[test]
fn an_orderly_stop_hands_over_first_and_leaves_nothing_on_the_host() {
    let mut scenario = Scenario::start(2).unwrap();
    let browsers = Browsers::start(&scenario.cluster.https().unwrap(), 6, Habit::default());
    let node = scenario.cluster.node("arr1");
    let (held, begin) = (node.holds().unwrap(), Time::now());
    let status = node.stop().unwrap();
    assert!(status.success(), "the agent ended with {status}\n{}", node.log_tail());
    settle();
    assert_no_request_failed(browsers);
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("stopped", begin, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
}

/// The counter-proof: without the lease, a hung agent's node goes on to accept what another has taken over, and the very same
/// measurement has to find that.
#[test]
fn without_the_lease_check_the_capture_finds_flows_that_two_nodes_answered() {
    let mut scenario = Scenario::start(2).unwrap();
    scenario.cluster.switch_lease_check_off("arr1").unwrap();
    let node = scenario.cluster.node("arr1");
    node.pause_agent();
    thread::sleep(Duration::from_secs(3));
    node.unpause_agent();
    let outcome = scenario.finish(&[]).unwrap();
    let doubles = outcome.answered_twice();
    println!("{} of {} flows answered twice", doubles.len(), outcome.flows.len());
    assert!(
        doubles.len() > 100,
        "a broken lease has to show, or the other scenarios prove nothing: {doubles:?}"
    );
}

#[test]
fn a_cluster_left_alone_answers_every_connection_once() {
    let mut scenario = Scenario::on(Cluster::start(2).unwrap(), Load::LIGHT).unwrap();
    thread::sleep(Duration::from_secs(2));
    let (begin, held) = (Time::now(), scenario.cluster.node("arr1").holds().unwrap());
    settle();
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("no fault", begin, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
    let answered = outcome.attempts.iter().filter(|attempt| attempt.answered.is_some());
    assert_eq!(answered.count(), outcome.attempts.len());
}

#[test]
fn both_nodes_and_both_servers_take_part_in_native_and_in_generic_mode() {
    for xdp in ["native", "generic"] {
        take_part(xdp);
    }
}

fn take_part(xdp: &'static str) {
    let mut cluster = Cluster::start_on(&Plan { xdp, ..Plan::nodes(2) }).unwrap();
    assert_eq!(cluster.node("arr1").status().unwrap().interface.xdp, xdp);
    let browsers = Browsers::start(&cluster.https().unwrap(), 4, Habit::default());
    thread::sleep(Duration::from_secs(2));
    let requests = browsers.finish().unwrap();
    let by = |server: &str| requests.iter().filter(|request| request.server == server).count();
    assert!(by("sbex1") > 10 && by("sbex3") > 10, "sbex1 {}, sbex3 {}", by("sbex1"), by("sbex3"));
    for name in ["arr1", "arr2"] {
        let holds = cluster.node(name).holds().unwrap().count();
        assert!((2047..=2049).contains(&holds), "{name} holds {holds} buckets");
    }
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

fn assert_no_request_failed(browsers: Browsers) {
    let requests = browsers.finish().unwrap();
    let failed: Vec<_> = requests.iter().filter_map(|request| request.error.as_ref()).collect();
    assert!(
        failed.is_empty(),
        "{} of {} requests failed: {:?}",
        failed.len(),
        requests.len(),
        failed.first()
    );
    assert!(requests.len() > 20, "only {} requests", requests.len());
}

fn settle() {
    thread::sleep(SETTLE);
}
