//! Clients that stay with their node while the nodes change: in a sticky table a planned move waits until the bucket is idle,
//! or has waited for too long. Only the holder waits, and what nobody holds waits for nobody: so a dead node's buckets move
//! at once.

use serde::{Deserialize, Serialize};

use lb_common::table::BUCKETS;

use super::*;
use crate::config::model::Stickiness;

/// What a sticky owner table keeps from moving.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Waiting {
    stickiness: Stickiness,
    /// What this node holds and another should own.
    set: BucketSet,
    /// Since when each bucket of `set` is in it.
    since: Vec<Time>,
    /// What is idle as of now: empty but while an answer is taken in.
    idle: BucketSet,
}

impl Waiting {
    pub(super) fn of(spread: &Spread) -> Option<Self> {
        let empty = |stickiness| Self {
            stickiness,
            set: BucketSet::EMPTY,
            since: vec![Time::default(); BUCKETS],
            idle: BucketSet::EMPTY,
        };
        spread.stickiness.map(empty)
    }

    /// Takes in what this node holds and another should own.
    pub(super) fn note(&mut self, due: &BucketSet, now: Time) {
        if self.set != *due {
            due.difference(&self.set).iter().for_each(|bucket| self.since[bucket.index()] = now);
            self.set = due.clone();
        }
    }

    /// Which of it may move now.
    pub(super) fn ripe(&self, now: Time) -> BucketSet {
        let overdue = self.set.iter().filter(|bucket| self.is_overdue(bucket.index(), now));
        overdue.collect::<BucketSet>().union(&self.idle)
    }

    fn is_overdue(&self, bucket: usize, now: Time) -> bool {
        now.since(self.since[bucket]) >= self.stickiness.max_hold
    }
}

/// The least time between two questions for idle buckets.
const FIND: Duration = Duration::from_secs(1);

impl Node {
    /// The buckets that have been idle for at least their table's timeout, per owner table. What is not known is not idle.
    pub fn handle_idle(&mut self, idle: &[BucketSet], now: Time) {
        self.notice(now);
        for (waiting, idle) in self.waiting_moves.iter_mut().zip(idle) {
            if let Some(waiting) = waiting {
                waiting.idle = idle.clone();
            }
        }
        self.settle(now);
        // A packet may come at any time, so an answer counts once.
        self.waiting_moves.iter_mut().flatten().for_each(|waiting| waiting.idle = BucketSet::EMPTY);
    }

    /// Which buckets of owner table `index` may be released.
    pub(super) fn may_move(&mut self, index: usize, now: Time) -> BucketSet {
        // What is wrong here, or ends here, is worse for a client than another node.
        let ready = self.is_reached() && self.ready.get(index).copied().unwrap_or(true);
        let stops = self.mandate.table(index).intent == super::super::operate::Intent::Stopped;
        let hurries = self.phase == Phase::Stopping || stops || !ready;
        let due = self.due(index);
        match self.waiting_moves.get_mut(index).and_then(Option::as_mut) {
            None => BucketSet::FULL,
            Some(waiting) => {
                waiting.note(&due, now);
                if hurries { BucketSet::FULL } else { waiting.ripe(now) }
            }
        }
    }

    /// What this node holds of owner table `index` and another should own.
    fn due(&self, index: usize) -> BucketSet {
        let Some(table) = self.table.as_ref().filter(|_| self.serves()) else {
            return BucketSet::EMPTY;
        };
        self.holdings[index].holds.difference(table.share(index, self.settings.me))
    }

    /// Asks which buckets are idle, while some wait for that; true if a bucket has waited for too long.
    pub(super) fn find_idle(&mut self, now: Time) -> bool {
        let waits = |waiting: &&Waiting| !waiting.set.is_empty();
        if !self.waiting_moves.iter().flatten().any(|waiting| waits(&waiting)) {
            return false;
        }
        if self.asked_idle.is_none_or(|asked| now.since(asked) >= FIND) {
            self.asked_idle = Some(now);
            self.commands.push_back(Command::FindIdle);
        }
        let overdue =
            |waiting: &Waiting| waiting.set.iter().any(|bucket| waiting.is_overdue(bucket.index(), now));
        self.waiting_moves.iter().flatten().any(overdue)
    }

    /// How many buckets of each owner table wait.
    pub(super) fn waiting_counts(&self) -> Vec<u32> {
        let count = |waiting: &Option<Waiting>| waiting.as_ref().map_or(0, |waiting| waiting.set.len());
        self.waiting_moves.iter().map(|waiting| u32::try_from(count(waiting)).unwrap_or(u32::MAX)).collect()
    }
}
