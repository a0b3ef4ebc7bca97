//! Keeps one child running: starts it, tells it what is wanted and asked, hears it, and replaces it when it fails.
//!
//! Of what a child says, at most one message that is coming and the questions that nobody has taken yet are kept here; answers are for
//! who waits for them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::error::Fault;
use super::pending::{About, Pending};
use super::{Answer, Asked, Asker, Greeted, PeerStatus, Queued, Reach};
use crate::child::{Pauses, Ward, see_out};
use crate::clock::Time;
use crate::peer::channel::{Down, Start, Up, Why};
use crate::peer::frame::Frame;
use crate::peer::stream::{Frames, write};
use crate::peer::{MOST_OF_NODE, Node};
use crate::proxy::child::Child;
use crate::proxy::fds;
use crate::proxy::spawn::{Account, Program};
use crate::shared::keys::Seed;

/// What is wanted of the child; the latest counts.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The other nodes.
    pub(super) nodes: Arc<Vec<Node>>,
    /// Strangers that may be connected.
    pub(super) admit: u8,
    /// Its end.
    pub(super) stop: bool,
}

/// What children are started with.
pub(super) struct Means {
    pub(super) account: Account,
    pub(super) program: Program,
    pub(super) me: String,
    pub(super) seed: Seed,
    pub(super) listener: Option<OwnedFd>,
}

/// Starts children, one after the other.
pub(super) struct Keeper {
    pub(super) means: Means,
    pub(super) desk: Desk,
    pub(super) queued: mpsc::UnboundedReceiver<Queued>,
    pub(super) wanted: watch::Receiver<Wanted>,
}

/// Where what children say goes.
pub(super) struct Desk {
    pub(super) pending: Arc<Pending>,
    pub(super) queue: mpsc::UnboundedSender<Queued>,
    pub(super) asked: mpsc::Sender<Asked>,
    pub(super) status: watch::Sender<PeerStatus>,
}

impl Keeper {
    /// Until it is told to stop, or nobody is left who could.
    pub(super) async fn run(mut self) {
        let mut pauses = Pauses::new();
        for number in 1.. {
            let began = Time::now();
            let ended = self.one_child(number).await;
            self.desk.pending.fail_all();
            self.desk.gone();
            let Err(fault) = ended else { break };
            let pause = pauses.after(Time::now().since(began));
            let error = anyhow::Error::from(fault);
            tracing::warn!("the child that talks to other nodes is started again in {pause:?}: {error:#}");
            if timeout(pause, stopped(self.wanted.clone())).await.is_ok() {
                break;
            }
            self.desk.status.send_modify(|status| status.restarts += 1);
        }
        self.desk.pending.stop();
    }

    /// Starts a child and stays with it until its end, which is wanted or a fault.
    async fn one_child(&mut self, number: u64) -> Result<(), Fault> {
        let told = self.wanted.borrow_and_update().clone();
        let (child, channel) = self.means.start(&told.nodes).await?;
        self.desk.list(&[], &told.nodes);
        self.desk.status.send_modify(|status| status.pid = Some(child.id()));
        let (from, to) = channel.into_split();
        let questions = Questions::default();
        let mut teller = Teller {
            to,
            told: Wanted { admit: 0, ..told },
            child: number,
            questions: &questions,
            desk: &self.desk,
            wanted: self.wanted.clone(),
            queued: &mut self.queued,
        };
        let mut hearer = Hearer {
            from: Frames::new(from, Up::limits),
            child: number,
            questions: &questions,
            desk: &self.desk,
            wanted: &self.wanted,
        };
        let ended = tokio::select! {
            () = stopped(self.wanted.clone()) => Ok(()),
            fault = hearer.hear() => Err(fault),
            fault = teller.tell() => Err(fault),
        };
        // It sees its channel's end by that.
        drop((teller, hearer));
        match (ended, see_out(&child).await) {
            (Err(Fault::Closed), Some(status)) => Err(Fault::Exit(status)),
            (ended, _) => ended,
        }
    }
}

