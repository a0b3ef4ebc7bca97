//! A server's stream that can still be read when it can no longer be written.
//!
//! A server that answers early and closes resets the connection under the rest of the upload. Its answer has arrived by then,
//! but hyper gives up on the first failed write and never reads it. Here a failed write is a write to nowhere: the answer is
//! read, then comes the end, which ends the connection for hyper, too.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module.
#[derive(Debug)]
pub struct ServerStream<S> {
    stream: S,
    broken: Arc<AtomicBool>,
}

impl<S> ServerStream<S> {
    /// Wraps `stream`; also what tells whether a write has failed, so that no further request goes there.
    pub fn new(stream: S) -> (Self, Arc<AtomicBool>) {
        let broken = Arc::new(AtomicBool::new(false));
        let stream = Self { stream, broken: Arc::clone(&broken) };
        (stream, broken)
    }

    /// `outcome`, or `instead` once writing has failed.
    fn forgiven<T>(&self, outcome: io::Result<T>, instead: T) -> Poll<io::Result<T>> {
        Poll::Ready(Ok(outcome.unwrap_or_else(|_| {
            self.broken.store(true, Ordering::Release);
            instead
        })))
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ServerStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ServerStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_broken() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.forgiven(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.is_broken() {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.forgiven(written, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_broken() {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.forgiven(flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn what_a_server_said_before_it_reset_the_connection_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let (mut stream, broken) = ServerStream::new(stream);
        stream.write_all(b"unread").await.unwrap();
        server.write_all(b"no").await.unwrap();
        // With bytes unread, this resets the connection.
        drop(server);
        while !broken.load(Ordering::Acquire) {
            stream.write_all(b"more").await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.write_all(b"to nowhere").await.unwrap();
        let mut said = [0; 2];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"no");
    }
}
