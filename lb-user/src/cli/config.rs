//! `rollcall config`: the configuration that the nodes share, its generations, and changes of it.
//!
//! With `--json` one object on one line: [`Shown`], [`Applied`], and of `log` a list of [`GenerationEntry`]. Export and import work
//! without an agent, on this host's own store.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::Place;
use super::ask::{patiently, unexpected};
use super::output::{self, Column, Table};
use crate::config;
use crate::control::api::{
    Answer, Applied, Canary, Configure, GenerationEntry, Request, Shown, TRIAL, WATCH,
};
use crate::shared::draft::MADE_FROM;

mod diff;
mod edit;
mod portable;

/// What was typed.
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print the configuration that this node works with, or another generation of it
    Show {
        /// The generation's name, or how it begins [default: the one at work]
        generation: Option<String>,
        /// One JSON object on one line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// List the generations, the newest first: who made them, when, why, and what became of them
    Log {
        /// Only the latest N [default: all that are known]
        #[arg(long, value_name = "N")]
        last: Option<usize>,
        /// One JSON list on one line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Change the configuration in $VISUAL or $EDITOR, and apply it
    Edit {
        #[command(flatten)]
        tried: Tried,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        place: Place,
    },
    /// Check a file and make it the configuration of all nodes
    ///
    /// The files that it names (certificates, keys, passwords) are read on this node and become part of the configuration, sealed to the
    /// nodes. What it holds already is not read again, unless --reread says so.
    ///
    /// Where nodes need not have what changes in common, one of them, the canary, tries it first: it asks itself for every certificate, health
    /// path and server, before and after, and its clients must fare as well as the others'. If not, it goes back, and nothing is changed.
    Apply {
        /// The file; `rollcall config show` prints one to begin with
        file: PathBuf,
        /// Say what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Read again from this node's disk what the configuration holds already
        #[arg(long)]
        reread: bool,
        /// Have this node alone work with it until `rollcall config confirm`; without that it goes back after so long: 60s, 5m, at most 1h
        #[arg(long, value_name = "TIME", value_parser = trial_time, conflicts_with = "dry_run")]
        confirm_within: Option<Duration>,
        /// The generation that it was made from [default: as its first line says, or the one at work]
        #[arg(long, value_name = "GENERATION")]
        parent: Option<String>,
        #[command(flatten)]
        tried: Tried,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        place: Place,
    },
    /// Have all nodes work with what --confirm-within has put on trial on this one
    Confirm {
        /// One JSON object on one line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show what differs between two generations, or between one and the one at work
    Diff {
        /// The older one's name, or how it begins
        from: String,
        /// The newer one's [default: the one at work]
        to: Option<String>,
        /// One JSON object on one line: both names, and what differs by lines
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Make an older generation's content the configuration again; the nodes stay those of now
    Rollback {
        /// Its name, or how it begins
        generation: String,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        place: Place,
    },
    /// Write the configuration that is in force, with all keys and passwords, to one file under a passphrase
    ///
    /// Also while no agent runs. No node's private keys are in it: whoever imports it makes new ones.
    Export(portable::Export),
    /// Restore a cluster from an exported file on this host, which has nothing yet, as its first node
    ///
    /// The cluster is the one that it was, with its cluster secret; this host takes the place of one of its nodes, with new keys, and the
    /// others join anew.
    Import(Box<portable::Import>),
    /// Change the cluster secret on all nodes at once; no connection ends by it
    ///
    /// Heartbeats are sealed with another key from then on. Which node a client goes to does not change, and cookies of server affinity stay
    /// good. TLS connections go on; a session that a client wants to take up again makes one full handshake.
    RotateSecret {
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        place: Place,
    },
}

/// How a change is tried on one node before the others work with it.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Tried {
    /// How long the clients of the node that tries it first are watched: from 1s to 10min
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = watch_time)]
    canary: Duration,
    /// Have all nodes work with it at once: what closes something on purpose does not do well where it is tried
    #[arg(long, conflicts_with = "canary")]
    no_canary: bool,
}

impl Tried {
    /// For who waits at a terminal.
    pub(super) fn announce(self) {
        if !self.no_canary && std::io::stderr().is_terminal() {
            output::remark(&format!("one node may try it first, and be watched for {:?} ..", self.canary));
        }
    }

