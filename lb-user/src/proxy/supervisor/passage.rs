//! Supervisor -> the next image of this program -> supervisor: the same process runs another program (`agent/upgrade`), and the
//! child, which is none the wiser, goes on.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use super::Wanted;
use super::book::{Book, Records};
use super::error::SupervisorError;
use super::handover::HANDOVER;
use super::keeper::{Running, Sockets};
use crate::control::api::ProxyStatus;
use crate::proxy::channel::{Order, decode_frame};
use crate::proxy::child::Child;
use crate::proxy::snapshot::Snapshot;

/// What a supervisor leaves behind: everything is still open, and the child serves.
pub struct Left {
    pub(super) sockets: Arc<Sockets>,
    pub(super) book: Book,
    pub(super) running: Option<Running>,
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
    status: ProxyStatus,
    accepting: bool,
    greeted: bool,
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
        let child = self.running.as_ref().map(|running| ChildWords {
            pid: running.child.id(),
            draining: running.told == Wanted::Drain,
            said: running.records.unread().to_vec(),
        });
        Words {
            start: self.sockets.start.clone(),
            child,
            status: self.book.status.clone(),
            accepting: self.book.accepting,
            greeted: self.book.greeted,
            drain: self.drain,
            drained: self.drained,
        }
    }

    /// What it has to find open: the hand-over socket, the child's channel if there is a child, the listening sockets.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let channel = self.running.as_ref().map(|running| running.channel.as_fd());
        let listeners = self.sockets.listeners.iter().map(OwnedFd::as_fd);
        std::iter::once(self.sockets.handover.as_fd()).chain(channel).chain(listeners).collect()
    }

    /// In the next image: from the words, and the descriptors in the order in which they were named. Within a Tokio runtime.
    pub fn take_up(words: Words, descriptors: Vec<OwnedFd>, run_dir: &Path) -> Result<Self, SupervisorError> {
        let failed = |source| SupervisorError::TakeUp { source };
        let snapshot = snapshot_in(&words.start).map_err(failed)?;
        let mut descriptors = descriptors.into_iter();
        let handover = descriptors.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let running = match words.child {
            Some(child) => {
                let channel = descriptors.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
                Some(child.take_up(channel).map_err(failed)?)
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
            listeners,
            handover: UnixListener::from(handover),
            handover_path: run_dir.join(HANDOVER),
        };
        let book = Book::resumed(&snapshot, words.status, words.accepting, words.greeted);
        let book = book.map_err(|fault| failed(io::Error::other(fault)))?;
        Ok(Self { sockets: Arc::new(sockets), book, running, drain: words.drain, drained: words.drained })
    }

    /// What the child serves.
    pub(super) fn snapshot(&self) -> Result<Snapshot, SupervisorError> {
        snapshot_in(&self.sockets.start).map_err(|source| SupervisorError::TakeUp { source })
    }
}

impl ChildWords {
    fn take_up(self, channel: OwnedFd) -> io::Result<Running> {
        let channel = StdUnixStream::from(channel);
        channel.set_nonblocking(true)?;
        Ok(Running {
            child: Child::of(self.pid)?,
            channel: UnixStream::from_std(channel)?,
            records: Records::resumed(self.said),
            told: if self.draining { Wanted::Drain } else { Wanted::Serve },
        })
    }
}

fn snapshot_in(start: &[u8]) -> io::Result<Snapshot> {
    match decode_frame(&mut start.to_vec()).map_err(io::Error::other)? {
        Some(Order::Start(snapshot)) => Ok(*snapshot),
        Some(Order::Drain | Order::Resume | Order::Stop) | None => Err(io::ErrorKind::InvalidData.into()),
    }
}
