//! The proxy child: gets its orders over standard input, locks itself in, serves. Runs as a user of its own.
//!
//! ```text
//! hide -> Start comes -> confine -> Serving <-> Draining -> Stopping -> exit
//!                                      |           |           ^
//!                                      |           |           +-- Retire: another worker has the sockets
//!                                      +- agent dies: serve on, until the next agent has the sockets
//! ```
//! `Apply` changes what is served and ends no connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::access::AccessLog;
use super::ask;
use super::channel::{FrameError, Order, Record, Refusal, ServerIndex, decode_frame};
use super::reporter::Reporter;
use super::served::BuildError;
use super::service::{Load, Proxy};
use super::snapshot::{Site, Snapshot, Verify};
use super::tls::{Facts, Fingerprint, leaf};
use super::{fds, idle};
use crate::child;
use crate::sandbox::{self, Confined, SandboxError};

/// The hidden subcommand `rollcall proxy`: returns when the worker is done.
pub fn main() -> ExitCode {
    child::run(c"rollcall-proxy", run)
}

fn run() -> Result<(), WorkerError> {
    let work = prepare()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(work.threads)
        .enable_all()
        .build()
        .map_err(WorkerError::System)?;
    // On the threads that serve clients: were they stuck, so would be the heartbeat.
    let served = runtime.spawn(serve(work));
    runtime.block_on(served).map_err(io::Error::other).map_err(WorkerError::System)?
}

/// What a worker holds once it is locked in: all it will ever get.
pub struct Work {
    /// What to serve.
    pub snapshot: Snapshot,
    /// The way to the agent.
    pub channel: StdUnixStream,
    /// In the order of `Snapshot::listen`.
    pub listeners: Vec<TcpListener>,
    /// Where the next agent asks for the listeners.
    pub handover: StdUnixListener,
    /// Where the agent asks what it wants to know.
    pub questions: StdUnixListener,
    /// Threads that serve.
    pub threads: usize,
    /// Most client connections at once; what comes beyond waits in the kernel's queue.
    pub limit: u32,
    /// How it is locked in.
    pub confined: Confined,
}

/// Everything before the first byte from the network: hides the process, takes the snapshot and the sockets, locks itself in.
pub fn prepare() -> Result<Work, WorkerError> {
    sandbox::hide()?;
    let channel = io::stdin().as_fd().try_clone_to_owned().map_err(WorkerError::System)?;
    let channel = StdUnixStream::from(channel);
    let (snapshot, mut fds) = receive_start(&channel)?;
    let handover = fds.pop().ok_or(WorkerError::Sockets)?;
    let questions = fds.pop().ok_or(WorkerError::Sockets)?;
    if fds.len() != snapshot.listen.len() {
        return Err(WorkerError::Sockets);
    }
    // These look at the file system, which is out of reach from here on.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let limit = connection_limit();
    let confined = sandbox::confine(&snapshot.ports())?;
    tracing::info!(%confined, limit, "proxy worker is locked in");
    Ok(Work {
        snapshot,
        channel,
        listeners: fds.into_iter().map(TcpListener::from).collect(),
        handover: StdUnixListener::from(handover),
        questions: StdUnixListener::from(questions),
        threads,
        limit,
        confined,
    })
}

fn receive_start(channel: &StdUnixStream) -> Result<(Snapshot, Vec<OwnedFd>), WorkerError> {
    let (mut bytes, mut fds) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 64 << 10];
    loop {
        if let Some(order) = decode_frame(&mut bytes)? {
            return Ok((order.into_start().ok_or(WorkerError::NoStart)?, fds));
        }
        // One frame at a time: what follows it is read when serving.
        let wanted = missing(&bytes).min(buffer.len());
        let received = fds::receive(channel, &mut buffer[..wanted], &mut fds).map_err(WorkerError::System)?;
        if received == 0 {
            return Err(WorkerError::NoStart);
        }
        bytes.extend_from_slice(&buffer[..received]);
    }
}

/// Bytes up to the end of the frame that `bytes` begin.
fn missing(bytes: &[u8]) -> usize {
    match bytes.split_first_chunk::<4>() {
        None => 4 - bytes.len(),
        Some((head, rest)) => {
            let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
            length.saturating_sub(rest.len())
        }
    }
}

/// Most client connections for this process's descriptors and this machine's memory.
fn connection_limit() -> u32 {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let machine = rustix::system::sysinfo();
    limit_for(descriptors, machine.totalram.saturating_mul(machine.mem_unit.into()))
}

