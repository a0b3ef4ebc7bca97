//! Nodes on simulated time and a simulated network, from a seed: the real core and the real sealed link, on hosts whose clocks
//! differ. What must hold is checked whenever it may have changed.
//!
//! ```text
//! plans.rs   which cluster a seed stands for, which faults it gets and when they end
//! facts.rs   configurations that change while the cluster runs
//! faults.rs  what can go wrong, and what operators do
//! network.rs what is lost, delayed, doubled, filtered, cut and parted
//! host.rs    a clock, a kernel with its data path, an agent        commands.rs  what an agent wants done, what reaches it
//! checks.rs  what must hold: two acceptors, connections, gaps       tables.rs    convergence, balance, moves
//! seeds.rs   the seeds of a run, on all processors                  bugs.rs      that deliberate bugs are caught
//! directed.rs  single rules, without chance                         report.rs    figures for operators
//! switches.rs  single rules of other cluster facts                regression.rs  holes that seeds found
//! ```

mod bugs;
mod checks;
mod commands;
mod directed;
mod facts;
mod faults;
mod host;
mod network;
mod plans;
mod random;
mod regression;

mod report;
mod seeds;
mod switches;
mod tables;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use lb_common::table::{Bucket, BucketState};

use self::checks::{Bounds, Watch};
use self::commands::{Frame, Happening};
use self::facts::Configuration;
use self::host::{Agent, Asleep, Clock, Host, INBOX, Input};
use self::network::{Bond, Network, Way};
use self::random::Random;
use super::super::bug::{self, Bug};
use super::super::link::{Link, Refused};
use super::*;
use crate::config::model::{Filtering, Stickiness};
use crate::config::secret::ClusterSecret;

const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const MS: Duration = Duration::from_millis(1);
const STICKINESS: Stickiness =
    Stickiness { timeout: Duration::from_secs(1), max_hold: Duration::from_secs(5) };

/// What is alike on all nodes.
#[derive(Clone)]
struct Setup {
    timing: Timing,
    lease_margin: Duration,
    /// The owner tables: one to the default host, one to all, and perhaps more.
    tables: Vec<Spread>,
    failback: Failback,
    hold_down: Duration,
    ramp: Duration,
}

struct Sim {
    now: Time,
    random: Random,
    setup: Setup,
    /// By their digests.
    configurations: BTreeMap<u64, Configuration>,
    /// The newest that is in force anywhere.
    in_force: u64,
    hosts: Vec<Host>,
    network: Network,
    /// What is to happen, in the order of time and then of its scheduling.
    queue: BinaryHeap<Reverse<Due>>,
    scheduled: u64,
    /// Buckets whose clients go on talking.
    busy: BucketSet,
    /// Whether hearing is tested.
    hearing: bool,
    bounds: Bounds,
    watch: Watch,
    steps: u64,
    /// What happened, if anybody wants to read it.
    log: Option<Vec<String>>,
}

/// Something that is due at a time.
struct Due {
    at: Time,
    number: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl Setup {
    /// The usual heartbeats, one table to the default host and one to all.
    fn usual() -> Self {
        Self {
            timing: Timing { period: MS * 20, multiplier: 5 },
            lease_margin: MS * 6,
            tables: vec![Spread::plain(Filtering::Single), Spread::plain(Filtering::Multiple)],
            failback: Failback::Immediate,
            hold_down: Duration::ZERO,
            ramp: Duration::ZERO,
        }
    }
}

impl Sim {
    fn new(count: u8, seed: u64, setup: Setup) -> Self {
        let now = Time::from_nanos(1_000_000_000);
        let network = Network::new(count.into());
        let hosts: Vec<Host> = (1..=count).map(|number| Host::new(number, setup.tables.len(), now)).collect();
        let first = Configuration::of(&setup, hosts.iter().map(|host| host.priority));
        Self {
            now,
            random: Random(seed),
            bounds: Bounds::of(&setup, network.most),
            watch: Watch::new(setup.tables.len(), now),
            configurations: BTreeMap::from([(1, first)]),
            in_force: 1,
            setup,
            hosts,
            network,
            queue: BinaryHeap::new(),
            scheduled: 0,
            busy: BucketSet::EMPTY,
            hearing: false,
            steps: 0,
            log: None,
        }
    }

    fn schedule(&mut self, at: Time, what: Happening) {
        self.scheduled += 1;
        self.queue.push(Reverse(Due { at, number: self.scheduled, what }));
    }

