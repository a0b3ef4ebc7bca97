//! What share this node asks for: its weights as configured and as its operator wants them, and whether its time has come
//! after it came back.

use serde::{Deserialize, Serialize};

use super::super::wire::Want;
use super::*;
use crate::config::model::Filtering;

/// When a node that serves takes its share.
///
/// ```text
///          serves, nobody else does                          its share is whole
///  Away ---------------------------------------> Full <------------------------- Growing
///    \  serves beside others that have long served                                  ^
///     `----------------------------------------> Waiting --------------------------'
///                                                   ^   `failback` is over, and nobody holds it down
///                       the others saw it fall too often, from Full or Growing
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    failback: Failback,
    ramp: Duration,
    stage: Stage,
    /// Since when it has served.
    served: Option<Time>,
    /// The operator has let it in though the others hold it down; until they no longer do.
    pardoned: bool,
    /// How many eighths of its weight counted when that was last looked at.
    counted: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// It does not serve.
    Away,
    /// It stands by.
    Waiting { since: Time, held_down: bool },
    /// Its weight grows.
    Growing { since: Time },
    /// It takes its whole share.
    Full,
}

/// Why a node stands by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Since when.
    pub since: Time,
    /// The others have seen it fall too often.
    pub held_down: bool,
    /// When it no longer will; `None`: that hangs on the operator or on the others.
    pub until: Option<Time>,
}

/// In how many steps a weight grows: each is a convergence of its own.
const STEPS: u32 = 8;

/// A node that has served for so long runs, and who comes then comes back to it.
/// Simulated time is dear.
const SETTLED: Duration = Duration::from_secs(if cfg!(feature = "simulation") { 2 } else { 60 });

impl Entry {
    pub(super) fn new(failback: Failback, ramp: Duration) -> Self {
        Self { failback, ramp, stage: Stage::Away, served: None, pardoned: false, counted: STEPS }
    }

    /// Other facts are in force. Who waits goes on to wait, as they say from now on.
    pub(super) fn configure(&mut self, failback: Failback, ramp: Duration) {
        (self.failback, self.ramp) = (failback, ramp);
    }

    /// This node serves from now on; `returns`: into a cluster that has long run.
    fn begin(&mut self, returns: bool, held_down: bool, now: Time) {
        self.served = Some(now);
        self.pardoned = false;
        self.stage = match self.failback {
            _ if held_down => Stage::Waiting { since: now, held_down },
            Failback::After(_) | Failback::Manual if returns => Stage::Waiting { since: now, held_down },
            Failback::Immediate | Failback::After(_) | Failback::Manual if returns => {
                Stage::Growing { since: now }
            }
            Failback::Immediate | Failback::After(_) | Failback::Manual => Stage::Full,
        };
    }

    pub(super) fn leave(&mut self) {
        self.stage = Stage::Away;
        self.served = None;
    }

    /// The operator does not want it to wait.
    pub(super) fn fail_back(&mut self, now: Time) {
        if let Stage::Waiting { held_down, .. } = self.stage {
            self.stage = Stage::Growing { since: now };
            self.pardoned = held_down;
        }
    }

    /// Goes on; true if what it asks for may be another now. To be called every period: no step of it is more urgent.
    fn advance(&mut self, held_down: bool, now: Time) -> bool {
        let before = (self.stage, self.counted);
        self.pardoned &= held_down;
        let held_down = held_down && !self.pardoned;
        self.stage = match self.stage {
            Stage::Waiting { since, held_down: was } => {
                let waits = match self.failback {
                    // Whoever waits only because it fell too often goes on when it has stayed.
                    _ if was => false,
                    Failback::Immediate => false,
                    Failback::After(time) => now < since + time,
                    Failback::Manual => true,
                };
                if held_down || waits { self.stage } else { Stage::Growing { since: now } }
            }
            Stage::Growing { .. } | Stage::Full if held_down => Stage::Waiting { since: now, held_down },
            Stage::Growing { since } if now >= since + self.ramp => Stage::Full,
            Stage::Growing { .. } | Stage::Full | Stage::Away => self.stage,
        };
        self.counted = self.step(now);
        before != (self.stage, self.counted)
    }

    /// Why this node stands by, if it does.
    pub(super) fn aside(&self) -> Option<Aside> {
        let Stage::Waiting { since, held_down } = self.stage else { return None };
        let until = match self.failback {
            Failback::After(time) if !held_down => Some(since + time),
            Failback::After(_) | Failback::Immediate | Failback::Manual => None,
        };
        Some(Aside { since, held_down, until })
    }

    fn is_aside(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. })
    }

    /// How many eighths of its weight count.
    fn step(&self, now: Time) -> u32 {
        match self.stage {
            Stage::Growing { since } if now < since + self.ramp => {
                let eighth = (self.ramp / STEPS).as_nanos().max(1);
                let passed = now.since(since).as_nanos() / eighth;
                u32::try_from(passed).unwrap_or(STEPS).min(STEPS - 1) + 1
            }
            Stage::Growing { .. } | Stage::Away | Stage::Waiting { .. } | Stage::Full => STEPS,
        }
    }
}

