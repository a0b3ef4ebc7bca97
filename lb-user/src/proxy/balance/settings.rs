//! What a farm is told to be. Checked when a farm is made of it, in `farm`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::hash::HashOf;
use super::monitor::{LiveTraffic, Thresholds};
use super::set::MAX_SERVERS;

/// How a farm spreads its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// At least one, at most [`MAX_SERVERS`]; each name once.
    pub servers: Vec<ServerSettings>,
    /// Which server a new client gets.
    pub algorithm: Algorithm,
    /// How long the weight of a server that comes back rises until it is whole; zero: it is whole at once.
    pub slow_start: Duration,
    /// With fewer working servers than this, the tests' verdict is waived: all would fail one after the other under the load of
    /// all. ARR's `minServers`; 0: never.
    pub min_servers: usize,
    /// What its servers are tested for, each name once; a route says which of these counts for it. None: every server works.
    pub tests: Vec<TestSettings>,
    /// The time over which response times are averaged; ARR's `leastResponseTimePeriod`, by default
    /// [`RESPONSE_TIME_PERIOD`].
    pub response_time_period: Duration,
    /// Where requests wait while all servers are at their limit.
    pub queue: QueueSettings,
    /// What keys are hashed under: the same on every node, so that a client finds its server through any of them, and secret,
    /// so that nobody can aim at one server.
    pub hash_seed: [u64; 2],
}

/// One server of a farm. Name and address are what it is known by from one configuration to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Its name, unique in its farm.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share.
    pub weight: Weight,
    /// Whether it takes requests.
    pub state: State,
    /// Takes requests only while no other server works.
    pub backup: bool,
    /// Most connections to it; `None`: any number.
    pub connections: Option<NonZeroU32>,
}

/// One of the things that a farm's servers are tested for, such as one of Exchange's virtual directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestSettings {
    /// What it is known by from one configuration to the next.
    pub name: String,
    /// How many outcomes decide.
    pub thresholds: Thresholds,
    /// What requests themselves tell of a server; `None`: nothing.
    pub live_traffic: Option<LiveTraffic>,
}

/// Where requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSettings {
    /// How many may wait; 0: none.
    pub length: usize,
    /// How long each may.
    pub timeout: Duration,
}

/// Which server a new client gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// In turn, by weight.
    #[default]
    WeightedRoundRobin,
    /// The one with the fewest requests in flight for its weight.
    LeastRequests,
    /// The one that answers soonest: average response time times requests in flight, for its weight. The second factor keeps
    /// the quickest server from getting everything until its average tells.
    LeastResponseTime,
    /// The one that carried the fewest bytes lately, requests and responses, for its weight.
    WeightedTotalTraffic,
    /// The same one for the same key. A request without the key goes in turn.
    Hash(HashOf),
}

/// Whether a server takes requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// From everybody. ARR's `Start`.
    #[default]
    Active,
    /// From those alone that it serves already: by affinity cookie or connection. ARR's `Drain` (*disallow new connections*).
    Drain,
    /// From nobody. ARR's `GracefulStop`; what is in flight ends in its own time, or is cut by whoever asked for
    /// `ForcefulStop`.
    Disabled,
}

impl State {
    /// Its name in configuration, commands and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Drain => "drain",
            Self::Disabled => "disabled",
        }
    }
}

/// A server's share, relative to the others': 1 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u16);

impl TryFrom<u32> for Weight {
    type Error = WeightError;

    fn try_from(weight: u32) -> Result<Self, WeightError> {
        Self::new(weight)
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.get()
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Weight {
    /// What ARR gives a server without one: 100.
    pub const DEFAULT: Self = Self(100);

    /// The greatest.
    pub const MAX: Self = Self(1000);

    /// A weight within the range.
    pub fn new(weight: u32) -> Result<Self, WeightError> {
        match u16::try_from(weight) {
            Ok(weight @ 1..=1000) => Ok(Self(weight)),
            Ok(_) | Err(_) => Err(WeightError { weight }),
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        u32::from(self.0)
    }
}

/// A weight that threads share.
#[derive(Debug)]
pub(super) struct SharedWeight(AtomicU16);

impl SharedWeight {
    pub(super) fn new(weight: Weight) -> Self {
        Self(AtomicU16::new(weight.0))
    }

    pub(super) fn load(&self) -> Weight {
        Weight(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn store(&self, weight: Weight) {
        self.0.store(weight.0, Ordering::Relaxed);
    }
}

/// A weight that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "weight {weight} is not within 1 to 1000; hint: weights are relative, and state = \"disabled\" is for a server that gets nothing"
)]
pub struct WeightError {
    /// What was given.
    pub weight: u32,
}

impl Settings {
    /// Whether a farm can be made of them.
    pub fn check(&self) -> Result<(), FarmError> {
        let count = self.servers.len();
        if !(1..=MAX_SERVERS).contains(&count) {
            return Err(FarmError::ServerCount { count });
        }
        if let Some(name) = twice(self.servers.iter().map(|server| &server.name)) {
            return Err(FarmError::ServerName { name });
        }
        match twice(self.tests.iter().map(|test| &test.name)) {
            Some(name) => Err(FarmError::TestName { name }),
            None => Ok(()),
        }
    }
}

fn twice<'a>(mut names: impl Iterator<Item = &'a String>) -> Option<String> {
    let mut seen = BTreeSet::new();
    names.find(|name| !seen.insert(name.as_str())).cloned()
}

/// Settings that make no farm. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FarmError {
    /// No server, or more than a set holds.
    #[error("a farm has 1 to {MAX_SERVERS} servers, not {count}; hint: make several farms of them")]
    ServerCount {
        /// How many there are.
        count: usize,
    },
    /// Two servers of one name.
    #[error("two servers of the farm are named \"{name}\"; hint: give each a name of its own")]
    ServerName {
        /// The name.
        name: String,
    },
    /// Two tests of one name.
    #[error("two health tests of the farm are named \"{name}\"; hint: give each a name of its own")]
    TestName {
        /// The name.
        name: String,
    },
}

/// ARR's default for `leastResponseTimePeriod`.
pub const RESPONSE_TIME_PERIOD: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_within_1_to_1000() {
        for weight in [1, 100, 1000] {
            assert_eq!(Weight::new(weight).unwrap().get(), weight);
        }
        for weight in [0, 1001, 65_536 + 100, u32::MAX] {
            assert_eq!(Weight::new(weight), Err(WeightError { weight }));
        }
    }
}
