//! What happens to a farm while it works: tests and requests tell of its servers' health, operators change their states.

use std::sync::atomic::Ordering;

use super::super::Health;
use super::super::load::Counters;
use super::super::settings::{State, Weight};
use super::Farm;
use crate::clock::Time;

/// What a request tells of a server's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveOutcome {
    /// There was no connection, or no TLS, to the server.
    NoConnection,
    /// The client was answered with this status: the server's, or where it gave none, ours.
    Status(u16),
}

/// A server at one moment, for whoever looks after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Whether it takes requests.
    pub state: State,
    /// Its share.
    pub weight: Weight,
    /// What it does and has done.
    pub counters: Counters,
}

impl Farm {
    /// A server's health in a test.
    pub fn health(&self, test: usize, server: usize) -> Health {
        self.verdicts[test].health(server)
    }

    /// A test of a server ended. Its health, if that is another now; then [`Farm::recheck`] is due.
    pub fn handle_test(&self, test: usize, server: usize, passed: bool, now: Time) -> Option<Health> {
        let thresholds = &self.settings.tests[test].thresholds;
        self.verdicts[test].handle(server, now, |monitor| monitor.handle_test(passed, thresholds))
    }

    /// A request of a route with this test ended. The server's health, if it is unhealthy by that; then [`Farm::recheck`] is
    /// due.
    pub fn handle_live(&self, test: usize, server: usize, outcome: LiveOutcome, now: Time) -> Option<Health> {
        let live_traffic = self.settings.tests[test].live_traffic.as_ref()?;
        let failed = match outcome {
            LiveOutcome::NoConnection => true,
            LiveOutcome::Status(status) => live_traffic.is_failure(status),
        };
        if !failed {
            return None;
        }
        self.verdicts[test].handle(server, now, |monitor| monitor.handle_live_failure(now, live_traffic))
    }

    /// Changes whether a server takes requests, until its settings say another state; then [`Farm::recheck`] is due. A server
    /// that becomes active starts slowly.
    pub fn set_state(&self, server: usize, state: State, now: Time) {
        let _both_sets_at_once = self.shares();
        if state == State::Active && !self.active.load().contains(server) {
            self.started[server].store(now.as_nanos(), Ordering::Relaxed);
        }
        self.active.set(server, state == State::Active);
        self.admitting.set(server, state != State::Disabled);
    }

    /// Changes a server's share, until its settings say another weight.
    pub fn set_weight(&self, server: usize, weight: Weight) {
        self.weights[server].store(weight);
    }

    /// A server's state, weight and counters.
    pub fn status(&self, server: usize) -> ServerStatus {
        ServerStatus {
            state: self.state(server),
            weight: self.weights[server].load(),
            counters: self.loads[server].counters(),
        }
    }

    fn state(&self, server: usize) -> State {
        match (self.admitting.load().contains(server), self.active.load().contains(server)) {
            (_, true) => State::Active,
            (true, false) => State::Drain,
            (false, false) => State::Disabled,
        }
    }
}
