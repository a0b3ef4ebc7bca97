//! A connection between nodes, after its handshake: frames, with an end to every patience.
//!
//! Whoever sends has to move on: an idle connection is given up after a time that the caller names, a frame that has begun must make
//! progress every [`PROGRESS`] and be whole within a time, and what is written must be taken as fast. Long frames first get room for
//! all of their bytes (`Room`), which all connections share: so many can be read at a time, and the others wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::channel::{Trouble, Why};
use super::frame::{Frame, HEAD, Limits};
use super::message::Message;
use super::stream::{CHUNK, Frames};
use super::tls::why_of;
use super::{MAX_MESSAGE, MAX_STRANGER};

/// Where bytes of long frames are kept, of all connections together.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

/// Some of it, until dropped. A short frame has none.
pub type Kept = Option<OwnedSemaphorePermit>;

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_LONG * MAX_MESSAGE / UNIT)))
    }
}

impl Room {
    async fn keep(&self, length: usize) -> Kept {
        let units = u32::try_from(length.div_ceil(UNIT)).unwrap_or(u32::MAX);
        // It is never closed.
        Arc::clone(&self.0).acquire_many_owned(units).await.ok()
    }
}

/// How long a reader waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between frames.
    pub idle: Duration,
    /// From a frame's first byte to its last.
    pub whole: Duration,
}

/// The reading half.
#[derive(Debug)]
pub struct Reader<R> {
    frames: Frames<R>,
    room: Room,
    kept: Kept,
    patience: Patience,
    /// When something came last.
    last: Instant,
    /// When the frame began that is coming.
    began: Option<Instant>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Of `from`, whose frames have these limits.
    pub fn new(from: R, limits: Limits, patience: Patience, room: Room) -> Self {
        let frames = Frames::new(from, limits);
        Self { frames, room, kept: None, patience, last: Instant::now(), began: None }
    }

    /// The next message, and the room that it is kept in. Cancel safe.
    pub async fn next(&mut self) -> Result<(Message, Kept), Why> {
        let garbled = Why::Unreachable(Trouble::Garbled);
        loop {
            if let Some(frame) = self.frames.take().map_err(|_| garbled)? {
                self.began = None;
                return Ok((Message::of_frame(frame).ok_or(garbled)?, self.kept.take()));
            }
            self.make_room().await;
            match timeout_at(self.deadline(), self.frames.fill()).await {
                Ok(Ok(true)) => self.last = Instant::now(),
                Ok(Ok(false)) => return Err(Why::Unreachable(Trouble::Closed)),
                Ok(Err(error)) => return Err(why_of(&error)),
                Err(_) => return Err(Why::Unreachable(Trouble::Silent)),
            }
        }
    }

    /// The other end was busy taking what was written.
    pub fn touch(&mut self) {
        self.last = Instant::now();
    }

    async fn make_room(&mut self) {
        if self.frames.is_within() && self.began.is_none() {
            self.began = Some(self.last);
        }
        let long = self.frames.announced().filter(|length| *length > MAX_STRANGER && self.kept.is_none());
        if let Some(length) = long {
            self.kept = self.room.keep(length).await;
            // The wait was ours.
            self.last = Instant::now();
            self.began = Some(self.last);
        }
    }

    fn deadline(&self) -> Instant {
        match self.began {
            None => self.last + self.patience.idle,
            Some(began) => (self.last + PROGRESS).min(began + self.patience.whole),
        }
    }
}

/// The writing half. Whatever is put in has to be bounded by who puts it.
#[derive(Debug)]
pub struct Writer<W, G> {
    to: W,
    pieces: VecDeque<Piece<G>>,
    /// Written and perhaps not sent.
    unsent: bool,
    last: Instant,
}

#[derive(Debug)]
struct Piece<G> {
    bytes: Vec<u8>,
    written: usize,
    /// Dropped once the piece is written.
    _guard: Option<G>,
}

impl<W: AsyncWrite + Unpin, G> Writer<W, G> {
    /// To `to`.
    pub fn new(to: W) -> Self {
        Self { to, pieces: VecDeque::new(), unsent: false, last: Instant::now() }
    }

    /// Puts a message behind the others; `guard` is dropped once it is written.
    pub fn put(&mut self, message: Message, guard: Option<G>) {
        if self.is_idle() {
            self.last = Instant::now();
        }
        let frame = message.into_frame();
        if frame.body.len() <= CHUNK - HEAD {
            self.push(frame.encode(), guard);
        } else {
            self.push(frame.head().to_vec(), None);
            let Frame { body, .. } = frame;
            self.push(body, guard);
        }
    }

    fn push(&mut self, bytes: Vec<u8>, guard: Option<G>) {
        self.pieces.push_back(Piece { bytes, written: 0, _guard: guard });
    }

    /// Whether nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        self.pieces.is_empty() && !self.unsent
    }

    /// Pieces that wait.
    pub fn backlog(&self) -> usize {
        self.pieces.len()
    }

    /// Gets on with it; waits for ever while there is nothing to write. Cancel safe; to be called again and again.
    pub async fn step(&mut self) -> Result<(), Why> {
        let deadline = self.last + PROGRESS;
        let written = match self.pieces.front_mut() {
            Some(piece) => {
                let left = &piece.bytes[piece.written..];
                let write = self.to.write(&left[..left.len().min(CHUNK)]);
                timeout_at(deadline, write).await.map(|written| written.map(Some))
            }
            None if self.unsent => {
                timeout_at(deadline, self.to.flush()).await.map(|sent| sent.map(|()| None))
            }
            None => return std::future::pending().await,
        };
        match written {
            Ok(Ok(Some(0))) => Err(Why::Unreachable(Trouble::Closed)),
            Ok(Ok(written)) => {
                self.wrote(written);
                Ok(())
            }
            Ok(Err(error)) => Err(why_of(&error)),
            Err(_) => Err(Why::Unreachable(Trouble::Silent)),
        }
    }

    /// So many bytes of the first piece; `None`: all that was written is sent.
    fn wrote(&mut self, written: Option<usize>) {
        self.last = Instant::now();
        self.unsent = written.is_some();
        let (Some(written), Some(piece)) = (written, self.pieces.front_mut()) else { return };
        piece.written += written;
        if piece.written >= piece.bytes.len() {
            self.pieces.pop_front();
        }
    }

    /// Ends the stream. What waits is lost.
    pub async fn close(&mut self) {
        // Nothing depends on it.
        drop(timeout_at(Instant::now() + Duration::from_secs(1), self.to.shutdown()).await);
    }
}

/// How often a frame that has begun has to get on, in either direction.
pub const PROGRESS: Duration = Duration::from_secs(10);

/// So many of the longest messages are received at a time.
const MOST_LONG: usize = 8;

/// Bytes that the room is counted by.
const UNIT: usize = 1 << 10;

#[cfg(test)]
mod tests;
