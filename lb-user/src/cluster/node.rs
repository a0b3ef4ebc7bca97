//! A node of the cluster, as a pure machine: heartbeats and answers in, commands out. It knows no socket, clock, map or key;
//! `driver.rs` carries its commands out.
//!
//! Two truths are kept apart. The *owner table*, computed by the default host, says who should own a bucket. What a node
//! *holds* says who accepts its new connections, and safety rests on that alone: a node comes to hold a bucket only because
//! its holder released it to this node by name, or because every configured node is known not to hold it.

mod beat;
mod command;
mod conflict;
mod converge;
mod events;
mod facts;
mod holding;
mod judge;
mod late;
mod mandate;
mod share;
mod snapshot;
mod start;
mod sticky;
mod table;

#[cfg(test)]
mod sim;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use lb_common::table::{BUCKETS, BucketTable};

pub use self::command::{Command, Order, PATIENCE, Settings, Unsent};
use self::conflict::Conflicts;
pub use self::conflict::{Conflict, RefusedCounts};
use self::converge::Converging;
pub use self::events::Event;
use self::facts::Facts;
pub use self::facts::{Preparation, Unfit};
use self::holding::{Scan, Source};
use self::late::Lateness;
use self::mandate::Wished;
pub use self::share::Aside;
use self::share::Entry;
pub use self::snapshot::{PeerSnapshot, Snapshot};
use self::sticky::Waiting;
use self::table::{Member, Table};
use super::gateway::{Gateway, News as GatewayNews};
use super::hearing::{Hearing, Neighbour};
use super::operate::{Denied, Intent, Mandate, Wish};
use super::peer::{Answer, Arrived, Path, PathChange, Peer, Probe, Standing, lease_time};
use super::sets::BucketSet;
use super::wire::{
    Generations, Health, Heartbeat, Holdings, Message, News, Owners, PeerReport, Phase, Published, Refusal,
    State, TableId, Traffic,
};
use crate::clock::Time;
use crate::config::model::{Failback, Priority, Spread, Timing};

/// A node of the cluster.
#[derive(Debug, Serialize, Deserialize)]
pub struct Node {
    settings: Settings,
    facts: Facts,
    phase: Phase,
    /// When it last began, or began again.
    since: Time,
    incarnation: u32,
    /// What operators want.
    mandate: Mandate,
    /// By owner table, whether its service works. That packets reach this node counts as well: `is_reached`.
    ready: Vec<bool>,
    /// Whether this node takes its share already.
    entry: Entry,
    health: Health,
    /// How long the others are to wait for this node, while its agent is replaced.
    patience: Option<Duration>,
    /// Whether they do.
    prepared: bool,
    hearing: Hearing,
    gateway: Gateway,
    lateness: Lateness,
    conflicts: Conflicts,
    traffic: Traffic,
    generations: Generations,
    carrier: bool,
    /// When the gateway, or a neighbour, last answered.
    gateway_answered: Option<Time>,
    next_gateway: Time,
    /// Until when it serves but takes nothing yet, because a silent node may be starting just now as well.
    claims_until: Option<Time>,
    /// When the lease ends. Past it this node owns nothing, whatever it thinks.
    lease: Option<Time>,
    peers: BTreeMap<Priority, Peer>,
    /// Per owner table.
    holdings: Vec<Holdings>,
    /// The id of our latest release.
    release_id: u32,
    /// The owner table that this node follows.
    table: Option<Table>,
    /// The owner table that this node computed as default host, and for which members.
    published: Option<Arc<Published>>,
    /// What `published` was computed for.
    published_for: Vec<Member>,
    /// The members as this node saw them when it last followed a table.
    followed_for: Vec<Member>,
    /// Peers that held what this node held, as after a split of the network, and of which the operator was told.
    merged: BTreeSet<Priority>,
    told_of_merge: Option<Time>,
    /// A table that is followed, and not yet what the nodes hold.
    converging: Option<Converging>,
    /// Greater than or equal to any epoch seen.
    newest_epoch: u64,
    state_version: u64,
    /// The state that `state_version` stands for.
    announced: State,
    /// Which of its parts is sent next.
    next_part: usize,
    #[serde(skip)]
    applied: Vec<BucketTable>,
    /// What `applied` was made of.
    #[serde(skip)]
    applied_from: Vec<Source>,
    scan: Scan,
    /// Per owner table: what waits for its clients, if they are sticky.
    waiting_moves: Vec<Option<Waiting>>,
    /// When idle buckets were last asked for.
    asked_idle: Option<Time>,
    handed_over: bool,
    /// Since when a node that is stopped has had nothing left but connections.
    closing: Option<Time>,
    last_beat: Option<Time>,
    /// When anything was last handled.
    last_turn: Time,
    /// A heartbeat is wanted before its period is over.
    urgent: bool,
    waiting: Option<Event>,
    /// Why a heartbeat of the last round was not sent.
    unsent: Option<Unsent>,
    /// The agent ends: a node that does not serve yet will not begin to.
    ending: bool,
    /// What other nodes are to be told to do, by number.
    wishes: BTreeMap<u32, Wished>,
    /// How often a peer was suspected that lived.
    wrongly_suspected: u64,
    #[serde(skip)]
    commands: VecDeque<Command>,
}

