//! `rollcall rolling-restart`: each node's agent in turn, while the others serve. It is this command that goes on, not an agent, so
//! that it outlives the restart of its own node's, which comes last.
//!
//! ```text
//! drain -> its share is elsewhere, its connections have ended -> restart -> it serves -> resume -> it has its share -> the next
//! ```
//!
//! With `--json` each step is an object of `node` and `step`: `draining`, `restarting`, `resuming`, `done` or `skipped`.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::drain::{Progress, length, outlast};
use super::{Form, ask, look};
use crate::cli::output;
use crate::clock::Time;
use crate::control::api::{Action, NodeStatus, Nodes, Status};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// How long a node's connections may go on before its agent is restarted all the same, as 90s or 10min
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = length)]
    drain_timeout: Duration,
    #[command(flatten)]
    form: Form,
}

/// How long an agent may take to end, beside what its connections take, and to serve again.
const RESTART: Duration = Duration::from_secs(180);

/// How long a node may take to have its share again.
const SHARE: Duration = Duration::from_secs(60);

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(200);

/// How long all must look well before the next node has its turn.
const STAYS: Duration = Duration::from_secs(1);

pub(in crate::cli) fn run(run_dir: &Path, args: &Args) -> anyhow::Result<()> {
    let status = look::status(run_dir)?;
    let turns = turns(&status).map_err(anyhow::Error::msg)?;
    let roll = Roll { run_dir, args };
    let mut restarted = 0;
    for turn in &turns {
        let name = turn.name();
        match turn {
            Turn::Skip { state, .. } => {
                roll.say(name, "skipped", &format!("is {state} by its operator and left as it is"))?;
            }
            Turn::Restart { .. } => {
                roll.restart(turn).with_context(|| {
                    format!("stopped at {name}; hint: the nodes after it were not touched; once it is well, `rollcall resume {name}` gives it its share, and this command begins again")
                })?;
                restarted += 1;
            }
        }
    }
    if !args.form.json {
        output::line(&format!("{restarted} of {} agents restarted", turns.len()));
    }
    Ok(())
}

/// What is done with a node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Turn {
    Restart {
        name: String,
        /// It takes a share; one that drains goes on draining.
        serves: bool,
        ready: bool,
    },
    Skip {
        name: String,
        state: String,
    },
}

impl Turn {
    fn name(&self) -> &str {
        match self {
            Self::Restart { name, .. } | Self::Skip { name, .. } => name,
        }
    }
}

/// Whose turn it is when: this node is the last. An error is a sentence, and nothing was done.
fn turns(status: &Status) -> Result<Vec<Turn>, String> {
    let (own, others): (Vec<_>, Vec<_>) = status.nodes.iter().partition(|node| node.name == status.node);
    let mut turns = Vec::new();
    for node in others.into_iter().chain(own) {
        turns.push(match node.state.as_str() {
            "stopped" | "suspended" => Turn::Skip { name: node.name.clone(), state: node.state.clone() },
            "serving" | "stands by" | "draining" => Turn::Restart {
                name: node.name.clone(),
                serves: node.intent == "started",
                ready: node.ready,
            },
            other => {
                return Err(format!(
                    "{} is {other}: while its agent were restarted, no node must be missing; hint: bring it back, or stop it by `rollcall stop {0}`",
                    node.name
                ));
            }
        });
    }
    let serving = status.nodes.iter().filter(|node| node.state == "serving" && node.ready).count();
    if serving < 2 {
        return Err(
            "fewer than two nodes serve: nobody could take the share of the one whose agent is restarted; hint: `rollcall status`"
                .to_owned(),
        );
    }
    Ok(turns)
}

struct Roll<'a> {
    run_dir: &'a Path,
    args: &'a Args,
}