/// A client connection needs a descriptor, and one for its server connection. At worst it fills its buffers; all of them
/// together then take half of the memory. A limit of the service's own (systemd's `MemoryMax`) is not known here.
fn limit_for(descriptors: Option<u64>, memory: u64) -> u32 {
    let descriptors = descriptors.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    let by_descriptors = descriptors.saturating_sub(RESERVED_DESCRIPTORS) / 2;
    let limit = by_descriptors.min(memory / CONNECTION_MEMORY / 2).max(1);
    u32::try_from(limit).unwrap_or(u32::MAX)
}

async fn serve(work: Work) -> Result<(), WorkerError> {
    let log = AccessLog::start(io::stdout()).map_err(WorkerError::System)?;
    let spares = work.listeners.iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>();
    let proxy = Proxy::start(&work.snapshot, work.listeners, log.clone(), work.limit)?;
    work.channel.set_nonblocking(true).map_err(WorkerError::System)?;
    work.handover.set_nonblocking(true).map_err(WorkerError::System)?;
    work.questions.set_nonblocking(true).map_err(WorkerError::System)?;
    let agent = rustix::net::sockopt::socket_peercred(&work.channel)
        .map_err(|error| WorkerError::System(error.into()))?;
    let spares = spares.map_err(WorkerError::System)?;
    let handover = Handover {
        socket: UnixListener::from_std(work.handover).map_err(WorkerError::System)?,
        listeners: work.snapshot.listen.iter().copied().zip(spares).collect(),
        agent: agent.uid.as_raw(),
    };
    let questions = UnixListener::from_std(work.questions).map_err(WorkerError::System)?;
    let answering = tokio::spawn(ask::serve(questions, handover.agent, proxy.teller()));
    let worker = Worker {
        answering: answering.abort_handle(),
        agent: Agent::new(UnixStream::from_std(work.channel).map_err(WorkerError::System)?),
        reporter: Reporter::default(),
        presented: BTreeMap::new(),
        owed: VecDeque::new(),
        snapshot: work.snapshot,
        confined: work.confined,
        drained: mpsc::channel(8),
        terminate: signal(SignalKind::terminate()).map_err(WorkerError::System)?,
        proxy,
    };
    let ended = worker.run(handover).await;
    log.flush();
    ended
}

/// The way to the agent. An agent that does not read costs the newest records, which the next heartbeat repeats.
struct Agent {
    stream: UnixStream,
    orders: Vec<u8>,
    /// Sockets that came with orders, in their order.
    sockets: VecDeque<OwnedFd>,
}

impl Agent {
    fn new(stream: UnixStream) -> Self {
        Self { stream, orders: Vec::new(), sockets: VecDeque::new() }
    }

    /// Whether the record was sent. A Unix socket takes so few bytes whole or not at all.
    fn send(&self, record: Record) -> bool {
        self.stream.try_write(&record.encode()).is_ok()
    }

    /// The next order; `None`: the agent is gone. Cancel safe.
    async fn order(&mut self) -> Result<Option<Order>, WorkerError> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            if let Some(order) = decode_frame(&mut self.orders)? {
                return Ok(Some(order));
            }
            let mut came = Vec::new();
            let receive = || fds::receive(&self.stream, &mut buffer, &mut came);
            let received = self.stream.async_io(Interest::READABLE, receive).await;
            self.sockets.extend(came);
            match received {
                Ok(0) | Err(_) => return Ok(None),
                Ok(length) => self.orders.extend_from_slice(&buffer[..length]),
            }
        }
    }
}

struct Worker {
    agent: Agent,
    /// Answers what the agent asks. Ends with the first word of a stop: another worker may answer from then on.
    answering: AbortHandle,
    proxy: Proxy,
    /// What the agent knows of the servers.
    reporter: Reporter,
    /// The certificates of servers that it knows.
    presented: BTreeMap<(u16, u16), Fingerprint>,
    /// What is served.
    snapshot: Snapshot,
    /// What the agent must hear before anything else.
    owed: VecDeque<Record>,
    confined: Confined,
    /// The ends of drains, whose futures hold the sender.
    drained: (mpsc::Sender<()>, mpsc::Receiver<()>),
    /// SIGTERM, which whoever stops a whole service sends to us as to the agent. The agent's word counts while there is one.
    terminate: Signal,
}

