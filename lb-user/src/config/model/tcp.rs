//! TCP services: what the proxy passes on as it comes. The proxy works with the same types.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Server;
use crate::proxy::protect::networks::Network;

/// A port that is passed on to servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpService {
    /// Its name, unique among services and farms.
    pub name: String,
    /// Where it listens: every cluster IP with its port.
    pub listen: Vec<SocketAddr>,
    /// Where connections go; with `sni`, those of clients that name no server. None only with `sni`.
    pub servers: Vec<Server>,
    /// Where connections go whose TLS ClientHello has this server name, in lower case. Empty: no name is looked for.
    pub sni: BTreeMap<String, Vec<Server>>,
    /// What servers learn of the client's address.
    pub client_address: ClientAddress,
    /// Longest time in which nothing moves in either direction, 1 s to 24 h.
    pub idle_timeout: Duration,
    /// Longest time to connect to a server, 100 ms to 5 min.
    pub connect_timeout: Duration,
    /// Most connections at once, at least 1; more are closed at once.
    pub max_connections: u32,
    /// Most of them from one client (an IPv4 address, or an IPv6 /64), at least 1.
    pub max_connections_per_client: u32,
    /// Networks that may connect; empty: all.
    pub allow: Vec<Network>,
    /// Networks that may not.
    pub deny: Vec<Network>,
    /// How a server proves that it works.
    pub health: TcpHealth,
}

impl TcpService {
    /// The servers that can stand in for one another, by the name that status and logs have for them: the service's, and with
    /// the server name behind it for those of `sni`.
    pub fn pools(&self) -> impl Iterator<Item = (String, &[Server])> {
        let plain = (!self.servers.is_empty()).then(|| (self.name.clone(), self.servers.as_slice()));
        let named = self.sni.iter().map(|(name, all)| (format!("{}/{name}", self.name), all.as_slice()));
        plain.into_iter().chain(named)
    }
}

/// What servers learn of the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAddress {
    /// Nothing: they see this node's.
    Hidden,
    /// A PROXY protocol header in front of each connection tells it.
    Header(HeaderVersion),
}

impl ClientAddress {
    /// As the file has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::Header(HeaderVersion::V1) => "proxy-protocol-v1",
            Self::Header(HeaderVersion::V2) => "proxy-protocol",
        }
    }
}

/// Which PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// A test that a working server passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpHealth {
    /// What the first line that the server says begins with; `None`: a connection is enough.
    pub banner: Option<String>,
    /// Time from one test to the next, 100 ms to 1 h.
    pub interval: Duration,
    /// Longest time for one test, 10 ms to 5 min.
    pub timeout: Duration,
    /// Failures in a row that make a server unhealthy, 1..=100; one success makes it healthy again.
    pub failures: u8,
}

impl TcpHealth {
    /// In a few words, such as `tcp` or `banner "220"`.
    pub fn words(&self) -> String {
        self.banner.as_ref().map_or("tcp".to_owned(), |banner| format!("banner {banner:?}"))
    }
}
