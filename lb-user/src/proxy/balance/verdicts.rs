//! What one health test says of all of a farm's servers: written by whoever tests, read for every request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Health;
use super::monitor::Monitor;
use super::set::{ServerSet, SharedSet};
use crate::clock::Time;

/// One test's verdicts. The sets repeat what the monitors know, because a request has no time to ask each of them; between
/// two writes a server may be in both sets for a moment, and counts as unhealthy.
#[derive(Debug)]
pub struct Verdicts {
    monitors: Box<[Mutex<Monitor>]>,
    healthy: SharedSet,
    unhealthy: SharedSet,
    /// Since when each is healthy, in nanoseconds of `Time`.
    since: Box<[AtomicU64]>,
}

impl Verdicts {
    /// From what is known of each server, in order: its monitor and since when it is healthy.
    pub fn new(known: impl IntoIterator<Item = (Monitor, Time)>) -> Self {
        let known: Vec<_> = known.into_iter().collect();
        let those = |health| {
            let fits = |(index, (monitor, _)): (usize, &(Monitor, Time))| {
                (monitor.health() == health).then_some(index)
            };
            SharedSet::new(known.iter().enumerate().filter_map(fits).collect())
        };
        Self {
            healthy: those(Health::Healthy),
            unhealthy: those(Health::Unhealthy),
            since: known.iter().map(|(_, since)| AtomicU64::new(since.as_nanos())).collect(),
            monitors: known.into_iter().map(|(monitor, _)| Mutex::new(monitor)).collect(),
        }
    }

    /// The server's part of it, for a farm that succeeds this one.
    pub fn known(&self, server: usize) -> (Monitor, Time) {
        let monitor = self.monitors[server].lock().unwrap_or_else(PoisonError::into_inner).clone();
        (monitor, self.since(server))
    }

    /// The servers that passed.
    pub fn healthy(&self) -> ServerSet {
        self.healthy.load() - self.unhealthy.load()
    }

    /// The servers that failed.
    pub fn unhealthy(&self) -> ServerSet {
        self.unhealthy.load()
    }

    /// Since when the server is healthy; the clock's start if it never was.
    pub fn since(&self, server: usize) -> Time {
        Time::from_nanos(self.since[server].load(Ordering::Relaxed))
    }

    /// One server's health.
    pub fn health(&self, server: usize) -> Health {
        if self.unhealthy().contains(server) {
            Health::Unhealthy
        } else if self.healthy().contains(server) {
            Health::Healthy
        } else {
            Health::Untested
        }
    }

    /// Lets a server's monitor handle an outcome. Its health, if that is another now.
    pub fn handle(
        &self,
        server: usize,
        now: Time,
        outcome: impl FnOnce(&mut Monitor) -> Health,
    ) -> Option<Health> {
        let mut monitor = self.monitors[server].lock().unwrap_or_else(PoisonError::into_inner);
        let before = monitor.health();
        let health = outcome(&mut monitor);
        if health == before {
            return None;
        }
        if health == Health::Healthy {
            self.since[server].store(now.as_nanos(), Ordering::Relaxed);
        }
        self.healthy.set(server, health == Health::Healthy);
        self.unhealthy.set(server, health == Health::Unhealthy);
        Some(health)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use super::super::monitor::Thresholds;
    use super::*;

    #[test]
    fn the_sets_say_what_the_monitors_know() {
        let verdicts = Verdicts::new((0..3).map(|_| (Monitor::default(), Time::default())));
        let thresholds = Thresholds { failures: NonZeroU8::MIN, successes: NonZeroU8::MIN };
        let mut known = [Health::Untested; 3];
        for (second, (server, passed)) in
            [(1, true), (1, true), (2, false), (1, false), (2, true), (2, false)].into_iter().enumerate()
        {
            let now = Time::from_nanos(second as u64 + 1);
            let wanted = if passed { Health::Healthy } else { Health::Unhealthy };
            let changed = verdicts.handle(server, now, |monitor| monitor.handle_test(passed, &thresholds));
            assert_eq!(changed, (known[server] != wanted).then_some(wanted));
            known[server] = wanted;
            for (server, health) in known.into_iter().enumerate() {
                assert_eq!(verdicts.health(server), health);
                assert_eq!(verdicts.known(server).0.health(), health);
            }
            let again = Verdicts::new((0..3).map(|server| verdicts.known(server)));
            assert_eq!((again.healthy(), again.unhealthy()), (verdicts.healthy(), verdicts.unhealthy()));
        }
        assert_eq!(verdicts.since(0), Time::default());
        assert_eq!(verdicts.since(1), Time::from_nanos(1));
        assert_eq!(verdicts.since(2), Time::from_nanos(5));
    }
}