impl Worker {
    async fn run(mut self, mut handover: Handover) -> Result<(), WorkerError> {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut health = self.proxy.health_changed();
        loop {
            tokio::select! {
                _ = heartbeat.tick() => self.report(),
                Ok(()) = health.changed() => self.report(),
                Some(()) = self.drained.1.recv() => self.owe(Record::Drained),
                order = self.agent.order() => match order? {
                    Some(Order::Apply { number, snapshot }) => self.apply(number, &snapshot, &mut handover),
                    Some(Order::Drain) => self.drain(),
                    Some(Order::Resume) => self.proxy.resume(),
                    Some(Order::States(states)) => self.proxy.set_states(states),
                    Some(Order::Elsewhere { connections }) => self.proxy.leave_room(connections),
                    Some(Order::Stop) => return self.stop(Some(handover)).await,
                    Some(Order::Retire) => {
                        drop(handover);
                        return self.stop(None).await;
                    }
                    Some(Order::Start(_)) => return Err(WorkerError::SecondStart),
                    None => return self.orphaned(handover).await,
                }
            }
        }
    }

    /// A heartbeat, and all that the agent does not know of the servers.
    fn report(&mut self) {
        self.agent.send(alive(self.proxy.accepting(), &self.proxy.load()));
        self.owed.extend(cut(&self.proxy));
        // What the agent does not take comes together meanwhile.
        let refused = self.owed.is_empty().then(|| self.proxy.served().guard.take_refused()).flatten();
        self.owed.extend(refused.map(|(client, whom, count)| Record::LogonsRefused { client, whom, count }));
        if !self.pay() {
            return;
        }
        let agent = &self.agent;
        self.reporter.report(self.proxy.served().groups(), |record| agent.send(record));
        self.report_presented();
    }

    /// Every certificate of a server that the agent does not know. Where all servers present their sites' own ones, those of before
    /// are accepted no more.
    fn report_presented(&mut self) {
        let presented = self.proxy.presented();
        for (farm, servers) in (0..).zip(&presented) {
            for (server, facts) in (0..).zip(servers) {
                let Some(Facts { sha256, not_after, .. }) = facts else { continue };
                let not_after = not_after.unwrap_or_default();
                let of = ServerIndex { group: farm, server };
                let record = Record::Presented { of, sha256: sha256.0, not_after };
                if self.presented.get(&(farm, server)) != Some(sha256) && self.agent.send(record) {
                    self.presented.insert((farm, server), *sha256);
                }
            }
        }
        if !replaced(&self.snapshot, &presented) {
            return;
        }
        self.snapshot.forget();
        match self.proxy.apply(&self.snapshot, Vec::new()) {
            Ok(()) => {
                tracing::info!(
                    "every server presents its site's certificate: the one before is accepted no more"
                );
                self.forget_reported();
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::error!("the certificates of before are still accepted: {error:#}");
            }
        }
    }

    fn forget_reported(&mut self) {
        self.reporter = Reporter::default();
        self.presented.clear();
    }

    fn owe(&mut self, record: Record) {
        self.owed.push_back(record);
        self.pay();
    }

    /// Whether the agent has heard all that it must.
    fn pay(&mut self) -> bool {
        while let Some(record) = self.owed.front() {
            if !self.agent.send(*record) {
                return false;
            }
            self.owed.pop_front();
        }
        true
    }

    /// Serves other settings, or says why not.
    fn apply(&mut self, number: u32, snapshot: &Snapshot, handover: &mut Handover) {
        let refusal = self.try_apply(snapshot, handover).err();
        // Those that nobody took would be taken for the next ones.
        self.agent.sockets.clear();
        if refusal.is_none() {
            self.snapshot = snapshot.clone();
            self.forget_reported();
        }
        tracing::info!(applied = refusal.is_none(), "other settings came");
        self.owe(Record::Applied { number, refusal });
        self.report();
    }

    fn try_apply(&mut self, snapshot: &Snapshot, handover: &mut Handover) -> Result<(), Refusal> {
        let sockets = handover.fresh(snapshot, &mut self.agent.sockets)?;
        if !snapshot.ports().into_iter().all(|port| self.confined.allows(port)) {
            return Err(Refusal::Port);
        }
        let spares = sockets.iter().map(|(address, socket)| Ok((*address, socket.try_clone()?)));
        let spares = spares.collect::<io::Result<Vec<_>>>().map_err(|_| Refusal::Sockets)?;
        let sockets = sockets.into_iter().map(|(_, socket)| socket).collect();
        self.proxy.apply(snapshot, sockets).map_err(|error| {
            let error = anyhow::Error::from(error);
            tracing::error!("cannot serve the new settings, and goes on with the old ones: {error:#}");
            Refusal::Settings
        })?;
        handover.listeners.extend(spares);
        handover.listeners.retain(|(address, _)| snapshot.listen.contains(address));
        Ok(())
    }

