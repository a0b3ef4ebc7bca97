//! Nodes that go, under load: nothing is lost by it, and who has gone does not come back.

use std::path::Path;

use lb_user::clock::Time;
use rollcall_tests::node::{Cluster, Node, PATIENCE};
use rollcall_tests::traffic::{Browsers, Habit, Request};
use serde_json::Value;

use crate::{log, sharing};

/// Clients that go on until they are told to end.
pub(crate) fn load(cluster: &Cluster) -> Browsers {
    Browsers::start(&cluster.https().unwrap(), 6, Habit { most: 100_000, ..Habit::default() })
}

/// Requests that a test which is to say something has at least.
const ENOUGH: usize = 100;

pub(crate) fn nothing_was_lost(browsers: Browsers) {
    let deadline = Time::now() + PATIENCE;
    while browsers.done() < ENOUGH && Time::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let requests = browsers.finish().unwrap();
    let lost: Vec<&Request> = requests.iter().filter(|request| request.error.is_some()).collect();
    assert!(lost.is_empty(), "{} of {} requests: {lost:#?}", lost.len(), requests.len());
    assert!(requests.len() >= ENOUGH, "only {} requests", requests.len());
}

/// Waits until all of these have switched, and looks whether they did so without taking anybody for a stranger.
fn have_switched(nodes: &mut [Node]) {
    for node in nodes {
        node.wait_until("it waits for nobody", |status| status.configuration.waits_for.is_none()).unwrap();
        node.wait_for_event("the switch", |event| event.kind == "facts-switched").unwrap();
        let events = node.events().unwrap();
        let wrong: Vec<_> = events.iter().filter(|event| event.kind == "other-secret").collect();
        assert!(wrong.is_empty(), "{}: {wrong:?}", node.name());
    }
}

/// Starts an agent that is to refuse, and gives what it said.
fn refusal(node: &mut Node) -> String {
    node.start().unwrap();
    let status = node.end().unwrap();
    assert_eq!(status.code(), Some(2), "{}", node.log_tail());
    node.log_tail()
}

#[test]
fn a_node_that_is_removed_under_load_costs_nothing_and_does_not_come_back() {
    let mut cluster = sharing(3);
    cluster.settle().unwrap();
    let browsers = load(&cluster);
    let printed = cluster.nodes[0].control(&["remove", "arr3", "--yes", "--json"]).unwrap();
    let removed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&removed["told"], &removed["applied"]["on"]), (&true.into(), &serde_json::json!(["arr2"])));
    let exposed = removed["known"].as_array().unwrap();
    assert!(exposed.iter().any(|file| file["certificate"]["fingerprint"].is_string()), "{removed}");
    assert!(cluster.node("arr3").end().unwrap().success(), "it ends in good order");
    have_switched(&mut cluster.nodes[..2]);
    cluster.settle().unwrap();
    nothing_was_lost(browsers);
    // And the secret once more, with nobody gone.
    let browsers = load(&cluster);
    cluster.nodes[1].control(&["config", "rotate-secret"]).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(6));
    cluster.settle().unwrap();
    nothing_was_lost(browsers);
    have_switched(&mut cluster.nodes[..2]);
    let said = refusal(cluster.node("arr3"));
    assert!(said.contains("arr3 is no node of the cluster any more"), "{said}");
    cluster.settle().unwrap();
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn a_node_that_leaves_under_load_costs_nothing_and_keeps_nothing_of_the_configuration() {
    let mut cluster = sharing(2);
    cluster.settle().unwrap();
    let browsers = load(&cluster);
    let node_file = cluster.nodes[1].own_folder().join("node.toml");
    let node_file = node_file.to_string_lossy().into_owned();
    let leave = ["leave", "--yes", "--json", "--node-file", &node_file];
    let output = cluster.nodes[1].rollcall(&leave).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{}", cluster.nodes[1].log_tail());
    let left: Value = serde_json::from_slice(&output.stdout).unwrap();
    for path in left["cleared"].as_array().unwrap() {
        assert!(!Path::new(path.as_str().unwrap()).exists(), "{path}");
    }
    assert!(left["left"].as_array().unwrap().contains(&node_file.into()), "{left}");
    assert!(cluster.node("arr2").end().unwrap().success());
    have_switched(&mut cluster.nodes[..1]);
    cluster.settle().unwrap();
    nothing_was_lost(browsers);
    assert_eq!(log(&cluster.nodes[0])[0]["author"], "arr2");
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}
