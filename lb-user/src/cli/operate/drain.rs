//! `rollcall drain`, which can wait until nothing is left on the node.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use super::look::{self, Left};
use super::{OfRule, ask, show};
use crate::cli::output;
use crate::clock::Time;
use crate::config;
use crate::control::api::Action;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    of: OfRule,
    /// Wait until the node has no share and no connection left
    #[arg(long, conflicts_with = "rule")]
    wait: bool,
    /// With --wait: for how long at most, as 90s or 10min; then the exit status is 1
    #[arg(long, value_name = "TIME", default_value = "10min", requires = "wait", value_parser = length)]
    timeout: Duration,
}

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(250);

/// How long nothing must be left: connections are counted once a second.
const STAYS: Duration = Duration::from_millis(2200);

pub(super) fn length(text: &str) -> Result<Duration, String> {
    config::length_of_time(text).ok_or_else(|| "no length of time, as 90s or 10min".to_owned())
}

pub(in crate::cli) fn run(run_dir: &Path, args: Args) -> anyhow::Result<()> {
    let Args { of: OfRule { which, rule, form }, wait, timeout } = args;
    let nodes = ask(run_dir, Action::Drain, which.nodes(), rule)?;
    show(&nodes, form)?;
    if !wait {
        return Ok(());
    }
    let until = Time::now() + timeout;
    for node in &nodes {
        let left = outlast(run_dir, &node.node, until)?;
        if !left.is_nothing() {
            return Err(anyhow::anyhow!(
                "{} still {} after {timeout:?}; it goes on draining; hint: `rollcall stop {0}` ends them",
                node.node,
                left.words()
            ));
        }
        if form.json {
            output::line(&json!({ "node": node.node, "drained": true }).to_string());
        } else {
            output::line(&format!("{} is drained", node.node));
        }
    }
    Ok(())
}

/// Waits until nothing is left on the node, and gives what is left then.
pub(super) fn outlast(run_dir: &Path, name: &str, until: Time) -> anyhow::Result<Left> {
    let mut progress = Progress::default();
    let mut nothing_since: Option<Time> = None;
    loop {
        let status = look::status(run_dir)?;
        let left = Left::on(&status, look::node(&status, name)?);
        let now = Time::now();
        progress.show(&format!("{name} {}", left.words()));
        if !left.is_nothing() {
            nothing_since = None;
        } else if now.since(*nothing_since.get_or_insert(now)) >= STAYS {
            return Ok(left);
        }
        if now >= until {
            return Ok(left);
        }
        sleep(EVERY);
    }
}

/// A line that changes, on a terminal; nothing elsewhere. It is gone when this is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    shown: bool,
}

impl Progress {
    pub(super) fn show(&mut self, text: &str) {
        let mut stderr = std::io::stderr();
        if stderr.is_terminal() {
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            // Who has closed it wants no progress.
            let _ = write!(stderr, "\r\x1b[K{text}");
            self.shown = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
