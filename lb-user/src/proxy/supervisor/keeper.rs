//! Keeps one child running: starts it, tells it what is wanted, hears it, and replaces it when it fails, or when it is to be
//! another program's (`coming` up beside it, then it is `retiring`).

mod coming;
mod guessers;
mod outbox;
mod retiring;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use self::coming::{Coming, Up};
pub(super) use self::guessers::Guessers;
pub(super) use self::outbox::Outbox;
use self::retiring::Heard;
pub(super) use self::retiring::Retiring;
use super::book::{Book, Records};
use super::error::{ApplyError, Fault, ReplaceError, SupervisorError};
use super::handover::{HANDOVER, listen_at};
use super::passage::Left;
use super::question::QUESTIONS;
use super::{News, Spec, Wanted};
use crate::child::{EXIT_GRACE, Pauses, Ward, see_out};
use crate::clock::Time;
use crate::control::api::{ProxyStatus, RetiringStatus};
use crate::proxy::channel::{MAX_LISTENERS, Order, Record, Refusal, ServerState, encode_frame};
use crate::proxy::child::Child;
use crate::proxy::fds;
use crate::proxy::hold::Hold;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::spawn::{Account, Program};
use crate::wall::WallTime;

/// What goes along with the first order.
pub(super) struct Sockets {
    /// The first order's frame.
    pub(super) start: Vec<u8>,
    /// What it says.
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) listeners: Vec<OwnedFd>,
    pub(super) handover: Arc<UnixListener>,
    pub(super) questions: Arc<UnixListener>,
    pub(super) run_dir: PathBuf,
}

impl Sockets {
    pub(super) fn new(spec: &Spec) -> Result<Self, SupervisorError> {
        let (listeners, addresses) = (spec.listeners.len(), spec.snapshot.listen.len());
        if listeners != addresses || listeners > MAX_LISTENERS {
            return Err(SupervisorError::Listeners { listeners, addresses });
        }
        let copies: io::Result<Vec<_>> = spec.listeners.iter().map(OwnedFd::try_clone).collect();
        let private = |name: &str| {
            let path = spec.run_dir.join(name);
            private(&path).map_err(|source| SupervisorError::Handover { path, source })
        };
        let (questions, handover) = (private(QUESTIONS)?, private(HANDOVER)?);
        let cannot = |source| SupervisorError::Handover { path: spec.run_dir.clone(), source };
        Ok(Self {
            start: encode_frame(&Order::Start(Box::new(spec.snapshot.clone())))?,
            snapshot: Arc::new(spec.snapshot.clone()),
            listeners: copies.map_err(cannot)?,
            handover: Arc::new(handover),
            questions: Arc::new(questions),
            run_dir: spec.run_dir.clone(),
        })
    }

    /// Those of another snapshot: the same where the address is the same, and new ones, which come once more for the child.
    fn succeed(&self, mut snapshot: Snapshot) -> Result<(Self, Vec<OwnedFd>), SupervisorError> {
        snapshot.remember(&self.snapshot);
        let (listeners, addresses) = (snapshot.listen.len(), snapshot.listen.len());
        if listeners > MAX_LISTENERS {
            return Err(SupervisorError::Listeners { listeners, addresses });
        }
        let start = encode_frame(&Order::Start(Box::new(snapshot.clone())))?;
        let mut fresh = Vec::new();
        let socket = |address: &SocketAddr| {
            let failed = |source| SupervisorError::Listen { address: *address, port: address.port(), source };
            if let Some(index) = self.snapshot.listen.iter().position(|known| known == address) {
                return self.listeners[index].try_clone().map_err(failed);
            }
            let socket = listen_at(*address).map_err(failed)?;
            fresh.push(socket.try_clone().map_err(failed)?);
            Ok(socket)
        };
        let listeners = snapshot.listen.iter().map(socket).collect::<Result<_, _>>()?;
        let (handover, questions) = (Arc::clone(&self.handover), Arc::clone(&self.questions));
        let (snapshot, run_dir) = (Arc::new(snapshot), self.run_dir.clone());
        Ok((Self { start, snapshot, listeners, handover, questions, run_dir }, fresh))
    }

