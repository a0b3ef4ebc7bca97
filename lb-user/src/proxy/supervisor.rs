//! The agent's side of the proxy: keeps the listening sockets, keeps one child serving them, and tells how it does.
//!
//! What the child says is judged by `Book`, which is pure; a child that says anything else, or nothing, is replaced. The
//! sockets stay here meanwhile, so that clients wait in the kernel's queue instead of being refused.

mod book;
mod error;
mod handover;
mod keeper;
mod passage;
pub mod question;
mod settings;

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::book::Book;
pub use self::error::{ApplyError, ReplaceError, SupervisorError};
pub(crate) use self::handover::{bind, listen_at};
pub use self::handover::{end_left, is_left, take_listeners};
use self::keeper::{Ask, Guessers, Keeper, Means, Sockets};
pub use self::passage::{Left, Words};
pub use self::settings::snapshot;
use super::channel::ServerState;
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
    /// Folder for `handover.sock` and `questions.sock`; exists, and only root writes there.
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
    served: watch::Receiver<Arc<Snapshot>>,
    states: States,
    asks: mpsc::Sender<Ask>,
    news: Option<mpsc::Receiver<News>>,
    task: JoinHandle<Option<Left>>,
}

/// Something that an operator should know of the proxy's workers.
#[derive(Clone, Debug)]
pub struct News {
    /// The kind of event.
    pub kind: &'static str,
    /// Whether it could wake someone.
    pub warning: bool,
    /// A sentence.
    pub text: String,
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
        // Last of what can fail: it leaves a socket in the run folder.
        let sockets = Arc::new(Sockets::new(&spec)?);
        let left = Left { sockets, book, running: None, retiring: None, drain: false, drained: false };
        Ok(Self::keep(left, Means { account, program, log: spec.log }))
    }

    /// Goes on with what the program before this one left: its child runs, and is told nothing. Further children are started
    /// from `program` as `user`, with `log` as in [`Spec::log`]; where that is another program than the child's, one takes over from
    /// it. Within a Tokio runtime.
    pub fn resume_from(
        left: Left,
        program: &Path,
        user: &str,
        log: Option<OwnedFd>,
    ) -> Result<Self, SupervisorError> {
        let (account, program) = (Account::find(user)?, Program::open(program)?);
        Ok(Self::keep(left, Means { account, program, log }))
    }

    fn keep(left: Left, means: Means) -> Self {
        let (wanted, wanted_seen) = watch::channel(if left.drain { Wanted::Drain } else { Wanted::Serve });
        let (publish, status) = watch::channel(left.book.status.clone());
        let (drained_publish, drained) = watch::channel(left.drained);
        let (serve, served) = watch::channel(Arc::clone(&left.sockets.snapshot));
        let states = States::default();
        let ((asks, asked), (tell, news)) = (mpsc::channel(4), mpsc::channel(64));
        let means = Arc::new(means);
        let before = left.running.as_ref().and_then(|running| running.program);
        tokio::spawn(replace_another(Arc::clone(&means), before, asks.clone()));
        let keeper = Keeper {
            sockets: left.sockets,
            running: left.running,
            means,
            book: left.book,
            wanted: wanted_seen,
            states: states.0.subscribe(),
            status: publish,
            drained: drained_publish,
            served: serve,
            asks: asked,
            news: tell,
            applying: None,
            applied: 0,
            cut: Vec::new(),
            guessers: Guessers::default(),
            coming: None,
            retiring: left.retiring,
        };
        let task = tokio::spawn(keeper.run());
        Self { wanted, status, drained, served, states, asks, news: Some(news), task }
    }

    /// How the proxy does; changes with every heartbeat that says something new.
    pub fn status(&self) -> watch::Receiver<ProxyStatus> {
        self.status.clone()
    }

    /// By which operators' states of servers are changed.
    pub fn states(&self) -> States {
        self.states.clone()
    }

    /// What happens to the workers; to be asked for once.
    pub fn news(&mut self) -> Option<mpsc::Receiver<News>> {
        self.news.take()
    }

    /// By which the child is given other settings.
    pub fn changer(&self) -> Changer {
        Changer { asks: self.asks.clone(), served: self.served.clone() }
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

/// Opens the file that the access log is appended to, if it has one of its own; a new one is for root and its group to read.
pub fn open_log(path: Option<&Path>) -> Result<Option<OwnedFd>, SupervisorError> {
    let open = |path: &Path| {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
        file.map(OwnedFd::from).map_err(|source| SupervisorError::Log { path: path.to_owned(), source })
    };
    path.map(open).transpose()
}

/// The states that operators gave servers, which every child is told.
#[derive(Clone, Debug)]
pub struct States(watch::Sender<Arc<Vec<ServerState>>>);

impl Default for States {
    fn default() -> Self {
        Self(watch::Sender::new(Arc::default()))
    }
}

impl States {
    /// They.
    pub fn get(&self) -> Vec<ServerState> {
        self.0.borrow().to_vec()
    }

    /// They are these from now on; servers that are not among them are as configured.
    pub fn set(&self, states: Vec<ServerState>) {
        self.0.send_replace(Arc::new(states));
    }
}

/// Changes what a proxy serves, and which worker does.
#[derive(Clone, Debug)]
pub struct Changer {
    asks: mpsc::Sender<Ask>,
    served: watch::Receiver<Arc<Snapshot>>,
}

impl Changer {
    /// What is served: what was applied last.
    pub fn served(&self) -> Arc<Snapshot> {
        Arc::clone(&self.served.borrow())
    }

    /// Has `snapshot` served from now on; no connection ends by it. After an error the proxy serves what it served before, or, after
    /// `Died`, is started again for that.
    pub async fn apply(&self, snapshot: Snapshot) -> Result<(), ApplyError> {
        let (done, outcome) = oneshot::channel();
        let ask = Ask::Apply { snapshot: Box::new(snapshot), done };
        self.asks.send(ask).await.map_err(|_| ApplyError::Stopping)?;
        outcome.await.unwrap_or(Err(ApplyError::Stopping))
    }

    /// Has another worker take over, which serves `snapshot` if that is given: this one finishes its requests within the drain
    /// timeout. After an error it serves on.
    pub async fn replace(&self, snapshot: Option<Snapshot>) -> Result<(), ReplaceError> {
        let stopping = || ReplaceError("the proxy is being stopped".to_owned());
        let (done, outcome) = oneshot::channel();
        let ask = Ask::Replace { snapshot: snapshot.map(Box::new), done };
        self.asks.send(ask).await.map_err(|_| stopping())?;
        outcome.await.unwrap_or_else(|_| Err(stopping()))
    }
}

/// Has another worker take over from one whose program was another than that of `means`.
async fn replace_another(means: Arc<Means>, before: Option<[u8; 32]>, asks: mpsc::Sender<Ask>) {
    let digest = tokio::task::spawn_blocking(move || means.program.take_digest()).await;
    if let (Some(before), Ok(Some(digest))) = (before, digest)
        && before != digest
    {
        let (done, outcome) = oneshot::channel();
        // What comes of it is told as news.
        if asks.send(Ask::Replace { snapshot: None, done }).await.is_ok() {
            drop(outcome.await);
        }
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
