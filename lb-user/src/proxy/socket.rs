//! How the proxy's TCP sockets are set up, and how one is noticed that has hung up.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::sys::with_interest;

/// Frames leave at once, and a peer that is gone, or takes nothing of what waits for it, is noticed.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive())?;
    socket.set_tcp_user_timeout(Some(UNTAKEN_TIMEOUT))
}

/// Finds peers that are gone; more seldom than a phone's radio would mind.
pub fn keepalive() -> socket2::TcpKeepalive {
    socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(75))
        .with_interval(Duration::from_secs(15))
        .with_retries(4)
}

/// A stream that may lie over a socket.
pub trait OverSocket {
    /// The socket beneath.
    fn socket(&self) -> Option<BorrowedFd<'_>>;
}

impl OverSocket for TcpStream {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

#[cfg(test)]
impl OverSocket for tokio::io::DuplexStream {
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Whether a peer that has ended its side is gone altogether. Who has ended may still wait for an answer (RFC 9293, 3.6), and reading
/// tells no more from then on; but whoever does not wait answers what it gets, keepalive probes too, with a reset.
pub struct HangUp(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl HangUp {
    /// Of the peer of a socket. Costs a descriptor while it lives.
    pub fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let socket = with_interest(socket.try_clone_to_owned()?, Interest::ERROR)?;
        Ok(Self(Box::pin(async move {
            // An error is the same news.
            drop(socket.ready(Interest::ERROR).await);
        })))
    }

    /// Ready once it is; then not to be polled again.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HangUp")
    }
}

/// Longest time that bytes may wait for the other side to take them: who takes nothing for so long is gone or hostile.
const UNTAKEN_TIMEOUT: Duration = Duration::from_secs(120);
