//! The map elements as plain bytes, for aya. The only unsafe code that this crate has; the types are in `table.rs`.

use aya::Pod;

use crate::table::{BucketTable, Config, Counter, Lease, PortRules, SeenTable};

// SAFETY: a byte array, transparently: no padding, and every bit pattern is a value.
unsafe impl Pod for BucketTable {}

// SAFETY: a byte array, transparently: no padding, and every bit pattern is a value.
unsafe impl Pod for PortRules {}

// SAFETY: repr(C) of integers and arrays of integers, without padding (the size assert beside the type adds its fields up),
// so every bit pattern is a value.
unsafe impl Pod for Config {}

// SAFETY: repr(C) of two u64, so without padding, and every bit pattern is a value.
unsafe impl Pod for Counter {}

// SAFETY: repr(C) of four u64, so without padding, and every bit pattern is a value.
unsafe impl Pod for Lease {}

// SAFETY: an array of u32, transparently: no padding, and every bit pattern is a value.
unsafe impl Pod for SeenTable {}
