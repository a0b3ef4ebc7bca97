//! Rules compiled and checked: what could never work is refused when it is configured, with its place. Pure.

use std::collections::BTreeSet;
use std::fmt;

use thiserror::Error;

use super::pattern::{Pattern, PatternError, Syntax};
use super::spec::{
    ActionSpec, ConditionSpec, Grouping, Maps, PatternSpec, RedirectStatus, RuleSpec, SetSpec,
};
use super::template::{Template, TemplateError, header};

/// Rules, ready to be applied in their order.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) enabled: bool,
    pub(super) stop_processing: bool,
    pub(super) url: Wanted,
    pub(super) grouping: Grouping,
    pub(super) track_all_captures: bool,
    pub(super) conditions: Vec<Condition>,
    pub(super) set: Vec<Set>,
    pub(super) action: Action,
}

/// A pattern that has to be found, or not.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) pattern: Pattern,
    pub(super) negate: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) input: Template,
    pub(super) wanted: Wanted,
}

#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) header: String,
    pub(super) value: Template,
    pub(super) replace: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    None,
    Rewrite { url: Template, append_query: bool },
    Redirect { url: Template, append_query: bool, status: RedirectStatus },
    CustomResponse { status: u16, substatus: u16, reason: Template, description: Template },
    AbortRequest,
}

/// Why rules are refused. It is the configuration's fault.
#[derive(Debug, Error)]
#[error("rule {rule:?}, {place}: {cause}")]
pub struct RuleError {
    /// The rule's name.
    pub rule: String,
    /// Which part of it.
    pub place: Place,
    /// What is wrong there.
    pub cause: Cause,
}

/// A part of a rule. Conditions and fields count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its name.
    Name,
    /// The pattern for the path.
    Url,
    /// The input of a condition.
    Input(usize),
    /// The pattern of a condition.
    Pattern(usize),
    /// A header field that it sets.
    Set(usize),
    /// Its action.
    Action,
}

/// What can be wrong with a rule.
#[derive(Debug, Error)]
pub enum Cause {
    /// Its name is empty, or another's.
    #[error("the name is empty or taken; hint: each rule needs its own")]
    Name,
    /// A pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// `{R:2}` where the pattern has one group.
    #[error("{{{letter}:{number}}} is used, but only {groups} groups are captured")]
    NoSuchGroup {
        /// `R` or `C`.
        letter: char,
        /// The group.
        number: usize,
        /// How many there are.
        groups: usize,
    },
    /// `{R:0}` where nothing is captured: the pattern has to fail, or no condition captures.
    #[error("{{{0}:n}} is used, but nothing is captured; hint: {{URL}} is the path")]
    NothingCaptured(char),
    /// A server variable that is no request header field.
    #[error("only request header fields can be set; hint: write HTTP_ and the name with _ for -")]
    NotAHeader,
    /// A field that says how the message is framed or belongs to a connection.
    #[error("the proxy itself writes the field {0}")]
    OwnHeader(String),
    /// Not 200 to 599.
    #[error("status {0} is none of an answer; hint: use 200 to 599")]
    Status(u16),
    /// A rewrite or redirect to nowhere.
    #[error("the URL is empty; hint: use / for the root")]
    NoUrl,
}

impl RuleSet {
    /// Compiles `rules`, which may use `maps`.
    pub fn compile(rules: &[RuleSpec], maps: &Maps) -> Result<Self, RuleError> {
        let mut names = BTreeSet::new();
        let compiled = rules.iter().map(|spec| {
            let fail = |(place, cause)| RuleError { rule: spec.name.clone(), place, cause };
            if spec.name.is_empty() || !names.insert(&spec.name) {
                return Err(fail((Place::Name, Cause::Name)));
            }
            Compiler { spec, maps }.rule().map_err(fail)
        });
        Ok(Self { rules: compiled.collect::<Result<_, _>>()? })
    }

    /// The header fields that rules deal with, for whoever knows which of them may be.
    pub fn uses(&self) -> impl Iterator<Item = Use<'_>> {
        self.rules.iter().flat_map(Rule::uses)
    }

    /// Whether there is none to try.
    pub fn is_empty(&self) -> bool {
        !self.rules.iter().any(|rule| rule.enabled)
    }
}

/// What a rule has to do with header fields at one place.
#[derive(Clone, Debug)]
pub struct Use<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// Where.
    pub place: Place,
    /// The field that it sets there.
    pub sets: Option<&'a str>,
    /// The fields that it reads there.
    pub reads: Vec<&'a str>,
}

impl Rule {
    fn uses(&self) -> Vec<Use<'_>> {
        let inputs = self.conditions.iter().enumerate();
        let inputs = inputs.map(|(number, condition)| (Place::Input(number), None, &condition.input));
        let set = self.set.iter().enumerate();
        let set = set.map(|(number, set)| (Place::Set(number), Some(set.header.as_str()), &set.value));
        let action = match &self.action {
            Action::None | Action::AbortRequest => Vec::new(),
            Action::Rewrite { url, .. } | Action::Redirect { url, .. } => vec![url],
            Action::CustomResponse { reason, description, .. } => vec![reason, description],
        };
        let action = action.into_iter().map(|template| (Place::Action, None, template));
        let all = inputs.chain(set).chain(action);
        all.map(|(place, sets, template)| Use { rule: &self.name, place, sets, reads: template.fields() })
            .collect()
    }
}

