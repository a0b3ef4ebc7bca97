//! The child: gets what it begins with over standard input, locks itself in, and does what the agent asks. Runs as a user of its own.
//!
//! ```text
//! hide -> Start comes -> confine -> connect -> answer -> the agent's end closes -> exit
//!                          ^           |
//!                          +-- pause --+ 0.1 .. 5 s, once no member answers
//! ```
//! One thread. One question is answered at a time, so at most one of the longest messages is held, and its answer.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until, timeout};

use super::Settings;
use super::channel::{ChannelError, Down, Up};
use super::request::Request;
use super::session::{Session, Trouble};
use super::tls::{self, TlsError};
use super::watch::Watch;
use super::work::Place;
use crate::child;
use crate::config::model::Endpoint;
use crate::config::told;
use crate::peer::frame::{Decoder, FrameError};
use crate::peer::stream::{self, Frames, write};
use crate::sandbox::{self, SandboxError};

/// The hidden subcommand `rollcall store`: returns when the worker is done.
pub fn main() -> ExitCode {
    child::run(c"rollcall-store", run)
}

fn run() -> Result<(), WorkerError> {
    let (settings, channel) = prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(WorkerError::System)?.block_on(serve(settings, channel))
}

/// Everything before the first byte from the network.
fn prepare() -> Result<(Settings, StdUnixStream), WorkerError> {
    sandbox::hide()?;
    let channel = io::stdin().as_fd().try_clone_to_owned().map_err(WorkerError::System)?;
    let mut channel = StdUnixStream::from(channel);
    let settings = receive_start(&mut channel)?;
    let ports: BTreeSet<u16> = settings.endpoints.iter().map(|endpoint| endpoint.address.port()).collect();
    let confined = sandbox::confine(&ports)?;
    tracing::info!(%confined, "the child that talks to etcd is locked in");
    Ok((settings, channel))
}

fn receive_start(channel: &mut StdUnixStream) -> Result<Settings, WorkerError> {
    let mut decoder = Decoder::new(Down::limits);
    let mut buffer = vec![0; stream::CHUNK];
    loop {
        // One frame at a time: what follows it is read when serving.
        let wanted = decoder.missing()?.min(buffer.len());
        let received = channel.read(&mut buffer[..wanted]).map_err(WorkerError::System)?;
        if received == 0 {
            return Err(WorkerError::NoStart);
        }
        if let Some(frame) = decoder.take(&mut &buffer[..received])? {
            let Down::Start(settings) = Down::of_frame(frame)? else { return Err(WorkerError::NoStart) };
            return Ok(*settings);
        }
    }
}

async fn serve(settings: Settings, channel: StdUnixStream) -> Result<(), WorkerError> {
    channel.set_nonblocking(true).map_err(WorkerError::System)?;
    let (from, to) = UnixStream::from_std(channel).map_err(WorkerError::System)?.into_split();
    // SIGTERM, which whoever stops a whole service sends to us as to the agent, is for the agent: we end with it.
    let _terminate = signal(SignalKind::terminate()).map_err(WorkerError::System)?;
    let means =
        Means { tls: tls::client(&settings)?, place: Place::of(&settings), settings: Arc::new(settings) };
    let (up, upward) = mpsc::channel(BACKLOG);
    // The agent asks one thing at a time, and says so while another is under way only if it does not wait for that any more.
    let (ask, asked) = mpsc::channel(1);
    let mut worker = Worker { means, up, asked, next: 0, waiting: None };
    tokio::select! {
        ended = hear(from, ask) => ended,
        _ = tell(to, upward) => Ok(()),
        () = worker.work() => Ok(()),
    }
}

/// A question of the agent.
struct Call {
    number: u64,
    deadline: Instant,
    request: Request,
    /// A connection was lost over it.
    tried: bool,
}

