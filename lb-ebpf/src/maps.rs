//! Every map of the program, each behind a typed getter. Who writes them: see the table in lb-common's lib.rs.
//!
//! A missing element cannot be (the maps are arrays, and their indices bounded), but the verifier wants it handled; it then
//! counts as what does least.

use core::hint::black_box;

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use lb_common::table::{
    Bucket, BucketState, BucketTable, Config, Counter, GENERATIONS, PortRules, TABLES as TABLE_COUNT,
};
use lb_common::verdict::{REASONS, Reason};

/// What does not change while the program is attached? Read-only data, which the loader fills in.
#[unsafe(no_mangle)]
static CONFIG: Config = Config::EMPTY;

/// Which rule does a port fall under?
#[map]
static PORT_RULES: Array<PortRules> = Array::with_max_entries(1, 0);

/// Whose is a bucket? Element: generation * `TABLE_COUNT` + table.
#[map]
static TABLES: Array<BucketTable> = Array::with_max_entries((GENERATIONS * TABLE_COUNT) as u32, 0);

/// Which generation of `TABLES` counts?
#[map]
static ACTIVE: Array<u32> = Array::with_max_entries(1, 0);

/// Until when may this node accept new connections?
#[map]
static LEASE: Array<u64> = Array::with_max_entries(1, 0);

/// How many frames met their fate for which reason?
#[map]
static COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(REASONS as u32, 0);

/// The configuration that the loader has put in.
#[inline(always)]
pub(crate) fn config() -> &'static Config {
    // The compiler must not take the value in the object for the one in force.
    black_box(&CONFIG)
}

/// The index in `Config::rules` of the rule that a port falls under.
#[inline(always)]
pub(crate) fn rule_of(port: u16) -> usize {
    match PORT_RULES.get(0) {
        Some(rules) => rules.0[port as usize] as usize,
        None => 0,
    }
}

/// The state of a bucket in the active generation.
#[inline(always)]
pub(crate) fn bucket_state(table: u8, bucket: Bucket) -> BucketState {
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

/// The lease's deadline, in nanoseconds of the monotonic clock.
#[inline(always)]
pub(crate) fn lease_deadline() -> u64 {
    match LEASE.get_ptr(0) {
        // SAFETY: a pointer into a live array map. Volatile, since the agent changes it meanwhile; an aligned u64 is
        // read whole.
        Some(deadline) => unsafe { deadline.read_volatile() },
        None => 0,
    }
}

/// Counts a frame of `length` bytes.
#[inline(always)]
pub(crate) fn count(reason: Reason, length: u64) {
    let Some(counter) = COUNTERS.get_ptr_mut(reason as u32) else {
        return;
    };
    // SAFETY: a pointer to this CPU's own element of a live map; XDP is not interrupted by itself on one CPU, and the
    // agent only reads.
    unsafe {
        (*counter).packets += 1;
        (*counter).bytes += length;
    }
}
