//! Who has the wrong key, and strangers.

use lb_user::peer::supervisor::{CallError, Peer, Reach};
use lb_user::peer::{MAX_MESSAGE, MAX_STRANGER, Node};

use crate::node::{LONG, Running, known, seed, spec, start};

/// Who is in no cluster, has the key of this number, and asks.
fn stranger(number: u8) -> Peer {
    Peer::start(spec(number, &[])).unwrap()
}

/// A node without others.
fn alone() -> Running {
    let node = known(1);
    start(1, &node, std::slice::from_ref(&node))
}

#[tokio::test]
async fn another_key_is_refused_by_who_calls_and_by_who_is_called_and_named_in_both() {
    let nodes = [known(1), known(2)];
    let wrong = |node: &Node| Node { key: seed(77).public(), ..node.clone() };
    // Each has another key of the other than it has.
    let one = start(1, &nodes[0], &[wrong(&nodes[1])]);
    let two = start(2, &nodes[1], &nodes);
    let called = one.calls.call("n2", Vec::new(), LONG).await.unwrap_err();
    let (presented, wanted) = (nodes[1].key, seed(77).public());
    assert_eq!(called, CallError::OtherKey { whom: nodes[1].to_string(), presented, wanted });
    let text = called.to_string();
    assert!(text.contains(&presented.to_string()) && text.contains(&wanted.to_string()), "{text}");
    let called = two.calls.call("n1", Vec::new(), LONG).await.unwrap_err();
    assert_eq!(called, CallError::Unlisted { whom: nodes[0].to_string(), ours: presented });
    assert!(called.to_string().contains(&presented.to_string()), "{called}");
    let status = one.status_becomes(|status| !matches!(status.nodes["n2"], Reach::Unknown)).await;
    assert!(matches!(status.nodes["n2"], Reach::No(CallError::OtherKey { .. })), "{status:?}");
    let status = two.status_becomes(|status| !matches!(status.nodes["n1"], Reach::Unknown)).await;
    assert!(matches!(status.nodes["n1"], Reach::No(CallError::Unlisted { .. })), "{status:?}");
}

#[tokio::test]
async fn strangers_are_heard_only_while_they_are_admitted() {
    let (one, joiner) = (alone(), stranger(9));
    let calls = joiner.calls();
    let greet = async |bytes: &[u8]| calls.greet(one.node.address, one.node.key, bytes.to_vec(), LONG).await;
    let unlisted = CallError::Unlisted { whom: one.node.address.to_string(), ours: seed(9).public() };
    assert_eq!(greet(b"hello").await, Err(unlisted.clone()));
    one.calls.admit(1);
    let heard = greet(b"hello").await.unwrap();
    assert_eq!(heard.bytes, b"n1 heard 5 bytes of a stranger");
    let proved = greet(b"binding").await.unwrap();
    assert_eq!((proved.binding, &proved.bytes[..]), (heard.binding, &heard.binding[..]));
    let another = stranger(8).calls().greet(one.node.address, one.node.key, Vec::new(), LONG).await;
    assert!(matches!(another, Err(CallError::Unlisted { .. })), "{another:?}");
    one.calls.admit(0);
    let mut last = greet(b"hello").await;
    if matches!(last, Err(CallError::Unreachable { .. })) {
        // The connection was cut off under it; the next one is refused.
        last = greet(b"hello").await;
    }
    assert_eq!(last, Err(unlisted));
}

#[tokio::test]
async fn a_stranger_says_little_and_hears_much() {
    let (one, joiner) = (alone(), stranger(9));
    one.calls.admit(1);
    let calls = joiner.calls();
    let greet = async |bytes: Vec<u8>| calls.greet(one.node.address, one.node.key, bytes, LONG).await;
    assert_eq!(greet(b"long".to_vec()).await.unwrap().bytes, vec![5; MAX_MESSAGE]);
    let heard = greet(vec![0; MAX_STRANGER]).await.unwrap().bytes;
    assert_eq!(heard, format!("n1 heard {MAX_STRANGER} bytes of a stranger").into_bytes());
    let long = greet(vec![0; MAX_STRANGER + 1]).await;
    assert!(matches!(long, Err(CallError::Unreachable { .. })), "{long:?}");
}

#[tokio::test]
async fn a_stranger_that_is_listed_goes_on_as_that_node_over_its_connection() {
    let (one, joiner) = (alone(), stranger(9));
    one.calls.admit(1);
    let calls = joiner.calls();
    let greet = async || calls.greet(one.node.address, one.node.key, b"hello".to_vec(), LONG).await.unwrap();
    let before = greet().await;
    one.calls.set_nodes(vec![known(9)]).unwrap();
    one.calls.admit(0);
    one.status_becomes(|status| status.nodes.contains_key("n9")).await;
    // The list was told before the status showed it was read; a question asked now comes after.
    let mut after = greet().await;
    for _ in 0..100 {
        if after.bytes == b"n1 heard 5 bytes of n9" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        after = greet().await;
    }
    assert_eq!(after.bytes, b"n1 heard 5 bytes of n9");
    assert_eq!(after.binding, before.binding);
}

#[tokio::test]
async fn who_has_another_key_than_the_token_names_is_not_greeted() {
    let (one, joiner) = (alone(), stranger(9));
    one.calls.admit(1);
    let wanted = seed(55).public();
    let greeted = joiner.calls().greet(one.node.address, wanted, b"hello".to_vec(), LONG).await;
    let presented = one.node.key;
    assert_eq!(greeted, Err(CallError::OtherKey { whom: one.node.address.to_string(), presented, wanted }));
}
