//! A change on one node is all nodes'.

use std::collections::BTreeSet;
use std::time::Duration;

use rollcall_tests::lab::PUBLIC_NAME;
use rollcall_tests::node::{Cluster, Node, PATIENCE};

use crate::removal::{load, nothing_was_lost};
use crate::{apply, apply_with, at_work, drain_timeout, log, maintenance, sharing};

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
    cluster.settle().unwrap();
    let browsers = load(&cluster);
    cluster.node("arr2").stop().unwrap();
    for number in 0..10 {
        let node = &cluster.nodes[if number % 2 == 0 { 0 } else { 2 }];
        let applied = apply(node, |text| drain_timeout(&text, 20 + number)).unwrap();
        assert_eq!(applied["unreached"], serde_json::json!(["arr2"]));
    }
    cluster.start_agents().unwrap();
    let wanted = at_work(&cluster.nodes[0]);
    cluster.node("arr2").wait_until("it works with what the others do", |_| true).unwrap();
    wait_for(&cluster.nodes[1], &wanted);
    cluster.settle().unwrap();
    assert!(cluster.nodes[1].control(&["config", "show"]).unwrap().contains("drain_timeout = \"29s\""));
    nothing_was_lost(browsers);
    // What is answered is what the configuration says, by the one that was away, too.
    apply(&cluster.nodes[1], |text| maintenance(&text, "number 10")).unwrap();
    assert_eq!(answers(&cluster), [(503, "number 10".to_owned())].into());
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn a_change_on_trial_is_one_nodes_until_it_is_confirmed_and_gone_when_it_is_not() {
    let cluster = sharing(2);
    let before = at_work(&cluster.nodes[0]);
    let tried = |seconds: &str, words: &str| {
        let applied =
            apply_with(&cluster.nodes[0], &["--confirm-within", seconds], |text| maintenance(&text, words))
                .unwrap();
        let tried = applied["generation"].as_str().unwrap().to_owned();
        assert_eq!((at_work(&cluster.nodes[0]), at_work(&cluster.nodes[1])), (tried.clone(), before.clone()));
        tried
    };
    // Nobody confirms.
    tried("10s", "unconfirmed");
    wait_for(&cluster.nodes[0], &before);
    cluster.nodes[0].control(&["config", "confirm"]).unwrap_err();
    let confirmed = tried("10min", "confirmed");
    cluster.nodes[0].control(&["config", "confirm"]).unwrap();
    assert_eq!((at_work(&cluster.nodes[0]), at_work(&cluster.nodes[1])), (confirmed.clone(), confirmed));
    assert_eq!(answers(&cluster), [(503, "confirmed".to_owned())].into());
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn what_an_editor_leaves_is_applied_and_what_differs_is_shown() {
    let cluster = sharing(2);
    let before = at_work(&cluster.nodes[1]);
    let edit = |editor: &str| {
        let run_dir = cluster.nodes[0].run_dir.to_string_lossy().into_owned();
        let arguments = ["config", "edit", "--no-canary", "--comment", "by hand", "--run-dir", &run_dir];
        let editor = format!("EDITOR={editor}");
        cluster.nodes[0].rollcall_under(&["env", "-u", "VISUAL", &editor], &arguments, PATIENCE).unwrap()
    };
    // As Notepad saves it: with a byte order mark and other ends of lines.
    let output = edit(
        "sed -i -e 's/^\\[exchange\\]/[exchange]\\nmaintenance = \"edited\"/' -e 's/$/\\r/' -e '1s/^/\\xef\\xbb\\xbf/'",
    );
    assert!(output.status.success(), "{output:?}");
    let now = at_work(&cluster.nodes[1]);
    assert_ne!(now, before);
    assert_eq!(answers(&cluster), [(503, "edited".to_owned())].into());
    let newest = &log(&cluster.nodes[1])[0];
    assert_eq!(
        (newest["comment"].as_str(), newest["parent"].as_str()),
        (Some("by hand"), Some(before.as_str()))
    );
    let shown = cluster.nodes[1].control(&["config", "diff", &before[..12], "--json"]).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((shown["from"].as_str(), shown["to"].as_str()), (Some(before.as_str()), Some(now.as_str())));
    let lines = shown["lines"].as_array().unwrap();
    assert!(lines.iter().any(|line| line.as_str().unwrap().starts_with("+maintenance")), "{shown}");
    // A wrong one is the configuration's fault by the exit status, too.
    let output = edit("sed -i s/^maintenance/colour/");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(edit("true").status.code(), Some(0), "nothing was changed");
    assert_eq!(at_work(&cluster.nodes[1]), now);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn a_certificate_that_ends_soon_is_an_event_on_every_node_until_another_is_set() {
    let mut cluster = sharing(2);
    let set = |cluster: &mut Cluster, name: &str, life: Option<Duration>| {
        let folder = cluster.lab.folder().join(name);
        let renewed = cluster.certificates.renewed_for(&folder, life).unwrap();
        let (certificate, key) = (renewed.certificate.to_string_lossy(), renewed.key.to_string_lossy());
        let set = ["certificate", "set", PUBLIC_NAME, &certificate, "--key", &key, "--no-canary"];
        cluster.nodes[0].control(&set).unwrap();
        let ending = life.is_some();
        for node in &mut cluster.nodes {
            node.wait_until("it tells of ends", |status| status.certificates.is_empty() != ending).unwrap();
        }
    };
    let day = Duration::from_hours(24);
    set(&mut cluster, "ending", Some(day * 10));
    for node in &mut cluster.nodes {
        let told = node.wait_for_event("the end", |event| event.kind == "certificate-expires").unwrap();
        assert!(told.text.contains(PUBLIC_NAME) && told.text.contains("servers"), "{}", told.text);
        let days = node.status().unwrap().certificates[0].days_left;
        assert!(days == Some(9) || days == Some(10), "{days:?}");
    }
    set(&mut cluster, "lasting", None);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

pub(crate) fn wait_for(node: &Node, generation: &str) {
    let deadline = lb_user::clock::Time::now() + rollcall_tests::node::PATIENCE;
    while at_work(node) != generation {
        assert!(lb_user::clock::Time::now() < deadline, "{} never came to it", node.name());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
