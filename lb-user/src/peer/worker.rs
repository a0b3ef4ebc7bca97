//! The child: gets what it begins with over standard input, locks itself in, connects the node to the others. Runs as a user of its own.
//!
//! ```text
//! hide -> Start comes -> confine -> serve -> the agent's end closes -> exit
//! ```
//! One thread: what nodes say to each other is little, and none of it hurries. Bytes that it holds at most: 8 of the longest messages
//! that are being received or on their way to the agent; for each node 4 answers that it does not take, for 10 s; for each connection
//! 5 short messages; and what the agent asks, which it bounds itself.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener as StdTcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::channel::{ChannelError, Down, Start, Target, Up, Why};
use super::frame::{Decoder, FrameError};
use super::inbound::{Hall, Upward};
use super::outbound::{Call, Link, Owed, Report};
use super::stream::{Frames, write};
use super::talk::Room;
use super::tls::Identity;
use super::{Node, stream};
use crate::child;
use crate::config::model::PEER_PORT;
use crate::proxy::fds;
use crate::sandbox::{self, SandboxError};
use crate::shared::keys::VerifyingKey;

/// The hidden subcommand `rollcall peer`: returns when the worker is done.
pub fn main() -> ExitCode {
    child::run(c"rollcall-peer", run)
}

fn run() -> Result<(), WorkerError> {
    let work = prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(WorkerError::System)?.block_on(serve(work))
}

/// What a worker holds once it is locked in: all it will ever get.
struct Work {
    start: Start,
    channel: StdUnixStream,
    listener: Option<StdTcpListener>,
}

/// Everything before the first byte from the network.
fn prepare() -> Result<Work, WorkerError> {
    sandbox::hide()?;
    let channel = io::stdin().as_fd().try_clone_to_owned().map_err(WorkerError::System)?;
    let channel = StdUnixStream::from(channel);
    let (start, fds) = receive_start(&channel)?;
    let mut listeners = fds.into_iter().map(StdTcpListener::from);
    let (listener, None) = (listeners.next(), listeners.next()) else {
        return Err(WorkerError::Sockets);
    };
    let confined = sandbox::confine(&[PEER_PORT].into())?;
    tracing::info!(%confined, me = start.me, "the child that talks to other nodes is locked in");
    Ok(Work { start, channel, listener })
}

fn receive_start(channel: &StdUnixStream) -> Result<(Start, Vec<OwnedFd>), WorkerError> {
    let (mut decoder, mut fds) = (Decoder::new(Down::limits), Vec::new());
    let mut buffer = vec![0; stream::CHUNK];
    loop {
        // One frame at a time: what follows it is read when serving.
        let wanted = decoder.missing()?.min(buffer.len());
        let received = fds::receive(channel, &mut buffer[..wanted], &mut fds).map_err(WorkerError::System)?;
        if received == 0 {
            return Err(WorkerError::NoStart);
        }
        if let Some(frame) = decoder.take(&mut &buffer[..received])? {
            let Down::Start(start) = Down::of_frame(frame)? else { return Err(WorkerError::NoStart) };
            return Ok((*start, fds));
        }
    }
}

async fn serve(work: Work) -> Result<(), WorkerError> {
    let Work { start, channel, listener } = work;
    channel.set_nonblocking(true).map_err(WorkerError::System)?;
    let listener = listener.map(TcpListener::from_std).transpose().map_err(WorkerError::System)?;
    let (from, to) = UnixStream::from_std(channel).map_err(WorkerError::System)?.into_split();
    // SIGTERM, which whoever stops a whole service sends to us as to the agent, is for the agent: we end with it.
    let _terminate = signal(SignalKind::terminate()).map_err(WorkerError::System)?;
    let ((up, upward), reach, room) = (mpsc::unbounded_channel(), watch::Sender::default(), Room::default());
    let identity = Identity::new(&start.seed).map_err(WorkerError::Key)?;
    let hall = Arc::new(Hall::new(up.clone(), room.clone()));
    let mut telling = tokio::spawn(tell(to, upward, reach.subscribe()));
    let mut worker = Worker {
        from: Frames::new(from, Down::limits),
        hall,
        links: BTreeMap::new(),
        greetings: BTreeMap::new(),
        reach: Arc::new(reach),
        linked: 0,
        identity,
        room,
        up,
    };
    worker.set_nodes(start.nodes);
    tokio::select! {
        ended = worker.run(listener) => ended,
        _ = &mut telling => Ok(()),
    }
}

/// How each link is, and which one of that name: another after its node was changed.
type Reaches = BTreeMap<String, (u64, Option<Why>)>;

