//! The agent's side of the proxy: keeps the listening sockets, keeps one child serving them, and tells how it does.
//!
//! What the child says is judged by `Book`, which is pure; a child that says anything else, or nothing, is replaced. The
//! sockets stay here meanwhile, so that clients wait in the kernel's queue instead of being refused.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::channel::{self, FrameError, MAX_LISTENERS, Order, RECORD_LEN, Record, RecordError, encode_frame};
use super::fds;
use super::snapshot::{self, PrivateKey, Snapshot, Verify};
use super::spawn::{Account, Program, SpawnError};
use super::tls::{self, TlsError};
use super::worker;
use crate::clock::Time;
use crate::config::model;
use crate::control::api::{ProxyStatus, ServerStatus};

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
    task: JoinHandle<()>,
}

/// What the child is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Serve,
    Drain,
    Stop,
    /// Like `Stop`, without waiting for anything.
    Kill,
}

impl Wanted {
    fn is_end(self) -> bool {
        matches!(self, Self::Stop | Self::Kill)
    }
}

impl Supervisor {
    /// Checks what can be checked, and starts to keep a child running. Within a Tokio runtime.
    pub fn start(spec: Spec) -> Result<Self, SupervisorError> {
        let (wanted, wanted_seen) = watch::channel(Wanted::Serve);
        let book = Book::new(&spec.snapshot);
        let (publish, status) = watch::channel(book.status.clone());
        let (drained_publish, drained) = watch::channel(false);
        let (account, program) = (Account::find(&spec.user)?, Program::open(&spec.program)?);
        let keeper = Keeper {
            // Last of what can fail: it leaves a socket in the run folder.
            sockets: Arc::new(Sockets::new(&spec)?),
            account,
            program,
            log: spec.log,
            drain_timeout: spec.snapshot.drain_timeout,
            book,
            wanted: wanted_seen,
            status: publish,
            drained: drained_publish,
        };
        let task = tokio::spawn(keeper.run());
        Ok(Self { wanted, status, drained, task })
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

/// What goes along with the first order.
struct Sockets {
    start: Vec<u8>,
    listeners: Vec<OwnedFd>,
    handover: UnixListener,
    handover_path: PathBuf,
}

impl Sockets {
    fn new(spec: &Spec) -> Result<Self, SupervisorError> {
        let (listeners, addresses) = (spec.listeners.len(), spec.snapshot.listen.len());
        if listeners != addresses || listeners > MAX_LISTENERS {
            return Err(SupervisorError::Listeners { listeners, addresses });
        }
        let copies: io::Result<Vec<_>> = spec.listeners.iter().map(OwnedFd::try_clone).collect();
        let handover_path = spec.run_dir.join(HANDOVER);
        let cannot = |source| SupervisorError::Handover { path: handover_path.clone(), source };
        match std::fs::remove_file(&handover_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
            Ok(()) | Err(_) => {}
        }
        let handover = UnixListener::bind(&handover_path).map_err(cannot)?;
        std::fs::set_permissions(&handover_path, std::fs::Permissions::from_mode(0o600)).map_err(cannot)?;
        Ok(Self {
            start: encode_frame(&Order::Start(Box::new(spec.snapshot.clone())))?,
            listeners: copies.map_err(cannot)?,
            handover,
            handover_path,
        })
    }

    fn send(&self, channel: &StdUnixStream) -> io::Result<()> {
        let handover = std::iter::once(self.handover.as_fd());
        let all: Vec<_> = self.listeners.iter().map(AsFd::as_fd).chain(handover).collect();
        channel.set_write_timeout(Some(START_TIMEOUT))?;
        fds::send(channel, &self.start, &all)?;
        channel.set_nonblocking(true)
    }
}

/// Starts children, one after the other.
struct Keeper {
    sockets: Arc<Sockets>,
    account: Account,
    program: Program,
    log: Option<OwnedFd>,
    drain_timeout: Duration,
    book: Book,
    wanted: watch::Receiver<Wanted>,
    status: watch::Sender<ProxyStatus>,
    drained: watch::Sender<bool>,
}

/// How a child's time ended.
enum Ended {
    /// As it was told.
    Stopped,
    /// By us, as was wanted.
    Killed,
    /// Nobody supervises any more; the child lives.
    LetGo,
    /// It is dead, and should not be.
    Failed(Fault),
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = SHORTEST_PAUSE;
        while !self.wanted.borrow().is_end() {
            let began = Time::now();
            let ended = self.one_child().await;
            self.book.dead();
            self.publish();
            match ended {
                Ended::Stopped | Ended::Killed => break,
                Ended::LetGo => return,
                Ended::Failed(fault) => {
                    let error = anyhow::Error::from(fault);
                    tracing::warn!("the proxy is started again in {pause:?}: {error:#}");
                }
            }
            if Time::now().since(began) > LONGEST_PAUSE {
                pause = SHORTEST_PAUSE;
            }
            // A stop cuts the pause short; everything else waits for the next child.
            let stopped = self.wanted.wait_for(|wanted| wanted.is_end());
            let nobody_left = matches!(timeout(pause, stopped).await, Ok(Err(_)));
            if nobody_left {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.book.status.restarts += 1;
        }
        drop(std::fs::remove_file(&self.sockets.handover_path));
    }

    /// Starts a child, and watches it until its end.
    async fn one_child(&mut self) -> Ended {
        match self.start_child().await {
            Ok((mut child, channel)) => {
                let ended = self.watch(&channel, &mut child).await;
                match &ended {
                    Ended::Stopped => end(&mut child).await,
                    Ended::LetGo => {}
                    Ended::Failed(_) | Ended::Killed => drop(child.kill().await),
                }
                ended
            }
            Err(fault) => Ended::Failed(fault),
        }
    }

    async fn start_child(&mut self) -> Result<(Child, UnixStream), Fault> {
        let (ours, theirs) = StdUnixStream::pair().map_err(Fault::System)?;
        let log = self.log.as_ref().map(OwnedFd::try_clone).transpose().map_err(Fault::System)?;
        let mut child = self.program.start("proxy", self.account, theirs.into(), log)?;
        self.book.started(child.id());
        let sockets = Arc::clone(&self.sockets);
        // Up to megabytes to a process that may not read: not on the runtime's threads.
        let sent = tokio::task::spawn_blocking(move || sockets.send(&ours).map(|()| ours)).await;
        let sent = sent.map_err(io::Error::other).flatten().and_then(UnixStream::from_std);
        match sent {
            Ok(channel) => Ok((child, channel)),
            Err(error) => {
                end(&mut child).await;
                Err(Fault::System(error))
            }
        }
    }

    async fn watch(&mut self, channel: &UnixStream, child: &mut Child) -> Ended {
        let mut told = Wanted::Serve;
        let mut records = Records::default();
        let mut tick = ticks();
        let mut stop_by = None;
        loop {
            let wanted = *self.wanted.borrow_and_update();
            if wanted == Wanted::Kill {
                return Ended::Killed;
            }
            if wanted != told {
                if let Err(error) = tell(channel, wanted) {
                    return Ended::Failed(Fault::System(error));
                }
                told = wanted;
                self.drained.send_replace(false);
                let deadline = Time::now() + self.drain_timeout + STOP_GRACE;
                stop_by = (wanted == Wanted::Stop).then_some(deadline);
            }
            // Records first: a supervisor that itself was paused finds them waiting, and the ticks it missed count as one.
            let judged = tokio::select! {
                biased;
                read = records.read(channel) => match read {
                    Ok(false) if told == Wanted::Stop => return Ended::Stopped,
                    Ok(false) => return Ended::Failed(exit_of(child).await),
                    Ok(true) => self.judge(&mut records, told),
                    Err(error) => Err(Fault::System(error)),
                },
                changed = self.wanted.changed() => if changed.is_err() { return Ended::LetGo } else { Ok(()) },
                _ = tick.tick() => self.book.tick(),
            };
            self.publish();
            match judged {
                Err(fault) => return Ended::Failed(fault),
                Ok(()) if stop_by.is_some_and(|by| by <= Time::now()) => return Ended::Stopped,
                Ok(()) => {}
            }
        }
    }

    fn judge(&mut self, records: &mut Records, told: Wanted) -> Result<(), Fault> {
        while let Some(bytes) = records.next() {
            let record = Record::decode(bytes)?;
            self.book.record(record)?;
            if record == Record::Drained && told != Wanted::Serve {
                self.drained.send_replace(true);
            }
        }
        Ok(())
    }

    fn publish(&self) {
        self.status.send_if_modified(|status| {
            let new = self.book.status != *status;
            if new {
                status.clone_from(&self.book.status);
            }
            new
        });
    }
}

/// Orders are short: a socket buffer that has no room for one belongs to a child that does not read.
fn tell(channel: &UnixStream, wanted: Wanted) -> io::Result<()> {
    let order = match wanted {
        Wanted::Serve => Order::Resume,
        Wanted::Drain => Order::Drain,
        Wanted::Stop | Wanted::Kill => Order::Stop,
    };
    let frame = encode_frame(&order).map_err(io::Error::other)?;
    if channel.try_write(&frame)? == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn ticks() -> Interval {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

/// Why the child closed its end, as far as its exit says.
async fn exit_of(child: &mut Child) -> Fault {
    match timeout(EXIT_GRACE, child.wait()).await {
        Ok(Ok(status)) => Fault::Exit(status),
        Ok(Err(error)) => Fault::System(error),
        Err(_) => Fault::Closed,
    }
}

/// Waits a moment for the child's own end, then kills it. It is our child and not yet waited for, so its id is its own.
async fn end(child: &mut Child) {
    if timeout(EXIT_GRACE, child.wait()).await.is_err() {
        drop(child.kill().await);
    }
}

/// Bytes from the child, cut into records.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
}

impl Records {
    /// Whether more came; cancel safe.
    async fn read(&mut self, channel: &UnixStream) -> io::Result<bool> {
        loop {
            channel.readable().await?;
            let mut buffer = [0; 64 * RECORD_LEN];
            match channel.try_read(&mut buffer) {
                Ok(length) => {
                    self.bytes.extend_from_slice(&buffer[..length]);
                    return Ok(length > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The child died with our orders unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn next(&mut self) -> Option<[u8; RECORD_LEN]> {
        let record = *self.bytes.first_chunk()?;
        self.bytes.drain(..RECORD_LEN);
        Some(record)
    }
}

/// What is known of the child, from its hostile words. Pure.
#[derive(Debug)]
struct Book {
    status: ProxyStatus,
    /// How many servers each farm has.
    farms: Vec<usize>,
    accepting: bool,
    /// Ticks since the last record, and records since the last tick.
    silent: u32,
    heard: u32,
    /// Whether this child has ever said a word.
    greeted: bool,
}

impl Book {
    fn new(snapshot: &Snapshot) -> Self {
        let server = |farm: &snapshot::Farm, server: &model::Server| ServerStatus {
            farm: farm.name.clone(),
            name: server.name.clone(),
            address: server.address.to_string(),
            healthy: false,
        };
        let servers =
            snapshot.farms.iter().flat_map(|farm| farm.servers.iter().map(move |it| server(farm, it)));
        Self {
            status: ProxyStatus { servers: servers.collect(), ..ProxyStatus::default() },
            farms: snapshot.farms.iter().map(|farm| farm.servers.len()).collect(),
            accepting: false,
            silent: 0,
            heard: 0,
            greeted: false,
        }
    }

    /// A child was started.
    fn started(&mut self, pid: Option<u32>) {
        self.dead();
        self.status.pid = pid;
    }

    /// The child is gone, and with it all that it said.
    fn dead(&mut self) {
        self.status = ProxyStatus {
            restarts: self.status.restarts,
            servers: std::mem::take(&mut self.status.servers),
            ..ProxyStatus::default()
        };
        for server in &mut self.status.servers {
            server.healthy = false;
        }
        (self.accepting, self.greeted, self.silent, self.heard) = (false, false, 0, 0);
    }

    /// Believes a record, unless it speaks of what there is not.
    fn record(&mut self, record: Record) -> Result<(), Fault> {
        self.silent = 0;
        self.greeted = true;
        self.heard += 1;
        match record {
            Record::Alive { accepting, connections, requests } => {
                self.accepting = accepting;
                self.status.alive = true;
                (self.status.connections, self.status.requests) = (connections, requests);
            }
            Record::ServerHealth { farm, server, healthy } => {
                let server = self.server(usize::from(farm), usize::from(server));
                server.ok_or(Fault::NoSuchServer)?.healthy = healthy;
            }
            Record::Drained => {}
        }
        self.status.ready = self.status.alive && self.accepting && self.every_farm_has_a_server();
        if self.heard > MOST_RECORDS { Err(Fault::Flood) } else { Ok(()) }
    }

    /// A quarter of a second went by.
    fn tick(&mut self) -> Result<(), Fault> {
        self.heard = 0;
        self.silent += 1;
        let patience = if self.greeted { SILENT_TICKS } else { FIRST_TICKS };
        if self.silent > patience { Err(Fault::Silent) } else { Ok(()) }
    }

    fn server(&mut self, farm: usize, server: usize) -> Option<&mut ServerStatus> {
        let servers = *self.farms.get(farm)?;
        let before: usize = self.farms[..farm].iter().sum();
        (server < servers).then(|| &mut self.status.servers[before + server])
    }

    fn every_farm_has_a_server(&self) -> bool {
        let mut servers = self.status.servers.as_slice();
        self.farms.iter().all(|farm| {
            let (its, rest) = servers.split_at((*farm).min(servers.len()));
            servers = rest;
            its.iter().any(|server| server.healthy)
        })
    }
}

/// Whether a killed agent left a proxy behind in `run_dir`. It serves on.
pub fn is_left(run_dir: &Path) -> Result<bool, SupervisorError> {
    Ok(connect(&run_dir.join(HANDOVER))?.is_some())
}

/// Listening sockets for `addresses`, in their order, also for addresses that this host does not have yet: those of a proxy
/// that a killed agent left behind in `run_dir`, and new ones for the rest. That proxy then finishes its connections and
/// exits; no connection request is lost, since the sockets themselves move. After an error it serves on instead.
/// Blocks for at most a few seconds.
pub fn take_listeners(run_dir: &Path, addresses: &[SocketAddr]) -> Result<Vec<OwnedFd>, SupervisorError> {
    let path = run_dir.join(HANDOVER);
    let Some(stream) = connect(&path)? else {
        return bind_listeners(addresses, Vec::new());
    };
    let failed = |source| SupervisorError::Adopt { path: path.clone(), source };
    let adopted = receive(&stream).map_err(failed)?;
    let listeners = bind_listeners(addresses, adopted)?;
    say(&stream, worker::FINISH).map_err(failed)?;
    Ok(listeners)
}

/// Ends a proxy that a killed agent left behind in `run_dir`, its connections with it, and removes its socket. Whether there
/// was one. Blocks for at most a few seconds.
pub fn end_left(run_dir: &Path) -> Result<bool, SupervisorError> {
    let path = run_dir.join(HANDOVER);
    let stream = connect(&path)?;
    let failed = |source| SupervisorError::Adopt { path: path.clone(), source };
    if let Some(stream) = &stream {
        receive(stream).and_then(|_sockets| say(stream, worker::END)).map_err(failed)?;
        // The end of its process closes the connection.
        let closed = io::Read::read(&mut { stream }, &mut [0]).map_err(failed)?;
        if closed != 0 {
            return Err(failed(io::ErrorKind::InvalidData.into()));
        }
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        Ok(()) | Err(_) => Ok(stream.is_some()),
    }
}

fn connect(path: &Path) -> Result<Option<StdUnixStream>, SupervisorError> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    match StdUnixStream::connect(path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => Ok(None),
        Err(source) => Err(SupervisorError::Handover { path: path.to_owned(), source }),
    }
}

/// The sockets of the proxy at the other end, with their addresses.
fn receive(stream: &StdUnixStream) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
    let owner = rustix::net::sockopt::socket_peercred(stream)?.uid;
    if !owner.is_root() && owner != rustix::process::geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(ADOPT_TIMEOUT))?;
    let (mut count, mut sockets) = ([0], Vec::new());
    let received = fds::receive(stream, &mut count, &mut sockets)?;
    if received != 1 || usize::from(count[0]) != sockets.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let adopted = sockets.into_iter().map(|socket| {
        let listener = TcpListener::from(socket);
        Ok((listener.local_addr()?, OwnedFd::from(listener)))
    });
    adopted.collect()
}

/// Says what the proxy is to do, now that its sockets are here.
fn say(mut stream: &StdUnixStream, word: [u8; 1]) -> io::Result<()> {
    io::Write::write_all(&mut stream, &word)
}

/// Listening sockets for `addresses`: the adopted ones, and new ones for the rest. Adopted sockets that no address needs are
/// closed.
fn bind_listeners(
    addresses: &[SocketAddr],
    mut adopted: Vec<(SocketAddr, OwnedFd)>,
) -> Result<Vec<OwnedFd>, SupervisorError> {
    let one = |address: &SocketAddr| {
        if let Some(index) = adopted.iter().position(|(bound, _)| bound == address) {
            return Ok(adopted.swap_remove(index).1);
        }
        listen(*address).map_err(|source| SupervisorError::Listen {
            address: *address,
            port: address.port(),
            source,
        })
    };
    addresses.iter().map(one).collect()
}

fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = bind(address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A socket of exactly `address`, which this host need not have yet. It does not listen.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What the proxy is to serve under `config`, with the certificates and keys read from their files. Farms that no site names
/// are left out.
pub fn snapshot(config: &model::Config) -> Result<Snapshot, SupervisorError> {
    let cluster = &config.cluster;
    let used: Vec<&model::Farm> =
        cluster.farms.iter().filter(|farm| cluster.sites.iter().any(|site| site.farm == farm.name)).collect();
    let farms = used.iter().map(|farm| farm_snapshot(farm)).collect::<Result<_, _>>()?;
    let site = |site: &model::Site| {
        let farm = used.iter().position(|farm| farm.name == site.farm);
        let farm = farm.ok_or_else(|| SupervisorError::NoFarm { farm: site.farm.clone() })?;
        site_snapshot(site, farm)
    };
    let sites = cluster.sites.iter().map(site).collect::<Result<_, _>>()?;
    let mut listen: Vec<SocketAddr> = cluster.sites.iter().flat_map(|site| site.listen.clone()).collect();
    listen.sort_unstable();
    listen.dedup();
    Ok(Snapshot { listen, sites, farms, drain_timeout: cluster.drain_timeout })
}

fn site_snapshot(site: &model::Site, farm: usize) -> Result<snapshot::Site, SupervisorError> {
    let certificate = read_pem(&site.certificate)?;
    let key = read_pem(&site.key)?;
    tls::certified_key(&certificate, &key).map_err(|source| SupervisorError::Pem {
        path: match source {
            TlsError::NoKey => site.key.clone(),
            TlsError::NoCertificate | TlsError::Mismatch | TlsError::Unusable(_) | TlsError::Name { .. } => {
                site.certificate.clone()
            }
        },
        source,
    })?;
    Ok(snapshot::Site {
        names: site.names.clone(),
        listen: site.listen.clone(),
        certificate,
        key: PrivateKey::new(key),
        farm,
    })
}

fn farm_snapshot(farm: &model::Farm) -> Result<snapshot::Farm, SupervisorError> {
    let verify = match &farm.verify {
        model::Verify::SameCertificate => Verify::SameCertificate,
        model::Verify::Nothing => Verify::Nothing,
        model::Verify::Ca(path) => {
            let verify = Verify::Ca(read_pem(path)?);
            tls::client_config(&verify, Vec::new())
                .map_err(|source| SupervisorError::Pem { path: path.clone(), source })?;
            verify
        }
    };
    Ok(snapshot::Farm {
        name: farm.name.clone(),
        servers: farm.servers.clone(),
        verify,
        health: farm.health.clone(),
        response_timeout: farm.response_timeout,
        connect_timeout: farm.connect_timeout,
    })
}

fn read_pem(path: &Path) -> Result<String, SupervisorError> {
    let cannot = |source| SupervisorError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(cannot)?.len();
    if length > LONGEST_PEM {
        return Err(cannot(io::ErrorKind::FileTooLarge.into()));
    }
    std::fs::read_to_string(path).map_err(cannot)
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
    /// More came than it can have to say.
    #[error("it sent too many records")]
    Flood,
    /// It sent what is no record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It spoke of a server that is not there.
    #[error("it spoke of a server that is not there")]
    NoSuchServer,
    /// The system refused.
    #[error("the channel failed")]
    System(#[source] io::Error),
}

/// Why there is no proxy. Nothing was started.
#[derive(Debug, Error)]
pub enum SupervisorError {
    /// The child's user or program.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The settings are too long.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not one socket for each address, or too many.
    #[error(
        "{listeners} listening sockets for {addresses} addresses; at most {} can be served",
        channel::MAX_LISTENERS
    )]
    Listeners {
        /// Sockets.
        listeners: usize,
        /// Addresses.
        addresses: usize,
    },
    /// The hand-over socket cannot be made or reached.
    #[error("cannot use {path}; hint: the folder must exist and be root's", path = path.display())]
    Handover {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A proxy that was left behind does not hand its sockets over.
    #[error("the proxy behind {path} does not hand its listening sockets over; hint: another agent may be running; if not, `ss -ltnp` shows the proxy, kill it", path = path.display())]
    Adopt {
        /// The hand-over socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}; hint: `ss -ltnp 'sport = :{port}'` shows who has the port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Its port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// A certificate, key or CA file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate, key or CA file holds something else.
    #[error("cannot use {path}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TlsError,
    },
    /// A site names a farm that is not there.
    #[error("there is no farm `{farm}`")]
    NoFarm {
        /// The farm.
        farm: String,
    },
}

impl SupervisorError {
    /// Whether the configuration, or a file that it names, is to blame.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Spawn(error) => error.is_configuration(),
            Self::Frame(_)
            | Self::Listeners { .. }
            | Self::Read { .. }
            | Self::Pem { .. }
            | Self::NoFarm { .. } => true,
            Self::Handover { .. } | Self::Adopt { .. } | Self::Listen { .. } => false,
        }
    }
}

/// The hand-over socket's name in `run_dir`.
const HANDOVER: &str = "handover.sock";

/// Time between looks at the child; it sends a heartbeat as often.
const TICK: Duration = Duration::from_millis(250);

/// Records that a child may send within a tick: every server's health may change, and an agent that was paused finds as many
/// heartbeats waiting as the socket holds.
const MOST_RECORDS: u32 = 4096;

/// Ticks of silence after which a child is replaced: 2 s.
const SILENT_TICKS: u32 = 8;

/// The same before its first word: 10 s, on a machine that is just starting.
const FIRST_TICKS: u32 = 40;

/// Pause before a dead child is replaced; doubles up to the longest, and begins anew after a child that lived longer than that.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// See `SHORTEST_PAUSE`.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a child may take to read its settings.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long beyond the drain timeout a child may take to stop: the handshakes that it had begun.
const STOP_GRACE: Duration = Duration::from_secs(12);

/// How long a child that said goodbye may take to be gone.
const EXIT_GRACE: Duration = Duration::from_secs(2);

/// How long a proxy that was left behind may take to hand its sockets over.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connection requests that may wait in the kernel while a child is replaced.
const BACKLOG: i32 = 4096;

/// Longest PEM file in bytes.
const LONGEST_PEM: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn book(farms: &[usize]) -> Book {
        let server = |number: usize| model::Server {
            name: format!("server{number}"),
            address: "10.0.0.36:443".parse().unwrap(),
        };
        let farm = |servers: &usize| snapshot::Farm {
            name: "farm".to_owned(),
            servers: (0..*servers).map(server).collect(),
            verify: Verify::Nothing,
            health: model::HealthTest {
                path: "/".to_owned(),
                host: "mail.example.test".to_owned(),
                status: 200,
                body: String::new(),
                interval: TICK,
                timeout: TICK,
                failures: 1,
            },
            response_timeout: TICK,
            connect_timeout: TICK,
        };
        Book::new(&Snapshot {
            listen: Vec::new(),
            sites: Vec::new(),
            farms: farms.iter().map(farm).collect(),
            drain_timeout: TICK,
        })
    }

    const ALIVE: Record = Record::Alive { accepting: true, connections: 3, requests: 2 };

    fn health(farm: u16, server: u16, healthy: bool) -> Record {
        Record::ServerHealth { farm, server, healthy }
    }

    #[test]
    fn ready_is_an_accepting_child_with_a_healthy_server_in_every_farm() {
        let mut book = book(&[2, 1]);
        for (record, ready) in [
            (ALIVE, false),
            (health(0, 1, true), false),
            (health(1, 0, true), true),
            (health(0, 0, true), true),
            (health(0, 1, false), true),
            (health(0, 0, false), false),
            (health(0, 0, true), true),
            (Record::Drained, true),
            (Record::Alive { accepting: false, connections: 0, requests: 0 }, false),
            (ALIVE, true),
        ] {
            book.record(record).unwrap();
            assert_eq!(book.status.ready, ready, "{record:?}");
        }
        assert_eq!((book.status.connections, book.status.requests), (3, 2));
        book.dead();
        assert!(
            !book.status.ready
                && !book.status.alive
                && book.status.servers.iter().all(|server| !server.healthy)
        );
    }

    #[test]
    fn a_child_that_speaks_of_what_there_is_not_is_not_believed() {
        for (farm, server) in [(0, 2), (1, 1), (2, 0), (u16::MAX, u16::MAX)] {
            let judged = book(&[2, 1]).record(health(farm, server, true));
            assert!(matches!(judged, Err(Fault::NoSuchServer)), "{farm} {server}");
        }
    }

    #[test]
    fn silence_is_counted_in_ticks_that_the_agent_was_awake_for() {
        let mut book = book(&[1]);
        book.record(ALIVE).unwrap();
        for _ in 0..SILENT_TICKS {
            book.tick().unwrap();
        }
        assert!(matches!(book.tick(), Err(Fault::Silent)));
        book.record(ALIVE).unwrap();
        book.tick().unwrap();
    }

    #[test]
    fn what_waited_for_a_paused_agent_is_no_flood() {
        // A Unix socket of the default size holds fewer than 300 records.
        let mut book = book(&[1]);
        for _ in 0..300 {
            book.record(ALIVE).unwrap();
        }
        assert!((0..MOST_RECORDS).any(|_| matches!(book.record(ALIVE), Err(Fault::Flood))));
    }

    #[test]
    fn records_come_out_whole_however_the_bytes_arrive() {
        let mut records = Records::default();
        records.bytes.extend_from_slice(&ALIVE.encode()[..7]);
        assert_eq!(records.next(), None);
        records.bytes.extend_from_slice(&ALIVE.encode()[7..]);
        records.bytes.extend_from_slice(&Record::Drained.encode()[..1]);
        assert_eq!(records.next().map(Record::decode), Some(Ok(ALIVE)));
        assert_eq!(records.next(), None);
    }

    #[test]
    fn an_address_can_be_listened_on_again_while_connections_to_it_live() {
        let first = TcpListener::from(listen("127.0.0.1:0".parse().unwrap()).unwrap());
        let address = first.local_addr().unwrap();
        first.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let _server = first.accept().unwrap();
        drop(first);
        listen(address).unwrap();
    }

    #[test]
    fn a_bad_certificate_file_is_named() {
        let folder = std::env::temp_dir().join(format!("rollcall-pem-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let pair = |name: &str| {
            let made = rcgen::generate_simple_self_signed(["mail.example.test".to_owned()]).unwrap();
            let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
            std::fs::write(&certificate, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            (certificate, key)
        };
        let ((certificate, key), (other, _)) = (pair("a"), pair("b"));
        let site = |certificate: &Path, key: &Path| {
            let site = model::Site {
                names: vec!["mail.example.test".to_owned()],
                listen: vec!["192.168.50.8:443".parse().unwrap()],
                certificate: certificate.to_owned(),
                key: key.to_owned(),
                farm: "exchange".to_owned(),
            };
            site_snapshot(&site, 0).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(site(&certificate, &key), Ok(()));
        assert_eq!(site(&other, &key), Err(format!("cannot use {}", other.display())));
        assert_eq!(site(&certificate, &certificate), Err(format!("cannot use {}", certificate.display())));
        let missing = folder.join("missing");
        assert_eq!(site(&certificate, &missing), Err(format!("cannot read {}", missing.display())));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