impl Roll<'_> {
    fn say(&self, node: &str, step: &str, text: &str) -> anyhow::Result<()> {
        if self.args.form.json {
            output::line(&serde_json::to_string(&json!({ "node": node, "step": step }))?);
        } else {
            output::line(&format!("{node} {text}"));
        }
        Ok(())
    }

    fn restart(&self, turn: &Turn) -> anyhow::Result<()> {
        let Turn::Restart { name, serves, ready } = turn else { return Ok(()) };
        self.say(name, "draining", "drains")?;
        self.order(name, Action::Drain)?;
        let left = outlast(self.run_dir, name, Time::now() + self.args.drain_timeout)?;
        if left.share > 0 {
            bail!("{name} {}: no other node takes them", left.words());
        }
        let before = self.node(name)?.incarnation;
        self.say(name, "restarting", "restarts its agent")?;
        self.order(name, Action::Restart)?;
        let again = |node: &NodeStatus, _: &Status| {
            node.incarnation.is_some()
                && node.incarnation != before
                && ["serving", "stands by", "draining"].contains(&node.state.as_str())
        };
        self.wait(name, RESTART, Duration::ZERO, "serves again", again)?;
        if *serves {
            self.resume(name, *ready)?;
        }
        self.say(name, "done", "is done")
    }

    fn resume(&self, name: &str, ready: bool) -> anyhow::Result<()> {
        self.say(name, "resuming", "takes its share")?;
        self.order(name, Action::Resume)?;
        let is_back = |node: &NodeStatus, _: &Status| node.intent == "started";
        self.wait(name, SHARE, Duration::ZERO, "is told that it is resumed", is_back)?;
        // Its restart is no reason to have its clients wait as if it had failed.
        if self.node(name)?.stands_by {
            self.order(name, Action::Failback)?;
        }
        let well = |node: &NodeStatus, status: &Status| {
            status.converged && node.state == "serving" && (node.ready || !ready)
        };
        self.wait(name, SHARE, STAYS, "has its share", well)
    }

    fn order(&self, name: &str, action: Action) -> anyhow::Result<()> {
        for answer in ask(self.run_dir, action, Nodes::Named(name.to_owned()), None)? {
            if !answer.done {
                bail!("{} did not: {}", answer.node, answer.text);
            }
        }
        Ok(())
    }

    fn node(&self, name: &str) -> anyhow::Result<NodeStatus> {
        let status = look::status(self.run_dir)?;
        look::node(&status, name).cloned()
    }

    /// Waits until it is so for `stays`. That no agent answers is part of a restart of this node's.
    fn wait(
        &self,
        name: &str,
        patience: Duration,
        stays: Duration,
        what: &str,
        is_so: impl Fn(&NodeStatus, &Status) -> bool,
    ) -> anyhow::Result<()> {
        let begin = Time::now();
        let mut progress = Progress::default();
        let mut since: Option<Time> = None;
        loop {
            let looked = look::status(self.run_dir);
            let now = Time::now();
            let seen = match &looked {
                Ok(status) => look::node(status, name).map(|node| is_so(node, status))?,
                Err(_) => false,
            };
            since = seen.then(|| since.unwrap_or(now));
            if since.is_some_and(|since| now.since(since) >= stays) {
                return Ok(());
            }
            if now.since(begin) >= patience {
                looked.with_context(|| format!("waiting until {name} {what}"))?;
                bail!("{name} has not come to this in {patience:?}: it {what}");
            }
            progress.show(&format!("waiting until {name} {what}, {} s", now.since(begin).as_secs()));
            sleep(EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(nodes: &[(&str, &str, bool)]) -> Status {
        let node = |(name, state, ready): &(&str, &str, bool)| NodeStatus {
            name: (*name).to_owned(),
            state: (*state).to_owned(),
            intent: if *state == "draining" { "draining" } else { "started" }.to_owned(),
            ready: *ready,
            ..NodeStatus::default()
        };
        Status { node: "arr1".to_owned(), nodes: nodes.iter().map(node).collect(), ..Status::default() }
    }

    #[test]
    fn this_node_is_the_last_and_who_is_stopped_is_left_alone() {
        let nodes = [
            ("arr1", "serving", true),
            ("arr2", "stopped", true),
            ("arr3", "draining", true),
            ("arr4", "serving", false),
            ("arr5", "serving", true),
        ];
        let turns = turns(&status(&nodes)).unwrap();
        let restart = |name: &str, serves, ready| Turn::Restart { name: name.to_owned(), serves, ready };
        let expected = [
            Turn::Skip { name: "arr2".to_owned(), state: "stopped".to_owned() },
            restart("arr3", false, true),
            restart("arr4", true, false),
            restart("arr5", true, true),
            restart("arr1", true, true),
        ];
        assert_eq!(turns, expected);
    }

    #[test]
    fn nothing_is_begun_that_would_leave_clients_without_a_node() {
        for (nodes, expected) in [
            (&[("arr1", "serving", true)][..], "fewer than two"),
            (&[("arr1", "serving", true), ("arr2", "serving", false)], "fewer than two"),
            (&[("arr1", "serving", true), ("arr2", "draining", true)], "fewer than two"),
            (&[("arr1", "serving", true), ("arr2", "serving", true), ("arr3", "dead", true)], "arr3 is dead"),
        ] {
            let refused = turns(&status(nodes)).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