    pub(super) fn seconds(self) -> Option<u64> {
        (!self.no_canary).then_some(self.canary.as_secs())
    }
}

fn watch_time(text: &str) -> Result<Duration, String> {
    let time = config::length_of_time(text).filter(|time| WATCH.contains(time));
    time.ok_or_else(|| "a length of time from 1s to 10min, as 10s or 5min".to_owned())
}

/// What goes with every change.
#[derive(Debug, clap::Args)]
pub(super) struct Change {
    /// Why, for the log
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    pub(super) comment: String,
    /// One JSON object on one line
    #[arg(long)]
    pub(super) json: bool,
}

fn trial_time(text: &str) -> Result<Duration, String> {
    let time = config::length_of_time(text).filter(|time| TRIAL.contains(time));
    time.ok_or_else(|| "a length of time from 5s to 1h, as 60s or 5min".to_owned())
}

pub(super) fn run(config: Config) -> anyhow::Result<()> {
    match config {
        Config::Show { generation, json, place } => show(&place.run_dir, generation, json),
        Config::Log { last, json, place } => log(&place.run_dir, last, json),
        Config::Edit { tried, change, place } => edit::run(&place.run_dir, tried, change),
        Config::Apply { file, dry_run, reread, confirm_within, parent, tried, change, place } => {
            let path = std::path::absolute(&file).context("cannot tell the current folder")?;
            let confirm_within = confirm_within.map(|time| time.as_secs());
            let comment = change.comment;
            let canary = tried.seconds();
            let wanted = Configure::Apply { path, comment, parent, dry_run, reread, confirm_within, canary };
            if !dry_run && confirm_within.is_none() {
                tried.announce();
            }
            print(applied(&place.run_dir, wanted)?, change.json)
        }
        Config::Confirm { json, place } => print(applied(&place.run_dir, Configure::Confirm)?, json),
        Config::Diff { from, to, json, place } => diff::run(&place.run_dir, from, to, json),
        Config::Rollback { generation, change, place } => {
            let wanted = Configure::RollBack { generation, comment: change.comment };
            print(applied(&place.run_dir, wanted)?, change.json)
        }
        Config::Export(args) => portable::export(&args),
        Config::Import(args) => portable::import(&args),
        Config::RotateSecret { change, place } => {
            let wanted = Configure::RotateSecret { comment: change.comment };
            print(applied(&place.run_dir, wanted)?, change.json)
        }
    }
}

fn shown(run_dir: &Path, generation: Option<String>) -> anyhow::Result<Shown> {
    let answer = patiently(run_dir, &Request::Configuration(Configure::Show { generation }))?;
    let Answer::Shown(shown) = answer else { return Err(unexpected(answer)) };
    Ok(*shown)
}

fn applied(run_dir: &Path, wanted: Configure) -> anyhow::Result<Applied> {
    let answer = patiently(run_dir, &Request::Configuration(wanted))?;
    let Answer::Applied(applied) = answer else { return Err(unexpected(answer)) };
    Ok(*applied)
}

fn show(run_dir: &Path, generation: Option<String>, json: bool) -> anyhow::Result<()> {
    let shown = shown(run_dir, generation)?;
    if json {
        output::line(&serde_json::to_string(&shown)?);
        return Ok(());
    }
    for line in about(&shown) {
        output::line(&line);
    }
    output::line(shown.text.trim_end());
    Ok(())
}

/// What stands above the text: comments, which are left out again when it is applied.
fn about(shown: &Shown) -> Vec<String> {
    let entry = &shown.entry;
    let mut lines = vec![format!("{MADE_FROM}{}", entry.id)];
    lines.push(format!(
        "#: number {} by {}, {}: {}",
        entry.height,
        entry.author,
        entry.time.local(),
        entry.comment
    ));
    for file in &shown.files {
        lines.push(format!("#: holds {} ({})", file.path, output::size(file.bytes as u64)));
        if let Some(certificate) = &file.certificate {
            let end = certificate.not_after.map_or("?".to_owned(), |end| end.local());
            lines.push(format!("#:   for {}, until {end}", certificate.names.join(", ")));
            lines.push(format!("#:   {}", certificate.fingerprint));
        }
    }
    lines
}

