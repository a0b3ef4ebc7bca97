//! The only printing: data to standard output, errors and hints to standard error, colours only on a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use crate::config::{ConfigErrors, split_hint};
use crate::preflight::PreflightErrors;

/// Prints a line of data. Bytes that would steer a terminal are left out.
pub(crate) fn line(text: &str) {
    let text: String = text.chars().filter(|&c| c == '\n' || !c.is_control()).collect();
    // The reader may be gone (`rollcall status | head`): then there is nobody to tell.
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints a remark on the data to standard error, so that it is not taken for some of it.
pub(super) fn remark(text: &str) {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let _ = writeln!(io::stderr(), "{text}");
}

/// So many bytes, in at most seven characters.
pub(crate) fn size(bytes: u64) -> String {
    short(bytes, ["B", "KB", "MB", "GB", "TB", "PB", "EB"])
}

/// So many packets, in at most 13 characters.
pub(crate) fn count(packets: u64) -> String {
    if packets < 10_000_000_000 {
        grouped(packets)
    } else {
        short(packets, ["", "K", "M", "G", "T", "P", "E"])
    }
}

/// A count in at most seven characters.
pub(crate) fn brief(count: u64) -> String {
    if count < 1_000_000 { grouped(count) } else { short(count, ["", "K", "M", "G", "T", "P", "E"]) }
}

fn short(number: u64, units: [&str; 7]) -> String {
    let mut unit = 0;
    let mut tenths = u128::from(number) * 10;
    while tenths >= 10_000 {
        tenths /= 1000;
        unit += 1;
    }
    if unit == 0 || tenths >= 1000 {
        return format!("{} {}", tenths / 10, units[unit]);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, units[unit])
}

/// A count with its thousands grouped.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Prints a line that must catch the eye.
pub(crate) fn alarm(text: &str) {
    styled(text, "1;31");
}

/// Prints the heading of what follows.
pub(crate) fn heading(text: &str) {
    line("");
    styled(text, "1");
}

fn styled(text: &str, style: &str) {
    if io::stdout().is_terminal() {
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(io::stdout(), "\x1b[{style}m{text}\x1b[0m");
    } else {
        line(text);
    }
}

/// Prints a line of data with a mark between its parts that must catch the eye.
pub(super) fn marked(before: &str, mark: &str, after: &str) {
    if !io::stdout().is_terminal() {
        line(format!("{before} {mark} {after}").trim_end());
        return;
    }
    let plain = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).collect() };
    let _ = writeln!(io::stdout(), "{} \x1b[1;31m{mark}\x1b[0m {}", plain(before), plain(after));
}

/// Prints what went wrong, once, and what to do about it.
pub(super) fn error(error: &anyhow::Error) {
    let text = if let Some(ConfigErrors(errors)) = error.downcast_ref() {
        errors.iter().map(|error| format!("error: {error}\n")).collect()
    } else if let Some(PreflightErrors(errors)) = error.downcast_ref() {
        errors.iter().map(|error| one_error(&[error.to_string()])).collect()
    } else {
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        one_error(&causes)
    };
    let text = without_numbers(&text);
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        let coloured = |line: &str| match line.strip_prefix("error: ") {
            Some(rest) => format!("\x1b[1;31merror\x1b[0m: {rest}\n"),
            None => format!("{line}\n"),
        };
        let text: String = text.lines().map(coloured).collect();
        let _ = stderr.write_all(text.as_bytes());
    } else {
        let _ = stderr.write_all(text.as_bytes());
    }
}

/// `text` without the ` (os error N)` that the standard library adds to the system's words.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        plain.push_str(rest.strip_prefix(')').unwrap_or(rest));
    }
    plain
}

/// `error: WHAT: WHY`, then the hints of all causes, a line each.
fn one_error(causes: &[String]) -> String {
    let parts: Vec<(&str, Option<&str>)> = causes.iter().map(|cause| split_hint(cause)).collect();
    let what: Vec<&str> = parts.iter().map(|(what, _)| *what).collect();
    let hints: String =
        parts.iter().filter_map(|(_, hint)| *hint).map(|hint| format!("hint: {hint}\n")).collect();
    format!("error: {}\n{hints}", what.join(": "))
}

/// A table that fits a terminal as long as its columns' limits do.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// A column: its title, the longest cell that is shown whole, and whether it holds numbers, which stand to the right.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    limit: usize,
    number: bool,
}

impl Column {
    pub(crate) const fn text(title: &'static str, limit: usize) -> Self {
        Self { title, limit, number: false }
    }

    pub(crate) const fn number(title: &'static str) -> Self {
        Self { title, limit: 20, number: true }
    }
}

impl Table {
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let cut = |(cell, column): (String, &Column)| shorten(&cell, column.limit);
        self.rows.push(cells.into_iter().zip(&self.columns).map(cut).collect());
    }

    pub(crate) fn print(&self) {
        self.lines().iter().for_each(|text| line(text));
    }

    /// As it is printed.
    pub(crate) fn lines(&self) -> Vec<String> {
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        std::iter::once(&titles).chain(&self.rows).map(|row| self.format(row)).collect()
    }

    fn format(&self, row: &[String]) -> String {
        let cells = row.iter().zip(&self.columns).enumerate().map(|(index, (cell, column))| {
            let widest = self.rows.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
            let width = widest.max(column.title.chars().count());
            if column.number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let cells: Vec<String> = cells.collect();
        format!("  {}", cells.join("  ")).trim_end().to_owned()
    }
}

/// At most `limit` characters of `text`; the last is `…` where some are missing.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_causes_in_one_line_and_hints_below() {
        let causes = ["cannot start; hint: try again".to_owned(), "no route".to_owned()];
        assert_eq!(one_error(&causes), "error: cannot start: no route\nhint: try again\n");
    }

    #[test]
    fn the_systems_error_numbers_are_left_out() {
        let text = "error: /a: No such file or directory (os error 2)\nhint: b\nerror: c (os error 13): d\n";
        let plain = "error: /a: No such file or directory\nhint: b\nerror: c: d\n";
        assert_eq!(without_numbers(text), plain);
    }

    #[test]
    fn numbers_are_short_or_grouped() {
        let rows = [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (1_234_567, "1.2 MB"), (99_990, "99.9 KB")];
        for (bytes, text) in rows {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(123_456_789), "123 MB");
        assert_eq!(size(u64::MAX), "18.4 EB");
        assert_eq!([9_999_999_999, 10_000_000_000].map(count), ["9,999,999,999", "10.0 G"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_table_aligns_text_left_and_numbers_right_and_cuts_what_is_too_long() {
        let mut table = Table::new(&[Column::text("name", 5), Column::number("holds")]);
        table.row(vec!["arr1".into(), "2048".into()]);
        table.row(vec!["a-long-name".into(), "0".into()]);
        let lines: Vec<String> = table.rows.iter().map(|row| table.format(row)).collect();
        assert_eq!(lines, ["  arr1    2048", "  a-lo…      0"]);
    }
}