    /// Runs for `time`, checking what must hold after every step.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.queue.peek().is_some_and(|Reverse(due)| due.at < end) {
            if let Some(Reverse(due)) = self.queue.pop() {
                self.now = self.now.max(due.at);
                self.steps += 1;
                self.happen(due.what);
            }
        }
        self.now = end;
    }

    /// Starts an agent on a host, whatever was there before, if its configuration has the host.
    fn start(&mut self, host: usize) {
        let (me, facts) = (self.hosts[host].priority, self.hosts[host].facts);
        if !self.configuration(facts).members.contains(&me) {
            return;
        }
        let peers = self.peers_of(host, facts);
        let session = self.random.next().to_le_bytes().repeat(2).try_into().unwrap();
        let link = Link::new(me, peers.clone(), ClusterSecret::parse(SECRET).unwrap(), session);
        let settings = self.settings(host, facts);
        let (at, to) = (self.now, &mut self.hosts[host]);
        to.agent = Some(Agent { link, node: Node::new(settings, to.clock.at(at)) });
        to.run += 1;
        (to.saved, to.handed_over, to.upgrading, to.ending) = (None, false, false, false);
        to.inbox.clear();
        to.asleep = to.asleep.filter(|asleep| *asleep == Asleep::Host);
        let cable = to.cable;
        self.note(host, || "agent starts".to_owned());
        self.tell(host, |node, now| node.handle_carrier(cable, now));
        if std::mem::take(&mut self.hosts[host].cut_unseen) {
            self.network_changed();
        }
        self.disturb_host(host);
        // A node that starts asks three times who has its addresses (RFC 5227) before it does anything else.
        self.watch.disturbed = self.now + self.bounds.questions;
    }

    fn settings(&mut self, host: usize, facts: u64) -> Settings {
        let (of, configuration) = (&self.hosts[host], self.configuration(facts).clone());
        Settings {
            me: of.priority,
            weight: configuration.weights.get(&of.priority).copied().unwrap_or(of.weight),
            mac: [2, 0, 0, 0, 0, of.priority.number()],
            peers: self.peers_of(host, facts),
            timing: configuration.timing,
            tables: self.setup.tables.clone(),
            lease_margin: self.setup.lease_margin,
            facts,
            gateway: true,
            second_path: false,
            ready: of.ready.clone(),
            failback: configuration.failback,
            hold_down: configuration.hold_down,
            ramp: configuration.ramp,
            mandate: of.mandate.clone(),
            incarnation: self.random.next() as u32,
        }
    }

    fn note(&mut self, host: usize, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let ms = self.now.as_nanos() as f64 / 1e6 - 1000.0;
            log.push(format!("{ms:10.3} arr{} {}", host + 1, what()));
        }
    }

    fn note_all(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let ms = self.now.as_nanos() as f64 / 1e6 - 1000.0;
            log.push(format!("{ms:10.3} {}", what()));
        }
    }

    /// Ends the simulation: something that must hold does not.
    fn fail(&self, what: &str) -> ! {
        let log = self.log.as_ref().map_or(String::new(), |log| log.join("\n"));
        let ms = self.now.as_nanos() as f64 / 1e6 - 1000.0;
        panic!("{log}\n{}\nat {ms:.3} ms: {what}", self.views());
    }

    /// What each node thinks.
    fn views(&self) -> String {
        let view = |host: &Host| {
            let Some(node) = host.node() else { return format!("arr{}: no agent", host.priority) };
            let names = |set: Vec<Priority>| set.iter().map(|node| node.number()).collect::<Vec<_>>();
            let agrees = node.agreeing().into_iter().collect();
            let peers: Vec<_> = node
                .peers
                .values()
                .map(|peer| (peer.node.number(), peer.standing, peer.is_current()))
                .collect();
            let of_tables: Vec<_> = (0..node.holdings.len()).map(|table| {
                let mine = &node.holdings[table];
                let released: Vec<_> = mine.released.iter().map(|it| (it.heir.number(), it.id, it.set.len())).collect();
                let share = node.table.as_ref().map_or(0, |it| it.share(table, host.priority).len());
                format!("holds {} of {share}, departs {}, accepts {}, has connections in {}, released {released:?}",
                    mine.holds.len(), mine.departing.len(), host.accepts[table].len(), host.connections[table].len())
            }).collect();
            format!(
                "arr{}: facts {} since {} knows {:?}, powered {} cable {} asleep {:?} lease {}, {:?} {:?} follows {:?}, agrees with {:?}, peers {peers:?}, wants {:?}\n      {}",
                host.priority,
                node.settings.facts,
                node.facts.since,
                node.facts.digests(),
                host.powered,
                host.cable,
                host.asleep,
                host.lease_lives(self.now),
                node.phase,
                node.mandate.intent,
                node.table_id(),
                names(agrees),
                node.wants(host.clock.at(self.now))
                    .iter()
                    .map(|want| (want.weight, want.ready, want.leaving, want.aside))
                    .collect::<Vec<_>>(),
                of_tables.join("\n      "),
            )
        };
        self.hosts.iter().map(view).collect::<Vec<_>>().join("\n")
    }
}
