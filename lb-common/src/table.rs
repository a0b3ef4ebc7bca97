//! The element types of the maps that the agent writes and the XDP program reads.
//!
//! Byte order is the host's own, except in fields whose doc says *network order*. No type has padding, so every byte of a
//! map element is defined; the size asserts below each type hold that.

use crate::address::Address;

/// How many buckets the flows of a table are spread over. Few of them only in simulations, which look at every one at every step.
pub const BUCKETS: usize = if cfg!(feature = "few-buckets") { 64 } else { 4096 };

/// How many owner tables there may be at once: rules with equal mode, weights and states share one.
pub const TABLES: usize = 32;

/// How many copies of the owner tables the kernel holds. One is active; a retired one is not rewritten before every packet
/// that may still read it is done.
pub const GENERATIONS: usize = 4;

/// How many cluster IPs a node may serve.
pub const CLUSTER_IPS: usize = 64;

/// How many rules the data path knows, rule 0 included.
pub const RULES: usize = 128;

/// How many different lists of ports there may be: two for each cluster IP, TCP and UDP, but equal ones are one.
pub const PORT_LISTS: usize = 2 * CLUSTER_IPS;

/// How many counters each rule has: one for each reason, see `counter`.
pub const COUNTERS_A_RULE: usize = 64;

/// The size of the ring buffer for samples.
pub const CAPTURE_BYTES: usize = 64 * 1024;

/// How many node numbers (host priorities) there are, 0 included, which no node has.
pub const NODES: usize = 65;

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
pub enum Affinity {
    /// Each connection on its own: address and port.
    None,
    /// All connections of one client address.
    Single,
    /// All connections of one network of clients.
    Network {
        /// Prefix length of an IPv4 network, 0..=32.
        v4: u8,
        /// Prefix length of an IPv6 network, 0..=128.
        v6: u8,
    },
}

/// A port rule as the data path needs it: one element of `Config::rules`. Rule 0 stands for all that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rule {
    /// Which bits of an IPv4 client's address count (`Address::low`).
    pub v4_mask: u64,
    /// Which bits of an IPv6 client's address count (`Address::high` and `low`).
    pub v6_mask: [u64; 2],
    /// Which bits of the client's port count: all or none.
    pub port_mask: u16,
    /// The index of its owner table, below `TABLES`.
    pub table: u8,
    /// 0: drop everything (filtering mode `disabled`, or rule 0 with `unmatched = "drop"`). Anything else: ask the table.
    pub enabled: u8,
    /// Not 0: its TCP connections end in this network namespace, so the kernel can be asked which there are.
    pub local: u8,
    /// Not 0: stamp a bucket whose packets this node accepts, because clients stay with it until they are idle.
    pub sticky: u8,
    /// Always 0.
    pub reserved: [u8; 2],
}

const _: () = assert!(size_of::<Rule>() == 32);

impl Rule {
    /// A rule that drops everything.
    pub const DISABLED: Self = Self { enabled: 0, ..Self::new(0, Affinity::Single) };

    /// A rule whose flows are spread by an owner table.
    pub const fn new(table: u8, affinity: Affinity) -> Self {
        let (v4, v6, port_mask) = match affinity {
            Affinity::None => (32, 128, u16::MAX),
            Affinity::Single => (32, 128, 0),
            Affinity::Network { v4, v6 } => (v4, v6, 0),
        };
        Self {
            v4_mask: u32::from_ne_bytes(ones(v4).to_be_bytes()) as u64,
            v6_mask: v6_mask(v6),
            port_mask,
            table,
            enabled: 1,
            local: 1,
            sticky: 0,
            reserved: [0; 2],
        }
    }
}

/// The mask of an IPv4 network with this prefix length.
const fn ones(prefix: u8) -> u32 {
    match prefix {
        0 => 0,
        1..=31 => u32::MAX << (32 - prefix),
        32.. => u32::MAX,
    }
}

/// The mask of an IPv6 network with this prefix length, as `Address` has its words.
const fn v6_mask(prefix: u8) -> [u64; 2] {
    let high = match prefix {
        0 => 0,
        1..=63 => u64::MAX << (64 - prefix),
        64.. => u64::MAX,
    };
    let low = match prefix {
        0..=64 => 0,
        65..=127 => u64::MAX << (128 - prefix),
        128.. => u64::MAX,
    };
    [u64::from_ne_bytes(high.to_be_bytes()), u64::from_ne_bytes(low.to_be_bytes())]
}

/// Which rule a port falls under: one element of the map `PORT_RULES`, so that the look-up costs the same however many and
/// however wide the rules are. Index: port. Value: index into `Config::rules`, 0 for rule 0.
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