    fn send(&self, channel: &StdUnixStream) -> io::Result<()> {
        let ours = [self.questions.as_fd(), self.handover.as_fd()];
        let all: Vec<_> = self.listeners.iter().map(AsFd::as_fd).chain(ours).collect();
        channel.set_write_timeout(Some(START_TIMEOUT))?;
        fds::send(channel, &self.start, &all)?;
        channel.set_nonblocking(true)
    }

    /// Removes the files of the Unix sockets.
    fn remove(&self) {
        for name in [HANDOVER, QUESTIONS] {
            drop(std::fs::remove_file(self.run_dir.join(name)));
        }
    }
}

/// A new Unix socket that only root can reach, in place of one that was left.
fn private(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

/// What children are started with.
pub(super) struct Means {
    pub(super) account: Account,
    pub(super) program: Program,
    pub(super) log: Option<OwnedFd>,
}

/// Starts children, one after the other.
pub(super) struct Keeper {
    pub(super) sockets: Arc<Sockets>,
    /// A child that runs already; it is watched before another is started.
    pub(super) running: Option<Running>,
    pub(super) means: Arc<Means>,
    pub(super) book: Book,
    pub(super) wanted: watch::Receiver<Wanted>,
    /// The states that operators gave servers.
    pub(super) states: watch::Receiver<Arc<Vec<ServerState>>>,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) status: watch::Sender<ProxyStatus>,
    pub(super) drained: watch::Sender<bool>,
    /// What `sockets` serve.
    pub(super) served: watch::Sender<Arc<Snapshot>>,
    pub(super) news: mpsc::Sender<News>,
    /// An `Apply` that is not answered yet.
    pub(super) applying: Option<Applying>,
    /// How many there were.
    pub(super) applied: u32,
    /// What was cut off at the end of a drain timeout, and no event has told of yet.
    pub(super) cut: Vec<(Hold, u32)>,
    /// Whose logons are refused, and no event has told of yet.
    pub(super) guessers: Guessers,
    /// A child that is to take over.
    pub(super) coming: Option<Coming>,
    /// One that another took over from.
    pub(super) retiring: Option<Retiring>,
}

/// What is asked of a keeper once, beside what is wanted of it all the time.
pub(super) enum Ask {
    /// Serve this from now on.
    Apply { snapshot: Box<Snapshot>, done: oneshot::Sender<Result<(), ApplyError>> },
    /// Have another child take over, which serves this, if it is given, else the same.
    Replace { snapshot: Option<Box<Snapshot>>, done: oneshot::Sender<Result<(), ReplaceError>> },
}

impl Ask {
    /// Nobody waits for it any more.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Apply { done, .. } => done.is_closed(),
            Self::Replace { done, .. } => done.is_closed(),
        }
    }
}

/// An `Apply` on its way.
pub(super) struct Applying {
    number: u32,
    sockets: Sockets,
    done: oneshot::Sender<Result<(), ApplyError>>,
}

/// A child, and how far its supervisor is with it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) channel: UnixStream,
    pub(super) records: Records,
    /// The states of servers that it was told last.
    pub(super) states: Arc<Vec<ServerState>>,
    pub(super) outbox: Outbox,
    /// What it was told last.
    pub(super) told: Wanted,
    /// The ports of servers that it may connect to, as it was locked in.
    pub(super) ports: BTreeSet<u16>,
    /// The digest of its program, once known.
    pub(super) program: Option<[u8; 32]>,
}

/// How a child's time ended.
enum Ended {
    /// As it was told.
    Stopped,
    /// By us, as was wanted.
    Killed,
    /// Not at all: the next image of this program goes on with it.
    Left,
    /// Nobody supervises any more; the child lives.
    LetGo,
    /// It is dead, and should not be.
    Failed(Fault),
}

