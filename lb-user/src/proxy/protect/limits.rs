//! What the proxy bounds beside rates and logons: sizes, times, and numbers. Plain data; `listener`, `session` and `pace` hold
//! clients to it.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::proxy::http1::HeadLimits;

/// What one client may ask for, and how slowly. How big a body may be is its route's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request's head: request line and header fields. 8 KiB to 1 MiB; default 64 KiB, because a Kerberos ticket of
    /// a member of many groups takes up to 48,000 bytes before base64 (MaxTokenSize). Beyond it: 431.
    pub head_bytes: u32,
    /// Header fields of a request. 32 to 1,000; default 200; a browser sends some 20, an Outlook 30. Beyond it: 431.
    pub head_fields: u32,
    /// Bytes of a request's target. 1 KiB to 64 KiB and at most `head_bytes`; default 16 KiB, all that http.sys takes with its head
    /// (MaxRequestBytes). Beyond it: 414.
    pub target_bytes: u32,
    /// From the connection to the end of the TLS handshake. 1 to 120 s; default 10 s.
    pub handshake: Duration,
    /// From a request's first byte to the end of its head. 1 to 300 s; default 30 s. Beyond it: 408.
    pub head: Duration,
    /// Between two requests. 5 s to 1 h; default 100 s: http.sys closes after 120 s, and who closes first loses no request.
    pub idle: Duration,
    /// How long a body that does not come may be waited for. 10 s to 1 h; default 120 s, as http.sys. Beyond it: 408.
    pub body_wait: Duration,
    /// Bytes a second that win time back for `body_wait`. 1 to 1 MiB; default 240, http.sys's MinBytesPerSecond.
    pub body_rate: u32,
    /// How long an upload may go on after its answer, so that an NTLM handshake keeps its connection. Up to 10 min; default 2 min.
    pub early_answer: Duration,
    /// Connections of one client network. 1 to 1,000,000; default 5,000: 200 Outlooks behind one address.
    pub connections_per_client: u32,
    /// Connections in all. 1 to 1,000,000; default `None`: as many as the machine's memory and descriptors are good for.
    pub connections: Option<u32>,
    /// HTTP/2 alone.
    pub h2: H2Limits,
}

/// What HTTP/2 multiplies. Header fields are bounded by `Limits::head_bytes` there too, as they are before compression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct H2Limits {
    /// Requests in flight on one connection (SETTINGS_MAX_CONCURRENT_STREAMS). 1 to 1,000; default 100, the least that RFC 9113,
    /// section 6.5.2, recommends.
    pub streams: u32,
    /// Streams that a client has reset while they wait to be served; one more ends the connection (CVE-2023-44487, "rapid
    /// reset"). 1 to 1,000; default 20.
    pub resets: u32,
    /// Streams that a client made us reset by its mistakes; one more ends the connection (CVE-2025-8671, "MadeYouReset"). 1 to
    /// 10,000; default 100.
    pub own_resets: u32,
    /// SETTINGS, PING, PRIORITY and RST_STREAM frames in 10 s, and frames of unknown types, all of which cost the client nothing; one more ends
    /// the connection (CVE-2019-9512 and 9515; CVE-2023-44487 where streams are being served). 10 to 10,000; default 200.
    pub control_frames: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 << 10,
            head_fields: 200,
            target_bytes: 16 << 10,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            idle: Duration::from_secs(100),
            body_wait: Duration::from_secs(120),
            body_rate: 240,
            early_answer: Duration::from_secs(120),
            connections_per_client: 5000,
            connections: None,
            h2: H2Limits::default(),
        }
    }
}

impl Default for H2Limits {
    fn default() -> Self {
        Self { streams: 100, resets: 20, own_resets: 100, control_frames: 200 }
    }
}

impl Limits {
    /// Those of a request's head.
    pub fn of_heads(&self) -> HeadLimits {
        let size = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        HeadLimits {
            bytes: size(self.head_bytes),
            target: size(self.target_bytes),
            fields: size(self.head_fields),
        }
    }

