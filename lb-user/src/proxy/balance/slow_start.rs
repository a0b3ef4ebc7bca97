//! The weight of a server that has just come back. Pure.
//!
//! A server that was down has empty caches and an application to start; its full share at once would take it down again.

use std::time::Duration;

use super::settings::Weight;

/// `weight` in parts of [`WHOLE`], `since` after the server came back: it rises evenly over `duration`, from a tenth, because
/// a server that gets next to nothing does not warm up either. A `duration` of zero: it is whole at once.
pub fn ramped(weight: Weight, since: Duration, duration: Duration) -> u32 {
    let whole = weight.get() * WHOLE;
    if since >= duration {
        return whole;
    }
    let part = since.as_secs_f64() / duration.as_secs_f64();
    ((f64::from(whole) * part) as u32).clamp(whole / 10, whole)
}

/// What a weight of 1 is in full. Ramped weights need finer steps than whole ones.
pub const WHOLE: u32 = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_weight_rises_evenly_from_a_tenth() {
        let minute = Duration::from_secs(60);
        let weight = Weight::new(100).unwrap();
        for (seconds, percent) in [(0, 10), (6, 10), (15, 25), (30, 50), (60, 100), (600, 100)] {
            assert_eq!(ramped(weight, Duration::from_secs(seconds), minute), percent * WHOLE, "{seconds}");
        }
        assert_eq!(ramped(weight, Duration::ZERO, Duration::ZERO), 100 * WHOLE);
    }

    proptest! {
        #[test]
        fn a_weight_never_falls_and_is_whole_in_the_end(
            weight in 1..=1000_u32,
            duration in 0..=u64::MAX,
            earlier in 0..=u64::MAX,
            later in 0..=u64::MAX,
        ) {
            let weight = Weight::new(weight).unwrap();
            let at = |nanos| ramped(weight, Duration::from_nanos(nanos), Duration::from_nanos(duration));
            let (earlier, later) = (earlier.min(later), earlier.max(later));
            prop_assert!(at(earlier) >= 1);
            prop_assert!(at(earlier) <= at(later));
            prop_assert_eq!(at(duration), weight.get() * WHOLE);
        }
    }
}
