//! Orders of operators, for this node, another, all, or one port rule alone.

use std::thread;
use std::time::Duration;

use lb_user::control::api::Status;
use rollcall_tests::capture::Kind;
use rollcall_tests::lab::Plan;
use rollcall_tests::mixed::{Mixed, TCP_RULE};
use rollcall_tests::node::{Cluster, table_of};

use crate::{refusal, shares, wait_until_it_holds};

/// As arr1 sees it.
fn wait_until_all_serve(cluster: &mut Cluster) {
    let all = |status: &Status| status.nodes.iter().all(|node| node.state == "serving");
    cluster.node("arr1").wait_until("all nodes serve", all).unwrap();
}

#[test]
fn a_silent_node_can_be_forgotten_and_a_living_one_cannot() {
    let mut cluster = Cluster::start_on(&Plan::light(3)).unwrap();
    let before = shares(&cluster, "443");
    let refused = refusal(cluster.node("arr1"), &["forget", "arr3"]);
    assert!(refused.contains("arr1 did not: arr3 "), "{refused}");
    assert!(shares(&cluster, "443") == before, "buckets moved");
    wait_until_all_serve(&mut cluster);

    cluster.node("arr3").kill_agent();
    for name in ["arr1", "arr2"] {
        let node = cluster.node(name);
        node.wait_until("arr3 is suspect", |status| status.nodes[2].state == "suspect").unwrap();
        // Its connections may live, so what was its own is no node's alone.
        let takes_over = |status: &Status| table_of(status, "443").unwrap().arriving > 0;
        node.wait_until("it takes over", takes_over).unwrap();
    }
    for name in ["arr1", "arr2"] {
        let node = cluster.node(name);
        node.control(&["forget", "arr3"]).unwrap();
        node.wait_until("arr3 is gone with its connections", |status| {
            status.nodes[2].state == "dead" && status.tables.iter().all(|table| table.arriving == 0)
        })
        .unwrap();
        node.wait_for_event("forgotten", |event| {
            event.kind == "forgotten" && event.about.as_deref() == Some("arr3")
        })
        .unwrap();
    }
    cluster.start_agents().unwrap();
    cluster.converge().unwrap();
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn a_suspended_node_obeys_itself_alone_and_outlives_its_agent_suspended() {
    let mut cluster = Cluster::start_on(&Plan::light(2)).unwrap();
    cluster.node("arr1").control(&["suspend", "arr2"]).unwrap();
    assert_suspended(&mut cluster);

    let node = cluster.node("arr2");
    node.kill_agent();
    node.start().unwrap();
    let next = node.wait_until("its next agent runs", |status| status.state == "suspended").unwrap();
    let next = next.nodes[1].incarnation;
    let heard = |status: &Status| status.nodes[1].incarnation == next;
    cluster.node("arr1").wait_until("it hears the next agent", heard).unwrap();
    assert_suspended(&mut cluster);

    let refused = refusal(cluster.node("arr2"), &["start"]);
    assert!(refused.contains("suspended"), "{refused}");
    cluster.node("arr2").control(&["resume"]).unwrap();
    cluster.converge().unwrap();
    wait_until_all_serve(&mut cluster);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// arr2 has no share and takes no order from arr1.
fn assert_suspended(cluster: &mut Cluster) {
    let suspended = |status: &Status| status.nodes[1].state == "suspended";
    for name in ["arr1", "arr2"] {
        cluster.node(name).wait_until("arr2 is suspended", suspended).unwrap();
    }
    wait_until_it_holds(cluster.node("arr2"), "443", |held| held == 0);
    wait_until_it_holds(cluster.node("arr1"), "443", |held| held == 4096);
    for order in
        [&["start", "arr2"][..], &["resume", "arr2"], &["drain", "arr2"], &["set", "weight", "7", "arr2"]]
    {
        let refused = refusal(cluster.node("arr1"), order);
        assert!(refused.contains("arr2 did not: ") && refused.contains("suspended"), "{order:?}: {refused}");
    }
    let refused = refusal(cluster.node("arr1"), &["failback", "--all"]);
    assert!(refused.contains("not done by 1 of 2: arr2"), "{refused}");
}

#[test]
fn a_node_that_begins_stopped_takes_its_share_when_told_and_not_before() {
    let mut cluster = Cluster::raise(&Plan::light(2)).unwrap();
    cluster
        .node("arr2")
        .rewrite("cluster.toml", "[cluster]\n", "[cluster]\ninitial_state = \"stopped\"\n")
        .unwrap();
    cluster.start_agents().unwrap();
    for _ in 0..2 {
        cluster.node("arr2").wait_until("it begins", |status| status.state == "stopped").unwrap();
        wait_until_it_holds(cluster.node("arr1"), "443", |held| held == 4096);
        cluster
            .node("arr1")
            .wait_until("it hears arr2", |status| status.nodes[1].state == "stopped")
            .unwrap();
        cluster.node("arr1").control(&["start", "arr2"]).unwrap();
        cluster.converge().unwrap();
        // Its next agent begins as the configuration says, not as this one was left.
        let node = cluster.node("arr2");
        assert!(node.stop().unwrap().success(), "{}", node.log_tail());
        node.start().unwrap();
    }
    cluster.node("arr2").wait_until("it begins", |status| status.state == "stopped").unwrap();
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn nodes_that_all_drain_keep_their_shares_because_nobody_else_can_have_them() {
    let mut cluster = Cluster::start_on(&Plan::light(2)).unwrap();
    let said = cluster.node("arr1").control(&["drain", "--all"]).unwrap();
    assert!(said.contains("arr1 drains") && said.contains("arr2 drains"), "{said}");
    let drains =
        |status: &Status| status.converged && status.nodes.iter().all(|node| node.state == "draining");
    for name in ["arr1", "arr2"] {
        cluster.node(name).wait_until("all drain", drains).unwrap();
        wait_until_it_holds(cluster.node(name), "443", |held| held == 2048);
    }
    cluster.node("arr2").control(&["resume", "--all"]).unwrap();
    cluster.converge().unwrap();
    wait_until_all_serve(&mut cluster);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// Callers of the rule are at work all the time; what a rule does on its way costs none of them a call.
#[test]
fn a_stop_or_drain_of_one_rule_moves_that_rule_alone_and_costs_no_connection() {
    let plan = Plan { rules: TCP_RULE.to_owned(), ..Plan::nodes(2) };
    let mut mixed = Mixed::start(&plan, &[Kind::Tcp]).unwrap();
    let site = shares(&mixed.cluster, "443");
    for (order, intent) in [("drain", "draining"), ("stop", "stopped")] {
        mixed.cluster.node("arr1").control(&[order, "arr2", "--rule", "tcp/53"]).unwrap();
        wait_until_it_holds(mixed.cluster.node("arr2"), "53", |held| held == 0);
        wait_until_it_holds(mixed.cluster.node("arr1"), "53", |held| held == 4096);
        assert!(shares(&mixed.cluster, "443") == site, "{order}: another rule moved");
        let status = mixed.cluster.node("arr2").status().unwrap();
        let intents: Vec<_> =
            status.tables.iter().map(|table| (table.ports.as_str(), table.intent.as_str())).collect();
        assert!(
            intents.contains(&("tcp 53", intent)) && intents.contains(&("tcp 443", "started")),
            "{intents:?}"
        );
        assert_eq!(status.state, "serving");
        mixed.cluster.node("arr2").control(&["start", "--rule", "53"]).unwrap();
        wait_until_it_holds(mixed.cluster.node("arr2"), "53", |held| held == 2048);
        assert!(shares(&mixed.cluster, "443") == site, "start: another rule moved");
    }
    let refused = refusal(mixed.cluster.node("arr1"), &["drain", "--rule", "54"]);
    assert!(refused.contains("no port rule covers 54"), "{refused}");
    thread::sleep(Duration::from_millis(200));
    mixed.finish().unwrap().assert_sound();
}

#[test]
fn weights_move_shares_and_a_priority_makes_the_default_host() {
    let plan = Plan { rules: "[[rule]]\nports = 25\nfiltering = \"single\"\n".to_owned(), ..Plan::light(3) };
    let mut cluster = Cluster::start_on(&plan).unwrap();
    cluster.node("arr1").control(&["set", "weight", "0", "arr3", "--rule", "443"]).unwrap();
    wait_until_it_holds(cluster.node("arr3"), "443", |held| held == 0);
    cluster.node("arr1").control(&["set", "weight", "30", "--all"]).unwrap();
    // The rule's own weight goes before the node's.
    wait_until_it_holds(cluster.node("arr3"), "443", |held| held == 0);
    cluster.node("arr3").control(&["set", "weight", "default", "--rule", "443"]).unwrap();
    wait_until_it_holds(cluster.node("arr3"), "443", |held| (1365..=1366).contains(&held));
    cluster.node("arr2").control(&["set", "weight", "60"]).unwrap();
    for (name, share) in [("arr1", 1024), ("arr2", 2048), ("arr3", 1024)] {
        wait_until_it_holds(cluster.node(name), "443", |held| held == share);
    }

    let single = |cluster: &mut Cluster, owner: &str| {
        wait_until_it_holds(cluster.node(owner), "25", |held| held == 4096);
        for name in ["arr1", "arr2", "arr3"] {
            let what = format!("{owner} is the default host");
            cluster
                .node(name)
                .wait_until(&what, |status| status.default_host.as_deref() == Some(owner))
                .unwrap();
        }
    };
    single(&mut cluster, "arr1");
    let refused = refusal(cluster.node("arr3"), &["set", "priority", "1"]);
    assert!(refused.contains("arr1"), "{refused}");
    cluster.node("arr2").control(&["set", "priority", "64", "arr1"]).unwrap();
    single(&mut cluster, "arr2");
    // What its operators said outlives the agent.
    assert!(cluster.node("arr1").stop().unwrap().success());
    cluster.start_agents().unwrap();
    cluster.converge().unwrap();
    single(&mut cluster, "arr2");
    cluster.node("arr1").control(&["set", "priority", "default"]).unwrap();
    single(&mut cluster, "arr1");
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}