    fn drain(&self) {
        let drained = self.proxy.drain();
        let done = self.drained.0.clone();
        tokio::spawn(async move {
            drained.await;
            done.try_send(()).ok();
        });
    }

    /// Finishes, with heartbeats until the end; without `handover`, what waits in the sockets' queues is another worker's.
    async fn stop(mut self, handover: Option<Handover>) -> Result<(), WorkerError> {
        self.answering.abort();
        let (agent, load) = (&self.agent, self.proxy.load());
        let beat = async {
            let mut heartbeat = interval(HEARTBEAT);
            loop {
                heartbeat.tick().await;
                agent.send(alive(false, &load));
            }
        };
        let end = async {
            match handover {
                Some(handover) => finish(&mut self.proxy, handover).await,
                None => self.proxy.stop(false).await,
            }
        };
        tokio::select! {
            () = end => {}
            () = beat => {}
        }
        self.owed.extend(cut(&self.proxy));
        self.owe(Record::Drained);
        Ok(())
    }

    /// The agent is gone without a word: serves on as it was told last, until the next agent has the sockets, then finishes.
    async fn orphaned(mut self, handover: Handover) -> Result<(), WorkerError> {
        tracing::warn!("the agent is gone; serving on until the next one asks for the listening sockets");
        let wish = tokio::select! {
            wish = handover.wait() => Some(wish),
            _ = self.terminate.recv() => None,
        };
        tracing::info!(handed_over = wish.is_some(), "finishing open connections");
        match wish {
            Some(Wish::Finish) => {
                drop(handover);
                self.proxy.stop(false).await;
            }
            Some(Wish::End(_until_closed)) => {}
            None => finish(&mut self.proxy, handover).await,
        }
        Ok(())
    }
}

/// Finishes, while the agent may have died, or dies, and the next one may ask for the sockets. They are open here until they
/// are handed over: what is in their queues by then is the next agent's.
async fn finish(proxy: &mut Proxy, handover: Handover) {
    let mut finished = pin!(proxy.stop(true));
    let wish = tokio::select! {
        () = &mut finished => return,
        wish = handover.wait() => wish,
    };
    drop(handover);
    match wish {
        Wish::Finish => finished.await,
        Wish::End(_until_closed) => {}
    }
}

/// Whether a certificate is being replaced that all servers present by now.
fn replaced(snapshot: &Snapshot, presented: &[Vec<Option<Facts>>]) -> bool {
    let mut replacing = snapshot.sites.iter().filter(|site| !site.previous.is_empty()).peekable();
    let farms = |site: &Site| site.service.farms().copied().collect::<BTreeSet<usize>>();
    replacing.peek().is_some()
        && replacing.all(|site| {
            let own = leaf(&site.certificate).map(|leaf| Fingerprint::of(&leaf));
            farms(site).iter().all(|farm| {
                snapshot.farms[*farm].verify != Verify::SameCertificate
                    || presented[*farm].iter().all(|facts| facts.as_ref().map(|facts| facts.sha256) == own)
            })
        })
}

/// What was cut off at the end of the drain timeout, for the log and the agent.
fn cut(proxy: &Proxy) -> Vec<Record> {
    let cut = proxy.take_cut();
    for (hold, count) in &cut {
        tracing::info!(%hold, count, "closed at the end of the drain timeout");
    }
    cut.into_iter().map(|(hold, count)| Record::Cut { hold, count }).collect()
}

fn alive(accepting: bool, load: &Load) -> Record {
    Record::Alive { accepting, connections: load.connections(), requests: load.requests() }
}

/// Where the next agent asks for the listening sockets.
struct Handover {
    socket: UnixListener,
    listeners: Vec<(SocketAddr, TcpListener)>,
    /// The user id of the agent that started this worker; root, or one with root's capabilities.
    agent: u32,
}

/// What whoever took the sockets wants of us.
enum Wish {
    /// Let connections end in their own time.
    Finish,
    /// Be gone; the connection closes with this process, and so tells of its end.
    End(UnixStream),
}

