//! Cluster facts that change while the cluster runs: every node prepares them, then all switch at one epoch. What a node does
//! between (holds, releases, takes) is none of it: the bucket function stays, so what a bucket is means the same before and after.
//!
//! ```text
//!              prepare                     told to, and nobody is awaited; or a member has switched to it
//!  In force ------------> In force, and one prepared ---------------------------------------------------> In force
//!                  ^         | withdraw, or prepare another
//!                  `---------'   what was withdrawn stays known for a while: the switch may be on its way
//! ```
//! Who has switched says so in its heartbeats, with the epoch; who hears it and knows those facts follows at once. Until then
//! the two share, because one of them is about to follow. A node that does not know them stays out, as with any other facts.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::super::wire::MAX_KNOWN;
use super::*;

/// The facts in force, and those that this node could switch to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    /// The epoch at which those in force came into force; 0: with this agent.
    pub(super) since: u64,
    /// What this node has checked and could switch to, the latest first; at most `MAX_KNOWN`.
    known: Vec<Known>,
    /// Which the cluster is to switch to: those of the first in `known`, which then is not withdrawn.
    wanted: Option<u64>,
    /// The others are about to switch to facts without this node.
    removed: bool,
    /// What heartbeats say of their pace. Longer than what is in force for as long as a longer lease may still live.
    announced: Timing,
    /// What lease and pace go by. Shorter than what is in force until every living peer waits for as long.
    lease_by: Timing,
    /// Until when a table waits for members that have yet to follow.
    hush: Option<Time>,
    /// The latest node that serves and that is only in facts that this node knows, by their digest, and when it spoke.
    newcomer: Option<(u64, Time)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    settings: Settings,
    /// When it is forgotten, if it was withdrawn.
    until: Option<Time>,
}

/// Why settings cannot be prepared. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// They are another node's.
    #[error("they are for another host priority")]
    Node,
    /// The bucket function would be another.
    #[error("they have another number of owner tables")]
    Tables,
}

/// How the node stands to facts that it has prepared.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Preparation {
    /// Their digest.
    pub facts: u64,
    /// The cluster is to switch to them.
    pub wanted: bool,
    /// Which peers have to prepare them first.
    pub awaited: Vec<Priority>,
    /// Which peers have no part in them, and have to be gone first.
    pub leaving: Vec<Priority>,
}

/// How long what a node said counts that this one will hear only after a switch.
const NEWCOMER: Duration = Duration::from_secs(1);

/// How long what was withdrawn stays known: a switch that somebody made before hearing of it is heard of far sooner.
const WITHDRAWN: Duration = Duration::from_secs(10);

impl Facts {
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            since: 0,
            known: Vec::new(),
            wanted: None,
            removed: false,
            announced: timing,
            lease_by: timing,
            hush: None,
            newcomer: None,
        }
    }

    /// Digests of what this node could switch to, the latest first.
    pub(super) fn digests(&self) -> Vec<u64> {
        self.known.iter().map(|known| known.settings.facts).collect()
    }

    fn place(&self, facts: u64) -> Option<usize> {
        self.known.iter().position(|known| known.settings.facts == facts)
    }

    /// What is prepared and not withdrawn.
    fn prepared(&self) -> Option<&Settings> {
        self.known.first().filter(|known| known.until.is_none()).map(|known| &known.settings)
    }

    pub(super) fn is_prepared(&self) -> bool {
        self.prepared().is_some()
    }

    pub(super) fn announced(&self) -> Timing {
        self.announced
    }

    pub(super) fn lease_by(&self) -> Timing {
        self.lease_by
    }

    fn withdraw(&mut self, now: Time) {
        self.wanted = None;
        for known in &mut self.known {
            known.until.get_or_insert(now + WITHDRAWN);
        }
    }

    /// Other heartbeats are in force: the lease is at once as short as the shorter of both, what is announced as long as the longer.
    fn keep_pace(&mut self, timing: Timing) {
        if timing.suspect() < self.lease_by.suspect() {
            self.lease_by = timing;
        }
        if timing.suspect() >= self.announced.suspect() {
            self.announced = timing;
        }
    }
}

/// The bit of a node in a set of nodes.
fn bit(node: Priority) -> u64 {
    1 << (node.number() - 1)
}