type Fault = (Place, Cause);

struct Compiler<'a> {
    spec: &'a RuleSpec,
    maps: &'a Maps,
}

/// How many groups a template may refer to; `None`: not even to the whole match.
#[derive(Clone, Copy)]
struct Known {
    rule: Option<usize>,
    conditions: Option<usize>,
}

impl Compiler<'_> {
    fn rule(&self) -> Result<Rule, Fault> {
        let spec = self.spec;
        let url = wanted(spec.syntax, &spec.url).map_err(|cause| (Place::Url, cause))?;
        let mut known = Known { rule: captured(&url), conditions: None };
        let mut conditions = Vec::new();
        for (number, condition) in spec.conditions.list.iter().enumerate() {
            let condition = self.condition(number, condition, known)?;
            known.conditions = self.known_behind(known.conditions, &condition.wanted);
            conditions.push(condition);
        }
        let set = spec.set.iter().enumerate();
        let set = set.map(|(number, set)| self.set(set, known).map_err(|cause| (Place::Set(number), cause)));
        Ok(Rule {
            name: spec.name.clone(),
            enabled: spec.enabled,
            stop_processing: spec.stop_processing,
            url,
            grouping: spec.conditions.grouping,
            track_all_captures: spec.conditions.track_all_captures,
            conditions,
            set: set.collect::<Result<_, _>>()?,
            action: self.action(known).map_err(|cause| (Place::Action, cause))?,
        })
    }

    fn condition(&self, number: usize, spec: &ConditionSpec, known: Known) -> Result<Condition, Fault> {
        let input = self.template(&spec.input, known).map_err(|cause| (Place::Input(number), cause))?;
        let wanted =
            wanted(self.spec.syntax, &spec.pattern).map_err(|cause| (Place::Pattern(number), cause))?;
        Ok(Condition { input, wanted })
    }

    /// How many groups there may be behind one more condition.
    fn known_behind(&self, before: Option<usize>, wanted: &Wanted) -> Option<usize> {
        match (before, captured(wanted)) {
            (Some(before), Some(more)) if self.spec.conditions.track_all_captures => Some(before + more),
            (before, more) => before.max(more),
        }
    }

    fn set(&self, spec: &SetSpec, known: Known) -> Result<Set, Cause> {
        let header = header(&spec.name).ok_or(Cause::NotAHeader)?;
        if OWN_HEADERS.contains(&header.as_str()) {
            return Err(Cause::OwnHeader(header));
        }
        Ok(Set { header, value: self.template(&spec.value, known)?, replace: spec.replace })
    }

    fn action(&self, known: Known) -> Result<Action, Cause> {
        let url =
            |text: &String| if text.is_empty() { Err(Cause::NoUrl) } else { self.template(text, known) };
        Ok(match &self.spec.action {
            ActionSpec::None => Action::None,
            ActionSpec::Rewrite { url: text, append_query } => {
                Action::Rewrite { url: url(text)?, append_query: *append_query }
            }
            ActionSpec::Redirect { url: text, append_query, status } => {
                Action::Redirect { url: url(text)?, append_query: *append_query, status: *status }
            }
            ActionSpec::CustomResponse { status, substatus, reason, description } => Action::CustomResponse {
                status: Some(*status)
                    .filter(|status| (200..600).contains(status))
                    .ok_or(Cause::Status(*status))?,
                substatus: *substatus,
                reason: self.template(reason, known)?,
                description: self.template(description, known)?,
            },
            ActionSpec::AbortRequest => Action::AbortRequest,
        })
    }

    fn template(&self, text: &str, known: Known) -> Result<Template, Cause> {
        let template = Template::compile(text, self.maps)?;
        for (letter, used, known) in [
            ('R', template.highest_rule(), known.rule),
            ('C', template.highest_condition(), known.conditions),
        ] {
            match (used, known) {
                (Some(_), None) => return Err(Cause::NothingCaptured(letter)),
                (Some(number), Some(groups)) if number > groups => {
                    return Err(Cause::NoSuchGroup { letter, number, groups });
                }
                (Some(_) | None, _) => {}
            }
        }
        Ok(template)
    }
}

fn wanted(syntax: Syntax, spec: &PatternSpec) -> Result<Wanted, Cause> {
    let pattern = Pattern::compile(syntax, &spec.pattern, spec.ignore_case)?;
    Ok(Wanted { pattern, negate: spec.negate })
}

fn captured(wanted: &Wanted) -> Option<usize> {
    (!wanted.negate).then(|| wanted.pattern.groups())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("name"),
            Self::Url => f.write_str("url pattern"),
            Self::Input(number) => write!(f, "input of condition {}", number + 1),
            Self::Pattern(number) => write!(f, "pattern of condition {}", number + 1),
            Self::Set(number) => write!(f, "server variable {}", number + 1),
            Self::Action => f.write_str("action"),
        }
    }
}

/// RFC 9110, section 7.6.1, and what frames a message.
const OWN_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