impl Keeper {
    /// Until it is told to end; gives what there is for the next image of this program to go on with, if it was told so.
    pub(super) async fn run(mut self) -> Option<Left> {
        let mut pauses = Pauses::new();
        while !self.wanted.borrow().is_end() {
            let began = Time::now();
            let ended = self.one_child().await;
            self.coming = None;
            if let Some(applying) = self.applying.take() {
                // Nobody may be left to tell.
                drop(applying.done.send(Err(ApplyError::Died)));
            }
            if matches!(ended, Ended::Left) {
                break;
            }
            self.book.dead();
            self.publish();
            let pause = pauses.after(Time::now().since(began));
            match ended {
                Ended::Stopped | Ended::Killed | Ended::Left => break,
                Ended::LetGo => return None,
                Ended::Failed(fault) => {
                    let error = anyhow::Error::from(fault);
                    tracing::warn!("the proxy is started again in {pause:?}: {error:#}");
                }
            }
            // A stop cuts the pause short; everything else waits for the next child.
            let stopped = self.wanted.wait_for(|wanted| wanted.is_end());
            let nobody_left = matches!(timeout(pause, stopped).await, Ok(Err(_)));
            if nobody_left {
                return None;
            }
            self.book.status.restarts += 1;
        }
        if let Wanted::Leave { drain } = *self.wanted.borrow() {
            let drained = *self.drained.borrow();
            if let Some(running) = &mut self.running {
                // A child is started before its program's digest is known. One that was taken up from another agent has one.
                running.program = running.program.or_else(|| self.means.program.digest());
            }
            return Some(Left {
                sockets: self.sockets,
                book: self.book,
                running: self.running,
                retiring: self.retiring,
                drain,
                drained,
            });
        }
        self.see_off().await;
        self.tell_cut();
        self.sockets.remove();
        None
    }

    /// Starts a child, or takes the one that runs, and watches it until its end.
    async fn one_child(&mut self) -> Ended {
        let running = match self.running.take() {
            Some(running) => Ok(running),
            None => self.start_child().await,
        };
        let mut running = match running {
            Ok(running) => running,
            Err(fault) => return Ended::Failed(fault),
        };
        let ended = self.watch(&mut running).await;
        match &ended {
            Ended::Stopped => {
                see_out(&running.child).await;
            }
            Ended::LetGo => {}
            Ended::Failed(_) | Ended::Killed => drop(running.child.kill().await),
            Ended::Left => self.running = Some(running),
        }
        ended
    }

    async fn start_child(&mut self) -> Result<Running, Fault> {
        let states = Arc::clone(&self.states.borrow());
        let running = start_child(&self.means, &self.sockets, states).await?;
        self.book.started(Some(running.child.id()));
        self.book.states(&running.states);
        Ok(running)
    }

    async fn watch(&mut self, running: &mut Running) -> Ended {
        let mut tick = ticks();
        let mut stop_by = None;
        loop {
            let wanted = *self.wanted.borrow_and_update();
            match wanted {
                Wanted::Kill => return Ended::Killed,
                Wanted::Leave { .. } => return Ended::Left,
                Wanted::Serve | Wanted::Drain | Wanted::Stop => {}
            }
            let given = Arc::clone(&self.states.borrow_and_update());
            if given != running.states {
                if let Err(error) = running.outbox.put(&Order::States(given.to_vec()), Vec::new()) {
                    return Ended::Failed(error.into());
                }
                self.book.states(&given);
                running.states = given;
            }
            if wanted != running.told {
                if let Err(error) = running.outbox.put(&order_for(wanted), Vec::new()) {
                    return Ended::Failed(error.into());
                }
                running.told = wanted;
                self.drained.send_replace(false);
                let deadline = Time::now() + self.sockets.snapshot.drain_timeout + STOP_GRACE;
                stop_by = (wanted == Wanted::Stop).then_some(deadline);
            }
            let stopping = running.told == Wanted::Stop;
            let busy = self.applying.is_some() || self.coming.is_some() || stopping;
            let Running { child, channel, records, outbox, .. } = &mut *running;
            // Records first: a supervisor that itself was paused finds them waiting, and the ticks it missed count as one.
            let judged = tokio::select! {
                biased;
                read = records.read(channel) => match read {
                    Ok(false) if stopping => return Ended::Stopped,
                    Ok(false) => return Ended::Failed(exit_of(child).await),
                    Ok(true) => self.judge(running),
                    Err(error) => Err(Fault::System(error)),
                },
                changed = self.wanted.changed() => if changed.is_err() { return Ended::LetGo } else { Ok(()) },
                Ok(()) = self.states.changed() => Ok(()),
                sent = outbox.send(channel) => sent.map_err(Fault::System),
                heard = Retiring::hear(&mut self.retiring) => self.heard(heard, running).await,
                came = Coming::up(&mut self.coming) => self.came(came, running).await,
                Some(ask) = self.asks.recv(), if !busy => self.begin(ask, running),
                _ = tick.tick() => {
                    self.tell_cut();
                    if let Some(text) = self.guessers.due(Time::now()) {
                        self.tell("logons-refused", true, text);
                    }
                    self.book.tick()
                }
            };
            self.publish();
            match judged {
                Err(fault) => return Ended::Failed(fault),
                Ok(()) if stop_by.is_some_and(|by| by <= Time::now()) => return Ended::Stopped,
                Ok(()) => {}
            }
        }
    }

