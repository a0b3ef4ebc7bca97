//! Who should own what: that all nodes come to agree on it, hold it, and stay with it; that it is balanced, and no more moves
//! than must.

use lb_common::table::BUCKETS;

use super::super::holding::held;
use super::super::table::{Member, weights};
use super::*;

/// What a node held and had published before it was told something.
pub(super) struct Before {
    holdings: Vec<Holdings>,
    epoch: u64,
    table: TableId,
}

/// How many buckets move by a table, and how many must.
#[derive(Default)]
struct Moves {
    moved: usize,
    surplus: usize,
    /// Members that may own one more than their rounded share, and hold it.
    one_more: usize,
    /// How many buckets are left once all have their rounded share.
    left: usize,
    claimed: usize,
    all: Vec<BucketSet>,
}

impl Moves {
    fn add(&mut self, claim: &BucketSet, share: &BucketSet, fair: &std::ops::RangeInclusive<usize>) {
        self.moved += claim.difference(share).len();
        let surplus = claim.len().saturating_sub(*fair.start());
        self.surplus += surplus;
        self.one_more += usize::from(surplus > 0 && fair.end() > fair.start());
        self.left = self.left.saturating_sub(*fair.start());
        self.claimed += claim.len();
        self.all.push(claim.clone());
    }

    fn least(&self) -> usize {
        self.surplus - self.one_more.min(self.left)
    }

    /// Nothing is said of what two claim, as after a split.
    fn are_few(&self) -> bool {
        let all = self.all.iter().fold(BucketSet::EMPTY, |all, claim| all.union(claim));
        all.len() < self.claimed || self.moved * 10 <= self.least() * 11
    }
}

/// What a member held, or had been released to, when a table was computed.
fn claim(node: &Node, index: usize, member: &Member, before: &Before) -> BucketSet {
    let ours = (member.node == node.settings.me).then(|| before.holdings[index].holds.clone());
    let theirs = node.peers.get(&member.node).map(|peer| held(peer, index).clone());
    let peers = node.peers.values().filter(|peer| peer.is_member());
    let states = peers.filter_map(|peer| peer.state.as_ref()?.1.holdings.get(index));
    let released = states.chain([&before.holdings[index]]).flat_map(|holdings| &holdings.released);
    let to_it = released.filter(|release| release.heir == member.node);
    let held = ours.or(theirs).unwrap_or(BucketSet::EMPTY);
    to_it.fold(held, |claim, release| claim.union(&release.set))
}

impl Node {
    pub(super) fn before(&self) -> Before {
        Before { holdings: self.holdings.clone(), epoch: self.epoch(), table: self.table_id() }
    }

    fn epoch(&self) -> u64 {
        self.published.as_ref().map_or(0, |published| published.epoch)
    }
}

impl Sim {
    /// A table that was just published is balanced to one bucket, and moves at most a tenth more than must move. And who
    /// follows a table follows the same one as all who say so.
    pub(super) fn check_published(&mut self, host: usize, before: &Before) {
        let Some(node) = self.hosts[host].node() else { return };
        if node.table_id() != before.table {
            self.check_same_table(node);
        }
        if node.epoch() == before.epoch || node.published.is_none() {
            return;
        }
        self.watch.checks += 1;
        let members = &node.published_for;
        for index in 0..self.setup.tables.len() {
            let weights = weights(&self.setup.tables[index], index, members);
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            let mut moves = Moves { left: BUCKETS, ..Moves::default() };
            for (member, weight) in members.iter().zip(weights) {
                let share =
                    node.table.as_ref().map_or(&BucketSet::EMPTY, |table| table.share(index, member.node));
                let exact = BUCKETS as u64 * u64::from(weight);
                let fair = (exact / total.max(1)) as usize..=exact.div_ceil(total.max(1)) as usize;
                if !fair.contains(&share.len()) {
                    let (node, owns) = (member.node, share.len());
                    self.fail(&format!("arr{node} should own {owns} of table {index}, fair is {fair:?}"));
                }
                moves.add(&claim(node, index, member, before), share, &fair);
            }
            if !moves.are_few() {
                self.fail(&format!("{} buckets of table {index} move, {} must", moves.moved, moves.least()));
            }
        }
    }

