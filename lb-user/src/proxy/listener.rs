//! Client connections: accepted, greeted, handed to `session`, ended in time.

use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::OptionFuture;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::access::TlsFacts;
use super::hold::Hold;
use super::http2;
use super::introduce;
use super::link::Link;
use super::metrics::HandshakeFailed;
use super::protect::connections::{Connection, ConnectionLimits, Connections};
use super::protect::limits::Limits;
use super::protect::proxies::Source;
use super::redirect::Redirects;
use super::room::{Place, Room};
use super::route::Routes;
use super::seen::drained;
use super::served::Servers;
use super::session::{Entry, Owner, Peer, Session, Shared};
use super::socket::{OverSocket, prepare};
use super::tcp;
use super::tls::stream::Records;
use super::tls::{Alpn, SiteConfigs};
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
    pub shared: Arc<Shared<Servers>>,
    /// A place for each; without one nothing is accepted, and clients wait in the kernel's queue.
    pub room: Arc<Room>,
    /// Open connections.
    pub connections: Arc<AtomicU32>,
    /// The same by client.
    pub by_client: Arc<Connections>,
    /// Of this every connection holds a receiver; `drain` begins another and waits for the end of the old one's.
    pub generation: Mutex<watch::Sender<()>>,
    /// Of this, too, whatever its generation.
    pub all: watch::Sender<()>,
    /// What was cut off at the end of the drain timeout, in the order of `Hold::ALL`, and was not told of yet.
    pub cut: [AtomicU32; Hold::ALL.len()],
}

impl Gate {
    /// A gate for at most `limit` connections at once.
    pub fn new(shared: Shared<Servers>, limit: u32) -> Self {
        let served = shared.served.load_full();
        let limits = &served.limits;
        Self {
            by_client: Connections::new(by_client(limits), served.clients),
            room: Room::new(limit, limits.connections),
            shared: Arc::new(shared),
            connections: Arc::default(),
            generation: Mutex::new(watch::Sender::new(())),
            all: watch::Sender::new(()),
            cut: Default::default(),
        }
    }

