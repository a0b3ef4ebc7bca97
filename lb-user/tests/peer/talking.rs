//! Nodes ask each other.

use std::time::Duration;

use lb_user::peer::supervisor::{CallError, Trouble};
use lb_user::peer::{MAX_MESSAGE, MOST_OF_NODE};

use crate::node::{LONG, cluster, known, start};

#[tokio::test]
async fn three_nodes_ask_each_other_in_all_directions() {
    let nodes = cluster::<3>().await;
    for asker in &nodes {
        for other in &nodes {
            if asker.node != other.node {
                let heard = format!("{} heard 5 bytes of {}", other.node.name, asker.node.name);
                assert_eq!(asker.asks(&other.node.name).await, heard);
            }
        }
    }
}

#[tokio::test]
async fn the_longest_messages_go_both_ways_and_longer_ones_nowhere() {
    let [one, _two] = cluster().await;
    let heard = one.calls.call("n2", vec![3; MAX_MESSAGE], LONG).await.unwrap();
    assert_eq!(heard, format!("n2 heard {MAX_MESSAGE} bytes of n1").into_bytes());
    assert_eq!(one.calls.call("n2", b"long".to_vec(), LONG).await.unwrap(), vec![5; MAX_MESSAGE]);
    let whom = one.calls.call("n2", vec![0; MAX_MESSAGE + 1], LONG).await.unwrap_err();
    assert!(matches!(whom, CallError::TooLong { length, .. } if length == MAX_MESSAGE + 1), "{whom}");
    assert_eq!(one.asks("n2").await, "n2 heard 5 bytes of n1");
}

#[tokio::test]
async fn a_question_is_refused_or_times_out_and_others_are_answered_meanwhile() {
    let [one, two] = cluster().await;
    let refused = one.calls.call("n2", b"refuse".to_vec(), LONG).await.unwrap_err();
    assert!(matches!(refused, CallError::Refused { .. }), "{refused}");
    let within = Duration::from_millis(300);
    let late = one.calls.call("n2", b"silence".to_vec(), within);
    let (late, heard) = tokio::join!(late, one.asks("n2"));
    assert_eq!(late, Err(CallError::TimedOut { whom: two.node.to_string(), within }));
    assert_eq!(heard, "n2 heard 5 bytes of n1");
    let nobody = one.calls.call("n9", Vec::new(), LONG).await;
    assert_eq!(nobody, Err(CallError::NoSuchNode { node: "n9".to_owned() }));
}

#[tokio::test]
async fn a_node_has_four_questions_open_and_is_told_when_the_other_has_enough() {
    let [one, two] = cluster().await;
    let silent = (0..MOST_OF_NODE).map(|_| one.calls.call("n2", b"silence".to_vec(), LONG));
    tokio::select! {
        answered = futures_util::future::join_all(silent) => panic!("{answered:?}"),
        () = two.leaves_unanswered(MOST_OF_NODE) => {}
    }
    // Nobody waits here any more, and the other agent still has them.
    let busy = one.calls.call("n2", Vec::new(), LONG).await.unwrap_err();
    assert_eq!(busy, CallError::Busy { whom: two.node.to_string() });
}

#[tokio::test]
async fn more_calls_than_may_be_open_wait_for_their_turn() {
    let [one, _two] = cluster().await;
    let calls = (0..5 * MOST_OF_NODE).map(|_| one.asks("n2"));
    let heard = futures_util::future::join_all(calls).await;
    assert_eq!(heard, vec!["n2 heard 5 bytes of n1"; 5 * MOST_OF_NODE]);
}

#[tokio::test]
async fn a_child_that_is_killed_comes_back_and_what_was_open_is_told() {
    let [one, two] = cluster().await;
    for (round, killed, whose) in [(1, &one, "its own"), (2, &two, "the other's")] {
        let before = killed.pid();
        let open = one.calls.call("n2", b"silence".to_vec(), LONG);
        let (open, ()) = tokio::join!(open, async {
            two.leaves_unanswered(round).await;
            killed.kill();
        });
        let error = open.unwrap_err();
        assert!(matches!(error, CallError::Unreachable { .. }), "{whose}: {error}");
        killed.status_becomes(|status| status.pid.is_some_and(|pid| pid != before)).await;
        one.reaches_all().await;
        two.reaches_all().await;
        assert_eq!(one.asks("n2").await, "n2 heard 5 bytes of n1");
        assert_eq!(two.asks("n1").await, "n1 heard 5 bytes of n2");
    }
    assert_eq!(one.peer.status().borrow().restarts, 1);
}

#[tokio::test]
async fn a_node_that_is_down_is_unreachable_at_once_and_reached_when_it_is_up() {
    let nodes = [known(1), known(2)];
    let one = start(1, &nodes[0], &nodes);
    let error = one.calls.call("n2", Vec::new(), LONG).await.unwrap_err();
    let refused = Trouble::System(rustix::io::Errno::CONNREFUSED.raw_os_error());
    assert_eq!(error, CallError::Unreachable { whom: nodes[1].to_string(), trouble: refused });
    let _two = start(2, &nodes[1], &nodes);
    one.reaches_all().await;
    assert_eq!(one.asks("n2").await, "n2 heard 5 bytes of n1");
}

#[tokio::test]
async fn who_is_listed_no_more_is_cut_off_and_who_is_listed_now_is_talked_to() {
    let [one, two, three] = cluster().await;
    let open = three.calls.call("n1", b"silence".to_vec(), LONG);
    let (open, ()) = tokio::join!(open, async {
        one.leaves_unanswered(1).await;
        one.calls.set_nodes(vec![one.node.clone(), two.node.clone()]).unwrap();
    });
    assert!(matches!(open, Err(CallError::Unreachable { .. })), "{open:?}");
    let unlisted = three.calls.call("n1", Vec::new(), LONG).await;
    let ours = three.node.key;
    assert_eq!(unlisted, Err(CallError::Unlisted { whom: one.node.to_string(), ours }));
    let gone = one.calls.call("n3", Vec::new(), LONG).await;
    assert_eq!(gone, Err(CallError::NoSuchNode { node: "n3".to_owned() }));
    let status = one.status_becomes(|status| !status.nodes.contains_key("n3")).await;
    assert_eq!(status.nodes.keys().collect::<Vec<_>>(), ["n2"]);
    assert_eq!(one.asks("n2").await, "n2 heard 5 bytes of n1");
    one.calls.set_nodes(vec![two.node.clone(), three.node.clone()]).unwrap();
    assert_eq!(one.asks("n3").await, "n3 heard 5 bytes of n1");
    assert_eq!(three.asks("n1").await, "n1 heard 5 bytes of n3");
}
