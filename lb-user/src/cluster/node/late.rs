//! This node's own lateness. A thread that is kept waiting reads late what others said in time, so while it is late it gives
//! them longer before it calls them silent (as Lifeguard does: Dadgar, Phillips, Currey, 2017).

use super::*;

/// How late this node has been of late.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Lateness {
    /// Grows with every late round, and shrinks with every suspect time without one; at most `WORST`.
    score: u32,
    /// When `score` last changed.
    changed: Option<Time>,
    /// The latest late round of note, for the operator: by how much, and when.
    worst: Option<(Duration, Time)>,
    told: Option<Time>,
}

const WORST: u32 = 8;

/// How long a late round counts as "of late", and the least time between two events.
const MEMORY: Duration = Duration::from_secs(60);

impl Lateness {
    /// A round of heartbeats goes out `by` later than its period wanted. True if the operator should know.
    pub(super) fn note(&mut self, by: Duration, timing: &Timing, now: Time) -> bool {
        let changed = *self.changed.get_or_insert(now);
        if by > timing.period {
            self.score = (self.score + 1).min(WORST);
            self.changed = Some(now);
        } else if self.score > 0 && now.since(changed) >= timing.suspect() {
            self.score -= 1;
            self.changed = Some(now);
        }
        if self.worst.is_none_or(|(worst, at)| by > worst || now.since(at) >= MEMORY) {
            self.worst = Some((by, now));
        }
        let tell = by > timing.period && self.told.is_none_or(|told| now.since(told) >= MEMORY);
        if tell {
            self.told = Some(now);
        }
        tell
    }

    /// How much longer than the suspect time silence has to last: half of it for each point, at most twice of it.
    pub(super) fn slack(&self, timing: &Timing) -> Duration {
        (timing.suspect() / 2 * self.score).min(timing.suspect() * 2)
    }

    /// The latest round of the last minute.
    pub(super) fn worst(&self, now: Time) -> Duration {
        self.worst.filter(|(_, at)| now.since(*at) < MEMORY).map_or(Duration::ZERO, |(by, _)| by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn verdicts_wait_longer_the_more_often_rounds_are_late_and_trust_comes_back() {
        let timing = Timing { period: MS * 20, multiplier: 5 };
        let mut lateness = Lateness::default();
        let mut now = Time::from_nanos(1_000_000_000);
        assert!(!lateness.note(MS * 19, &timing, now));
        assert_eq!(lateness.slack(&timing), Duration::ZERO, "within a period");
        assert!(lateness.note(MS * 21, &timing, now));
        assert_eq!(lateness.slack(&timing), MS * 50);
        assert!(!lateness.note(MS * 300, &timing, now), "told once a minute");
        for _ in 0..20 {
            lateness.note(MS * 30, &timing, now);
        }
        assert_eq!((lateness.slack(&timing), lateness.worst(now)), (MS * 200, MS * 300));
        for _ in 0..8 {
            now = now + MS * 100;
            lateness.note(MS, &timing, now);
        }
        assert_eq!(lateness.slack(&timing), Duration::ZERO);
        assert_eq!(lateness.worst(now + MEMORY), Duration::ZERO);
    }
}
