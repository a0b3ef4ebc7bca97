//! A client connection that speaks HTTP/2: accepts its streams and ends it in time. One task for all of it: what several streams have
//! to say leaves together, and no stream is another thread's.
//!
//! ```text
//!            no stream for 100 s, drain             all streams over, or 2 s without any
//! Serving -----------------------------> Goodbye ----------------------------------------> closed
//!    |  flood                            (GOAWAY; what was begun ends by itself)
//!    +-----> GOAWAY with ENHANCE_YOUR_CALM, closed
//! ```
//!
//! Dropped, it ends all its streams.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::meter::{Flood, Metered};
use super::stream::Stream;
use super::{CONNECTION_WINDOW, SEND_BUFFER, STREAM_WINDOW};
use crate::proxy::listener::Phase;
use crate::proxy::protect::limits::Limits;
use crate::proxy::room::{Place, Room};
use crate::proxy::session::{Dial, Owner};

/// Serves a connection that has agreed on HTTP/2. Each stream at the same time as another takes a place in `room`, or is refused.
pub async fn serve<S, D>(stream: S, owner: Owner<D>, room: Arc<Room>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    D: Dial,
{
    let limits = owner.limits();
    let (stream, flood) = Metered::new(stream, limits.h2.control_frames);
    let connection = match timeout(limits.head, builder(limits).handshake(stream)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(client = %owner.client(), %error, "no HTTP/2 connection"),
        Err(_) => {
            return tracing::debug!(client = %owner.client(), "an HTTP/2 connection took too long to begin");
        }
    };
    let deadline = Instant::now() + limits.head;
    let mut phase = owner.phase();
    phase.mark_changed();
    let (streams, places, goodbye) = (FuturesUnordered::new(), Vec::new(), false);
    let connection = Connection { connection, owner, phase, flood, room, places, streams, deadline, goodbye };
    connection.run().await;
}

struct Connection<S, D: Dial> {
    connection: server::Connection<Metered<S>, Bytes>,
    owner: Owner<D>,
    phase: watch::Receiver<Phase>,
    flood: Flood,
    room: Arc<Room>,
    /// For all streams and resting server connections beyond the first.
    places: Vec<Place>,
    streams: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// By when there must be a stream.
    deadline: Instant,
    /// It was said.
    goodbye: bool,
}

/// What befalls a connection.
enum Event {
    Flood,
    Accepted(Box<Request<RecvStream>>, SendResponse<Bytes>),
    StreamOver,
    Closed,
    Idle,
    /// The phase, or the configuration.
    Changed,
}

impl<S, D> Connection<S, D>
where
    S: AsyncRead + AsyncWrite + Unpin,
    D: Dial,
{
    async fn run(mut self) {
        loop {
            match self.next().await {
                Event::Accepted(request, respond) => self.accepted(*request, respond),
                Event::StreamOver => self.stream_is_over(),
                Event::Changed => self.changed(),
                Event::Idle if self.goodbye => return,
                Event::Idle => self.say_goodbye(),
                Event::Flood => return self.break_off().await,
                Event::Closed => return,
            }
        }
    }

    /// Cancel safe. A client that never stops sending has its streams served all the same, and is told of a drain: `accept`, which reads
    /// what it sends, comes last of what is always of interest, and does not starve, as the streams wait for it in turn.
    async fn next(&mut self) -> Event {
        let Self { connection, owner, phase, flood, streams, deadline, .. } = self;
        let resting = streams.is_empty();
        tokio::select! {
            biased;
            () = poll_fn(|_| if flood.is_on() { Poll::Ready(()) } else { Poll::Pending }) => Event::Flood,
            Ok(()) = phase.changed() => Event::Changed,
            Some(()) = streams.next() => Event::StreamOver,
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => Event::Accepted(Box::new(request), respond),
                Some(Err(error)) => {
                    tracing::debug!(client = %owner.client(), %error, "an HTTP/2 connection failed");
                    Event::Closed
                }
                None => Event::Closed,
            },
            () = sleep_until(*deadline), if resting => Event::Idle,
            never = owner.watch_rested() => match never {},
        }
    }

    fn accepted(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        self.owner.renew();
        let used = self.streams.len() + self.owner.resting();
        if used > self.places.len() {
            match self.room.try_place() {
                Some(place) => self.places.push(place),
                // The client may send it again.
                None => return respond.send_reset(Reason::REFUSED_STREAM),
            }
        }
        let (parts, body) = request.into_parts();
        let session = self.owner.stream(Stream::new(body, respond));
        self.streams.push(Box::pin(session.run_stream(Request::from_parts(parts, ()))));
    }

    fn stream_is_over(&mut self) {
        let used = self.streams.len() + self.owner.resting();
        self.places.truncate(used.saturating_sub(1));
        let rest = if self.goodbye { GOODBYE } else { self.owner.limits().idle };
        self.deadline = Instant::now() + rest;
    }

    fn changed(&mut self) {
        self.owner.renew();
        if !self.goodbye && self.phase.borrow_and_update().is_ending() {
            self.say_goodbye();
        }
    }

    /// Accepts no more streams; those that there are end by themselves.
    fn say_goodbye(&mut self) {
        self.connection.graceful_shutdown();
        self.goodbye = true;
        self.deadline = Instant::now() + GOODBYE;
    }

    async fn break_off(mut self) {
        tracing::debug!(client = %self.owner.client(), "an HTTP/2 connection was a flood of frames");
        self.streams.clear();
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        timeout(GOODBYE, poll_fn(|cx| self.connection.poll_closed(cx))).await.ok();
    }
}

/// What the library bounds.
fn builder(limits: &Limits) -> server::Builder {
    let size = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(limits.h2.streams)
        .max_pending_accept_reset_streams(size(limits.h2.resets))
        .max_local_error_reset_streams(Some(size(limits.h2.own_resets)))
        .max_header_list_size(limits.head_bytes)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// How long a connection without streams may go on once goodbye was said: until the client has seen that.
const GOODBYE: Duration = Duration::from_secs(2);
