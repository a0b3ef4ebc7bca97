//! Who comes into a cluster, and why others do not.

use rollcall_tests::lab::Plan;
use rollcall_tests::node::{Cluster, Node};

/// Why a host that wants to join is not let in.
fn refusal(node: &mut Node, of: &str, token: &str, more: &[&str]) -> String {
    let command = [&["join", of, "--token", token][..], more].concat();
    format!("{:#}", node.become_one(&command).unwrap_err())
}

#[test]
fn a_token_lets_one_in_and_each_refusal_says_why() {
    let mut cluster = Cluster::raise(&Plan::light(3)).unwrap();
    cluster.found().unwrap();
    let of = cluster.nodes[0].place.address.to_string();
    let token = cluster.nodes[0].token().unwrap();
    let said = refusal(&mut cluster.nodes[1], &of, "nonsense", &[]);
    assert!(said.contains("that is no join token"), "{said}");
    let said = refusal(&mut cluster.nodes[1], &of, &token, &["--priority", "1"]);
    assert!(said.contains("the host priority 1 is taken"), "{said}");
    // Issued by one that was started anew since.
    cluster.nodes[0].stop().unwrap();
    cluster.nodes[0].start().unwrap();
    cluster.nodes[0].wait_until("it answers", |_| true).unwrap();
    let printed = cluster.nodes[1].become_one(&["join", &of, "--token", &token]).unwrap();
    assert!(printed.contains("arr2 is a node of the cluster now: arr1, arr2"), "{printed}");
    // Nobody else is waited for any more, and then somebody is.
    let said = refusal(&mut cluster.nodes[2], &of, &token, &[]);
    assert!(said.contains("takes nobody in now: this token was used"), "{said}");
    let other = cluster.nodes[0].token().unwrap();
    let said = refusal(&mut cluster.nodes[2], &of, &token, &[]);
    assert!(said.contains("or it was used"), "{said}");
    // Another node's.
    cluster.nodes[1].start().unwrap();
    cluster.nodes[1].wait_until("it answers", |_| true).unwrap();
    let second = cluster.nodes[1].place.address.to_string();
    let said = refusal(&mut cluster.nodes[2], &second, &other, &[]);
    assert!(said.contains("did not issue this token"), "{said}");
    // What comes from there is dropped.
    let closed =
        "table inet closed { chain input { type filter hook input priority 0; tcp dport 7645 drop; }\n}";
    cluster.nodes[0].place.namespace.nft(closed).unwrap();
    let said = refusal(&mut cluster.nodes[2], &of, &other, &[]);
    assert!(said.contains("nothing comes back") && said.contains("TCP 7645"), "{said}");
    cluster.nodes[0].place.namespace.nft("delete table inet closed").unwrap();
    // Nobody is there.
    cluster.nodes[0].stop().unwrap();
    let said = refusal(&mut cluster.nodes[2], &of, &other, &[]);
    assert!(said.contains("nobody listens") && said.contains("does `rollcall run` run there"), "{said}");
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}
