//! Rules as IIS's documentation, Microsoft's tools and ARR write them, and what must hold of all.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::path::{Ambiguous, NormalPath};
use super::apply::{Continue, Outcome, Refusal, Tried, Variables, Verdict};
use super::pattern::Syntax;
use super::rule::{RuleError, RuleSet};
use super::spec::{
    ActionSpec, ConditionSpec, ConditionsSpec, Grouping, MapSpec, Maps, PatternSpec, RedirectStatus,
    RuleSpec, SetSpec,
};
use super::url::Farm;

mod errors;
mod golden;
mod invariants;

/// A request as a test writes it.
#[derive(Debug)]
struct Request {
    target: String,
    path: NormalPath,
    headers: BTreeMap<String, String>,
    tls: bool,
}

impl Request {
    fn get(target: &str) -> Self {
        let path = NormalPath::of(target.as_bytes()).unwrap();
        let host = ("host".to_owned(), "mail.contoso.com".to_owned());
        Self { target: target.to_owned(), path, headers: BTreeMap::from([host]), tls: true }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl Variables for Request {
    fn target(&self) -> &str {
        &self.target
    }

    fn path(&self) -> &NormalPath {
        &self.path
    }

    fn method(&self) -> &str {
        "GET"
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).cloned()
    }

    fn is_tls(&self) -> bool {
        self.tls
    }

    fn port(&self) -> u16 {
        443
    }

    fn client(&self) -> IpAddr {
        [203, 0, 113, 5].into()
    }
}

/// IIS's defaults, but `stopProcessing`, and any path.
fn rule(action: ActionSpec) -> RuleSpec {
    RuleSpec {
        name: "rule".to_owned(),
        enabled: true,
        syntax: Syntax::Ecmascript,
        stop_processing: false,
        url: pattern(".*"),
        conditions: ConditionsSpec::default(),
        set: Vec::new(),
        action,
    }
}

fn pattern(text: &str) -> PatternSpec {
    PatternSpec { pattern: text.to_owned(), ignore_case: true, negate: false }
}

fn not(text: &str) -> PatternSpec {
    PatternSpec { negate: true, ..pattern(text) }
}

fn condition(input: &str, text: &str) -> ConditionSpec {
    ConditionSpec { input: input.to_owned(), pattern: pattern(text) }
}

fn all(list: Vec<ConditionSpec>) -> ConditionsSpec {
    ConditionsSpec { list, ..ConditionsSpec::default() }
}

fn rewrite(url: &str) -> ActionSpec {
    ActionSpec::Rewrite { url: url.to_owned(), append_query: true }
}

fn redirect(url: &str) -> ActionSpec {
    ActionSpec::Redirect { url: url.to_owned(), append_query: true, status: RedirectStatus::Permanent }
}

fn set(name: &str, value: &str, replace: bool) -> SetSpec {
    SetSpec { name: name.to_owned(), value: value.to_owned(), replace }
}

fn map(entries: &[(&str, &str)]) -> MapSpec {
    let entries = entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
    MapSpec { default: String::new(), ignore_case: true, entries: entries.collect() }
}

fn compile(rules: &[RuleSpec]) -> RuleSet {
    RuleSet::compile(rules, &Maps::new()).unwrap_or_else(|error| panic!("{error}"))
}

fn apply(rules: &[RuleSpec], request: &Request) -> Outcome {
    compile(rules).apply(request)
}

/// What a request becomes that goes on: its farm's name and its target.
fn forwarded(outcome: Outcome, request: &Request) -> (Option<String>, String) {
    let Outcome::Continue(Continue { url, farm, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    let target = url.map_or_else(|| request.target.clone(), |url| url.target());
    (farm.map(|farm| farm.authority), target)
}
