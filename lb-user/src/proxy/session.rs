//! One client connection, from its first request to its end, and the server connections that belong to it.
//!
//! Windows authentication logs a *connection* on. So a server connection is a field of its client connection and ends with it. Only
//! farms that say so share theirs (`idle`), and those never over which a sign of a logon was seen. One task owns both ends.
//!
//! ```text
//!            head whole                      both bodies ended
//! Resting ----------------> Serving ------------------------------> Resting
//!    | 100 s, drain,           | cut, refused, last of its connection
//!    | logged-on server gone   v
//!    +-----------------> Closing: what waits leaves, then goodbye
//! ```

mod admit;
mod answer;
mod challenge;
mod client;
mod renew;
mod serve;
mod servers;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use self::servers::Rested;
pub use self::stream::Owner;
use super::access::TlsFacts;
use super::cause::Cause;
use super::hold::Hold;
use super::http1::Head;
use super::link::{Link, LinkError};
use super::listener::Phase;
use super::protect::proxies::Via;
use super::redirect::Redirects;
use super::route::Routes;

use super::served::Served;
use super::socket::OverSocket;
use super::timer::Timer;

/// How servers are reached: over TLS, or in memory for tests.
pub trait Dial: Send + Sync + 'static {
    /// What a connection is.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Connects to a server of a farm, for a site.
    fn dial(
        &self,
        site: usize,
        farm: usize,
        server: usize,
    ) -> impl Future<Output = Result<Dialled<Self::Stream>, Cause>> + Send;

    /// Connects to a server of no farm, without TLS.
    fn dial_in_clear(
        &self,
        address: SocketAddrV4,
    ) -> impl Future<Output = Result<Dialled<Self::Stream>, Cause>> + Send;
}

/// A new connection to a server.
#[derive(Debug)]
pub struct Dialled<S> {
    /// The connection.
    pub stream: S,
    /// How long it took to connect.
    pub connect: Duration,
    /// How long its TLS handshake took.
    pub greet: Duration,
}

/// What all connections of a worker share. Nothing in it belongs to a client.
pub struct Shared<D: Dial> {
    /// The configuration at work. Each request is served with the one of its beginning; all else here outlives a change.
    pub served: ArcSwap<Served<D>>,
    /// Whether connections are to end. Sent, also unchanged, whenever `served` is another: connections at rest look then.
    pub phase: watch::Receiver<Phase>,
}

/// Who a connection is from.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address, or that of its proxy.
    pub address: IpAddr,
    /// Where the connection came from, if a PROXY header says that it is another's.
    pub introduced_by: Option<IpAddr>,
    /// How its requests tell their clients.
    pub via: Via,
    /// How it came.
    pub entry: Entry,
    /// The listening address that it connected to.
    pub to: SocketAddr,
    /// What its TLS handshake came to.
    pub tls: Option<TlsFacts>,
}

/// How a connection came in.
#[derive(Clone, Debug)]
pub enum Entry {
    /// By TLS.
    Tls {
        /// The name in its handshake.
        sni: Option<String>,
        /// Names at the address that it connected to.
        routes: Arc<Routes>,
    },
    /// Without, to be sent elsewhere.
    Plain(Arc<Redirects>),
}

/// See the module.
pub struct Session<C, D: Dial> {
    shared: Arc<Shared<D>>,
    /// The configuration that the request is served with.
    served: Arc<Served<D>>,
    peer: Arc<Peer>,
    /// The client of the latest request.
    from: Option<IpAddr>,
    client: C,
    /// This client's alone; the streams of an HTTP/2 connection have them in common.
    rested: Arc<Mutex<Rested<D>>>,
    timer: Timer,
    head: Head,
    answer: Head,
    /// What its server has of it now.
    held: Option<Hold>,
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Rest,
    Close,
    /// Nothing can be said to it any more.
    Drop,
    /// As `Drop`; over HTTP/2 it is told to come with HTTP/1.1.
    Http11Required,
}

