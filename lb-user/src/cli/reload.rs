//! `rollcall reload`: asks the agent to read its configuration again.
//!
//! With `--json` one object, with the fields of [`Reloaded`]: `hash`, `changed` (words), `warnings` (sentences), `waits_for` (names of
//! nodes, or null where the configuration is in force).

use std::path::Path;

use anyhow::Context as _;

use super::ask::{patiently, unexpected};
use super::output;
use crate::control::api::{Answer, Reloaded, Request};

pub(super) fn run(run_dir: &Path, replace_worker: bool, json: bool) -> anyhow::Result<()> {
    let answer = patiently(run_dir, &Request::Reload { replace_worker })?;
    let Answer::Reloaded(reloaded) = answer else { return Err(unexpected(answer)) };
    if json {
        output::line(&serde_json::to_string(&reloaded).context("the answer cannot be printed")?);
    } else {
        show(&reloaded);
    }
    Ok(())
}

/// For whom a configuration waits that is prepared.
pub(super) fn waits(nodes: &[String]) -> String {
    if nodes.is_empty() {
        "all are about to switch".to_owned()
    } else {
        format!("waits for {}", nodes.join(", "))
    }
}

fn show(reloaded: &Reloaded) {
    let Reloaded { hash, changed, warnings, waits_for } = reloaded;
    let changed = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
    match waits_for {
        None => output::line(&format!("applied: configuration {hash}; changed: {changed}")),
        Some(nodes) => {
            output::line(&format!("prepared: configuration {hash}; {}; changed: {changed}", waits(nodes)));
            output::line(
                "hint: change the file on those nodes, too, and reload there; the last one has all switch",
            );
        }
    }
    for warning in warnings {
        output::line(&format!("warning: {warning}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_prepared_names_for_whom_it_waits() {
        assert_eq!(waits(&["arr2".to_owned(), "arr3".to_owned()]), "waits for arr2, arr3");
        assert_eq!(waits(&[]), "all are about to switch");
    }
}
