//! Rules with the meaning of IIS's URL Rewrite.

use std::collections::BTreeMap;

use super::Problems;
use crate::config::problem::Problem;
use crate::config::raw::{ConditionTable, MapTable, RewriteTable, SetTable};
use crate::config::spanned::Spanned;
use crate::proxy::headers::check_rules;
use crate::proxy::rewrite::pattern::Syntax;
use crate::proxy::rewrite::rule::RuleSet;
use crate::proxy::rewrite::spec::{
    ActionSpec, ConditionSpec, ConditionsSpec, Grouping, MapSpec, Maps, PatternSpec, RedirectStatus,
    RuleSpec, SetSpec,
};

/// The rules and maps of a site; each rule is compiled, so that the proxy can compile them all.
pub(super) fn rules(
    raw: &[Spanned<RewriteTable>],
    tables: &BTreeMap<String, MapTable>,
    problems: &mut Problems,
) -> Option<(Vec<RuleSpec>, Maps)> {
    let maps = maps(tables);
    let mut rules: Vec<RuleSpec> = Vec::new();
    for table in raw {
        let Some(rule) = rule(table, problems) else {
            continue;
        };
        let name = &table.get_ref().name;
        if rules.iter().any(|other| other.name == rule.name) {
            problems.add(Problem::at(name.span(), format!("two rules are named \"{}\"", rule.name)));
        }
        let sound = match RuleSet::compile(std::slice::from_ref(&rule), &maps) {
            Ok(rules) => check_rules(&rules).map_err(|error| (error.place, error.cause.to_string())),
            Err(error) => Err((error.place, error.cause.to_string())),
        };
        if let Err((place, cause)) = sound {
            let text = format!("the rule \"{}\" cannot be used: {place}: {cause}", rule.name);
            problems.add(Problem::of_error(name.span(), text));
            continue;
        }
        rules.push(rule);
    }
    (rules.len() == raw.len()).then_some((rules, maps))
}

/// The maps of a site.
pub(super) fn maps(raw: &BTreeMap<String, MapTable>) -> Maps {
    raw.iter().map(|(name, map)| (name.clone(), map_spec(map))).collect()
}

fn rule(raw: &Spanned<RewriteTable>, problems: &mut Problems) -> Option<RuleSpec> {
    let table = raw.get_ref();
    let syntaxes =
        [("ecmascript", Syntax::Ecmascript), ("wildcard", Syntax::Wildcard), ("exact", Syntax::ExactMatch)];
    let syntax = match &table.syntax {
        Some(name) => problems.choice("syntax", name, &syntaxes),
        None => Some(Syntax::Ecmascript),
    };
    let action = action(raw, problems);
    Some(RuleSpec {
        name: table.name.get_ref().clone(),
        enabled: table.enabled,
        syntax: syntax?,
        stop_processing: table.stop,
        url: PatternSpec {
            pattern: table.pattern.get_ref().clone(),
            ignore_case: table.ignore_case,
            negate: table.negate,
        },
        conditions: ConditionsSpec {
            grouping: if table.any_condition { Grouping::MatchAny } else { Grouping::MatchAll },
            track_all_captures: table.track_all_captures,
            list: table.conditions.iter().map(condition).collect(),
        },
        set: table.set.iter().map(set).collect(),
        action: action?,
    })
}

fn condition(raw: &ConditionTable) -> ConditionSpec {
    let ConditionTable { input, pattern, ignore_case, negate } = raw.clone();
    ConditionSpec { input, pattern: PatternSpec { pattern, ignore_case, negate } }
}

fn set(raw: &SetTable) -> SetSpec {
    let SetTable { name, value, replace } = raw.clone();
    SetSpec { name, value, replace }
}

fn map_spec(raw: &MapTable) -> MapSpec {
    let MapTable { default, ignore_case, entries } = raw.clone();
    MapSpec { default, ignore_case, entries }
}

fn action(raw: &Spanned<RewriteTable>, problems: &mut Problems) -> Option<ActionSpec> {
    let table = raw.get_ref();
    let append_query = table.append_query;
    match (&table.rewrite, &table.redirect, &table.respond, table.abort) {
        (None, None, None, false) => Some(ActionSpec::None),
        (None, None, None, true) => Some(ActionSpec::AbortRequest),
        (Some(url), None, None, false) => {
            Some(ActionSpec::Rewrite { url: url.get_ref().clone(), append_query })
        }
        (None, Some(url), None, false) => {
            let status = redirect_status(table, problems)?;
            Some(ActionSpec::Redirect { url: url.get_ref().clone(), append_query, status })
        }
        (None, None, Some(status), false) => Some(ActionSpec::CustomResponse {
            status: problems.number("respond", status, 200..=599)?,
            substatus: 0,
            reason: table.reason.clone(),
            description: table.description.clone(),
        }),
        _ => {
            let text = "a rule does at most one of `rewrite`, `redirect`, `respond` and `abort`";
            problems.add(Problem::at(table.name.span(), text));
            None
        }
    }
}

fn redirect_status(table: &RewriteTable, problems: &mut Problems) -> Option<RedirectStatus> {
    let Some(status) = &table.status else {
        return Some(RedirectStatus::Found);
    };
    let known = [
        RedirectStatus::Permanent,
        RedirectStatus::Found,
        RedirectStatus::SeeOther,
        RedirectStatus::Temporary,
        RedirectStatus::PermanentRedirect,
    ];
    let found = known.into_iter().find(|known| known.code() == *status.get_ref());
    problems.require(found, || {
        let text = format!("{} is not the status of a redirect", status.get_ref());
        Problem::at(status.span(), text).hint("301, 302, 303, 307 or 308")
    })
}
