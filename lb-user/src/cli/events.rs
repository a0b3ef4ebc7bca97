//! `rollcall events` and `rollcall history`: what happened on this node, from its agent, or from the file where none runs.
//!
//! With `--json` each event is one object on one line, with the fields of [`EventRecord`]: `seq`, `time` (RFC 3339 in UTC),
//! `monotonic_ms`, `node`, `kind`, `warning`, `about`, `text`, `count`, `missed`, `details`. `history --json` has `epoch`, `time`,
//! `duration_ms`, `nodes`, `moved` and `causes` (sentences). Later versions may add fields; they rename and remove none.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use self::filter::Filter;
use super::ask::unexpected;
use super::output::{self, grouped};
use crate::agent::events as log;
use crate::config;
use crate::control::api::{Answer, EventRecord, Request};
use crate::control::client::{self, AskError};
use crate::wall::WallTime;

mod filter;
pub(super) mod history;

/// How many events are shown before those that are followed.
const BEFORE_FOLLOWED: usize = 10;

/// Where text begins, after time and mark.
const INDENT: usize = 22;

/// How wide a terminal is.
pub(super) const WIDTH: usize = 80;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on with events as they come, until interrupted
    #[arg(long)]
    follow: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Only the latest N [default: all that the agent keeps, 1000; with --follow 10]
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Only those since then: how long ago (as 90s, 10min, 2h), this host's time (as "2026-11-24 13:31"), or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// Only what could wake someone
    #[arg(long)]
    warnings: bool,
    /// Only what is about this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    left: Left,
}

/// Where an agent leaves its events.
#[derive(Debug, clap::Args)]
pub(super) struct Left {
    /// The agent's state folder, whose file is read where no agent runs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/rollcall")]
    state_dir: PathBuf,
}

/// The earliest time that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// So long ago.
    Ago(std::time::Duration),
    /// Then.
    At(WallTime),
}

fn since(text: &str) -> Result<Since, String> {
    let ago = config::length_of_time(text).map(Since::Ago);
    ago.or_else(|| WallTime::read(text).map(Since::At)).ok_or_else(|| {
        "neither a length of time, as 90s, 10min or 2h, nor a time, as \"2026-11-24 13:31\"".to_owned()
    })
}

pub(super) fn run(run_dir: &Path, args: Args) -> anyhow::Result<()> {
    let since = args.since.map(|since| match since {
        Since::Ago(length) => WallTime::now().before(length),
        Since::At(time) => time,
    });
    let filter = Filter { since, warnings: args.warnings, node: args.node };
    let last = args.last.or(args.follow.then_some(BEFORE_FOLLOWED));
    if args.follow {
        return follow(run_dir, &filter, last.unwrap_or(usize::MAX), args.json);
    }
    let records = records(run_dir, &args.left)?;
    show(&filter.last(records, last.unwrap_or(usize::MAX)), args.json)
}

/// What the agent keeps, or has left.
fn records(run_dir: &Path, left: &Left) -> anyhow::Result<Vec<EventRecord>> {
    let answer = match client::ask(run_dir, &Request::Events { follow: false }) {
        Err(error @ AskError::NoAgent { .. }) => return read(error, &left.state_dir),
        answer => answer?,
    };
    let Answer::Events { records } = answer else {
        return Err(unexpected(answer));
    };
    Ok(records)
}

fn read(no_agent: AskError, state_dir: &Path) -> anyhow::Result<Vec<EventRecord>> {
    let path = log::path(state_dir);
    match log::read(state_dir) {
        Ok(records) => {
            output::remark(&format!("no agent is running; this is what it left in {}", path.display()));
            Ok(records)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(no_agent.into()),
        Err(error) => Err(error).with_context(|| {
            format!("no agent is running, and {} cannot be read; hint: ask as root", path.display())
        }),
    }
}

fn follow(run_dir: &Path, filter: &Filter, mut last: usize, json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut shown = Ok(());
    let mut see = |answer: Answer| {
        let now = if let Answer::Events { records } = answer {
            show(&filter.last(records, last), json)
        } else {
            Err(unexpected(answer))
        };
        // The first answer holds what was there; of the others all is new.
        last = usize::MAX;
        shown = std::mem::replace(&mut shown, Ok(())).and(now);
    };
    let mut interrupted = false;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let enough = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            interrupted = true;
        };
        anyhow::Ok(client::follow(run_dir, &Request::Events { follow: true }, enough, &mut see).await?)
    })?;
    shown?;
    anyhow::ensure!(interrupted, "the agent has ended; hint: once it is started again, ask again");
    Ok(())
}

fn show(records: &[EventRecord], json: bool) -> anyhow::Result<()> {
    for record in records {
        if json {
            output::line(&serde_json::to_string(record).context("an event cannot be printed")?);
            continue;
        }
        if record.missed > 0 {
            output::remark(&format!(
                "{} events before the next are missing from the file",
                grouped(record.missed)
            ));
        }
        let mut lines = wrapped(&record.sentence(), WIDTH - INDENT).into_iter();
        let mark = if record.warning { "!" } else { " " };
        output::marked(&record.time.local(), mark, &lines.next().unwrap_or_default());
        lines.for_each(|line| output::line(&format!("{:INDENT$}{line}", "")));
    }
    Ok(())
}

/// `text` in lines of at most `width` characters, broken at spaces where there are some.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for word in text.split(char::is_whitespace).filter(|word| !word.is_empty()) {
        let chars: Vec<char> = word.chars().collect();
        for piece in chars.chunks(width.max(1)) {
            let space = usize::from(length > 0);
            if length + space + piece.len() > width {
                lines.push(String::new());
                length = 0;
            }
            if let Some(line) = lines.last_mut() {
                if length > 0 {
                    line.push(' ');
                    length += 1;
                }
                line.extend(piece);
                length += piece.len();
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sentence_is_wrapped_at_spaces_and_nothing_of_it_is_lost() {
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("äöü-äöü-ä b", 4), ["äöü-", "äöü-", "ä b"]);
        assert_eq!(wrapped("", 4), [""]);
    }

    #[test]
    fn a_time_is_how_long_ago_or_when() {
        assert_eq!(since("10min"), Ok(Since::Ago(Duration::from_secs(600))));
        assert_eq!(since("90s"), Ok(Since::Ago(Duration::from_secs(90))));
        let noon = "2026-11-24T12:00:00Z".parse().unwrap();
        assert_eq!(since("2026-11-24T12:00:00Z"), Ok(Since::At(noon)));
        assert!(since("yesterday").is_err());
    }
}
