//! `rollcall load`: the XDP program alone on an interface, for who works on the data path. No agent, no cluster: it observes,
//! or with `--enforce` acts as a node that owns everything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use lb_common::table::{BucketState, BucketTable};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::output;
use crate::clock::Time;
use crate::config;
use crate::control::api::Count;
use crate::dataplane::{Counters, Dataplane, Plan, pins_of};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The interface.
    interface: String,
    /// The cluster file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which node to be; the first, if none is named.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Drop and answer as on a live node; without it everything passes.
    #[arg(long)]
    enforce: bool,
}

/// Runs until ctrl-C or SIGTERM, and takes the program away again.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = config::load_for(&args.config, args.node.as_deref())?;
    let mut plan = Plan::new(&config, [0; 2]);
    plan.config.observe = u8::from(!args.enforce);
    // Not the agent's folder: what it has attached must not be replaced by this.
    let pins = pins_of(&args.interface)?;
    let pins = suffixed(&pins);
    let mut dataplane = Dataplane::attach(&plan, &args.interface, config.local.xdp, &pins)?;
    let watched = own_everything(&mut dataplane, plan.tables.len()).and_then(|()| watch(&dataplane));
    let detached = dataplane.detach().context("could not take the program away again");
    watched.and(detached)
}

fn suffixed(pins: &Path) -> PathBuf {
    let mut name = pins.as_os_str().to_owned();
    name.push("-load");
    name.into()
}

fn own_everything(dataplane: &mut Dataplane, tables: usize) -> anyhow::Result<()> {
    let (mut owner_tables, mut lease) = dataplane.writers();
    owner_tables.apply(&vec![BucketTable::filled(BucketState::Mine); tables])?;
    lease.renew(Time::from_nanos(u64::MAX))?;
    Ok(())
}

fn watch(dataplane: &Dataplane) -> anyhow::Result<()> {
    let status = dataplane.status();
    let why = status.why.map(|why| format!(" ({why})")).unwrap_or_default();
    output::line(&format!("attached to {}, {} XDP{why}", status.name, status.xdp));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(print_until_stopped(&dataplane.counters()))
}

async fn print_until_stopped(counters: &Counters) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = second.tick() => print(counters)?,
        }
    }
}

fn print(counters: &Counters) -> anyhow::Result<()> {
    output::line(&format!("\n{:<24} {:>14} {:>18}", "reason", "packets", "bytes"));
    for (reason, Count { packets, bytes }) in counters.read()? {
        if packets > 0 {
            output::line(&format!("{reason:<24} {packets:>14} {bytes:>18}"));
        }
    }
    Ok(())
}
