//! Numbers that all threads count up.
//!
//! Not a crate's, because those at hand lock a mutex for each observation and look labels up in a hash map; here both are an index
//! and a relaxed addition or two. What is read while others count may be a request apart from itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down, not below zero.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicU64);

impl Gauge {
    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long things took.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Nanoseconds in all.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|&(bound, _)| bound < nanos);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many took at most each bound's time, and how many there are, in the order of the bounds.
    pub(super) fn cumulative(&self) -> [u64; BOUNDS.len() + 1] {
        let mut sum = 0;
        std::array::from_fn(|bucket| {
            sum += self.buckets[bucket].load(Ordering::Relaxed);
            sum
        })
    }

    /// Nanoseconds in all.
    pub(super) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// Upper bounds in nanoseconds, and as they are written, in seconds: from what a page from memory takes to what ActiveSync's and
/// RPC's long polls take.
pub(super) const BOUNDS: [(u64, &str); 18] = [
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1.0"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5.0"),
    (10_000_000_000, "10.0"),
    (30_000_000_000, "30.0"),
    (60_000_000_000, "60.0"),
    (300_000_000_000, "300.0"),
    (1_800_000_000_000, "1800.0"),
    (3_600_000_000_000, "3600.0"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend_and_are_written_as_they_are() {
        for pair in BOUNDS.windows(2) {
            assert!(pair[0].0 < pair[1].0);
        }
        for (nanos, text) in BOUNDS {
            assert_eq!(Duration::from_secs_f64(text.parse().unwrap()), Duration::from_nanos(nanos), "{text}");
        }
    }

    #[test]
    fn a_time_is_counted_at_its_bound_and_beyond() {
        let histogram = Histogram::default();
        for nanos in [0, 1_000_000, 1_000_001, 3_600_000_000_000, 3_600_000_000_001] {
            histogram.observe(Duration::from_nanos(nanos));
        }
        let counts = histogram.cumulative();
        assert_eq!((counts[0], counts[1], counts[16], counts[17], counts[18]), (2, 3, 3, 4, 5));
        assert_eq!(histogram.sum(), 7_200_002_000_002);
    }
}
