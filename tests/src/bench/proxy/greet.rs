//! A TLS client of the bench's own, for what wrk cannot do: handshakes that are known to be full or resumed, and connections
//! at rest.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lb_user::clock::Time;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group::X25519};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use rustls_pki_types::ServerName;
use socket2::{Domain, Socket, Type};

use super::load::Done;
use super::place::{CLIENTS, Place, SMALL};
use crate::lab::PUBLIC_NAME;

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Clients that greet a proxy, each one time after the other, each with a memory of its own for tickets.
pub(super) struct Greeters {
    configs: Vec<Arc<ClientConfig>>,
    port: u16,
    /// What every handshake must be.
    expected: HandshakeKind,
}

impl Greeters {
    /// Those who resume have a ticket by then.
    pub(super) fn new(place: &Place, port: u16, resume: bool) -> Result<Self> {
        let configs = (0..GREETERS).map(|_| client(place, resume)).collect::<Result<Vec<_>>>()?;
        let expected = if resume { HandshakeKind::Resumed } else { HandshakeKind::Full };
        place
            .as_client(|| configs.iter().try_for_each(|config| greet_and_leave(config, port).map(drop)))??;
        Ok(Self { configs, port, expected })
    }

    /// So many handshakes in all; a connection ends as soon as its tickets have come.
    pub(super) fn greet(&self, place: &Place, count: u32) -> Result<Done> {
        let each = count.div_ceil(GREETERS);
        let one = |config: &Arc<ClientConfig>| -> Result<()> {
            let kind = greet_and_leave(config, self.port)?;
            ensure!(kind == Some(self.expected), "the handshake was {kind:?}, not {:?}", self.expected);
            Ok(())
        };
        let all = |config| (0..each).try_for_each(|_| one(config));
        let seconds = place.as_client(|| -> Result<f64> {
            let start = Time::now();
            at_once(&self.configs, all)?;
            Ok(Time::now().since(start).as_secs_f64())
        })??;
        Ok(Done { requests: f64::from(each * GREETERS), bytes: 0.0, seconds, p50_ms: 0.0, p99_ms: 0.0 })
    }
}

fn greet_and_leave(config: &Arc<ClientConfig>, port: u16) -> Result<Option<HandshakeKind>> {
    let mut stream = greet(config, port, None)?;
    let kind = stream.conn.handshake_kind();
    stream.conn.send_close_notify();
    stream.flush()?;
    // Tickets come before the proxy's own goodbye, which not all say.
    stream.sock.shutdown(std::net::Shutdown::Write)?;
    match stream.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error.into()),
        Ok(_) | Err(_) => Ok(kind),
    }
}

/// Connections of several clients, each of which has had an answer and rests now.
pub(super) struct Resting(Vec<Stream>);

impl Resting {
    /// Opens so many at least, in [`OPENING`] at most.
    pub(super) fn open(place: &Place, port: u16, count: u32) -> Result<Self> {
        let config = client(place, false)?;
        let each = count.div_ceil(CLIENTS.len().try_into()?);
        let deadline = Time::now() + OPENING;
        let one = |source: &Ipv4Addr| -> Result<Stream> {
            ensure!(Time::now() < deadline, "{count} connections are not open after {OPENING:?}");
            rest(&config, port, *source)
        };
        let all = |source| (0..each).map(|_| one(source)).collect::<Result<Vec<_>>>();
        let streams = place.as_client(|| at_once(&CLIENTS, all))??;
        Ok(Self(streams.into_iter().flatten().collect()))
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Fails if the proxy has ended one of them.
    pub(super) fn still_open(&self) -> Result<()> {
        let mut sockets: Vec<_> =
            self.0.iter().map(|stream| PollFd::new(&stream.sock, PollFlags::RDHUP)).collect();
        let ended =
            poll(&mut sockets, Some(&Timespec::default())).context("cannot ask for what has ended")?;
        ensure!(ended == 0, "the proxy ended {ended} of {} connections that rested", self.count());
        Ok(())
    }
}

/// Does `work` of every item at once, on threads of the same namespace and CPU.
fn at_once<'a, I: Sync, T: Send>(items: &'a [I], work: impl Fn(&'a I) -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || work(item))).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    })
}

fn rest(config: &Arc<ClientConfig>, port: u16, source: Ipv4Addr) -> Result<Stream> {
    let mut stream = greet(config, port, Some(source))?;
    write!(stream, "GET {SMALL} HTTP/1.1\r\nHost: {PUBLIC_NAME}\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nwell\n") {
        let mut buffer = [0; 2048];
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "the answer was {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..length]);
    }
    Ok(stream)
}

fn client(place: &Place, resumes: bool) -> Result<Arc<ClientConfig>> {
    // What all proxies here can do.
    let provider = CryptoProvider { kx_groups: vec![X25519], ..default_provider() };
    let builder =
        ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(place.certificates.roots()?).with_no_client_auth();
    config.resumption = if resumes { Resumption::in_memory_sessions(64) } else { Resumption::disabled() };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A new connection, from `source` or from wherever the kernel likes.
fn greet(config: &Arc<ClientConfig>, port: u16, source: Option<Ipv4Addr>) -> Result<Stream> {
    let name = ServerName::try_from(PUBLIC_NAME).context("the public name is no DNS name")?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect(&Place::address(port).into()).context("cannot connect to the proxy")?;
    let mut sock = TcpStream::from(socket);
    sock.set_nodelay(true)?;
    sock.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut conn = ClientConnection::new(Arc::clone(config), name)?;
    while conn.is_handshaking() {
        if conn.complete_io(&mut sock)? == (0, 0) {
            bail!("the proxy ended the connection in its handshake");
        }
    }
    Ok(StreamOwned::new(conn, sock))
}

/// So that the proxy always has something to do.
const GREETERS: u32 = 4;

/// Most time for connections that are to rest, which is below the time after which proxies close them.
const OPENING: Duration = Duration::from_secs(90);
