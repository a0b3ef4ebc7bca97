//! From outcomes to a server's health: those of the tests, and those of the clients' requests (*live traffic* in ARR). Pure;
//! who asks the server is not here.

use std::collections::VecDeque;
use std::num::{NonZeroU8, NonZeroU16};
use std::time::Duration;

use memchr::memmem;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Health;
use super::status::StatusSet;
use crate::clock::Time;

/// What one server's outcomes in one test have come to.
///
/// ```text
/// Untested -- success --------------------------> Healthy
/// Healthy, Untested -- `failures` in a row -----> Unhealthy
/// Healthy, Untested -- live traffic fails ------> Unhealthy
/// Unhealthy -- `successes` of tests in a row ---> Healthy
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    health: Health,
    /// Tests in a row that speak against `health`.
    streak: u8,
    /// When live traffic failed, the latest last; no more than decide.
    failures: VecDeque<Time>,
}

/// How many tests in a row change a server's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Failures until it is unhealthy; ARR's `retries` is one less.
    pub failures: NonZeroU8,
    /// Successes until an unhealthy server is healthy again; ARR: 1. The first success of a server that was not tested before
    /// suffices always.
    pub successes: NonZeroU8,
}

/// When requests themselves make a server unhealthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveTraffic {
    /// So many failures; ARR's `maxLiveTrafficFailures`, there 10.
    pub failures: NonZeroU16,
    /// Within this time; ARR's `liveTrafficFailurePeriod`.
    pub period: Duration,
    /// Answers that are failures, beside connections that fail; ARR's `liveTrafficFailureCodes`, there `500-`. A request without
    /// an answer counts as what its client is answered: 502 or 504. `None`: no answer is a failure, nor is there being none,
    /// so that nobody can ask servers out of service; and Exchange's 500s are often one mailbox's.
    pub statuses: Option<StatusSet>,
}

impl LiveTraffic {
    /// Where nothing is said of it: three connections within ten seconds that cannot be made.
    pub fn plain() -> Self {
        Self { failures: NonZeroU16::MIN.saturating_add(2), period: Duration::from_secs(10), statuses: None }
    }

    /// Whether an answer with this status is a failure.
    pub fn is_failure(&self, status: u16) -> bool {
        self.statuses.as_ref().is_some_and(|statuses| statuses.contains(status))
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self { health: Health::Untested, streak: 0, failures: VecDeque::new() }
    }
}

impl Monitor {
    /// What is known now.
    pub fn health(&self) -> Health {
        self.health
    }

    /// A test ended.
    pub fn handle_test(&mut self, passed: bool, thresholds: &Thresholds) -> Health {
        let (against, limit) = match self.health {
            Health::Untested if passed => (true, 1),
            Health::Unhealthy => (passed, thresholds.successes.get()),
            Health::Untested | Health::Healthy => (!passed, thresholds.failures.get()),
        };
        self.streak = if against { self.streak.saturating_add(1) } else { 0 };
        if self.streak >= limit {
            self.turn(if passed { Health::Healthy } else { Health::Unhealthy });
        }
        self.health
    }

    /// A request failed. It cannot make the server healthy again: an unhealthy one gets no requests to prove itself with.
    pub fn handle_live_failure(&mut self, now: Time, live_traffic: &LiveTraffic) -> Health {
        if self.health == Health::Unhealthy {
            return self.health;
        }
        let limit = usize::from(live_traffic.failures.get());
        self.failures.retain(|at| now.since(*at) < live_traffic.period);
        self.failures.push_back(now);
        if self.failures.len() >= limit {
            self.turn(Health::Unhealthy);
        }
        self.health
    }

    fn turn(&mut self, health: Health) {
        // A success of an untested server may follow a streak of failures.
        *self = Self { health, streak: 0, failures: VecDeque::new() };
    }
}

/// What an answer has to be for a test to pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// One of these; ARR's `statusCodeMatch`.
    pub statuses: StatusSet,
    /// What the body contains, with case; empty: anything. ARR's `responseMatch`.
    pub body: String,
}

impl Expectation {
    /// Whether an answer passes. `body` may be cut off where the caller stops reading.
    pub fn check(&self, status: u16, body: &[u8]) -> Result<(), Mismatch> {
        if !self.statuses.contains(status) {
            return Err(Mismatch::Status { status });
        }
        match memmem::find(body, self.body.as_bytes()) {
            Some(_) => Ok(()),
            None => Err(Mismatch::Body),
        }
    }
}

