//! What is wrong with a configuration, with its place in a file, and how that is shown.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// One thing that is wrong. `check.rs` and `parse.rs` make these; the file's name and text are added by `Source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Bytes of the text that it is about; empty: the whole file.
    span: Range<usize>,
    text: String,
    hint: Option<String>,
}

impl Problem {
    /// About a place in the file.
    pub(crate) fn at(span: Range<usize>, text: impl Into<String>) -> Self {
        Self { span, text: text.into(), hint: None }
    }

    /// About the file as a whole.
    pub(crate) fn of_file(text: impl Into<String>) -> Self {
        Self::at(0..0, text)
    }

    /// Where it is in the file, for an order.
    pub(crate) fn place(&self) -> (usize, usize) {
        (self.span.start, self.span.end)
    }

    /// What an error says, and its hint if it has one.
    pub(crate) fn of_error(span: Range<usize>, error: impl fmt::Display) -> Self {
        let error = error.to_string();
        let (text, hint) = split_hint(&error);
        Self { span, text: text.to_owned(), hint: hint.map(str::to_owned) }
    }

    /// Adds what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An error's text without its hint, and the hint: what follows `; hint: `.
pub(crate) fn split_hint(error: &str) -> (&str, Option<&str>) {
    error.split_once("; hint: ").map_or((error, None), |(text, hint)| (text, Some(hint)))
}

/// An error and its causes as one text, without what stands in the text already.
pub(crate) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.fold(String::new(), |text, cause| {
        let next = cause.to_string();
        match text.as_str() {
            "" => next,
            told if told.contains(&next) => text,
            told => format!("{told}: {next}"),
        }
    })
}

/// A file and its text, to show problems in.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
}

impl Source<'_> {
    /// The problem as the operator sees it.
    pub(crate) fn locate(&self, problem: Problem) -> ConfigError {
        ConfigError {
            path: self.path.to_owned(),
            place: self.place(&problem.span),
            text: printable(&problem.text),
            hint: problem.hint.map(|hint| printable(&hint)),
        }
    }

    /// All of them.
    pub(crate) fn errors(&self, problems: Vec<Problem>) -> ConfigErrors {
        ConfigErrors(problems.into_iter().map(|problem| self.locate(problem)).collect())
    }

    fn place(&self, span: &Range<usize>) -> Option<Place> {
        if span.is_empty() && span.start == 0 {
            return None;
        }
        let before = self.text.get(..span.start)?;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[start..].lines().next().unwrap_or_default();
        let column = before[start..].chars().count();
        let covered = self.text.get(span.clone()).and_then(|text| text.lines().next());
        Some(Place {
            line: before.matches('\n').count() + 1,
            column: column + 1,
            width: covered.map_or(1, |text| text.chars().count().max(1)),
            text: line.to_owned(),
        })
    }
}

/// Everything that is wrong with a configuration, at least one thing. Nothing was changed.
#[derive(Debug, Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Where in it, if it is about a place.
    pub place: Option<Place>,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub hint: Option<String>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// How many characters of the line are meant, at least 1.
    pub width: usize,
    /// The line.
    pub text: String,
}

impl fmt::Display for ConfigError {
    /// `FILE:LINE:COLUMN: TEXT`, the line with a caret under it, `hint: ..`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", printable(&self.path.to_string_lossy()))?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}: {}\n{place}", place.line, place.column, self.text)?;
        } else {
            write!(f, ": {}", self.text)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// The longest piece of a line that is shown, characters.
const SHOWN: usize = 100;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A long line is cut so that the place stays in view.
        let from = (self.column - 1).saturating_sub(SHOWN / 2);
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        let line: String = self.text.chars().skip(from).take(SHOWN).map(shown).collect();
        let number = self.line.to_string();
        let indent = " ".repeat(self.column - 1 - from);
        let carets = "^".repeat(self.width.min(SHOWN.saturating_sub(indent.len())).max(1));
        writeln!(f, "  {number} | {}", line.trim_end())?;
        write!(f, "  {:w$} | {indent}{carets}", "", w = number.len())
    }
}

/// A file's text must not steer the operator's terminal.
fn printable(text: &str) -> String {
    let visible = |c: char| c == '\n' || !c.is_control();
    text.chars().map(|c| if visible(c) { c } else { ' ' }).collect()
}
