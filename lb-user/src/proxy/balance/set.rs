//! A set of a farm's servers, by index, in one machine word: what is asked for every request has to cost next to nothing.

use std::ops::{BitAnd, BitOr, Sub};
use std::sync::atomic::{AtomicU64, Ordering};

/// Most servers of a farm.
pub const MAX_SERVERS: usize = 64;

/// Indices of servers, each below [`MAX_SERVERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerSet(u64);

impl ServerSet {
    /// No server.
    pub const EMPTY: Self = Self(0);

    /// The servers below `count`.
    pub fn first(count: usize) -> Self {
        (0..count).collect()
    }

    /// Adds a server. An index that no farm has is in no set.
    pub fn insert(&mut self, server: usize) {
        self.0 |= bit(server);
    }

    /// Whether the server is in it.
    pub fn contains(self, server: usize) -> bool {
        self.0 & bit(server) != 0
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The servers in ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let server = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(server)
        })
    }
}

impl FromIterator<usize> for ServerSet {
    fn from_iter<I: IntoIterator<Item = usize>>(servers: I) -> Self {
        Self(servers.into_iter().fold(0, |bits, server| bits | bit(server)))
    }
}

impl BitAnd for ServerSet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for ServerSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The servers of the first that are not in the second.
impl Sub for ServerSet {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// A set that threads share. Each change is seen sooner or later; nothing else is ordered by it.
#[derive(Debug, Default)]
pub struct SharedSet(AtomicU64);

impl SharedSet {
    /// A shared copy of `set`.
    pub fn new(set: ServerSet) -> Self {
        Self(AtomicU64::new(set.0))
    }

    /// What is in it now.
    pub fn load(&self) -> ServerSet {
        ServerSet(self.0.load(Ordering::Relaxed))
    }

    /// Puts a server in or takes it out.
    pub fn set(&self, server: usize, within: bool) {
        if within {
            self.0.fetch_or(bit(server), Ordering::Relaxed);
        } else {
            self.0.fetch_and(!bit(server), Ordering::Relaxed);
        }
    }
}

fn bit(server: usize) -> u64 {
    u32::try_from(server).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn servers() -> impl Strategy<Value = BTreeSet<usize>> {
        btree_set(0..MAX_SERVERS, 0..20)
    }

    proptest! {
        #[test]
        fn it_is_a_set(a in servers(), b in servers()) {
            let (left, right): (ServerSet, ServerSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            prop_assert!(left.iter().eq(a.iter().copied()));
            prop_assert_eq!(left.len(), a.len());
            prop_assert_eq!(left.is_empty(), a.is_empty());
            prop_assert!((left & right).iter().eq(a.intersection(&b).copied()));
            prop_assert!((left | right).iter().eq(a.union(&b).copied()));
            prop_assert!((left - right).iter().eq(a.difference(&b).copied()));
            let shared = SharedSet::new(left);
            b.iter().for_each(|server| shared.set(*server, true));
            prop_assert_eq!(shared.load(), left | right);
            b.iter().for_each(|server| shared.set(*server, false));
            prop_assert_eq!(shared.load(), left - right);
        }
    }

    #[test]
    fn an_index_that_no_farm_has_is_in_no_set() {
        let mut set = ServerSet::first(MAX_SERVERS);
        assert_eq!(set.len(), MAX_SERVERS);
        for index in [MAX_SERVERS, 1 << 32, usize::MAX] {
            set.insert(index);
            assert!(!set.contains(index));
        }
        assert_eq!(set.len(), MAX_SERVERS);
    }
}
