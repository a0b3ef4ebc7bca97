//! The only printing: data to standard output, errors and hints to standard error, colours only on a terminal whose user wants
//! them.

use std::ffi::OsString;
use std::io::{self, Write as _};

use serde_json::json;

use crate::config::{ConfigError, ConfigErrors, split_hint};
use crate::preflight::PreflightErrors;
use crate::shared::origin::LoadError;
use crate::telemetry::colours;

/// Prints a line of data. Bytes that would steer a terminal are left out.
pub(crate) fn line(text: &str) {
    let text: String = text.chars().filter(|&c| c == '\n' || !c.is_control()).collect();
    // The reader may be gone (`rollcall status | head`): then there is nobody to tell.
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints what this program made for others to read, byte for byte.
pub(super) fn verbatim(bytes: &[u8]) {
    let _ = io::stdout().write_all(bytes);
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
    if colours(&io::stdout()) {
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(io::stdout(), "\x1b[{style}m{text}\x1b[0m");
    } else {
        line(text);
    }
}

/// Prints a line of data with a mark between its parts that must catch the eye.
pub(super) fn marked(before: &str, mark: &str, after: &str) {
    if !colours(&io::stdout()) {
        line(format!("{before} {mark} {after}").trim_end());
        return;
    }
    let plain = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).collect() };
    let _ = writeln!(io::stdout(), "{} \x1b[1;31m{mark}\x1b[0m {}", plain(before), plain(after));
}

