//! Rules as they were written: what the configuration gives and `rule` compiles. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pattern::Syntax;

/// A rule (`<rule>`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// Its name, unique among the rules.
    pub name: String,
    /// Whether it is tried at all; it has to be sound even if not.
    pub enabled: bool,
    /// How its pattern and those of its conditions are written (`patternSyntax`).
    pub syntax: Syntax,
    /// Whether no further rule is tried once it was performed (`stopProcessing`).
    pub stop_processing: bool,
    /// What the path has to match, decoded and without its first slash.
    pub url: PatternSpec,
    /// What has to hold besides.
    pub conditions: ConditionsSpec,
    /// Request header fields that it sets (`<serverVariables>`), before its action.
    pub set: Vec<SetSpec>,
    /// What it does.
    pub action: ActionSpec,
}

/// A pattern and how it is matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternSpec {
    /// In the rule's syntax.
    pub pattern: String,
    /// Whether letters of both cases are the same; IIS's default.
    pub ignore_case: bool,
    /// Whether it has to fail instead. It captures nothing then.
    pub negate: bool,
}

/// The conditions of a rule (`<conditions>`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionsSpec {
    /// How many have to hold.
    pub grouping: Grouping,
    /// Whether `{C:n}` counts through all conditions that matched; else it is the last one's (`trackAllCaptures`).
    pub track_all_captures: bool,
    /// In the order in which they are tried; none always hold.
    pub list: Vec<ConditionSpec>,
}

/// How many conditions have to hold (`logicalGrouping`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grouping {
    /// Each.
    #[default]
    MatchAll,
    /// One; those behind it are not tried.
    MatchAny,
}

/// A condition (`<add>` with `matchType="Pattern"`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionSpec {
    /// A template: what is looked at.
    pub input: String,
    /// What it has to match.
    pub pattern: PatternSpec,
}

/// A request header field to set (`<set>`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetSpec {
    /// `HTTP_` and the field's name with `_` for `-`.
    pub name: String,
    /// A template.
    pub value: String,
    /// Whether a field that is there already is replaced, or else left alone.
    pub replace: bool,
}

/// What a rule does (`<action>`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case", deny_unknown_fields)]
pub enum ActionSpec {
    /// Nothing but to set header fields and to stop.
    None,
    /// Goes on with another URL: a path, or `https://FARM/path`.
    Rewrite {
        /// A template.
        url: String,
        /// Whether the query so far is added to the template's own.
        append_query: bool,
    },
    /// Sends the client elsewhere.
    Redirect {
        /// A template: a path or a whole URL.
        url: String,
        /// Whether the query so far is added to the template's own.
        append_query: bool,
        /// With which status.
        status: RedirectStatus,
    },
    /// Answers.
    CustomResponse {
        /// 200 to 599.
        status: u16,
        /// Logged only.
        substatus: u16,
        /// A template: the reason phrase.
        reason: String,
        /// A template: a line for the body.
        description: String,
    },
    /// Closes the client's connection without an answer.
    AbortRequest,
}

/// The statuses of redirects (`redirectType`); RFC 9110, section 15.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RedirectStatus {
    /// 301; clients make a GET of a POST.
    Permanent,
    /// 302; likewise.
    Found,
    /// 303; always a GET.
    SeeOther,
    /// 307; the method stays.
    Temporary,
    /// 308; likewise, for ever. IIS has none.
    PermanentRedirect,
}

impl RedirectStatus {
    /// The number.
    pub fn code(self) -> u16 {
        match self {
            Self::Permanent => 301,
            Self::Found => 302,
            Self::SeeOther => 303,
            Self::Temporary => 307,
            Self::PermanentRedirect => 308,
        }
    }
}

/// Rewrite maps by name (`<rewriteMaps>`).
pub type Maps = BTreeMap<String, MapSpec>;

/// A rewrite map: text to text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapSpec {
    /// For all other keys; empty unless it was given (`defaultValue`).
    pub default: String,
    /// Whether keys are the same in both cases; IIS's default.
    pub ignore_case: bool,
    /// Key to value.
    pub entries: BTreeMap<String, String>,
}
