//! `rollcall schema`: the JSON Schema of a configuration file, for editors.

use anyhow::Context as _;

use super::output;
use crate::config;

pub(super) fn run(node: bool) -> anyhow::Result<()> {
    let schema = if node { config::node_schema() } else { config::cluster_schema() };
    output::line(&serde_json::to_string_pretty(&schema).context("the schema cannot be printed")?);
    Ok(())
}
