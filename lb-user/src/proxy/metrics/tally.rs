//! All that is counted, in four numbers, as nodes tell each other.

use serde::{Deserialize, Serialize};

/// What became of everything that clients wanted, since the proxy was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Requests that are over, connections of TCP services, and TLS handshakes that came to nothing for other reasons than time.
    pub ended: u64,
    /// Those answered with 500 and above.
    pub server_errors: u64,
    /// Those answered with 403 or 404.
    pub denied: u64,
    /// Those that ended in mid-answer for a server's fault, connections that did, and those handshakes.
    pub broken: u64,
}
