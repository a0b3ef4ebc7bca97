//! A request's body on its way from the client to the server, or to nowhere.
//!
//! A server may answer early and read no further, as Exchange does with the 401 of a logon. Closing the client's connection then
//! would break that logon, so what is left of the body is read to nowhere, within limits.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::client::Client;
use super::http1::Violation;
use super::link::{Link, LinkError};
use super::pace::Pace;

/// See the module.
#[derive(Debug)]
pub struct Upload {
    state: State,
    /// Bytes of content that may still come.
    allowed: u64,
    /// How slow the client may be.
    pace: Option<Pace>,
    /// For how long it may be read to nowhere.
    sink_time: Duration,
    /// Since when the client's next bytes are waited for.
    waiting: Option<Instant>,
    /// Since when the server takes nothing of what is there for it.
    untaken: Option<Instant>,
    /// Content that came.
    bytes: u64,
    /// The last time that anything moved.
    moved: Instant,
}

#[derive(Debug)]
enum State {
    /// From the client to the server.
    Sending,
    /// All was written, not all has left.
    Finishing,
    /// From the client to nowhere, until then.
    Sinking {
        until: Instant,
    },
    Done {
        whole: bool,
    },
    Failed(Failure),
}

/// Why a body does not come to its end. The client's connection then cannot carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client sends too slowly.
    Slow,
    /// It is longer than allowed.
    TooLong,
    /// The client has sent what is no body.
    Malformed(Violation),
    /// The client is gone.
    Client,
}

impl Upload {
    /// A body that is to be sent on. At most `allowed` bytes of it, at this pace or any.
    /// Once no server takes it, it may go on for `sink_time`.
    pub fn new(now: Instant, allowed: u64, pace: Option<Pace>, sink_time: Duration) -> Self {
        Self {
            state: State::Sending,
            allowed,
            pace,
            sink_time,
            waiting: None,
            untaken: None,
            bytes: 0,
            moved: now,
        }
    }

    /// A body that nobody wants.
    pub fn unwanted(now: Instant, allowed: u64, sink_time: Duration) -> Self {
        let mut upload = Self::new(now, allowed, None, sink_time);
        upload.sink(now);
        upload
    }

    /// When a server that has answered counts as one that reads no more: it need not say so, and is recognised by taking nothing. `None`:
    /// it is not the server that is waited for.
    pub fn is_left_at(&self) -> Option<Instant> {
        self.untaken.map(|since| since + UNTAKEN)
    }

    /// No server takes any more of it.
    pub fn sink(&mut self, now: Instant) {
        if matches!(self.state, State::Sending | State::Finishing) {
            self.state = State::Sinking { until: now + self.sink_time };
            self.untaken = None;
        }
    }

    /// Content that came so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last time that anything moved.
    pub fn moved(&self) -> Instant {
        self.moved
    }

