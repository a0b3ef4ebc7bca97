//! `[protection]` as it is written, and the rates of a site.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::values::Time;
use crate::config::spanned::Spanned;

/// `[protection]`: what is off until it is written. Meanings, ranges and defaults are those of `Protection`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProtectionTable {
    /// Failed logons.
    pub(crate) logons: Option<Spanned<LogonsTable>>,
    /// The rate of each client at each site that has none of its own. Default `"off"`.
    pub(crate) rate: Option<Spanned<RateEntry>>,
    /// The same of requests that try a password, whatever they ask for. Default `"off"`.
    pub(crate) logon_rate: Option<Spanned<RateEntry>>,
    /// Clients whose rates are remembered. Default 65,536.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub(crate) rate_clients: Option<Spanned<usize>>,
    /// How many leading bits of an IPv4 address are one client. Default 32.
    #[schemars(range(min = 8, max = 32))]
    pub(crate) client_prefix_v4: Option<Spanned<u8>>,
    /// The same of an IPv6 address. Default 64.
    #[schemars(range(min = 16, max = 128))]
    pub(crate) client_prefix_v6: Option<Spanned<u8>>,
}

/// `[protection.logons]`. Meanings, ranges and defaults are those of `LogonPolicy`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogonsTable {
    /// `true`: users whose logons fail are delayed, then refused. Default `false`.
    pub(crate) enabled: Option<bool>,
    /// Failures of a user from one client after which each further attempt is delayed. Default 4.
    pub(crate) slow_after: Option<Spanned<u16>>,
    /// The first delay; each further failure doubles it. Default `"1s"`.
    pub(crate) first_delay: Option<Spanned<Time>>,
    /// The longest delay. Default `"8s"`.
    pub(crate) longest_delay: Option<Spanned<Time>>,
    /// Failures after which the user is refused to that client. Default 8.
    pub(crate) refuse_after: Option<Spanned<u16>>,
    /// For how long. Default `"15min"`.
    pub(crate) refuse_for: Option<Spanned<Time>>,
    /// How long after the last of them failures are forgotten. Default `"15min"`.
    pub(crate) forget_after: Option<Spanned<Time>>,
    /// How long a success is remembered. Default `"24h"`.
    pub(crate) remember_success: Option<Spanned<Time>>,
    /// Distinct users who fail at one client, from which on it may be refused. Default 30.
    pub(crate) spray_users: Option<Spanned<u16>>,
    /// Their least share, in per cent. Default 90.
    pub(crate) spray_share: Option<Spanned<u8>>,
    /// Time within which they are counted. Default `"30min"`.
    pub(crate) spray_window: Option<Spanned<Time>>,
    /// How long the client's unknown users are refused. Default `"30min"`.
    pub(crate) spray_refuse_for: Option<Spanned<Time>>,
    /// Pairs of a user and a client that are remembered. Default 65,536.
    pub(crate) pairs: Option<Spanned<usize>>,
    /// Clients that are remembered. Default 16,384.
    pub(crate) networks: Option<Spanned<usize>>,
}

/// How often a client may ask: a table, or `"off"`.
#[derive(Clone, Debug)]
pub(crate) enum RateEntry {
    Off,
    Quota(QuotaTable),
}

/// `{ requests = 600, per = "1min", burst = 100 }`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuotaTable {
    /// Requests in each `per`, evenly. 1 to 1,000,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) requests: Spanned<u32>,
    /// 1 s to 1 h.
    pub(crate) per: Spanned<Time>,
    /// Requests that may come at once after a rest. Default: `requests`. 1 to 1,000,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) burst: Option<Spanned<u32>>,
}

impl<'de> Deserialize<'de> for RateEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RateVisitor)
    }
}

impl JsonSchema for RateEntry {
    fn schema_name() -> Cow<'static, str> {
        "RateEntry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "\"off\", or how often a client may ask",
            "anyOf": [{ "enum": ["off"] }, generator.subschema_for::<QuotaTable>()]
        })
    }
}

struct RateVisitor;

impl<'de> Visitor<'de> for RateVisitor {
    type Value = RateEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"off\" or a table such as { requests = 600, per = \"1min\", burst = 100 }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RateEntry, E> {
        match text {
            "off" => Ok(RateEntry::Off),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RateEntry, A::Error> {
        QuotaTable::deserialize(MapAccessDeserializer::new(map)).map(RateEntry::Quota)
    }
}
