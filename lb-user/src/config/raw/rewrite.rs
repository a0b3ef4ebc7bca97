//! `[[site.rewrite]]` and `[site.maps]` as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::yes;
use crate::config::spanned::Spanned;

/// `[[site.rewrite]]`: a rule with the meaning of IIS's URL Rewrite. One of `rewrite`, `redirect`, `respond` and `abort`, or none of
/// them, which only sets fields.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RewriteTable {
    /// Its name, unique in the site.
    pub(crate) name: Spanned<String>,
    /// What the path has to match, decoded and without its first slash.
    #[serde(rename = "match")]
    pub(crate) pattern: Spanned<String>,
    /// `"ecmascript"` (default), `"wildcard"` or `"exact"`; for the conditions, too.
    #[schemars(extend("enum" = ["ecmascript", "wildcard", "exact"]))]
    pub(crate) syntax: Option<Spanned<String>>,
    /// `false`: the case of letters matters. Default `true`.
    #[serde(default = "yes")]
    pub(crate) ignore_case: bool,
    /// `true`: the pattern must not match. Default `false`.
    #[serde(default)]
    pub(crate) negate: bool,
    /// `false`: the rule is not tried. Default `true`.
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    /// `true`: no further rule is tried once it was performed. Default `false`.
    #[serde(default)]
    pub(crate) stop: bool,
    /// What has to hold besides.
    #[serde(default)]
    pub(crate) conditions: Vec<ConditionTable>,
    /// `true`: one condition is enough. Default `false`: all have to hold.
    #[serde(default)]
    pub(crate) any_condition: bool,
    /// `true`: `{C:1}` counts through all conditions that matched; else it is the last one's. Default `false`.
    #[serde(default)]
    pub(crate) track_all_captures: bool,
    /// Request header fields to set.
    #[serde(default)]
    pub(crate) set: Vec<SetTable>,
    /// The new URL: a path, or `https://FARM/path`.
    pub(crate) rewrite: Option<Spanned<String>>,
    /// Where the client is sent.
    pub(crate) redirect: Option<Spanned<String>>,
    /// The status that the client is answered with, 200 to 599.
    #[schemars(range(min = 200, max = 599))]
    pub(crate) respond: Option<Spanned<u16>>,
    /// `true`: the client's connection is closed without a word.
    #[serde(default)]
    pub(crate) abort: bool,
    /// The status of `redirect`: 301, 302 (default), 303, 307 or 308.
    pub(crate) status: Option<Spanned<u16>>,
    /// The reason phrase of `respond`.
    #[serde(default)]
    pub(crate) reason: String,
    /// A line for the body of `respond`.
    #[serde(default)]
    pub(crate) description: String,
    /// `false`: the query so far is not added to the new URL's. Default `true`.
    #[serde(default = "yes")]
    pub(crate) append_query: bool,
}

/// One of `conditions`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConditionTable {
    /// What is looked at, such as `"{HTTP_HOST}"`.
    pub(crate) input: String,
    /// What it has to match.
    #[serde(rename = "match")]
    pub(crate) pattern: String,
    /// See `RewriteTable`.
    #[serde(default = "yes")]
    pub(crate) ignore_case: bool,
    /// See `RewriteTable`.
    #[serde(default)]
    pub(crate) negate: bool,
}

/// One of `set`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetTable {
    /// `HTTP_` and the field's name with `_` for `-`.
    pub(crate) name: String,
    /// Its value, such as `"{REMOTE_ADDR}"`.
    pub(crate) value: String,
    /// `false`: a field that is there stays. Default `true`.
    #[serde(default = "yes")]
    pub(crate) replace: bool,
}

/// `[site.maps.NAME]`: text to text, for `{NAME:key}`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MapTable {
    /// For all other keys.
    #[serde(default)]
    pub(crate) default: String,
    /// `false`: the case of keys matters. Default `true`.
    #[serde(default = "yes")]
    pub(crate) ignore_case: bool,
    /// Key to value.
    #[serde(default)]
    pub(crate) entries: BTreeMap<String, String>,
}
