//! `[limits]` as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{Size, Time};
use crate::config::spanned::Spanned;

/// `[limits]`: what the proxy's clients are held to. Meanings, ranges and defaults are those of `Limits`; those of HTTP/2 alone are fixed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsTable {
    /// Bytes of a request's head. Default `"64KiB"`.
    pub(crate) head_size: Option<Spanned<Size>>,
    /// Header fields of a request. Default 200.
    pub(crate) head_fields: Option<Spanned<u32>>,
    /// Bytes of a request's target. Default `"16KiB"`.
    pub(crate) target_size: Option<Spanned<Size>>,
    /// From the connection to the end of the TLS handshake. Default `"10s"`.
    pub(crate) handshake: Option<Spanned<Time>>,
    /// From a request's first byte to the end of its head. Default `"30s"`.
    pub(crate) head: Option<Spanned<Time>>,
    /// Between two requests. Default `"100s"`: IIS closes after 120.
    pub(crate) idle: Option<Spanned<Time>>,
    /// How long a body that does not come may be waited for. Default `"120s"`.
    pub(crate) body_wait: Option<Spanned<Time>>,
    /// Bytes a second that win time back for `body_wait`. Default 240.
    pub(crate) body_rate: Option<Spanned<u32>>,
    /// How long an upload may go on after its answer. Default `"2min"`.
    pub(crate) early_answer: Option<Spanned<Time>>,
    /// Connections of one client: an IPv4 address, or an IPv6 /64. Default 5000: 200 Outlooks behind one address.
    pub(crate) connections_per_client: Option<Spanned<u32>>,
    /// Connections in all; what comes beyond waits. Default: what the machine's memory and descriptors are good for.
    pub(crate) connections: Option<Spanned<u32>>,
}
