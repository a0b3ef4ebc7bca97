//! The agent's side: keeps one `rollcall peer` running, asks other nodes through it, and hears what they ask.
//!
//! What the child says is parsed as hostile: whatever is not exactly a message that it may send ends it, and another is started
//! (`keeper`). The listening socket stays here meanwhile, so that other nodes wait in the kernel's queue instead of being refused.
//!
//! The child ends with its channel: a `Peer` that is dropped with all its `Calls`, and an agent that dies, leave none behind.

mod error;
mod keeper;
mod pending;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::keeper::{Desk, Keeper, Means, Wanted};
use self::pending::{About, Pending, Ticket};
use super::channel::{Down, Target};
use super::{MAX_MESSAGE, MOST_OF_NODE, Node};
use crate::config::model::PEER_PORT;
use crate::proxy::spawn::{Account, Program};
use crate::proxy::supervisor::listen_at;
use crate::shared::keys::{Seed, VerifyingKey};

pub use self::error::{CallError, PeerError};
pub use super::channel::Trouble;

/// What a child is started with.
#[derive(Debug)]
pub struct Spec {
    /// The program that has the `peer` subcommand: `/proc/self/exe`.
    pub program: PathBuf,
    /// Whom it runs as: a name of /etc/passwd, or a number. Never root.
    pub user: String,
    /// This node's name, for the child's log.
    pub me: String,
    /// What this node's transport key is made from.
    pub seed: Seed,
    /// From [`listen`]; none: this node asks and is not asked (a node that joins).
    pub listener: Option<OwnedFd>,
    /// The other nodes, at most `MOST_NODES`. This one may be among them; it is left out, known by its key.
    pub nodes: Vec<Node>,
}

/// The listening socket of this node's own address, TCP port `PEER_PORT`; also while connections of before are still open there.
pub fn listen(address: Ipv4Addr) -> Result<OwnedFd, PeerError> {
    listen_at(SocketAddr::from((address, PEER_PORT))).map_err(|source| PeerError::Listen { address, source })
}

/// A child that is kept running. Without [`Peer::stop`], it ends soon after this and all its [`Calls`] were dropped.
#[derive(Debug)]
pub struct Peer {
    calls: Calls,
    asked: Option<mpsc::Receiver<Asked>>,
    status: watch::Receiver<PeerStatus>,
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

impl Peer {
    /// Checks what can be checked, and starts to keep a child running. Within a Tokio runtime.
    pub fn start(spec: Spec) -> Result<Self, PeerError> {
        let (account, program) = (Account::find(&spec.user)?, Program::open(&spec.program)?);
        let ours = spec.seed.public();
        let nodes = others(spec.nodes, ours);
        Down::check_start(&spec.me, &nodes)?;
        let pending = Arc::new(Pending::new(ours));
        let (queue, queued) = mpsc::unbounded_channel();
        let (tell, asked) = mpsc::channel(MOST_ASKED);
        let (publish, status) = watch::channel(PeerStatus::of(&nodes));
        let (wanted, wanted_seen) = watch::channel(Wanted { nodes: Arc::new(nodes), admit: 0, stop: false });
        let Spec { me, seed, listener, .. } = spec;
        let means = Means { account, program, me, seed, listener };
        let desk = Desk { pending: Arc::clone(&pending), queue: queue.clone(), asked: tell, status: publish };
        let keeper = Keeper { means, desk, queued, wanted: wanted_seen };
        let task = tokio::spawn(keeper.run());
        let calls = Calls { pending, queue, wanted: wanted.clone() };
        Ok(Self { calls, asked: Some(asked), status, wanted, task })
    }

    /// By which other nodes are asked.
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// What other nodes ask; to be asked for once. Whoever has it should answer each within seconds: a node may have
    /// `MOST_OF_NODE` open, strangers `MOST_OF_STRANGERS`. Questions that nobody takes here are refused.
    pub fn asked(&mut self) -> Option<mpsc::Receiver<Asked>> {
        self.asked.take()
    }

    /// How the child and its connections to the nodes do.
    pub fn status(&self) -> watch::Receiver<PeerStatus> {
        self.status.clone()
    }

    /// Ends the child, and waits for its end: then nobody else holds the listening socket.
    pub async fn stop(self) {
        self.wanted.send_modify(|wanted| wanted.stop = true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the peer child's supervisor failed");
        }
    }
}

/// Asks other nodes, and says which there are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Calls {
    pending: Arc<Pending>,
    queue: mpsc::UnboundedSender<Queued>,
    wanted: watch::Sender<Wanted>,
}

impl Calls {
    /// Asks `node`, which must be listed, and waits for its answer. At most `MOST_OF_NODE` calls to one node are under way at a time,
    /// others wait for their turn; `within` counts all of it. Dropped, it is not waited for any more.
    pub async fn call(&self, node: &str, bytes: Vec<u8>, within: Duration) -> Result<Vec<u8>, CallError> {
        let known = self.wanted.borrow().nodes.iter().find(|known| known.name == node).cloned();
        let Some(node) = known else {
            return Err(CallError::NoSuchNode { node: node.to_owned() });
        };
        let about = About { whom: node.to_string(), key: node.key, within };
        let answer = self.ask(about, Target::Node(node.name), bytes).await?;
        Ok(answer.bytes)
    }