impl Node {
    pub(super) fn begin_to_serve(&mut self, now: Time) {
        let settled = |peer: &Peer| peer.heartbeat.as_ref().is_some_and(|heartbeat| heartbeat.health.settled);
        let returns = self.peers.values().any(|peer| peer.is_member() && settled(peer));
        let held_down = self.is_held_down();
        self.entry.begin(returns, held_down, now);
        if self.entry.is_aside() {
            self.report(Event::StandsBy { held_down });
        }
    }

    /// Whether a living peer has seen this node fall too often.
    fn is_held_down(&self) -> bool {
        let says = |peer: &Peer| peer.report_on(self.settings.me).is_some_and(|report| report.flaps);
        self.peers.values().any(|peer| peer.standing == Standing::Alive && says(peer))
    }

    /// Takes what its time has come for; true if that changes what it asks for.
    pub(super) fn enter(&mut self, now: Time) -> bool {
        let was_aside = self.entry.is_aside();
        let held_down = self.is_held_down();
        let changed = self.entry.advance(held_down, now);
        match (was_aside, self.entry.is_aside()) {
            (true, false) => self.report(Event::FailedBack),
            (false, true) => self.report(Event::StandsBy { held_down }),
            (true, true) | (false, false) => {}
        }
        let settled = self.entry.served.is_some_and(|since| now.since(since) >= SETTLED);
        let changed = changed || settled != self.health.settled;
        self.health.settled = settled;
        self.urgent |= changed;
        changed
    }

    /// What this node wants of each owner table.
    pub(super) fn wants(&self, now: Time) -> Vec<Want> {
        let step = self.entry.step(now);
        let want = |(index, (spread, ready)): (usize, (&Spread, &bool))| {
            let told = self.mandate.table(index);
            let weight =
                told.weight.or(self.mandate.weight.filter(|_| spread.filtering == Filtering::Multiple));
            let weight = weight.or_else(|| spread.weights.get(&self.settings.me).copied());
            let weight = u32::from(weight.unwrap_or(self.settings.weight));
            Want {
                weight: u8::try_from((weight * step).div_ceil(STEPS)).unwrap_or(u8::MAX),
                ready: *ready && self.is_reached(),
                leaving: self.mandate.intent.is_away()
                    || self.phase == Phase::Stopping
                    || told.intent.is_away(),
                aside: self.entry.is_aside(),
            }
        };
        self.settings.tables.iter().zip(&self.ready).enumerate().map(want).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn who_starts_a_cluster_takes_everything_at_once() {
        for failback in [Failback::Immediate, Failback::After(S * 9), Failback::Manual] {
            let mut entry = Entry::new(failback, S * 80);
            entry.begin(false, false, at(1));
            assert_eq!((entry.stage, entry.step(at(1))), (Stage::Full, 8), "{failback:?}");
        }
    }

    #[test]
    fn who_comes_back_waits_as_failback_says() {
        let rows =
            [(Failback::Immediate, Some(0)), (Failback::After(S * 10), Some(10)), (Failback::Manual, None)];
        for (failback, waits) in rows {
            let mut entry = Entry::new(failback, Duration::ZERO);
            entry.begin(true, false, at(100));
            let enters = (0..60).find(|second| {
                entry.advance(false, at(100 + second));
                !entry.is_aside()
            });
            assert_eq!(enters, waits, "{failback:?}");
        }
        let mut entry = Entry::new(Failback::Manual, Duration::ZERO);
        entry.begin(true, false, at(100));
        entry.fail_back(at(101));
        assert!(!entry.is_aside(), "the operator decides");
    }

    #[test]
    fn the_weight_of_who_comes_back_grows_in_eighths() {
        let mut entry = Entry::new(Failback::Immediate, S * 80);
        entry.begin(true, false, at(0));
        let steps: Vec<u32> = [0, 9, 10, 45, 79, 80, 200].map(|second| entry.step(at(second))).into();
        assert_eq!(steps, [1, 1, 2, 5, 8, 8, 8]);
        let changes = (1..=79).filter(|second| entry.advance(false, at(*second)));
        assert_eq!(changes.collect::<Vec<_>>(), [1, 10, 20, 30, 40, 50, 60, 70], "each is told");
        assert!(entry.advance(false, at(80)));
        assert_eq!(entry.stage, Stage::Full);
    }

    #[test]
    fn who_fell_too_often_stands_by_until_nobody_holds_it_down() {
        let mut entry = Entry::new(Failback::Immediate, Duration::ZERO);
        entry.begin(false, false, at(0));
        assert!(entry.advance(true, at(1)) && entry.is_aside());
        assert!(!entry.advance(true, at(100)) && entry.is_aside());
        assert!(entry.advance(false, at(101)) && !entry.is_aside());
        entry.begin(true, true, at(200));
        assert!(entry.is_aside(), "also when it begins anew");
        entry.fail_back(at(201));
        entry.advance(true, at(202));
        assert!(!entry.is_aside(), "the operator lets it in");
        entry.advance(false, at(300));
        assert!(entry.advance(true, at(301)) && entry.is_aside(), "until it falls again");
    }
}
