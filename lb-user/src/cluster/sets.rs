//! A set of buckets: what a node holds, has released, or still has connections in.

use std::fmt;

use lb_common::table::{BUCKETS, Bucket};

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
        Bucket::all().filter(|&bucket| self.contains(bucket))
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

    /// What is in this one alone.
    pub fn difference(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// Eight bytes a word, least significant first.
    pub fn to_bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().flat_map(|word| word.to_le_bytes())
    }

    /// The set that `to_bytes` spelt.
    pub fn from_bytes(bytes: &[u8; BUCKETS / 8]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        Self(std::array::from_fn(|word| u64::from_le_bytes(words[word])))
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

impl fmt::Debug for BucketSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BucketSet({})", self.len())
    }
}
