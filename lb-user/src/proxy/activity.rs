//! What a client connection is doing, and by when it must do something else. Pure: the time is an argument.
//!
//! hyper's own timer cannot tell a client that rests between requests, which Windows authentication needs, from one that
//! dribbles a request head; these three states can.
//!
//! ```text
//!            request whole               response and request body ended
//! Reading ------------------> Busy ---------------------------------------> Resting
//!    ^                                                                         |
//!    +-------------------------------- first byte -----------------------------+
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Time;

/// A connection's state, shared by those who see it change.
#[derive(Debug)]
pub struct Activity {
    /// Requests and bodies under way; more than one while a body is still uploaded after its response.
    busy: AtomicU32,
    /// Reading rather than resting, where not busy.
    reading: AtomicBool,
    /// When the state began, in nanoseconds of `Time`.
    since: AtomicU64,
}

impl Activity {
    /// A connection that owes its first request head from `now` on.
    pub fn new(now: Time) -> Arc<Self> {
        Arc::new(Self {
            busy: AtomicU32::new(0),
            reading: AtomicBool::new(true),
            since: AtomicU64::new(now.as_nanos()),
        })
    }

    /// Busy until the token, and all others, are dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    /// Bytes came from the client.
    pub fn bytes_came(&self, now: Time) {
        if self.busy.load(Ordering::Acquire) == 0 && !self.reading.swap(true, Ordering::AcqRel) {
            self.since.store(now.as_nanos(), Ordering::Release);
        }
    }

    /// By when the connection must have left its state; `None` while it is busy, which has timers of its own.
    pub fn deadline(&self, draining: bool) -> Option<Time> {
        if self.busy.load(Ordering::Acquire) > 0 {
            return None;
        }
        let allowed = match (self.reading.load(Ordering::Acquire), draining) {
            (true, _) => HEAD_TIMEOUT,
            (false, false) => REST_TIMEOUT,
            (false, true) => REST_TIMEOUT_DRAINING,
        };
        Some(Time::from_nanos(self.since.load(Ordering::Acquire)) + allowed)
    }

    fn end(&self, now: Time) {
        self.reading.store(false, Ordering::Release);
        self.since.store(now.as_nanos(), Ordering::Release);
        self.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Keeps a connection busy.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end(Time::now());
    }
}

/// Longest time for a request head, from its first byte or from the handshake. Whoever looks at deadlines this often sees
/// each in time, since no state ends sooner after it began, draining apart.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest rest between requests. Below the 120 s of Windows' http.sys, so that it is seldom the server that ends a
/// connection.
const REST_TIMEOUT: Duration = Duration::from_secs(100);

/// The same while the proxy drains: long enough that a client in the middle of a series sends its next request, and learns
/// from the answer that the connection ends.
const REST_TIMEOUT_DRAINING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_request_head_has_thirty_seconds_however_its_bytes_dribble() {
        let activity = Activity::new(at(10));
        activity.bytes_came(at(20));
        activity.bytes_came(at(39));
        assert_eq!(activity.deadline(false), Some(at(40)));
        assert_eq!(activity.deadline(true), Some(at(40)));
    }

    #[test]
    fn a_busy_connection_has_no_deadline() {
        let activity = Activity::new(at(10));
        let request = activity.begin();
        let upload = activity.begin();
        drop(request);
        assert_eq!(activity.deadline(false), None);
        drop(upload);
        assert!(activity.deadline(false).is_some());
    }

    #[test]
    fn a_resting_connection_ends_sooner_while_draining() {
        let activity = Activity::new(at(0));
        std::mem::forget(activity.begin());
        activity.end(at(50));
        assert_eq!(activity.deadline(false), Some(at(150)));
        assert_eq!(activity.deadline(true), Some(at(52)));
        activity.bytes_came(at(60));
        assert_eq!(activity.deadline(true), Some(at(90)));
    }
}
