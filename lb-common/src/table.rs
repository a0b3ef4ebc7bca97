//! The element types of the maps that the agent writes and the XDP program reads.
//!
//! Byte order is the host's own, except in fields whose doc says *network order*. No type has padding, so every byte of a
//! map element is defined; the size asserts below each type hold that.

/// How many buckets the flows of a table are spread over.
pub const BUCKETS: usize = 4096;

/// How many owner tables there may be at once: rules with equal mode, weights and states share one.
pub const TABLES: usize = 8;

/// How many copies of the owner tables the kernel holds. One is active; a retired one is not rewritten before every packet
/// that may still read it is done.
pub const GENERATIONS: usize = 4;

/// How many cluster IPs a node may serve.
pub const CLUSTER_IPS: usize = 8;

/// How many different rules the data path knows, rule 0 included. Port rules that differ in their ports alone are one here.
pub const RULES: usize = 64;

/// One share of a table's flows, `0..BUCKETS`: what is owned, taken over and handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Bucket(u16);

impl Bucket {
    /// The bucket that a flow hash falls into.
    #[inline(always)]
    pub const fn of_hash(hash: u64) -> Self {
        Self((hash % BUCKETS as u64) as u16)
    }

    /// The bucket with this number, or `None` when there is no such bucket.
    pub const fn new(number: u16) -> Option<Self> {
        if (number as usize) < BUCKETS { Some(Self(number)) } else { None }
    }

    /// Its place in a table, always below `BUCKETS`.
    #[inline(always)]
    pub const fn index(self) -> usize {
        // The mask changes nothing; it shows the verifier the bound.
        self.0 as usize & (BUCKETS - 1)
    }

    /// Every bucket, in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..BUCKETS as u16).map(Self)
    }
}

/// What this node may do with the flows of a bucket. As a byte of an owner table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BucketState {
    /// Another node's: everything is dropped.
    Other = 0,
    /// This node's alone: everything passes.
    Mine = 1,
    /// This node's for new connections; older ones may still live on a former holder, so only those of our own sockets pass.
    Arriving = 2,
    /// No longer this node's for new connections; those that it has pass until they end.
    Departing = 3,
}

impl BucketState {
    /// Reads a table's byte. What the agent never writes counts as `Other`, the state that does least.
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Mine,
            2 => Self::Arriving,
            3 => Self::Departing,
            _ => Self::Other,
        }
    }
}

/// The state of every bucket of one table: one element of the map `TABLES`, written whole by one system call.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct BucketTable(pub [u8; BUCKETS]);

const _: () = assert!(size_of::<BucketTable>() == BUCKETS);

impl BucketTable {
    /// Every bucket in `state`.
    pub const fn filled(state: BucketState) -> Self {
        Self([state as u8; BUCKETS])
    }

    /// What this node may do with the flows of `bucket`.
    pub const fn state(&self, bucket: Bucket) -> BucketState {
        BucketState::from_byte(self.0[bucket.index()])
    }

    /// Sets one bucket.
    pub const fn set(&mut self, bucket: Bucket, state: BucketState) {
        self.0[bucket.index()] = state as u8;
    }
}

impl core::fmt::Debug for BucketTable {
    /// Counts instead of 4096 bytes.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let count = |state: BucketState| Bucket::all().filter(|&bucket| self.state(bucket) == state).count();
        f.debug_struct("BucketTable")
            .field("mine", &count(BucketState::Mine))
            .field("arriving", &count(BucketState::Arriving))
            .field("departing", &count(BucketState::Departing))
            .finish_non_exhaustive()
    }
}

/// What decides which connections of one client share a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Affinity {
    /// Each connection on its own: address and port.
    None = 0,
    /// All connections of one client address.
    Single = 1,
}

/// A port rule as the data path needs it: one element of `Config::rules`. Rule 0 stands for every port that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rule {
    /// The index of its owner table, below `TABLES`.
    pub table: u8,
    /// An `Affinity` as a byte; what is none of them counts as `Affinity::Single`.
    pub affinity: u8,
    /// 0: drop everything (filtering mode `disabled`, or rule 0 with `unmatched = "drop"`). Anything else: ask the table.
    pub enabled: u8,
    /// Always 0.
    pub reserved: u8,
}

const _: () = assert!(size_of::<Rule>() == 4);

