//! What the proxy serves, whole: all that the agent ever tells its child. Pure.
//!
//! It holds only the keys of the sites that the child serves; never a path, the cluster secret or the store.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::model::{HealthTest, Server};

/// The proxy's settings. Indices between its lists were checked by whoever built it; the child checks them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Where the child listens, in the order of the sockets that come along.
    pub listen: Vec<SocketAddr>,
    /// What it publishes.
    pub sites: Vec<Site>,
    /// The servers behind it.
    pub farms: Vec<Farm>,
    /// How long requests in flight may go on after `Drain` or `Stop`.
    pub drain_timeout: Duration,
}

/// Names that are served with one certificate by one farm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Host names, lower case; at least one.
    pub names: Vec<String>,
    /// Which of `Snapshot::listen` it is served at.
    pub listen: Vec<SocketAddr>,
    /// PEM text: the certificate chain, the site's own first.
    pub certificate: String,
    /// Its private key.
    pub key: PrivateKey,
    /// Index into `Snapshot::farms`.
    pub farm: usize,
}

/// A private key as PEM text; does not show itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKey(String);

impl PrivateKey {
    /// Wraps PEM text.
    pub fn new(pem: String) -> Self {
        Self(pem)
    }

    /// The PEM text.
    pub fn pem(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// Servers that can stand in for one another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Farm {
    /// Its name, unique.
    pub name: String,
    /// At least one.
    pub servers: Vec<Server>,
    /// How a server proves who it is.
    pub verify: Verify,
    /// How a server proves that it works.
    pub health: HealthTest,
    /// Longest silence of a server between request and response head.
    pub response_timeout: Duration,
    /// Longest time to connect to a server, TLS included.
    pub connect_timeout: Duration,
}

/// How a server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// It presents the very certificate that the site serves.
    SameCertificate,
    /// Its certificate is good for the site's first name under this CA (PEM text).
    Ca(String),
    /// Not at all.
    Nothing,
}
