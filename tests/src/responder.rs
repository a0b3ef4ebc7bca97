//! A small service on a node: it answers whatever it is told, over TCP and UDP, with the node's name and what it was told, at
//! once. One thread, one poll. Its clients are `caller` and `asker`.
//!
//! It is a thread of the test with sockets in the node's namespace. It may be started before an agent has brought the cluster
//! IPs, and it outlives the agent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::sys::{Namespace, allow_many_files};

/// The port where it is asked.
pub const PORT: u16 = 53;

/// How long a name is in an answer, spaces included.
pub const NAME: usize = 8;

/// The longest question.
pub const LONGEST: usize = 512;

/// Connections that may wait to be accepted: a flood's worth.
const BACKLOG: i32 = 4096;

/// How long it may take to notice that it has to stop.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// A running service; ended when dropped.
#[derive(Debug)]
pub struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Starts the service at port `port` of these addresses of `namespace`, answering as `name`.
    pub fn start(namespace: &Namespace, name: &str, addresses: &[IpAddr], port: u16) -> Result<Self> {
        allow_many_files()?;
        let sockets = namespace.enter(|| Sockets::open(addresses, port))?;
        let sockets = sockets.with_context(|| format!("the responder on {name}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let name = format!("{name:NAME$}").into_bytes();
        let thread = thread::spawn(move || sockets.serve(&name, &stopped));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The node's name and the question in an answer.
pub fn parse_answer(answer: &[u8]) -> Option<(&str, &[u8])> {
    let (name, question) = answer.split_at_checked(NAME)?;
    Some((std::str::from_utf8(name).ok()?.trim_end(), question))
}

struct Sockets {
    datagrams: Vec<UdpSocket>,
    listeners: Vec<TcpListener>,
    open: Vec<TcpStream>,
}

impl Sockets {
    fn open(addresses: &[IpAddr], port: u16) -> Result<Self> {
        let mut sockets = Self { datagrams: Vec::new(), listeners: Vec::new(), open: Vec::new() };
        for &address in addresses {
            let udp = bound(address, port, Type::DGRAM, Protocol::UDP)?;
            udp.set_recv_buffer_size(4 << 20)?;
            sockets.datagrams.push(udp.into());
            let tcp = bound(address, port, Type::STREAM, Protocol::TCP)?;
            tcp.listen(BACKLOG)?;
            sockets.listeners.push(tcp.into());
        }
        Ok(sockets)
    }

    fn serve(mut self, name: &[u8], stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let mut ready = self.wait().into_iter();
            for (socket, _) in self.datagrams.iter().zip(&mut ready).filter(|(_, ready)| *ready) {
                answer_datagrams(socket, name);
            }
            let listeners = self.listeners.iter().zip(&mut ready).filter(|(_, ready)| *ready);
            let new: Vec<_> = listeners.flat_map(|(listener, _)| accept_all(listener)).collect();
            self.open.retain_mut(|stream| !ready.next().unwrap_or(false) || answer_stream(stream, name));
            self.open.extend(new);
        }
    }

    /// Waits until something can be done, and for which sockets: datagrams, listeners, connections. One too many would do no
    /// harm, as none of them blocks.
    fn wait(&self) -> Vec<bool> {
        let datagrams = self.datagrams.iter().map(|socket| PollFd::new(socket, PollFlags::IN));
        let listeners =
            self.listeners.iter().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN));
        let open = self.open.iter().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN));
        let mut all: Vec<_> = datagrams.chain(listeners).chain(open).collect();
        let _ = poll(&mut all, Some(&TURN));
        all.iter().map(|fd| !fd.revents().is_empty()).collect()
    }
}

/// A socket at an address that this host may not have yet.
fn bound(address: IpAddr, port: u16, kind: Type, protocol: Protocol) -> Result<Socket> {
    let at = SocketAddr::from((address, port));
    let socket = Socket::new(Domain::for_address(at), kind, Some(protocol))?;
    match address {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into()).with_context(|| format!("cannot bind {at}"))?;
    Ok(socket)
}

fn answer_datagrams(socket: &UdpSocket, name: &[u8]) {
    let mut question = [0; LONGEST];
    // An error of an earlier answer (its client is gone) is reported here, too.
    while let Ok((length, client)) = socket.recv_from(&mut question) {
        let answer = [name, &question[..length]].concat();
        let _ = socket.send_to(&answer, client);
    }
}

fn accept_all(listener: &TcpListener) -> Vec<TcpStream> {
    let new = std::iter::from_fn(|| listener.accept().ok());
    new.filter(|(stream, _)| stream.set_nonblocking(true).is_ok()).map(|(stream, _)| stream).collect()
}

/// Answers what a connection says; whether it goes on.
fn answer_stream(stream: &mut TcpStream, name: &[u8]) -> bool {
    let mut question = [0; LONGEST];
    match stream.read(&mut question) {
        Ok(0) => false,
        Ok(length) => stream.write_all(&[name, &question[..length]].concat()).is_ok(),
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}