    fn judge(&mut self, running: &mut Running) -> Result<(), Fault> {
        while let Some(bytes) = running.records.next() {
            let record = Record::decode(bytes)?;
            self.book.record(record, WallTime::now())?;
            match record {
                Record::Drained if running.told != Wanted::Serve => {
                    self.drained.send_replace(true);
                }
                Record::Applied { number, refusal } => self.answered(number, refusal, running)?,
                Record::Cut { hold, count } => self.cut.push((hold, count)),
                Record::LogonsRefused { client, whom, count } => self.guessers.add(client, whom, count),
                Record::Drained
                | Record::Alive { .. }
                | Record::ServerHealth { .. }
                | Record::ServerNow { .. }
                | Record::ServerRequests { .. }
                | Record::ServerFailures { .. }
                | Record::ServerTime { .. }
                | Record::Presented { .. } => {}
            }
        }
        Ok(())
    }

    /// Begins what was asked for.
    fn begin(&mut self, ask: Ask, running: &mut Running) -> Result<(), Fault> {
        if ask.is_given_up() {
            return Ok(());
        }
        match ask {
            Ask::Replace { snapshot, done } => {
                let sockets = match snapshot.map(|snapshot| self.sockets.succeed(*snapshot)).transpose() {
                    Ok(Some((sockets, _fresh))) => Arc::new(sockets),
                    Ok(None) => Arc::clone(&self.sockets),
                    Err(error) => {
                        drop(done.send(Err(ReplaceError(format!("{:#}", anyhow::Error::from(error))))));
                        return Ok(());
                    }
                };
                self.coming =
                    Some(Coming::begin(Arc::clone(&self.means), sockets, self.states.clone(), done));
            }
            Ask::Apply { snapshot, done } => {
                let (sockets, fresh) = match self.sockets.succeed(*snapshot) {
                    Ok(succeeded) => succeeded,
                    Err(error) => {
                        drop(done.send(Err(ApplyError::Sockets(error))));
                        return Ok(());
                    }
                };
                self.applied = self.applied.wrapping_add(1);
                let (number, snapshot) = (self.applied, Box::new(Snapshot::clone(&sockets.snapshot)));
                if let Err(error) = running.outbox.put(&Order::Apply { number, snapshot }, fresh) {
                    drop(done.send(Err(ApplyError::Sockets(error.into()))));
                    return Ok(());
                }
                self.applying = Some(Applying { number, sockets, done });
            }
        }
        Ok(())
    }

    /// The child says what became of an `Apply`.
    fn answered(&mut self, number: u32, refusal: Option<Refusal>, running: &Running) -> Result<(), Fault> {
        let applying = self.applying.take().filter(|applying| applying.number == number);
        let Applying { sockets, done, .. } = applying.ok_or(Fault::Unasked)?;
        let outcome = match refusal {
            None => {
                self.book.succeed(&sockets.snapshot);
                self.book.states(&running.states);
                self.take_up(Arc::new(sockets));
                Ok(())
            }
            Some(Refusal::Port) => {
                let known = |port: &u16| running.ports.contains(port);
                Err(ApplyError::Ports(
                    sockets.snapshot.ports().into_iter().filter(|port| !known(port)).collect(),
                ))
            }
            Some(Refusal::Settings) => Err(ApplyError::Settings),
            Some(Refusal::Sockets) => Err(ApplyError::Unfit),
        };
        // Nobody may be left to tell.
        drop(done.send(outcome));
        Ok(())
    }

