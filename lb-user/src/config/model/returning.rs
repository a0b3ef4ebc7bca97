//! How a node begins after its agent starts, and how it comes back to the others.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timing;

/// When a node that was away takes its share back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failback {
    /// As soon as it can serve.
    Immediate,
    /// Once it has been there for this long, 1 s to 24 h.
    After(Duration),
    /// When the operator says so.
    Manual,
}

/// How a node begins after its agent starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// As the operator left it; started where he left nothing.
    AsBefore,
    /// It serves.
    Started,
    /// It does not serve until the operator starts it.
    Stopped,
    /// As `Stopped`, and it does nothing that another node's operator wants until its own resumes it.
    Suspended,
}

/// A name for heartbeats that suit a kind of network and host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// 20 ms x 5: machines on a wire.
    Default,
    /// 5 ms x 5: a quiet wire and idle processors.
    Fast,
    /// 200 ms x 5: virtual machines whose host stalls.
    Vm,
}

impl Profile {
    /// Its heartbeats.
    pub const fn timing(self) -> Timing {
        let millis = match self {
            Self::Default => 20,
            Self::Fast => 5,
            Self::Vm => 200,
        };
        Timing { period: Duration::from_millis(millis), multiplier: 5 }
    }
}
