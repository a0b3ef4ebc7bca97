//! One rule for one request: its conditions, and its templates filled in. Pure.

use super::super::pattern::{Captures, OverLimit};
use super::super::rule::{Action, Condition, Rule, Set, Wanted};
use super::super::spec::Grouping;
use super::super::template::{Template, Use, Values, Variable};
use super::super::url;
use super::passage::{Passage, Performance, Performed};
use super::{Outcome, Refusal};

/// What a rule's templates are filled in with.
pub(super) struct Filling<'a> {
    passage: &'a Passage<'a>,
    rule: Captures,
    /// The conditions' groups, and whether each is a part of the decoded path.
    conditions: Vec<(String, bool)>,
}

impl<'a> Filling<'a> {
    /// For a rule whose pattern captured this.
    pub(super) fn new(passage: &'a Passage<'a>, rule: Captures) -> Self {
        Self { passage, rule, conditions: Vec::new() }
    }

    /// The condition for which the rule does not match, if it does not, and what that looked at.
    pub(super) fn failing(&mut self, rule: &Rule) -> Result<Option<(usize, String)>, Refusal> {
        let mut failing = None;
        for (number, condition) in rule.conditions.iter().enumerate() {
            let input = self.fill(&condition.input, Use::Text)?;
            let found = find(&condition.wanted, &input)?;
            match (found, rule.grouping) {
                (Some(captures), grouping) => {
                    self.keep(captures, condition, rule.track_all_captures);
                    if grouping == Grouping::MatchAny {
                        return Ok(None);
                    }
                }
                (None, Grouping::MatchAll) => return Ok(Some((number, input))),
                (None, Grouping::MatchAny) => failing = Some((number, input)),
            }
        }
        Ok(failing)
    }

    /// Keeps what a condition captured: in place of the one before, or numbered behind it.
    fn keep(&mut self, captures: Captures, condition: &Condition, track_all: bool) {
        if condition.wanted.negate {
            return;
        }
        let from_conditions = condition.input.highest_condition().is_some();
        let of_path = condition.input.is_path()
            || from_conditions && self.conditions.iter().any(|(_, of_path)| *of_path);
        let skipped = if track_all && !self.conditions.is_empty() {
            1
        } else {
            self.conditions.clear();
            0
        };
        self.conditions.extend(captures.into_groups().skip(skipped).map(|group| (group, of_path)));
    }

    pub(super) fn perform(&self, rule: &Rule) -> Result<Performance, Refusal> {
        let set = rule.set.iter().filter(|set| set.replace || self.passage.header(&set.header).is_none());
        let headers = set.map(|set| Ok((set.header.clone(), self.value(set)?)));
        Ok(Performance { headers: headers.collect::<Result<_, _>>()?, action: self.act(rule)? })
    }

    fn value(&self, set: &Set) -> Result<String, Refusal> {
        self.field(&set.value)
    }

    /// A template as a header field's value.
    pub(super) fn field(&self, template: &Template) -> Result<String, Refusal> {
        let value = self.fill(template, Use::Text)?;
        if value.contains(char::is_control) { Err(Refusal::Header) } else { Ok(value) }
    }

    fn act(&self, rule: &Rule) -> Result<Performed, Refusal> {
        let name = || rule.name.clone();
        Ok(match &rule.action {
            Action::None => Performed::Nothing,
            Action::Rewrite { url, append_query } => {
                self.rewrite(&self.fill(url, Use::Url)?, *append_query)?
            }
            Action::Redirect { url, append_query, status } => {
                let location = self.passage.url.location(&self.fill(url, Use::Url)?, *append_query);
                Performed::End(Outcome::Redirect { rule: name(), status: status.code(), location })
            }
            Action::CustomResponse { status, substatus, reason, description } => {
                Performed::End(Outcome::Respond {
                    rule: name(),
                    status: *status,
                    substatus: *substatus,
                    reason: self.fill(reason, Use::Text)?.replace(char::is_control, " "),
                    description: self.fill(description, Use::Text)?,
                })
            }
            Action::AbortRequest => Performed::End(Outcome::Abort { rule: name() }),
        })
    }

    fn rewrite(&self, text: &str, append_query: bool) -> Result<Performed, Refusal> {
        let (farm, text) = match url::farm(text) {
            Some((farm, rest)) => (Some(farm), rest),
            None => (None, text),
        };
        if farm.as_ref().is_some_and(|farm| farm.authority.is_empty()) {
            return Err(Refusal::NoFarm);
        }
        let url = self.passage.url.rewritten(text, append_query).map_err(Refusal::Ambiguous)?;
        Ok(Performed::Rewrite(url, farm))
    }

    fn fill(&self, template: &Template, purpose: Use) -> Result<String, Refusal> {
        let text = template.fill(self, purpose);
        if text.len() <= LONGEST { Ok(text) } else { Err(Refusal::TooLong) }
    }
}

impl Values for Filling<'_> {
    fn rule(&self, number: usize) -> &str {
        self.rule.group(number)
    }

    fn condition(&self, number: usize) -> (&str, bool) {
        self.conditions.get(number).map_or(("", false), |(text, of_path)| (text, *of_path))
    }

    fn variable(&self, variable: &Variable) -> String {
        self.passage.variable(variable)
    }
}

/// What the pattern captured, if it was found as it has to be.
pub(super) fn find(wanted: &Wanted, input: &str) -> Result<Option<Captures>, Refusal> {
    let found = wanted.pattern.find(input).map_err(|OverLimit| Refusal::OverLimit)?;
    Ok(match (found, wanted.negate) {
        (found, false) => found,
        (None, true) => Some(Captures::default()),
        (Some(_), true) => None,
    })
}

/// Bytes of a filled-in template.
const LONGEST: usize = 64 * 1024;
