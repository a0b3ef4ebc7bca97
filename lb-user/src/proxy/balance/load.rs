//! What one server is doing and has done. Counted here, judged elsewhere.
//!
//! Every number is an atomic of its own: they are read to be compared and shown, and need not fit one another to the request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::response_time::Average;
use crate::clock::Time;

/// The counts of one server. They outlive a change of configuration: what was in flight before it is counted off after it.
#[derive(Debug, Default)]
pub struct Load {
    requests: AtomicU32,
    connections: AtomicU32,
    total: AtomicU64,
    failed: AtomicU64,
    uploaded: AtomicU64,
    downloaded: AtomicU64,
    average: SharedAverage,
}

/// The counts at one moment; ARR's *Monitoring and Management* shows the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests in flight.
    pub requests: u32,
    /// Connections to it that are limited by its settings.
    pub connections: u32,
    /// Requests begun since the proxy started.
    pub total: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Bytes of requests' bodies.
    pub uploaded: u64,
    /// Bytes of responses' bodies.
    pub downloaded: u64,
    /// Average time to a response head; zero: there was none yet.
    pub response_time: Duration,
}

impl Load {
    /// The counts.
    pub fn counters(&self) -> Counters {
        Counters {
            requests: self.requests(),
            connections: self.connections(),
            total: self.total.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            uploaded: self.uploaded.load(Ordering::Relaxed),
            downloaded: self.downloaded.load(Ordering::Relaxed),
            response_time: self.average.load().value(),
        }
    }

    /// Requests in flight.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Bytes carried, both ways.
    pub fn bytes(&self) -> u64 {
        self.uploaded.load(Ordering::Relaxed).wrapping_add(self.downloaded.load(Ordering::Relaxed))
    }

    /// The average response time.
    pub fn average(&self) -> Average {
        self.average.load()
    }

    /// One connection more.
    pub fn connect(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// One connection fewer.
    pub fn disconnect(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that a server has; counts while it lives.
#[derive(Debug)]
pub struct InFlight {
    load: Arc<Load>,
    period: Duration,
}

impl InFlight {
    /// Begins a request. Response times are averaged over `period`.
    pub fn begin(load: Arc<Load>, period: Duration) -> Self {
        load.requests.fetch_add(1, Ordering::Relaxed);
        load.total.fetch_add(1, Ordering::Relaxed);
        Self { load, period }
    }

    /// The head of the response came, `took` after the request was sent.
    pub fn responded(&self, took: Duration, now: Time) {
        self.load.average.record(took, now, self.period);
    }

    /// Bytes of the request's body went to the server.
    pub fn uploaded(&self, bytes: u64) {
        self.load.uploaded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of the response's body came from the server.
    pub fn downloaded(&self, bytes: u64) {
        self.load.downloaded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The server did not answer it.
    pub fn failed(&self) {
        self.load.failed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.load.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An average that threads share. Of two that record at once one may go unrecorded, and a reader may see one's value with the
/// other's time: an average of many is none the worse, and a lock for each response costs more.
#[derive(Debug, Default)]
struct SharedAverage {
    nanos: AtomicU64,
    at: AtomicU64,
}

impl SharedAverage {
    fn load(&self) -> Average {
        let nanos = self.nanos.load(Ordering::Relaxed);
        Average::from_parts(nanos, Time::from_nanos(self.at.load(Ordering::Relaxed)))
    }

    fn record(&self, took: Duration, now: Time, period: Duration) {
        let (nanos, at) = self.load().with(took, now, period).into_parts();
        self.nanos.store(nanos, Ordering::Relaxed);
        self.at.store(at.as_nanos(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_from_its_beginning_to_its_drop() {
        let load = Arc::new(Load::default());
        let period = Duration::from_secs(5);
        let first = InFlight::begin(Arc::clone(&load), period);
        let second = InFlight::begin(Arc::clone(&load), period);
        first.uploaded(10);
        first.downloaded(200);
        first.downloaded(5);
        first.responded(Duration::from_millis(30), Time::from_nanos(1));
        assert_eq!(load.requests(), 2);
        drop(first);
        second.failed();
        drop(second);
        let counters = Counters {
            requests: 0,
            connections: 0,
            total: 2,
            failed: 1,
            uploaded: 10,
            downloaded: 205,
            response_time: Duration::from_millis(30),
        };
        assert_eq!(load.counters(), counters);
        assert_eq!(load.bytes(), 215);
    }
}
