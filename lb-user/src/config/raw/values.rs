//! Values of the configuration files that can be written in more than one way.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

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

/// Status codes: one as a number, or several as a text such as `"200-399,401"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statuses(pub(crate) String);

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusesVisitor)
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
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerTable {
    name: Option<String>,
    address: String,
    weight: Option<u32>,
    state: Option<String>,
    #[serde(default)]
    backup: bool,
    connections: Option<u32>,
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
