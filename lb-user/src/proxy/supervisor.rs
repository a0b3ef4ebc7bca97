//! The agent's side of the proxy: keeps the listening sockets, keeps one child serving them, and tells how it does.
//!
//! What the child says is judged by `Book`, which is pure; a child that says anything else, or nothing, is replaced. The
//! sockets stay here meanwhile, so that clients wait in the kernel's queue instead of being refused.

mod book;
mod error;
mod handover;
mod keeper;
mod passage;
mod settings;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::book::Book;
pub use self::error::SupervisorError;
pub(crate) use self::handover::bind;
pub use self::handover::{end_left, is_left, take_listeners};
use self::keeper::{Keeper, Means, Sockets};
pub use self::passage::{Left, Words};
pub use self::settings::snapshot;
use super::snapshot::Snapshot;
use super::spawn::{Account, Program};
use crate::control::api::ProxyStatus;

/// What a proxy is started with.
#[derive(Debug)]
pub struct Spec {
    /// The program that has the `proxy` subcommand: `/proc/self/exe`.
    pub program: PathBuf,
    /// Whom it runs as: a name of /etc/passwd, or a number.
    pub user: String,
    /// What it serves.
    pub snapshot: Snapshot,
    /// Its listening sockets, in the order of `Snapshot::listen`; from `take_listeners`.
    pub listeners: Vec<OwnedFd>,
    /// Folder for `handover.sock`; exists, and only root writes there.
    pub run_dir: PathBuf,
    /// Where the access log goes; `None`: to the agent's own standard output.
    pub log: Option<OwnedFd>,
}

/// A proxy that is kept running. Dropped without `stop`, it lets go of the child, which then serves on as after the death of
/// the agent.
#[derive(Debug)]
pub struct Supervisor {
    wanted: watch::Sender<Wanted>,
    status: watch::Receiver<ProxyStatus>,
    drained: watch::Receiver<bool>,
    task: JoinHandle<Option<Left>>,
}

/// What the child is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Serve,
    Drain,
    Stop,
    /// Like `Stop`, without waiting for anything.
    Kill,
    /// Be as before, under the next image of this program.
    Leave {
        /// Whether it is to drain there.
        drain: bool,
    },
}

impl Wanted {
    fn is_end(self) -> bool {
        matches!(self, Self::Stop | Self::Kill | Self::Leave { .. })
    }
}

impl Supervisor {
    /// Checks what can be checked, and starts to keep a child running. Within a Tokio runtime.
    pub fn start(spec: Spec) -> Result<Self, SupervisorError> {
        let (account, program) = (Account::find(&spec.user)?, Program::open(&spec.program)?);
        let book = Book::new(&spec.snapshot);
        let drain_timeout = spec.snapshot.drain_timeout;
        // Last of what can fail: it leaves a socket in the run folder.
        let sockets = Arc::new(Sockets::new(&spec)?);
        let left = Left { sockets, book, running: None, drain: false, drained: false };
        Ok(Self::keep(left, Means { account, program, log: spec.log, drain_timeout }))
    }

    /// Goes on with what the program before this one left: its child runs, and is told nothing. Further children are started
    /// from `program` as `user`. Within a Tokio runtime.
    pub fn resume_from(left: Left, program: &Path, user: &str) -> Result<Self, SupervisorError> {
        let (account, program) = (Account::find(user)?, Program::open(program)?);
        let drain_timeout = left.snapshot()?.drain_timeout;
        Ok(Self::keep(left, Means { account, program, log: None, drain_timeout }))
    }

    fn keep(left: Left, means: Means) -> Self {
        let (wanted, wanted_seen) = watch::channel(if left.drain { Wanted::Drain } else { Wanted::Serve });
        let (publish, status) = watch::channel(left.book.status.clone());
        let (drained_publish, drained) = watch::channel(left.drained);
        let keeper = Keeper {
            sockets: left.sockets,
            running: left.running,
            means,
            book: left.book,
            wanted: wanted_seen,
            status: publish,
            drained: drained_publish,
        };
        let task = tokio::spawn(keeper.run());
        Self { wanted, status, drained, task }
    }

    /// How the proxy does; changes with every heartbeat that says something new.
    pub fn status(&self) -> watch::Receiver<ProxyStatus> {
        self.status.clone()
    }

    /// Lets connections end: each is served once more, and what is in flight ends within the drain timeout. New connections
    /// are still accepted.
    pub fn drain(&self) {
        self.want(Wanted::Drain);
    }

    /// Whether the connections of before `drain` are gone.
    pub fn drained(&self) -> watch::Receiver<bool> {
        self.drained.clone()
    }

    /// Serves as before `drain`.
    pub fn resume(&self) {
        self.want(Wanted::Serve);
    }

    /// Stops the proxy: accepts no more, waits for what is in flight up to the drain timeout, then kills it if need be.
    pub async fn stop(self) {
        self.want(Wanted::Stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the proxy's supervisor failed");
        }
    }

    /// Stops the proxy without waiting for what is in flight. Also cuts a `stop` short that is under way elsewhere.
    pub fn killer(&self) -> Killer {
        Killer(self.wanted.clone())
    }

    /// Lets go of the child without a word to it, for `resume_from` in the next image of this program; nothing is closed. `None` if
    /// the supervisor has ended.
    pub async fn leave(self) -> Option<Left> {
        self.wanted.send_modify(|wanted| {
            if !wanted.is_end() {
                *wanted = Wanted::Leave { drain: *wanted == Wanted::Drain };
            }
        });
        self.task.await.ok().flatten()
    }

    fn want(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|now| std::mem::replace(now, wanted) != wanted);
    }
}

/// Ends a proxy whose supervisor is being waited for.
#[derive(Clone, Debug)]
pub struct Killer(watch::Sender<Wanted>);

impl Killer {
    /// Ends it now.
    pub fn kill(&self) {
        self.0.send_replace(Wanted::Kill);
    }
}
