//! A third node comes that does not belong to the two that serve: it stays out and says why, and costs them nothing.

use std::fs;

use lb_user::clock::Time;
use lb_user::control::api::Status;
use rollcall_tests::backend::write_private;
use rollcall_tests::lab::Plan;
use rollcall_tests::node::{Cluster, Node};
use rollcall_tests::scenario::{Load, Scenario};

use crate::shares;

/// What is wrong with arr3.
struct Newcomer {
    /// Makes it so.
    spoil: fn(&Node),
    /// Its reason not to serve: the event's kind and a part of its sentence.
    its: (&'static str, &'static str),
    /// What arr1 notes of it, if it is more than that it comes.
    told: Option<&'static str>,
}

const NEWCOMERS: [Newcomer; 3] = [
    Newcomer {
        spoil: |node| {
            let other = node.config.with_file_name("other.secret");
            write_private(&other, &"5".repeat(64)).unwrap();
            let shared = node.config.parent().unwrap().with_file_name("cluster.secret");
            node.rewrite("node.toml", &format!("{shared:?}"), &format!("{other:?}")).unwrap();
        },
        its: ("other-secret", "the cluster secret must be the same on all nodes"),
        told: Some("other-secret"),
    },
    Newcomer {
        spoil: |node| {
            node.rewrite("cluster.toml", "[exchange]", "[[rule]]\nports = 25\n\n[exchange]").unwrap()
        },
        its: ("facts-differ", "runs with another cluster configuration"),
        told: Some("facts-differ"),
    },
    Newcomer {
        spoil: |node| {
            for (from, to) in [
                ("priority = 2", "priority = 0"),
                ("priority = 3", "priority = 2"),
                ("priority = 0", "priority = 3"),
            ] {
                node.rewrite("cluster.toml", from, to).unwrap();
            }
        },
        its: ("priority-taken", "knows another node with this node's priority"),
        told: Some("duplicate-priority"),
    },
];

#[test]
fn newcomers_that_do_not_belong_stay_out_and_cost_the_others_nothing() {
    let mut cluster = Cluster::raise(&Plan::nodes(3)).unwrap();
    for name in ["arr1", "arr2"] {
        cluster.node(name).start().unwrap();
    }
    cluster.converge().unwrap();
    let mut scenario = Scenario::on(cluster, Load::default()).unwrap();
    let (held, begin) = scenario.before_fault("arr1").unwrap();
    for newcomer in &NEWCOMERS {
        stays_out(&mut scenario.cluster, newcomer);
        let kind = newcomer.its.0;
        let events = scenario.cluster.node("arr1").events().unwrap();
        assert!(scenario.cluster.node("arr1").holds().unwrap() == held, "{kind}: buckets moved: {events:#?}");
    }
    let end = Time::now();
    let newcomer = scenario.cluster.node("arr3");
    newcomer.start().unwrap();
    scenario.cluster.converge().unwrap();
    assert!(shares(&scenario.cluster, "443").iter().all(|held| held.count() > 1000), "it has no share now");
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("three newcomers kept out", begin, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
    outcome.assert_nearly_all_answered(begin, end);
}

fn stays_out(cluster: &mut Cluster, newcomer: &Newcomer) {
    let node = cluster.node("arr3");
    let files = ["cluster.toml", "node.toml"].map(|file| node.config.with_file_name(file));
    let right = files.clone().map(|file| fs::read_to_string(file).unwrap());
    (newcomer.spoil)(node);
    node.start().unwrap();
    let (kind, says) = newcomer.its;
    node.wait_for_event(kind, |event| event.kind == kind && event.text.contains(says)).unwrap();
    let told = |status: &Status| status.problem.as_ref().is_some_and(|problem| problem.contains(says));
    let status = node.wait_until("its status says so", told).unwrap();
    assert_eq!((status.state.as_str(), status.lease), ("starting", false), "{kind}: it serves");
    assert!(fs::read_to_string(node.log()).unwrap().contains(says), "{kind}: its log does not say so");
    if let Some(kind) = newcomer.told {
        cluster.node("arr1").wait_for_event(kind, |event| event.kind == kind && event.warning).unwrap();
    }
    let node = cluster.node("arr3");
    assert!(node.stop().unwrap().success(), "{}", node.log_tail());
    for (file, text) in files.iter().zip(right) {
        fs::write(file, text).unwrap();
    }
}
