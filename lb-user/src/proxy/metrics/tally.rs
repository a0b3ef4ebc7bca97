//! All that is counted, in four numbers, as nodes tell each other.

use std::iter::Sum;
use std::ops::Add;

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

impl Tally {
    /// What came since `first`; `None`: the proxy was started anew between them.
    pub fn since(self, first: Self) -> Option<Self> {
        Some(Self {
            ended: self.ended.checked_sub(first.ended)?,
            server_errors: self.server_errors.checked_sub(first.server_errors)?,
            denied: self.denied.checked_sub(first.denied)?,
            broken: self.broken.checked_sub(first.broken)?,
        })
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            ended: self.ended.saturating_add(other.ended),
            server_errors: self.server_errors.saturating_add(other.server_errors),
            denied: self.denied.saturating_add(other.denied),
            broken: self.broken.saturating_add(other.broken),
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Self::add)
    }
}
