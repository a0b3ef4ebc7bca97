//! Every map of the program, each behind a typed getter. Who writes them: see the table in lb-common's lib.rs.
//!
//! A missing element cannot be (the maps are arrays, and their indices bounded), but the verifier wants it handled; it then
//! counts as what does least.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use lb_common::table::{
    Bucket, BucketState, BucketTable, CAPTURE_BYTES, COUNTERS_A_RULE, Config, Counter, GENERATIONS, Lease,
    NODES, PORT_LISTS, PortRules, RULES, Sample, SeenTable, TABLES as TABLE_COUNT,
};
use lb_common::verdict::Verdict;

use crate::packet::load;

/// What does not change while the program is attached? Read-only data, which the loader fills in.
#[unsafe(no_mangle)]
static CONFIG: Config = Config::EMPTY;

/// Which rule does a port fall under? The loader makes as many elements as there are different lists.
#[map]
static PORT_RULES: Array<PortRules> = Array::with_max_entries(PORT_LISTS as u32, 0);

/// Whose is a bucket? Element: generation * `TABLE_COUNT` + table.
#[map]
static TABLES: Array<BucketTable> = Array::with_max_entries((GENERATIONS * TABLE_COUNT) as u32, 0);

/// Which generation of `TABLES` counts?
#[map]
static ACTIVE: Array<u32> = Array::with_max_entries(1, 0);

/// Until when may this node accept new connections?
#[map]
static LEASE: Array<Lease> = Array::with_max_entries(1, 0);

/// How many frames met their fate under which rule, for which reason?
#[map]
static COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries((RULES * COUNTERS_A_RULE) as u32, 0);

/// When was a packet of a bucket last accepted?
#[map]
static SEEN: Array<SeenTable> = Array::with_max_entries(TABLE_COUNT as u32, 0);

/// When did the hearing test of a node last arrive?
#[map]
static HEARD: Array<u64> = Array::with_max_entries(NODES as u32, 0);

/// What became of single packets, for `rollcall capture`?
#[map]
static CAPTURE: RingBuf = RingBuf::with_byte_size(CAPTURE_BYTES as u32, 0);

/// The configuration that the loader has put in.
#[inline(always)]
pub(crate) fn config() -> &'static Config {
    // The compiler must not take the value in the object for the one in force.
    load::opaque(&CONFIG)
}

/// The index in `Config::rules` of the rule that a port falls under.
#[inline(always)]
pub(crate) fn rule_of(list: u8, port: u16) -> usize {
    // The mask shows the verifier the bound: 6.1 knows nothing of a number whose bytes were swapped. LLVM, which knows better,
    // would leave it out.
    let port = load::opaque(port as u64) as usize & 0xffff;
    match PORT_RULES.get(list as u32) {
        Some(rules) => rules.0[port] as usize,
        None => 0,
    }
}

/// The state of a bucket in the active generation.
#[inline(always)]
pub(crate) fn bucket_state(table: u8, bucket: Bucket) -> BucketState {
    let bucket = load::settled(bucket);
    let generation = match ACTIVE.get_ptr(0) {
        // SAFETY: a pointer into a live array map. Volatile, since the agent changes it meanwhile; an aligned u32 is
        // read whole.
        Some(active) => unsafe { active.read_volatile() },
        None => return BucketState::Other,
    };
    let index = (generation % GENERATIONS as u32) * TABLE_COUNT as u32 + table as u32 % TABLE_COUNT as u32;
    match TABLES.get(index) {
        // A plain read: no generation is written while it is active, nor for a grace period after.
        Some(table) => table.state(bucket),
        None => BucketState::Other,
    }
}

/// The lease's end: the tick, and the nanosecond of the monotonic clock.
#[inline(always)]
pub(crate) fn lease_end() -> (u64, u64) {
    match LEASE.get_ptr(0) {
        // SAFETY: pointers into a live array map. Volatile, since another CPU changes it meanwhile; aligned u64 are read
        // whole, and either of the two alone bounds the lease.
        Some(lease) => unsafe {
            ((&raw const (*lease).until_tick).read_volatile(), (&raw const (*lease).until).read_volatile())
        },
        None => (0, 0),
    }
}

/// Puts a lease in force.
#[inline(always)]
pub(crate) fn renew(lease: &Lease) {
    let Some(to) = LEASE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a pointer into a live array map. Volatile and field by field, since packets read it meanwhile; the agent renews
    // from one thread.
    unsafe {
        (&raw mut (*to).until_tick).write_volatile(lease.until_tick);
        (&raw mut (*to).until).write_volatile(lease.until);
        (&raw mut (*to).tick).write_volatile(lease.tick);
        (&raw mut (*to).time).write_volatile(lease.time);
    }
}

/// Counts a frame of `length` bytes.
#[inline(always)]
pub(crate) fn count(verdict: Verdict, length: u64) {
    let Some(counter) = COUNTERS.get_ptr_mut(verdict.counter()) else {
        return;
    };
    // SAFETY: a pointer to this CPU's own element of a live map; XDP is not interrupted by itself on one CPU, and the
    // agent only reads.
    unsafe {
        (*counter).packets += 1;
        (*counter).bytes += length;
    }
}

/// Stamps a bucket of which a packet is accepted.
#[inline(always)]
pub(crate) fn stamp_bucket(table: u8, bucket: Bucket, tick: u64) {
    if let Some(seen) = SEEN.get_ptr_mut(table as u32) {
        // SAFETY: a pointer into a live array map, and the index is below the table's length. Volatile, since other CPUs
        // stamp too, with almost the same tick; an aligned u32 is written whole.
        unsafe { (&raw mut (*seen).0[bucket.index()]).write_volatile(tick as u32) };
    }
}

/// Stamps a node whose hearing test arrives.
#[inline(always)]
pub(crate) fn stamp_node(node: u8, now: u64) {
    if let Some(heard) = HEARD.get_ptr_mut(node as u32) {
        // SAFETY: as in `stamp_bucket`.
        unsafe { heard.write_volatile(now) };
    }
}

/// Hands a sample to the agent, if there is room.
#[inline(always)]
pub(crate) fn sample(sample: &Sample) {
    // Nobody reads as fast as packets come: what finds no room is lost, as the reader expects of samples.
    let _ = CAPTURE.output::<Sample>(sample, 0);
}
