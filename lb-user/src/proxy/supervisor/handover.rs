//! Listening sockets: those of a proxy that a killed agent left behind, and new ones.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::error::SupervisorError;
use super::question::QUESTIONS;
use crate::proxy::{fds, worker};

/// Whether a killed agent left a proxy behind in `run_dir`. It serves on.
pub fn is_left(run_dir: &Path) -> Result<bool, SupervisorError> {
    Ok(connect(&run_dir.join(HANDOVER))?.is_some())
}

/// Listening sockets for `addresses`, in their order, also for addresses that this host does not have yet: those of a proxy
/// that a killed agent left behind in `run_dir`, and new ones for the rest. That proxy then finishes its connections and
/// exits; no connection request is lost, since the sockets themselves move. After an error it serves on instead.
/// Blocks for at most a few seconds.
pub fn take_listeners(run_dir: &Path, addresses: &[SocketAddr]) -> Result<Vec<OwnedFd>, SupervisorError> {
    let path = run_dir.join(HANDOVER);
    let Some(stream) = connect(&path)? else {
        return bind_listeners(addresses, Vec::new());
    };
    let failed = |source| SupervisorError::Adopt { path: path.clone(), source };
    let adopted = receive(&stream).map_err(failed)?;
    let listeners = bind_listeners(addresses, adopted)?;
    say(&stream, worker::FINISH).map_err(failed)?;
    Ok(listeners)
}

/// Ends a proxy that a killed agent left behind in `run_dir`, its connections with it, and removes its socket. Whether there
/// was one. Blocks for at most a few seconds.
pub fn end_left(run_dir: &Path) -> Result<bool, SupervisorError> {
    let path = run_dir.join(HANDOVER);
    let stream = connect(&path)?;
    let failed = |source| SupervisorError::Adopt { path: path.clone(), source };
    if let Some(stream) = &stream {
        receive(stream).and_then(|_sockets| say(stream, worker::END)).map_err(failed)?;
        // The end of its process closes the connection.
        let closed = io::Read::read(&mut { stream }, &mut [0]).map_err(failed)?;
        if closed != 0 {
            return Err(failed(io::ErrorKind::InvalidData.into()));
        }
    }
    // Nobody asks any more.
    drop(std::fs::remove_file(run_dir.join(QUESTIONS)));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        Ok(()) | Err(_) => Ok(stream.is_some()),
    }
}

fn connect(path: &Path) -> Result<Option<StdUnixStream>, SupervisorError> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    match StdUnixStream::connect(path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => Ok(None),
        Err(source) => Err(SupervisorError::Handover { path: path.to_owned(), source }),
    }
}

/// The sockets of the proxy at the other end, with their addresses.
fn receive(stream: &StdUnixStream) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
    let owner = rustix::net::sockopt::socket_peercred(stream)?.uid;
    if !owner.is_root() && owner != rustix::process::geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(ADOPT_TIMEOUT))?;
    let (mut count, mut sockets) = ([0], Vec::new());
    let received = fds::receive(stream, &mut count, &mut sockets)?;
    if received != 1 || usize::from(count[0]) != sockets.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let adopted = sockets.into_iter().map(|socket| {
        let listener = TcpListener::from(socket);
        Ok((listener.local_addr()?, OwnedFd::from(listener)))
    });
    adopted.collect()
}

/// Says what the proxy is to do, now that its sockets are here.
fn say(mut stream: &StdUnixStream, word: [u8; 1]) -> io::Result<()> {
    io::Write::write_all(&mut stream, &word)
}

/// Listening sockets for `addresses`: the adopted ones, and new ones for the rest. Adopted sockets that no address needs are
/// closed.
fn bind_listeners(
    addresses: &[SocketAddr],
    mut adopted: Vec<(SocketAddr, OwnedFd)>,
) -> Result<Vec<OwnedFd>, SupervisorError> {
    let one = |address: &SocketAddr| {
        if let Some(index) = adopted.iter().position(|(bound, _)| bound == address) {
            return Ok(adopted.swap_remove(index).1);
        }
        listen_at(*address).map_err(|source| SupervisorError::Listen {
            address: *address,
            port: address.port(),
            source,
        })
    };
    addresses.iter().map(one).collect()
}

/// A listening socket for `address`, which this host need not have yet.
pub(crate) fn listen_at(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = bind(address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A socket of exactly `address`, which this host need not have yet. It does not listen.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The hand-over socket's name in `run_dir`.
pub(super) const HANDOVER: &str = "handover.sock";

/// How long a proxy that was left behind may take to hand its sockets over.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connection requests that may wait in the kernel while a child is replaced.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_can_be_listened_on_again_while_connections_to_it_live() {
        let first = TcpListener::from(listen_at("127.0.0.1:0".parse().unwrap()).unwrap());
        let address = first.local_addr().unwrap();
        first.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let _server = first.accept().unwrap();
        drop(first);
        listen_at(address).unwrap();
    }
}
