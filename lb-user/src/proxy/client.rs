//! The client's side of a request: what `session` and `exchange` ask of it, whatever protocol it speaks.

use std::io;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::http1::{Length, Trailers};
use super::link::{Link, LinkError};
use super::socket::OverSocket;
use super::splice::Side;

/// See the module. All polls are cancel safe. An HTTP/1 connection is one, and so is each stream of an HTTP/2 connection.
pub trait Client {
    /// What carries it.
    type Stream: AsyncRead + AsyncWrite + Unpin;

    /// The request has a body of this length.
    fn expect_body(&mut self, length: Length);

    /// The next content of the request's body, to be consumed; empty: the body has ended.
    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], LinkError>>;

    /// Waits until so many bytes of a body of at least that length have come, and leaves them there. `None`: it ended before.
    fn poll_peek(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<Result<Option<&[u8]>, LinkError>>;

    /// So much content was used; the client may send as much more.
    fn consume_content(&mut self, length: usize);

    /// The trailer of a body that has ended.
    fn trailers(&self) -> Option<&Trailers>;

    /// Where a response's head is to be written, in the form of HTTP/1; it goes out before anything else.
    fn head(&mut self) -> &mut Vec<u8>;

    /// The whole content of the response whose head was written last.
    fn put_text(&mut self, text: &str);

    /// From here on, a response's body of this length is written.
    fn begin_body(&mut self, length: Length);

    /// Writes some of `content`, after all that waits; how much.
    fn poll_write(&mut self, cx: &mut Context<'_>, content: &[u8]) -> Poll<io::Result<usize>>;

    /// Ends the body that is written. `false`: it is shorter than it was said to be, and can only be cut off.
    fn finish_body(&mut self, trailers: Option<&Trailers>) -> bool;

    /// Sends all that waits.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether the client is gone, while its request has been read and nothing else is expected of it.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool;

    /// What carries it, for another protocol than HTTP, if it can be had.
    fn side(&mut self) -> Option<Side<'_, Self::Stream>>;
}

impl<S: AsyncRead + AsyncWrite + Unpin + OverSocket> Client for Link<S> {
    type Stream = S;

    fn expect_body(&mut self, length: Length) {
        self.expect_body(length);
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], LinkError>> {
        self.poll_content(cx)
    }

    fn poll_peek(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<Result<Option<&[u8]>, LinkError>> {
        self.poll_peek(cx, length)
    }

    fn consume_content(&mut self, length: usize) {
        self.consume_content(length);
    }

    fn trailers(&self) -> Option<&Trailers> {
        self.trailers()
    }

    fn head(&mut self) -> &mut Vec<u8> {
        self.head()
    }

    fn put_text(&mut self, text: &str) {
        self.head().extend_from_slice(text.as_bytes());
    }

    fn begin_body(&mut self, length: Length) {
        self.begin_body(length);
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, content: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write(cx, content)
    }

    fn finish_body(&mut self, trailers: Option<&Trailers>) -> bool {
        self.finish_body(trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_gone(cx).is_ready()
    }

    fn side(&mut self) -> Option<Side<'_, S>> {
        Some(self.side())
    }
}
