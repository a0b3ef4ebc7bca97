//! The sessions of an HTTP/2 connection: one for each stream, which share their server connections and nothing else.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use h2::Reason;
use tokio::sync::watch;
use tokio::time::timeout;

use super::renew::renew;
use super::servers::Rested;
use super::{Dial, Next, Peer, Session, Shared};
use crate::proxy::client::Client as _;
use crate::proxy::http1::Head;
use crate::proxy::http2::head;
use crate::proxy::http2::stream::Stream;
use crate::proxy::listener::Phase;
use crate::proxy::protect::limits::Limits;
use crate::proxy::served::Served;
use crate::proxy::timer::Timer;

/// What a client connection owns: dropped, its server connections end.
pub struct Owner<D: Dial> {
    shared: Arc<Shared<D>>,
    served: Arc<Served<D>>,
    peer: Arc<Peer>,
    rested: Arc<Mutex<Rested<D>>>,
}

impl<D: Dial> Owner<D> {
    /// A connection that owns nothing yet; it came in under `served`, which the peer's entry is of.
    pub fn new(shared: Arc<Shared<D>>, served: Arc<Served<D>>, peer: Peer) -> Self {
        let rested = Arc::new(Mutex::new(Rested::new(Arc::clone(&served))));
        Self { shared, served, peer: Arc::new(peer), rested }
    }

    /// The client's address.
    pub fn client(&self) -> IpAddr {
        self.peer.address
    }

    /// What clients are held to.
    pub fn limits(&self) -> &Limits {
        &self.served.limits
    }

    /// The session of one of its streams.
    pub fn stream(&self, client: Stream) -> Session<Stream, D> {
        Session {
            shared: Arc::clone(&self.shared),
            served: Arc::clone(&self.served),
            peer: Arc::clone(&self.peer),
            from: None,
            client,
            rested: Arc::clone(&self.rested),
            timer: Timer::default(),
            held: None,
            head: Head::default(),
            answer: Head::default(),
        }
    }

    /// Server connections that carry no request.
    pub fn resting(&self) -> usize {
        self.rested.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Lets server connections go that have ended. Goes on for ever; a connection that comes to rest is watched from the next
    /// call on.
    pub async fn watch_rested(&self) -> Infallible {
        poll_fn(|cx| {
            let mut rested = self.rested.lock().unwrap_or_else(PoisonError::into_inner);
            rested.give_buffers_back();
            // Nobody has logged on over them.
            rested.poll_logged_on_server_gone(cx);
            Poll::Pending
        })
        .await
    }

    /// Whether connections are to end. Changes, be it to the same, whenever [`Owner::renew`] has something to do.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.shared.phase.clone()
    }

    /// Takes up the configuration at work for the streams that come. Those that there are go on under theirs.
    pub fn renew(&mut self) {
        // Nobody has logged on over a server connection that could be lost.
        renew(&self.shared, &mut self.served, &mut self.peer, &self.rested);
    }
}

impl<D: Dial> Session<Stream, D> {
    /// Serves the request that the stream is, and ends the stream.
    pub async fn run_stream(mut self, request: http::Request<()>) {
        let ended = self.client.body_has_ended();
        let limits = self.served.limits.of_heads();
        let next = match head::read(&request, ended, &mut self.head, &limits) {
            Ok(()) => self.serve().await,
            Err(violation) => self.refuse(&Head::default(), violation),
        };
        drop(request);
        let reason = match next {
            Next::Rest | Next::Close => {
                let flushed = timeout(LAST_BYTES, poll_fn(|cx| self.client.poll_flush(cx))).await;
                if matches!(flushed, Ok(Ok(()))) {
                    return;
                }
                Reason::CANCEL
            }
            Next::Drop => Reason::INTERNAL_ERROR,
            Next::Http11Required => Reason::HTTP_1_1_REQUIRED,
        };
        self.client.reset(reason);
    }
}

/// Longest time for an answer of ours to fit into the client's window.
const LAST_BYTES: Duration = Duration::from_secs(30);
