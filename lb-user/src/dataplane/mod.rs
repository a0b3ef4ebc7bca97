//! The data path as the agent sees it: what the kernel's part needs, and the only hands that touch it.
//!
//! ```text
//! config -> plan -> loader -> XDP program        view -> owner table -> maps -> XDP program -> stats
//! ```
//! Nothing here decides a packet's fate (`lb_common::verdict`) or who owns a bucket (`cluster`).

pub mod btf;
mod grace;
mod hearing;
pub mod idle;
pub mod link;
mod loader;
mod maps;
pub mod plan;
mod stats;

pub use hearing::Hearing;
#[cfg(feature = "faults")]
pub use loader::replace_without_lease_check;
pub use loader::{Dataplane, Error, OBJECT, PINS, cleanup, pins_of};
pub use maps::{Lease, OwnerTables};
pub use plan::{Plan, TablePlan};
pub use stats::Counters;
