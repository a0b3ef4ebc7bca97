//! Benches: ours and what it is compared with, alternating in one run, in the same lab. Each writes `target/bench/NAME.json`
//! and prints a table.

pub mod failover;
pub mod packet;
pub mod proxy;
pub mod reload;

use std::fs;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::node::workspace_root;
use crate::report::{line, table};

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// `packet`, `failover` (`idle` is a part of it), `proxy` or `reload`.
    pub bench: &'static str,
    /// What was done.
    pub case: String,
    /// Who did it.
    pub subject: String,
    /// What was measured.
    pub metric: String,
    /// Of `value`.
    pub unit: &'static str,
    /// The median of the runs, where `metric` names no other.
    pub value: f64,
    /// How many there were.
    pub runs: usize,
}

/// The middle one, or the mean of the two in the middle; 0 for none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (length, middle) if length % 2 == 1 => sorted[middle],
        (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Writes `target/bench/NAME.json` and prints the rows: as a table, or as that file has them.
pub fn publish(name: &str, rows: &[Row], json: bool) -> Result<()> {
    let text = store(name, rows)?;
    if json {
        line(text);
        return Ok(());
    }
    let cells: Vec<_> = rows.iter().map(cells).collect();
    line(table(&["case", "subject", "metric", "value", "unit", "runs"], &cells));
    Ok(())
}

/// Writes `target/bench/NAME.json`, and gives its text.
fn store(name: &str, rows: &[Row]) -> Result<String> {
    let folder = workspace_root().join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = folder.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(rows)?;
    fs::write(&file, format!("{text}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(text)
}

fn cells(row: &Row) -> Vec<String> {
    let value =
        if row.value.abs() < 100.0 { format!("{:.2}", row.value) } else { format!("{:.0}", row.value) };
    vec![
        row.case.clone(),
        row.subject.clone(),
        row.metric.clone(),
        value,
        row.unit.to_owned(),
        row.runs.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