/// Waits until the end is wanted, or nobody could want anything any more.
async fn stopped(mut wanted: watch::Receiver<Wanted>) {
    drop(wanted.wait_for(|wanted| wanted.stop).await);
}

impl Means {
    async fn start(&self, nodes: &[Node]) -> Result<(Child, UnixStream), Fault> {
        let (ours, theirs) = StdUnixStream::pair().map_err(Fault::System)?;
        let start = Start { me: self.me.clone(), seed: self.seed, nodes: nodes.to_vec() };
        let frame = Down::Start(Box::new(start)).into_frame();
        let socket = self.listener.as_ref().map(OwnedFd::try_clone).transpose().map_err(Fault::System)?;
        let ward = Ward::of(self.program.start("peer", self.account, theirs.into(), None)?);
        // To a process that may not read: not on the runtime's threads.
        let sent =
            tokio::task::spawn_blocking(move || send_start(&ours, &frame, socket.as_ref()).map(|()| ours));
        let sent = sent.await.map_err(io::Error::other).flatten().map_err(Fault::System)?;
        let channel = UnixStream::from_std(sent).map_err(Fault::System)?;
        Ok((ward.release().ok_or(Fault::Closed)?, channel))
    }
}

fn send_start(channel: &StdUnixStream, frame: &Frame, socket: Option<&OwnedFd>) -> io::Result<()> {
    channel.set_write_timeout(Some(START_TIMEOUT))?;
    let along: Vec<_> = socket.iter().map(|socket| socket.as_fd()).collect();
    fds::send(channel, &frame.encode(), &along)?;
    channel.set_nonblocking(true)
}

impl Desk {
    /// The child is gone.
    fn gone(&self) {
        self.status.send_modify(|status| {
            status.pid = None;
            status.nodes.values_mut().for_each(|reach| *reach = Reach::Unknown);
        });
    }

    /// Other nodes are told than `before`: what is known of those that stay is still so.
    fn list(&self, before: &[Node], nodes: &[Node]) {
        self.status.send_modify(|status| {
            let mut known = std::mem::take(&mut status.nodes);
            let mut reach =
                |node: &Node| known.remove(&node.name).filter(|_| before.contains(node)).unwrap_or_default();
            status.nodes = nodes.iter().map(|node| (node.name.clone(), reach(node))).collect();
        });
    }

    fn reached(&self, nodes: &[Node], name: &str, why: Option<Why>) {
        // One that was removed meanwhile is none of ours.
        let Some(node) = nodes.iter().find(|node| node.name == name) else { return };
        let about = About { whom: node.to_string(), key: node.key, within: Duration::ZERO };
        let reach = why.map_or(Reach::Yes, |why| Reach::No(about.error(self.pending.ours(), why)));
        self.status.send_if_modified(|status| {
            let known = status.nodes.get_mut(name);
            known.is_some_and(|known| std::mem::replace(known, reach.clone()) != reach)
        });
    }
}

/// Questions that the agent has not answered: who asked, by number. The child lets so many through and no more.
#[derive(Debug, Default)]
struct Questions(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    askers: BTreeMap<u64, Option<String>>,
    last: u64,
}

impl Questions {
    /// Each question has a number of its own, higher than the last. A node whose key was changed may ask under both.
    fn open(&self, number: u64, from: &Asker) -> Result<(), Fault> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = match from {
            Asker::Node(name) => Some(name.clone()),
            Asker::Stranger { .. } => None,
        };
        let of_it = open.askers.values().filter(|other| **other == name).count();
        if number <= open.last || of_it >= 2 * MOST_OF_NODE {
            return Err(Fault::Flood);
        }
        open.last = number;
        open.askers.insert(number, name);
        Ok(())
    }

    fn close(&self, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).askers.remove(&number);
    }
}

/// Hears a child.
struct Hearer<'a> {
    from: Frames<OwnedReadHalf>,
    child: u64,
    questions: &'a Questions,
    desk: &'a Desk,
    wanted: &'a watch::Receiver<Wanted>,
}

