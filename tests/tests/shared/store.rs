//! An etcd that has the configuration, too: it is told of every change, nobody needs it, and it reaches nodes that others do not.

use std::collections::BTreeSet;

use lb_user::clock::Time;
use rollcall_tests::etcd::Etcd;
use rollcall_tests::node::{Cluster, Node, PATIENCE};

use crate::changes::{answers, wait_for};
use crate::removal::{load, nothing_was_lost};
use crate::{apply, at_work, drain_timeout, log, maintenance, open_again, sharing};

/// Nodes that share their configuration, and keep it in an etcd.
fn keeping(nodes: u8) -> (Cluster, Etcd) {
    let mut cluster = sharing(nodes);
    let etcd = Etcd::start(&cluster.lab).unwrap();
    apply(&cluster.nodes[0], |text| text.replacen("[[node]]", &format!("{}[[node]]", etcd.table()), 1))
        .unwrap();
    for node in &mut cluster.nodes {
        reaches_etcd(node);
    }
    (cluster, etcd)
}

fn reaches_etcd(node: &mut Node) {
    node.wait_until("it reaches etcd", |status| {
        status.configuration.store.as_ref().is_some_and(|store| store.since.is_some() && store.why.is_none())
    })
    .unwrap();
}

fn misses_etcd(node: &mut Node) {
    let lost = |store: &lb_user::control::api::StoreStatus| store.why.is_some();
    node.wait_until("it misses etcd", |status| status.configuration.store.as_ref().is_some_and(lost))
        .unwrap();
}

/// Waits until etcd has all generations that a node knows, each with its content and a record.
fn has_all_of(etcd: &Etcd, node: &Node) {
    let deadline = Time::now() + PATIENCE;
    loop {
        let keys = etcd.keys().unwrap();
        let has =
            |kind: &str, id: &str| keys.iter().any(|key| key.starts_with(&format!("/lab/dmz/{kind}/{id}")));
        let ids: Vec<String> =
            log(node).iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
        let missing: Vec<&String> = ids
            .iter()
            .filter(|id| !["generations", "contents", "records"].iter().all(|kind| has(kind, id)))
            .collect();
        if missing.is_empty() {
            assert!(keys.iter().all(|key| key.starts_with("/lab/dmz/")), "{keys:?}");
            return;
        }
        assert!(Time::now() < deadline, "etcd lacks {missing:?}: {keys:?}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn changes_are_in_etcd_and_without_it_nodes_change_serve_and_boot_until_it_is_back() {
    let (mut cluster, mut etcd) = keeping(3);
    apply(&cluster.nodes[1], |text| maintenance(&text, "with etcd")).unwrap();
    has_all_of(&etcd, &cluster.nodes[0]);

    etcd.stop();
    for node in &mut cluster.nodes {
        misses_etcd(node);
        node.wait_for_event("that etcd is away", |event| event.kind == "store-lost").unwrap();
    }
    let applied = apply(&cluster.nodes[0], |text| maintenance(&text, "without etcd")).unwrap();
    assert_eq!(applied["on"].as_array().unwrap().len(), 2, "{applied}");
    cluster.settle().unwrap();
    assert_eq!(answers(&cluster), [(503, "without etcd".to_owned())].into());
    cluster.node("arr2").stop().unwrap();
    cluster.start_agents().unwrap();
    cluster.settle().unwrap();
    assert_eq!(answers(&cluster), [(503, "without etcd".to_owned())].into());
    misses_etcd(cluster.node("arr2"));

    etcd.go_on().unwrap();
    for node in &mut cluster.nodes {
        reaches_etcd(node);
        node.wait_for_event("that etcd is back", |event| event.kind == "store-back").unwrap();
    }
    has_all_of(&etcd, &cluster.nodes[0]);
    let works: BTreeSet<String> = cluster.nodes.iter().map(at_work).collect();
    assert_eq!(works.len(), 1);
    clients_notice_nothing(&mut cluster, &mut etcd);
    drop(etcd);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// Etcd goes, a change is made, and it comes back, with clients meanwhile.
fn clients_notice_nothing(cluster: &mut Cluster, etcd: &mut Etcd) {
    apply(&cluster.nodes[0], open_again).unwrap();
    let browsers = load(cluster);
    etcd.stop();
    for node in &mut cluster.nodes {
        misses_etcd(node);
    }
    apply(&cluster.nodes[1], |text| drain_timeout(&text, 21)).unwrap();
    etcd.go_on().unwrap();
    for node in &mut cluster.nodes {
        reaches_etcd(node);
    }
    nothing_was_lost(browsers);
}

#[test]
fn a_node_that_no_other_reaches_gets_a_change_through_etcd_and_gives_its_own() {
    let (mut cluster, etcd) = keeping(3);
    let port = lb_user::config::model::PEER_PORT;
    cluster
        .node("arr3")
        .place
        .namespace
        .nft(&format!(
            "table inet deaf {{\n chain in {{ type filter hook input priority 0; tcp dport {port} drop; }}\n chain out {{ type filter hook output priority 0; tcp dport {port} drop; }}\n}}\n"
        ))
        .unwrap();
    let applied = apply(&cluster.nodes[0], |text| maintenance(&text, "by etcd")).unwrap();
    assert_eq!(applied["on"], serde_json::json!(["arr2"]), "{applied}");
    wait_for(&cluster.nodes[2], applied["generation"].as_str().unwrap());
    cluster.settle().unwrap();
    assert_eq!(answers(&cluster), [(503, "by etcd".to_owned())].into());

    let applied = apply(&cluster.nodes[2], |text| maintenance(&text, "from arr3")).unwrap();
    assert_eq!(applied["on"], serde_json::json!([]), "{applied}");
    for node in &cluster.nodes[..2] {
        wait_for(node, applied["generation"].as_str().unwrap());
    }
    assert_eq!(answers(&cluster), [(503, "from arr3".to_owned())].into());
    drop(etcd);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}
