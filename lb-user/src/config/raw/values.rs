//! Values of the configuration files that can be written in more than one way.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// A length of time: whole seconds as a number, or a text with its unit, such as `"500ms"`, `"5s"`, `"2min"`, `"1h"`.
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

/// A server: its address, or a table with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerEntry {
    pub(crate) name: Option<String>,
    pub(crate) address: String,
}

/// The table form of a `ServerEntry`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerTable {
    name: Option<String>,
    address: String,
}

impl<'de> Deserialize<'de> for ServerEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ServerVisitor)
    }
}

struct ServerVisitor;

impl<'de> Visitor<'de> for ServerVisitor {
    type Value = ServerEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address such as \"10.0.0.36\", or { name = \"..\", address = \"..\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ServerEntry, E> {
        Ok(ServerEntry { name: None, address: text.to_owned() })
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ServerEntry, A::Error> {
        let table = ServerTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(ServerEntry { name: table.name, address: table.address })
    }
}
