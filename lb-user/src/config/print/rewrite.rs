//! `[[site.rewrite]]` and `[site.maps]`.

use super::quoted;
use crate::proxy::rewrite::pattern::Syntax;
use crate::proxy::rewrite::spec::{ActionSpec, ConditionSpec, Grouping, MapSpec, RuleSpec, SetSpec};

/// A map's table.
pub(super) fn map(name: &str, map: &MapSpec) -> String {
    let MapSpec { default, ignore_case, entries } = map;
    let entries = entries.iter().map(|(key, value)| format!("{} = {}", quoted(key), quoted(value)));
    let entries = entries.collect::<Vec<_>>().join(", ");
    format!(
        "[site.maps.{}]\ndefault = {}\nignore_case = {ignore_case}\nentries = {{ {entries} }}\n",
        quoted(name),
        quoted(default)
    )
}

/// A rule's table.
pub(super) fn rule(rule: &RuleSpec) -> String {
    let RuleSpec { name, enabled, syntax, stop_processing, url, conditions, set, action } = rule;
    let syntax = match syntax {
        Syntax::Ecmascript => "ecmascript",
        Syntax::Wildcard => "wildcard",
        Syntax::ExactMatch => "exact",
    };
    let any = conditions.grouping == Grouping::MatchAny;
    let list = conditions.list.iter().map(condition).collect::<Vec<_>>().join(", ");
    let sets = set.iter().map(field).collect::<Vec<_>>().join(", ");
    format!(
        "[[site.rewrite]]\nname = {}\nmatch = {}\nsyntax = \"{syntax}\"\nignore_case = {}\nnegate = {}\nenabled = {enabled}\n\
         stop = {stop_processing}\nconditions = [{list}]\nany_condition = {any}\ntrack_all_captures = {}\nset = [{sets}]\n{}",
        quoted(name),
        quoted(&url.pattern),
        url.ignore_case,
        url.negate,
        conditions.track_all_captures,
        self::action(action)
    )
}

fn condition(condition: &ConditionSpec) -> String {
    let ConditionSpec { input, pattern } = condition;
    format!(
        "{{ input = {}, match = {}, ignore_case = {}, negate = {} }}",
        quoted(input),
        quoted(&pattern.pattern),
        pattern.ignore_case,
        pattern.negate
    )
}

fn field(set: &SetSpec) -> String {
    let SetSpec { name, value, replace } = set;
    format!("{{ name = {}, value = {}, replace = {replace} }}", quoted(name), quoted(value))
}

fn action(action: &ActionSpec) -> String {
    match action {
        ActionSpec::None => String::new(),
        ActionSpec::AbortRequest => "abort = true\n".to_owned(),
        ActionSpec::Rewrite { url, append_query } => {
            format!("rewrite = {}\nappend_query = {append_query}\n", quoted(url))
        }
        ActionSpec::Redirect { url, append_query, status } => {
            format!("redirect = {}\nappend_query = {append_query}\nstatus = {}\n", quoted(url), status.code())
        }
        ActionSpec::CustomResponse { status, substatus: _, reason, description } => format!(
            "respond = {status}\nreason = {}\ndescription = {}\n",
            quoted(reason),
            quoted(description)
        ),
    }
}
