//! From the moment when an owner table is followed to the moment when every node holds what it should: how long it took, how
//! much moved and why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::operate::{Cause, Change};
use super::holding::held;
use super::table::Member;
use super::*;

/// A table that is followed, and not yet what the nodes hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Converging {
    since: Time,
    moved: u32,
    causes: Vec<Cause>,
}

impl Node {
    /// A new table is followed. What was under way before ends with it.
    pub(super) fn begin_to_converge(&mut self, moved: usize, causes: &[Cause], now: Time) {
        let converging =
            self.converging.get_or_insert(Converging { since: now, moved: 0, causes: Vec::new() });
        converging.moved = converging.moved.saturating_add(u32::try_from(moved).unwrap_or(u32::MAX));
        for cause in causes {
            if !converging.causes.contains(cause)
                && converging.causes.len() < super::super::operate::MAX_CAUSES
            {
                converging.causes.push(*cause);
            }
        }
    }

    /// Tells the operator once all hold what they should. Sticky tables do not count: their clients are waited for.
    pub(super) fn check_converged(&mut self, now: Time) {
        let Some(table) = self.table.as_ref().filter(|_| self.converging.is_some()) else { return };
        let sticky = |index: usize| self.waiting_moves.get(index).is_some_and(Option::is_some);
        let settled = |index: usize, node: Priority| {
            let share = table.share(index, node);
            match self.peers.get(&node) {
                None if node == self.settings.me => self.holdings[index].holds == *share,
                // It comes with facts that this node has yet to switch to.
                None => false,
                Some(peer) => peer.is_current() && held(peer, index) == share,
            }
        };
        let tables = (0..self.holdings.len()).filter(|index| !sticky(*index));
        if !tables.into_iter().all(|index| table.members.iter().all(|node| settled(index, *node))) {
            return;
        }
        let (id, members) = (table.id, table.members.len());
        if let Some(Converging { since, moved, causes }) = self.converging.take() {
            self.report(Event::Converged { table: id, members, moved, duration: now.since(since), causes });
        }
    }

    /// Why the table is computed anew: what is different from the members for whom the last one was.
    pub(super) fn causes(&self, members: &[Member]) -> Vec<Cause> {
        let before: BTreeMap<Priority, &Member> =
            self.followed_for.iter().map(|member| (member.node, member)).collect();
        let now: BTreeMap<Priority, &Member> = members.iter().map(|member| (member.node, member)).collect();
        let gone = before.keys().filter(|node| !now.contains_key(node)).map(|node| {
            // Who is no longer configured has left as well.
            let left = self.peers.get(node).is_none_or(|peer| peer.standing == Standing::Stopped);
            Cause { node: *node, change: if left { Change::Left } else { Change::Fell } }
        });
        let there = now.values().filter_map(|member| {
            let change = match before.get(&member.node) {
                None => Some(Change::Joined),
                Some(before) => member.change_from(before),
            };
            change.map(|change| Cause { node: member.node, change })
        });
        let mut causes: Vec<Cause> = gone.chain(there).collect();
        if causes.is_empty() {
            causes.push(Cause { node: self.settings.me, change: Change::DefaultHost });
        }
        causes
    }
}
