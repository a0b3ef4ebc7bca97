//! Client connections: accepted, greeted, handed to `forward`, ended in time.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, HEAD_TIMEOUT};
use super::forward::{BUFFER, Client, Shared, keepalive};
use super::route::Routes;
use crate::clock::Time;

/// What the proxy is to do with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Serve them.
    Serving,
    /// Serve each once more and let it end.
    Draining {
        /// Since when.
        since: Time,
    },
    /// As `Draining`, and accept no more.
    Stopping {
        /// Since when connections are to end.
        since: Time,
        /// Whether those that wait to be accepted are ours to serve, or another worker's.
        serve_waiting: bool,
    },
}

impl Phase {
    /// Whether connections are to end.
    pub fn is_ending(self) -> bool {
        self.since().is_some()
    }

    /// Since when connections are to end.
    pub fn since(self) -> Option<Time> {
        match self {
            Self::Serving => None,
            Self::Draining { since } | Self::Stopping { since, .. } => Some(since),
        }
    }
}

/// Through which every client connection comes: bounds them, counts them, ends them.
pub struct Gate {
    /// What they share.
    pub shared: Arc<Shared>,
    /// How long a connection may go on once it is to end.
    pub drain_timeout: Duration,
    /// One permit a connection; without one nothing is accepted, and clients wait in the kernel's queue.
    pub slots: Arc<Semaphore>,
    /// How many permits there are.
    pub limit: u32,
    /// Open connections.
    pub connections: Arc<AtomicU32>,
    /// Of this every connection holds a receiver; `drain` begins another and waits for the end of the old one's.
    pub generation: Mutex<watch::Sender<()>>,
}

impl Gate {
    /// A gate for at most `limit` connections at once.
    pub fn new(shared: Shared, drain_timeout: Duration, limit: u32) -> Self {
        let slots = usize::try_from(limit).unwrap_or(usize::MAX);
        Self {
            shared: Arc::new(shared),
            drain_timeout,
            slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
            limit,
            connections: Arc::default(),
            generation: Mutex::new(watch::Sender::new(())),
        }
    }
}

/// A listening socket and what is served there.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// TLS for it.
    pub tls: TlsAcceptor,
    /// The names.
    pub routes: Arc<Routes>,
}

