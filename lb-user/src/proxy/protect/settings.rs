//! What of protection is the cluster's and not a site's. Plain data.

use serde::{Deserialize, Serialize};

use super::client::ClientPrefixes;
use super::logon::LogonPolicy;

/// Failed logons, whom limits count as one client, and how many are remembered. Nothing of it is on by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protection {
    /// Failed logons, of all sites together.
    pub logons: LogonPolicy,
    /// Whom rates, failed logons and the number of connections count as one client.
    pub clients: ClientPrefixes,
    /// Clients whose rates are remembered, 24 bytes each; beyond that, those that owe least are forgotten. Up to 2^24; default 65,536.
    pub rate_clients: usize,
}

impl Default for Protection {
    fn default() -> Self {
        Self { logons: LogonPolicy::default(), clients: ClientPrefixes::default(), rate_clients: 1 << 16 }
    }
}