/// A cluster IP as the data path knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Vip {
    /// See `Address`.
    pub high: u64,
    /// See `Address`.
    pub low: u64,
    /// 4 or 6; 0 where there is no cluster IP.
    pub family: u8,
    /// Which element of `PORT_RULES` its TCP ports are looked up in.
    pub tcp: u8,
    /// Which element of `PORT_RULES` its UDP ports are looked up in.
    pub udp: u8,
    /// Always 0.
    pub reserved: [u8; 5],
}

const _: () = assert!(size_of::<Vip>() == 24);

impl Vip {
    const NONE: Self = Self { high: 0, low: 0, family: 0, tcp: 0, udp: 0, reserved: [0; 5] };

    /// Whether this is the cluster IP `address`.
    #[inline(always)]
    pub const fn is(&self, address: &Address) -> bool {
        // The high word is 0 in every IPv4 address.
        if address.v6 {
            self.low == address.low && self.high == address.high && self.family == 6
        } else {
            self.low == address.low && self.family == 4
        }
    }

    /// The cluster IP.
    pub const fn address(&self) -> Address {
        Address { v6: self.family == 6, high: self.high, low: self.low }
    }
}

/// The cluster IPs, found by one multiplication and one comparison however many they are: each has a slot of its own, because
/// the multiplier was chosen so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Vips {
    /// Odd; see `slot`.
    multiplier: u64,
    list: [Vip; CLUSTER_IPS],
    /// Index into `list`; 0 where no cluster IP has the slot.
    slots: [u8; SLOTS],
}

const SLOTS: usize = 1024;

const _: () = assert!(size_of::<Vips>() == 8 + CLUSTER_IPS * 24 + SLOTS);

/// More cluster IPs than `CLUSTER_IPS`, or one of them twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadVips;

impl Vips {
    /// No cluster IP.
    pub const NONE: Self = Self { multiplier: 1, list: [Vip::NONE; CLUSTER_IPS], slots: [0; SLOTS] };

    /// These cluster IPs: each with the elements of `PORT_RULES` for its TCP and its UDP ports.
    ///
    /// # Errors
    /// [`BadVips`].
    pub fn new(ips: &[(Address, u8, u8)]) -> Result<Self, BadVips> {
        let mut vips = Self::NONE;
        if ips.len() > CLUSTER_IPS {
            return Err(BadVips);
        }
        for (place, &(address, tcp, udp)) in vips.list.iter_mut().zip(ips) {
            let family = if address.v6 { 6 } else { 4 };
            *place = Vip { high: address.high, low: address.low, family, tcp, udp, reserved: [0; 5] };
        }
        // With 64 addresses in 1024 slots one multiplier in about eight has no collision.
        let mut multiplier: u64 = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..10_000 {
            if let Some(slots) = vips.slots_by(multiplier, ips.len()) {
                return Ok(Self { multiplier, slots, ..vips });
            }
            multiplier = multiplier.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(2);
        }
        Err(BadVips)
    }

    fn slots_by(&self, multiplier: u64, count: usize) -> Option<[u8; SLOTS]> {
        let mut slots = [0; SLOTS];
        let mut taken = [false; SLOTS];
        for (index, vip) in self.list.iter().take(count).enumerate() {
            let slot = slot(&vip.address(), multiplier);
            if core::mem::replace(&mut taken[slot], true) {
                return None;
            }
            slots[slot] = index as u8;
        }
        Some(slots)
    }

    /// The number of the cluster IP `address`, if it is one.
    #[inline(always)]
    pub fn find(&self, address: &Address) -> Option<usize> {
        // The masks change nothing; they show the verifier the bounds.
        let number = self.slots[slot(address, self.multiplier)] as usize & (CLUSTER_IPS - 1);
        self.list[number].is(address).then_some(number)
    }

    /// The cluster IP with this number.
    #[inline(always)]
    pub const fn get(&self, number: usize) -> &Vip {
        &self.list[number & (CLUSTER_IPS - 1)]
    }

    /// The cluster IPs that there are.
    pub fn iter(&self) -> impl Iterator<Item = &Vip> {
        self.list.iter().take_while(|vip| vip.family != 0)
    }
}

/// Multiplicative hashing (Knuth, volume 3, 6.4): the top bits of the product.
#[inline(always)]
const fn slot(address: &Address, multiplier: u64) -> usize {
    const SHIFT: u32 = u64::BITS - SLOTS.trailing_zeros();
    let mixed = address.high.wrapping_mul(multiplier) ^ address.low;
    (mixed.wrapping_mul(multiplier) >> SHIFT) as usize & (SLOTS - 1)
}

