//! `request_headers` and `response_headers`.

use std::collections::BTreeMap;

use super::{list, quoted};
use crate::config::model::{FieldEdits, HeaderEdits};

/// Their lines, of those that change anything.
pub(super) fn edits(edits: &HeaderEdits) -> String {
    let sides = [("request_headers", &edits.request), ("response_headers", &edits.response)];
    let changing = sides.into_iter().filter(|(_, edits)| **edits != FieldEdits::default());
    changing.map(|(name, edits)| format!("{name} = {}\n", fields(edits))).collect()
}

fn fields(edits: &FieldEdits) -> String {
    let FieldEdits { set, add, remove } = edits;
    let remove: Vec<String> = remove.iter().cloned().collect();
    format!("{{ set = {}, add = {}, remove = {} }}", table(set), table(add), list(&remove))
}

/// An inline table of texts.
pub(super) fn table(pairs: &BTreeMap<String, String>) -> String {
    let pairs = pairs.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)));
    let pairs = pairs.collect::<Vec<_>>().join(", ");
    if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {pairs} }}") }
}
