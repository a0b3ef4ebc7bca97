//! From what was typed to what is said to whom.

use super::super::holders::tests::{peer, snapshot};
use super::*;

const FILE: &str = "[cluster]\nips = [\"192.168.50.8/24\", \"192.168.50.9/24\"]\nmode = \"multicast\"\n\
    [[node]]\nname = \"arr1\"\naddress = \"192.168.50.6\"\npriority = 1\n\
    [[node]]\nname = \"arr2\"\naddress = \"192.168.50.7\"\npriority = 2\n\
    [[node]]\nname = \"arr3\"\naddress = \"192.168.50.10\"\npriority = 3\n";

const RULES: &str = "[[rule]]\nports = 25\nfiltering = \"single\"\n\
    [[rule]]\nports = 53\n[[rule]]\nports = 53\nprotocol = \"udp\"\n\
    [[rule]]\nports = \"8000-8099\"\nip = \"192.168.50.9\"\n\
    [[rule]]\nports = 23\nfiltering = \"disabled\"\n";

pub(super) fn config(rules: &str) -> Config {
    let thread = std::thread::current().id();
    let file = std::env::temp_dir().join(format!("rollcall-orders-{}-{thread:?}", std::process::id()));
    std::fs::write(&file, format!("{FILE}{rules}")).unwrap();
    let config = crate::config::load_for(&file, None).unwrap();
    std::fs::remove_file(file).unwrap();
    config
}

fn read(action: Action, nodes: Nodes, rule: Option<&str>) -> Result<Order, String> {
    let config = config(RULES);
    let mut snapshot = snapshot(Vec::new());
    snapshot.peers = vec![peer(2, 1, &[], &[]), peer(3, 1, &[], &[])];
    snapshot.peers[0].standing = Standing::Suspect;
    Order::read(&action, &nodes, rule, &config, &snapshot)
}

fn priorities(numbers: &[u8]) -> Vec<Priority> {
    numbers.iter().filter_map(|&number| Priority::new(number)).collect()
}

#[test]
fn one_node_or_all_are_told_heard_or_not() {
    let to = |nodes| read(Action::Drain, nodes, None).map(|order| order.to);
    assert_eq!(to(Nodes::This), Ok(priorities(&[1])));
    assert_eq!(to(Nodes::Named("arr2".to_owned())), Ok(priorities(&[2])));
    assert_eq!(to(Nodes::All), Ok(priorities(&[1, 2, 3])));
    let unknown = to(Nodes::Named("arr9".to_owned())).unwrap_err();
    assert_eq!(unknown, "no node is named arr9; the nodes are arr1, arr2, arr3");
}

#[test]
fn that_a_node_is_gone_is_told_all_that_are_heard_and_not_itself() {
    let order = read(Action::Forget { node: "arr2".to_owned() }, Nodes::This, None).unwrap();
    let gone = Priority::new(2).unwrap();
    assert_eq!((order.wish, order.to), (Wish::Forget { node: gone }, priorities(&[1, 3])));
}

#[test]
fn a_rule_is_found_by_its_port_protocol_and_cluster_ip() {
    let tables = [
        ("25", 1, "tcp 25"),
        ("tcp/53", 2, "tcp 53"),
        ("udp/53", 3, "udp 53"),
        ("8042", 4, "tcp 8000-8099 at 192.168.50.9"),
        ("192.168.50.9:8000", 4, "tcp 8000-8099 at 192.168.50.9"),
        ("tcp/192.168.50.8:25", 1, "tcp 25"),
    ];
    for (text, table, name) in tables {
        let order = read(Action::Drain, Nodes::This, Some(text)).unwrap();
        assert_eq!(order.wish, Wish::Drain { table: Some(table) }, "{text}");
        assert_eq!(order.rule.as_deref(), Some(name), "{text}");
    }
}

#[test]
fn what_is_no_rule_or_may_be_several_is_refused_with_a_cure() {
    for (text, expected) in [
        ("53", "53 may be tcp 53 or udp 53; hint: name the protocol, as tcp/53"),
        ("23", "tcp 23 is disabled"),
        ("80", "no port rule covers 80; the rules are tcp 23, tcp 25"),
        ("192.168.50.8:8042", "no port rule covers"),
        ("https", "`https` is no port rule"),
        ("+25", "`+25` is no port rule"),
        ("65536", "is no port rule"),
        ("icmp/25", "is no port rule"),
        ("", "is no port rule"),
        ("\u{1b}:1", "is no port rule"),
    ] {
        let refused = read(Action::Stop, Nodes::This, Some(text)).unwrap_err();
        assert!(refused.contains(expected), "{text}: {refused}");
    }
}

#[test]
fn a_rule_that_moves_with_others_cannot_be_told_anything_alone() {
    let many: String = (0..32).map(|number| format!("[[rule]]\nports = {}\n", 1000 + number)).collect();
    let refused = rule::find(&config(&many), "1007").unwrap_err();
    assert!(refused.starts_with("tcp 1007 moves together with tcp 1000, tcp 1001"), "{refused}");
    assert!(refused.contains("fewer than 32 rules") && refused.contains("`weights`"), "{refused}");
}

#[test]
fn what_makes_no_sense_for_a_rule_is_refused() {
    let weight = Action::SetWeight { weight: Some(10) };
    for (action, rule, expected) in [
        (weight.clone(), Some("25"), "tcp 25 goes to one node alone"),
        (Action::SetWeight { weight: Some(101) }, None, "101 is no load weight"),
        (Action::SetPriority { priority: Some(65) }, None, "65 is no host priority"),
        (Action::SetPriority { priority: Some(0) }, None, "0 is no host priority"),
        (Action::Suspend, Some("25"), "a node as a whole"),
        (Action::Restart, Some("25"), "a node as a whole"),
    ] {
        let refused = read(action, Nodes::This, rule).unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
    let order = read(weight, Nodes::This, Some("tcp/53")).unwrap();
    assert_eq!(order.wish, Wish::SetWeight { table: Some(2), weight: Some(10) });
    assert_eq!(order.done(&config(RULES)), "has the weight 10, for tcp 53");
}

#[tokio::test]
async fn an_answer_finds_who_waits_for_it_and_no_other() {
    let answers = Answers::default();
    let (sender, answer) = oneshot::channel();
    answers.lock().insert(7, sender);
    answers.wished(8, None);
    answers.wished(7, Some(Denied::Suspended));
    answers.wished(7, None);
    assert_eq!(answer.await, Ok(Some(Denied::Suspended)));
}

#[tokio::test]
async fn all_outputs_come_in_the_order_of_their_futures() {
    let wait = |millis| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        millis
    };
    assert_eq!(all(vec![wait(20), wait(0), wait(10)]).await, [20, 0, 10]);
}