/// Reads what the agent asks, until it is gone.
async fn hear(from: OwnedReadHalf, ask: mpsc::Sender<Call>) -> Result<(), WorkerError> {
    let mut from = Frames::new(from, Down::limits);
    loop {
        // The agent is gone.
        let Ok(Some(frame)) = from.next().await else { return Ok(()) };
        let Down::Call { number, within, bytes } = Down::of_frame(frame)? else {
            return Err(WorkerError::SecondStart);
        };
        let request = Request::decode(&bytes).map_err(|_| WorkerError::NoRequest)?;
        let deadline = Instant::now() + within.min(LONGEST_CALL);
        let call = Call { number, deadline, request, tried: false };
        if ask.send(call).await.is_err() {
            return Ok(());
        }
    }
}

/// Tells the agent what there is to tell, and each second that this process lives, until it is gone.
async fn tell(mut to: OwnedWriteHalf, mut upward: mpsc::Receiver<Up>) -> io::Result<()> {
    let mut tick = interval(HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let up = tokio::select! {
            Some(up) = upward.recv() => up,
            _ = tick.tick() => Up::Alive,
        };
        // An agent that reads nothing is stopped, perhaps by a debugger; one that is gone closes its end.
        write(&mut to, &up.into_frame(), Duration::from_secs(86_400)).await?;
    }
}

struct Worker {
    means: Means,
    up: mpsc::Sender<Up>,
    asked: mpsc::Receiver<Call>,
    /// The member that is tried next.
    next: usize,
    /// What is to be answered once there is a connection.
    waiting: Option<Call>,
}

/// What connections are made with.
#[derive(Clone)]
struct Means {
    settings: Arc<Settings>,
    place: Place,
    tls: Option<Arc<ClientConfig>>,
}

/// Connections to a member.
struct Line {
    session: Session,
    watch: Watch,
}

impl Means {
    /// To this member, which has to answer for more than itself; the error names it.
    async fn connect(self, endpoint: Endpoint) -> Result<Line, String> {
        let tls = self.tls.as_ref();
        let opened = async {
            let mut session = Session::open(endpoint, &self.settings, tls).await?;
            let watch = Watch::begin(session.second(tls).await?, &self.place).await?;
            self.place.ping(&mut session).await?;
            Ok(Line { session, watch })
        };
        let opened = timeout(CONNECT, opened).await.unwrap_or(Err(Trouble::Silent));
        opened.map_err(|trouble| format!("{endpoint}: {}", one_line(&told(&trouble))))
    }
}

