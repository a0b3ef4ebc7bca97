//! `rollcall leave`: takes this node out of its cluster. The others are told first; then the agent hands over and ends; and only then
//! is what the cluster kept on this host removed.
//!
//! With `--json` one object on one line: `change` (a [`Removed`], or null where nothing was left to change), `cleared` and `left`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::ask::{patiently, unexpected};
use super::config::{Change, course};
use super::confirm::Consent;
use super::output;
use crate::config::{self, LocalFile};
use crate::control::api::{Answer, Configure, Removed, Request};
use crate::control::client;
use crate::shared::origin::{Local, NODE_FILE};
use crate::shared::store::Store;
use crate::shared::token::Tokens;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The cluster has forgotten this node already: only clear this host
    #[arg(long)]
    forgotten: bool,
    /// This node's file
    #[arg(long, value_name = "FILE", default_value = NODE_FILE)]
    node_file: PathBuf,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    consent: Consent,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Args { forgotten, node_file, change: Change { comment, json }, consent } = args;
    ensure!(
        rustix::process::geteuid().is_root(),
        "this removes root's files and needs to be root; hint: sudo rollcall leave"
    );
    let node = config::local_file(&node_file)?;
    let agent = pid(&node.run_dir);
    let change = if forgotten {
        ensure!(agent.is_none(), "the agent runs; hint: stop it first, or leave --forgotten out");
        consent.ask("What this node has of its cluster's configuration is removed")?;
        None
    } else if is_out(&node_file) {
        None
    } else {
        ensure!(
            agent.is_some(),
            "no agent runs on this host, so the other nodes cannot be told; hint: start it, or `rollcall remove {}` on another node and then here `rollcall leave --forgotten`",
            node.name
        );
        consent.ask(&format!("{} leaves its cluster, and its agent ends", node.name))?;
        ask(&node, &node_file, comment)?
    };
    if let (Some(change), false) = (&change, json) {
        print(change.clone());
    }
    if let Some(pid) = agent {
        if !json {
            output::line("  the agent hands its share over, and lets its connections end ..");
        }
        wait_for_end(pid)?;
    }
    let cleared = clear(&node.state_dir)?;
    report(change.as_ref(), &cleared, &left(&node, &node_file), json)
}

/// The process of the agent that runs.
fn pid(run_dir: &Path) -> Option<u32> {
    match client::ask(run_dir, &Request::Status) {
        Ok(Answer::Status(status)) => Some(status.pid),
        Ok(_) | Err(_) => None,
    }
}

/// Waits until the agent has ended. A `/proc` entry would last until its parent has asked how.
fn wait_for_end(pid: u32) -> anyhow::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        opened => opened.context("cannot watch the agent")?,
    };
    loop {
        // Readable: it has ended (pidfd_open(2)).
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], None) {
            Err(Errno::INTR) => {}
            polled => return polled.map(drop).context("cannot wait for the agent"),
        }
    }
}

/// Whether this host knows that its cluster goes on without it.
fn is_out(node_file: &Path) -> bool {
    Local::open(node_file).is_ok_and(|local| local.removal().is_some())
}

/// Has the agent tell the others. `None`: it ended before it could say what came of it, and has left the cluster.
fn ask(node: &LocalFile, node_file: &Path, comment: String) -> anyhow::Result<Option<Removed>> {
    match patiently(&node.run_dir, &Request::Configuration(Configure::Leave { comment })) {
        Ok(Answer::Removed(removed)) => Ok(Some(*removed)),
        Ok(answer) => Err(unexpected(answer)),
        Err(_) if is_out(node_file) => Ok(None),
        Err(error) => Err(error),
    }
}

fn print(change: Removed) {
    let Removed { node, applied, .. } = change;
    let id: String = applied.generation.chars().take(12).collect();
    output::line(&format!("{node} is no node of the cluster any more: generation {id} is in force"));
    course(&applied).iter().for_each(|line| output::line(line));
}

/// Removes what `init` or `join` put into the state folder. First out of its place whole, so that nothing takes a part of it for all.
fn clear(state_dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut cleared = Vec::new();
    for folder in [Store::folder(state_dir), Tokens::folder(state_dir)] {
        let gone = folder.with_extension("gone");
        if folder.exists() {
            fs::rename(&folder, &gone).with_context(|| format!("cannot remove {}", folder.display()))?;
            cleared.push(folder);
        }
        if gone.exists() {
            fs::remove_dir_all(&gone).with_context(|| format!("cannot remove {}", gone.display()))?;
        }
    }
    Ok(cleared)
}

/// This node's files that stay.
fn left(node: &LocalFile, node_file: &Path) -> Vec<PathBuf> {
    let of_state = fs::read_dir(&node.state_dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut left: Vec<PathBuf> =
        [node_file.to_owned(), node.key_file.clone()].into_iter().chain(of_state).collect();
    left.retain(|path| path.exists());
    left.sort();
    left
}

fn report(change: Option<&Removed>, cleared: &[PathBuf], left: &[PathBuf], json: bool) -> anyhow::Result<()> {
    if json {
        let whole = serde_json::json!({ "change": change, "cleared": cleared, "left": left });
        output::line(&whole.to_string());
        return Ok(());
    }
    if cleared.is_empty() && left.is_empty() {
        bail!("nothing of a cluster is on this host");
    }
    for path in cleared {
        output::line(&format!("removed {}", path.display()));
    }
    for path in left {
        output::line(&format!("left {}", path.display()));
    }
    output::line(
        "next: to join a cluster with this host again, move this node's file and its keys away first",
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_nobody_has_asked_how_it_ended_has_ended_all_the_same() {
        let mut agent = std::process::Command::new("true").spawn().unwrap();
        wait_for_end(agent.id()).unwrap();
        assert!(Path::new("/proc").join(agent.id().to_string()).exists());
        assert!(agent.wait().unwrap().success());
        wait_for_end(agent.id()).unwrap();
    }

    #[test]
    fn the_configuration_and_tokens_go_and_what_else_is_in_the_folder_stays() {
        let dir = std::env::temp_dir().join(format!("rollcall-leave-{}", std::process::id()));
        let state_dir = dir.join("state");
        for folder in [Store::folder(&state_dir), Tokens::folder(&state_dir)] {
            fs::create_dir_all(folder.join("within")).unwrap();
        }
        let (key_file, node_file) = (dir.join("node.key"), dir.join("node.toml"));
        let events = state_dir.join("events.jsonl");
        for file in [&key_file, &node_file, &events] {
            fs::write(file, "x").unwrap();
        }
        let node = LocalFile {
            name: "arr1".to_owned(),
            key_file: key_file.clone(),
            run_dir: dir.clone(),
            state_dir: state_dir.clone(),
        };
        assert_eq!(clear(&state_dir).unwrap(), [Store::folder(&state_dir), Tokens::folder(&state_dir)]);
        assert_eq!(left(&node, &node_file), [key_file, node_file, events]);
        assert_eq!(clear(&state_dir).unwrap(), [] as [PathBuf; 0], "again changes nothing");
        fs::remove_dir_all(&dir).unwrap();
    }
}
