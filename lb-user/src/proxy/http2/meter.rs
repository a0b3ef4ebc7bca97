//! Counts the frames that cost a client nothing and us an answer or a search: SETTINGS and PING (CVE-2019-9515 and 9512),
//! RST_STREAM (CVE-2023-44487, as far as a request was served already), PRIORITY and what RFC 9113 does not know. What else
//! can flood, the `h2` crate bounds: CONTINUATION, small DATA frames, streams that are reset before they are served.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Finds frames in the bytes that a client sends. Pure.
#[derive(Debug)]
struct Meter {
    /// Bytes up to the next frame's header: of the connection's preface, or of a frame's payload.
    skip: usize,
    /// What came of the header.
    header: [u8; HEADER],
    filled: usize,
    /// Frames that may still come in this window.
    left: u32,
    allowed: u32,
    window_ends: Instant,
}

impl Meter {
    fn new(allowed: u32, now: Instant) -> Self {
        let window_ends = now + WINDOW;
        Self { skip: PREFACE, header: [0; HEADER], filled: 0, left: allowed, allowed, window_ends }
    }

    /// Looks at the bytes that follow; `false`: too many frames.
    fn take(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let part = bytes.len().min(HEADER - self.filled);
            self.header[self.filled..self.filled + part].copy_from_slice(&bytes[..part]);
            self.filled += part;
            bytes = &bytes[part..];
            if self.filled == HEADER && !self.frame(now) {
                return false;
            }
        }
        true
    }

    /// RFC 9113, 4.1: three bytes of length, one of type.
    fn frame(&mut self, now: Instant) -> bool {
        let [high, middle, low, kind, ..] = self.header;
        self.filled = 0;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if matches!(kind, DATA | HEADERS | GOAWAY | WINDOW_UPDATE | CONTINUATION) {
            return true;
        }
        if now >= self.window_ends {
            (self.left, self.window_ends) = (self.allowed, now + WINDOW);
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

/// A client's stream, of which no more is read once it is a flood.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    meter: Meter,
    flood: Flood,
}

/// Whether a client floods.
#[derive(Clone, Debug, Default)]
pub(super) struct Flood(Arc<AtomicBool>);

impl Flood {
    pub(super) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> Metered<S> {
    /// At most `allowed` frames in each [`WINDOW`].
    pub(super) fn new(stream: S, allowed: u32) -> (Self, Flood) {
        let flood = Flood::default();
        (Self { stream, meter: Meter::new(allowed, Instant::now()), flood: flood.clone() }, flood)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.flood.is_on() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if self.meter.take(&buffer.filled()[before..], Instant::now()) {
            return Poll::Ready(Ok(()));
        }
        buffer.set_filled(before);
        self.flood.0.store(true, Ordering::Relaxed);
        // The task that reads is the one that ends the connection.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Bytes before the first frame (RFC 9113, 3.4).
const PREFACE: usize = 24;

const HEADER: usize = 9;

/// In which frames are counted.
const WINDOW: Duration = Duration::from_secs(10);

// RFC 9113, 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 0];
        frame.resize(HEADER + payload, 6);
        frame
    }

    #[test]
    fn control_frames_are_counted_in_windows_of_ten_seconds() {
        let start = Instant::now();
        let mut meter = Meter::new(3, start);
        assert!(meter.take(&[b'P'; PREFACE], start));
        let ping = frame(6, 8);
        for at in [0, 1, 2, 11, 12, 13] {
            assert!(meter.take(&ping, start + Duration::from_secs(at)), "{at}");
        }
        assert!(meter.take(&frame(DATA, 1000).repeat(1000), start + Duration::from_secs(14)));
        assert!(!meter.take(&ping, start + Duration::from_secs(14)));
    }

    proptest! {
        #[test]
        fn frames_are_found_however_the_bytes_are_cut(kinds in proptest::collection::vec((0..12_u8, 0..40_usize), 0..30), step in 1..50_usize) {
            let now = Instant::now();
            let counted = |kind| !matches!(kind, DATA | HEADERS | GOAWAY | WINDOW_UPDATE | CONTINUATION);
            let wanted = kinds.iter().filter(|(kind, _)| counted(*kind)).count();
            let bytes = [vec![0; PREFACE], kinds.iter().flat_map(|(kind, payload)| frame(*kind, *payload)).collect()].concat();
            for allowed in [wanted, wanted.saturating_sub(1)] {
                let mut meter = Meter::new(u32::try_from(allowed).unwrap(), now);
                let fits = bytes.chunks(step).all(|part| meter.take(part, now));
                prop_assert_eq!(fits, allowed >= wanted);
            }
        }
    }
}