/// What a packet is judged by and what does not change while a program is attached: the program's read-only data. A change
/// of any of it is a new program, which replaces the old one atomically; the maps stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// The cluster's hash key (SipHash), equal on all nodes.
    pub seed: [u64; 2],
    /// The cluster IPs.
    pub vips: Vips,
    /// Port rules; element 0 is rule 0, whose client's address always counts whole and its port never.
    pub rules: [Rule; RULES],
    /// Reasons (a bit each, by their numbers) whose packets are sampled for `rollcall capture`; 0: none.
    pub capture_reasons: u64,
    /// Of how many such packets one is sampled; 0: none.
    pub capture_every: u32,
    /// The VLAN tags, outermost first, with which frames for the cluster IPs come; 0: no more. Priority tags do not count.
    pub vlans: [u16; 2],
    /// The MAC address that every node answers for the cluster IPs.
    pub cluster_mac: [u8; 6],
    /// This interface's own MAC address.
    pub own_mac: [u8; 6],
    /// Not 0: count verdicts, but let everything pass as if the program were not there.
    pub observe: u8,
    /// Not 0 only in tests that prove the lease is needed: new connections are accepted after it.
    pub ignore_lease: u8,
    /// Not 0: the lease ends to the nanosecond instead of with the last whole tick of the kernel before it, which matters where a
    /// lease is a few ticks long; costs a look at the clock a packet.
    pub precise_lease: u8,
    /// Always 0.
    pub reserved: u8,
    /// Where `snt_isn` lies in this kernel's `struct tcp_request_sock` (from its BTF).
    pub snt_isn_offset: u16,
    /// The UDP port of hearing tests, which is that of heartbeats; 0: none are sent.
    pub hearing_port: u16,
}

const _: () =
    assert!(size_of::<Config>() == 16 + size_of::<Vips>() + RULES * 32 + 8 + 4 + 4 + 12 + 4 + 2 + 2 + 4);

impl Config {
    /// A configuration that serves no address.
    pub const EMPTY: Self = Self {
        seed: [0; 2],
        vips: Vips::NONE,
        rules: [Rule::DISABLED; RULES],
        capture_reasons: 0,
        capture_every: 0,
        vlans: [0; 2],
        cluster_mac: [0; 6],
        own_mac: [0; 6],
        observe: 0,
        ignore_lease: 0,
        precise_lease: 0,
        reserved: 0,
        snt_isn_offset: 0,
        hearing_port: 0,
    };

    /// The rule with this number.
    #[inline(always)]
    pub const fn rule(&self, number: usize) -> &Rule {
        // The mask changes nothing for a number that PORT_RULES holds; it shows the verifier the bound.
        &self.rules[number & (RULES - 1)]
    }
}

/// Until when this node may accept new connections: the one element of the map `LEASE`. Times are those of the monotonic
/// clock in nanoseconds, and the kernel's ticks (jiffies), by which a packet is judged because they cost nothing to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Lease {
    /// The first tick after the lease; 0: there is none.
    pub until_tick: u64,
    /// The first nanosecond after the lease; 0: there is none.
    pub until: u64,
    /// The tick when it was last renewed or ended.
    pub tick: u64,
    /// The time when it was last renewed or ended.
    pub time: u64,
}

const _: () = assert!(size_of::<Lease>() == 32);

/// What the program `renew` is given, as the bytes of a frame: how the agent renews or ends the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The first nanosecond after the lease; in the past, or 0: the lease ends.
    pub until: u64,
    /// Nanoseconds from one of the kernel's ticks to the next; not 0.
    pub tick_length: u64,
}

impl Renewal {
    /// As a frame.
    pub const fn to_bytes(&self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.until.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.tick_length.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// From a frame.
    #[inline(always)]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self {
            until: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            tick_length: u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    /// The lease that is in force from now on: it ends at the last tick that is not after `until`.
    #[inline(always)]
    pub const fn lease(&self, now: u64, tick: u64) -> Lease {
        if self.until <= now || self.tick_length == 0 {
            return Lease { until_tick: 0, until: 0, tick, time: now };
        }
        // The present tick began before now, so as many ticks as fit between now and then end before then.
        let until_tick = tick + (self.until - now) / self.tick_length;
        Lease { until_tick, until: self.until, tick, time: now }
    }
}

/// When a packet of each bucket was last accepted: one element, of an owner table whose rules are sticky, of the map `SEEN`.
/// Each is the low half of the tick.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct SeenTable(pub [u32; BUCKETS]);

const _: () = assert!(size_of::<SeenTable>() == BUCKETS * 4);

/// A sampled packet: what the ring buffer `CAPTURE` carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Sample {
    /// When, on the monotonic clock, in nanoseconds.
    pub time: u64,
    /// Source: `Address::high` and `low`.
    pub source: [u64; 2],
    /// Destination: `Address::high` and `low`.
    pub destination: [u64; 2],
    /// The frame's length.
    pub length: u32,
    /// Source port; 0 where there is none.
    pub source_port: u16,
    /// Destination port; 0 where there is none.
    pub destination_port: u16,
    /// 4, 6, or 0 where the frame is neither.
    pub family: u8,
    /// The IP protocol's number.
    pub protocol: u8,
    /// The flags of a TCP header.
    pub flags: u8,
    /// A `Reason` by its number.
    pub reason: u8,
    /// The number of the port rule, 0 for none.
    pub rule: u8,
    /// Always 0.
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<Sample>() == 56);

