//! Scenarios that last: `cargo xtask soak`. A slice of each is a scenario test (tests/tests/exchange/long.rs).

pub mod hold;
pub mod rpc;