    fn check_same_table(&self, node: &Node) {
        let Some(table) = &node.table else { return };
        // Whose lease has ended forgets its table before it does anything more.
        let living = self.hosts.iter().filter(|host| host.lease_lives(self.now));
        for other in living.filter_map(Host::node).filter_map(|node| node.table.as_ref()) {
            if other.id == table.id && other != table {
                self.fail(&format!("two tables have the id {:?}", table.id));
            }
        }
    }

    /// The nodes that are to have a share, and to agree, once there is no fault.
    pub(super) fn sharers(&self) -> impl Iterator<Item = (&Host, &Node)> {
        let members = &self.configuration(self.in_force).members;
        let up =
            self.hosts.iter().filter(|host| host.is_up() && host.cable && members.contains(&host.priority));
        let nodes = up.filter_map(|host| host.node().map(|node| (host, node)));
        nodes.filter(|(_, node)| node.phase != Phase::Stopped && !node.ending)
    }

    /// Within the bound after the last fault, or the last change of what a node wants, all nodes follow one table and hold what it
    /// gives them; and so it stays.
    pub(super) fn check_converged_by_now(&mut self) {
        let wants: Vec<_> =
            self.sharers().map(|(host, node)| (node.rank(), node.wants(host.clock.at(self.now)))).collect();
        if wants != self.watch.wants {
            self.watch.wants = wants;
            self.watch.wanted = self.now;
            self.watch.converged = None;
        }
        // Of two configurations one stays out, until all have the same.
        let facts: BTreeSet<u64> = self.sharers().map(|(_, node)| node.settings.facts).collect();
        if facts.len() > 1 {
            self.watch.wanted = self.now;
            return;
        }
        let took = self.now.since(self.watch.disturbed.max(self.watch.wanted));
        match self.divergence(took) {
            None => {
                let table = self.sharers().map(|(_, node)| node.table_id()).next();
                if self.watch.converged != table {
                    if took > self.bounds.converge && self.watch.converged.is_some() {
                        self.fail("the table changed though nothing else did");
                    }
                    self.watch.slowest = self.watch.slowest.max(took);
                    self.watch.converged = table;
                }
            }
            Some(why) if took > self.bounds.converge => {
                self.fail(&format!("not converged after {took:?}: {why}"));
            }
            Some(_) => {}
        }
    }

    /// Why the nodes have not converged.
    fn divergence(&self, took: Duration) -> Option<String> {
        let (_, first) = self.sharers().next()?;
        let Some(table) = &first.table else { return Some("the first has no table".to_owned()) };
        let mut members = table.members.iter();
        for (host, node) in self.sharers() {
            if node.phase == Phase::Starting || !host.lease_lives(self.now) {
                return Some(format!("arr{} is {:?}", host.priority, node.phase));
            }
            if node.table_id() != table.id {
                return Some(format!(
                    "arr{} follows {:?}, another {:?}",
                    host.priority,
                    node.table_id(),
                    table.id
                ));
            }
            if members.next() != Some(&host.priority) {
                return Some(format!("{:?} has members {:?}", table.id, table.members));
            }
            for index in (0..self.setup.tables.len()).filter(|index| self.is_due(*index, took)) {
                let share = node.table.as_ref()?.share(index, host.priority);
                if host.accepts[index] != *share || node.holdings[index].holds != *share {
                    return Some(format!("arr{} does not hold its share of table {index}", host.priority));
                }
            }
        }
        members.next().map(|member| format!("arr{member} is no longer there"))
    }

    /// Whether moves of this table are over by now: clients of a sticky one are waited for.
    fn is_due(&self, index: usize, took: Duration) -> bool {
        let waits =
            self.setup.tables[index].stickiness.map(|sticky| sticky.max_hold + Duration::from_secs(1));
        waits.is_none_or(|waits| took > waits + self.bounds.converge)
    }
}