    /// Whether there is nothing more to be done.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Done { .. } | State::Failed(_))
    }

    /// Whether a server got all of it.
    pub fn is_whole(&self) -> bool {
        matches!(self.state, State::Done { whole: true })
    }

    /// Why it failed.
    pub fn failure(&self) -> Option<Failure> {
        match self.state {
            State::Failed(failure) => Some(failure),
            State::Sending | State::Finishing | State::Sinking { .. } | State::Done { .. } => None,
        }
    }

    /// By when it must have moved on.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Sinking { until } => Some(*until),
            State::Sending => Some(self.waiting? + self.pace.as_ref()?.left()),
            State::Finishing | State::Done { .. } | State::Failed(_) => None,
        }
    }

    /// `deadline` has come.
    pub fn expire(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.state = State::Failed(Failure::Slow);
        }
    }

    /// Moves what can be moved; ready once it is over.
    pub fn poll<C, S>(&mut self, cx: &mut Context<'_>, client: &mut C, server: &mut Link<S>) -> Poll<()>
    where
        C: Client,
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let moved = match self.state {
                State::Sending => self.poll_send(cx, client, server),
                State::Finishing => self.poll_finish(cx, server),
                State::Sinking { .. } => self.poll_sink(cx, client),
                State::Done { .. } | State::Failed(_) => return Poll::Ready(()),
            };
            if moved.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// As `poll`, without a server.
    pub fn poll_to_nowhere<C>(&mut self, cx: &mut Context<'_>, client: &mut C) -> Poll<()>
    where
        C: Client,
    {
        while !self.is_over() {
            if self.poll_sink(cx, client).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    fn poll_send<C, S>(&mut self, cx: &mut Context<'_>, client: &mut C, server: &mut Link<S>) -> Poll<()>
    where
        C: Client,
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match client.poll_content(cx) {
            Poll::Pending => {
                if let Poll::Ready(Err(_)) = server.poll_flush(cx) {
                    self.sink(Instant::now());
                    return Poll::Ready(());
                }
                if self.pace.is_some() && self.waiting.is_none() {
                    self.waiting = Some(Instant::now());
                }
                Poll::Pending
            }
            Poll::Ready(Err(error)) => self.fail(&error),
            Poll::Ready(Ok([])) => {
                self.state = if server.finish_body(client.trailers()) {
                    State::Finishing
                } else {
                    State::Failed(Failure::Client)
                };
                Poll::Ready(())
            }
            Poll::Ready(Ok(content)) if too_long(content, self.allowed) => {
                self.state = State::Failed(Failure::TooLong);
                Poll::Ready(())
            }
            Poll::Ready(Ok(content)) => match server.poll_write(cx, content) {
                Poll::Pending => {
                    self.untaken.get_or_insert_with(Instant::now);
                    Poll::Pending
                }
                Poll::Ready(Ok(length)) => {
                    client.consume_content(length);
                    self.came(length);
                    Poll::Ready(())
                }
                Poll::Ready(Err(_)) => {
                    self.sink(Instant::now());
                    Poll::Ready(())
                }
            },
        }
    }

    fn poll_finish<S>(&mut self, cx: &mut Context<'_>, server: &mut Link<S>) -> Poll<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let flushed = server.poll_flush(cx);
        if flushed.is_pending() {
            self.untaken.get_or_insert_with(Instant::now);
        }
        flushed.map(|flushed| self.state = State::Done { whole: flushed.is_ok() })
    }

    fn poll_sink<C>(&mut self, cx: &mut Context<'_>, client: &mut C) -> Poll<()>
    where
        C: Client,
    {
        match client.poll_content(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => self.fail(&error),
            Poll::Ready(Ok([])) => {
                self.state = State::Done { whole: false };
                Poll::Ready(())
            }
            Poll::Ready(Ok(content)) if too_long(content, self.allowed) => {
                self.state = State::Failed(Failure::TooLong);
                Poll::Ready(())
            }
            Poll::Ready(Ok(content)) => {
                let length = content.len();
                client.consume_content(length);
                self.came(length);
                Poll::Ready(())
            }
        }
    }

    fn came(&mut self, length: usize) {
        let now = Instant::now();
        let bytes = u64::try_from(length).unwrap_or(u64::MAX);
        self.allowed = self.allowed.saturating_sub(bytes);
        self.bytes += bytes;
        (self.moved, self.untaken) = (now, None);
        let waited = self.waiting.take().map_or(Duration::ZERO, |since| now - since);
        if let Some(pace) = &mut self.pace {
            pace.came(length, waited);
        }
    }

    fn fail(&mut self, error: &LinkError) -> Poll<()> {
        tracing::debug!(%error, "a request's body did not come to its end");
        self.state = State::Failed(match error {
            LinkError::Violation(violation) => Failure::Malformed(*violation),
            LinkError::Cut | LinkError::Io(_) => Failure::Client,
        });
        Poll::Ready(())
    }
}

/// How long a server that has answered early may take nothing before it counts as one that reads no more.
const UNTAKEN: Duration = Duration::from_secs(10);

fn too_long(content: &[u8], allowed: u64) -> bool {
    u64::try_from(content.len()).map_or(true, |length| length > allowed)
}
