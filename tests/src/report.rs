//! What the lab's programs print: results on standard output, progress on standard error.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Prints one line on standard output.
#[expect(clippy::print_stdout, reason = "the one place where results are printed")]
pub fn line(text: impl Display) {
    println!("{text}");
}

/// What is under way: a spinner or a bar on a terminal, otherwise plain lines.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows nothing yet.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Shows how much of so many steps is done.
    pub fn of(steps: usize) -> Self {
        let bar = ProgressBar::new(steps.try_into().unwrap_or(u64::MAX));
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed:>4} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// One of the steps is done.
    pub fn advance(&self) {
        self.0.inc(1);
    }

    /// Says what is being done now.
    pub fn step(&self, text: impl Display) {
        if self.0.is_hidden() {
            eprintln!("{text}");
        } else {
            self.0.set_message(text.to_string());
        }
    }

    /// A result on standard output, above the spinner.
    pub fn say(&self, text: impl Display) {
        self.0.suspend(|| line(text));
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Rows under headings, columns as wide as they have to be; numbers, and what begins with a digit, to the right.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..headings.len()).map(width).collect();
    let format_row = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| {
            if cell.starts_with(|first: char| first.is_ascii_digit()) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![format_row(headings.to_vec())];
    lines.extend(rows.iter().map(|row| format_row(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// `text`, green on a terminal.
pub fn good(text: &str) -> String {
    coloured(text, "32")
}

/// `text`, red on a terminal.
pub fn bad(text: &str) -> String {
    coloured(text, "31")
}

fn coloured(text: &str, colour: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\u{1b}[{colour}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// Milliseconds, with one decimal below ten.
pub fn millis(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let rows = [vec!["arr1".to_owned(), "7".to_owned()], vec!["a".to_owned(), "1234".to_owned()]];
        assert_eq!(table(&["node", "requests"], &rows), "node  requests\narr1         7\na         1234");
    }
}