/// Why an answer does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// Another status.
    #[error("answered {status}, which is not an expected status; hint: the test's status says which are")]
    Status {
        /// What it answered.
        status: u16,
    },
    /// The body does not contain the text.
    #[error("the answer's body does not contain the expected text; hint: the text is compared with case")]
    Body,
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn thresholds(failures: u8, successes: u8) -> Thresholds {
        let number = |number| NonZeroU8::new(number).unwrap();
        Thresholds { failures: number(failures), successes: number(successes) }
    }

    fn live_traffic(failures: u16, seconds: u64) -> LiveTraffic {
        let failures = NonZeroU16::new(failures).unwrap();
        LiveTraffic { failures, period: Duration::from_secs(seconds), statuses: None }
    }

    fn letter(health: Health) -> char {
        match health {
            Health::Untested => 'n',
            Health::Healthy => 'h',
            Health::Unhealthy => 'u',
        }
    }

    #[test]
    fn outcomes_in_a_row_change_a_servers_health() {
        for (failures, successes, outcomes, wanted) in [
            (3, 1, "---+--+---+", "nnuhhhhhhuh"),
            (3, 2, "---+-++--+---", "nnuuuuhhhhhhu"),
            (3, 2, "+", "h"),
            (3, 2, "--+--+---", "nnhhhhhhu"),
            (1, 1, "-+-+", "uhuh"),
            (1, 3, "-++-+++-", "uuuuuuhu"),
        ] {
            let mut monitor = Monitor::default();
            let thresholds = thresholds(failures, successes);
            let health: String = outcomes
                .chars()
                .map(|outcome| letter(monitor.handle_test(outcome == '+', &thresholds)))
                .collect();
            assert_eq!(health, wanted, "{failures} {successes} {outcomes}");
        }
    }

    #[test]
    fn live_traffic_makes_unhealthy_with_so_many_failures_within_the_period() {
        for (failures, seconds, at, wanted) in [
            (3, 10, &[0, 1, 2][..], "hhu"),
            (3, 10, &[0, 5, 10, 11, 12], "hhhuu"),
            (3, 10, &[0, 9, 18, 27, 36], "hhhhh"),
            (1, 10, &[0], "u"),
            (2, 0, &[0, 0, 0], "hhh"),
        ] {
            let mut monitor = Monitor::default();
            monitor.handle_test(true, &thresholds(3, 1));
            let live_traffic = live_traffic(failures, seconds);
            let mut fail = |second: &u64| {
                letter(monitor.handle_live_failure(Time::from_nanos(second * SECOND), &live_traffic))
            };
            let health: String = at.iter().map(&mut fail).collect();
            assert_eq!(health, wanted, "{failures} {seconds} {at:?}");
        }
    }

    #[test]
    fn only_tests_heal_what_live_traffic_made_unhealthy() {
        let mut monitor = Monitor::default();
        let live_traffic = live_traffic(2, 10);
        let fail = |monitor: &mut Monitor| monitor.handle_live_failure(Time::from_nanos(0), &live_traffic);
        fail(&mut monitor);
        assert_eq!(fail(&mut monitor), Health::Unhealthy);
        assert_eq!(fail(&mut monitor), Health::Unhealthy);
        assert_eq!(monitor.handle_test(true, &thresholds(3, 2)), Health::Unhealthy);
        // Requests that an unhealthy server gets where its health is waived do not set it back either.
        fail(&mut monitor);
        fail(&mut monitor);
        assert_eq!(monitor.handle_test(true, &thresholds(3, 2)), Health::Healthy);
        assert_eq!(fail(&mut monitor), Health::Healthy, "what failed before it was healed counts no more");
    }

    #[test]
    fn an_answer_passes_with_status_and_text() {
        let expectation = |statuses: &str, body: &str| Expectation {
            statuses: statuses.parse().unwrap(),
            body: body.to_owned(),
        };
        let body = b"200 OK<br/>SBEX1";
        for (statuses, text, status, wanted) in [
            ("200", "200 OK", 200, Ok(())),
            ("200", "", 200, Ok(())),
            ("401", "", 401, Ok(())),
            ("200", "200 ok", 200, Err(Mismatch::Body)),
            ("200-399", "200 OK", 503, Err(Mismatch::Status { status: 503 })),
        ] {
            assert_eq!(expectation(statuses, text).check(status, body), wanted, "{statuses} {text} {status}");
        }
        assert_eq!(expectation("200", "x").check(200, b""), Err(Mismatch::Body));
    }

    #[test]
    fn an_answer_is_a_failure_only_if_its_status_is_listed() {
        let mut live_traffic = live_traffic(1, 1);
        assert!(!live_traffic.is_failure(500));
        live_traffic.statuses = Some("500-".parse().unwrap());
        assert!(live_traffic.is_failure(503));
        assert!(!live_traffic.is_failure(404));
    }

    proptest! {
        #[test]
        fn live_traffic_never_heals_and_is_bounded(steps in vec((any::<bool>(), any::<bool>(), 0..20 * SECOND), 0..200)) {
            let (thresholds, live_traffic) = (thresholds(3, 2), live_traffic(5, 10));
            let (mut monitor, mut now) = (Monitor::default(), 0);
            for (live, passed, wait) in steps {
                now += wait;
                let before = monitor.health();
                if live {
                    let after = monitor.handle_live_failure(Time::from_nanos(now), &live_traffic);
                    prop_assert!(after == before || after == Health::Unhealthy);
                } else {
                    monitor.handle_test(passed, &thresholds);
                }
                prop_assert!(monitor.failures.len() < 5);
            }
        }
    }
}