fn log(run_dir: &Path, last: Option<usize>, json: bool) -> anyhow::Result<()> {
    let answer = patiently(run_dir, &Request::Configuration(Configure::Log))?;
    let Answer::Generations { mut generations } = answer else { return Err(unexpected(answer)) };
    generations.truncate(last.unwrap_or(usize::MAX));
    if json {
        output::line(&serde_json::to_string(&generations)?);
        return Ok(());
    }
    let columns = [
        Column::number("no"),
        Column::text("generation", 12),
        Column::text("", 10),
        Column::text("by", 10),
        Column::text("when", 16),
        Column::text("comment", 18),
    ];
    let mut table = Table::new(&columns);
    for entry in &generations {
        table.row(row(entry));
    }
    table.print();
    Ok(())
}

fn row(entry: &GenerationEntry) -> Vec<String> {
    let standing = if entry.at_work { "at work" } else { &entry.standing };
    let when: String = entry.time.local().chars().take(16).collect();
    let id: String = entry.id.chars().take(12).collect();
    vec![entry.height.to_string(), id, standing.to_owned(), entry.author.clone(), when, entry.comment.clone()]
}

fn print(applied: Applied, json: bool) -> anyhow::Result<()> {
    if json {
        output::line(&serde_json::to_string(&applied)?);
        return Ok(());
    }
    told(&applied).iter().for_each(|line| output::line(line));
    Ok(())
}

/// What became of a change, in words.
pub(super) fn told(applied: &Applied) -> Vec<String> {
    let Applied { generation, changed, dry_run, confirm_within, .. } = applied;
    let changed = if changed.is_empty() { "nothing that is served".to_owned() } else { changed.join(", ") };
    let id: String = generation.chars().take(12).collect();
    let mut lines = match confirm_within {
        _ if *dry_run => {
            vec![format!("it is sound; it would change: {changed}; generation {id} stays in force")]
        }
        Some(seconds) => vec![
            format!("generation {id} is on trial on this node alone; changed: {changed}"),
            format!("  in {seconds} s it goes back, unless: rollcall config confirm"),
        ],
        None => vec![format!("generation {id} is in force; changed: {changed}")],
    };
    lines.extend(course(applied));
    lines
}

/// Who works with a change, who does not yet, and what to know of it.
pub(super) fn course(applied: &Applied) -> Vec<String> {
    let Applied { warnings, kept, on, unreached, renewed, restart, .. } = applied;
    let Applied { dry_run, confirm_within, canary, .. } = applied;
    let mut lines = Vec::new();
    if let Some(Canary { node, asked, remarks, clients }) = canary {
        lines.push(format!("  tried on {node} first: {asked} things looked at; {clients}"));
        lines.extend(remarks.iter().map(|remark| format!("  not well there, nor before: {remark}")));
    }
    let what = if *dry_run || confirm_within.is_some() { "sound on" } else { "at work on" };
    if !on.is_empty() {
        lines.push(format!("  {what}: {}", on.join(", ")));
    }
    if !unreached.is_empty() {
        lines.push(format!("  not reached, and follow once they are: {}", unreached.join(", ")));
    }
    if !renewed.is_empty() {
        let what = renewed.join(", ");
        lines.push(format!(
            "  each agent begins anew with other {what}: connections go on, new ones wait for a moment"
        ));
    }
    if !restart.is_empty() {
        let what = restart.join(", ");
        lines.push(format!(
            "  each node takes up {what} when its agent is started anew: rollcall rolling-restart"
        ));
    }
    let kept = kept.iter().map(|path| {
        format!("not read again: {path}, whose content on this disk is another; --reread takes it")
    });
    let warnings = warnings.iter().map(|warning| format!("warning: {warning}"));
    lines.into_iter().chain(kept).chain(warnings).collect()
}

/// The editor that the user wants.
fn editor() -> anyhow::Result<String> {
    let named = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|it| !it.is_empty()));
    if let Some(named) = named {
        return Ok(named);
    }
    let found =
        ["/usr/bin/editor", "/usr/bin/nano", "/usr/bin/vi"].into_iter().find(|path| Path::new(path).exists());
    match found {
        Some(path) => Ok(path.to_owned()),
        None => bail!("no editor was found; hint: EDITOR=nano rollcall config edit"),
    }
}
