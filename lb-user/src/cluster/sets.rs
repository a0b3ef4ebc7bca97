//! A set of buckets: what a node holds, has released, or still has connections in.

use std::fmt;

use lb_common::table::{BUCKETS, Bucket};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const WORDS: usize = BUCKETS / 64;

/// A set of buckets of one owner table.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketSet([u64; WORDS]);

impl BucketSet {
    /// No bucket.
    pub const EMPTY: Self = Self([0; WORDS]);
    /// Every bucket.
    pub const FULL: Self = Self([u64::MAX; WORDS]);

    /// Whether `bucket` is in it.
    pub fn contains(&self, bucket: Bucket) -> bool {
        self.0[bucket.index() / 64] & Self::bit(bucket) != 0
    }

    /// Adds a bucket.
    pub fn insert(&mut self, bucket: Bucket) {
        self.0[bucket.index() / 64] |= Self::bit(bucket);
    }

    /// Takes a bucket out.
    pub fn remove(&mut self, bucket: Bucket) {
        self.0[bucket.index() / 64] &= !Self::bit(bucket);
    }

    /// How many buckets are in it.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no bucket is in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// Its buckets, in order.
    pub fn iter(&self) -> impl Iterator<Item = Bucket> {
        self.0.iter().zip((0u16..).step_by(64)).flat_map(|(&word, first)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as u16)?;
                rest &= rest - 1;
                Bucket::new(first + bit)
            })
        })
    }

    /// Whether both share a bucket.
    pub fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// Adds all that is in `other`.
    pub fn extend(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, other)| *mine |= other);
    }

    /// What is in this one alone.
    pub fn difference(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    fn bit(bucket: Bucket) -> u64 {
        1 << (bucket.index() % 64)
    }
}

impl FromIterator<Bucket> for BucketSet {
    fn from_iter<I: IntoIterator<Item = Bucket>>(buckets: I) -> Self {
        let mut set = Self::EMPTY;
        for bucket in buckets {
            set.insert(bucket);
        }
        set
    }
}

impl Serialize for BucketSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_slice().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BucketSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<u64>::deserialize(deserializer)?;
        words.try_into().map(Self).map_err(|_| D::Error::custom("a bit for every bucket is wanted"))
    }
}

impl fmt::Debug for BucketSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BucketSet({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_back_its_buckets_in_order() {
        let buckets: Vec<Bucket> = [0, 1, 63, 64, 2000, 4095].map(|n| Bucket::new(n).unwrap()).into();
        let set: BucketSet = buckets.iter().copied().collect();
        assert_eq!((set.iter().collect::<Vec<_>>(), set.len()), (buckets, 6));
        assert!(BucketSet::FULL.iter().eq(Bucket::all()) && BucketSet::EMPTY.iter().next().is_none());
    }
}
