//! `rollcall history`: when the nodes agreed on who owns what, how long that took, and what had made it necessary.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use super::super::output;
use super::{Left, WIDTH, records, wrapped};
use crate::control::api::EventRecord;
use crate::wall::WallTime;

/// Where the causes begin.
const INDENT: usize = 55;

/// A convergence.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Convergence {
    epoch: u64,
    time: WallTime,
    duration_ms: u64,
    nodes: u64,
    moved: u64,
    causes: Vec<String>,
}

pub(in crate::cli) fn run(run_dir: &Path, left: &Left, json: bool) -> anyhow::Result<()> {
    let records = records(run_dir, left)?;
    let history: Vec<Convergence> = records.iter().filter_map(convergence).collect();
    if json {
        for convergence in &history {
            output::line(&serde_json::to_string(convergence).context("a convergence cannot be printed")?);
        }
        return Ok(());
    }
    if history.is_empty() {
        output::line("no convergence is on record");
        return Ok(());
    }
    output::line(&row(["epoch", "when", "took ms", "nodes", "moved"], "because"));
    history.iter().for_each(print);
    Ok(())
}

/// `None` for any other event, and for one whose details are not those of a convergence.
fn convergence(record: &EventRecord) -> Option<Convergence> {
    let number = |field| record.details.get(field).and_then(Value::as_u64);
    let causes = record.details.get("causes").and_then(Value::as_array).into_iter().flatten();
    let (kind, time) = (record.kind == "converged", record.time);
    let causes = causes.filter_map(Value::as_str).map(str::to_owned).collect();
    kind.then_some(Convergence {
        epoch: number("epoch")?,
        time,
        duration_ms: number("duration_ms")?,
        nodes: number("nodes")?,
        moved: number("moved")?,
        causes,
    })
}

fn print(convergence: &Convergence) {
    let Convergence { epoch, time, duration_ms, nodes, moved, causes } = convergence;
    let mut lines = wrapped(&causes.join(", "), WIDTH - INDENT).into_iter();
    let numbers = [epoch, duration_ms, nodes, moved].map(u64::to_string);
    let [epoch, took, nodes, moved] = numbers.each_ref().map(String::as_str);
    output::line(&row([epoch, &time.local(), took, nodes, moved], &lines.next().unwrap_or_default()));
    lines.for_each(|line| output::line(&format!("{:INDENT$}{line}", "")));
}

fn row([epoch, when, took, nodes, moved]: [&str; 5], because: &str) -> String {
    format!("{epoch:>7}  {when:<19}  {took:>8}  {nodes:>5}  {moved:>6}  {because}").trim_end().to_owned()
}
