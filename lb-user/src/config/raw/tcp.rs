//! TCP services as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{ServerEntry, Time};
use super::{connect_timeout, nowhere};
use crate::config::spanned::Spanned;

/// `[[tcp]]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpTable {
    /// Unique name, among farms too: letters, digits, `-`, `_`, `.`.
    pub(crate) name: Spanned<String>,
    /// Where it listens, on every cluster IP. A `[[rule]]` must name the port.
    #[schemars(range(min = 1, max = 65_535))]
    pub(crate) port: Spanned<u16>,
    /// Where connections go: each as in a `[[farm]]`, whose port is by default `port`. With `sni`, for clients that name no
    /// server; without it required.
    #[serde(default)]
    pub(crate) servers: Vec<Spanned<ServerEntry>>,
    /// TLS passed through by the server name in its ClientHello, such as `{ "imap.example.test" = ["10.0.0.36"] }`. Other names
    /// are closed.
    #[serde(default)]
    pub(crate) sni: BTreeMap<String, Spanned<Vec<Spanned<ServerEntry>>>>,
    /// What servers learn of the client's address: `"hidden"` (they see this node's; default, but never for port 25),
    /// `"proxy-protocol"` (version 2) or `"proxy-protocol-v1"`, both for servers that expect it alone.
    #[schemars(extend("enum" = ["hidden", "proxy-protocol", "proxy-protocol-v1"]))]
    pub(crate) client_address: Option<Spanned<String>>,
    /// Longest time in which nothing moves. Default `"10min"` for ports 25 and 587, the longest wait for an answer in SMTP
    /// (RFC 5321, 4.5.3.2.6); else `"30min"`, how long an IMAP server must wait at least (RFC 9051, 5.4). 1 s to 24 h.
    pub(crate) idle_timeout: Option<Spanned<Time>>,
    /// Longest time to connect to a server. Default `"5s"`; 100 ms to 5 min.
    #[serde(default = "connect_timeout")]
    pub(crate) connect_timeout: Spanned<Time>,
    /// Most connections at once; 1 to 1,000,000. Default 10,000. More are closed at once.
    #[serde(default = "max_connections")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) max_connections: Spanned<u32>,
    /// Most of them from one client; 1 to 1,000,000. Default 5,000: an office behind one address.
    #[serde(default = "max_connections_per_client")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) max_connections_per_client: Spanned<u32>,
    /// See `SiteTable`.
    #[serde(default)]
    pub(crate) allow: Vec<Spanned<String>>,
    /// See `SiteTable`.
    #[serde(default)]
    pub(crate) deny: Vec<Spanned<String>>,
    /// How a server proves that it works.
    #[serde(default)]
    pub(crate) health: TcpHealthTable,
}

/// `health` of `[[tcp]]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TcpHealthTable {
    /// `true`: a connection can be made. The default.
    pub(crate) tcp: Option<Spanned<bool>>,
    /// What the first line that the server says begins with, such as `"220"`; at most 512 bytes. Not with `sni`: there clients
    /// speak first.
    pub(crate) banner: Option<Spanned<String>>,
    /// Time from one test to the next. Default `"5s"`; 100 ms to 1 h.
    pub(crate) interval: Spanned<Time>,
    /// Longest time for one test. Default `"3s"`; 10 ms to 5 min.
    pub(crate) timeout: Spanned<Time>,
    /// Failures in a row that make a server unhealthy. Default 2; 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) failures: Spanned<u32>,
}

impl Default for TcpHealthTable {
    fn default() -> Self {
        Self {
            tcp: None,
            banner: None,
            interval: nowhere(Time::seconds(5)),
            timeout: nowhere(Time::seconds(3)),
            failures: nowhere(2),
        }
    }
}

fn max_connections() -> Spanned<u32> {
    nowhere(10_000)
}

fn max_connections_per_client() -> Spanned<u32> {
    nowhere(5000)
}
