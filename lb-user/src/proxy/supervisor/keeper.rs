//! Keeps one child running: starts it, tells it what is wanted, hears it, and replaces it when it fails.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::book::{Book, Records};
use super::error::{Fault, SupervisorError};
use super::handover::HANDOVER;
use super::passage::Left;
use super::{Spec, Wanted};
use crate::clock::Time;
use crate::control::api::ProxyStatus;
use crate::proxy::channel::{MAX_LISTENERS, Order, Record, encode_frame};
use crate::proxy::child::Child;
use crate::proxy::fds;
use crate::proxy::spawn::{Account, Program};

/// What goes along with the first order.
pub(super) struct Sockets {
    /// The first order's frame.
    pub(super) start: Vec<u8>,
    pub(super) listeners: Vec<OwnedFd>,
    pub(super) handover: UnixListener,
    pub(super) handover_path: PathBuf,
}

impl Sockets {
    pub(super) fn new(spec: &Spec) -> Result<Self, SupervisorError> {
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

/// What children are started with.
pub(super) struct Means {
    pub(super) account: Account,
    pub(super) program: Program,
    pub(super) log: Option<OwnedFd>,
    pub(super) drain_timeout: Duration,
}

/// Starts children, one after the other.
pub(super) struct Keeper {
    pub(super) sockets: Arc<Sockets>,
    /// A child that runs already; it is watched before another is started.
    pub(super) running: Option<Running>,
    pub(super) means: Means,
    pub(super) book: Book,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) status: watch::Sender<ProxyStatus>,
    pub(super) drained: watch::Sender<bool>,
}

/// A child, and how far its supervisor is with it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) channel: UnixStream,
    pub(super) records: Records,
    /// What it was told last.
    pub(super) told: Wanted,
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
        let mut pause = SHORTEST_PAUSE;
        while !self.wanted.borrow().is_end() {
            let began = Time::now();
            let ended = self.one_child().await;
            if matches!(ended, Ended::Left) {
                break;
            }
            self.book.dead();
            self.publish();
            match ended {
                Ended::Stopped | Ended::Killed | Ended::Left => break,
                Ended::LetGo => return None,
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
                return None;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.book.status.restarts += 1;
        }
        if let Wanted::Leave { drain } = *self.wanted.borrow() {
            let drained = *self.drained.borrow();
            return Some(Left {
                sockets: self.sockets,
                book: self.book,
                running: self.running,
                drain,
                drained,
            });
        }
        drop(std::fs::remove_file(&self.sockets.handover_path));
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
            Ended::Stopped => end(&running.child).await,
            Ended::LetGo => {}
            Ended::Failed(_) | Ended::Killed => drop(running.child.kill().await),
            Ended::Left => self.running = Some(running),
        }
        ended
    }

    async fn start_child(&mut self) -> Result<Running, Fault> {
        let (ours, theirs) = StdUnixStream::pair().map_err(Fault::System)?;
        let log = self.means.log.as_ref().map(OwnedFd::try_clone).transpose().map_err(Fault::System)?;
        let child = self.means.program.start("proxy", self.means.account, theirs.into(), log)?;
        self.book.started(Some(child.id()));
        let sockets = Arc::clone(&self.sockets);
        // Up to megabytes to a process that may not read: not on the runtime's threads.
        let sent = tokio::task::spawn_blocking(move || sockets.send(&ours).map(|()| ours)).await;
        let sent = sent.map_err(io::Error::other).flatten().and_then(UnixStream::from_std);
        match sent {
            Ok(channel) => Ok(Running { child, channel, records: Records::default(), told: Wanted::Serve }),
            Err(error) => {
                end(&child).await;
                Err(Fault::System(error))
            }
        }
    }

    async fn watch(&mut self, running: &mut Running) -> Ended {
        let Running { child, channel, records, told } = running;
        let mut tick = ticks();
        let mut stop_by = None;
        loop {
            let wanted = *self.wanted.borrow_and_update();
            match wanted {
                Wanted::Kill => return Ended::Killed,
                Wanted::Leave { .. } => return Ended::Left,
                Wanted::Serve | Wanted::Drain | Wanted::Stop => {}
            }
            if wanted != *told {
                if let Err(error) = tell(channel, wanted) {
                    return Ended::Failed(Fault::System(error));
                }
                *told = wanted;
                self.drained.send_replace(false);
                let deadline = Time::now() + self.means.drain_timeout + STOP_GRACE;
                stop_by = (wanted == Wanted::Stop).then_some(deadline);
            }
            // Records first: a supervisor that itself was paused finds them waiting, and the ticks it missed count as one.
            let judged = tokio::select! {
                biased;
                read = records.read(channel) => match read {
                    Ok(false) if *told == Wanted::Stop => return Ended::Stopped,
                    Ok(false) => return Ended::Failed(exit_of(child).await),
                    Ok(true) => self.judge(records, *told),
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
        Wanted::Serve | Wanted::Leave { drain: false } => Order::Resume,
        Wanted::Drain | Wanted::Leave { drain: true } => Order::Drain,
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
async fn exit_of(child: &Child) -> Fault {
    match timeout(EXIT_GRACE, child.wait()).await {
        Ok(Ok(status)) => Fault::Exit(status),
        Ok(Err(error)) => Fault::System(error),
        Err(_) => Fault::Closed,
    }
}

/// Waits a moment for the child's own end, then kills it. It is our child and not yet waited for, so its id is its own.
async fn end(child: &Child) {
    if timeout(EXIT_GRACE, child.wait()).await.is_err() {
        drop(child.kill().await);
    }
}

/// Time between looks at the child; it sends a heartbeat as often.
const TICK: Duration = Duration::from_millis(250);

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
