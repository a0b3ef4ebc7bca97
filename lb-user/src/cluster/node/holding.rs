//! What this node holds, and how it comes to hold and to release it. Every rule of safety between nodes is in this file.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use lb_common::table::BucketState;

#[cfg(test)]
use super::super::bug::{self, Bug};
use super::super::wire::{MAX_RELEASES, Release};
use super::*;

impl Node {
    /// Brings the owner table, what is held, the data path and what the others are told in line with what is known now.
    pub(super) fn settle(&mut self, now: Time) {
        self.switch_facts(now);
        self.tell_of_other_facts(now);
        self.step_down_for_other_facts(now);
        self.note_merge(now);
        self.follow_table(now);
        for index in 0..self.holdings.len() {
            self.forget_finished_releases(index);
            self.give_way(index);
        }
        self.accept_releases();
        // What is taken and released changes nothing of who agrees.
        let agreeing = if self.has_moves() { self.agreeing() } else { BTreeSet::new() };
        for index in 0..self.holdings.len() {
            self.take(index, &agreeing);
            self.release(index, &agreeing, now);
        }
        self.apply();
        self.announce();
        self.check_converged(now);
    }

    /// Two nodes with different facts cannot share anything: the newcomer stays out, and of two that serve already the one
    /// with the lower priority number goes on.
    fn step_down_for_other_facts(&mut self, now: Time) {
        let other = |peer: &Peer| peer.is_member() && peer.node < self.settings.me && self.differs(peer);
        if self.phase == Phase::Serving && self.peers.values().any(other) {
            self.begin_again(now);
        }
    }

    /// A release is over once its heir has accepted it, and we know what the heir holds since; or once the heir has given
    /// everything up, is stopped or suspect, and so can no longer accept it.
    fn forget_finished_releases(&mut self, index: usize) {
        let (peers, me) = (&self.peers, self.settings.me);
        self.holdings[index].released.retain(|release| {
            peers.get(&release.heir).is_some_and(|heir| {
                let can_accept = heir.is_member() && heir.incarnation() == release.incarnation;
                let accepted = heir.report_on(me).is_some_and(|report| report.accepted >= release.id);
                can_accept && !(accepted && heir.is_current())
            })
        });
    }

    /// Tells the operator once that living peers hold what we hold, as after a split.
    fn note_merge(&mut self, now: Time) {
        let peers = &self.peers;
        self.merged.retain(|node| peers.get(node).is_some_and(|peer| peer.standing == Standing::Alive));
        let both = |peer: &Peer| {
            let tables = self.holdings.iter().enumerate();
            tables.map(|(index, mine)| mine.holds.intersection(held(peer, index)).len()).sum::<usize>()
        };
        let new = peers.values().filter(|peer| self.is_counted(peer) && !self.merged.contains(&peer.node));
        let found = new.map(|peer| (peer.node, both(peer))).filter(|(_, buckets)| *buckets > 0);
        let found: Vec<(Priority, usize)> = found.collect();
        self.merged.extend(found.iter().map(|(node, _)| *node));
        let Some(&(node, _)) = found.first() else { return };
        // The halves of a split find each other's nodes one by one.
        if self.told_of_merge.is_none_or(|told| now.since(told) >= MERGE) {
            self.told_of_merge = Some(now);
            let buckets = found.iter().map(|(_, buckets)| *buckets).sum::<usize>();
            self.report(Event::Merged { node, buckets: u32::try_from(buckets).unwrap_or(u32::MAX) });
        }
    }

    /// A living peer that serves holds what we hold, as after a split: the lower priority number keeps it.
    fn give_way(&mut self, index: usize) {
        if self.holdings[index].holds.is_empty() {
            return;
        }
        let above = self.peers.values().filter(|peer| peer.node < self.settings.me);
        let theirs = union(above.filter(|peer| self.is_counted(peer)).map(|peer| held(peer, index)));
        let mine = &mut self.holdings[index];
        let lost = mine.holds.intersection(&theirs);
        mine.holds = mine.holds.difference(&lost);
        mine.departing = mine.departing.union(&lost);
    }

