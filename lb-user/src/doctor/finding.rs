//! What the doctor says: a line for each thing that was looked at, and for what is wrong its cause, its cure, and what to type.

use serde::Serialize;

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in a word or two: `gateway`, `heartbeats of arr2`.
    pub check: String,
    /// How it is.
    pub severity: Severity,
    /// The same in a few words; of what was not tested, why.
    pub what: String,
    /// Why it is so; empty where nothing is wrong.
    pub cause: String,
    /// What helps; empty where nothing is wrong.
    pub cure: String,
    /// What to type, each where it says; those of other products are other ways to the same end.
    pub lines: Vec<Line>,
}

/// A line to type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where: `here`, `pfSense`, `Cisco IOS`.
    pub place: String,
    /// The line.
    pub text: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Nobody looked, and the finding says why.
    NotTested,
    /// It may become a problem, or is one that cannot be seen from here.
    Warning,
    /// It does not work.
    Problem,
}

impl Severity {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotTested => "not tested",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl Finding {
    /// All is as it should be.
    pub(super) fn ok(check: impl Into<String>, what: impl Into<String>) -> Self {
        Self::bare(check, Severity::Ok, what)
    }

    /// Nobody looked, because of `why`.
    pub(super) fn not_tested(check: impl Into<String>, why: impl Into<String>) -> Self {
        Self::bare(check, Severity::NotTested, why)
    }

    /// It may not work; what helps is added by [`Finding::because`].
    pub(super) fn warning(check: impl Into<String>, what: impl Into<String>) -> Self {
        Self::bare(check, Severity::Warning, what)
    }

    /// It does not work; what helps is added by [`Finding::because`].
    pub(super) fn problem(check: impl Into<String>, what: impl Into<String>) -> Self {
        Self::bare(check, Severity::Problem, what)
    }

    /// Why it is so, and what helps.
    pub(super) fn because(mut self, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        (self.cause, self.cure) = (cause.into(), cure.into());
        self
    }

    /// What to type.
    pub(super) fn type_in(mut self, lines: impl IntoIterator<Item = Line>) -> Self {
        self.lines.extend(lines);
        self
    }

    fn bare(check: impl Into<String>, severity: Severity, what: impl Into<String>) -> Self {
        let (check, what) = (check.into(), what.into());
        Self { check, severity, what, cause: String::new(), cure: String::new(), lines: Vec::new() }
    }
}

/// A line to type at a place.
pub(super) fn line(place: impl Into<String>, text: impl Into<String>) -> Line {
    Line { place: place.into(), text: text.into() }
}
