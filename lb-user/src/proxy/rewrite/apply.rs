//! A request through the rules. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use thiserror::Error;

use super::super::path::{Ambiguous, NormalPath};
use super::pattern::Captures;
use super::rule::{Rule, RuleSet};
use super::template::Template;
use super::url::{Farm, Url};
use filling::Filling;
use passage::Passage;

mod filling;
mod passage;

/// What rules may ask of a request.
pub trait Variables {
    /// The request target in origin form, as the client sent it.
    fn target(&self) -> &str;
    /// The normal form of its path.
    fn path(&self) -> &NormalPath;
    /// The method.
    fn method(&self) -> &str;
    /// The value of a request header field; `name` is in lower case. Several fields of the name are one, joined by `, ` (and
    /// Cookie's by `; `).
    fn header(&self, name: &str) -> Option<String>;
    /// Whether the client's connection is TLS.
    fn is_tls(&self) -> bool;
    /// The port that the client connected to.
    fn port(&self) -> u16;
    /// The client's address.
    fn client(&self) -> IpAddr;
}

/// What is to be done with a request. `rule` is the name of the rule that said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Continue(Continue),
    /// The client is sent elsewhere.
    Redirect {
        /// The rule.
        rule: String,
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The `Location`: a path or a whole URL, of ASCII that needs no further encoding.
        location: String,
    },
    /// The client gets this answer.
    Respond {
        /// The rule.
        rule: String,
        /// 200 to 599.
        status: u16,
        /// For the log.
        substatus: u16,
        /// The reason phrase, without control characters; it may be empty.
        reason: String,
        /// A line for the body, plain text; it may be empty, and quote the client.
        description: String,
    },
    /// The client's connection is closed without an answer.
    Abort {
        /// The rule.
        rule: String,
    },
    /// The rules could not be applied. Answered as a refusal and counted by cause.
    Refuse {
        /// The rule.
        rule: String,
        /// Why.
        cause: Refusal,
    },
}

/// A request that goes on, and what the rules changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Continue {
    /// The new URL; `None`: the client's own bytes are forwarded.
    pub url: Option<Url>,
    /// The farm that the last rewrite to a whole URL named.
    pub farm: Option<Farm>,
    /// Request header fields to set, in place of those of the same name: lower-case name to value.
    pub headers: BTreeMap<String, String>,
    /// The rules that were performed.
    pub rules: Vec<String>,
}

/// Why the rules could not be applied to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A pattern's limits were not enough. Refused whatever the rule's action is: an abort must not be evaded by a long URL, and
    /// a rewrite or redirect that did not happen may leave a request where the rules were to keep it from.
    #[error("a pattern took too long")]
    OverLimit,
    /// A filled-in template became longer than 64 KiB.
    #[error("a rewritten text became too long")]
    TooLong,
    /// The rewritten path can be read in two ways.
    #[error("the rewritten URL is ambiguous: {0}")]
    Ambiguous(Ambiguous),
    /// `https:///path`.
    #[error("the rewritten URL names no farm")]
    NoFarm,
    /// A control character in a header field.
    #[error("a header field became one that cannot be sent")]
    Header,
}

/// What came of one rule, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its name.
    pub rule: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// What can come of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is switched off.
    Disabled,
    /// The path did not match (or did, and the pattern is negated).
    PathDiffers {
        /// What was looked at.
        input: String,
    },
    /// The conditions did not hold: this one, or the last of those of which one was enough.
    ConditionFails {
        /// Which, from 0.
        condition: usize,
        /// What was looked at.
        input: String,
    },
    /// It was performed, and this is what the URL's path and query are behind it.
    Performed {
        /// Path and query.
        target: String,
    },
    /// It could not be applied.
    Refused(Refusal),
}

impl RuleSet {
    /// Applies the rules to a request.
    pub fn apply(&self, request: &dyn Variables) -> Outcome {
        self.run(request, &mut |_, _| {})
    }

    /// Likewise, and tells what came of each rule that was tried.
    pub fn explain(&self, request: &dyn Variables) -> (Outcome, Vec<Tried>) {
        let mut tried = Vec::new();
        let outcome = self.run(request, &mut |rule, verdict| {
            tried.push(Tried { rule: rule.name.clone(), verdict: verdict() });
        });
        (outcome, tried)
    }

    fn run(&self, request: &dyn Variables, tell: &mut Tell<'_>) -> Outcome {
        let mut passage = Passage::new(request);
        for rule in &self.rules {
            match passage.attempt(rule, tell) {
                Ok(None) => {}
                Ok(Some(performance)) => {
                    if let Some(outcome) = passage.take(rule, performance, tell) {
                        return outcome;
                    }
                    if rule.stop_processing {
                        break;
                    }
                }
                Err(cause) => {
                    tell(rule, &|| Verdict::Refused(cause));
                    return Outcome::Refuse { rule: rule.name.clone(), cause };
                }
            }
        }
        passage.result()
    }
}

/// A request through no rule: what its variables are.
pub struct Blank<'a>(Passage<'a>);

impl<'a> Blank<'a> {
    /// Of this one.
    pub fn new(request: &'a dyn Variables) -> Self {
        Self(Passage::new(request))
    }

    /// A template that refers to nothing captured, as a header field's value.
    pub fn field(&self, template: &Template) -> Result<String, Refusal> {
        Filling::new(&self.0, Captures::default()).field(template)
    }
}

/// Takes what came of a rule, which is only put together if somebody wants it.
type Tell<'a> = dyn FnMut(&Rule, &dyn Fn() -> Verdict) + 'a;
