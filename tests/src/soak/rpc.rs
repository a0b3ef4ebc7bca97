//! Two RPC channels of 1 GiB, both ways at once, through the proxy of one node.

use anyhow::{Result, bail, ensure};

use crate::exchange::Exchange;
use crate::exchange::rpc::{Streams, peak_memory};
use crate::report::line;

/// What both channels of Outlook carry in their life, at most.
pub const CHANNEL: u64 = 1 << 30;
/// What the proxy may take for it, in bytes.
pub const MEMORY: u64 = 64 << 20;

/// Carries `length` bytes each way. An error is whatever is not as it must be.
pub fn run(length: u64) -> Result<()> {
    let mut exchange = Exchange::of_standins(&["sbex1"], 0)?;
    let before = peak_memory(&mut exchange, "arr1")?;
    let streams = Streams::run(&exchange, length)?;
    let peak = peak_memory(&mut exchange, "arr1")?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    line(format!(
        "RPC channels of {} MiB both ways at once: {:.1} s, the proxy's memory at most {:.1} MiB (before: {:.1} MiB)",
        length >> 20,
        streams.took().as_secs_f64(),
        mib(peak),
        mib(before),
    ));
    if let Some(trouble) = streams.trouble(length) {
        bail!("not all that left has come: {trouble}");
    }
    ensure!(peak < MEMORY, "the proxy had {:.1} MiB", mib(peak));
    let left = exchange.tear_down();
    ensure!(left.is_empty(), "left behind by the lab: {left:?}");
    Ok(())
}