impl Hearer<'_> {
    async fn hear(&mut self) -> Fault {
        loop {
            // What waits to be read is read first: this process itself may have been stopped for a while.
            let heard = match timeout(SILENCE, self.from.next()).await {
                Err(_) => Err(Fault::Silent),
                Ok(Err(error)) => Err(Fault::System(error)),
                Ok(Ok(None)) => Err(Fault::Closed),
                Ok(Ok(Some(frame))) => {
                    Up::of_frame(frame).map_err(Fault::Channel).and_then(|up| self.judge(up))
                }
            };
            if let Err(fault) = heard {
                return fault;
            }
        }
    }

    fn judge(&self, up: Up) -> Result<(), Fault> {
        match up {
            Up::Alive => Ok(()),
            Up::Returned { number, result } => {
                let result = result.map(|(binding, bytes)| Greeted { bytes, binding });
                self.desk.pending.settle(number, result)
            }
            Up::Reachable { node, why } => {
                let nodes = Arc::clone(&self.wanted.borrow().nodes);
                self.desk.reached(&nodes, &node, why);
                Ok(())
            }
            Up::Asked { number, from, bytes } => {
                self.questions.open(number, &from)?;
                let answer =
                    Answer { number, child: self.child, queue: self.desk.queue.clone(), given: false };
                // Whom nobody takes here is refused: so says the answer when it is dropped.
                drop(self.desk.asked.try_send(Asked { from, bytes, answer }));
                Ok(())
            }
        }
    }
}

/// Tells a child.
struct Teller<'a> {
    to: OwnedWriteHalf,
    told: Wanted,
    child: u64,
    questions: &'a Questions,
    desk: &'a Desk,
    wanted: watch::Receiver<Wanted>,
    queued: &'a mut mpsc::UnboundedReceiver<Queued>,
}

impl Teller<'_> {
    async fn tell(&mut self) -> Fault {
        loop {
            if let Err(fault) = self.tell_wanted().await {
                return fault;
            }
            let queued = tokio::select! {
                biased;
                Ok(()) = self.wanted.changed() => continue,
                Some(queued) = self.queued.recv() => queued,
            };
            // Who waits for a call's answer may have made it after a change of what is wanted.
            let told = match self.tell_wanted().await {
                Ok(()) => self.pass_on(queued).await,
                Err(fault) => Err(fault),
            };
            if let Err(fault) = told {
                return fault;
            }
        }
    }

    async fn tell_wanted(&mut self) -> Result<(), Fault> {
        let wanted = self.wanted.borrow_and_update().clone();
        if wanted.nodes != self.told.nodes {
            self.desk.list(&self.told.nodes, &wanted.nodes);
            self.write(Down::Nodes(wanted.nodes.to_vec())).await?;
        }
        if wanted.admit != self.told.admit {
            self.write(Down::Admit(wanted.admit)).await?;
        }
        self.told = wanted;
        Ok(())
    }

    async fn pass_on(&mut self, Queued { child, down }: Queued) -> Result<(), Fault> {
        if child.is_some_and(|child| child != self.child) {
            return Ok(());
        }
        match &down {
            Down::Call { number, .. } if !self.desk.pending.is_open(*number) => return Ok(()),
            // First: the child may let the next one through at once.
            Down::Answer { number, .. } => self.questions.close(*number),
            Down::Call { .. } | Down::Start(_) | Down::Nodes(_) | Down::Admit(_) => {}
        }
        self.write(down).await
    }

    async fn write(&mut self, down: Down) -> Result<(), Fault> {
        let Err(error) = write(&mut self.to, &down.into_frame(), DEAF).await else { return Ok(()) };
        let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        if error.kind() == io::ErrorKind::TimedOut {
            Err(Fault::Deaf)
        } else if gone.contains(&error.kind()) {
            Err(Fault::Closed)
        } else {
            Err(Fault::System(error))
        }
    }
}

/// How long a child may take to read what it begins with.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A child speaks every second.
const SILENCE: Duration = Duration::from_secs(10);

/// How long it may take to read 16 KiB.
const DEAF: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