    /// Accepts what living peers have released to us. A release counts once: a peer repeats it until it hears that we have
    /// accepted it, and we may have released it again by then.
    fn accept_releases(&mut self) {
        if !self.serves() || self.lease.is_none() {
            return;
        }
        let (me, incarnation) = (self.settings.me, self.incarnation);
        let mut offered = vec![BucketSet::EMPTY; self.holdings.len()];
        for peer in self.peers.values_mut() {
            let Some((_, state)) = peer.state.as_ref().filter(|_| peer.is_member() && peer.is_current())
            else {
                continue;
            };
            let mut newest = peer.accepted;
            for (holdings, offered) in state.holdings.iter().zip(&mut offered) {
                let to_us = |release: &&Release| release.heir == me && release.incarnation == incarnation;
                let new = holdings.released.iter().filter(to_us).filter(|release| release.id > peer.accepted);
                for release in new {
                    *offered = offered.union(&release.set);
                    newest = newest.max(release.id);
                }
            }
            self.urgent |= newest > peer.accepted;
            peer.accepted = newest;
        }
        let offered = offered.iter().enumerate().filter(|(_, offered)| !offered.is_empty());
        for (index, offered) in offered {
            // One whose clock stood still repeats a release that others have passed over since.
            let living = self.peers.values().filter(|peer| peer.is_member());
            let taken = union(living.map(|peer| held(peer, index)));
            self.hold(index, &offered.difference(&taken));
        }
    }

    /// Takes what we should own and nobody holds: after a peer fell silent, at a cold start, when an heir was lost. `agreeing`:
    /// who `agrees`.
    fn take(&mut self, index: usize, agreeing: &BTreeSet<Priority>) {
        let may = self.serves() && self.lease.is_some() && self.claims_until.is_none();
        let Some(table) = self.table.as_ref().filter(|_| may) else {
            return;
        };
        let wanted = table.share(index, self.settings.me).difference(&self.holdings[index].holds);
        if wanted.is_empty() {
            return;
        }
        // Who stays out because of us cannot follow our table, and must not keep it from being filled.
        let asked = self.peers.values().filter(|peer| !self.stays_out_for_us(peer));
        let blocked = union(asked.map(|peer| blocked_by(peer, agreeing.contains(&peer.node), index)));
        let ours = union(self.holdings[index].released.iter().map(|release| &release.set));
        self.hold(index, &wanted.difference(&blocked).difference(&ours));
    }

    /// Whether this node holds something else than it should.
    fn has_moves(&self) -> bool {
        let share = |index| self.table.as_ref().map(|table| table.share(index, self.settings.me));
        (0..self.holdings.len())
            .any(|index| share(index).is_some_and(|share| *share != self.holdings[index].holds))
    }

    /// Who follows our table, knows what we hold now, and counts nobody as living that we count as silent, or do not know.
    pub(super) fn agreeing(&self) -> BTreeSet<Priority> {
        let known = self.known();
        let agrees = |peer: &&Peer| self.agrees_by(peer, &known);
        self.peers.values().filter(agrees).map(|peer| peer.node).collect()
    }

    /// Whether a peer is among `agreeing`.
    pub(super) fn agrees(&self, peer: &Peer) -> bool {
        self.agrees_by(peer, &self.known())
    }

    /// By priority number: which version of a living node's state we have, and `None` for a node that we count as silent or do not know.
    fn known(&self) -> [Option<u64>; Priority::MAX as usize + 1] {
        let mut known = [None; Priority::MAX as usize + 1];
        known[usize::from(self.settings.me.number())] = Some(u64::MAX);
        for peer in self.peers.values() {
            known[usize::from(peer.node.number())] = match peer.standing {
                Standing::Suspect | Standing::Dead => None,
                Standing::Alive => Some(peer.state_version()),
                Standing::Unknown | Standing::Stopped => Some(u64::MAX),
            };
        }
        known
    }

