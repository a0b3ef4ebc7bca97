//! The proxy child: gets its orders over standard input, locks itself in, serves. Runs as a user of its own.
//!
//! ```text
//! hide -> Start comes -> confine -> Serving <-> Draining -> Stopping -> exit
//!                                      |           |           ^
//!                                      +- agent dies: serve on, until the next agent has the sockets
//! ```

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::access::AccessLog;
use super::balance::Health;
use super::channel::{FrameError, Order, Record, decode_frame};
use super::fds;
use super::service::{Load, Proxy, StartError};
use super::snapshot::Snapshot;
use crate::sandbox::{self, SandboxError};

/// The hidden subcommand `rollcall proxy`: returns when the worker is done.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The agent's standard error: where its own log goes, too.
            let error = anyhow::Error::from(error);
            drop(writeln!(io::stderr(), "rollcall proxy: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), WorkerError> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        // Where the log cannot be written, as after the death of who read it, complaining of that there would panic.
        .log_internal_errors(false)
        .with_ansi(false)
        .init();
    // For `ps`: the program is started by a number.
    rustix::thread::set_name(c"rollcall-proxy").map_err(|error| WorkerError::System(error.into()))?;
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
    /// Threads that serve.
    pub threads: usize,
    /// Most client connections at once; what comes beyond waits in the kernel's queue.
    pub limit: u32,
}

/// Everything before the first byte from the network: hides the process, takes the snapshot and the sockets, locks itself in.
pub fn prepare() -> Result<Work, WorkerError> {
    sandbox::hide()?;
    let channel = io::stdin().as_fd().try_clone_to_owned().map_err(WorkerError::System)?;
    let channel = StdUnixStream::from(channel);
    let (snapshot, mut fds) = receive_start(&channel)?;
    let handover = fds.pop().ok_or(WorkerError::Sockets)?;
    if fds.len() != snapshot.listen.len() {
        return Err(WorkerError::Sockets);
    }
    // These look at the file system, which is out of reach from here on.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let limit = connection_limit();
    let ports = snapshot.farms.iter().flat_map(|farm| &farm.servers).map(|server| server.address.port());
    let confined = sandbox::confine(&ports.collect())?;
    tracing::info!(%confined, limit, "proxy worker is locked in");
    Ok(Work {
        snapshot,
        channel,
        listeners: fds.into_iter().map(TcpListener::from).collect(),
        handover: StdUnixListener::from(handover),
        threads,
        limit,
    })
}

fn receive_start(channel: &StdUnixStream) -> Result<(Snapshot, Vec<OwnedFd>), WorkerError> {
    let (mut bytes, mut fds) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 64 << 10];
    loop {
        match decode_frame(&mut bytes)? {
            None => {}
            Some(Order::Start(snapshot)) => return Ok((*snapshot, fds)),
            Some(Order::Drain | Order::Resume | Order::Stop) => return Err(WorkerError::NoStart),
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
    let spares = work.listeners.iter().map(TcpListener::try_clone).collect::<io::Result<_>>();
    let proxy = Proxy::start(&work.snapshot, work.listeners, log.clone(), work.limit)?;
    work.channel.set_nonblocking(true).map_err(WorkerError::System)?;
    work.handover.set_nonblocking(true).map_err(WorkerError::System)?;
    let agent = rustix::net::sockopt::socket_peercred(&work.channel)
        .map_err(|error| WorkerError::System(error.into()))?;
    let handover = Handover {
        socket: UnixListener::from_std(work.handover).map_err(WorkerError::System)?,
        listeners: spares.map_err(WorkerError::System)?,
        agent: agent.uid.as_raw(),
    };
    let worker = Worker {
        agent: Agent::new(UnixStream::from_std(work.channel).map_err(WorkerError::System)?),
        reported: proxy.health().iter().map(|servers| vec![Health::Untested; servers.len()]).collect(),
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
}

impl Agent {
    fn new(stream: UnixStream) -> Self {
        let orders = Vec::new();
        Self { stream, orders }
    }

    /// Whether the record was sent. A Unix socket takes sixteen bytes whole or not at all.
    fn send(&self, record: Record) -> bool {
        self.stream.try_write(&record.encode()).is_ok()
    }

    /// The next order; `None`: the agent is gone. Cancel safe.
    async fn order(&mut self) -> Result<Option<Order>, WorkerError> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(order) = decode_frame(&mut self.orders)? {
                return Ok(Some(order));
            }
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(length) => self.orders.extend_from_slice(&buffer[..length]),
            }
        }
    }
}

