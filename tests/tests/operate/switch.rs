//! Nodes are added and removed while the others serve: an operator changes the file on each and reloads there, and the last reload has
//! all switch.

use std::fs;

use lb_user::clock::Time;
use rollcall_tests::lab::Plan;
use rollcall_tests::node::{Cluster, Node};
use rollcall_tests::scenario::{Load, Scenario};

use crate::shares;

/// The text that makes arr3 a node.
fn third(cluster: &mut Cluster) -> String {
    let text = fs::read_to_string(&cluster.node("arr1").config).unwrap();
    let begin = text.find("[[node]]\nname = \"arr3\"").expect("the lab's file has a block for each node");
    let length = text[begin..].find("\n\n").expect("a block ends with an empty line") + 2;
    text[begin..begin + length].to_owned()
}

/// Has the file of a node name arr3, or not, and reloads there; gives what `rollcall reload` says.
fn reload(node: &Node, third: &str, named: bool) -> String {
    let marker = "# no third node\n\n";
    let (from, to) = if named { (marker, third) } else { (third, marker) };
    node.rewrite("cluster.toml", from, to).unwrap();
    node.control(&["reload"]).unwrap()
}

#[test]
fn a_node_is_added_and_removed_while_the_others_serve() {
    let mut cluster = Cluster::raise(&Plan::nodes(3)).unwrap();
    let third = third(&mut cluster);
    for name in ["arr1", "arr2"] {
        let node = cluster.node(name);
        node.rewrite("cluster.toml", &third, "# no third node\n\n").unwrap();
        node.start().unwrap();
    }
    cluster.converge().unwrap();
    let mut scenario = Scenario::on(cluster, Load::default()).unwrap();
    let (held, begin) = scenario.before_fault("arr1").unwrap();

    let said = reload(scenario.cluster.node("arr1"), &third, true);
    assert!(said.contains("prepared") && said.contains("waits for arr2"), "{said}");
    let waits = scenario.cluster.node("arr1").status().unwrap().configuration.waits_for;
    assert_eq!(waits, Some(vec!["arr2".to_owned()]));
    let said = reload(scenario.cluster.node("arr2"), &third, true);
    assert!(said.contains("applied") && said.contains("nodes"), "{said}");
    scenario.cluster.node("arr1").wait_until("it knows arr3", |status| status.nodes.len() == 3).unwrap();
    assert!(
        scenario.cluster.node("arr1").holds().unwrap() == held,
        "buckets moved before the new node serves"
    );
    scenario.cluster.node("arr3").start().unwrap();
    scenario.cluster.converge().unwrap();
    assert!(shares(&scenario.cluster, "443").iter().all(|held| held.count() > 1000), "all three share");

    reload(scenario.cluster.node("arr1"), &third, false);
    reload(scenario.cluster.node("arr2"), &third, false);
    for name in ["arr1", "arr2"] {
        let gone = |status: &lb_user::control::api::Status| status.nodes.len() == 2;
        scenario.cluster.node(name).wait_until("arr3 is no longer a node", gone).unwrap();
    }
    scenario.cluster.node("arr3").wait_for_event("removed", |event| event.kind == "removed").unwrap();
    assert_eq!(scenario.cluster.node("arr3").holds().unwrap().count(), 0);
    let end = Time::now();
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("a node added and removed", begin, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
    outcome.assert_nearly_all_answered(begin, end);
}
