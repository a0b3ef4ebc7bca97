//! Bodies on their way through, frame by frame: nothing is kept, and each side waits for the other.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::access::{AccessLog, Entry};
use super::activity::Busy;
use super::forward::InFlight;
use super::pace::{Pace, Paced, UploadError};
use crate::clock::Time;

/// A request's body on its way to the server.
///
/// A server may answer early and read no further, as Exchange does with the 401 of a logon. Closing the client's connection
/// then would break that logon, so what is left of the body is read to nowhere, within `EARLY_ANSWER_BYTES` and
/// `EARLY_ANSWER_TIME`.
#[derive(Debug)]
pub struct Upload {
    body: Option<(Paced<Incoming>, Busy)>,
    progress: Progress,
}

/// How a body moves.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Moves>);

#[derive(Debug)]
struct Moves {
    /// In nanoseconds of `Time`.
    last: AtomicU64,
    too_slow: AtomicBool,
}

impl Progress {
    fn new() -> Self {
        let last = AtomicU64::new(Time::now().as_nanos());
        Self(Arc::new(Moves { last, too_slow: AtomicBool::new(false) }))
    }

    /// The moment of the last frame, or of the request.
    pub fn last(&self) -> Time {
        Time::from_nanos(self.0.last.load(Ordering::Relaxed))
    }

    /// Whether the body was given up, because the client was too slow.
    pub fn too_slow(&self) -> bool {
        self.0.too_slow.load(Ordering::Acquire)
    }

    fn touch(&self) {
        self.0.last.store(Time::now().as_nanos(), Ordering::Relaxed);
    }
}

impl Upload {
    /// A body that keeps its connection `busy` until it ended, or fell behind its pace.
    pub fn new(body: Incoming, busy: Busy, pace: Option<Pace>) -> Self {
        Self { body: Some((Paced::new(body, pace), busy)), progress: Progress::new() }
    }

    /// Tells when the body last moved, also after it was handed on.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some((body, _)) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) => self.progress.touch(),
            Poll::Ready(None | Some(Err(_))) => {
                let too_slow = matches!(polled, Poll::Ready(Some(Err(UploadError::TooSlow))));
                self.progress.0.too_slow.store(too_slow, Ordering::Release);
                self.progress.touch();
                // Not even read to nowhere where it was too slow: the client's connection ends after the answer.
                self.body = None;
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some((body, busy)) = self.body.take().filter(|(body, _)| !body.is_end_stream()) else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Ends by itself: by the body's end, by the client's, or by its limits.
            runtime.spawn(async move {
                drop(tokio::time::timeout(EARLY_ANSWER_TIME, read_to_nowhere(body.into_inner())).await);
                drop(busy);
            });
        }
    }
}

async fn read_to_nowhere(mut body: Incoming) {
    let mut left = EARLY_ANSWER_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::remaining);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// A response's body on its way to the client; logs the request when it ends.
#[derive(Debug)]
pub struct Download {
    source: Source,
    record: Record,
}

#[derive(Debug)]
enum Source {
    Server(Incoming),
    Own(Full<Bytes>),
}

/// What is known of a request while its response is under way; dropped, it becomes its line in the access log.
#[derive(Debug)]
pub struct Record {
    /// The line, as far as it is known.
    pub entry: Entry,
    /// When the request head was there.
    pub started: Time,
    /// Where the line goes.
    pub log: AccessLog,
    /// Keeps the client's connection busy.
    pub busy: Busy,
    /// Counts the request.
    pub in_flight: InFlight,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.entry.took = Time::now().since(self.started);
        self.log.log(self.entry.clone());
    }
}

impl Download {
    /// A server's body.
    pub fn from_server(body: Incoming, record: Record) -> Self {
        Self::new(Source::Server(body), record)
    }

    /// A body of the proxy's own.
    pub fn own(text: &'static str, record: Record) -> Self {
        Self::new(Source::Own(Full::from(text)), record)
    }

    fn new(source: Source, record: Record) -> Self {
        let mut download = Self { source, record };
        download.record.entry.whole = download.is_end_stream();
        download
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = match &mut self.source {
            Source::Server(body) => Pin::new(body).poll_frame(cx),
            Source::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        };
        let ended = self.is_end_stream();
        let entry = &mut self.record.entry;
        match &polled {
            Poll::Pending | Poll::Ready(Some(Err(_))) => {}
            Poll::Ready(None) => entry.whole = true,
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::remaining);
                entry.bytes = entry.bytes.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
                entry.whole |= ended;
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Server(body) => body.is_end_stream(),
            Source::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Server(body) => body.size_hint(),
            Source::Own(body) => body.size_hint(),
        }
    }
}

/// Most bytes of a body that are read on behalf of nobody: the largest upload that Exchange allows by default (64 MiB), twice.
const EARLY_ANSWER_BYTES: usize = 128 << 20;

/// Longest time for that.
const EARLY_ANSWER_TIME: Duration = Duration::from_secs(120);
