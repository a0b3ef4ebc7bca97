//! How slowly a client may upload.
//!
//! Whoever sends a byte now and then would hold a connection, and a server's, for ever. So waiting for a client's bytes is
//! counted over the whole body, and only bytes win the time back, at a rate that counts as a pace. Time in which the server does not read is not
//! the client's. A request that is whole, as one that waits long for its answer is (ActiveSync's Ping, MAPI's
//! notifications), waits for nothing here. Pure.

use std::time::Duration;

use super::protect::limits::Limits;

/// How much longer may be waited for a body.
#[derive(Debug)]
pub struct Pace {
    patience: Duration,
    /// Bytes a second that win time back, at least 1.
    rate: u32,
    waited: Duration,
}

impl Pace {
    /// What is asked of a request with this method. Of RPC over HTTP's inbound channel nothing: its body is a stream that
    /// lives as long as Outlook and may be silent. It is bounded by its server, which wants a logon first, and by the number of
    /// connections alone.
    pub fn of(method: &[u8], limits: &Limits) -> Option<Self> {
        (method != b"RPC_IN_DATA").then(|| Self::new(limits.body_wait, limits.body_rate))
    }

    fn new(patience: Duration, rate: u32) -> Self {
        Self { patience, rate: rate.max(1), waited: Duration::ZERO }
    }

    /// Bytes came after so long a wait.
    pub fn came(&mut self, bytes: usize, after: Duration) {
        let won = Duration::from_secs(u64::try_from(bytes).unwrap_or(u64::MAX)) / self.rate;
        self.waited = (self.waited + after).saturating_sub(won);
    }

    /// How much longer may be waited.
    pub fn left(&self) -> Duration {
        self.patience.saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_byte_a_minute_keeps_nothing_open_and_the_rate_does() {
        let Limits { body_wait: patience, body_rate: rate, .. } = Limits::default();
        let mut dribble = Pace::new(patience, rate);
        dribble.came(1, 60 * SECOND);
        dribble.came(1, 60 * SECOND);
        assert!(dribble.left() < SECOND);
        let mut slow = Pace::new(patience, rate);
        for _ in 0..10_000 {
            slow.came(2400, 10 * SECOND);
        }
        assert_eq!(slow.left(), patience);
        slow.came(0, 119 * SECOND);
        slow.came(64 << 20, SECOND);
        assert_eq!(slow.left(), patience, "what was quick before is no credit beyond the patience");
    }

    #[test]
    fn outlooks_inbound_channel_alone_may_be_silent() {
        assert!(Pace::of(b"RPC_IN_DATA", &Limits::default()).is_none());
        for name in ["RPC_OUT_DATA", "POST", "PUT", "rpc_in_data"] {
            assert!(Pace::of(name.as_bytes(), &Limits::default()).is_some(), "{name}");
        }
    }
}
