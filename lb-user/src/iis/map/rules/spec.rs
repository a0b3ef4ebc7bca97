//! A rule as the proxy's engine has it, and where in the ledger its parts stand. Pure.

use crate::iis::model::{Rule, Settings};
use crate::proxy::rewrite::pattern::Syntax;
use crate::proxy::rewrite::rule::Place;
use crate::proxy::rewrite::spec::{
    ActionSpec, ConditionSpec, ConditionsSpec, Grouping, PatternSpec, RedirectStatus, RuleSpec, SetSpec,
};

/// Why a rule cannot be carried over, and at which number of the ledger.
pub(super) struct Fault {
    pub(super) id: usize,
    pub(super) why: String,
}

/// A rule as it is written, before what its URL names is looked at.
pub(super) fn spec(rule: &Rule, name: String) -> Result<RuleSpec, Fault> {
    let parts = [&rule.own, &rule.matching, &rule.conditions, &rule.action].into_iter();
    if let Some(sealed) = parts.chain(&rule.list).chain(&rule.set).find(|settings| settings.sealed) {
        return Err(Fault {
            id: sealed.id,
            why: "a part of the rule is encrypted; write the rule again".to_owned(),
        });
    }
    let syntax = match rule.own.text_or("patternSyntax", "ECMAScript").to_ascii_lowercase().as_str() {
        "ecmascript" | "regular expressions" | "0" => Syntax::Ecmascript,
        "wildcard" | "1" => Syntax::Wildcard,
        "exactmatch" | "2" => Syntax::ExactMatch,
        _ => {
            let why = "no syntax of patterns; ECMAScript, Wildcard or ExactMatch";
            return Err(Fault { id: rule.own.id_of("patternSyntax"), why: why.to_owned() });
        }
    };
    let set = rule.set.iter().map(|set| SetSpec {
        name: set.text_or("name", "").to_owned(),
        value: set.text_or("value", "").to_owned(),
        replace: set.is("replace", true),
    });
    Ok(RuleSpec {
        name,
        enabled: rule.own.is("enabled", true),
        syntax,
        stop_processing: rule.own.is("stopProcessing", false),
        url: pattern(&rule.matching, "url"),
        conditions: ConditionsSpec {
            grouping: match rule.conditions.text_or("logicalGrouping", "MatchAll") {
                "MatchAny" => Grouping::MatchAny,
                _ => Grouping::MatchAll,
            },
            track_all_captures: rule.conditions.is("trackAllCaptures", false),
            list: rule.list.iter().map(condition).collect::<Result<_, _>>()?,
        },
        set: set.collect(),
        action: action(&rule.action)?,
    })
}

fn pattern(settings: &Settings, name: &str) -> PatternSpec {
    PatternSpec {
        pattern: settings.text_or(name, "").to_owned(),
        ignore_case: settings.is("ignoreCase", true),
        negate: settings.is("negate", false),
    }
}

fn condition(add: &Settings) -> Result<ConditionSpec, Fault> {
    let kind = add.text_or("matchType", "Pattern");
    if !kind.eq_ignore_ascii_case("Pattern") {
        let why = format!(
            "{kind} asks for files of the web server, of which a proxy has none; leave the condition out, or the rule"
        );
        return Err(Fault { id: add.id_of("matchType"), why });
    }
    Ok(ConditionSpec { input: add.text_or("input", "").to_owned(), pattern: pattern(add, "pattern") })
}

fn action(action: &Settings) -> Result<ActionSpec, Fault> {
    let url = || action.text_or("url", "").to_owned();
    let text = |name| action.text_or(name, "").to_owned();
    let append_query = action.is("appendQueryString", true);
    Ok(match action.text_or("type", "None").to_ascii_lowercase().as_str() {
        "none" => ActionSpec::None,
        "rewrite" => ActionSpec::Rewrite { url: url(), append_query },
        "redirect" => ActionSpec::Redirect { url: url(), append_query, status: redirect_status(action)? },
        "abortrequest" => ActionSpec::AbortRequest,
        "customresponse" => {
            let status =
                action.text_or("statusCode", "").parse().ok().filter(|status| (200..600).contains(status));
            let why = || "no status from 200 to 599".to_owned();
            ActionSpec::CustomResponse {
                status: status.ok_or_else(|| Fault { id: action.id_of("statusCode"), why: why() })?,
                substatus: 0,
                reason: text("statusReason"),
                description: text("statusDescription"),
            }
        }
        _ => {
            let why = "no action of a rule; None, Rewrite, Redirect, CustomResponse or AbortRequest";
            return Err(Fault { id: action.id_of("type"), why: why.to_owned() });
        }
    })
}

/// IIS's default is 301.
fn redirect_status(action: &Settings) -> Result<RedirectStatus, Fault> {
    Ok(match action.text_or("redirectType", "Permanent").to_ascii_lowercase().as_str() {
        "permanent" | "301" => RedirectStatus::Permanent,
        "found" | "302" => RedirectStatus::Found,
        "seeother" | "303" => RedirectStatus::SeeOther,
        "temporary" | "307" => RedirectStatus::Temporary,
        _ => {
            let why = "no type of redirects; Permanent, Found, SeeOther or Temporary";
            return Err(Fault { id: action.id_of("redirectType"), why: why.to_owned() });
        }
    })
}

/// Where a part of a rule stands in the ledger.
pub(super) fn id_of(rule: &Rule, place: Place) -> usize {
    let nth = |list: &[Settings], number: usize, name: &str| {
        list.get(number).map_or(rule.own.id, |settings| settings.id_of(name))
    };
    match place {
        Place::Name => rule.own.id_of("name"),
        Place::Url => rule.matching.id_of("url"),
        Place::Input(number) => nth(&rule.list, number, "input"),
        Place::Pattern(number) => nth(&rule.list, number, "pattern"),
        Place::Set(number) => nth(&rule.set, number, "name"),
        Place::Action => rule.action.id_of("url"),
    }
}
