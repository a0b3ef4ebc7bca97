//! The agent. A placeholder until its parts are there.

use crate::config::model::Config;

/// Runs until it is told to stop.
pub fn run(_config: Config) -> anyhow::Result<()> {
    anyhow::bail!("the agent is not part of this build")
}
