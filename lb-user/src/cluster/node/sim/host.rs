//! A host: its clock, its kernel with the data path, and the agent on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lb_common::table::{Bucket, BucketState, BucketTable};

use super::super::super::link::{Link, SavedLink};
use super::super::*;

/// A host's own clock: it runs a little fast or slow, and may stand still while the host does.
pub(super) struct Clock {
    /// What it showed at `base`.
    local: u64,
    /// A moment of the simulation.
    base: u64,
    /// How many millionths of a second it counts in one.
    pub(super) rate: u64,
    pub(super) stopped: bool,
}

impl Clock {
    const MILLION: u64 = 1_000_000;

    /// One that is right from `now` on.
    pub(super) fn right(now: Time) -> Self {
        Self { local: now.as_nanos(), base: now.as_nanos(), rate: Self::MILLION, stopped: false }
    }

    /// One that shows `local` at `now`.
    pub(super) fn new(local: Time, rate: u64, now: Time) -> Self {
        Self { local: local.as_nanos(), base: now.as_nanos(), rate, stopped: false }
    }

    /// What it shows at `now`.
    pub(super) fn at(&self, now: Time) -> Time {
        let passed = if self.stopped { 0 } else { now.as_nanos() - self.base };
        Time::from_nanos(self.local + scale(passed, self.rate, Self::MILLION))
    }

    /// The first moment at which it shows `local` or more.
    pub(super) fn when(&self, local: Time) -> Time {
        let ahead = local.as_nanos().saturating_sub(self.local);
        let passed = if ahead == 0 { 0 } else { scale(ahead, Self::MILLION, self.rate) + 2 };
        Time::from_nanos(self.base.saturating_add(passed))
    }

    pub(super) fn stop(&mut self, stopped: bool, now: Time) {
        (self.local, self.base) = (self.at(now).as_nanos(), now.as_nanos());
        self.stopped = stopped;
    }
}

fn scale(nanos: u64, by: u64, of: u64) -> u64 {
    (u128::from(nanos) * u128::from(by) / u128::from(of)) as u64
}

/// What stands still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asleep {
    /// The agent: the kernel goes on, and so does the data path while its lease lives.
    Agent,
    /// The whole host.
    Host,
}

/// What reaches an agent.
pub(super) enum Input {
    /// And when the kernel received it.
    Datagram(Vec<u8>, Time),
    Answer(Answer),
    Gateway,
    Carrier(bool),
}

/// What waits in the queues of an agent that stands still: the oldest, as in a socket's buffer.
pub(super) const INBOX: usize = 128;

/// An agent, and what it was started with.
pub(super) struct Agent {
    pub(super) link: Link,
    pub(super) node: Node,
}

pub(super) struct Host {
    pub(super) priority: Priority,
    pub(super) clock: Clock,
    pub(super) agent: Option<Agent>,
    /// An agent on its way from its predecessor in place to the next: its node as bytes.
    pub(super) saved: Option<(SavedLink, String)>,
    /// Counts agents.
    pub(super) run: u32,
    pub(super) powered: bool,
    pub(super) cable: bool,
    pub(super) asleep: Option<Asleep>,
    /// Counts sleeps.
    pub(super) sleeps: u32,
    pub(super) inbox: VecDeque<Input>,
    /// When its agent is next woken, by the simulation's time.
    pub(super) alarm: Option<Time>,
    /// What the kernel has, whoever wrote it.
    pub(super) tables: Vec<BucketTable>,
    /// By its own clock.
    pub(super) lease: Time,
    /// When its lease is next looked at.
    pub(super) lease_watched: Option<Time>,
    /// Until when others may wait longer for it than for others, because it asked them to.
    pub(super) patience: Time,
    /// By owner table, the buckets in which this host has connections.
    pub(super) connections: Vec<BucketSet>,
    /// Since when the host can reach and be reached by nobody.
    pub(super) away_since: Option<Time>,
    /// When the tests of others last arrived.
    pub(super) heard: BTreeMap<Priority, Time>,
    pub(super) deaf: bool,
    pub(super) gateway: bool,
    pub(super) ready: Vec<bool>,
    pub(super) weight: u8,
    pub(super) facts: u64,
    pub(super) mandate: Mandate,
    /// Its cable was cut while its agent was being replaced, so that nobody ended its lease, which is long then.
    pub(super) cut_unseen: bool,
    /// It is to be replaced in place once the others wait.
    pub(super) upgrading: bool,
    /// It ends once it has handed over.
    pub(super) ending: bool,
    pub(super) handed_over: bool,
    /// How often it asked for idle buckets.
    pub(super) finds: usize,
    pub(super) events: Vec<Event>,
    /// By owner table, as of the last look: whose new connections it accepts, and whose packets all.
    pub(super) accepts: Vec<BucketSet>,
    pub(super) mine: Vec<BucketSet>,
}

impl Host {
    pub(super) fn new(number: u8, tables: usize, now: Time) -> Self {
        Self {
            priority: Priority::new(number).unwrap(),
            clock: Clock::right(now),
            agent: None,
            saved: None,
            run: 0,
            powered: true,
            cable: true,
            asleep: None,
            sleeps: 0,
            inbox: VecDeque::new(),
            alarm: None,
            tables: vec![BucketTable::filled(BucketState::Other); tables],
            lease: Time::default(),
            lease_watched: None,
            patience: Time::default(),
            connections: vec![BucketSet::EMPTY; tables],
            away_since: None,
            heard: BTreeMap::new(),
            deaf: false,
            gateway: true,
            ready: vec![true; tables],
            weight: 50,
            facts: 1,
            mandate: Mandate::default(),
            cut_unseen: false,
            upgrading: false,
            ending: false,
            handed_over: false,
            finds: 0,
            events: Vec::new(),
            accepts: vec![BucketSet::EMPTY; tables],
            mine: vec![BucketSet::EMPTY; tables],
        }
    }

    /// The core, if an agent runs, awake or not.
    pub(super) fn node(&self) -> Option<&Node> {
        self.agent.as_ref().map(|agent| &agent.node)
    }

    /// An agent that runs and is awake, on a host with power.
    pub(super) fn is_up(&self) -> bool {
        self.powered && self.agent.is_some() && self.asleep.is_none()
    }

    /// Whether its kernel answers, given a way to it.
    pub(super) fn kernel_runs(&self) -> bool {
        self.powered && self.asleep != Some(Asleep::Host)
    }

    pub(super) fn lease_lives(&self, now: Time) -> bool {
        self.lease > self.clock.at(now)
    }

    /// The buckets of a table that are in one of these states.
    pub(super) fn buckets(&self, table: usize, states: &[BucketState]) -> BucketSet {
        Bucket::all().filter(|bucket| states.contains(&self.tables[table].state(*bucket))).collect()
    }

    /// Numbers of the nodes whose hearing tests reach it.
    pub(super) fn note_heard(&mut self, senders: &BTreeSet<Priority>, at: Time) {
        let others = senders.iter().filter(|sender| **sender != self.priority);
        self.heard.extend(others.map(|sender| (*sender, at)));
    }
}
