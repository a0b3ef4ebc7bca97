//! Values of the configuration files that can be written in more than one way.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A length of time: whole seconds as a number, or a text with its unit, such as `"500ms"`, `"5s"`, `"2min"`, `"1h"`, `"365d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

impl Time {
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let unit = text.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = text[..unit].parse().ok()?;
        let millis = match text[unit..].trim_start() {
            "ms" => number,
            "s" => number.checked_mul(1000)?,
            "min" | "m" => number.checked_mul(60_000)?,
            "h" => number.checked_mul(3_600_000)?,
            "d" => number.checked_mul(86_400_000)?,
            _ => return None,
        };
        Some(Self(Duration::from_millis(millis)))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

impl fmt::Display for Time {
    /// As it could be written in a file, in the largest unit of which it is a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];
        let whole = units.into_iter().find(|(_, unit)| millis.is_multiple_of(*unit) && millis >= *unit);
        match whole {
            Some((name, unit)) => write!(f, "{}{name}", millis / unit),
            None => f.write_str("0s"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time, such as \"500ms\", \"5s\", \"2min\", \"1h\" or \"365d\", or whole seconds",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": r"^\s*[0-9]+\s*(ms|s|min|m|h|d)\s*$" }
            ]
        })
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as \"500ms\", \"5s\" or \"2min\", or whole seconds")
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Time, E> {
        let unexpected = de::Unexpected::Signed(seconds);
        let seconds = u64::try_from(seconds).map_err(|_| E::invalid_value(unexpected, &self))?;
        Ok(Time::seconds(seconds))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
        Time::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// A number of bytes: as a number, or a text with its unit, such as `"64KiB"`, `"64MiB"`, `"2GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let unit = text.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = text[..unit].parse().ok()?;
        let shift = match text[unit..].trim_start() {
            "KiB" | "K" => 10,
            "MiB" | "M" => 20,
            "GiB" | "G" => 30,
            _ => return None,
        };
        number.checked_mul(1 << shift).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A size, such as \"64KiB\", \"64MiB\" or \"2GiB\", or bytes",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": r"^\s*[0-9]+\s*(KiB|K|MiB|M|GiB|G)\s*$" }
            ]
        })
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"64KiB\", \"64MiB\" or \"2GiB\", or bytes")
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
        let unexpected = de::Unexpected::Signed(bytes);
        u64::try_from(bytes).map(Size).map_err(|_| E::invalid_value(unexpected, &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        Size::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// When a node that was away takes its share back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failback {
    Immediate,
    After(Time),
    Manual,
}

impl<'de> Deserialize<'de> for Failback {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FailbackVisitor)
    }
}

impl Serialize for Failback {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Immediate => serializer.serialize_str("immediate"),
            Self::Manual => serializer.serialize_str("manual"),
            Self::After(time) => time.serialize(serializer),
        }
    }
}

impl JsonSchema for Failback {
    fn schema_name() -> Cow<'static, str> {
        "Failback".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "\"immediate\", \"manual\" or a time such as \"10min\"",
            "anyOf": [{ "enum": ["immediate", "manual"] }, generator.subschema_for::<Time>()]
        })
    }
}

struct FailbackVisitor;

impl Visitor<'_> for FailbackVisitor {
    type Value = Failback;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"immediate\", \"manual\" or a time such as \"10min\"")
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Failback, E> {
        let unexpected = de::Unexpected::Signed(seconds);
        let seconds = u64::try_from(seconds).map_err(|_| E::invalid_value(unexpected, &self))?;
        Ok(Failback::After(Time::seconds(seconds)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Failback, E> {
        match text {
            "immediate" => Ok(Failback::Immediate),
            "manual" => Ok(Failback::Manual),
            _ => {
                let time = Time::parse(text).map(Failback::After);
                time.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
    }
}

/// One port or a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl Ports {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse().ok().filter(|&port: &u16| port > 0);
        let (first, last) = (port(first)?, port(last)?);
        (first <= last).then_some(Self { first, last })
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PortsVisitor)
    }
}

impl JsonSchema for Ports {
    fn schema_name() -> Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A port, or a range such as \"8000-8099\"",
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 65535 },
                { "type": "string", "pattern": r"^\s*[0-9]+\s*(-\s*[0-9]+\s*)?$" }
            ]
        })
    }
}

struct PortsVisitor;

impl Visitor<'_> for PortsVisitor {
    type Value = Ports;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port from 1 to 65535, or a range such as \"8000-8099\"")
    }

    fn visit_i64<E: de::Error>(self, port: i64) -> Result<Ports, E> {
        let unexpected = de::Unexpected::Signed(port);
        let port = u16::try_from(port).ok().filter(|&port| port > 0);
        let port = port.ok_or_else(|| E::invalid_value(unexpected, &self))?;
        Ok(Ports { first: port, last: port })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ports, E> {
        Ports::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// Status codes: one as a number, or several as a text such as `"200-399,401"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statuses(pub(crate) String);

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusesVisitor)
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A status such as 200, or several such as \"200-399,401\"",
            "type": ["integer", "string"]
        })
    }
}

struct StatusesVisitor;

impl Visitor<'_> for StatusesVisitor {
    type Value = Statuses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status such as 200, or several such as \"200-399,401\"")
    }

    fn visit_i64<E: de::Error>(self, status: i64) -> Result<Statuses, E> {
        Ok(Statuses(status.to_string()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Statuses, E> {
        Ok(Statuses(text.to_owned()))
    }
}

/// A server: its address, or a table with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerEntry {
    pub(crate) name: Option<String>,
    pub(crate) address: String,
    /// 1 to 1000, 100 where none is given.
    pub(crate) weight: Option<u32>,
    /// `"active"`, `"drain"` or `"disabled"`.
    pub(crate) state: Option<String>,
    pub(crate) backup: bool,
    /// Most connections; none: any number.
    pub(crate) connections: Option<u32>,
}

/// The table form of a `ServerEntry`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ServerTable {
    /// Its name for operators. Default: its address.
    name: Option<String>,
    /// `"10.0.0.36"` or `"10.0.0.36:8443"`.
    address: String,
    /// Its share against the others'. Default 100.
    #[schemars(range(min = 1, max = 1000))]
    weight: Option<u32>,
    /// `"active"` (default), `"drain"` (it gets no new clients) or `"disabled"`.
    #[schemars(extend("enum" = ["active", "drain", "disabled"]))]
    state: Option<String>,
    /// `true`: it gets requests only while no other one works. Default `false`.
    #[serde(default)]
    backup: bool,
    /// Most connections to it at once. Default: any number.
    #[schemars(range(min = 1))]
    connections: Option<u32>,
}

impl<'de> Deserialize<'de> for ServerEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ServerVisitor)
    }
}

impl JsonSchema for ServerEntry {
    fn schema_name() -> Cow<'static, str> {
        "ServerEntry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A server: its address, or a table with its name",
            "anyOf": [{ "type": "string" }, generator.subschema_for::<ServerTable>()]
        })
    }
}

struct ServerVisitor;

impl<'de> Visitor<'de> for ServerVisitor {
    type Value = ServerEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address such as \"10.0.0.36\", or { name = \"..\", address = \"..\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ServerEntry, E> {
        Ok(ServerEntry {
            name: None,
            address: text.to_owned(),
            weight: None,
            state: None,
            backup: false,
            connections: None,
        })
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ServerEntry, A::Error> {
        let ServerTable { name, address, weight, state, backup, connections } =
            ServerTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(ServerEntry { name, address, weight, state, backup, connections })
    }
}