impl Rule {
    /// A rule that drops everything.
    pub const DISABLED: Self = Self { table: 0, affinity: Affinity::Single as u8, enabled: 0, reserved: 0 };

    /// What decides which connections of one client share a bucket.
    #[inline(always)]
    pub const fn affinity(&self) -> Affinity {
        if self.affinity == Affinity::None as u8 { Affinity::None } else { Affinity::Single }
    }
}

/// Which rule a TCP port of a cluster IP falls under: the one element of the map `PORT_RULES`, so that the look-up costs the
/// same however many and however wide the rules are. Index: port. Value: index into `Config::rules`, 0 for rule 0.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct PortRules(pub [u8; 65_536]);

const _: () = assert!(size_of::<PortRules>() == 65_536);

impl core::fmt::Debug for PortRules {
    /// A count instead of 65,536 bytes.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let named = self.0.iter().filter(|&&rule| rule != 0).count();
        f.debug_struct("PortRules").field("ports_with_rules", &named).finish_non_exhaustive()
    }
}

/// What a packet is judged by and what does not change while a program is attached: the program's read-only data. A change
/// of any of it is a new program, which replaces the old one atomically; the maps stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// The cluster's hash key (SipHash), equal on all nodes.
    pub seed: [u64; 2],
    /// The cluster IPs, in network order; only the first `cluster_ip_count` count.
    pub cluster_ips: [[u8; 4]; CLUSTER_IPS],
    /// How many of `cluster_ips` there are.
    pub cluster_ip_count: u32,
    /// Port rules; element 0 is rule 0.
    pub rules: [Rule; RULES],
    /// The MAC address that every node answers for the cluster IPs.
    pub cluster_mac: [u8; 6],
    /// This interface's own MAC address.
    pub own_mac: [u8; 6],
    /// Not 0: count verdicts, but let everything pass as if the program were not there.
    pub observe: u8,
    /// Not 0 only in tests that prove the lease is needed: new connections are accepted after it.
    pub ignore_lease: u8,
    /// Where `snt_isn` lies in this kernel's `struct tcp_request_sock` (from its BTF).
    pub snt_isn_offset: u16,
    /// Always 0.
    pub reserved: [u8; 4],
}

const _: () = assert!(size_of::<Config>() == 16 + 32 + 4 + 256 + 12 + 4 + 4);

impl Config {
    /// A configuration that serves no address.
    pub const EMPTY: Self = Self {
        seed: [0; 2],
        cluster_ips: [[0; 4]; CLUSTER_IPS],
        cluster_ip_count: 0,
        rules: [Rule::DISABLED; RULES],
        cluster_mac: [0; 6],
        own_mac: [0; 6],
        observe: 0,
        ignore_lease: 0,
        snt_isn_offset: 0,
        reserved: [0; 4],
    };

    /// Whether `addr`, in network order, is a cluster IP.
    #[inline(always)]
    pub fn serves(&self, addr: [u8; 4]) -> bool {
        let addr = u32::from_ne_bytes(addr);
        let mut found = false;
        let mut left = self.cluster_ip_count;
        for ip in &self.cluster_ips {
            if left == 0 {
                break;
            }
            left -= 1;
            found |= u32::from_ne_bytes(*ip) == addr;
        }
        found
    }

    /// The rule with this number.
    #[inline(always)]
    pub const fn rule(&self, number: usize) -> &Rule {
        // The mask changes nothing for a number that PORT_RULES holds; it shows the verifier the bound.
        &self.rules[number & (RULES - 1)]
    }
}

/// Packets and bytes of one reason: an element of the per-CPU map `COUNTERS`, indexed by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Frames.
    pub packets: u64,
    /// Their lengths, Ethernet header included.
    pub bytes: u64,
}

const _: () = assert!(size_of::<Counter>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_its_byte_and_foreign_bytes_mean_other() {
        for state in [BucketState::Other, BucketState::Mine, BucketState::Arriving, BucketState::Departing] {
            assert_eq!(BucketState::from_byte(state as u8), state);
        }
        assert_eq!(BucketState::from_byte(77), BucketState::Other);
    }

    #[test]
    fn a_bucket_is_below_the_bucket_count() {
        assert_eq!(Bucket::new(4095).map(Bucket::index), Some(4095));
        assert_eq!(Bucket::new(4096), None);
        assert_eq!(Bucket::of_hash(u64::MAX).index(), 4095);
    }
}
