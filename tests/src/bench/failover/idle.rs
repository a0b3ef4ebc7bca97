//! What an agent costs while nothing happens.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Finding, gone_without_a_trace};
use crate::bench::median;
use crate::node::Cluster;
use crate::sys::processor_time;

/// The share of a processor that the agents of `nodes` nodes use over `time`, in percent of one: user and system time of the
/// agent's process, not of its proxy.
pub(super) fn measure(nodes: u8, time: Duration) -> Result<Finding> {
    let cluster = Cluster::start(nodes)?;
    // What a start costs is over by then.
    thread::sleep(Duration::from_secs(3));
    let pids: Vec<_> =
        cluster.nodes.iter().filter_map(|node| node.agent.as_ref()).map(|agent| agent.pid()).collect();
    let used = || -> Result<Vec<Duration>> {
        let times = pids.iter().map(|&pid| processor_time(pid).context("an agent has ended"));
        times.collect()
    };
    let before = used()?;
    thread::sleep(time);
    let shares = used()?.into_iter().zip(before).map(|(after, before)| {
        let used = after.saturating_sub(before);
        100.0 * used.as_secs_f64() / time.as_secs_f64()
    });
    let shares: Vec<_> = shares.collect();
    gone_without_a_trace(cluster)?;
    let largest = shares.iter().copied().fold(0.0, f64::max);
    Ok(vec![
        ("processor of an agent, median", "%", median(&shares)),
        ("processor of an agent, maximum", "%", largest),
    ])
}