struct Worker {
    agent: Agent,
    proxy: Proxy,
    /// The health that the agent knows.
    reported: Vec<Vec<Health>>,
    /// The ends of drains, whose futures hold the sender.
    drained: (mpsc::Sender<()>, mpsc::Receiver<()>),
    /// SIGTERM, which whoever stops a whole service sends to us as to the agent. The agent's word counts while there is one.
    terminate: Signal,
}

impl Worker {
    async fn run(mut self, handover: Handover) -> Result<(), WorkerError> {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut health = self.proxy.health_changed();
        loop {
            tokio::select! {
                _ = heartbeat.tick() => self.report(),
                Ok(()) = health.changed() => self.report(),
                Some(()) = self.drained.1.recv() => drop(self.agent.send(Record::Drained)),
                order = self.agent.order() => match order? {
                    Some(Order::Drain) => self.drain(),
                    Some(Order::Resume) => self.proxy.resume(),
                    Some(Order::Stop) => return self.stop(handover).await,
                    Some(Order::Start(_)) => return Err(WorkerError::SecondStart),
                    None => return self.orphaned(handover).await,
                }
            }
        }
    }

    /// A heartbeat, and every health that the agent does not know.
    fn report(&mut self) {
        self.agent.send(alive(self.proxy.accepting(), &self.proxy.load()));
        let health = self.proxy.health();
        for (farm, servers) in health.iter().enumerate() {
            for (server, health) in servers.iter().enumerate() {
                let known = &mut self.reported[farm][server];
                let (Ok(farm), Ok(server)) = (u16::try_from(farm), u16::try_from(server)) else {
                    continue;
                };
                let healthy = *health == Health::Healthy;
                let record = Record::ServerHealth { farm, server, healthy };
                if known != health && self.agent.send(record) {
                    *known = *health;
                }
            }
        }
    }

    fn drain(&self) {
        let drained = self.proxy.drain();
        let done = self.drained.0.clone();
        tokio::spawn(async move {
            drained.await;
            done.try_send(()).ok();
        });
    }

    /// Finishes, with heartbeats until the end.
    async fn stop(mut self, handover: Handover) -> Result<(), WorkerError> {
        let (agent, load) = (&self.agent, self.proxy.load());
        let beat = async {
            let mut heartbeat = interval(HEARTBEAT);
            loop {
                heartbeat.tick().await;
                agent.send(alive(false, &load));
            }
        };
        tokio::select! {
            () = finish(&mut self.proxy, handover) => {}
            () = beat => {}
        }
        self.agent.send(Record::Drained);
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

fn alive(accepting: bool, load: &Load) -> Record {
    Record::Alive { accepting, connections: load.connections(), requests: load.requests() }
}

/// Where the next agent asks for the listening sockets.
struct Handover {
    socket: UnixListener,
    listeners: Vec<TcpListener>,
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
        let fds: Vec<_> = self.listeners.iter().map(|listener| listener.as_fd()).collect();
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
    Start(#[from] StartError),
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

/// Descriptors that are not for connections: listeners, runtime, channel.
const RESERVED_DESCRIPTORS: u64 = 300;

/// More are not counted on, whatever is allowed.
const MOST_DESCRIPTORS: u64 = 1 << 20;

/// What a connection takes in bytes when its buffers are full in both directions.
const CONNECTION_MEMORY: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_bounded_by_descriptors_and_by_memory() {
        let gib = 1 << 30;
        for (descriptors, memory, limit) in [
            (Some(20_300), 64 * gib, 10_000),
            (Some(1 << 20), 4 * gib, 8192),
            (None, gib, 2048),
            (None, u64::MAX, 524_138),
            (Some(10), 1, 1),
        ] {
            assert_eq!(limit_for(descriptors, memory), limit, "{descriptors:?} {memory}");
        }
    }
}
