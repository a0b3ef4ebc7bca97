//! Where generations are kept beside the nodes' own disks.

use std::fmt;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An etcd that the nodes keep their generations in, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Its members, 1 to [`MOST_ENDPOINTS`]; the first that answers is used.
    pub endpoints: Vec<Endpoint>,
    /// What its keys begin with: 1 to [`LONGEST_PREFIX`] printable characters without a `/` at their end.
    pub prefix: String,
    /// The CA of the members' certificates (PEM file); there where any member speaks TLS.
    pub ca: Option<PathBuf>,
    /// Certificate and key that the nodes present (PEM files).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The nodes' user, and the file with its password.
    pub user: Option<(String, PathBuf)>,
}

/// A member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Where it listens.
    pub address: SocketAddrV4,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }
}

/// Most members.
pub const MOST_ENDPOINTS: usize = 8;

/// Longest prefix, bytes.
pub const LONGEST_PREFIX: usize = 200;