impl Handover {
    /// The sockets for addresses that are new in `snapshot`, out of those that came.
    fn fresh(
        &self,
        snapshot: &Snapshot,
        came: &mut VecDeque<OwnedFd>,
    ) -> Result<Vec<(SocketAddr, TcpListener)>, Refusal> {
        let is_new = |address: &&SocketAddr| !self.listeners.iter().any(|(known, _)| known == *address);
        let fresh = snapshot.listen.iter().filter(is_new);
        let socket = |address: &SocketAddr| {
            let socket = TcpListener::from(came.pop_front().ok_or(Refusal::Sockets)?);
            let bound = socket.local_addr().map_err(|_| Refusal::Sockets)?;
            if bound == *address { Ok((*address, socket)) } else { Err(Refusal::Sockets) }
        };
        fresh.map(socket).collect()
    }

    /// Returns once an agent, or a clean-up, has the sockets.
    async fn wait(&self) -> Wish {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        loop {
            let handed = match self.socket.accept().await {
                Ok((stream, _)) => self.hand(stream).await,
                Err(error) => Err(error),
            };
            match handed {
                Ok(wish) => return wish,
                // Somebody only looked whether we are there, or could not start after all.
                Err(error) if matches!(error.kind(), UnexpectedEof | BrokenPipe | ConnectionReset) => {
                    tracing::debug!("nobody took the listening sockets");
                }
                Err(error) => {
                    tracing::warn!(%error, "the listening sockets were not handed over");
                    tokio::time::sleep(HEARTBEAT).await;
                }
            }
        }
    }

    /// Gives the sockets to who is allowed to have them, and waits for the word that they arrived.
    async fn hand(&self, mut stream: UnixStream) -> io::Result<Wish> {
        let uid = stream.peer_cred()?.uid();
        if uid != 0 && uid != self.agent {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let count = [u8::try_from(self.listeners.len()).map_err(io::Error::other)?];
        let fds: Vec<_> = self.listeners.iter().map(|(_, listener)| listener.as_fd()).collect();
        stream.writable().await?;
        let stream_std = stream.as_fd().try_clone_to_owned().map(StdUnixStream::from)?;
        fds::send(&stream_std, &count, &fds)?;
        let mut word = [0];
        timeout(HANDOVER_TIMEOUT, stream.read_exact(&mut word)).await??;
        match word {
            FINISH => Ok(Wish::Finish),
            END => Ok(Wish::End(stream)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Why the worker ends. The agent starts another.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// It cannot lock itself in.
    #[error("cannot lock the proxy in")]
    Sandbox(#[from] SandboxError),
    /// The agent's words cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The first order is another, or none came.
    #[error(
        "no settings came over standard input; `rollcall proxy` is started by `rollcall run`, not by hand"
    )]
    NoStart,
    /// A second `Start`.
    #[error("settings came twice")]
    SecondStart,
    /// Not the sockets that the settings speak of.
    #[error("the listening sockets do not fit the settings")]
    Sockets,
    /// The snapshot cannot be served.
    #[error(transparent)]
    Start(#[from] BuildError),
    /// The system refused something.
    #[error("the system refused")]
    System(#[source] io::Error),
}

/// The word of an agent that has the sockets: finish your connections.
pub(super) const FINISH: [u8; 1] = [1];

/// The word of a clean-up: end at once.
pub(crate) const END: [u8; 1] = [2];

/// Time between heartbeats to the agent.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// How long the next agent may take to say that the sockets arrived.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Descriptors that are not for client connections and their servers': listeners, runtime, channel, server connections at rest that are
/// shared.
const RESERVED_DESCRIPTORS: u64 = 300 + idle::MOST as u64;

/// More are not counted on, whatever is allowed.
const MOST_DESCRIPTORS: u64 = 1 << 20;

/// What a connection takes in bytes when its buffers are full in both directions.
const CONNECTION_MEMORY: u64 = 384 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_bounded_by_descriptors_and_by_memory() {
        let gib = 1 << 30;
        for (descriptors, memory, limit) in [
            (Some(20_556), 64 * gib, 10_000),
            (Some(1 << 20), 4 * gib, 5461),
            (None, gib, 1365),
            (None, u64::MAX, 524_010),
            (Some(10), 1, 1),
        ] {
            assert_eq!(limit_for(descriptors, memory), limit, "{descriptors:?} {memory}");
        }
    }
}