    /// The first limit that is outside its range, if one is.
    pub fn check(&self) -> Result<(), LimitError> {
        let Self { h2, .. } = self;
        within("head_bytes", self.head_bytes, (8 << 10)..=(1 << 20))?;
        within("head_fields", self.head_fields, 32..=1000)?;
        within("target_bytes", self.target_bytes, (1 << 10)..=(64 << 10).min(self.head_bytes))?;
        within("handshake", Seconds(self.handshake), seconds(1..=120))?;
        within("head", Seconds(self.head), seconds(1..=300))?;
        within("idle", Seconds(self.idle), seconds(5..=3600))?;
        within("body_wait", Seconds(self.body_wait), seconds(10..=3600))?;
        within("body_rate", self.body_rate, 1..=(1 << 20))?;
        within("early_answer", Seconds(self.early_answer), seconds(0..=600))?;
        within("connections_per_client", self.connections_per_client, 1..=1_000_000)?;
        within("connections", self.connections.unwrap_or(1), 1..=1_000_000)?;
        within("h2.streams", h2.streams, 1..=1000)?;
        within("h2.resets", h2.resets, 1..=1000)?;
        within("h2.own_resets", h2.own_resets, 1..=10_000)?;
        within("h2.control_frames", h2.control_frames, 10..=10_000)
    }
}

/// A limit that cannot be meant, or that keeps nobody out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the limit `{name}` is {value}; hint: {low} to {high} are possible")]
pub struct LimitError {
    /// The limit's name.
    pub name: &'static str,
    /// What it is.
    pub value: String,
    /// The least.
    pub low: String,
    /// The most.
    pub high: String,
}

pub(super) fn within<T: PartialOrd + fmt::Display>(
    name: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), LimitError> {
    if range.contains(&value) {
        return Ok(());
    }
    let (low, high) = range.into_inner();
    Err(LimitError { name, value: value.to_string(), low: low.to_string(), high: high.to_string() })
}

/// A time, as it is written.
#[derive(PartialEq, PartialOrd)]
pub(super) struct Seconds(pub(super) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

pub(super) fn seconds(range: RangeInclusive<u64>) -> RangeInclusive<Seconds> {
    let (low, high) = range.into_inner();
    Seconds(Duration::from_secs(low))..=Seconds(Duration::from_secs(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_ranges() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn the_readme_has_the_limits_of_http2_which_nobody_can_change() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
        let H2Limits { streams, resets, own_resets, control_frames } = H2Limits::default();
        for told in [
            format!("{streams} requests at once over a connection"),
            format!("more than {resets} streams that its client has reset"),
            format!("{own_resets} streams that the client's"),
            format!("{control_frames} frames in 10 s"),
        ] {
            assert!(readme.contains(&told), "{told}");
        }
    }

    #[test]
    fn a_limit_outside_its_range_is_named_with_the_range() {
        let wrong = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            limits.check().unwrap_err().to_string()
        };
        for (change, text) in [
            (
                (|limits| limits.head_bytes = 1024) as fn(&mut Limits),
                "the limit `head_bytes` is 1024; hint: 8192 to 1048576 are possible",
            ),
            (
                |limits| (limits.head_bytes, limits.target_bytes) = (8192, 8193),
                "the limit `target_bytes` is 8193; hint: 1024 to 8192 are possible",
            ),
            (
                |limits| limits.handshake = Duration::from_millis(500),
                "the limit `handshake` is 0.5 s; hint: 1 s to 120 s are possible",
            ),
            (
                |limits| limits.connections = Some(0),
                "the limit `connections` is 0; hint: 1 to 1000000 are possible",
            ),
            (|limits| limits.h2.resets = 0, "the limit `h2.resets` is 0; hint: 1 to 1000 are possible"),
        ] {
            assert_eq!(wrong(change), text);
        }
    }

    #[test]
    fn what_is_not_written_has_its_default() {
        let limits: Limits =
            serde_json::from_str(r#"{ "head_fields": 64, "h2": { "streams": 10 } }"#).unwrap();
        let h2 = H2Limits { streams: 10, ..H2Limits::default() };
        assert_eq!(limits, Limits { head_fields: 64, h2, ..Limits::default() });
        assert!(serde_json::from_str::<Limits>(r#"{ "head_feilds": 64 }"#).is_err());
    }
}