impl Node {
    /// Cluster facts that this node has checked, and could switch to from now on. Its own part in them (`mac`, `ready`, `mandate`,
    /// `incarnation`) stays as it is. Prepared before: withdrawn. Where the facts are those in force, what nodes need not have in common
    /// (`gateway`, `failback`, `hold_down`, `ramp`) is so from now on.
    pub fn handle_prepare(&mut self, settings: Settings, now: Time) -> Result<(), Unfit> {
        self.notice(now);
        if settings.me != self.settings.me {
            return Err(Unfit::Node);
        }
        if settings.tables.len() != self.settings.tables.len() {
            return Err(Unfit::Tables);
        }
        self.facts.withdraw(now);
        if settings.facts == self.settings.facts {
            self.adopt_own(&settings);
        } else {
            self.facts.known.retain(|known| known.settings.facts != settings.facts);
            self.facts.known.insert(0, Known { settings, until: None });
            self.facts.known.truncate(MAX_KNOWN);
        }
        self.urgent = true;
        self.settle(now);
        Ok(())
    }

    /// Digest of the facts in force.
    pub fn in_force(&self) -> u64 {
        self.settings.facts
    }

    fn adopt_own(&mut self, next: &Settings) {
        if self.settings.gateway != next.gateway {
            self.gateway = Gateway::new(next.gateway);
        }
        let Settings { gateway, failback, hold_down, ramp, .. } = *next;
        self.settings = Settings { gateway, failback, hold_down, ramp, ..self.settings.clone() };
        self.entry.configure(failback, ramp);
    }

    /// What is prepared is not to come into force after all. A switch that another node has already made is followed all the same.
    pub fn handle_withdraw(&mut self, now: Time) {
        self.notice(now);
        self.facts.withdraw(now);
        self.urgent = true;
        self.settle(now);
    }

    /// Another program goes on with this node: what was prepared in the one before has to be prepared anew.
    pub(crate) fn forget_prepared(&mut self) {
        (self.facts.known, self.facts.wanted) = (Vec::new(), None);
        self.urgent = true;
    }

    /// The cluster is to switch to what is prepared, once every living node has prepared it. False: this node has prepared nothing
    /// with this digest.
    pub fn handle_switch(&mut self, facts: u64, now: Time) -> bool {
        self.notice(now);
        let prepared = self.facts.prepared().is_some_and(|settings| settings.facts == facts);
        if prepared {
            self.facts.wanted = Some(facts);
            self.urgent = true;
            self.settle(now);
        }
        prepared
    }

    /// How this node stands to what it has prepared; `None`: to nothing.
    pub fn preparation(&self, now: Time) -> Option<Preparation> {
        let next = self.facts.prepared()?;
        let leaving = self.without_part_in(next).filter(|peer| !self.is_gone(peer));
        Some(Preparation {
            facts: next.facts,
            wanted: self.facts.wanted.is_some(),
            awaited: self.awaited(next, now),
            leaving: leaving.map(|peer| peer.node).collect(),
        })
    }

    /// Whether a peer runs with other cluster facts. Then the one that serves goes on, or of two the lower priority number. Not so
    /// where one of both has switched to what the other knows, because then the other is about to follow.
    pub(super) fn differs(&self, peer: &Peer) -> bool {
        let Some(heartbeat) = &peer.heartbeat else { return false };
        let (ours, since) = (self.settings.facts, self.facts.since);
        let we_follow = heartbeat.switched > since && self.facts.place(heartbeat.facts).is_some();
        let it_follows = since > heartbeat.switched && heartbeat.known.contains(&ours);
        heartbeat.facts != ours && !we_follow && !it_follows
    }

    /// Switches if it is time to, and does what the others' switch without this node wants.
    pub(super) fn switch_facts(&mut self, now: Time) {
        self.note_since();
        if let Some((place, epoch)) = self.switch_due(now) {
            self.switch_to(place, epoch, now);
        }
        self.heed_removal(now);
    }

