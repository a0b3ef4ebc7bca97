//! A node of the tests, and what it answers.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use lb_user::peer::supervisor::{Asked, Asker, Calls, Peer, PeerStatus, Reach, Spec, listen};
use lb_user::peer::{MAX_MESSAGE, Node};
use lb_user::shared::keys::Seed;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;

use crate::confined::proc_status;

/// A user that no /etc/passwd knows.
pub(crate) const USER: &str = "64751";

/// Long enough for whatever has to come.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A node that runs.
pub(crate) struct Running {
    pub(crate) peer: Peer,
    pub(crate) calls: Calls,
    pub(crate) node: Node,
    /// Questions that it has and does not answer.
    pub(crate) unanswered: Arc<AtomicUsize>,
}

/// What a node is known by: its own for each number, at an address that no other test has.
pub(crate) fn known(number: u8) -> Node {
    Node { name: format!("n{number}"), address: address(), key: seed(number).public() }
}

pub(crate) fn seed(number: u8) -> Seed {
    Seed([number; 32])
}

fn address() -> Ipv4Addr {
    static LAST: AtomicU8 = AtomicU8::new(1);
    let [low, high, ..] = std::process::id().to_le_bytes();
    Ipv4Addr::new(127, 64 + (high & 63), low, LAST.fetch_add(1, Ordering::Relaxed))
}

/// Those who know each other.
pub(crate) async fn cluster<const N: usize>() -> [Running; N] {
    let nodes: Vec<Node> = (1..=u8::try_from(N).unwrap()).map(known).collect();
    let all: Vec<Running> = (1..).zip(&nodes).map(|(number, node)| start(number, node, &nodes)).collect();
    for running in &all {
        running.reaches_all().await;
    }
    let Ok(all) = all.try_into() else { panic!("as many as were started") };
    all
}

/// Starts `node`, which has the key of this number and knows `nodes`.
pub(crate) fn start(number: u8, node: &Node, nodes: &[Node]) -> Running {
    let spec = Spec { listener: Some(listen(node.address).unwrap()), ..spec(number, nodes) };
    let mut peer = Peer::start(spec).unwrap();
    let unanswered = Arc::default();
    tokio::spawn(answer(node.name.clone(), peer.asked().unwrap(), Arc::clone(&unanswered)));
    Running { calls: peer.calls(), peer, node: node.clone(), unanswered }
}

/// What somebody starts with who has the key of this number, and does not listen.
pub(crate) fn spec(number: u8, nodes: &[Node]) -> Spec {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test starts a process as another user: run it as root"
    );
    Spec {
        program: PathBuf::from(env!("CARGO_BIN_EXE_rollcall")),
        user: USER.to_owned(),
        me: format!("n{number}"),
        seed: seed(number),
        listener: None,
        nodes: nodes.to_vec(),
    }
}

/// Answers as the question wants it.
async fn answer(me: String, mut asked: mpsc::Receiver<Asked>, unanswered: Arc<AtomicUsize>) {
    let mut kept = Vec::new();
    while let Some(Asked { from, bytes, answer }) = asked.recv().await {
        match &bytes[..] {
            b"silence" => {
                kept.push(answer);
                unanswered.store(kept.len(), Ordering::Relaxed);
            }
            b"refuse" => drop(answer),
            b"long" => answer.give(vec![5; MAX_MESSAGE]),
            b"binding" => match from {
                Asker::Stranger { binding, .. } => answer.give(binding.to_vec()),
                Asker::Node(_) => answer.give(Vec::new()),
            },
            _ => {
                let from = match from {
                    Asker::Node(name) => name,
                    Asker::Stranger { .. } => "a stranger".to_owned(),
                };
                answer.give(format!("{me} heard {} bytes of {from}", bytes.len()).into_bytes());
            }
        }
    }
}

impl Running {
    /// Asks `node` something that it answers at once.
    pub(crate) async fn asks(&self, node: &str) -> String {
        String::from_utf8(self.calls.call(node, b"hello".to_vec(), LONG).await.unwrap()).unwrap()
    }

    /// Waits until it has so many questions that it does not answer.
    pub(crate) async fn leaves_unanswered(&self, count: usize) {
        for _ in 0..3000 {
            if self.unanswered.load(Ordering::Relaxed) == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never had {count} questions");
    }

    pub(crate) async fn reaches_all(&self) {
        self.status_becomes(|status| status.nodes.values().all(|reach| *reach == Reach::Yes)).await;
    }

    pub(crate) async fn status_becomes(&self, wanted: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
        let mut status = self.peer.status();
        let waited = tokio::time::timeout(LONG, status.wait_for(|status| wanted(status))).await;
        match waited {
            Ok(status) => status.unwrap().clone(),
            Err(_) => panic!("the status never became that: {:?}", self.peer.status().borrow()),
        }
    }

    /// Its child's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.peer.status().borrow().pid.unwrap()
    }

    pub(crate) fn kill(&self) {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), Signal::KILL).unwrap();
    }

    /// What its child has in memory, or had at most (`VmRSS`, `VmHWM`), bytes.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let value = proc_status(self.pid(), field);
        value.split(' ').next().unwrap().parse::<u64>().unwrap() * 1024
    }
}