impl Worker {
    /// Never returns.
    async fn work(&mut self) {
        let (mut pause, mut failures) = (SHORTEST_PAUSE, 0);
        loop {
            let endpoints = &self.means.settings.endpoints;
            let (endpoint, members) = (endpoints[self.next % endpoints.len()], endpoints.len());
            let why = match self.connect(endpoint).await {
                Ok(line) => {
                    let reached = Instant::now();
                    let why = self.converse(line).await;
                    if reached.elapsed() >= OF_USE {
                        (pause, failures) = (SHORTEST_PAUSE, 0);
                        self.next = self.next.wrapping_add(1);
                        continue;
                    }
                    format!("{endpoint}: {}", one_line(&told(&why)))
                }
                Err(why) => why,
            };
            self.next = self.next.wrapping_add(1);
            failures += 1;
            if failures % members == 0 {
                self.be_away(&why, pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// To a member. What is asked meanwhile waits, as long as it may.
    async fn connect(&mut self, endpoint: Endpoint) -> Result<Line, String> {
        let connecting = self.means.clone().connect(endpoint);
        tokio::pin!(connecting);
        loop {
            let late = self.waiting.as_ref().map(|call| call.deadline);
            tokio::select! {
                connected = &mut connecting => return connected,
                Some(call) = self.asked.recv(), if late.is_none() => self.waiting = Some(call),
                () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => {
                    self.fail_waiting("no member of etcd answers yet").await;
                }
            }
        }
    }

    /// No member answers: so says whoever asks, for so long.
    async fn be_away(&mut self, why: &str, pause: Duration) {
        self.say(Up::News).await;
        let over = sleep_until(Instant::now() + pause);
        tokio::pin!(over);
        loop {
            self.fail_waiting(why).await;
            tokio::select! {
                () = &mut over => return,
                Some(call) = self.asked.recv() => self.waiting = Some(call),
            }
        }
    }

    /// Until the connection is of no use any more.
    async fn converse(&mut self, mut line: Line) -> Trouble {
        self.say(Up::News).await;
        let every = |period| {
            let mut every = interval_at(Instant::now() + period, period);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            every
        };
        let (mut ping, mut rest, mut changed) = (every(PING), every(NEWS), false);
        loop {
            if let Some(call) = self.waiting.take()
                && let Err(trouble) = self.answer(&mut line.session, call).await
            {
                return trouble;
            }
            tokio::select! {
                Some(call) = self.asked.recv() => self.waiting = Some(call),
                heard = line.watch.next() => match heard {
                    Ok(()) => changed = true,
                    Err(trouble) => return trouble,
                },
                // A thousand changes a second are one piece of news.
                _ = rest.tick(), if changed => {
                    changed = false;
                    self.say(Up::News).await;
                }
                _ = ping.tick() => if let Err(trouble) = self.means.place.ping(&mut line.session).await {
                    return trouble;
                },
            }
        }
    }

    /// Answers a question; an error: the connection is of no use any more. Then it is asked once more over another: whatever is asked
    /// may be asked twice.
    async fn answer(&mut self, session: &mut Session, call: Call) -> Result<(), Trouble> {
        let left = call.deadline.saturating_duration_since(Instant::now());
        let answered = timeout(left, self.means.place.answer(session, &call.request)).await;
        // What was under way is still on the connection.
        let answered = answered.unwrap_or(Err(Trouble::Silent));
        let number = call.number;
        match answered {
            Ok(reply) => self.say(Up::Returned { number, result: Ok(reply.encode()) }).await,
            Err(trouble) if trouble.is_final() && !call.tried => {
                self.waiting = Some(Call { tried: true, ..call });
                return Err(trouble);
            }
            Err(trouble) => {
                let ended = trouble.is_final();
                self.say(Up::Returned { number, result: Err(one_line(&told(&trouble))) }).await;
                return if ended { Err(trouble) } else { Ok(()) };
            }
        }
        Ok(())
    }

    async fn fail_waiting(&mut self, why: &str) {
        if let Some(Call { number, .. }) = self.waiting.take() {
            self.say(Up::Returned { number, result: Err(why.to_owned()) }).await;
        }
    }

    async fn say(&self, up: Up) {
        // The channel to the agent ends with this process.
        drop(self.up.send(up).await);
    }
}

/// Without what steers a terminal: it is for operators, and may quote strangers.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Why the worker ends. The agent starts another.
#[derive(Debug, Error)]
enum WorkerError {
    /// It cannot lock itself in.
    #[error("cannot lock the child that talks to etcd in")]
    Sandbox(#[from] SandboxError),
    /// The agent's words cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// They are none.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The first word is another, or none came.
    #[error("nothing came over standard input; `rollcall store` is started by `rollcall run`, not by hand")]
    NoStart,
    /// A second `Start`.
    #[error("it was told to start twice")]
    SecondStart,
    /// A question is none.
    #[error("what it was asked is no question")]
    NoRequest,
    /// The certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system refused something.
    #[error("the system refused")]
    System(#[source] io::Error),
}

/// Messages to the agent that wait until it takes them; more wait where they are said.
const BACKLOG: usize = 4;

/// Time between signs of life to the agent.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// No question is worked on for longer.
const LONGEST_CALL: Duration = Duration::from_secs(300);

/// How long a member may take until it is of use.
const CONNECT: Duration = Duration::from_secs(15);

/// A connection that lasted so long is made anew at once.
const OF_USE: Duration = Duration::from_secs(1);

/// Time between signs of life of etcd.
const PING: Duration = Duration::from_secs(5);

/// Time between two pieces of news.
const NEWS: Duration = Duration::from_millis(100);

/// First pause between attempts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