    /// Asks whoever listens at `address` and has `key`: for joining. While a connection lives (60 s after the last question), greetings
    /// of one address and key share it, and with it the channel binding: so a first one can ask for what a second one proves.
    pub async fn greet(
        &self,
        address: Ipv4Addr,
        key: VerifyingKey,
        bytes: Vec<u8>,
        within: Duration,
    ) -> Result<Greeted, CallError> {
        let about = About { whom: address.to_string(), key, within };
        self.ask(about, Target::Stranger { address, key }, bytes).await
    }

    /// These are the nodes from now on; connections of and to others end, and what is asked of those comes to nothing. Over a limit,
    /// nothing changes.
    pub fn set_nodes(&self, nodes: Vec<Node>) -> Result<(), PeerError> {
        let nodes = others(nodes, self.pending.ours());
        Down::check_nodes(&nodes)?;
        self.wanted.send_modify(|wanted| wanted.nodes = Arc::new(nodes));
        Ok(())
    }

    /// At most this many strangers may be connected at once; with 0 (as at the start) none are let in, and those who have asked get
    /// their answer yet.
    pub fn admit(&self, strangers: u8) {
        self.wanted.send_modify(|wanted| wanted.admit = strangers);
    }

    async fn ask(&self, about: About, target: Target, bytes: Vec<u8>) -> Result<Greeted, CallError> {
        let About { whom, within, .. } = about.clone();
        if bytes.len() > MAX_MESSAGE {
            return Err(CallError::TooLong { whom, length: bytes.len() });
        }
        let asked = async {
            let Some(_place) = self.pending.place(&target).await else { return Err(CallError::Stopped) };
            let Ticket { number, answer, .. } = &mut self.pending.ticket(about);
            let call = Down::Call { number: *number, within, target, bytes };
            if self.queue.send(Queued { child: None, down: call }).is_err() {
                return Err(CallError::Stopped);
            }
            answer.await.unwrap_or(Err(CallError::Stopped))
        };
        tokio::time::timeout(within, asked).await.unwrap_or(Err(CallError::TimedOut { whom, within }))
    }
}

/// An answer to a greeting, or a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeted {
    /// The answer.
    pub bytes: Vec<u8>,
    /// The channel binding of the TLS connection that it came over (`tls-exporter`, RFC 9266): the same at both ends, and of this
    /// connection alone.
    pub binding: [u8; 32],
}

/// A question of another node. Dropped without an answer, it is refused.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub from: Asker,
    /// What.
    pub bytes: Vec<u8>,
    /// Where the answer goes.
    pub answer: Answer,
}

/// Who asks something. The child says so: one that was taken over may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The listed node of this name.
    Node(String),
    /// Somebody whose key is not listed.
    Stranger {
        /// Its key, whose private part it has.
        key: VerifyingKey,
        /// Where it comes from.
        address: IpAddr,
        /// As in [`Greeted::binding`].
        binding: [u8; 32],
    },
}

/// Gives an answer, once.
#[derive(Debug)]
pub struct Answer {
    number: u64,
    child: u64,
    queue: mpsc::UnboundedSender<Queued>,
    given: bool,
}

impl Answer {
    /// Gives it. One over `MAX_MESSAGE` bytes is refused, and told of in the log.
    pub fn give(mut self, bytes: Vec<u8>) {
        if bytes.len() > MAX_MESSAGE {
            tracing::error!(length = bytes.len(), "an answer to another node is over the limit");
            return;
        }
        self.put(Some(bytes));
    }

    fn put(&mut self, bytes: Option<Vec<u8>>) {
        self.given = true;
        // Whoever asked has gone with the supervisor.
        let down = Down::Answer { number: self.number, bytes };
        drop(self.queue.send(Queued { child: Some(self.child), down }));
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.given {
            self.put(None);
        }
    }
}

/// Something to be told.
#[derive(Debug)]
struct Queued {
    /// It is for this child, and none that comes after it.
    child: Option<u64>,
    down: Down,
}

/// How the child does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its process id, while there is one.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u64,
    /// Each listed other node.
    pub nodes: BTreeMap<String, Reach>,
}

impl PeerStatus {
    fn of(nodes: &[Node]) -> Self {
        let nodes = nodes.iter().map(|node| (node.name.clone(), Reach::Unknown)).collect();
        Self { nodes, ..Self::default() }
    }
}

/// Whether a node is connected to. Each is asked for a sign of life every 15 s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Not tried yet, or the child is being started.
    #[default]
    Unknown,
    /// Connected.
    Yes,
    /// Not, and why; it is tried again every 5 s at the latest.
    No(CallError),
}

/// Without this node.
fn others(mut nodes: Vec<Node>, ours: VerifyingKey) -> Vec<Node> {
    nodes.retain(|node| node.key != ours);
    nodes
}

/// Questions that may wait for the agent to take them.
const MOST_ASKED: usize = 2 * MOST_OF_NODE;
