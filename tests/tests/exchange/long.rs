//! Slices of what lasts: `cargo xtask soak` runs the whole of each.

use std::time::Duration;

use rollcall_tests::soak;

#[test]
fn who_waits_through_one_node_does_not_notice_that_others_come_and_go() {
    soak::hold::run(Duration::from_secs(15)).unwrap();
}

#[test]
fn full_rpc_channels_cost_the_proxy_no_memory() {
    soak::rpc::run(128 << 20).unwrap();
}