    fn agrees_by(&self, peer: &Peer, known: &[Option<u64>]) -> bool {
        let Some(heartbeat) = peer.heartbeat.as_ref().filter(|_| peer.is_current()) else {
            return false;
        };
        let knows_us = peer
            .report_on(self.settings.me)
            .is_some_and(|report| report.alive && report.incarnation == self.incarnation);
        // What the peer forgot because of what it heard from a third node means nothing to us before we have heard as much.
        let objects = |report: &PeerReport| {
            let known = known.get(usize::from(report.node.number())).copied().flatten();
            report.alive && known.is_none_or(|version| report.state_version > version)
        };
        heartbeat.table == self.table_id() && knows_us && !heartbeat.peers.iter().any(objects)
    }

    /// Whether what a peer says it holds is to be believed as of now.
    pub(super) fn is_counted(&self, peer: &Peer) -> bool {
        peer.is_member() && peer.is_current() && !self.differs(peer)
    }

    /// Releases what another should own and may move, to that node by name, once it follows the same table. Final: from here
    /// on only the heir may take it.
    fn release(&mut self, index: usize, agreeing: &BTreeSet<Priority>, now: Time) {
        let may_move = self.may_move(index, now);
        let Some(table) = self.table.as_ref().filter(|_| self.serves()) else {
            return;
        };
        let mut releases = Vec::new();
        let serving = |peer: &&Peer| peer.phase() == Some(Phase::Serving) && agreeing.contains(&peer.node);
        for peer in self.peers.values().filter(serving) {
            let due = table.share(index, peer.node).intersection(&self.holdings[index].holds);
            let share = due.intersection(&may_move);
            if !share.is_empty() {
                releases.push((peer.node, peer.incarnation(), share));
            }
        }
        // What is too much for one state waits for the next settling.
        let room = MAX_RELEASES.saturating_sub(self.holdings[index].released.len());
        for (heir, incarnation, share) in releases.into_iter().take(room) {
            let mine = &mut self.holdings[index];
            mine.holds = mine.holds.difference(&share);
            mine.departing = mine.departing.union(&share);
            self.release_id += 1;
            mine.released.push(Release { heir, incarnation, id: self.release_id, set: share });
        }
    }

    fn hold(&mut self, index: usize, set: &BucketSet) {
        let mine = &mut self.holdings[index];
        mine.holds = mine.holds.union(set);
        mine.departing = mine.departing.difference(set);
        for release in &mut mine.released {
            release.set = release.set.difference(set);
        }
        mine.released.retain(|release| !release.set.is_empty());
    }

    /// What may still have connections elsewhere.
    fn held_formerly(&self, index: usize) -> BucketSet {
        union(self.peers.values().map(|peer| peer.may_have(index)))
    }

    /// Brings the data path in line with what is held. The command precedes the message that tells of it.
    pub(super) fn apply(&mut self) {
        let source = |(index, holdings): (usize, &Holdings)| Source {
            holds: holdings.holds.clone(),
            departing: holdings.departing.clone(),
            formerly: self.held_formerly(index).intersection(&holdings.holds),
        };
        let sources: Vec<Source> = self.holdings.iter().enumerate().map(source).collect();
        #[cfg(test)]
        let sources: Vec<Source> = sources.into_iter().zip(&self.holdings).map(broken).collect();
        if sources != self.applied_from {
            self.applied = sources.iter().map(Source::table).collect();
            self.applied_from = sources;
            self.commands.push_back(Command::Apply(self.applied.clone()));
        }
    }

    fn announce(&mut self) {
        let state = State { holdings: self.holdings.clone(), published: self.published.clone() };
        if state != self.announced {
            self.announced = state;
            self.state_version += 1;
            self.urgent = true;
        }
    }

    pub(super) fn has_departing(&self) -> bool {
        self.holdings.iter().any(|holdings| !holdings.departing.is_empty())
    }
}

