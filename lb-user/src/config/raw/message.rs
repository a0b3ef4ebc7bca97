//! What the proxy itself says, to clients and to servers, as it is written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::Time;
use crate::config::spanned::Spanned;

/// `maintenance = "text"`, or the table.
#[derive(Debug)]
pub(crate) struct MaintenanceEntry(pub(crate) MaintenanceTable);

/// `maintenance = { text = .. }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MaintenanceTable {
    /// What every request is answered with.
    pub(crate) text: String,
    /// Its media type. Default `"text/plain; charset=utf-8"`.
    pub(crate) content_type: Option<Spanned<String>>,
    /// When clients are told to come again (Retry-After). Default `"5min"`; 1 s to 24 h.
    pub(crate) retry_after: Option<Spanned<Time>>,
    /// Networks for which the site is open all the same. Default: none.
    #[serde(default)]
    pub(crate) allow: Vec<Spanned<String>>,
}

impl<'de> Deserialize<'de> for MaintenanceEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

impl JsonSchema for MaintenanceEntry {
    fn schema_name() -> Cow<'static, str> {
        "MaintenanceEntry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What every request is answered with: a text, or a table",
            "anyOf": [{ "type": "string" }, generator.subschema_for::<MaintenanceTable>()]
        })
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = MaintenanceEntry;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text or a table such as { text = \"We are back at six.\", retry_after = \"1h\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<MaintenanceEntry, E> {
        let text = text.to_owned();
        let table = MaintenanceTable { text, content_type: None, retry_after: None, allow: Vec::new() };
        Ok(MaintenanceEntry(table))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<MaintenanceEntry, A::Error> {
        MaintenanceTable::deserialize(de::value::MapAccessDeserializer::new(map)).map(MaintenanceEntry)
    }
}

/// `request_headers = { .. }`, `response_headers = { .. }`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeadersTable {
    /// Fields in place of all of their name: `{ "X-Site" = "mail", "X-Client" = "{REMOTE_ADDR}" }`.
    #[serde(default)]
    pub(crate) set: BTreeMap<String, Spanned<String>>,
    /// Fields beside those of their name.
    #[serde(default)]
    pub(crate) add: BTreeMap<String, Spanned<String>>,
    /// Fields that do not cross the proxy: `["Server", "X-Powered-By"]`.
    #[serde(default)]
    pub(crate) remove: Vec<Spanned<String>>,
}
