//! Frames of a stream, one after the other. How long to wait for them is the caller's.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::frame::{Decoder, Frame, FrameError, Limits};

/// The reading end.
#[derive(Debug)]
pub struct Frames<R> {
    from: R,
    decoder: Decoder,
    buffer: Box<[u8]>,
    /// What of `buffer` has come and is not decoded.
    fresh: std::ops::Range<usize>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Of `from`, within these limits.
    pub fn new(from: R, limits: Limits) -> Self {
        let buffer = vec![0; CHUNK].into_boxed_slice();
        Self { from, decoder: Decoder::new(limits), buffer, fresh: 0..0 }
    }

    /// The next frame, if what has come has it.
    pub fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let mut rest = &self.buffer[self.fresh.clone()];
        let taken = self.decoder.take(&mut rest);
        self.fresh.start = self.fresh.end - rest.len();
        taken
    }

    /// Waits for more bytes, once [`Frames::take`] has none; `false`: the end. Cancel safe.
    pub async fn fill(&mut self) -> io::Result<bool> {
        let length = self.from.read(&mut self.buffer).await?;
        self.fresh = 0..length;
        Ok(length > 0)
    }

    /// The next frame; `None`: the end. Cancel safe. What is no frame is an error of the kind `InvalidData`.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take().map_err(invalid)? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Length of the body that is coming.
    pub fn announced(&self) -> Option<usize> {
        self.decoder.announced().ok().flatten()
    }

    /// Whether part of a frame has come.
    pub fn is_within(&self) -> bool {
        self.decoder.is_within()
    }
}

/// Writes all of a frame; each piece has to be taken `within` this time. Not cancel safe.
pub async fn write<W: AsyncWrite + Unpin>(to: &mut W, frame: &Frame, within: Duration) -> io::Result<()> {
    let head = frame.head();
    for piece in head.chunks(CHUNK).chain(frame.body.chunks(CHUNK)) {
        timeout(within, to.write_all(piece)).await??;
    }
    Ok(())
}

/// What a frame that is none is among errors of a stream.
pub fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Bytes read or written at once.
pub const CHUNK: usize = 16 << 10;
