//! Whether the proxy counts as ready, by how long it has been so: a health test that fails once must not move everything. Pure.

use std::time::Duration;

use crate::clock::Time;

/// How long it must have been unready to count as that.
const UNREADY_AFTER: Duration = Duration::from_millis(500);

/// How long it must have been ready to count as that again.
const READY_AFTER: Duration = Duration::from_secs(2);

/// ```text
///          unready for 500 ms, or dead
///   ready ----------------------------> unready       at the start: unready, and ready at once
///         <----------------------------
///          ready for 2 s
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steady {
    ready: bool,
    /// Since when it has been otherwise.
    otherwise: Option<Time>,
    /// Whether it has been ready before.
    proven: bool,
}

impl Steady {
    /// `ready`: as it was told the cluster thread.
    pub(super) fn new(ready: bool) -> Self {
        Self { ready, otherwise: None, proven: ready }
    }

    pub(super) fn handle(&mut self, alive: bool, ready: bool, now: Time) {
        if !alive {
            self.turn(false);
        } else if ready == self.ready {
            self.otherwise = None;
        } else if ready && !self.proven {
            self.turn(true);
        } else {
            self.otherwise.get_or_insert(now);
        }
        self.handle_timeout(now);
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.turn(!self.ready);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let patience = if self.ready { UNREADY_AFTER } else { READY_AFTER };
        self.otherwise.map(|since| since + patience)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    fn turn(&mut self, ready: bool) {
        *self = Self { ready, otherwise: None, proven: self.proven || ready };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_flap_moves_nothing_and_what_lasts_does() {
        let mut proxy = Steady::new(false);
        let rows = [
            (0, true, false, false),
            (100, true, true, true),
            (200, true, false, true),
            (600, true, true, true),
            (700, true, false, true),
            (1200, true, false, false),
            (1300, true, true, false),
            (3200, true, true, false),
            (3300, true, true, true),
            (3400, false, false, false),
            (3500, true, true, false),
            (5500, true, true, true),
        ];
        for (millis, alive, ready, expected) in rows {
            proxy.handle(alive, ready, at(millis));
            assert_eq!(proxy.is_ready(), expected, "after {millis} ms");
        }
    }

    #[test]
    fn time_alone_makes_it_so() {
        let mut proxy = Steady::new(false);
        proxy.handle(true, true, at(0));
        assert_eq!(proxy.poll_timeout(), None);
        proxy.handle(true, false, at(100));
        assert_eq!(proxy.poll_timeout(), Some(at(600)));
        proxy.handle_timeout(at(599));
        assert!(proxy.is_ready());
        proxy.handle_timeout(at(600));
        assert!(!proxy.is_ready() && proxy.poll_timeout().is_none());
    }
}
