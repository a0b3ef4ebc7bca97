//! How nodes come back into a cluster that has long run: one that waits for its operator, one that waits for its time, one whose share
//! grows; and two that fell too often, of which one waits and the other's operator lets it in. All of them in one cluster, because it has to run for a minute first; tests run in the order of
//! their names, so this one begins first, and others run beside it.

use std::thread;
use std::time::Duration;

use lb_user::clock::Time;
use lb_user::control::api::{EventRecord, Status};
use rollcall_tests::lab::Plan;
use rollcall_tests::node::{Cluster, Node};

use crate::wait_until_it_holds;

/// Who comes into a cluster that has run for a minute comes back to it.
const SETTLED: Duration = Duration::from_secs(61);

#[test]
fn nodes_come_back_as_failback_ramp_and_hold_down_say() {
    // Silence of a second: what befalls this machine must not count as a node's fall.
    let mut cluster = Cluster::raise(&Plan { profile: "vm", ..Plan::light(5) }).unwrap();
    cluster.rewrite("hold_down = \"0s\"", "hold_down = \"40s\"").unwrap();
    for (name, key) in
        [("arr2", "failback = \"manual\""), ("arr3", "failback = \"2s\""), ("arr4", "ramp = \"8s\"")]
    {
        cluster.node(name).rewrite("cluster.toml", "[cluster]\n", &format!("[cluster]\n{key}\n")).unwrap();
    }
    cluster.serve().unwrap();
    let begin = Time::now();
    falls_too_often(&mut cluster, "arr2");
    cluster.node("arr2").control(&["failback"]).unwrap();
    wait_until_it_holds(cluster.node("arr2"), "443", |held| held > 0);
    falls_too_often(&mut cluster, "arr5");
    thread::sleep((begin + SETTLED).since(Time::now()));
    // It has stayed for long enough meanwhile.
    wait_until_it_holds(cluster.node("arr5"), "443", |held| held > 0);

    fall(&mut cluster, &["arr2", "arr3", "arr4"]);
    takes_its_share_after_a_while(&mut cluster, "arr3");
    takes_its_share_in_steps(&mut cluster, "arr4");
    // Nobody's time makes this one wait no longer.
    assert_stands_by(cluster.node("arr2"), "it came back");
    cluster.node("arr2").control(&["failback"]).unwrap();
    cluster.node("arr2").wait_for_event("failed-back", |event| event.kind == "failed-back").unwrap();
    for node in &mut cluster.nodes {
        wait_until_it_holds(node, "443", |held| (819..=820).contains(&held));
    }
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// The agents are killed and, once the others have found them silent, started anew.
fn fall(cluster: &mut Cluster, names: &[&str]) {
    names.iter().for_each(|name| cluster.node(name).kill_agent());
    wait_until_all_are(cluster, names, &["suspect", "dead"]);
    cluster.start_agents().unwrap();
    wait_until_all_are(cluster, names, &["serving", "stands by"]);
}

fn wait_until_all_are(cluster: &mut Cluster, names: &[&str], states: &[&str]) {
    let what = format!("{names:?} are {states:?}");
    let all = |status: &Status| {
        let mut nodes = status.nodes.iter().filter(|node| names.contains(&node.name.as_str()));
        nodes.all(|node| states.contains(&node.state.as_str()))
    };
    cluster.node("arr1").wait_until(&what, all).unwrap();
}

fn falls_too_often(cluster: &mut Cluster, name: &str) {
    (0..3).for_each(|_| fall(cluster, &[name]));
    let held_down = |event: &EventRecord| event.kind == "held-down" && event.about.as_deref() == Some(name);
    cluster.node("arr1").wait_for_event("held-down", held_down).unwrap();
    assert_stands_by(cluster.node(name), "the others have seen it fall too often");
}

/// It has no share, and says why.
fn assert_stands_by(node: &mut Node, why: &str) {
    let status = node.wait_until("it stands by", |status| status.state == "stands by").unwrap();
    let says = status.stands_by.unwrap();
    assert!(says.contains(why), "{says}");
    wait_until_it_holds(node, "443", |held| held == 0);
    node.wait_for_event("stands-by", |event| event.kind == "stands-by").unwrap();
}

fn takes_its_share_after_a_while(cluster: &mut Cluster, name: &str) {
    wait_until_it_holds(cluster.node(name), "443", |held| held > 0);
    let events = cluster.node(name).events().unwrap();
    let kinds = events.iter().map(|event| event.kind.as_str());
    let kinds: Vec<_> = kinds.filter(|kind| ["stands-by", "failed-back"].contains(kind)).collect();
    assert_eq!(kinds, ["stands-by", "failed-back"]);
}

/// The default host has found it another weight again and again.
fn takes_its_share_in_steps(cluster: &mut Cluster, name: &str) {
    let step = format!("{name} has another weight");
    let steps = |events: &[EventRecord]| {
        let converged = events.iter().filter(|event| event.kind == "converged");
        converged.filter(|event| event.text.contains(&step)).count()
    };
    wait_until_it_holds(cluster.node(name), "443", |held| held >= 819);
    let events = cluster.node("arr1").events().unwrap();
    assert!(steps(&events) > 3, "its share came in {} steps: {events:#?}", steps(&events));
}