    /// Facts in force here that are in force elsewhere, too, are so since the same epoch.
    fn note_since(&mut self) {
        let heartbeats = self.peers.values().filter_map(|peer| peer.heartbeat.as_ref());
        let same = heartbeats.filter(|heartbeat| heartbeat.facts == self.settings.facts);
        self.facts.since = same.map(|heartbeat| heartbeat.switched).fold(self.facts.since, u64::max);
    }

    /// To which of the known facts to switch now, and at which epoch.
    fn switch_due(&self, now: Time) -> Option<(usize, u64)> {
        // The others have been asked to wait, for a time that goes by the heartbeats in force.
        if self.patience.is_some() {
            return None;
        }
        if let Some((place, epoch)) = self.switched_elsewhere() {
            let next = &self.facts.known.get(place)?.settings;
            let settled =
                self.without_part_in(next).all(|peer| self.is_gone(peer) || self.is_none_of_ours(peer));
            return settled.then_some((place, epoch));
        }
        let told = || Some((self.told_to_switch(now)?, self.newest_epoch.max(self.facts.since) + 1));
        let (place, epoch) = self.newcomers(now).or_else(told)?;
        let next = &self.facts.known.get(place)?.settings;
        self.without_part_in(next).all(|peer| self.is_gone(peer)).then_some((place, epoch))
    }

    /// What a member has switched to, and this node knows. Also, while this node holds nothing, what members go by where none goes by
    /// what is in force here.
    fn switched_elsewhere(&self) -> Option<(usize, u64)> {
        let members = || self.peers.values().filter(|peer| peer.is_member());
        let runs = |heartbeat: &Heartbeat| Some((heartbeat.switched, self.facts.place(heartbeat.facts)?));
        let heard = || members().filter_map(|peer| peer.heartbeat.as_ref());
        let later = heard().filter_map(runs).filter(|(switched, _)| *switched > self.facts.since).max();
        let alone = !self.serves() && !heard().any(|heartbeat| heartbeat.facts == self.settings.facts);
        later
            .or_else(|| heard().filter_map(runs).max().filter(|_| alone))
            .map(|(switched, place)| (place, switched))
    }

    /// What a node goes by that serves and is not in the facts in force here, while this node is about to serve alone. It cannot hear
    /// of this one before it has switched, which is what a start with them would come to.
    fn newcomers(&self, now: Time) -> Option<(usize, u64)> {
        let (facts, _) = self.facts.newcomer.filter(|(_, at)| now.since(*at) < NEWCOMER)?;
        let alone = self.phase == Phase::Starting && !self.peers.values().any(Peer::is_member);
        self.facts.place(facts).filter(|_| alone).map(|place| (place, self.facts.since))
    }

    /// What the cluster is to switch to, if nobody has to prepare it any more.
    fn told_to_switch(&self, now: Time) -> Option<usize> {
        let place = self.facts.place(self.facts.wanted?)?;
        let next = &self.facts.known.get(place)?.settings;
        let settled = match self.phase {
            Phase::Serving => self.lease.is_some(),
            Phase::Starting | Phase::Stopped => true,
            Phase::Stopping => false,
        };
        (settled && self.awaited(next, now).is_empty()).then_some(place)
    }

    /// Who lives, shares with us, has a part in `next`, and has not prepared it as far as is known.
    fn awaited(&self, next: &Settings, now: Time) -> Vec<Priority> {
        let waits = |peer: &&Peer| {
            let runs = peer.silence(now) < peer.suspect_time(&self.settings.timing);
            let told = peer.heartbeat.as_ref().filter(|_| runs);
            let ready = told.is_some_and(|heartbeat| {
                heartbeat.facts == next.facts || heartbeat.prepared() == Some(next.facts)
            });
            match peer.standing {
                Standing::Unknown => true,
                // Who starts with other facts stays out of ours.
                Standing::Alive => !ready && (peer.is_member() || !self.differs(peer)),
                Standing::Stopped => runs && !ready,
                Standing::Suspect | Standing::Dead => false,
            }
        };
        let with_part = self.peers.values().filter(|peer| next.peers.contains(&peer.node));
        with_part.filter(waits).map(|peer| peer.node).collect()
    }

    /// Peers that `next` does not name.
    fn without_part_in<'a>(&'a self, next: &'a Settings) -> impl Iterator<Item = &'a Peer> {
        self.peers.values().filter(|peer| !next.peers.contains(&peer.node))
    }

