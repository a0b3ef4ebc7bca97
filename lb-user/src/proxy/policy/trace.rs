//! What a policy looked at on its way to a decision, for `rollcall explain`: told by the very code that decides, which tells nobody
//! when it serves. Pure.

use serde::Serialize;

use crate::proxy::rewrite::apply::{Outcome, Tried, Variables, Verdict};
use crate::proxy::rewrite::rule::RuleSet;

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The site's networks.
    Networks {
        /// Whether they let the client in.
        allowed: bool,
    },
    /// Whether the site is closed.
    Maintenance {
        /// Whether it is, for this client.
        closed: bool,
    },
    /// The path's normal form, by which all else is matched.
    Path {
        /// It.
        normal: String,
    },
    /// Known attacks.
    Mitigations {
        /// Whether the site looks for them.
        on: bool,
    },
    /// A rule of URL Rewrite.
    Rule(Tried),
    /// A route.
    Route {
        /// Its index.
        index: usize,
        /// What it is for, in words.
        name: String,
        /// Why it is not for the request; `None`: it is.
        miss: Option<Miss>,
    },
}

/// Why a route is not for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Another path.
    Path,
    /// Another method.
    Method,
    /// Another host.
    Host,
    /// A client in none of its networks.
    Network,
    /// A header field that is not what it has to be.
    Header {
        /// Its name.
        name: String,
    },
}

/// Takes what is looked at.
pub(super) trait Trace {
    /// Something was looked at.
    fn step(&mut self, step: impl FnOnce() -> Step);

    /// Applies rules to a request.
    fn rules(&mut self, rules: &RuleSet, request: &dyn Variables) -> Outcome;
}

/// Nobody wants to know.
pub(super) struct Untold;

impl Trace for Untold {
    fn step(&mut self, _: impl FnOnce() -> Step) {}

    fn rules(&mut self, rules: &RuleSet, request: &dyn Variables) -> Outcome {
        rules.apply(request)
    }
}

impl Trace for Vec<Step> {
    fn step(&mut self, step: impl FnOnce() -> Step) {
        self.push(step());
    }

    fn rules(&mut self, rules: &RuleSet, request: &dyn Variables) -> Outcome {
        let (outcome, tried) = rules.explain(request);
        self.extend(tried.into_iter().map(Step::Rule));
        outcome
    }
}

/// A step as an operator reads it: what was looked at, what came of it, and whether it decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `networks`, `maintenance`, `path`, `mitigations`, `rule NAME` or `route N`.
    pub what: String,
    /// What came of it.
    pub result: String,
}

impl Step {
    /// It in words.
    pub fn line(&self) -> Line {
        let (what, result) = match self {
            Self::Networks { allowed: true } => ("networks".to_owned(), "let the client in".to_owned()),
            Self::Networks { allowed: false } => {
                ("networks".to_owned(), "do not let the client in".to_owned())
            }
            Self::Maintenance { closed: true } => ("maintenance".to_owned(), "the site is closed".to_owned()),
            Self::Maintenance { closed: false } => ("maintenance".to_owned(), "the site is open".to_owned()),
            Self::Path { normal } => ("path".to_owned(), format!("is matched as {normal}")),
            Self::Mitigations { on: true } => {
                ("mitigations".to_owned(), "looked for known attacks".to_owned())
            }
            Self::Mitigations { on: false } => ("mitigations".to_owned(), "are off".to_owned()),
            Self::Rule(Tried { rule, verdict }) => (format!("rule {rule}"), verdict_words(verdict)),
            Self::Route { index, name, miss } => {
                let result = miss.as_ref().map_or_else(|| "matches".to_owned(), Miss::words);
                (format!("route {}: {name}", index + 1), result)
            }
        };
        Line { what, result }
    }
}

impl Miss {
    fn words(&self) -> String {
        match self {
            Self::Path => "is for another path".to_owned(),
            Self::Method => "is for other methods".to_owned(),
            Self::Host => "is for other hosts".to_owned(),
            Self::Network => "is for clients in other networks".to_owned(),
            Self::Header { name } => format!("needs another value of the header field {name}"),
        }
    }
}

fn verdict_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Disabled => "is switched off".to_owned(),
        Verdict::PathDiffers { input } => format!("does not match the path \"{input}\""),
        Verdict::ConditionFails { condition, input } => {
            format!("its condition {} does not hold of \"{input}\"", condition + 1)
        }
        Verdict::Performed { target } => format!("was performed; the URL behind it is {target}"),
        Verdict::Refused(refusal) => format!("could not be applied: {refusal}"),
    }
}
