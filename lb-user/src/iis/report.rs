//! What became of every setting, as text of 80 columns and as JSON. Pure.

use serde_json::{Value, json};

use super::ledger::{Became, Finding};

/// The outcome of an import.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Of each file that was read: its name and its settings.
    pub files: Vec<(String, Vec<Finding>)>,
    /// What the operator should know besides.
    pub remarks: Vec<String>,
    /// Lines of the new configuration that are to be filled in, and with what.
    pub blanks: Vec<(usize, String)>,
}

impl Report {
    /// How many settings became that, by its name.
    pub fn count(&self, became: &str) -> usize {
        self.files
            .iter()
            .flat_map(|(_, findings)| findings)
            .filter(|finding| finding.became.as_str() == became)
            .count()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, findings) in &self.files {
            let count = |kind| findings.iter().filter(|finding| finding.became.as_str() == kind).count();
            let [refused, warned, mapped, unneeded] = KINDS.map(count);
            let sum = format!(
                "{name}: {refused} refused, {warned} warned about, {mapped} mapped, {unneeded} not needed"
            );
            fold(&mut out, "", &sum);
            for kind in KINDS {
                section(&mut out, kind, findings);
            }
            out.push('\n');
        }
        for (title, lines) in [("remarks", &self.remarks), ("to be filled in", &self.blanks_as_text())] {
            if !lines.is_empty() {
                out.push_str(&format!("{title}\n"));
                lines.iter().for_each(|line| fold(&mut out, "  - ", line));
                out.push('\n');
            }
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let finding = |file: &str, Finding { line, path, became }: &Finding| json!({ "file": file, "line": line, "setting": path, "became": became.as_str(), "what": became.words() });
        let settings =
            self.files.iter().flat_map(|(name, findings)| findings.iter().map(move |one| finding(name, one)));
        let blanks = self.blanks.iter().map(|(line, what)| json!({ "line": line, "what": what }));
        json!({
            "settings": settings.collect::<Vec<_>>(),
            "remarks": self.remarks,
            "to_fill_in": blanks.collect::<Vec<_>>(),
            "refused": self.count("refused"),
            "warned": self.count("warned"),
            "mapped": self.count("mapped"),
            "unneeded": self.count("unneeded"),
        })
    }

    fn blanks_as_text(&self) -> Vec<String> {
        self.blanks.iter().map(|(line, what)| format!("line {line} of the configuration: {what}")).collect()
    }
}

/// The worst first.
const KINDS: [&str; 4] = ["refused", "warned", "mapped", "unneeded"];

fn section(out: &mut String, kind: &str, findings: &[Finding]) {
    let mut its = findings.iter().filter(|finding| finding.became.as_str() == kind).peekable();
    if its.peek().is_none() {
        return;
    }
    let title = match kind {
        "unneeded" => "not needed",
        "warned" => "warned about",
        kind => kind,
    };
    out.push_str(&format!("\n{title}\n"));
    let mut run: Vec<&Finding> = Vec::new();
    for finding in its {
        if run.last().is_some_and(|last| last.became != finding.became) {
            tell(out, &run);
            run.clear();
        }
        run.push(finding);
    }
    tell(out, &run);
}

/// Settings in a row of which the same is to be said: the first, how many more, and to which line.
fn tell(out: &mut String, run: &[&Finding]) {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return };
    let lines = match (first.line, last.line) {
        (0, _) => "  ".to_owned(),
        (from, to) if from == to => format!("  line {from}  "),
        (from, to) => format!("  lines {from}-{to}  "),
    };
    let more = if run.len() > 1 { format!(" and {} more", run.len() - 1) } else { String::new() };
    let between = match first.became {
        Became::Mapped { .. } => " -> ",
        Became::Warned { .. } | Became::Refused { .. } | Became::Unneeded { .. } => ": ",
    };
    fold(out, &lines, &format!("{}{more}{between}{}", first.path, first.became.words()));
}

/// Adds a sentence in lines of 80 columns, the later ones indented.
fn fold(out: &mut String, before: &str, sentence: &str) {
    let indent = if before.is_empty() { 0 } else { 4 };
    let mut line = before.to_owned();
    let mut empty = true;
    for word in sentence.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

const WIDTH: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_in_a_row_is_told_once_and_nothing_is_left_out() {
        let finding = |line, path: &str, became| Finding { line, path: path.to_owned(), became };
        let findings = vec![
            finding(1, "a", Became::unneeded("u")),
            finding(2, "a@x", Became::mapped("to")),
            finding(3, "a/b", Became::unneeded("u")),
            finding(
                4,
                "a/c",
                Became::refused(
                    "a reason that is so long that it does not fit in a line of eighty columns at all",
                ),
            ),
            finding(5, "a/d", Became::warned("w")),
            finding(5, "a/d@e", Became::warned("w")),
        ];
        let report = Report {
            files: vec![("f.config".to_owned(), findings)],
            remarks: vec!["r".to_owned()],
            blanks: vec![(3, "an address".to_owned())],
        };
        let text = report.text();
        assert_eq!(
            text,
            "f.config: 1 refused, 2 warned about, 1 mapped, 2 not needed\n\nrefused\n  line 4  a/c: a reason that is so long that it does not fit in a line of eighty\n    columns at all\n\
             \nwarned about\n  line 5  a/d and 1 more: w\n\nmapped\n  line 2  a@x -> to\n\nnot needed\n  lines 1-3  a and 1 more: u\n\n\
             remarks\n  - r\n\nto be filled in\n  - line 3 of the configuration: an address\n\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
        assert_eq!(report.json()["settings"].as_array().map(Vec::len), Some(6));
    }
}