    /// These are what is served from now on.
    fn take_up(&mut self, sockets: Arc<Sockets>) {
        self.served.send_replace(Arc::clone(&sockets.snapshot));
        self.sockets = sockets;
    }

    /// Another child is up, or cannot be.
    async fn came(&mut self, came: Result<Up, Fault>, running: &mut Running) -> Result<(), Fault> {
        let Some(Coming { sockets, done, .. }) = self.coming.take() else { return Ok(()) };
        let Up { running: next, book } = match came {
            Ok(up) => up,
            Err(fault) => {
                let error = anyhow::Error::from(fault);
                self.tell(
                    "worker-not-replaced",
                    true,
                    format!("the proxy's worker was not replaced: {error:#}"),
                );
                drop(done.send(Err(ReplaceError(format!("{error:#}")))));
                return Ok(());
            }
        };
        let (old, before) = (std::mem::replace(running, next), std::mem::replace(&mut self.book, book));
        self.book.status.restarts = before.status.restarts;
        self.book.status.closed = before.status.closed;
        self.take_up(sockets);
        let status = RetiringStatus {
            pid: old.child.id(),
            connections: before.status.connections,
            requests: before.status.requests,
        };
        let text = format!(
            "the proxy's worker {} took over from {}, which finishes {} connections",
            running.child.id(),
            status.pid,
            status.connections
        );
        self.tell("worker-replaced", false, text);
        // At most two at a time: the oldest has to go.
        self.end_retiring("a third worker took over").await;
        let within = self.sockets.snapshot.drain_timeout + STOP_GRACE;
        self.retiring = Some(Retiring::begin(old, status, within)?);
        self.share_limits(running)?;
        drop(done.send(Ok(())));
        Ok(())
    }

    /// The worker that retires said something.
    async fn heard(&mut self, heard: Heard, running: &mut Running) -> Result<(), Fault> {
        match heard {
            Heard::Word { cut } => self.cut.extend(cut),
            Heard::End(None) => {
                self.tell_cut();
                if let Some(retiring) = self.retiring.take() {
                    see_out(&retiring.running.child).await;
                    let text = format!("the proxy's worker {} has finished and is gone", retiring.status.pid);
                    self.tell("worker-gone", false, text);
                }
            }
            Heard::End(Some(fault)) => self.end_retiring(&fault.to_string()).await,
        }
        self.share_limits(running)
    }

    async fn end_retiring(&mut self, why: &str) {
        let Some(retiring) = self.retiring.take() else { return };
        drop(retiring.running.child.kill().await);
        let RetiringStatus { pid, connections, .. } = retiring.status;
        let text = format!("the proxy's worker {pid} was ended with {connections} connections: {why}");
        self.tell("worker-ended", connections > 0, text);
    }

    /// What the one still needs of the limit on connections the other may not use.
    fn share_limits(&mut self, running: &mut Running) -> Result<(), Fault> {
        let needed = self.retiring.as_ref().map_or(0, |retiring| retiring.status.connections);
        if std::mem::replace(&mut self.book.elsewhere, needed) == needed {
            return Ok(());
        }
        let order = Order::Elsewhere { connections: needed };
        Ok(running.outbox.put(&order, Vec::new())?)
    }

    /// Waits for a worker that retires, or, where nothing is to be waited for, ends it.
    async fn see_off(&mut self) {
        while self.retiring.is_some() {
            let killed = self.wanted.wait_for(|wanted| *wanted == Wanted::Kill);
            let heard = tokio::select! {
                heard = Retiring::hear(&mut self.retiring) => heard,
                _ = killed => Heard::End(Some(Fault::Unwanted)),
            };
            match heard {
                Heard::Word { cut } => self.cut.extend(cut),
                Heard::End(None) => {
                    if let Some(retiring) = self.retiring.take() {
                        see_out(&retiring.running.child).await;
                    }
                }
                Heard::End(Some(fault)) => self.end_retiring(&fault.to_string()).await,
            }
        }
    }

