//! What the proxy itself says to clients. The proxy works with the same types.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proxy::protect::networks::Network;

/// An answer of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// The body's media type; it says nothing where the body is empty.
    pub content_type: String,
    /// The body.
    pub body: String,
}

/// What a site that is closed says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// The body.
    pub body: String,
    /// Its media type.
    pub content_type: String,
    /// When clients are told to come again (RFC 9110, 10.2.3).
    pub retry_after: Duration,
    /// Networks for which the site is open all the same.
    pub allow: Vec<Network>,
}

/// The media type of a text of which nothing else is said.
pub const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
