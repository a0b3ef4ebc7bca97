//! Header fields that a site or a route changes.

use std::collections::{BTreeMap, BTreeSet};

use super::Problems;
use crate::config::model::{FieldEdits, HeaderEdits};
use crate::config::problem::Problem;
use crate::config::raw::HeadersTable;
use crate::config::spanned::Spanned;
use crate::proxy::headers::{Side, check_name, check_value};
use crate::proxy::rewrite::spec::Maps;

/// What is changed on both sides.
pub(super) fn edits(
    request: &HeadersTable,
    response: &HeadersTable,
    maps: &Maps,
    problems: &mut Problems,
) -> Option<HeaderEdits> {
    let request = fields(Side::Request, request, maps, problems);
    let response = fields(Side::Response, response, maps, problems);
    Some(HeaderEdits { request: request?, response: response? })
}

fn fields(side: Side, raw: &HeadersTable, maps: &Maps, problems: &mut Problems) -> Option<FieldEdits> {
    let before = problems.0.len();
    let mut seen = BTreeSet::new();
    let mut named = |name: &str, place: &Spanned<String>, problems: &mut Problems| {
        if !seen.insert(name.to_ascii_lowercase()) {
            let problem = Problem::at(place.span(), format!("{name} is changed twice here"));
            problems.add(problem.hint("`set` is in place of all fields of the name, `add` beside them"));
        }
    };
    let mut written = |table: &BTreeMap<String, Spanned<String>>| -> BTreeMap<String, String> {
        for (name, value) in table {
            named(name, value, problems);
            if let Err(error) = check_value(side, name, value.get_ref(), maps) {
                problems.add(Problem::of_error(value.span(), error));
            }
        }
        table.iter().map(|(name, value)| (name.clone(), value.get_ref().clone())).collect()
    };
    let (set, add) = (written(&raw.set), written(&raw.add));
    for name in &raw.remove {
        named(name.get_ref(), name, problems);
        if let Err(error) = check_name(side, name.get_ref(), true) {
            problems.add(Problem::of_error(name.span(), error));
        }
    }
    let remove = raw.remove.iter().map(|name| name.get_ref().clone()).collect();
    (problems.0.len() == before).then_some(FieldEdits { set, add, remove })
}