impl Node {
    /// A node that holds nothing. Where connections of an earlier agent may live, `departing` is the safe first table, so
    /// every bucket starts there until a scan finds it empty.
    pub fn new(settings: Settings, now: Time) -> Self {
        let holdings = vec![Holdings { departing: BucketSet::FULL, ..Holdings::NONE }; settings.tables.len()];
        let peers = settings.peers.iter().map(|&peer| (peer, Peer::new(peer, now))).collect();
        let mut node = Self {
            facts: Facts::new(settings.timing),
            phase: Phase::Starting,
            since: now,
            incarnation: settings.incarnation,
            mandate: settings.mandate.clone(),
            ready: settings.ready.clone(),
            entry: Entry::new(settings.failback, settings.ramp),
            health: Health::default(),
            patience: None,
            prepared: false,
            hearing: Hearing::default(),
            gateway: Gateway::new(settings.gateway),
            lateness: Lateness::default(),
            conflicts: Conflicts::default(),
            traffic: Traffic::default(),
            generations: Generations::default(),
            carrier: true,
            gateway_answered: None,
            next_gateway: now,
            claims_until: None,
            lease: None,
            peers,
            announced: State { holdings: holdings.clone(), published: None },
            holdings,
            release_id: 0,
            table: None,
            published: None,
            published_for: Vec::new(),
            followed_for: Vec::new(),
            merged: BTreeSet::new(),
            told_of_merge: None,
            converging: None,
            newest_epoch: 0,
            state_version: 1,
            next_part: 0,
            applied: Vec::new(),
            applied_from: Vec::new(),
            scan: Scan::default(),
            waiting_moves: settings.tables.iter().map(Waiting::of).collect(),
            asked_idle: None,
            handed_over: false,
            closing: None,
            last_beat: None,
            last_turn: now,
            urgent: true,
            waiting: None,
            unsent: None,
            ending: false,
            wishes: BTreeMap::new(),
            wrongly_suspected: 0,
            commands: VecDeque::from([Command::EndLease]),
            settings,
        };
        node.begin_as_told();
        node.apply();
        node
    }

    /// A message of a peer that the link believes; `new_session`: the first since its agent started.
    pub fn handle_message(
        &mut self,
        from: Priority,
        new_session: bool,
        message: Message,
        arrived: Arrived,
        now: Time,
    ) {
        self.notice(now);
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if new_session {
            // Gone and back within the suspect time, without a goodbye.
            if peer.standing == Standing::Alive && peer.heartbeat.is_some() {
                peer.note_fall(now);
            }
            peer.forget_session();
        }
        // What waited in a queue since before this node began again is what it has just forgotten, and may have been taken back.
        if arrived.at < self.since {
            return;
        }
        match message {
            Message::Heartbeat(heartbeat) => self.handle_heartbeat(from, *heartbeat, arrived, now),
            Message::Part(part) => {
                if peer.assemble(part, self.settings.tables.len()) {
                    self.urgent = true;
                    self.settle(now);
                }
            }
            Message::Wish { id, wish } => self.handle_foreign_wish(from, id, wish, now),
            Message::Answer { id, denied } => self.handle_wish_answer(from, id, denied),
            Message::Refusal(refusal) => self.handle_refusal(from, refusal, now),
        }
    }

    fn handle_heartbeat(&mut self, from: Priority, heartbeat: Heartbeat, arrived: Arrived, now: Time) {
        let Some(peer) = self.peers.get(&from) else {
            return;
        };
        let news = peer
            .heartbeat
            .as_ref()
            .map_or(News::OfItself, |last| heartbeat.news_since(last, self.settings.me));
        let agreed = news == News::OfOthers && self.agrees(peer);
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        self.newest_epoch = self.newest_epoch.max(heartbeat.table.epoch);
        self.conflicts.handle_heartbeat(from);
        let was = peer.standing;
        let same_run = peer.heartbeat.as_ref().is_some_and(|last| last.incarnation == heartbeat.incarnation);
        let stale = peer.state_version() != heartbeat.state_version;
        let behind = heartbeat
            .peers
            .iter()
            .any(|report| report.node == self.settings.me && report.state_version != self.state_version);
        peer.hear(heartbeat, arrived);
        let standing = peer.standing;
        if matches!(was, Standing::Suspect | Standing::Dead) && standing == Standing::Alive {
            self.note_return(from, same_run, now);
        }
        if was != standing {
            self.report(Event::heard(from, standing));
        }
        let changed = match news {
            News::OfItself => true,
            // What it says of others matters where it makes this node believe more of it, or less.
            News::OfOthers => self.peers.get(&from).is_some_and(|peer| self.agrees(peer)) != agreed,
            News::Nothing => false,
        };
        if was != standing || changed {
            // Who changed wants to know soon that we know; a new peer wants to be heard.
            self.urgent |= was != standing || stale || behind;
            self.settle(now);
        }
    }

