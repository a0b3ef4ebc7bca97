//! Servers that can stand in for one another, whether behind sites (`farm`) or behind a TCP service (`tcp::pool`): which of them
//! is next, what tests say of each, and the loop that tests one.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::balance::Health;
use super::balance::farm::{Farm, LiveOutcome};
use super::balance::finding::Finding;
use super::balance::settings::{
    FarmError, RESPONSE_TIME_PERIOD, ServerSettings, Settings, State, TestSettings,
};
use crate::clock::Time;
use crate::config::model::{Balance, Server};

/// See the module.
pub struct Group {
    /// Its name, unique among groups.
    pub name: String,
    /// Its servers, at least one.
    pub servers: Vec<Server>,
    /// Which of them takes a request or a connection, and what is known of each.
    pub balance: Arc<Farm>,
    /// By test, by server: what was found last.
    latest: Vec<Vec<Mutex<Latest>>>,
    /// Wakes who reports the servers' health.
    changed: watch::Sender<()>,
}

/// What was found last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Latest {
    finding: Option<Finding>,
    /// How many tests have ended.
    count: u32,
}

/// A server in one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestReport {
    /// What follows for clients.
    pub health: Health,
    /// What was found last, if it was tested.
    pub finding: Option<Finding>,
    /// How many tests have ended; another number is a newer finding.
    pub count: u32,
}

/// Why a test failed.
pub trait Failure: Display {
    /// In one word.
    fn finding(&self) -> Finding;
}

impl Group {
    /// A group whose servers are all untested, but for those that `before`, a group of the same name, has too; `changed` hears
    /// of every change. `seed`: under which requests' keys are hashed.
    pub fn new(
        name: &str,
        servers: &[Server],
        balance: Balance,
        tests: Vec<TestSettings>,
        seed: [u64; 2],
        before: Option<&Self>,
        changed: watch::Sender<()>,
    ) -> Result<Self, FarmError> {
        let Balance { algorithm, slow_start, queue, panic_threshold, affinity_cookie: _ } = balance;
        let settings = Settings {
            servers: servers.iter().map(ServerSettings::from).collect(),
            algorithm,
            slow_start,
            min_servers: panic_threshold,
            tests,
            response_time_period: RESPONSE_TIME_PERIOD,
            queue,
            hash_seed: seed,
        };
        let untested = || servers.iter().map(|_| Mutex::default()).collect();
        let latest = settings.tests.iter().map(|_| untested()).collect();
        let balance = match before {
            Some(before) => before.balance.succeed(settings, Time::now())?,
            None => Farm::new(settings, Time::now())?,
        };
        let group = Self {
            name: name.to_owned(),
            servers: servers.to_vec(),
            balance: Arc::new(balance),
            latest,
            changed,
        };
        if let Some(before) = before {
            group.remember(before);
        }
        Ok(group)
    }

    /// Takes over what was found of servers that both have, in tests that both have.
    fn remember(&self, before: &Self) {
        let names = |group: &Self| -> Vec<String> {
            group.balance.settings().tests.iter().map(|test| test.name.clone()).collect()
        };
        let known = names(before);
        for (test, name) in names(self).iter().enumerate() {
            let Some(old) = known.iter().position(|known| known == name) else { continue };
            for (server, latest) in self.servers.iter().zip(&self.latest[test]) {
                if let Some(index) = before.index_of(server) {
                    *lock(latest) = *lock(&before.latest[old][index]);
                }
            }
        }
    }

    /// Where a server is that has the name and the address of this one.
    pub fn index_of(&self, server: &Server) -> Option<usize> {
        let is_it = |known: &Server| (&known.name, known.address) == (&server.name, server.address);
        self.servers.iter().position(is_it)
    }

    /// How a server does in each test.
    pub fn tests(&self, server: usize) -> impl Iterator<Item = TestReport> {
        self.latest.iter().enumerate().map(move |(test, latest)| {
            let Latest { finding, count } = *lock(&latest[server]);
            TestReport { health: self.balance.health(test, server), finding, count }
        })
    }

    /// By server, its health in each test.
    pub fn health(&self) -> Vec<Vec<Health>> {
        let of = |server| self.tests(server).map(|report| report.health).collect();
        (0..self.servers.len()).map(of).collect()
    }

    /// A test of a server ended. Its health, if that is another now.
    pub fn tested(&self, test: usize, server: usize, found: Result<Finding, Finding>) -> Option<Health> {
        let (Ok(finding) | Err(finding)) = found;
        {
            let mut latest = lock(&self.latest[test][server]);
            *latest = Latest { finding: Some(finding), count: latest.count.wrapping_add(1) };
        }
        let health = self.balance.handle_test(test, server, found.is_ok(), Time::now());
        self.follow(health)
    }

    /// A client's request of a route with this test ended, or none could be made of it.
    pub fn served(&self, test: usize, server: usize, outcome: LiveOutcome) {
        let health = self.balance.handle_live(test, server, outcome, Time::now());
        if let Some(health) = self.follow(health) {
            self.report(test, server, health, Some("clients' requests fail"));
        }
    }

    /// An operator says whether a server takes requests.
    pub fn set_state(&self, server: usize, state: State) {
        if self.balance.status(server).state == state {
            return;
        }
        self.balance.set_state(server, state, Time::now());
        self.balance.recheck();
        self.changed.send_replace(());
    }

    fn follow(&self, health: Option<Health>) -> Option<Health> {
        if health.is_some() {
            self.balance.recheck();
            self.changed.send_replace(());
        }
        health
    }

    /// Tests a server for ever: each `every`, for at most `within`, which fails as `late`.
    pub async fn watch<E, F>(
        &self,
        (number, server): (usize, usize),
        every: Duration,
        within: Duration,
        late: fn() -> E,
        mut test: impl FnMut() -> F,
    ) where
        E: Failure,
        F: Future<Output = Result<Finding, E>>,
    {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let outcome = timeout(within, test()).await.unwrap_or_else(|_| Err(late()));
            let found = outcome.as_ref().map(|found| *found).map_err(E::finding);
            if let Some(health) = self.tested(number, server, found) {
                self.report(number, server, health, outcome.err());
            }
        }
    }

    fn report(&self, test: usize, server: usize, health: Health, cause: Option<impl Display>) {
        let name = &self.servers[server].name;
        let test = &self.balance.settings().tests[test].name;
        match health {
            Health::Healthy => tracing::info!(farm = self.name, server = name, test, "server is healthy"),
            Health::Unhealthy | Health::Untested => {
                let cause = cause.map(|cause| cause.to_string()).unwrap_or_default();
                tracing::warn!(farm = self.name, server = name, test, cause, "server is unhealthy");
            }
        }
    }
}

fn lock(latest: &Mutex<Latest>) -> MutexGuard<'_, Latest> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}