    /// Whether nothing is lost if a peer is no longer known: it can neither hold anything nor have connections.
    fn is_gone(&self, peer: &Peer) -> bool {
        match peer.standing {
            Standing::Stopped | Standing::Dead => true,
            Standing::Unknown | Standing::Suspect | Standing::Alive => false,
        }
    }

    /// For a node that holds nothing it is enough that a peer is silent, because those who hold and have switched have judged it.
    fn is_none_of_ours(&self, peer: &Peer) -> bool {
        matches!(peer.standing, Standing::Unknown | Standing::Suspect) && !self.serves()
    }

    /// Which peers have to go, because the switch that is due otherwise has no part for them.
    pub(super) fn removes(&self, now: Time) -> u64 {
        let followed = self.switched_elsewhere().map(|(place, _)| place);
        let place = followed.or_else(|| self.told_to_switch(now));
        let next = place.and_then(|place| self.facts.known.get(place));
        next.map_or(0, |next| self.without_part_in(&next.settings).fold(0, |set, peer| set | bit(peer.node)))
    }

    fn switch_to(&mut self, place: usize, epoch: u64, now: Time) {
        let Known { settings: next, .. } = self.facts.known.remove(place);
        self.adopt_own(&next);
        let before = self.settings.clone();
        let Settings { me, mac, ready, mandate, incarnation, .. } = before.clone();
        self.settings = Settings { me, mac, ready, mandate, incarnation, ..next };
        self.facts.since = epoch;
        self.newest_epoch = self.newest_epoch.max(epoch);
        // What was prepared after it still is.
        self.facts.wanted.take_if(|wanted| *wanted == self.settings.facts);
        self.facts.keep_pace(self.settings.timing);
        self.facts.hush = Some(now + self.settings.timing.suspect().max(before.timing.suspect()));
        let peers = &self.settings.peers;
        self.peers.retain(|node, _| peers.contains(node));
        for &node in peers {
            self.peers.entry(node).or_insert_with(|| Peer::new(node, now));
        }
        for (index, (was, is)) in before.tables.iter().zip(&self.settings.tables).enumerate() {
            if was.stickiness != is.stickiness {
                self.waiting_moves[index] = Waiting::of(is);
            }
        }
        // The default host computes a table under them, though nobody may want anything else.
        self.published_for.clear();
        self.urgent = true;
        self.commands.push_back(Command::Switched(self.settings.facts));
        self.report(Event::Switched { epoch });
    }

    /// Hands everything over and is gone while living peers say that they are about to switch to facts without this node; comes back
    /// when those who share with it no longer say so. Who is no longer spoken to does not come back.
    fn heed_removal(&mut self, now: Time) {
        let sharing = |peer: &&Peer| peer.standing == Standing::Alive && !self.differs(peer);
        let sharing = self.peers.values().filter(sharing).filter_map(|peer| peer.heartbeat.as_ref());
        let me = bit(self.settings.me);
        let said: Vec<bool> = sharing.map(|heartbeat| heartbeat.removes & me != 0).collect();
        if said.contains(&true) {
            if !std::mem::replace(&mut self.facts.removed, true) {
                self.report(Event::Removed(true));
            }
            self.urgent |= matches!(self.phase, Phase::Starting | Phase::Serving);
            match self.phase {
                Phase::Serving => self.phase = Phase::Stopping,
                Phase::Starting => self.leave(),
                Phase::Stopping | Phase::Stopped => {}
            }
        } else if self.facts.removed && !said.is_empty() {
            self.facts.removed = false;
            self.report(Event::Removed(false));
            self.return_from_removal(now);
        }
    }

    fn return_from_removal(&mut self, now: Time) {
        if self.ending || matches!(self.mandate.intent, Intent::Stopped | Intent::Suspended) {
            return;
        }
        match self.phase {
            Phase::Stopping => (self.phase, self.closing) = (Phase::Serving, None),
            Phase::Stopped => {
                self.phase = Phase::Starting;
                self.begin_again(now);
            }
            Phase::Starting | Phase::Serving => {}
        }
    }

