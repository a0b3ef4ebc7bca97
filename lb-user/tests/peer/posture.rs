//! What the child is and has, and how it ends.

use std::path::Path;

use lb_user::peer::supervisor::{CallError, Peer, listen};

use crate::node::{LONG, cluster, known, proc_status, spec, start};

#[tokio::test]
async fn the_child_runs_as_another_user_with_nothing_it_does_not_need() {
    let [one, _two] = cluster().await;
    let pid = one.pid();
    for (field, wanted) in [
        ("Uid", "64751 64751 64751 64751"),
        ("Gid", "64751 64751 64751 64751"),
        ("Groups", ""),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Threads", "1"),
    ] {
        assert_eq!(proc_status(pid, field), wanted, "{field}");
    }
    assert_eq!(std::fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    let mut foreign = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let entry = entry.unwrap();
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let target = target.to_str().unwrap().to_owned();
        if number > 2 && !["socket:", "anon_inode:"].iter().any(|kind| target.starts_with(kind)) {
            foreign.push(target);
        }
    }
    assert_eq!(foreign, Vec::<String>::new());
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
