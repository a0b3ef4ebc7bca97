//! From settings to a farm, with what is known from the farm before it.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::super::gate::Gate;
use super::super::hash::server_seed;
use super::super::load::Load;
use super::super::monitor::Monitor;
use super::super::set::{ServerSet, SharedSet};
use super::super::settings::{FarmError, ServerSettings, Settings, SharedWeight, State, Weight};
use super::super::traffic::Traffic;
use super::super::turns::Turns;
use super::super::verdicts::Verdicts;
use super::{Farm, Shares};
use crate::clock::Time;

impl Farm {
    /// A farm whose servers are all untested. `now` matters to slow start and recent traffic.
    pub fn new(settings: Settings, now: Time) -> Result<Self, FarmError> {
        settings.check()?;
        let servers = settings.servers.iter().map(|server| Known::fresh(server, now)).collect();
        let fresh = || (Monitor::default(), now);
        let verdicts =
            settings.tests.iter().map(|_| Verdicts::new(settings.servers.iter().map(|_| fresh()))).collect();
        Ok(Self::assemble(settings, servers, verdicts, Arc::default(), now))
    }

    /// A farm in place of this one, with other settings. A server of the same name and address goes on with its counters, with
    /// its health in tests of the same name, and with the state and weight that it was given at run time unless the settings
    /// now say another. Who waits at this farm is served on, by what this one knew; its guards count on.
    pub fn succeed(&self, settings: Settings, now: Time) -> Result<Self, FarmError> {
        settings.check()?;
        let before: Vec<_> = settings.servers.iter().map(|server| self.index_of(server)).collect();
        let known = |(server, before): (&ServerSettings, &Option<usize>)| {
            before.map_or_else(|| Known::fresh(server, now), |before| self.known(before, server))
        };
        let servers = settings.servers.iter().zip(&before).map(known).collect();
        let verdicts = settings.tests.iter().map(|test| {
            let old = self.verdicts_named(&test.name);
            let known = |before: &Option<usize>| {
                old.zip(*before).map_or_else(|| (Monitor::default(), now), |(old, before)| old.known(before))
            };
            Verdicts::new(before.iter().map(known))
        });
        let verdicts = verdicts.collect();
        Ok(Self::assemble(settings, servers, verdicts, Arc::clone(&self.gate), now))
    }

    fn assemble(
        settings: Settings,
        servers: Vec<Known>,
        verdicts: Box<[Verdicts]>,
        gate: Arc<Gate>,
        now: Time,
    ) -> Self {
        let those = |fits: &dyn Fn(usize) -> bool| {
            (0..servers.len()).filter(|server| fits(*server)).collect::<ServerSet>()
        };
        Self {
            backups: those(&|server| settings.servers[server].backup),
            limited: those(&|server| settings.servers[server].connections.is_some()),
            limits: settings
                .servers
                .iter()
                .map(|server| server.connections.map_or(u32::MAX, NonZeroU32::get))
                .collect(),
            seeds: settings
                .servers
                .iter()
                .map(|server| server_seed(settings.hash_seed, &server.name))
                .collect(),
            active: SharedSet::new(those(&|server| servers[server].state == State::Active)),
            admitting: SharedSet::new(those(&|server| servers[server].state != State::Disabled)),
            weights: servers.iter().map(|server| SharedWeight::new(server.weight)).collect(),
            started: servers.iter().map(|server| AtomicU64::new(server.started.as_nanos())).collect(),
            verdicts,
            shares: Mutex::new(Shares {
                turns: Turns::new(servers.len()),
                traffic: Traffic::new(servers.iter().map(|server| server.load.bytes()), now),
            }),
            loads: servers.into_iter().map(|server| server.load).collect(),
            gate,
            settings,
        }
    }

    fn index_of(&self, server: &ServerSettings) -> Option<usize> {
        let is_it = |other: &ServerSettings| (&other.name, other.address) == (&server.name, server.address);
        self.settings.servers.iter().position(is_it)
    }

    /// What a server with these settings takes over from the one here.
    fn known(&self, before: usize, server: &ServerSettings) -> Known {
        let (old, status) = (&self.settings.servers[before], self.status(before));
        Known {
            state: if old.state == server.state { status.state } else { server.state },
            weight: if old.weight == server.weight { status.weight } else { server.weight },
            started: self.started(before),
            load: Arc::clone(&self.loads[before]),
        }
    }

    fn verdicts_named(&self, test: &str) -> Option<&Verdicts> {
        self.verdicts.get(self.settings.tests.iter().position(|other| other.name == test)?)
    }
}

/// What is known of a server when its farm begins.
struct Known {
    state: State,
    weight: Weight,
    started: Time,
    load: Arc<Load>,
}

impl Known {
    fn fresh(server: &ServerSettings, now: Time) -> Self {
        Self { state: server.state, weight: server.weight, started: now, load: Arc::default() }
    }
}