    /// A silent peer is heard again; `same_run`: it had not begun again meanwhile.
    fn note_return(&mut self, node: Priority, same_run: bool, now: Time) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let held = peer.flaps(self.settings.hold_down, now);
        peer.note_fall(now);
        if !held && peer.flaps(self.settings.hold_down, now) {
            self.report(Event::HeldDown(node));
        }
        if same_run {
            self.wrongly_suspected += 1;
            self.report(Event::WronglySuspected(node));
        }
    }

    /// A rightly sealed datagram that a newer one has overtaken: it says only that its path works.
    pub fn handle_overtaken(&mut self, from: Priority, arrived: Arrived) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.hear_on(arrived);
        }
    }

    /// An ARP answer from a peer's host.
    pub fn handle_answer(&mut self, answer: Answer, now: Time) {
        self.notice(now);
        let mut risen = false;
        for peer in self.peers.values_mut() {
            let before = peer.standing;
            peer.answered(answer, now);
            risen |= peer.standing != before;
        }
        self.give_up_claim(now);
        // Who is not dead after all may still have connections, and they must not be reset.
        if risen {
            self.settle(now);
        }
    }

    /// More arrived than could be read: among it may be what would excuse a silent peer.
    pub fn handle_overload(&mut self, now: Time) {
        self.notice(now);
        self.peers.values_mut().for_each(|peer| peer.excuse(now));
    }

    /// The gateway has answered ARP; where none is known, a neighbour that is no node has spoken.
    pub fn handle_gateway(&mut self, now: Time) {
        self.notice(now);
        self.gateway_answered = Some(now);
        self.gateway.handle_answer(now);
    }

    /// The cluster NIC has lost or found its carrier.
    pub fn handle_carrier(&mut self, up: bool, now: Time) {
        self.notice(now);
        if self.carrier == up {
            return;
        }
        self.carrier = up;
        self.report(if up { Event::CarrierFound } else { Event::CarrierLost });
        // Without a carrier others take over at once; with it this node begins as at a start.
        self.begin_again(now);
    }

    /// By owner table, whether the service behind its rules works on this node.
    pub fn handle_ready(&mut self, ready: &[bool], now: Time) {
        self.notice(now);
        let mut changed = Vec::new();
        for ((known, works), table) in self.ready.iter_mut().zip(ready).zip(0u8..) {
            if *known != *works {
                *known = *works;
                changed.push(Event::Service { table, works: *works });
            }
        }
        if changed.is_empty() {
            return;
        }
        changed.into_iter().for_each(|event| self.report(event));
        self.urgent = true;
        self.settle(now);
    }

    /// When each peer's hearing test last arrived at this node's data path, read now; once a second. Before the first, hearing
    /// is not judged.
    pub fn handle_heard(&mut self, mut heard: BTreeMap<Priority, Time>, now: Time) {
        self.notice(now);
        // A switch may send our own back to us.
        heard.retain(|node, _| self.peers.contains_key(node));
        self.hearing.handle_heard(heard, now);
    }

    /// What this node's data path has passed.
    pub fn handle_traffic(&mut self, traffic: Traffic, now: Time) {
        self.notice(now);
        self.traffic = traffic;
    }

    /// What this node has of the configuration that the nodes share. The others learn of it at once.
    pub fn handle_generations(&mut self, generations: Generations, now: Time) {
        self.notice(now);
        self.urgent |= self.generations != generations;
        self.generations = generations;
    }

    /// What the agent wants.
    pub fn handle_order(&mut self, order: Order, now: Time) {
        self.notice(now);
        match order {
            Order::Prepare => self.patience = Some(self.longest_patience()),
            Order::Unprepare => {
                self.patience = None;
                self.prepared = false;
                // The next round is late because this node asked for that time, not because its host kept it waiting.
                self.last_beat = None;
            }
            Order::Stop => {
                self.ending = true;
                if self.phase == Phase::Serving {
                    self.phase = Phase::Stopping;
                }
            }
            Order::Leave => self.leave(),
        }
        self.urgent = true;
        self.settle(now);
        if order == Order::Stop {
            self.check_handed_over(now);
        }
    }

    /// How a round of heartbeats went: whether all were sent, and with them the lease renewed, as `EndRound` asked.
    pub fn handle_round(&mut self, lease: Option<Time>, unsent: Option<Unsent>) {
        if unsent.is_none() {
            self.lease = self.lease.and(lease).or(self.lease);
            self.note_round();
        }
        self.unsent = unsent;
    }

    /// The buckets in which this host has connections, per owner table.
    pub fn handle_scan(&mut self, live: &[BucketSet], now: Time) {
        self.notice(now);
        let emptied = self.scan.finish(live);
        for (holdings, emptied) in self.holdings.iter_mut().zip(emptied) {
            holdings.departing = holdings.departing.difference(&emptied);
        }
        self.settle(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        self.notice(now);
        let changed = [
            self.judge(now),
            self.listen(now),
            self.look_out(now),
            self.find_idle(now),
            self.next_beat() <= now && self.enter(now),
            self.end_claim(now),
            self.tend_facts(now),
        ];
        if changed.contains(&true) {
            self.settle(now);
        }
        self.advance(now);
        self.ask(now);
        if self.has_departing() && self.scan.is_due(now) {
            self.scan.begin(now, self.holdings.iter().map(|holdings| holdings.departing.clone()).collect());
            self.commands.push_back(Command::Scan);
        }
        if self.next_beat() <= now {
            self.beat(now);
        }
        if self.phase == Phase::Stopping {
            self.check_handed_over(now);
        }
        self.check_prepared();
    }

    /// When `handle_timeout` has something to do at the latest.
    pub fn poll_timeout(&self) -> Time {
        let timing = &self.settings.timing;
        let slack = self.lateness.slack(timing);
        let reached = self.reached();
        // Without a carrier nobody is judged or asked.
        let peers = || self.peers.values().filter(|_| self.carrier);
        let judgements = peers().filter_map(|peer| peer.next_judgement(timing, slack, reached));
        let probes =
            peers().filter(|peer| peer.standing != Standing::Stopped).map(|peer| peer.next_probe(timing));
        judgements.chain(probes).chain(self.lease).chain(self.next_start()).fold(self.next_beat(), Time::min)
    }

    /// The next thing to be done.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn report(&mut self, event: Event) {
        self.commands.push_back(Command::Report(event));
    }

    /// Whether a peer with other facts only starts, and knows that we live: it holds nothing, and will not serve beside us.
    fn stays_out_for_us(&self, peer: &Peer) -> bool {
        let knows_us = peer
            .report_on(self.settings.me)
            .is_some_and(|report| report.alive && report.incarnation == self.incarnation);
        self.differs(peer) && peer.phase() == Some(Phase::Starting) && knows_us
    }

    /// Looks at the clock, before anything else is done. After a pause of our own the silence of others means nothing: they may
    /// have spoken to a full queue, or before we could believe them. And the lease is the data path's truth: once it has
    /// lapsed, others may hold what was ours.
    fn notice(&mut self, now: Time) {
        let pause = now.since(self.last_turn);
        self.last_turn = now;
        if pause > self.settings.timing.suspect() / 2 {
            self.peers.values_mut().for_each(|peer| peer.excuse(now));
        }
        if let Some(until) = self.lease.filter(|until| *until <= now) {
            self.report(Event::LeaseLapsed { late: now.since(until) });
            self.begin_again(now);
        }
    }

    /// Gives every holding up and starts as at the first start, but for the connections that live here.
    fn begin_again(&mut self, now: Time) {
        for holdings in &mut self.holdings {
            holdings.departing = holdings.departing.union(&holdings.holds);
            holdings.holds = BucketSet::EMPTY;
            holdings.released.clear();
        }
        self.incarnation = self.incarnation.wrapping_add(1);
        self.since = now;
        self.waiting = None;
        self.gateway_answered = None;
        self.next_gateway = now;
        self.conflicts.begin_again();
        self.claims_until = None;
        self.table = None;
        self.published = None;
        self.converging = None;
        self.entry.leave();
        self.health.settled = false;
        if self.lease.take().is_some() {
            self.commands.push_back(Command::EndLease);
        }
        self.phase = match self.phase {
            Phase::Starting | Phase::Serving => Phase::Starting,
            // What an operator stops has handed over all it had by losing it.
            Phase::Stopping if !self.ending => Phase::Stopped,
            Phase::Stopping | Phase::Stopped => self.phase,
        };
        if self.phase == Phase::Stopped {
            self.leave();
        }
        self.peers.values_mut().for_each(|peer| peer.forget(now));
        self.urgent = true;
        self.settle(now);
    }

    fn leave(&mut self) {
        self.phase = Phase::Stopped;
        self.closing = None;
        self.holdings.fill(Holdings::NONE);
        self.table = None;
        self.published = None;
        self.converging = None;
        self.entry.leave();
        self.health.settled = false;
        if self.lease.take().is_some() {
            self.commands.push_back(Command::EndLease);
        }
    }
}