/// Packets and bytes of one reason and rule: an element of the per-CPU map `COUNTERS`, see `counter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Frames.
    pub packets: u64,
    /// Their lengths, Ethernet header included.
    pub bytes: u64,
}

const _: () = assert!(size_of::<Counter>() == 16);

/// The place in the map `COUNTERS` of the packets that fell under a rule and met their fate for a reason, by their numbers.
#[inline(always)]
pub const fn counter(rule: u8, reason: u8) -> u32 {
    rule as u32 * COUNTERS_A_RULE as u32 + reason as u32
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exactly_the_listed_cluster_ips_are_found(ips in prop::collection::hash_set(any::<IpAddr>(), 0..=CLUSTER_IPS), other: IpAddr) {
            let ips: std::vec::Vec<IpAddr> = ips.into_iter().collect();
            let list: std::vec::Vec<_> = ips.iter().map(|ip| (Address::from(*ip), 1, 2)).collect();
            let vips = Vips::new(&list).unwrap();
            for (number, ip) in ips.iter().enumerate() {
                prop_assert_eq!(vips.find(&Address::from(*ip)), Some(number));
            }
            let expected = ips.iter().position(|ip| *ip == other);
            prop_assert_eq!(vips.find(&Address::from(other)), expected);
            prop_assert_eq!(vips.iter().count(), ips.len());
        }

        #[test]
        fn a_lease_ends_at_a_tick_that_is_not_after_its_end(now in 1_000_000_000u64..1 << 50, left in 1u64..10_000_000_000, phase in 0u64..4_000_000) {
            const TICK: u64 = 4_000_000;
            // Tick number 1000 began `phase` ago.
            let lease = Renewal { until: now + left, tick_length: TICK }.lease(now, 1000);
            let end = now - phase + (lease.until_tick - 1000) * TICK;
            prop_assert!(end <= now + left);
            prop_assert!(end + 2 * TICK > now + left);
        }
    }

    #[test]
    fn neighbouring_cluster_ips_all_have_a_slot() {
        let ips: std::vec::Vec<_> =
            (0..CLUSTER_IPS as u8).map(|host| (Address::v4([192, 168, 50, host]), 0, 0)).collect();
        let vips = Vips::new(&ips).unwrap();
        assert_eq!(vips.find(&Address::v4([192, 168, 50, 63])), Some(63));
        assert_eq!(vips.find(&Address::v4([192, 168, 51, 63])), None);
        assert_eq!(vips.find(&Address::v4([0; 4])), None);
        assert_eq!(Vips::new(&[ips[0], ips[0]]), Err(BadVips));
        assert_eq!(Vips::NONE.find(&Address::v4([0; 4])), None);
    }

    #[test]
    fn a_lease_of_the_past_is_none() {
        for until in [0, 999, 1000] {
            let lease = Renewal { until, tick_length: 4_000_000 }.lease(1000, 7);
            assert_eq!((lease.until, lease.until_tick), (0, 0));
        }
    }

    #[test]
    fn prefixes_mask_the_leading_bits() {
        let masked = |affinity, ip: &str| {
            let (rule, address) = (Rule::new(1, affinity), Address::from(ip.parse::<IpAddr>().unwrap()));
            let [high, low] = if address.v6 { rule.v6_mask } else { [0, rule.v4_mask] };
            IpAddr::from(Address { v6: address.v6, high: address.high & high, low: address.low & low })
        };
        let network = |v4, v6| Affinity::Network { v4, v6 };
        let rows = [
            (network(24, 64), "203.0.113.77", "203.0.113.0"),
            (network(20, 64), "203.0.113.77", "203.0.112.0"),
            (network(0, 0), "203.0.113.77", "0.0.0.0"),
            (network(32, 128), "203.0.113.77", "203.0.113.77"),
            (network(24, 64), "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            (network(24, 48), "2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
            (network(24, 80), "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3::"),
            (network(24, 0), "2001:db8:1:2:3:4:5:6", "::"),
            (Affinity::Single, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"),
        ];
        for (affinity, ip, expected) in rows {
            assert_eq!(masked(affinity, ip), expected.parse::<IpAddr>().unwrap(), "{affinity:?} {ip}");
        }
    }

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