/// Accepts until the phase is `Stopping`. The socket itself lives on in the agent.
pub async fn accept(listener: Listener, gate: Arc<Gate>) {
    let mut phase = gate.shared.phase.clone();
    loop {
        let accepted = async {
            let slot = Arc::clone(&gate.slots).acquire_owned().await;
            let slot = slot.expect("invariant: the semaphore is never closed");
            (listener.socket.accept().await, slot)
        };
        tokio::select! {
            biased;
            serve = stopping(&mut phase) => {
                if serve {
                    serve_waiting(listener, &gate);
                }
                return;
            }
            (accepted, slot) = accepted => match accepted {
                Ok((stream, peer)) => open(&gate, &listener.tls, &listener.routes, stream, peer, slot),
                // Too few descriptors or memory, or the client gave up meanwhile: what waits keeps waiting.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Waits for `Stopping`; whether what waits to be accepted is ours.
async fn stopping(phase: &mut watch::Receiver<Phase>) -> bool {
    let stopping = phase.wait_for(|phase| matches!(phase, Phase::Stopping { .. })).await;
    stopping.is_ok_and(|phase| matches!(*phase, Phase::Stopping { serve_waiting: true, .. }))
}

/// Accepts what is in the queue already: these clients were promised a connection.
fn serve_waiting(listener: Listener, gate: &Arc<Gate>) {
    let Ok(socket) = listener.socket.into_std() else {
        return;
    };
    while let Ok(slot) = Arc::clone(&gate.slots).try_acquire_owned()
        && let Ok((stream, peer)) = socket.accept()
    {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            open(gate, &listener.tls, &listener.routes, stream, peer, slot);
        }
    }
}

fn open(
    gate: &Arc<Gate>,
    tls: &TlsAcceptor,
    routes: &Arc<Routes>,
    stream: TcpStream,
    peer: SocketAddr,
    slot: OwnedSemaphorePermit,
) {
    let open = Open::new(gate, slot);
    let (gate, tls, routes) = (Arc::clone(gate), tls.clone(), Arc::clone(routes));
    tokio::spawn(async move {
        serve(&gate, &tls, routes, stream, peer.ip()).await;
        drop(open);
    });
}

/// Counts a connection while it lives.
struct Open {
    connections: Arc<AtomicU32>,
    _slot: OwnedSemaphorePermit,
    _generation: watch::Receiver<()>,
}

impl Open {
    fn new(gate: &Gate, slot: OwnedSemaphorePermit) -> Self {
        gate.connections.fetch_add(1, Ordering::Relaxed);
        let generation = gate.generation.lock().unwrap_or_else(PoisonError::into_inner);
        Self { connections: Arc::clone(&gate.connections), _slot: slot, _generation: generation.subscribe() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One client connection, from its first byte to its end. What goes wrong here is the client's affair alone.
async fn serve(gate: &Gate, tls: &TlsAcceptor, routes: Arc<Routes>, stream: TcpStream, client: IpAddr) {
    let opened = Time::now();
    let Some(stream) = greet(tls, stream, client).await else {
        return;
    };
    let activity = Activity::new(Time::now());
    let served = Arc::new(Client {
        shared: Arc::clone(&gate.shared),
        routes,
        sni: stream.get_ref().1.server_name().map(str::to_owned),
        address: client,
        activity: Arc::clone(&activity),
        own: tokio::sync::Mutex::default(),
    });
    let service = service_fn(move |request| {
        let served = Arc::clone(&served);
        async move { Ok::<_, Infallible>(served.answer(request).await) }
    });
    let watched = Watched { stream, activity: Arc::clone(&activity) };
    let mut connection = pin!(http().serve_connection(TokioIo::new(watched), service));
    let mut patience = Patience::new(gate, activity, opened);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%client, %error, "a client connection ended");
            }
            return;
        }
        () = patience.run_out() => {}
    }
    // Says goodbye where nothing is under way; what is dropped in the middle is past its time.
    connection.as_mut().graceful_shutdown();
    drop(timeout(GOODBYE, connection).await);
}

/// The TLS handshake, or `None`.
async fn greet(tls: &TlsAcceptor, stream: TcpStream, client: IpAddr) -> Option<TlsStream<TcpStream>> {
    let greeting = async {
        prepare(&stream)?;
        tls.accept(stream).await
    };
    match timeout(HANDSHAKE_TIMEOUT, greeting).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => tracing::debug!(%client, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%client, "TLS handshake took too long"),
    }
    None
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    // `activity` has the timers.
    http.header_read_timeout(None)
        .preserve_header_case(true)
        .max_buf_size(BUFFER)
        .max_header_size(LONGEST_HEAD);
    http
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive())?;
    // A client that takes nothing of what it asked for, for so long, is gone or hostile.
    socket.set_tcp_user_timeout(Some(UNTAKEN_TIMEOUT))
}

/// How long a connection may still go on.
struct Patience<'a> {
    gate: &'a Gate,
    activity: Arc<Activity>,
    opened: Time,
    phase: watch::Receiver<Phase>,
}

impl<'a> Patience<'a> {
    fn new(gate: &'a Gate, activity: Arc<Activity>, opened: Time) -> Self {
        let phase = gate.shared.phase.clone();
        Self { gate, activity, opened, phase }
    }

    /// Returns when the connection is to be closed.
    async fn run_out(&mut self) {
        loop {
            let ending = self.phase.borrow_and_update().since();
            let cut = ending.map(|since| since.max(self.opened) + self.gate.drain_timeout);
            let now = Time::now();
            let deadline = self.activity.deadline(ending.is_some());
            if deadline.into_iter().chain(cut).any(|end| end <= now) {
                return;
            }
            // No state that begins from now on ends before that; see HEAD_TIMEOUT.
            let look_again = now + HEAD_TIMEOUT;
            let wake = deadline.into_iter().chain(cut).fold(look_again, Time::min);
            tokio::select! {
                () = sleep_until(Instant::now() + wake.since(now)) => {}
                changed = self.phase.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// A client's stream, telling `activity` when bytes come.
struct Watched {
    stream: TlsStream<TcpStream>,
    activity: Arc<Activity>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.activity.bytes_came(Time::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for the last bytes of a connection that is closed.
const GOODBYE: Duration = Duration::from_secs(1);

/// Longest time that bytes may wait for the client to take them.
const UNTAKEN_TIMEOUT: Duration = Duration::from_secs(120);

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Longest request head in bytes: room for the Kerberos tickets of members of many groups.
const LONGEST_HEAD: usize = 64 << 10;