    /// What was closed at the end of a drain timeout is no failure, and told by kind.
    fn tell_cut(&mut self) {
        let mut by_kind = BTreeMap::new();
        for (hold, count) in self.cut.drain(..) {
            *by_kind.entry(hold).or_insert(0_u64) += u64::from(count);
        }
        if by_kind.is_empty() {
            return;
        }
        for (hold, count) in &by_kind {
            *self.book.status.closed.entry(hold.to_string()).or_insert(0) += count;
        }
        let kinds: Vec<String> = by_kind.iter().map(|(hold, count)| format!("{count} {hold}")).collect();
        self.tell(
            "drain-closed",
            false,
            format!("at the end of the drain timeout were closed: {}", kinds.join(", ")),
        );
    }

    fn tell(&self, kind: &'static str, warning: bool, text: String) {
        if warning {
            tracing::warn!("{text}")
        } else {
            tracing::info!("{text}")
        }
        // Who does not read misses some; the log has them.
        drop(self.news.try_send(News { kind, warning, text }));
    }

    fn publish(&mut self) {
        self.book.status.retiring = self.retiring.as_ref().map(|retiring| retiring.status.clone());
        let known = &self.book.status;
        self.status.send_if_modified(|status| {
            let new = *known != *status;
            if new {
                status.clone_from(known);
            }
            new
        });
    }
}

/// Starts a child, which is told these states of servers before anything else.
async fn start_child(
    means: &Means,
    sockets: &Arc<Sockets>,
    states: Arc<Vec<ServerState>>,
) -> Result<Running, Fault> {
    let mut outbox = Outbox::default();
    if !states.is_empty() {
        outbox.put(&Order::States(states.to_vec()), Vec::new())?;
    }
    let (ours, theirs) = StdUnixStream::pair().map_err(Fault::System)?;
    let log = means.log.as_ref().map(OwnedFd::try_clone).transpose().map_err(Fault::System)?;
    let ward = Ward::of(means.program.start("proxy", means.account, theirs.into(), log)?);
    let ports = sockets.snapshot.ports();
    let sockets = Arc::clone(sockets);
    // Up to megabytes to a process that may not read: not on the runtime's threads.
    let sent = tokio::task::spawn_blocking(move || sockets.send(&ours).map(|()| ours)).await;
    let sent = sent.map_err(io::Error::other).flatten().and_then(UnixStream::from_std);
    let child = ward.release().ok_or(Fault::Closed)?;
    match sent {
        Ok(channel) => Ok(Running {
            child,
            channel,
            records: Records::default(),
            states,
            outbox,
            told: Wanted::Serve,
            ports,
            program: means.program.digest(),
        }),
        Err(error) => {
            see_out(&child).await;
            Err(Fault::System(error))
        }
    }
}

fn order_for(wanted: Wanted) -> Order {
    match wanted {
        Wanted::Serve | Wanted::Leave { drain: false } => Order::Resume,
        Wanted::Drain | Wanted::Leave { drain: true } => Order::Drain,
        Wanted::Stop | Wanted::Kill => Order::Stop,
    }
}

fn ticks() -> Interval {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

/// Why the child closed its end, as far as its exit says.
async fn exit_of(child: &Child) -> Fault {
    match timeout(EXIT_GRACE, child.wait()).await {
        Ok(Ok(status)) => Fault::Exit(status),
        Ok(Err(error)) => Fault::System(error),
        Err(_) => Fault::Closed,
    }
}

/// Time between looks at the child; it sends a heartbeat as often.
const TICK: Duration = Duration::from_millis(250);

/// How long a child may take to read its settings.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long beyond the drain timeout a child may take to stop: the handshakes that it had begun.
const STOP_GRACE: Duration = Duration::from_secs(12);
