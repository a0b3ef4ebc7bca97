//! A change is tried on one node first: what does harm there never reaches another.

use std::time::Duration;

use lb_user::clock::Time;
use lb_user::control::api::Status;
use rollcall_tests::lab::Plan;
use rollcall_tests::node::{Cluster, Node};
use rollcall_tests::sys::signal;
use rollcall_tests::traffic::Request;
use rustix::process::Signal;
use serde_json::Value;

use crate::removal::{load, nothing_was_lost};
use crate::{apply_with, at_work, log, sharing};

/// Denies everything to clients in this network.
fn denying(text: &str, network: &str) -> String {
    text.replace("[exchange]\n", &format!("[exchange]\ndeny = [{network:?}]\n"))
}

fn refused(node: &Node, network: &str) -> String {
    apply_with(node, &["--canary", "20s"], |text| denying(&text, network)).unwrap_err()
}

/// A file of which nothing is left is none that anybody works with.
fn newest_is_failed(cluster: &Cluster, before: &str) {
    for node in &cluster.nodes {
        assert_eq!(at_work(node), before, "{}", node.name());
        assert_eq!(log(node)[0]["standing"], "failed", "{}", node.name());
    }
}

#[test]
fn a_change_by_which_every_request_is_403_is_caught_by_one_node_and_its_clients() {
    let mut cluster = sharing(3);
    cluster.settle().unwrap();
    let before = at_work(&cluster.nodes[0]);
    // To itself, too: no client has to suffer for it.
    let said = refused(&cluster.nodes[1], "0.0.0.0/0");
    assert!(said.contains("on arr2, which tried it") && said.contains("answered 403"), "{said}");
    newest_is_failed(&cluster, &before);
    // To clients alone: only they can show it.
    let browsers = load(&cluster);
    let said = refused(&cluster.nodes[0], "203.0.113.0/24");
    assert!(said.contains("requests were answered with 403 or 404"), "{said}");
    newest_is_failed(&cluster, &before);
    // What is well is tried, compared, and at work on all.
    let applied =
        apply_with(&cluster.nodes[2], &["--canary", "3s"], |text| denying(&text, "198.51.100.0/24"));
    let applied: Value = applied.unwrap();
    let (by, clients) = (&applied["canary"]["node"], applied["canary"]["clients"].as_str().unwrap());
    assert_eq!(by, "arr3");
    assert!(clients.starts_with("its clients fared as the others'"), "{applied}");
    for node in &cluster.nodes {
        assert_eq!(at_work(node), applied["generation"].as_str().unwrap());
    }
    let requests = browsers.finish().unwrap();
    let lost: Vec<&Request> = requests.iter().filter(|request| request.error.is_some()).collect();
    assert!(!lost.is_empty() && lost.len() * 3 < requests.len(), "{} of {}", lost.len(), requests.len());
    let fine = lost.iter().all(|request| request.error.as_ref().is_some_and(|error| error.contains("403")));
    assert!(fine, "{lost:#?}");
    cluster.settle().unwrap();
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn where_one_node_answers_for_all_another_tries_it_and_clients_never_see_what_does_harm() {
    let rules = "[[rule]]\nports = 443\nfiltering = \"single\"\n".to_owned();
    let mut cluster = Cluster::raise(&Plan { rules, ..Plan::light(2) }).unwrap();
    cluster.enrol().unwrap();
    cluster.start_agents().unwrap();
    for node in &cluster.nodes {
        let serves = |status: &Status| status.lease && status.proxy.as_ref().is_some_and(|proxy| proxy.ready);
        wait_for(node, "it serves beside the other", |status| {
            serves(status) && status.nodes.iter().all(|node| node.ready && node.state == "serving")
        });
    }
    let before = at_work(&cluster.nodes[0]);
    let browsers = load(&cluster);
    let said = refused(&cluster.nodes[0], "0.0.0.0/0");
    assert!(said.contains("on arr2, which tried it"), "{said}");
    newest_is_failed(&cluster, &before);
    let applied = apply_with(&cluster.nodes[0], &[], |text| denying(&text, "198.51.100.0/24")).unwrap();
    assert_eq!(applied["canary"]["node"], "arr2");
    assert_eq!(applied["canary"]["clients"], "synthetic only: it answers no clients now");
    nothing_was_lost(browsers);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn a_node_whose_author_dies_in_mid_trial_goes_back_by_itself() {
    let mut cluster = sharing(3);
    let before = at_work(&cluster.nodes[0]);
    has_no_clients(&mut cluster.nodes[0]);
    std::thread::scope(|scope| {
        let author = &cluster.nodes[0];
        let pid = author.status().unwrap().pid;
        let waiting = scope
            .spawn(|| apply_with(author, &["--canary", "10min"], |text| denying(&text, "198.51.100.0/24")));
        wait_for(&cluster.nodes[1], "it tries something", |status| status.configuration.confirm_by.is_some());
        let other = &cluster.nodes[2];
        wait_for(other, "it hears that another tries something", |status| {
            status.nodes[1].candidate.is_some()
        });
        let heard = &other.status().unwrap().nodes;
        assert!(heard.iter().all(|node| node.generation.as_deref() == Some(&before[..16])), "{heard:#?}");
        signal(pid, Signal::KILL);
        waiting.join().unwrap().unwrap_err();
    });
    assert!(!cluster.node("arr1").end().unwrap().success());
    wait_for(&cluster.nodes[1], "it is back", |status| status.configuration.confirm_by.is_none());
    cluster.start_agents().unwrap();
    cluster.nodes[0].wait_until("it answers", |_| true).unwrap();
    for node in &cluster.nodes {
        assert_eq!(at_work(node), before, "{}", node.name());
    }
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn a_node_that_is_cut_off_from_who_wanted_it_goes_back_by_itself() {
    let mut cluster = sharing(3);
    let before = at_work(&cluster.nodes[0]);
    has_no_clients(&mut cluster.nodes[0]);
    std::thread::scope(|scope| {
        let [author, tries, _] = &cluster.nodes[..] else { panic!("there are three") };
        let waiting = scope
            .spawn(|| apply_with(author, &["--canary", "10min"], |text| denying(&text, "198.51.100.0/24")));
        wait_for(tries, "it tries something", |status| status.configuration.confirm_by.is_some());
        // Heartbeats go on.
        let cut = "table inet cut { chain input { type filter hook input priority 0; tcp dport 7645 drop; tcp sport 7645 drop; }\n}";
        tries.place.namespace.nft(cut).unwrap();
        let said = waiting.join().unwrap().unwrap_err();
        assert!(said.contains("it is not reached any more"), "{said}");
        wait_for(tries, "it is back", |status| status.configuration.confirm_by.is_none());
        assert_eq!(at_work(tries), before);
        let returned =
            tries.events().unwrap().into_iter().rfind(|event| event.kind == "configuration-returned");
        assert!(returned.unwrap().text.contains("nothing is heard of arr1"));
        tries.place.namespace.nft("delete table inet cut").unwrap();
    });
    let all: Vec<&Node> = cluster.nodes.iter().collect();
    assert_eq!(rollcall_tests::shared::agreed(&all).unwrap(), before);
    newest_is_failed(&cluster, &before);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// So that another tries what this one wants.
fn has_no_clients(node: &mut Node) {
    node.drain().unwrap();
    node.wait_until("it has no share", |status| buckets_here(status) == 0).unwrap();
}

/// How many buckets of a node's are its own.
fn buckets_here(status: &Status) -> usize {
    status.tables.iter().flat_map(|table| table.states.chars()).filter(|state| "ma".contains(*state)).count()
}

/// Longer than a node tries something without a word of who wants that.
const LONG: Duration = Duration::from_secs(90);

fn wait_for(node: &Node, what: &str, is: impl Fn(&Status) -> bool) {
    let deadline = Time::now() + LONG;
    while !node.status().is_ok_and(|status| is(&status)) {
        assert!(Time::now() < deadline, "{}: {what}, which never came", node.name());
        std::thread::sleep(Duration::from_millis(100));
    }
}
