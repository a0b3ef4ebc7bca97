//! The agent's side: keeps one `rollcall store` running while there is an etcd to talk to, and asks through it.
//!
//! What the child says is parsed as hostile: whatever is not exactly a message that it may send ends it, and another is started.
//! The child ends with its channel.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::Settings;
use super::channel::{ChannelError, Down, Up};
use super::request::{Reply, Request};
use crate::child::{Pauses, Ward, see_out};
use crate::clock::Time;
use crate::peer::MAX_MESSAGE;
use crate::peer::stream::{Frames, write};
use crate::proxy::spawn::{Account, Program, SpawnError};

/// What a child is started with.
#[derive(Debug)]
pub struct Spec {
    /// The program that has the `store` subcommand: `/proc/self/exe`.
    pub program: PathBuf,
    /// Whom it runs as: a name of /etc/passwd, or a number. Never root.
    pub user: String,
}

/// Keeps the child running.
#[derive(Debug)]
pub struct Supervisor {
    store: Store,
    wanted: watch::Sender<Wanted>,
    pid: watch::Receiver<Option<u32>>,
    task: JoinHandle<()>,
}

/// What is wanted; the latest counts.
#[derive(Clone, Debug, Default)]
struct Wanted {
    settings: Option<Arc<Settings>>,
    stop: bool,
}

impl Supervisor {
    /// Checks what can be checked; a child is started once there is something to talk to. Within a Tokio runtime.
    pub fn start(spec: &Spec) -> Result<Self, SpawnError> {
        let (account, program) = (Account::find(&spec.user)?, Program::open(&spec.program)?);
        let (wanted, seen) = watch::channel(Wanted::default());
        // Whoever waits here waits in `Store::ask`, which counts that.
        let (queue, asked) = mpsc::channel(1);
        let news = Arc::new(Notify::new());
        let (tell, pid) = watch::channel(None);
        let keeper =
            Keeper { account, program, wanted: seen, asked, news: Arc::clone(&news), pid: tell, number: 0 };
        let task = tokio::spawn(keeper.run());
        let store = Store { queue, wanted: wanted.clone(), news };
        Ok(Self { store, wanted, pid, task })
    }

    /// By which etcd is asked.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// The child's process id, while there is one.
    pub fn pid(&self) -> watch::Receiver<Option<u32>> {
        self.pid.clone()
    }

    /// Ends the child, and waits for its end.
    pub async fn stop(self) {
        self.wanted.send_modify(|wanted| wanted.stop = true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the supervisor of what talks to etcd failed");
        }
    }
}

/// Asks etcd, and says which one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    queue: mpsc::Sender<Asked>,
    wanted: watch::Sender<Wanted>,
    news: Arc<Notify>,
}

impl Store {
    /// What etcd answers, or why it does not; `within` counts all of it. Questions are asked one after the other.
    pub async fn ask(&self, request: &Request, within: Duration) -> Result<Reply, String> {
        let bytes = request.encode();
        if bytes.len() > MAX_MESSAGE {
            return Err(format!("a question of {} bytes is over the limit of {MAX_MESSAGE}", bytes.len()));
        }
        if self.wanted.borrow().settings.is_none() {
            return Err("there is no etcd in the configuration".to_owned());
        }
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let restarted = || {
                "the child that talks to etcd is being started again; hint: this node's log says why"
                    .to_owned()
            };
            self.queue.send(Asked { bytes, within, answer }).await.map_err(|_| restarted())?;
            answered.await.map_err(|_| restarted())?
        };
        let late = || Err(format!("etcd did not answer within {within:?}"));
        let bytes = timeout(within, asked).await.unwrap_or_else(|_| late())?;
        Reply::decode(&bytes).map_err(|error| error.to_string())
    }

    /// This is the etcd from now on; `None`: there is none.
    pub fn follow(&self, settings: Option<Settings>) {
        self.wanted.send_if_modified(|wanted| {
            let is_other = wanted.settings.as_deref() != settings.as_ref();
            if is_other {
                wanted.settings = settings.map(Arc::new);
            }
            is_other
        });
    }

    /// Waits until it is worth asking.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

/// A question on its way.
#[derive(Debug)]
struct Asked {
    bytes: Vec<u8>,
    within: Duration,
    answer: oneshot::Sender<Result<Vec<u8>, String>>,
}

/// Starts children, one after the other.
struct Keeper {
    account: Account,
    program: Program,
    wanted: watch::Receiver<Wanted>,
    asked: mpsc::Receiver<Asked>,
    news: Arc<Notify>,
    pid: watch::Sender<Option<u32>>,
    /// Of the last question.
    number: u64,
}

