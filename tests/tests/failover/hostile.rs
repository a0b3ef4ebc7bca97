//! A stranger on the segment forges heartbeats. Whatever he sends, nobody's view changes.

use std::time::Duration;

use rollcall_tests::hostile::{Malice, Stranger};
use rollcall_tests::node::{Cluster, Node};
use rollcall_tests::report::line;
use rollcall_tests::scenario::{Load, Scenario};
use rollcall_tests::sys::processor_time;

use crate::settle;

/// Hostile datagrams a second.
const FLOOD: u32 = 100_000;

/// What a node believes of the cluster: epoch, states of the nodes, what it holds itself. Whether others may still have connections
/// in that is no matter of belief: it ends with the connections.
fn view(node: &Node) -> (u64, Vec<(String, String)>, String) {
    let status = node.status().unwrap();
    let nodes = status.nodes.into_iter().map(|node| (node.name, node.state)).collect();
    let held = |state| if matches!(state, 'm' | 'a') { 'm' } else { '.' };
    (status.epoch, nodes, status.tables.iter().flat_map(|table| table.states.chars().map(held)).collect())
}

#[test]
fn forged_heartbeats_in_any_number_change_no_view() {
    let mut scenario = Scenario::on(Cluster::start(2).unwrap(), Load::LIGHT).unwrap();
    let cluster = &mut scenario.cluster;
    let stranger = Stranger::listen(&cluster.lab, Duration::from_secs(1)).unwrap();
    let [victim, named] = ["arr1", "arr2"].map(|name| cluster.node(name).place.clone());
    assert!(stranger.heard(&named, &victim) > 20, "hardly a heartbeat was recorded");
    let before = ["arr1", "arr2"].map(|name| view(cluster.node(name)));
    for kinds in [&[Malice::Replayed][..], &[Malice::WrongKey], &Malice::ALL] {
        let pid = cluster.node("arr1").status().unwrap().pid;
        let used = processor_time(pid).unwrap();
        let attack = stranger.attack(&named, &victim, kinds, FLOOD).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        let (sent, time) = attack.end().unwrap();
        let used = processor_time(pid).unwrap() - used;
        line(format!(
            "{kinds:?}: {:.0} datagrams a second; the agent used {:.0} % of a processor",
            sent as f64 / time.as_secs_f64(),
            100.0 * used.as_secs_f64() / time.as_secs_f64()
        ));
    }
    let after = ["arr1", "arr2"].map(|name| view(cluster.node(name)));
    assert!(before == after, "a view changed");
    let events = cluster.node("arr1").status().unwrap().events;
    let of_forgery = events.iter().filter(|event| event.contains("another secret")).count();
    assert!(of_forgery > 0, "no event tells of the forged seal: {events:?}");
    assert!(of_forgery < 5, "the attacker fills the log: {events:?}");
    let outcome = scenario.finish(&[]).unwrap();
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
}

#[test]
fn replayed_heartbeats_bring_back_neither_a_dead_nor_an_earlier_agent() {
    let mut scenario = Scenario::on(Cluster::start(2).unwrap(), Load::LIGHT).unwrap();
    let cluster = &mut scenario.cluster;
    let stranger = Stranger::listen(&cluster.lab, Duration::from_secs(1)).unwrap();
    let [first, second] = ["arr1", "arr2"].map(|name| cluster.node(name).place.clone());
    let to_first = stranger.attack(&second, &first, &[Malice::Replayed], 1000).unwrap();
    cluster.node("arr2").kill_agent();
    cluster
        .node("arr1")
        .wait_until("it has taken over in spite of the replays", |status| {
            status.tables.iter().all(|table| table.mine + table.arriving > 0 && !table.states.contains('.'))
        })
        .unwrap();
    settle();
    let state = cluster.node("arr1").status().unwrap().nodes[1].state.clone();
    assert_ne!(state, "serving", "a recording was believed");
    cluster.start_agents().unwrap();
    cluster.converge().unwrap();
    let to_second = stranger.attack(&first, &second, &[Malice::Replayed], 1000).unwrap();
    cluster.node("arr1").kill_agent();
    settle();
    cluster.start_agents().unwrap();
    cluster.converge().unwrap();
    let before = ["arr1", "arr2"].map(|name| view(cluster.node(name)));
    settle();
    let after = ["arr1", "arr2"].map(|name| view(cluster.node(name)));
    assert!(before == after, "a view changed");
    assert!(to_first.end().unwrap().0 > 0 && to_second.end().unwrap().0 > 0);
    let outcome = scenario.finish(&[]).unwrap();
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
}
