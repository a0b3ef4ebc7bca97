//! A farm at work: which server takes a request, and what is known of each. Shared by all threads of a proxy.
//!
//! A choice reads a few atomics and holds a short lock for the turns; it allocates nothing. Connecting, testing and waiting are
//! done elsewhere (`gate` for the waiting).

mod build;
mod operate;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::operate::{LiveOutcome, ServerStatus};
use super::choice::{by_requests, by_response_time, by_traffic, least};
use super::eligible::View;
use super::gate::Gate;
use super::hash::rendezvous;
use super::load::{InFlight, Load};
use super::set::{ServerSet, SharedSet};
use super::settings::{Algorithm, Settings, SharedWeight};
use super::slow_start::ramped;
use super::traffic::Traffic;
use super::turns::Turns;
use super::verdicts::Verdicts;
use crate::clock::Time;
use crate::proxy::http1::Head;

/// Servers that can stand in for one another. Tests and servers are named by their index in the settings; another is a bug, and
/// panics.
#[derive(Debug)]
pub struct Farm {
    settings: Settings,
    backups: ServerSet,
    /// Servers with a connection limit.
    limited: ServerSet,
    /// The limits; the greatest number where there is none.
    limits: Box<[u32]>,
    /// Each server's part in a hash.
    seeds: Box<[u64]>,
    active: SharedSet,
    admitting: SharedSet,
    weights: Box<[SharedWeight]>,
    /// Since when each server is active, in nanoseconds of `Time`.
    started: Box<[AtomicU64]>,
    verdicts: Box<[Verdicts]>,
    loads: Box<[Arc<Load>]>,
    /// Also held to change a server's state, which is in two sets.
    shares: Mutex<Shares>,
    gate: Arc<Gate>,
}

/// What algorithms remember from one choice to the next.
#[derive(Debug)]
struct Shares {
    turns: Turns,
    traffic: Traffic,
}

/// What of a request matters for the choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Criteria {
    /// Index of the test that counts for its route; `None`: every server works.
    pub test: Option<usize>,
    /// Its key under [`Algorithm::Hash`], from [`Farm::key`].
    pub key: Option<u64>,
    /// The server that its client has to have again, by affinity cookie; kept while that may serve it, and waited for while it is full.
    pub stay: Option<usize>,
    /// The server that its client's other connections go to: taken while that may serve it and has room.
    pub near: Option<usize>,
    /// Servers that it was tried with in vain.
    pub tried: ServerSet,
}

/// Which server takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This one.
    Server(usize),
    /// One of several that are all at their connection limit: it has to wait.
    Full,
    /// None works, or each was tried.
    NoServer,
}

impl Farm {
    /// What it was told to be.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The request's key, if keys decide here and it has one.
    pub fn key(&self, target: &str, head: &Head, client: IpAddr) -> Option<u64> {
        match &self.settings.algorithm {
            Algorithm::Hash(of) => of.key(self.settings.hash_seed, target, head, client),
            Algorithm::WeightedRoundRobin
            | Algorithm::LeastRequests
            | Algorithm::LeastResponseTime
            | Algorithm::WeightedTotalTraffic => None,
        }
    }

    /// The server for a request. It is not counted until [`Farm::begin`].
    pub fn choose(&self, criteria: &Criteria, now: Time) -> Choice {
        let view = self.view(criteria.test);
        let stays = |server: &usize| view.keeps(*server) && !criteria.tried.contains(*server);
        let full = self.full();
        let near = criteria.near.filter(|server| stays(server) && !full.contains(*server));
        let candidates = match (criteria.stay.filter(stays), near) {
            (Some(server), _) => [server].into_iter().collect(),
            (None, Some(near)) => return Choice::Server(near),
            (None, None) => view.candidates(criteria.tried),
        };
        match self.prefer(candidates - full, criteria, now) {
            Some(server) => Choice::Server(server),
            None if candidates.is_empty() => Choice::NoServer,
            None => Choice::Full,
        }
    }

    /// Which servers may take requests of a route with this test.
    pub fn view(&self, test: Option<usize>) -> View {
        let verdicts = test.map(|test| &self.verdicts[test]);
        let every = || ServerSet::first(self.settings.servers.len());
        View {
            active: self.active.load(),
            admitting: self.admitting.load(),
            backups: self.backups,
            healthy: verdicts.map_or_else(every, Verdicts::healthy),
            unhealthy: verdicts.map_or(ServerSet::EMPTY, Verdicts::unhealthy),
            min_servers: self.settings.min_servers,
        }
    }

    /// The servers at their connection limit.
    fn full(&self) -> ServerSet {
        let is_full = |server: &usize| self.loads[*server].connections() >= self.limits[*server];
        self.limited.iter().filter(is_full).collect()
    }

    /// The best of `candidates` by the algorithm; among equals, whose turn it is.
    fn prefer(&self, candidates: ServerSet, criteria: &Criteria, now: Time) -> Option<usize> {
        if candidates.len() <= 1 {
            return candidates.iter().next();
        }
        let weight = |server: usize| self.weight_now(server, criteria.test, now);
        let requests = |server: usize| self.loads[server].requests();
        match (&self.settings.algorithm, criteria.key) {
            (Algorithm::Hash(_), Some(key)) => rendezvous(key, candidates, &self.seeds, weight),
            (Algorithm::Hash(_), None) | (Algorithm::WeightedRoundRobin, _) => {
                self.shares().turns.next(candidates, weight)
            }
            (Algorithm::LeastRequests, _) => {
                let least = least(candidates, |server| by_requests(requests(server), weight(server)));
                self.shares().turns.next(least, weight)
            }
            (Algorithm::LeastResponseTime, _) => {
                let expected = |server: usize| {
                    self.loads[server].average().expected(now, self.settings.response_time_period)
                };
                let cost = |server| by_response_time(expected(server), requests(server), weight(server));
                self.shares().turns.next(least(candidates, cost), weight)
            }
            (Algorithm::WeightedTotalTraffic, _) => {
                let bytes = |server: usize| self.loads[server].bytes();
                let Shares { turns, traffic } = &mut *self.shares();
                traffic.fade(now, bytes);
                let level = |server| traffic.level(server, bytes(server));
                let cost = |server| by_traffic(level(server), requests(server), weight(server));
                turns.next(least(candidates, cost), weight)
            }
        }
    }

    fn weight_now(&self, server: usize, test: Option<usize>, now: Time) -> u32 {
        let healthy = test.map(|test| self.verdicts[test].since(server));
        let since = self.started(server).max(healthy.unwrap_or_default());
        ramped(self.weights[server].load(), now.since(since), self.settings.slow_start)
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that the server is about to get, until the guard is dropped.
    pub fn begin(&self, server: usize) -> InFlight {
        InFlight::begin(Arc::clone(&self.loads[server]), self.settings.response_time_period)
    }

    fn started(&self, server: usize) -> Time {
        Time::from_nanos(self.started[server].load(Ordering::Relaxed))
    }

    pub(super) fn load(&self, server: usize) -> &Load {
        &self.loads[server]
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }
}
