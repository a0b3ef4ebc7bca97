//! How many bytes each server carried lately. Pure: bytes are counted elsewhere, time is an argument.
//!
//! Not since ever: a server that is new or was away would get every request until it had caught up with the others' years.

use std::time::Duration;

use crate::clock::Time;

/// The recent traffic of a farm's servers, halved about every 44 s.
#[derive(Clone, Debug)]
pub struct Traffic {
    servers: Vec<Recent>,
    /// When it was last faded.
    faded: Time,
}

#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    /// What is left of the traffic up to `counted`, bytes.
    level: f64,
    /// The server's total when it was last faded, bytes.
    counted: u64,
}

impl Traffic {
    /// What each server carried up to `now` does not matter.
    pub fn new(totals: impl IntoIterator<Item = u64>, now: Time) -> Self {
        let recent = |counted| Recent { level: 0.0, counted };
        Self { servers: totals.into_iter().map(recent).collect(), faded: now }
    }

    /// Lets old traffic fade; at most once a second, so that the usual request pays nothing.
    pub fn fade(&mut self, now: Time, total: impl Fn(usize) -> u64) {
        let elapsed = now.since(self.faded);
        let steps = elapsed.as_secs() / STEP.as_secs();
        if steps == 0 {
            return;
        }
        // Beyond so many steps nothing is left of any level.
        let left = KEPT.powi(i32::try_from(steps).unwrap_or(i32::MAX));
        for (server, recent) in self.servers.iter_mut().enumerate() {
            let total = total(server);
            *recent = Recent { level: (recent.level(total) * left).floor(), counted: total };
        }
        self.faded = self.faded + STEP * u32::try_from(steps).unwrap_or(u32::MAX);
    }

    /// What `server` carried lately, its count being at `total` now; bytes.
    pub fn level(&self, server: usize, total: u64) -> f64 {
        self.servers.get(server).map_or(0.0, |recent| recent.level(total))
    }
}

impl Recent {
    fn level(&self, total: u64) -> f64 {
        self.level + total.saturating_sub(self.counted) as f64
    }
}

/// Time from one fading to the next.
const STEP: Duration = Duration::from_secs(1);

/// What is left of traffic after a step.
const KEPT: f64 = 63.0 / 64.0;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn old_traffic_fades_and_new_traffic_counts_whole() {
        let mut traffic = Traffic::new([500, 0], at(0));
        assert!(traffic.level(0, 500).abs() < f64::EPSILON, "what came before is not counted");
        assert!((traffic.level(0, 1500) - 1000.0).abs() < 1.0);
        traffic.fade(at(44), |server| [1500, 0][server]);
        assert!((traffic.level(0, 1500) - 500.0).abs() < 2.0, "half is left");
        assert!((traffic.level(0, 1600) - 600.0).abs() < 2.0);
        assert!(traffic.level(1, 0).abs() < f64::EPSILON);
        traffic.fade(at(u64::from(u32::MAX)), |_| 1600);
        assert!(traffic.level(0, 1600).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn a_level_is_never_negative_nor_above_the_count(steps in vec((0..5_000_000_000_u64, 0..1_000_000_u64), 0..50)) {
            let mut traffic = Traffic::new([0], at(0));
            let (mut now, mut total) = (0, 0);
            for (wait, bytes) in steps {
                now += wait;
                total += bytes;
                traffic.fade(Time::from_nanos(now), |_| total);
                let level = traffic.level(0, total);
                prop_assert!((0.0..=50_000_000.0).contains(&level), "{}", level);
                prop_assert!(level <= total as f64);
            }
        }
    }
}