impl<C, D> Session<Link<C>, D>
where
    C: AsyncRead + AsyncWrite + Unpin + OverSocket,
    D: Dial,
{
    /// A connection over which nothing came yet; it came in under `served`, which the peer's entry is of.
    pub fn new(shared: Arc<Shared<D>>, served: Arc<Served<D>>, peer: Peer, stream: C) -> Self {
        Self {
            shared,
            rested: Arc::new(Mutex::new(Rested::new(Arc::clone(&served)))),
            served,
            peer: Arc::new(peer),
            from: None,
            client: Link::new(stream),
            timer: Timer::default(),
            head: Head::default(),
            answer: Head::default(),
            held: None,
        }
    }

    /// What would be cut off if it ended now; `None`: nothing that a server was asked for.
    pub fn held(&self) -> Option<Hold> {
        self.held
    }

    /// Serves requests until the connection is to end, and ends it.
    pub async fn run(&mut self) {
        let mut first = true;
        let next = loop {
            match self.next_request(first).await {
                Ok(true) => {}
                Ok(false) => break Next::Close,
                Err(LinkError::Violation(violation)) => break self.refuse(&Head::default(), violation),
                Err(LinkError::Cut | LinkError::Io(_)) => break Next::Drop,
            }
            first = false;
            match self.serve().await {
                Next::Rest => {}
                ended @ (Next::Close | Next::Drop | Next::Http11Required) => break ended,
            }
        };
        self.rested().clear();
        if next == Next::Close {
            self.say_goodbye().await;
        }
    }

    /// Waits for a request's head; `false`: the connection is to end. On a fresh connection the client owes it at once.
    async fn next_request(&mut self, first: bool) -> Result<bool, LinkError> {
        let rested = Instant::now();
        let mut reading = first.then_some(rested);
        if !self.client.has_input() {
            self.client.rest();
            self.head.release();
            self.answer.release();
            self.rested().give_buffers_back();
        }
        poll_fn(|cx| {
            if !self.renew() {
                return Poll::Ready(Ok(false));
            }
            let limits = self.served.limits.of_heads();
            let head = &mut self.head;
            let polled = self.client.poll_head(cx, &limits, &mut |bytes| head.read_request(bytes, &limits));
            if let Poll::Ready(read) = polled {
                return Poll::Ready(read.map(|read| read.is_some()));
            }
            if reading.is_none() && self.client.has_input() {
                reading = Some(Instant::now());
            }
            if self.rested().poll_logged_on_server_gone(cx) {
                return Poll::Ready(Ok(false));
            }
            let deadline = match reading {
                Some(since) => since + self.served.limits.head,
                None => rested + self.longest_rest(),
            };
            self.timer.poll(cx, deadline).map(|()| Ok(false))
        })
        .await
    }

    fn longest_rest(&self) -> Duration {
        let idle = self.served.limits.idle;
        if self.shared.phase.borrow().is_ending() { idle.min(REST_DRAINING) } else { idle }
    }

    /// Ends the connection so that the client gets to see what it was told: closing while it still sends would reset it.
    async fn say_goodbye(&mut self) {
        let goodbye = async {
            poll_fn(|cx| self.client.poll_shutdown(cx)).await.ok();
            let mut left = GOODBYE_BYTES;
            while left > 0 {
                match poll_fn(|cx| self.client.poll_discard(cx)).await {
                    Ok(length) if length > 0 => left = left.saturating_sub(length),
                    Ok(_) | Err(_) => break,
                }
            }
        };
        timeout(GOODBYE, goodbye).await.ok();
    }
}

/// Longest rest between requests while the proxy drains: long enough that a client in the middle of a series sends its next request, and learns
/// from the answer that the connection ends.
const REST_DRAINING: Duration = Duration::from_secs(2);

/// Longest time for the last bytes of a connection that is closed.
const GOODBYE: Duration = Duration::from_secs(1);

/// Most bytes that are read after the goodbye.
const GOODBYE_BYTES: usize = 1 << 20;
