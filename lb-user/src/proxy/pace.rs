//! How slowly a client may upload.
//!
//! Whoever sends a byte now and then would hold a connection, and a server's, for ever. So waiting for a client's bytes is
//! counted over the whole body, and only bytes win the time back, at `RATE`. Time in which the server does not read is not
//! the client's. A request that is whole, as one that waits long for its answer is (ActiveSync's Ping, MAPI's
//! notifications), waits for nothing here.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::Method;
use hyper::body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until};

/// How much longer may be waited for a body. Pure.
#[derive(Debug)]
pub struct Pace {
    patience: Duration,
    waited: Duration,
}

impl Pace {
    /// What is asked of a request with this method. Of RPC over HTTP's inbound channel nothing: its body is a stream that
    /// lives as long as Outlook and may be silent. It is bounded by its server, which wants a logon first, and by the number of
    /// connections alone.
    pub fn of(method: &Method) -> Option<Self> {
        (method.as_str() != "RPC_IN_DATA").then(|| Self::new(PATIENCE))
    }

    fn new(patience: Duration) -> Self {
        Self { patience, waited: Duration::ZERO }
    }

    /// Bytes came after so long a wait.
    fn came(&mut self, bytes: usize, after: Duration) {
        let won = Duration::from_secs(u64::try_from(bytes).unwrap_or(u64::MAX)) / RATE;
        self.waited = (self.waited + after).saturating_sub(won);
    }

    fn left(&self) -> Duration {
        self.patience.saturating_sub(self.waited)
    }
}

/// A body that fails when it comes too slowly.
#[derive(Debug)]
pub struct Paced<B> {
    body: B,
    pace: Option<Pace>,
    /// Since when the client's next bytes are waited for.
    waiting: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Paced<B> {
    /// `body` at this pace, or any.
    pub fn new(body: B, pace: Option<Pace>) -> Self {
        Self { body, pace, waiting: None, timer: None }
    }

    /// The body alone.
    pub fn into_inner(self) -> B {
        self.body
    }

    fn came(&mut self, bytes: usize) {
        let after = self.waiting.take().map_or(Duration::ZERO, |since| since.elapsed());
        if let Some(pace) = &mut self.pace {
            pace.came(bytes, after);
        }
    }

    /// Ready when the client was waited for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pace) = &self.pace else {
            return Poll::Pending;
        };
        if self.waiting.is_none() {
            let now = Instant::now();
            self.waiting = Some(now);
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(now + pace.left()),
                None => self.timer = Some(Box::pin(sleep_until(now + pace.left()))),
            }
        }
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Body for Paced<B> {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            ready!(self.poll_patience(cx));
            return Poll::Ready(Some(Err(UploadError::TooSlow)));
        };
        if let Some(Ok(frame)) = &frame {
            self.came(frame.data_ref().map_or(0, Bytes::remaining));
        }
        Poll::Ready(frame.map(|frame| Ok(frame?)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a body ends early.
#[derive(Debug, Error)]
pub enum UploadError {
    /// The client's connection.
    #[error(transparent)]
    Client(#[from] hyper::Error),
    /// The client's pace.
    #[error("the client uploads too slowly")]
    TooSlow,
}

/// Longest wait for a client's bytes, beyond what they won; as http.sys waits for a body.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes a second that keep an upload going; http.sys's `MinBytesPerSecond`. A phone at the edge of its cell has more.
const RATE: u32 = 240;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_byte_a_minute_keeps_nothing_open_and_the_rate_does() {
        let mut dribble = Pace::new(PATIENCE);
        dribble.came(1, 60 * SECOND);
        dribble.came(1, 60 * SECOND);
        assert!(dribble.left() < SECOND);
        let mut slow = Pace::new(PATIENCE);
        for _ in 0..10_000 {
            slow.came(2400, 10 * SECOND);
        }
        assert_eq!(slow.left(), PATIENCE);
        slow.came(0, 119 * SECOND);
        slow.came(64 << 20, SECOND);
        assert_eq!(slow.left(), PATIENCE, "what was quick before is no credit beyond the patience");
    }

    #[test]
    fn outlooks_inbound_channel_alone_may_be_silent() {
        let method = |name: &str| Method::from_bytes(name.as_bytes()).unwrap();
        assert!(Pace::of(&method("RPC_IN_DATA")).is_none());
        for name in ["RPC_OUT_DATA", "POST", "PUT", "rpc_in_data"] {
            assert!(Pace::of(&method(name)).is_some(), "{name}");
        }
    }

    /// What is sent, as a body.
    struct Sent(Receiver<Bytes>);

    impl Body for Sent {
        type Data = Bytes;
        type Error = hyper::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
            self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    #[tokio::test]
    async fn a_body_that_dribbles_on_ends() {
        let (sender, receiver) = channel(1);
        let dribble = tokio::spawn(async move {
            while sender.send(Bytes::from_static(b".")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let body = Paced::new(Sent(receiver), Some(Pace::new(Duration::from_millis(100))));
        assert!(matches!(body.collect().await, Err(UploadError::TooSlow)));
        dribble.await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_does_not_read_costs_the_client_nothing() {
        let (sender, receiver) = channel(2);
        let mut body = Paced::new(Sent(receiver), Some(Pace::new(Duration::from_millis(1))));
        for _ in 0..2 {
            sender.send(Bytes::from_static(b".")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(body.frame().await.unwrap().is_ok());
        }
    }
}
