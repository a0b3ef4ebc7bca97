//! Supervisor -> the next image of this program -> supervisor: the same process runs another program (`agent/upgrade`), and the
//! child, which is none the wiser, goes on.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::Wanted;
use super::book::{Book, Records};
use super::error::SupervisorError;
use super::keeper::{Outbox, Retiring, Running, Sockets};
use crate::control::api::{ProxyStatus, RetiringStatus};
use crate::proxy::channel::{Order, decode_frame};
use crate::proxy::child::Child;
use crate::proxy::snapshot::Snapshot;

/// What a supervisor leaves behind: everything is still open, and the child serves.
pub struct Left {
    pub(super) sockets: Arc<Sockets>,
    pub(super) book: Book,
    pub(super) running: Option<Running>,
    pub(super) retiring: Option<Retiring>,
    pub(super) drain: bool,
    pub(super) drained: bool,
}

/// The part of it that is words. It holds the keys that the child serves.
#[derive(Serialize, Deserialize)]
pub struct Words {
    /// The first order's frame, for the next child.
    start: Vec<u8>,
    /// The child, if one runs. Its channel is then among the descriptors.
    child: Option<ChildWords>,
    /// One that retires, and for how many more milliseconds it may. Its channel comes next.
    retiring: Option<(ChildWords, RetiringStatus, u64)>,
    status: ProxyStatus,
    accepting: bool,
    greeted: bool,
    elsewhere: u32,
    /// What is wanted.
    drain: bool,
    drained: bool,
}

#[derive(Serialize, Deserialize)]
struct ChildWords {
    pid: u32,
    /// Whether it was told to drain.
    draining: bool,
    /// What it said and was not read as a record yet.
    said: Vec<u8>,
    /// Of what it is to be told, what was not sent yet.
    unsent: Vec<u8>,
    ports: BTreeSet<u16>,
    program: Option<[u8; 32]>,
}

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Left").field("book", &self.book).finish_non_exhaustive()
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Words {
    /// The child's process id, if one runs.
    pub fn child(&self) -> Option<u32> {
        self.child.as_ref().map(|child| child.pid)
    }
}

impl Left {
    /// What is to be said to the next image.
    pub fn words(&self) -> Words {
        let child = self.running.as_ref().map(ChildWords::of);
        let retiring = self.retiring.as_ref().map(|retiring| {
            let left = retiring.by.saturating_duration_since(Instant::now()).as_millis();
            let left = u64::try_from(left).unwrap_or(u64::MAX);
            (ChildWords::of(&retiring.running), retiring.status.clone(), left)
        });
        Words {
            start: self.sockets.start.clone(),
            child,
            retiring,
            status: self.book.status.clone(),
            accepting: self.book.accepting,
            greeted: self.book.greeted,
            elsewhere: self.book.elsewhere,
            drain: self.drain,
            drained: self.drained,
        }
    }

    /// What it has to find open: the sockets for hand-over and for questions, the channel of the child and that of one that retires
    /// if there are such, the listening sockets.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let channel = self.running.as_ref().map(|running| running.channel.as_fd());
        let retiring = self.retiring.as_ref().map(|retiring| retiring.running.channel.as_fd());
        let listeners = self.sockets.listeners.iter().map(OwnedFd::as_fd);
        let ours = [self.sockets.handover.as_fd(), self.sockets.questions.as_fd()];
        ours.into_iter().chain(channel).chain(retiring).chain(listeners).collect()
    }

    /// In the next image: from the words, and the descriptors in the order in which they were named. Within a Tokio runtime.
    pub fn take_up(words: Words, descriptors: Vec<OwnedFd>, run_dir: &Path) -> Result<Self, SupervisorError> {
        let failed = |source| SupervisorError::TakeUp { source };
        let snapshot = snapshot_in(&words.start).map_err(failed)?;
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()));
        let (handover, questions) = (next()?, next()?);
        let running = match words.child {
            Some(child) => Some(child.take_up(next()?).map_err(failed)?),
            None => None,
        };
        let retiring = match words.retiring {
            Some((child, status, left)) => {
                let running = child.take_up(next()?).map_err(failed)?;
                Some(Retiring { running, status, by: Instant::now() + Duration::from_millis(left) })
            }
            None => None,
        };
        let listeners: Vec<_> = descriptors.collect();
        let addresses = snapshot.listen.len();
        if listeners.len() != addresses {
            return Err(SupervisorError::Listeners { listeners: listeners.len(), addresses });
        }
        let sockets = Sockets {
            start: words.start,
            snapshot: Arc::new(snapshot),
            listeners,
            handover: Arc::new(UnixListener::from(handover)),
            questions: Arc::new(UnixListener::from(questions)),
            run_dir: run_dir.to_owned(),
        };
        let Words { status, accepting, greeted, elsewhere, .. } = words;
        let book = Book::resumed(&sockets.snapshot, status, accepting, greeted, elsewhere);
        let book = book.map_err(|fault| failed(io::Error::other(fault)))?;
        let (sockets, drain, drained) = (Arc::new(sockets), words.drain, words.drained);
        Ok(Self { sockets, book, running, retiring, drain, drained })
    }
}

impl ChildWords {
    fn of(running: &Running) -> Self {
        Self {
            pid: running.child.id(),
            draining: running.told == Wanted::Drain,
            said: running.records.unread().to_vec(),
            unsent: running.outbox.unsent(),
            ports: running.ports.clone(),
            program: running.program,
        }
    }

    fn take_up(self, channel: OwnedFd) -> io::Result<Running> {
        let channel = StdUnixStream::from(channel);
        channel.set_nonblocking(true)?;
        Ok(Running {
            child: Child::of(self.pid)?,
            channel: UnixStream::from_std(channel)?,
            records: Records::resumed(self.said),
            // Told again: that changes nothing.
            states: Arc::default(),
            outbox: Outbox::resumed(self.unsent),
            ports: self.ports,
            // One that is not known is another than ours.
            program: Some(self.program.unwrap_or_default()),
            told: if self.draining { Wanted::Drain } else { Wanted::Serve },
        })
    }
}

fn snapshot_in(start: &[u8]) -> io::Result<Snapshot> {
    let order = decode_frame(&mut start.to_vec()).map_err(io::Error::other)?;
    order.and_then(Order::into_start).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
