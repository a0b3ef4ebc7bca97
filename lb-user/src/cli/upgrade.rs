//! `rollcall upgrade`: asks the agent to let another program take its place, and waits until that one answers.
//! With `--json` an object of `pid`, `program` and `silent_ms`, for how long no heartbeat was sent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::output;
use crate::agent::upgrade::FORMAT;
use crate::clock::Time;
use crate::control::api::{Answer, Request, Status, UpgradeStatus};
use crate::control::client;
use crate::dataplane::{self, Plan};
use crate::shared::origin::Origin;

pub(super) fn run(run_dir: &Path, binary: Option<PathBuf>, json: bool) -> anyhow::Result<()> {
    let binary = binary.map(std::path::absolute).transpose().context("cannot tell the current folder")?;
    let before = status(run_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut refused = None;
    let request = Request::Upgrade { binary };
    let asked = runtime.block_on(client::follow(run_dir, &request, std::future::pending(), |answer| {
        refused.get_or_insert(answer);
    }));
    if let Some(answer) = refused {
        return Err(super::ask::unexpected(answer));
    }
    // An agent that goes on as another program cuts the connection off, in whatever way.
    let upgrade = successor(run_dir, &before).with_context(|| match asked {
        Ok(()) => "the agent ended the conversation".to_owned(),
        Err(error) => error.to_string(),
    })?;
    match upgrade.failed {
        None if json => {
            let done =
                json!({ "pid": before.pid, "program": upgrade.program, "silent_ms": upgrade.silent_ms });
            output::line(&done.to_string());
            Ok(())
        }
        None => {
            output::line(&format!(
                "upgraded: process {} runs {}; it sent no heartbeat for {} ms, and nothing moved",
                before.pid, upgrade.program, upgrade.silent_ms
            ));
            Ok(())
        }
        Some(why) => bail!("{why}"),
    }
}

/// What an agent asks of the program that is to take its place. Changes nothing.
pub(super) fn check(origin: Option<&Origin>) -> anyhow::Result<()> {
    output::line(&FORMAT.to_string());
    let Some(origin) = origin else { return Ok(()) };
    let config = origin.load()?;
    let secret = config.secret()?;
    let plan = Plan::new(&config, secret.hash_seed());
    Ok(dataplane::verify(&plan, &config.local.interface, config.local.beneath())?)
}

/// What the next program says of the upgrade that it came by.
fn successor(run_dir: &Path, before: &Status) -> anyhow::Result<UpgradeStatus> {
    let count = |upgrade: &UpgradeStatus| upgrade.count;
    let deadline = Time::now() + PATIENCE;
    loop {
        let after = status(run_dir);
        let upgrade = after.as_ref().ok().and_then(|after| after.upgrade.clone());
        match upgrade {
            Some(upgrade) if upgrade.count > before.upgrade.as_ref().map_or(0, count) => return Ok(upgrade),
            Some(_) | None if Time::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Some(_) | None => {
                after.context("no program answers in the agent's place; hint: look at its log")?;
                bail!("the agent was not upgraded; hint: look at its log");
            }
        }
    }
}

fn status(run_dir: &Path) -> anyhow::Result<Status> {
    let answer = client::ask(run_dir, &Request::Status)?;
    let Answer::Status(status) = answer else {
        return Err(super::ask::unexpected(answer));
    };
    Ok(*status)
}

/// How long the next program may take to answer: one that starts as after a kill looks at its network first.
const PATIENCE: Duration = Duration::from_secs(10);
