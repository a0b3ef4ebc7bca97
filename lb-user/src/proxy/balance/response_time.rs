//! A server's average response time, newer responses counting more. Pure.

use std::time::Duration;

use crate::clock::Time;

/// An exponentially weighted moving average. What is older than the period weighs less than what is newer, however many
/// requests there are in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Average {
    /// 0: there was no response yet.
    nanos: u64,
    at: Time,
}

impl Average {
    /// From what [`Average::into_parts`] gave.
    pub fn from_parts(nanos: u64, at: Time) -> Self {
        Self { nanos, at }
    }

    /// The average in nanoseconds, 0 for none, and when the last response came.
    pub fn into_parts(self) -> (u64, Time) {
        (self.nanos, self.at)
    }

    /// With one more response, which came `now`.
    #[must_use]
    pub fn with(self, took: Duration, now: Time, period: Duration) -> Self {
        let old = if self.nanos == 0 { 0.0 } else { decay(now.since(self.at), period) };
        let average = old * self.nanos as f64 + (1.0 - old) * took.as_secs_f64() * 1e9;
        // A response in no time is a response nevertheless. The conversion saturates.
        Self { nanos: (average as u64).max(1), at: now.max(self.at) }
    }

    /// What was measured; zero: nothing yet.
    pub fn value(self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// What to expect `now`, in nanoseconds. A server without responses for longer than the period is expected to have
    /// become better little by little: else the one bad minute that kept requests away would keep them away for ever.
    pub fn expected(self, now: Time, period: Duration) -> f64 {
        let idle = now.since(self.at);
        if idle <= period {
            return self.nanos as f64;
        }
        self.nanos as f64 * decay(idle.saturating_sub(period), period)
    }
}

/// What is left of a weight after `elapsed`: 1/e after each period.
fn decay(elapsed: Duration, period: Duration) -> f64 {
    if period.is_zero() { 0.0 } else { (-elapsed.as_secs_f64() / period.as_secs_f64()).exp() }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(5);

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn average(responses: &[(u64, u64)]) -> Average {
        let add = |average: Average, (now, took): &(u64, u64)| {
            average.with(Duration::from_millis(*took), at(*now), PERIOD)
        };
        responses.iter().fold(Average::default(), add)
    }

    fn is_about(nanos: f64, millis: f64) -> bool {
        (nanos / 1e6 - millis).abs() < millis / 50.0
    }

    #[test]
    fn newer_responses_count_more() {
        assert_eq!(average(&[]).value(), Duration::ZERO);
        assert_eq!(average(&[(0, 40)]).value(), Duration::from_millis(40), "the first is the average");
        let steady: Vec<_> = (0..100).map(|index| (index * 100, 40)).collect();
        assert!(is_about(average(&steady).value().as_secs_f64() * 1e9, 40.0));
        // One period of another value: 1/e of the old is left.
        let turned: Vec<_> = (0..150).map(|index| (index * 100, if index < 100 { 0 } else { 100 })).collect();
        assert!(is_about(average(&turned).value().as_secs_f64() * 1e9, 63.2));
    }

    #[test]
    fn a_server_that_is_not_asked_is_expected_to_become_better() {
        let average = average(&[(0, 1000)]);
        for (now, millis) in [(0, 1000.0), (5000, 1000.0), (10_000, 367.9), (15_000, 135.3)] {
            assert!(is_about(average.expected(at(now), PERIOD), millis), "{now}");
        }
        assert!(average.expected(at(3_600_000), PERIOD) < 1.0);
    }

    proptest! {
        #[test]
        fn an_average_lies_between_its_responses(responses in vec((0..10_000_u64, 1..100_000_u64), 1..50)) {
            let average = average(&responses).value().as_millis();
            let took = || responses.iter().map(|(_, took)| u128::from(*took));
            prop_assert!(average + 1 >= took().min().unwrap() && average <= took().max().unwrap());
        }

        #[test]
        fn no_clock_and_no_duration_breaks_it(a in any::<u64>(), b in any::<u64>(), now in any::<u64>(), period in any::<u64>()) {
            let period = Duration::from_nanos(period);
            let average = Average::from_parts(a, Time::from_nanos(b)).with(Duration::MAX, Time::from_nanos(now), period);
            prop_assert!(average.value() > Duration::ZERO);
            prop_assert!(average.expected(Time::from_nanos(a), period) >= 0.0);
        }
    }
}