impl Keeper {
    /// Until it is told to stop, or nobody is left who could.
    async fn run(mut self) {
        let mut pauses = Pauses::new();
        loop {
            let Wanted { settings, stop } = self.wanted.borrow_and_update().clone();
            let settings = match settings {
                _ if stop || self.wanted.has_changed().is_err() => return,
                Some(settings) => settings,
                None if self.wanted.changed().await.is_err() => return,
                None => continue,
            };
            let began = Time::now();
            // Another etcd, or the end, is wanted.
            let Err(fault) = self.one_child(&settings).await else { continue };
            self.news.notify_one();
            let pause = pauses.after(Time::now().since(began));
            let error = anyhow::Error::from(fault);
            tracing::warn!("the child that talks to etcd is started again in {pause:?}: {error:#}");
            if let Ok(Err(_)) = timeout(pause, self.wanted.changed()).await {
                return;
            }
        }
    }

    /// Starts a child and stays with it until another is wanted, or none.
    async fn one_child(&mut self, settings: &Settings) -> Result<(), Fault> {
        let (ours, theirs) = StdUnixStream::pair().map_err(Fault::System)?;
        ours.set_nonblocking(true).map_err(Fault::System)?;
        let channel = UnixStream::from_std(ours).map_err(Fault::System)?;
        let ward = Ward::of(self.program.start("store", self.account, theirs.into(), None)?);
        let (from, mut to) = channel.into_split();
        let start = Down::Start(Box::new(settings.clone())).into_frame();
        write(&mut to, &start, DEAF).await.map_err(Fault::System)?;
        let child = ward.release().ok_or(Fault::Closed)?;
        self.pid.send_replace(Some(child.id()));
        let mut line = Line { from: Frames::new(from, Up::limits), to, open: None, heard: Instant::now() };
        let mut wanted = self.wanted.clone();
        let ended = tokio::select! {
            _ = wanted.changed() => Ok(()),
            fault = line.run(self) => Err(fault),
        };
        // It sees its channel's end by that.
        drop(line);
        let exit = see_out(&child).await;
        self.pid.send_replace(None);
        match (ended, exit) {
            (Err(Fault::Closed), Some(status)) => Err(Fault::Exit(status)),
            (ended, _) => ended,
        }
    }
}

/// A child's channel.
struct Line {
    from: Frames<OwnedReadHalf>,
    to: OwnedWriteHalf,
    /// The question that has no answer yet.
    open: Option<Open>,
    /// When the child said something last.
    heard: Instant,
}

struct Open {
    number: u64,
    until: Instant,
    answer: oneshot::Sender<Result<Vec<u8>, String>>,
}

impl Line {
    async fn run(&mut self, keeper: &mut Keeper) -> Fault {
        loop {
            let silent = self.heard + SILENCE;
            let late = self.open.as_ref().map_or(silent, |open| open.until.min(silent));
            let done = tokio::select! {
                // What waits to be read is read first: this process itself may have been stopped for a while.
                biased;
                frame = self.from.next() => match frame {
                    Ok(Some(frame)) => Up::of_frame(frame).map_err(Fault::Channel).and_then(|up| self.judge(up, &keeper.news)),
                    Ok(None) => Err(Fault::Closed),
                    Err(error) => Err(Fault::System(error)),
                },
                Some(asked) = keeper.asked.recv(), if self.open.is_none() => {
                    keeper.number += 1;
                    self.ask(asked, keeper.number).await
                }
                () = sleep_until(late) => Err(Fault::Silent),
            };
            if let Err(fault) = done {
                return fault;
            }
        }
    }

    async fn ask(&mut self, asked: Asked, number: u64) -> Result<(), Fault> {
        let Asked { bytes, within, answer } = asked;
        if answer.is_closed() {
            return Ok(());
        }
        let call = Down::Call { number, within, bytes };
        write(&mut self.to, &call.into_frame(), DEAF).await.map_err(Fault::System)?;
        self.open = Some(Open { number, until: Instant::now() + within + GRACE, answer });
        Ok(())
    }

    fn judge(&mut self, up: Up, news: &Notify) -> Result<(), Fault> {
        self.heard = Instant::now();
        match up {
            Up::Alive => {}
            Up::News => news.notify_one(),
            Up::Returned { number, result } => {
                let open = self.open.take_if(|open| open.number == number).ok_or(Fault::Unasked)?;
                // Nobody may wait for it any more.
                drop(open.answer.send(result));
            }
        }
        Ok(())
    }
}

/// Why a child is replaced.
#[derive(Debug, Error)]
enum Fault {
    /// It could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It ended.
    #[error("it ended: {0}")]
    Exit(std::process::ExitStatus),
    /// It closed its end and lives on.
    #[error("it closed the channel")]
    Closed,
    /// Nothing came from it for too long.
    #[error("it was silent for too long")]
    Silent,
    /// It sent what is no message.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// It answered what was not asked.
    #[error("it answered what was never asked")]
    Unasked,
    /// The system refused.
    #[error("the channel failed")]
    System(#[source] io::Error),
}

/// A child speaks every second.
const SILENCE: Duration = Duration::from_secs(10);

/// How long it may take to read 16 KiB.
const DEAF: Duration = Duration::from_secs(10);

/// How much later than it should an answer may come.
const GRACE: Duration = Duration::from_secs(20);