    /// What to answer a node with the cluster's key that speaks from an address that is not its own: another has its priority, or it
    /// is in no facts that this node knows. `None`: nothing.
    /// `serves`: it says that it serves.
    pub fn handle_stranger(&mut self, node: Priority, serves: bool, now: Time) -> Option<Refusal> {
        self.notice(now);
        if self.peers.contains_key(&node) {
            self.handle_duplicate(node, now);
            return Some(Refusal::PriorityTaken);
        }
        self.conflicts.refused.stranger += 1;
        let known = self.facts.known.iter().map(|known| &known.settings);
        let expected = known.filter(|known| known.peers.contains(&node)).map(|known| known.facts).next();
        if let Some(facts) = expected.filter(|_| serves) {
            self.facts.newcomer = Some((facts, now));
            self.settle(now);
        }
        // Who is about to be let in is told only if it serves already, and so did not hear of us.
        let refuses = self.serves() && (serves || expected.is_none()) && !self.peers.contains_key(&node);
        refuses.then_some(Refusal::NotConfigured)
    }

    /// What to answer a node that seals with the cluster secret of before: it was removed, or has missed the change, and serves beside
    /// this one as long as nobody tells it. `None`: nothing.
    pub fn handle_former(&mut self, node: Priority, serves: bool, now: Time) -> Option<Refusal> {
        self.notice(now);
        self.conflicts.refused.stranger += 1;
        // Who only begins, and is to be one of these, learns of the secret by itself.
        let refuses = self.serves() && (serves || !self.peers.contains_key(&node));
        refuses.then_some(Refusal::NotConfigured)
    }

    /// Whether a peer counts a node as living that this node does not know: then what it agrees to may be that node's.
    pub(super) fn counts_strangers(&self, heartbeat: &Heartbeat) -> bool {
        let stranger = |node: &Priority| *node != self.settings.me && !self.peers.contains_key(node);
        heartbeat.peers.iter().any(|report| report.alive && stranger(&report.node))
    }

    /// Whether a table has to wait: only weights differ, and some member has yet to follow a switch. What is computed of half of the
    /// new weights would move buckets there and back.
    pub(super) fn waits_for_followers(&self, members: &[Member], now: Time) -> bool {
        let hush = self.facts.hush.is_some_and(|until| now < until);
        let behind = |peer: &Peer| {
            let facts = peer.heartbeat.as_ref().map(|heartbeat| heartbeat.facts);
            peer.is_member() && !self.differs(peer) && facts != Some(self.settings.facts)
        };
        let same = members.iter().map(Member::without_weights);
        let same = same.eq(self.followed_for.iter().map(Member::without_weights));
        hush && same && self.table.is_some() && self.peers.values().any(behind)
    }

    /// Forgets what was withdrawn long ago; true if something may follow from the time that went by.
    pub(super) fn tend_facts(&mut self, now: Time) -> bool {
        self.facts.known.retain(|known| known.until.is_none_or(|until| now < until));
        let confirmed = self.facts.lease_by != self.settings.timing && self.all_wait_as_long();
        if confirmed {
            self.facts.lease_by = self.settings.timing;
            // The lease is still short, and the next round may be far.
            self.urgent = true;
        }
        let over = self.facts.hush.is_some_and(|until| until <= now);
        if over {
            self.facts.hush = None;
        }
        // Whether somebody is awaited hangs on how long it has been silent.
        over || self.switch_due(now).is_some()
    }

    /// Every living peer suspects this node as late as the heartbeats in force say.
    fn all_wait_as_long(&self) -> bool {
        let Timing { period, .. } = self.settings.timing;
        let waits = |peer: &Peer| {
            let report = peer.report_on(self.settings.me);
            report.is_some_and(|report| report.suspect + period > self.settings.timing.suspect())
        };
        self.peers.values().filter(|peer| peer.standing == Standing::Alive).all(waits)
    }

    /// A round of heartbeats is out, and no lease lives that is longer than what is in force.
    pub(super) fn note_round(&mut self) {
        if self.facts.announced != self.settings.timing {
            self.facts.announced = self.settings.timing;
            self.urgent = true;
        }
    }

    /// Time from one round of heartbeats to the next.
    pub(super) fn pace(&self) -> Duration {
        self.settings.timing.period.min(self.facts.lease_by.period)
    }
}