/// Tells the agent what there is to tell, and each second that this process lives, until it is gone.
async fn tell(
    mut to: OwnedWriteHalf,
    mut upward: mpsc::UnboundedReceiver<Upward>,
    mut reach: watch::Receiver<Reaches>,
) -> io::Result<()> {
    let mut tick = interval(HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Reaches::new();
    loop {
        let (say, _kept) = tokio::select! {
            Some(Upward { up, kept }) = upward.recv() => (vec![up], kept),
            Ok(()) = reach.changed() => {
                let now = reach.borrow_and_update().clone();
                let news = now.iter().filter(|(node, state)| told.get(*node) != Some(state));
                let news = news.map(|(node, (_, why))| Up::Reachable { node: node.clone(), why: *why }).collect();
                told = now;
                (news, None)
            }
            _ = tick.tick() => (vec![Up::Alive], None),
        };
        for up in say {
            // An agent that reads nothing is stopped, perhaps by a debugger; one that is gone closes its end.
            write(&mut to, &up.into_frame(), Duration::from_secs(86_400)).await?;
        }
    }
}

struct Worker {
    from: Frames<OwnedReadHalf>,
    hall: Arc<Hall>,
    /// By the node's name.
    links: BTreeMap<String, Linked>,
    /// Connections for joining.
    greetings: BTreeMap<Target, mpsc::UnboundedSender<Call>>,
    reach: Arc<watch::Sender<Reaches>>,
    /// How many links there were.
    linked: u64,
    identity: Identity,
    room: Room,
    up: mpsc::UnboundedSender<Upward>,
}

/// A node's link.
struct Linked {
    node: Node,
    calls: mpsc::UnboundedSender<Call>,
    task: AbortHandle,
}

impl Worker {
    async fn run(&mut self, listener: Option<TcpListener>) -> Result<(), WorkerError> {
        let accept = async || match &listener {
            Some(listener) => listener.accept().await,
            None => std::future::pending().await,
        };
        loop {
            tokio::select! {
                frame = self.from.next() => match frame {
                    Ok(Some(frame)) => self.obey(Down::of_frame(frame)?)?,
                    // The agent is gone.
                    Ok(None) | Err(_) => return Ok(()),
                },
                accepted = accept() => match accepted {
                    Ok((stream, from)) => self.hall.receive(stream, from, &self.identity),
                    // Connections that were given up in the queue, or too few descriptors: others end.
                    Err(error) => {
                        tracing::debug!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn obey(&mut self, down: Down) -> Result<(), WorkerError> {
        match down {
            Down::Start(_) => return Err(WorkerError::SecondStart),
            Down::Nodes(nodes) => self.set_nodes(nodes),
            Down::Admit(strangers) => {
                let cut = self.hall.doors().admit(strangers.into());
                self.hall.cut(&cut);
            }
            Down::Answer { number, bytes } => self.hall.answer(number, bytes),
            Down::Call { number, within, target, bytes } => {
                let deadline = Instant::now() + within.min(LONGEST_CALL);
                let owed = Owed::new(number, self.up.clone());
                self.call(target, Call { bytes, deadline, owed });
            }
        }
        Ok(())
    }

    fn call(&mut self, target: Target, call: Call) {
        match &target {
            Target::Node(name) => match self.links.get(name) {
                // A link ends only when it is removed here.
                Some(linked) => drop(linked.calls.send(call)),
                None => call.owed.fail(Why::NoSuchNode),
            },
            Target::Stranger { address, key } => {
                self.greetings.retain(|_, calls| !calls.is_closed());
                let calls = match self.greetings.get(&target) {
                    Some(calls) => calls.clone(),
                    None => {
                        let (calls, link) = self.link(*address, *key, Box::new(|_| {}));
                        tokio::spawn(link.greet());
                        self.greetings.insert(target, calls.clone());
                        calls
                    }
                };
                drop(calls.send(call));
            }
        }
    }

    /// These are the nodes: links of others end, and so do connections of others.
    fn set_nodes(&mut self, nodes: Vec<Node>) {
        let cut = self.hall.doors().set_nodes(&nodes);
        self.hall.cut(&cut);
        let wanted: BTreeMap<&str, &Node> = nodes.iter().map(|node| (node.name.as_str(), node)).collect();
        self.links.retain(|name, linked| {
            let stays = wanted.get(name.as_str()) == Some(&&linked.node);
            if !stays {
                linked.task.abort();
            }
            stays
        });
        self.reach.send_if_modified(|reach| {
            let before = reach.len();
            reach.retain(|name, _| self.links.contains_key(name));
            reach.len() != before
        });
        for node in nodes {
            if !self.links.contains_key(&node.name) {
                self.add(node);
            }
        }
    }

    fn add(&mut self, node: Node) {
        self.linked += 1;
        let (number, name, reach) = (self.linked, node.name.clone(), Arc::clone(&self.reach));
        let report = move |why| {
            reach.send_if_modified(|reach| reach.insert(name.clone(), (number, why)) != Some((number, why)));
        };
        let (calls, link) = self.link(node.address, node.key, Box::new(report));
        let task = tokio::spawn(link.keep()).abort_handle();
        self.links.insert(node.name.clone(), Linked { node, calls, task });
    }

    fn link(
        &self,
        address: Ipv4Addr,
        key: VerifyingKey,
        report: Report,
    ) -> (mpsc::UnboundedSender<Call>, Link) {
        let (send, calls) = mpsc::unbounded_channel();
        let (identity, room) = (self.identity.clone(), self.room.clone());
        (send, Link { address, key, identity, room, calls, report })
    }
}

/// Why the worker ends. The agent starts another.
#[derive(Debug, Error)]
enum WorkerError {
    /// It cannot lock itself in.
    #[error("cannot lock the child that talks to other nodes in")]
    Sandbox(#[from] SandboxError),
    /// The agent's words cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// They are none.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The first word is another, or none came.
    #[error("nothing came over standard input; `rollcall peer` is started by `rollcall run`, not by hand")]
    NoStart,
    /// A second `Start`.
    #[error("it was told to start twice")]
    SecondStart,
    /// More than one.
    #[error("more than one listening socket came")]
    Sockets,
    /// TLS does not take the key.
    #[error("the transport key cannot be used")]
    Key(#[source] rustls::Error),
    /// The system refused something.
    #[error("the system refused")]
    System(#[source] io::Error),
}

/// Time between signs of life to the agent.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// No call waits for longer.
const LONGEST_CALL: Duration = Duration::from_secs(3600);