/// Prints what went wrong, once, and what to do about it.
pub(super) fn error(error: &anyhow::Error) {
    let text = if let Some(ConfigErrors(errors)) = config_errors(error) {
        errors.iter().map(|error| format!("error: {error}\n")).collect()
    } else if let Some(PreflightErrors(errors)) = error.downcast_ref() {
        errors.iter().map(|error| one_error(&[error.to_string()])).collect()
    } else {
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        one_error(&causes)
    };
    let text = without_numbers(&text);
    let mut stderr = io::stderr();
    if colours(&stderr) {
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

/// Whether the command line asks for JSON, whatever else is wrong with it.
pub(super) fn json_asked(arguments: impl IntoIterator<Item = OsString>) -> bool {
    arguments.into_iter().take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// Prints what went wrong as JSON: an object of `error` and `hint` a line; one of a configuration has `file`, and `line` and
/// `column` if it is about a place.
pub(super) fn error_as_json(error: &anyhow::Error) {
    for object in json_errors(error) {
        let _ = writeln!(io::stderr(), "{object}");
    }
}

/// Prints what is wrong with the command line as JSON: what clap says first, and the rest as the hint.
pub(super) fn usage_as_json(text: &str) {
    let (what, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let what = what.strip_prefix("error: ").unwrap_or(what).trim();
    let _ = writeln!(io::stderr(), "{}", json!({ "error": what, "hint": rest.trim() }));
}

fn json_errors(error: &anyhow::Error) -> Vec<serde_json::Value> {
    if let Some(ConfigErrors(errors)) = config_errors(error) {
        let object = |error: &ConfigError| {
            let (line, column) = error.place.as_ref().map(|place| (place.line, place.column)).unzip();
            json!({ "error": without_numbers(&error.text), "hint": error.hint, "file": error.path, "line": line, "column": column })
        };
        return errors.iter().map(object).collect();
    }
    let causes: Vec<Vec<String>> = match error.downcast_ref() {
        Some(PreflightErrors(errors)) => errors.iter().map(|error| vec![error.to_string()]).collect(),
        None => vec![error.chain().map(ToString::to_string).collect()],
    };
    let object = |causes: &Vec<String>| {
        let parts: Vec<(&str, Option<&str>)> = causes.iter().map(|cause| split_hint(cause)).collect();
        let what: Vec<&str> = parts.iter().map(|(what, _)| *what).collect();
        let hints: Vec<&str> = parts.iter().filter_map(|(_, hint)| *hint).collect();
        let hint = (!hints.is_empty()).then(|| hints.join("; "));
        json!({ "error": without_numbers(&what.join(": ")), "hint": hint })
    };
    causes.iter().map(object).collect()
}

/// What is wrong with a configuration, wherever that was read from.
fn config_errors(error: &anyhow::Error) -> Option<&ConfigErrors> {
    error.downcast_ref().or_else(|| match error.downcast_ref()? {
        LoadError::Config(errors) => Some(errors),
        LoadError::Store(_)
        | LoadError::Keys { .. }
        | LoadError::Exposed { .. }
        | LoadError::Sealed { .. }
        | LoadError::OtherKeys { .. }
        | LoadError::Absent(_)
        | LoadError::Removed { .. }
        | LoadError::Nothing => None,
    })
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
        let widths = self.widths();
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        std::iter::once(&titles).chain(&self.rows).map(|row| self.format(row, &widths)).collect()
    }

    /// Those of the columns' longest cells, less what must be taken from the widest texts for a row to fit a terminal.
    fn widths(&self) -> Vec<usize> {
        let title = |index: usize| self.columns[index].title.chars().count();
        let cell = |index: usize| self.rows.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
        let mut widths: Vec<usize> =
            (0..self.columns.len()).map(|index| cell(index).max(title(index))).collect();
        while widths.iter().sum::<usize>() + 2 * widths.len() > TERMINAL {
            let texts = (0..widths.len()).filter(|&index| !self.columns[index].number);
            let narrower = texts.filter(|&index| widths[index] > title(index).max(LEAST));
            let Some(widest) = narrower.max_by_key(|&index| widths[index]) else { break };
            widths[widest] -= 1;
        }
        widths
    }

    fn format(&self, row: &[String], widths: &[usize]) -> String {
        let cells = row.iter().zip(&self.columns).zip(widths).map(|((cell, column), &width)| {
            let cell = pinched(cell, width);
            if column.number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let cells: Vec<String> = cells.collect();
        format!("  {}", cells.join("  ")).trim_end().to_owned()
    }
}

/// Columns of a terminal.
const TERMINAL: usize = 80;

/// A text is cut to no less than this for its table to fit.
const LEAST: usize = 6;

/// At most `width` characters of `text`, its beginning and its end: of an address, the network and the port.
fn pinched(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let end = kept / 2;
    text.chars().take(kept - end).chain(['…']).chain(text.chars().skip(length - end)).collect()
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
    use proptest::prelude::*;

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
        assert_eq!(table.lines()[1..], ["  arr1    2048", "  a-lo…      0"]);
    }

    #[test]
    fn an_error_is_json_if_it_was_asked_for() {
        let asked = |words: &[&str]| json_asked(words.iter().map(OsString::from));
        assert!(asked(&["rollcall", "status", "--json"]) && !asked(&["rollcall", "explain", "--", "--json"]));
        let error = anyhow::anyhow!("no route; hint: add one").context("cannot start");
        assert_eq!(json_errors(&error), [json!({ "error": "cannot start: no route", "hint": "add one" })]);
        assert_eq!(json_errors(&anyhow::anyhow!("x")), [json!({ "error": "x", "hint": null })]);
        let errors = crate::config::load(std::path::Path::new("/nonexistent/c.toml"), None).unwrap_err();
        let object = &json_errors(&errors.into())[0];
        assert_eq!(object["error"], "cannot be read: No such file or directory");
        assert_eq!((&object["file"], &object["line"]), (&json!("/nonexistent/c.toml"), &json!(null)));
    }

    proptest! {
        #[test]
        fn a_table_of_any_texts_fits_a_terminal(rows in proptest::collection::vec(proptest::collection::vec("\\PC{0,60}", 5), 0..5)) {
            let limits = [("client", 47), ("service", 47), ("state", 11), ("here", 9), ("holder", 14)];
            let mut table = Table::new(&limits.map(|(title, limit)| Column::text(title, limit)));
            rows.into_iter().for_each(|row| table.row(row));
            for line in table.lines() {
                prop_assert!(line.chars().count() <= TERMINAL, "{}", line);
            }
        }

        #[test]
        fn a_pinched_text_keeps_its_ends(text in "[a-z]{0,40}", width in 1..30_usize) {
            let pinched = pinched(&text, width);
            prop_assert!(pinched.chars().count() <= width);
            match pinched.split_once('…') {
                Some((begin, end)) => prop_assert!(text.starts_with(begin) && text.ends_with(end)),
                None => prop_assert_eq!(pinched, text),
            }
        }
    }
}