    fn cut_off(&self, hold: Hold) {
        self.cut[hold.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Holds clients to the limits of the configuration at work.
    pub fn enforce(&self) {
        let served = self.shared.served.load();
        self.by_client.configure(by_client(&served.limits), served.clients);
        self.room.configure(served.limits.connections);
        served.tcp.iter().for_each(|service| service.enforce());
    }
}

/// In all, clients wait in the kernel's queue instead of being refused.
fn by_client(limits: &Limits) -> ConnectionLimits {
    ConnectionLimits { per_client: limits.connections_per_client, in_all: u32::MAX }
}

/// What is behind a listening socket.
#[derive(Clone)]
pub enum Door {
    /// Sites.
    Tls {
        /// TLS for them.
        tls: Arc<SiteConfigs>,
        /// Their names.
        routes: Arc<Routes>,
    },
    /// The way to them, for who comes without TLS.
    Plain(Arc<Redirects>),
    /// Servers that get what comes as it comes.
    Tcp(Arc<tcp::Published>),
}

/// Accepts at the listening address `to` until the phase is `Stopping`. The socket itself lives on in the agent.
pub async fn accept(listener: TcpListener, to: SocketAddr, gate: Arc<Gate>) {
    let mut phase = gate.shared.phase.clone();
    loop {
        let accepted = async {
            let place = gate.room.place().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            biased;
            serve = stopping(&mut phase) => {
                if serve {
                    serve_waiting(listener, to, &gate);
                }
                return;
            }
            (accepted, place) = accepted => match accepted {
                Ok((stream, peer)) => open(&gate, to, stream, peer, place),
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
fn serve_waiting(listener: TcpListener, to: SocketAddr, gate: &Arc<Gate>) {
    let Ok(socket) = listener.into_std() else {
        return;
    };
    while let Some(place) = gate.room.try_place()
        && let Ok((stream, peer)) = socket.accept()
    {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            open(gate, to, stream, peer, place);
        }
    }
}

fn open(gate: &Arc<Gate>, to: SocketAddr, stream: TcpStream, peer: SocketAddr, place: Place) {
    gate.shared.served.load().seen.metrics.connection_accepted();
    let Some(counted) = count(gate, peer.ip()) else {
        return;
    };
    let open = Open::new(gate, place);
    let gate = Arc::clone(gate);
    tokio::spawn(async move {
        serve(&gate, to, stream, peer).await;
        drop(counted);
        drop(open);
    });
}

/// Counts a client's connection, but not a trusted proxy's, which are many clients'. `None`: there are too many.
fn count(gate: &Gate, client: IpAddr) -> Option<Option<Connection>> {
    let served = gate.shared.served.load();
    if served.proxies.at(client).is_some() {
        return Some(None);
    }
    match gate.by_client.open(client) {
        Ok(counted) => Some(Some(counted)),
        Err(error) => {
            served.seen.metrics.connection_refused(error);
            tracing::debug!(%client, %error, "a connection was refused");
            None
        }
    }
}

/// Whom a connection is from, and a place among that one's connections, where the proxy that it came from says so first.
async fn introduced(
    gate: &Gate,
    stream: &mut TcpStream,
    proxy: SocketAddr,
    within: Duration,
) -> Option<(SocketAddr, Option<Connection>)> {
    let client = match timeout(within, introduce::client(stream)).await {
        Ok(Ok(client)) => client.unwrap_or(proxy),
        Ok(Err(error)) => {
            tracing::debug!(%proxy, %error, "a trusted proxy does not say whom its connection is from");
            return None;
        }
        Err(_) => {
            tracing::debug!(%proxy, "a trusted proxy takes too long to say whom its connection is from");
            return None;
        }
    };
    Some((client, count(gate, client.ip())?))
}

/// Counts a connection while it lives.
struct Open {
    connections: Arc<AtomicU32>,
    _place: Place,
    _generation: watch::Receiver<()>,
    _all: watch::Receiver<()>,
}

impl Open {
    fn new(gate: &Gate, place: Place) -> Self {
        gate.connections.fetch_add(1, Ordering::Relaxed);
        let generation = gate.generation.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            connections: Arc::clone(&gate.connections),
            _place: place,
            _generation: generation.subscribe(),
            _all: gate.all.subscribe(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One client connection, from its first byte to its end. What goes wrong here is the client's affair alone.
async fn serve(gate: &Gate, to: SocketAddr, mut stream: TcpStream, from: SocketAddr) {
    let opened = Time::now();
    let (shared, served) = (Arc::clone(&gate.shared), gate.shared.served.load_full());
    let introduces = served.proxies.via(from.ip(), None).source == Some(Source::ProxyProtocol);
    let (named, _counted) = if introduces {
        let Some((named, counted)) = introduced(gate, &mut stream, from, served.limits.handshake).await
        else {
            return;
        };
        (named, counted)
    } else {
        (from, None)
    };
    let client = named.ip().to_canonical();
    if let Err(error) = prepare(&stream) {
        return tracing::debug!(%client, %error, "cannot use a connection");
    }
    let introduced_by = (named != from).then(|| from.ip());
    let via = served.proxies.via(from.ip(), introduced_by.map(|_| client));
    let peer = |entry, tls| Peer { address: client, introduced_by, via, entry, to, tls };
    let session: Pin<Box<dyn Future<Output = ()> + Send + '_>> = match served.doors.get(&to).cloned() {
        // It came in the moment in which this address was given up.
        None => return,
        Some(Door::Tls { tls, routes }) => {
            let stream = match greet(&tls, stream, client, served.limits.handshake).await {
                Ok(stream) => stream,
                Err(why) => return served.seen.metrics.handshake_failed(why),
            };
            let connection = stream.get_ref().1;
            let facts = TlsFacts::of(connection);
            served
                .seen
                .metrics
                .handshake(Time::now().since(opened), facts.is_some_and(|facts| facts.resumed));
            let sni = connection.server_name().map(str::to_owned);
            let peer = peer(Entry::Tls { sni, routes }, facts);
            let by_streams = connection.alpn_protocol() == Some(Alpn::H2.id());
            let stream = Records::new(stream.into_inner());
            if by_streams {
                Box::pin(converse_by_streams(gate, opened, stream, Owner::new(shared, served, peer)))
            } else {
                Box::pin(converse(gate, opened, Session::new(shared, served, peer, stream)))
            }
        }
        Some(Door::Plain(redirects)) => {
            let peer = peer(Entry::Plain(redirects), None);
            Box::pin(converse(gate, opened, Session::new(shared, served, peer, stream)))
        }
        Some(Door::Tcp(service)) => Box::pin(async move {
            let serving = pin!(OptionFuture::from(Some(service.serve(stream, named, &served.seen))));
            if is_cut(past_its_time(gate, opened), serving).await {
                gate.cut_off(Hold::Tcp);
            }
        }),
    };
    session.await;
}

/// Serves an HTTP/2 connection to its end, or until its time is over. One without a stream has ended before.
async fn converse_by_streams<S>(gate: &Gate, opened: Time, stream: S, owner: Owner<Servers>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let serving = http2::connection::serve(stream, owner, Arc::clone(&gate.room));
    if is_cut(past_its_time(gate, opened), pin!(OptionFuture::from(Some(serving)))).await {
        gate.cut_off(Hold::Other);
    }
}

/// Serves a connection to its end, or until its time is over.
async fn converse<C>(gate: &Gate, opened: Time, mut session: Session<Link<C>, Servers>)
where
    C: AsyncRead + AsyncWrite + Unpin + OverSocket,
{
    let cut = is_cut(past_its_time(gate, opened), pin!(OptionFuture::from(Some(session.run())))).await;
    if cut && let Some(hold) = session.held() {
        gate.cut_off(hold);
    }
}

/// Serves a connection to its end, or until `over`: then what is left of it is dropped. Whether that was so.
///
/// `over` is polled first, always: a session at rest looks for other settings whenever it is polled, and it is the phase's change,
/// which `over` waits for, that wakes it. The other way round a change between the two would be taken note of by `over` alone, and
/// the session would sleep on.
async fn is_cut<F>(over: impl Future<Output = ()>, mut serving: Pin<&mut OptionFuture<F>>) -> bool
where
    F: Future<Output = ()>,
{
    tokio::select! {
        biased;
        () = over => {}
        _ = &mut serving => return false,
    }
    drained(|| serving.set(None.into()));
    true
}

/// Returns when a connection that was opened then has had its drain timeout.
async fn past_its_time(gate: &Gate, opened: Time) {
    let mut phase = gate.shared.phase.clone();
    loop {
        let ending = phase.borrow_and_update().since();
        let timeout = gate.shared.served.load().drain_timeout;
        let cut = ending.map(|since| since.max(opened) + timeout);
        let left = async {
            match cut {
                Some(cut) => sleep(cut.since(Time::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = left => return,
            changed = phase.changed() => if changed.is_err() { return },
        }
    }
}

/// The TLS handshake, or why there is none.
async fn greet(
    tls: &SiteConfigs,
    stream: TcpStream,
    client: IpAddr,
    within: Duration,
) -> Result<TlsStream<TcpStream>, HandshakeFailed> {
    let greeting = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let config = tls.choose(&start.client_hello());
        start.into_stream(config).await
    };
    match timeout(within, greeting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            tracing::debug!(%client, %error, "TLS handshake failed");
            // rustls says what it objects to in an error of this kind.
            let is_tls = error.kind() == std::io::ErrorKind::InvalidData;
            Err(if is_tls { HandshakeFailed::Tls } else { HandshakeFailed::ClientGone })
        }
        Err(_) => {
            tracing::debug!(%client, "TLS handshake took too long");
            Err(HandshakeFailed::Timeout)
        }
    }
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_that_looked_just_before_a_change_is_polled_once_more() {
        for _ in 0..64 {
            let (phase, mut seen) = watch::channel(());
            seen.mark_changed();
            let over = async { while seen.changed().await.is_ok() {} };
            let mut looked = false;
            let session = poll_fn(|_| {
                if std::mem::replace(&mut looked, true) {
                    return Poll::Ready(());
                }
                phase.send_replace(());
                Poll::Pending
            });
            let session = pin!(OptionFuture::from(Some(session)));
            let cut = timeout(Duration::from_secs(1), is_cut(over, session)).await;
            assert_eq!(cut, Ok(false), "it sleeps on");
        }
    }
}
