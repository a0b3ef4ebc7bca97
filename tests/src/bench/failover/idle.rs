//! What an agent costs while nothing happens.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Finding, Findings, gone_without_a_trace};
use crate::bench::{median, publish};
use crate::lab::Plan;
use crate::node::Cluster;
use crate::report::Progress;
use crate::sys::processor_time;

/// Case and subject of ours.
pub(super) const IDLE: (&str, &str) = ("idle, 8 nodes", "rollcall, default");

const NODES: u8 = 8;

/// Measures this alone. `beside`: another build of the program, whose agents are every second node of the same clusters; so both are
/// measured at the same time, under the same noise.
pub fn run(quick: bool, beside: Option<&Path>, json: bool) -> Result<()> {
    let (rounds, time) = if quick { (1, Duration::from_secs(10)) } else { (3, Duration::from_secs(30)) };
    let progress = Progress::new();
    let mut findings = Findings::default();
    for round in 1..=rounds {
        progress.step(format!("round {round} of {rounds}: eight nodes at rest"));
        measure(beside, time, &mut findings)?;
    }
    drop(progress);
    publish("idle", &findings.rows(), json)
}

/// The share of a processor that the agents of a cluster use over `time`, in percent of one: user and system time of the agent's
/// process, not of its proxy.
pub(super) fn measure(beside: Option<&Path>, time: Duration, findings: &mut Findings) -> Result<()> {
    let mut cluster = Cluster::raise(&Plan::nodes(NODES))?;
    if let Some(program) = beside {
        cluster.nodes.iter_mut().skip(1).step_by(2).for_each(|node| node.program = program.to_path_buf());
    }
    cluster.start_agents()?;
    cluster.settle()?;
    // What a start costs is over by then.
    thread::sleep(Duration::from_secs(3));
    let agents = cluster.nodes.iter().filter_map(|node| {
        Some((beside.is_some_and(|program| node.program == program), node.agent.as_ref()?.pid()))
    });
    let (others, ours): (Vec<_>, Vec<_>) = agents.partition(|(other, _)| *other);
    let used = |agents: &[(bool, u32)]| -> Result<Vec<Duration>> {
        let times = agents.iter().map(|(_, pid)| processor_time(*pid).context("an agent has ended"));
        times.collect()
    };
    let before = (used(&ours)?, used(&others)?);
    thread::sleep(time);
    let after = (used(&ours)?, used(&others)?);
    findings.add(IDLE.0, IDLE.1, shares(&before.0, &after.0, time));
    if beside.is_some() {
        findings.add(IDLE.0, "beside it, the other build", shares(&before.1, &after.1, time));
    }
    gone_without_a_trace(cluster)
}

fn shares(before: &[Duration], after: &[Duration], time: Duration) -> Finding {
    let share = |(before, after): (&Duration, &Duration)| {
        100.0 * after.saturating_sub(*before).as_secs_f64() / time.as_secs_f64()
    };
    let shares: Vec<_> = before.iter().zip(after).map(share).collect();
    let largest = shares.iter().copied().fold(0.0, f64::max);
    vec![
        ("processor of an agent, median", "%", median(&shares)),
        ("processor of an agent, maximum", "%", largest),
    ]
}
