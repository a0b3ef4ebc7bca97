//! One side of a request: a stream, what came over it, and what waits to be written to it.
//!
//! Reads heads and the content of bodies, writes heads and content framed anew (`http1`); knows neither what they are for nor
//! how long anything may take. All polls are cancel safe: what they did is kept here.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::unconstrained;

use super::buffer::Buffer;
use super::http1::{Body, Encoder, HeadLimits, Length, Piece, Scanner, Trailers, Violation};
use super::socket::{HangUp, OverSocket};
use super::splice::Side;

/// See the module.
#[derive(Debug)]
pub struct Link<S> {
    stream: S,
    input: Buffer,
    scanner: Scanner,
    body: Body,
    /// Content at the start of `input`.
    ready: usize,
    /// The stream has ended.
    ended: bool,
    /// It ended without a goodbye (TLS's close_notify).
    torn: bool,
    /// Heads and framing to be written, from `written` on.
    output: Vec<u8>,
    written: usize,
    encoder: Encoder,
    /// Something was written since the last flush.
    unflushed: bool,
    /// Of a peer that has ended its side, once that is of interest.
    hang_up: Option<HangUp>,
}

/// Why a link cannot go on.
#[derive(Debug, Error)]
pub enum LinkError {
    /// What came is no HTTP.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The stream ended in the middle of a message.
    #[error("the connection ended in the middle of a message")]
    Cut,
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// A link over a fresh stream.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            input: Buffer::default(),
            scanner: Scanner::default(),
            body: Body::new(Length::None),
            ready: 0,
            ended: false,
            torn: false,
            output: Vec::new(),
            written: 0,
            encoder: Encoder::new(Length::None),
            unflushed: false,
            hang_up: None,
        }
    }

    /// Whether bytes are there that nobody has read.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Gives buffers back that hold nothing.
    pub fn rest(&mut self) {
        self.input.release();
        if self.output.is_empty() {
            self.output = Vec::new();
        }
    }

    /// Reads a head whole. `take` gets its bytes, which are then consumed. `None`: the stream ended where a head could have begun.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        limits: &HeadLimits,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Poll<Result<Option<()>, LinkError>> {
        loop {
            if let Some(length) = self.scanner.scan(self.input.bytes(), limits)? {
                self.scanner = Scanner::default();
                let taken = take(&self.input.bytes()[..length]);
                self.input.consume(length);
                return Poll::Ready(taken.map(Some).map_err(LinkError::from));
            }
            // One byte more than allowed, so that it is seen.
            if ready!(self.poll_input(cx, limits.bytes + 1))? == 0 {
                let clean = self.input.bytes().iter().all(|byte| b"\r\n".contains(byte));
                return Poll::Ready(if clean { Ok(None) } else { Err(LinkError::Cut) });
            }
        }
    }

    /// Waits for the other side to say anything; `false`: it has ended. For a link at rest.
    pub fn poll_stirs(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, LinkError>> {
        if self.has_input() {
            return Poll::Ready(Ok(true));
        }
        let came = ready!(self.poll_input(cx, usize::MAX))?;
        Poll::Ready(Ok(came > 0))
    }

    /// Ready once the other side neither speaks nor listens any more, as far as that can be told.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>
    where
        S: OverSocket,
    {
        match ready!(self.poll_stirs(cx)) {
            Err(_) => Poll::Ready(()),
            // What it says is its next request, which can wait.
            Ok(true) => Poll::Pending,
            Ok(false) => {
                let socket = self.stream.socket();
                if let (None, Some(socket)) = (&self.hang_up, socket) {
                    self.hang_up = HangUp::of(socket).ok();
                }
                ready!(self.hang_up.as_mut().map_or(Poll::Pending, |hang_up| hang_up.poll(cx)));
                self.hang_up = None;
                Poll::Ready(())
            }
        }
    }

    /// Whether the other side of a link at rest has said anything by now, or has ended. It is really looked at: a task that has spent
    /// Tokio's budget would else find every link quiet.
    pub async fn stirs_now(&mut self) -> bool {
        unconstrained(poll_fn(|cx| Poll::Ready(self.poll_stirs(cx).is_ready()))).await
    }

    /// From here on, a body of this length is read.
    pub fn expect_body(&mut self, length: Length) {
        self.body = Body::new(length);
        self.ready = 0;
    }

    /// Whether the body has been read to its end.
    pub fn body_has_ended(&self) -> bool {
        self.ready == 0 && self.body.has_ended()
    }

    /// The trailer of a body that has ended.
    pub fn trailers(&self) -> Option<&Trailers> {
        self.body.trailers()
    }

    /// The next content of the body, to be consumed; empty: the body has ended.
    pub fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], LinkError>> {
        while self.ready == 0 {
            match self.body.next(self.input.bytes())? {
                Piece::Data { skip, data } => {
                    self.input.consume(skip);
                    self.ready = data;
                }
                Piece::End { skip } => {
                    self.input.consume(skip);
                    return Poll::Ready(Ok(&[]));
                }
                Piece::More { skip } => {
                    self.input.consume(skip);
                    if ready!(self.poll_input(cx, usize::MAX))? == 0 {
                        let whole = self.body.end(!self.torn);
                        return Poll::Ready(if whole { Ok(&[]) } else { Err(LinkError::Cut) });
                    }
                }
            }
        }
        Poll::Ready(Ok(self.content()))
    }

    /// Waits until so many bytes of a body that is sent as it is have come, and leaves them there. `None`: the stream ended before.
    pub fn poll_peek(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
    ) -> Poll<Result<Option<&[u8]>, LinkError>> {
        while self.input.bytes().len() < length {
            if ready!(self.poll_input(cx, length))? == 0 {
                return Poll::Ready(Ok(None));
            }
        }
        Poll::Ready(Ok(Some(&self.input.bytes()[..length])))
    }

    /// The content that is there.
    pub fn content(&self) -> &[u8] {
        &self.input.bytes()[..self.ready]
    }

    /// So much content was used.
    pub fn consume_content(&mut self, length: usize) {
        self.ready -= length.min(self.ready);
        self.input.consume(length);
    }

    /// Where a head is to be written; it goes out before anything else.
    pub fn head(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// From here on, a body of this length is written.
    pub fn begin_body(&mut self, length: Length) {
        self.encoder = Encoder::new(length);
    }

    /// Writes some of `content`, after all that waits; how much.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, content: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let allowed = self.encoder.begin(content.len(), &mut self.output);
            let allowed = allowed.ok_or(io::ErrorKind::InvalidData)?;
            let after = self.encoder.after();
            let before = &self.output[self.written..];
            let waiting = before.len();
            let slices = [before, &content[..allowed], after].map(IoSlice::new);
            let wrote = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            let Some(beyond) = wrote.checked_sub(waiting) else {
                self.written += wrote;
                continue;
            };
            self.output.clear();
            self.written = 0;
            let used = beyond.min(allowed);
            self.encoder.wrote(used);
            if !self.encoder.is_within_chunk() {
                self.output.extend_from_slice(&after[beyond - used..]);
            }
            if used > 0 {
                return Poll::Ready(Ok(used));
            }
        }
    }

    /// Ends the body that is written. `false`: it is shorter than it was said to be, and only closing can end it.
    pub fn finish_body(&mut self, trailers: Option<&Trailers>) -> bool {
        self.encoder.finish(trailers, &mut self.output)
    }

    /// Writes and flushes all that waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.output.len() {
            let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output[self.written..]))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += wrote;
            self.unflushed = true;
        }
        self.output.clear();
        self.written = 0;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// The stream, and what came over it and was not used, for another protocol than HTTP. What waits to be written must have
    /// left.
    pub fn side(&mut self) -> Side<'_, S> {
        self.ready = 0;
        Side { stream: &mut self.stream, came: std::mem::take(&mut self.input) }
    }

    /// Says goodbye.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Reads to nowhere, and tells how much; zero: the stream has ended.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.consume(self.input.bytes().len());
        self.ready = 0;
        self.poll_input(cx, usize::MAX)
    }

    fn poll_input(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let came = match ready!(self.input.poll_read(&mut self.stream, cx, most)) {
            Ok(came) => came,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.torn = true;
                0
            }
            Err(error) => return Poll::Ready(Err(error)),
        };
        self.ended = came == 0;
        Poll::Ready(Ok(came))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::task::coop::{has_budget_remaining, poll_proceed};

    use super::*;

    #[tokio::test]
    async fn a_link_that_has_ended_is_seen_to_have_whatever_its_task_did_before() {
        let ((ended, there), (_quiet, silent)) = (duplex(1), duplex(1));
        drop(ended);
        while has_budget_remaining() {
            poll_fn(|cx| poll_proceed(cx).map(|spent| spent.made_progress())).await;
        }
        assert!(Link::new(there).stirs_now().await);
        assert!(!Link::new(silent).stirs_now().await);
    }
}
