//! Scenarios that last: `cargo xtask soak`. A slice of each is a scenario test (tests/tests/exchange/long.rs, tests/tests/shared/crashes.rs).

pub mod hold;
pub mod kills;
pub mod rpc;
