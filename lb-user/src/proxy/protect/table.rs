//! A table of fixed size for what clients can make up. What it keeps is for `rate` and `logon` to say.
//!
//! Set-associative, as a processor's cache is: a key's hash chooses one set of eight places, and where all eight are taken
//! the one whose loss forgives the least gives way. So a look costs eight comparisons at most, nothing is ever moved, and
//! memory is what was asked for at the start. Keys themselves are not kept: two with the same 64-bit hash would be one,
//! which among 2^20 keys happens once in 2^25 tables.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Time;

/// What is kept of a key.
pub(super) trait Entry: Copy + Default {
    /// What would be forgiven if this were forgotten now; zero: nothing at all.
    fn debt(&self, now: Time) -> u64;
}

/// Entries by the hashes of their keys.
#[derive(Debug)]
pub(super) struct Table<E> {
    shards: Box<[Shard<E>]>,
    /// This, and how many shards there are, are powers of two.
    sets_per_shard: usize,
}

type Shard<E> = Mutex<Box<[Set<E>]>>;

#[derive(Clone, Copy, Debug)]
struct Set<E> {
    /// Zero where there is nothing.
    hashes: [u64; WAYS],
    entries: [E; WAYS],
}

impl<E: Entry> Table<E> {
    /// Room for `capacity` entries, at most [`MOST`]; rounded up to a power of two.
    pub(super) fn new(capacity: usize) -> Self {
        let sets = capacity.clamp(1, MOST).div_ceil(WAYS).next_power_of_two();
        let shards = sets.min(SHARDS);
        let shard = || vec![Set::empty(); sets / shards].into_boxed_slice();
        Self { shards: (0..shards).map(|_| Mutex::new(shard())).collect(), sets_per_shard: sets / shards }
    }

    /// Works on the entry of `hash`, which is new if there was none; another may have given way for it.
    pub(super) fn update<R>(&self, hash: u64, now: Time, work: impl FnOnce(&mut E) -> R) -> R {
        let (mut shard, set) = self.lock(hash);
        work(shard[set].find_or_replace(hash.max(1), now))
    }

    /// Works on the entry of `hash`, if there is one.
    pub(super) fn update_known<R>(&self, hash: u64, work: impl FnOnce(&mut E) -> R) -> Option<R> {
        let (mut shard, set) = self.lock(hash);
        let set = &mut shard[set];
        let place = set.place(hash.max(1))?;
        Some(work(&mut set.entries[place]))
    }

    /// The shard and the set in it: both from bits of the hash that do not choose the other.
    fn lock(&self, hash: u64) -> (MutexGuard<'_, Box<[Set<E>]>>, usize) {
        let shard = &self.shards[(hash >> 48) as usize & (self.shards.len() - 1)];
        let set = hash as usize & (self.sets_per_shard - 1);
        (shard.lock().unwrap_or_else(PoisonError::into_inner), set)
    }
}

impl<E: Entry> Set<E> {
    fn empty() -> Self {
        Self { hashes: [0; WAYS], entries: [E::default(); WAYS] }
    }

    fn place(&self, hash: u64) -> Option<usize> {
        self.hashes.iter().position(|&other| other == hash)
    }

    fn find_or_replace(&mut self, hash: u64, now: Time) -> &mut E {
        let place = self.place(hash).unwrap_or_else(|| {
            let place = self.cheapest(now);
            self.hashes[place] = hash;
            self.entries[place] = E::default();
            place
        });
        &mut self.entries[place]
    }

    fn cheapest(&self, now: Time) -> usize {
        let debt = |&place: &usize| match self.hashes[place] {
            0 => None,
            _ => Some(self.entries[place].debt(now)),
        };
        (0..WAYS).min_by_key(debt).unwrap_or(0)
    }
}

const WAYS: usize = 8;

/// Locks; threads that ask at once rarely meet at one of so many.
const SHARDS: usize = 64;

/// Most entries; beyond, a configuration has a typing error.
pub(super) const MOST: usize = 1 << 24;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Owes itself.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    struct Owing(u64);

    impl Entry for Owing {
        fn debt(&self, now: Time) -> u64 {
            self.0.saturating_sub(now.as_nanos())
        }
    }

    const NOW: Time = Time::from_nanos(0);

    fn debt(table: &Table<Owing>, hash: u64) -> Option<u64> {
        table.update_known(hash, |owing| owing.0)
    }

    #[test]
    fn who_owes_nothing_gives_way_first_and_then_who_owes_least() {
        let table = Table::<Owing>::new(WAYS);
        for hash in 1..=8 {
            table.update(hash, NOW, |owing| owing.0 = hash * 10);
        }
        let later = Time::from_nanos(15);
        table.update(9, later, |owing| owing.0 = 500);
        assert_eq!(debt(&table, 1), None, "has nothing to lose by then");
        table.update(10, later, |owing| owing.0 = 600);
        assert_eq!(debt(&table, 2), None, "owes least");
        assert!((3..=10).all(|hash| debt(&table, hash).is_some()));
    }

    #[test]
    fn an_empty_place_is_taken_before_anyone_gives_way() {
        let table = Table::<Owing>::new(WAYS);
        for hash in 1..=8 {
            table.update(hash, NOW, |_| ());
        }
        assert!((1..=8).all(|hash| debt(&table, hash).is_some()));
    }

    #[test]
    fn any_capacity_is_a_table() {
        for (capacity, places) in [(0, 8), (1, 8), (9, 16), (1000, 1024), (1 << 16, 1 << 16)] {
            let table = Table::<Owing>::new(capacity);
            let sets: usize = table.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
            assert_eq!(sets * WAYS, places, "{capacity}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_was_written(writes in prop::collection::vec((0..40_u64, 1..100_u64), 0..200)) {
            let table = Table::<Owing>::new(16);
            let mut model = BTreeMap::new();
            for (hash, debt) in writes {
                let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let before = table.update(hash, NOW, |owing| std::mem::replace(&mut owing.0, debt));
                prop_assert!(before == 0 || Some(before) == model.insert(hash.max(1), debt));
                model.insert(hash.max(1), debt);
            }
            let kept = table.shards.iter().map(|shard| {
                shard.lock().unwrap().iter().flat_map(|set| set.hashes).filter(|&hash| hash != 0).count()
            });
            prop_assert!(kept.sum::<usize>() <= 16);
        }
    }
}