/// What a table of the data path is made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    holds: BucketSet,
    departing: BucketSet,
    /// What of `holds` may still have connections elsewhere.
    formerly: BucketSet,
}

impl Source {
    fn table(&self) -> BucketTable {
        let mut table = BucketTable::filled(BucketState::Other);
        self.departing.iter().for_each(|bucket| table.set(bucket, BucketState::Departing));
        self.holds.iter().for_each(|bucket| table.set(bucket, BucketState::Mine));
        self.formerly.iter().for_each(|bucket| table.set(bucket, BucketState::Arriving));
        table
    }
}

/// Released buckets are held as well, if that bug is switched on.
#[cfg(test)]
fn broken((mut source, holdings): (Source, &Holdings)) -> Source {
    if bug::is_on(Bug::SkipRelease) {
        source.holds = union(holdings.released.iter().map(|release| &release.set).chain([&source.holds]));
    }
    source
}

/// What is found within this time belongs to one merge.
const MERGE: Duration = Duration::from_secs(10);

/// What a peer keeps us from taking: what it holds or has released, and everything while it does not agree with us on the
/// table and on who is silent. What a silent peer held may be taken, because its lease has ended.
fn blocked_by(peer: &Peer, agrees: bool, index: usize) -> BucketSet {
    #[cfg(test)]
    let agrees = agrees || bug::is_on(Bug::TakeWithoutAsking);
    match peer.standing {
        Standing::Unknown => BucketSet::FULL,
        Standing::Suspect | Standing::Dead | Standing::Stopped => BucketSet::EMPTY,
        // A node that starts holds nothing. Once it follows our table it knows that we serve, and will in turn take
        // nothing before we follow its own; without that two that start at once would each take everything.
        Standing::Alive if agrees => held(peer, index).union(&released(peer, index)),
        Standing::Alive => BucketSet::FULL,
    }
}

pub(super) fn held(peer: &Peer, index: usize) -> &BucketSet {
    let holdings = peer.state.as_ref().and_then(|(_, state)| state.holdings.get(index));
    holdings.map_or(&BucketSet::EMPTY, |holdings| &holdings.holds)
}

fn released(peer: &Peer, index: usize) -> BucketSet {
    let holdings = peer.state.as_ref().and_then(|(_, state)| state.holdings.get(index));
    union(holdings.into_iter().flat_map(|holdings| &holdings.released).map(|release| &release.set))
}

fn union(sets: impl Iterator<Item = impl Borrow<BucketSet>>) -> BucketSet {
    sets.fold(BucketSet::EMPTY, |mut all, set| {
        all.extend(set.borrow());
        all
    })
}

/// The search for departing buckets without connections. One is empty once two scans in a row, both begun after it departed,
/// found no connection of it: what one scan misses, because the kernel's table changed under it, the next one sees.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Scan {
    last: Option<Time>,
    /// What was departing when the running scan began.
    asked: Option<Vec<BucketSet>>,
    /// What the last scan found empty.
    empty: Vec<BucketSet>,
}

impl Scan {
    /// Time from one scan to the next.
    const INTERVAL: Duration = Duration::from_secs(1);

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.asked.is_none() && self.last.is_none_or(|last| now.since(last) >= Self::INTERVAL)
    }

    pub(super) fn begin(&mut self, now: Time, departing: Vec<BucketSet>) {
        self.last = Some(now);
        self.asked = Some(departing);
    }

    /// What has no connections any more, per owner table.
    pub(super) fn finish(&mut self, live: &[BucketSet]) -> Vec<BucketSet> {
        let Some(asked) = self.asked.take() else {
            return Vec::new();
        };
        let before = std::mem::take(&mut self.empty);
        self.empty = asked.iter().zip(live).map(|(asked, live)| asked.difference(live)).collect();
        before.iter().zip(&self.empty).map(|(before, now)| before.intersection(now)).collect()
    }
}
