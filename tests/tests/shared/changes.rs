//! A change on one node is all nodes'.

use std::collections::BTreeSet;

use rollcall_tests::node::{Cluster, Node};

use crate::{apply, at_work, log, maintenance, sharing};

/// What clients are answered, by whichever nodes answer so many connections.
pub(crate) fn answers(cluster: &Cluster) -> BTreeSet<(u16, String)> {
    let https = cluster.https().unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..24 {
        let answer = https.connect().unwrap().get("/owa/").unwrap();
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        seen.insert((answer.status, if answer.status == 503 { body } else { String::new() }));
    }
    seen
}

#[test]
fn a_change_on_each_node_in_turn_is_served_by_all_and_goes_back() {
    let mut cluster = sharing(3);
    let before = at_work(&cluster.nodes[0]);
    for number in 0..3 {
        let words = format!("number {number}");
        let applied = apply(&cluster.nodes[number], |text| maintenance(&text, &words)).unwrap();
        assert_eq!(applied["on"].as_array().unwrap().len(), 2, "{applied}");
        let works: BTreeSet<String> = cluster.nodes.iter().map(at_work).collect();
        assert_eq!(works, [applied["generation"].as_str().unwrap().to_owned()].into());
        assert_eq!(answers(&cluster), [(503, words)].into());
    }
    cluster.nodes[1].control(&["config", "rollback", &before[..12]]).unwrap();
    assert_eq!(answers(&cluster), [(200, String::new())].into());
    let newest = &log(&cluster.nodes[2])[0];
    assert_eq!(
        (newest["restores"].as_str(), newest["author"].as_str()),
        (Some(before.as_str()), Some("arr2"))
    );
    // A bad one changes nothing, and says where it is wrong.
    let refused = apply(&cluster.nodes[0], |text| text.replace("[exchange]\n", "[exchange]\ncolour = 1\n"))
        .unwrap_err();
    assert!(refused.contains("unknown key `colour`"), "{refused}");
    assert_eq!(log(&cluster.nodes[0])[0]["id"], newest["id"]);
    cluster.settle().unwrap();
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn a_node_that_was_off_during_ten_changes_has_the_last_one_when_it_is_back() {
    let mut cluster = sharing(3);
    cluster.node("arr2").stop().unwrap();
    for number in 0..10 {
        let node = &cluster.nodes[if number % 2 == 0 { 0 } else { 2 }];
        let applied = apply(node, |text| maintenance(&text, &format!("number {number}"))).unwrap();
        assert_eq!(applied["unreached"], serde_json::json!(["arr2"]));
    }
    cluster.start_agents().unwrap();
    let wanted = at_work(&cluster.nodes[0]);
    cluster.node("arr2").wait_until("it works with what the others do", |_| true).unwrap();
    wait_for(&cluster.nodes[1], &wanted);
    cluster.settle().unwrap();
    assert_eq!(answers(&cluster), [(503, "number 9".to_owned())].into());
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

pub(crate) fn wait_for(node: &Node, generation: &str) {
    let deadline = lb_user::clock::Time::now() + rollcall_tests::node::PATIENCE;
    while at_work(node) != generation {
        assert!(lb_user::clock::Time::now() < deadline, "{} never came to it", node.name());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
