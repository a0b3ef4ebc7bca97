//! The data path as the agent sees it: what the kernel's part needs, and the only hands that touch it.
//!
//! ```text
//! config -> plan -> loader -> XDP program        view -> owner table -> maps -> XDP program -> stats, capture
//! ```
//! Nothing here decides a packet's fate (`lb_common::verdict`) or who owns a bucket (`cluster`).

pub mod btf;
pub mod capture;
pub mod explain;
mod grace;
mod hearing;
pub mod idle;
pub mod link;
mod loader;
mod maps;
pub mod plan;
pub mod reasons;
mod stats;

pub use hearing::Hearing;
#[cfg(feature = "faults")]
pub use loader::replace_without_lease_check;
pub use loader::{Dataplane, Error, OBJECT, PINS, cleanup, pins_of, verify, writers_of};
pub use maps::{InForce, Lease, OwnerTables};
pub use plan::{Plan, TablePlan};
pub use stats::{Counters, Tally};
