//! How the proxy's TCP sockets are set up.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

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

/// Longest time that bytes may wait for the other side to take them: who takes nothing for so long is gone or hostile.
const UNTAKEN_TIMEOUT: Duration = Duration::from_secs(120);
