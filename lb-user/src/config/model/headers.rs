//! Header fields that a site or a route changes. The proxy works with the same types.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What is changed of both sides' header fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderEdits {
    /// Of requests, on their way to a server.
    pub request: FieldEdits,
    /// Of servers' responses, on their way to the client.
    pub response: FieldEdits,
}

/// What is changed of one side's header fields. No name is in two of the three; of names, letters' case does not count.
///
/// Values may have server variables in braces, as in a rule: those of the request, as its client sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldEdits {
    /// Fields in place of all of their name.
    pub set: BTreeMap<String, String>,
    /// Fields beside those of their name.
    pub add: BTreeMap<String, String>,
    /// Fields that do not cross.
    pub remove: BTreeSet<String>,
}
