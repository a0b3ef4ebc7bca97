//! How a farm spreads its requests. The proxy works with the same types.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Server;
use crate::proxy::balance::settings::{Algorithm, QueueSettings, ServerSettings, State, Weight};

/// How requests are spread over a farm's servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balance {
    /// Which server a new client gets.
    pub algorithm: Algorithm,
    /// How long the weight of a server that comes back rises until it is whole.
    pub slow_start: Duration,
    /// Where requests wait while all servers are at their limit.
    pub queue: QueueSettings,
    /// With fewer healthy servers than this, health tests are disregarded: all would fail one after the other under the load
    /// of all. 0: never.
    pub panic_threshold: usize,
    /// The name of the cookie that brings a client back to its server, if there is one.
    pub affinity_cookie: Option<String>,
}

impl Default for Balance {
    /// In turn, by weight; whole at once; a thousand requests wait for ten seconds, where servers have a limit.
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            slow_start: Duration::ZERO,
            queue: QueueSettings { length: 1000, timeout: Duration::from_secs(10) },
            panic_threshold: 0,
            affinity_cookie: None,
        }
    }
}

/// Whose connections to a farm's servers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reuse {
    /// Each is one client connection's own, as logons of Windows need it.
    #[default]
    Own,
    /// Anybody's, but for those over which a sign of a logon was seen.
    Shared,
}

impl From<&Server> for ServerSettings {
    fn from(server: &Server) -> Self {
        let Share { weight, state, backup, connections } = server.share;
        Self { name: server.name.clone(), address: server.address.into(), weight, state, backup, connections }
    }
}

/// Which requests a server gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Its share beside the others'.
    pub weight: Weight,
    /// Whether it takes requests, until an operator says otherwise.
    pub state: State,
    /// It takes requests only while no other server works.
    pub backup: bool,
    /// Most connections to it; `None`: any number.
    pub connections: Option<NonZeroU32>,
}
