//! `rollcall reload`: asks the agent to read its configuration again.
//!
//! With `--json` one object, with the fields of [`Reloaded`]: `hash`, `changed` (words), `warnings` (sentences).

use std::path::Path;

use anyhow::{Context as _, bail};

use super::ask::unexpected;
use super::output;
use crate::control::api::{Answer, Reloaded, Request};
use crate::control::client;

pub(super) fn run(run_dir: &Path, replace_worker: bool, json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut answers = Vec::new();
    let request = Request::Reload { replace_worker };
    runtime
        .block_on(client::follow(run_dir, &request, std::future::pending(), |answer| answers.push(answer)))?;
    match answers.pop() {
        Some(Answer::Reloaded(reloaded)) if json => {
            output::line(&serde_json::to_string(&reloaded).context("the answer cannot be printed")?);
        }
        Some(Answer::Reloaded(reloaded)) => show(&reloaded),
        Some(answer) => return Err(unexpected(answer)),
        None => bail!("the agent gave no answer; hint: look at its log"),
    }
    Ok(())
}

fn show(reloaded: &Reloaded) {
    let Reloaded { hash, changed, warnings } = reloaded;
    let changed = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
    output::line(&format!("applied: configuration {hash}; changed: {changed}"));
    for warning in warnings {
        output::line(&format!("warning: {warning}"));
    }
}
