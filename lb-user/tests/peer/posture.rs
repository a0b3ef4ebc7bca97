//! What the child is and has, and how it ends.

use std::path::Path;

use lb_user::peer::supervisor::{CallError, Peer, listen};

use crate::confined::{assert_confined, proc_status};
use crate::node::{LONG, USER, cluster, known, spec, start};

#[tokio::test]
async fn the_child_runs_as_another_user_with_nothing_it_does_not_need() {
    let [one, _two] = cluster().await;
    let pid = one.pid();
    assert_confined(pid, USER);
    assert_eq!(proc_status(pid, "Threads"), "1");
}

#[tokio::test]
async fn a_stop_ends_the_child_frees_the_address_and_fails_what_is_asked() {
    let [one, two] = cluster().await;
    let (pid, calls, address) = (one.pid(), one.calls.clone(), one.node.address);
    one.peer.stop().await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(calls.call("n2", Vec::new(), LONG).await, Err(CallError::Stopped));
    drop(listen(address).unwrap());
    let nodes = [two.node.clone()];
    let again = start(1, &one.node, &nodes);
    assert_eq!(again.asks("n2").await, "n2 heard 5 bytes of n1");
}

#[tokio::test]
async fn a_supervisor_that_is_dropped_leaves_no_child() {
    let [one, _two] = cluster().await;
    let pid = one.pid();
    drop(one);
    for _ in 0..1500 {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the child lives on");
}

#[tokio::test]
async fn what_cannot_be_started_is_told_before_anything_is() {
    let twice = [known(3), known(3)];
    let error = Peer::start(spec(1, &twice)).unwrap_err().to_string();
    assert!(error.contains("n3 is listed twice"), "{error}");
    let root = Peer::start(lb_user::peer::supervisor::Spec { user: "root".to_owned(), ..spec(1, &[]) });
    assert!(root.unwrap_err().to_string().contains("root"));
    let taken = known(4);
    let _held = listen(taken.address).unwrap();
    let error = listen(taken.address).unwrap_err().to_string();
    assert!(error.contains(&format!("{}:7645", taken.address)), "{error}");
}
