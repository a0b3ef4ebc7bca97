//! Why a call has no answer, why there is no child, and why one is replaced.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use thiserror::Error;

use crate::config::model::PEER_PORT;
use crate::peer::MAX_MESSAGE;
use crate::peer::channel::{ChannelError, Trouble};
use crate::peer::frame::FrameError;
use crate::proxy::spawn::SpawnError;
use crate::shared::keys::VerifyingKey;

/// Why a call has no answer. Whether the other node has read the question is known for `NoSuchNode`, `OtherKey`, `Unlisted` and
/// `TooLong` alone: it has not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// Nobody of this name is listed.
    #[error("no node {node} is listed; hint: `rollcall config show` lists the nodes")]
    NoSuchNode {
        /// As asked for.
        node: String,
    },
    /// There is no connection, or it broke.
    #[error("cannot reach {whom}: {trouble}")]
    Unreachable {
        /// The node, or the address.
        whom: String,
        /// Why.
        trouble: Trouble,
    },
    /// Who answers there has another key than it should: it is another host, or its keys were made anew.
    #[error(
        "{whom} presented the transport key {presented}, not {wanted}; hint: is it another host, or did it get new keys? Keys are compared with `rollcall status` on it"
    )]
    OtherKey {
        /// The node, or the address.
        whom: String,
        /// What it presented.
        presented: VerifyingKey,
        /// What it was to present.
        wanted: VerifyingKey,
    },
    /// It does not list this node's key, and takes no strangers now.
    #[error(
        "{whom} does not know this node's transport key {ours} and takes no strangers now; hint: is this node in its configuration, or, for joining, is a token of it still valid?"
    )]
    Unlisted {
        /// The node, or the address.
        whom: String,
        /// This node's key.
        ours: VerifyingKey,
    },
    /// Its agent gave no answer to this.
    #[error("{whom} refused to answer; hint: its log says why")]
    Refused {
        /// The node, or the address.
        whom: String,
    },
    /// Its agent has as many unanswered questions as it takes.
    #[error("{whom} is busy with earlier questions; hint: try again in a moment")]
    Busy {
        /// The node, or the address.
        whom: String,
    },
    /// No answer came in time.
    #[error("{whom} did not answer within {within:?}")]
    TimedOut {
        /// The node, or the address.
        whom: String,
        /// How long was waited.
        within: Duration,
    },
    /// The question is over the limit.
    #[error("a message of {length} bytes to {whom} is over the limit of {MAX_MESSAGE}")]
    TooLong {
        /// The node, or the address.
        whom: String,
        /// Its length.
        length: usize,
    },
    /// The child is being stopped.
    #[error("talking to other nodes was stopped")]
    Stopped,
}

/// Why nothing was started.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The child cannot be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The address cannot be listened on.
    #[error(
        "cannot listen on TCP {address}:{PEER_PORT} for other nodes; hint: `ss -ltnp` names who listens there"
    )]
    Listen {
        /// This node's own.
        address: Ipv4Addr,
        /// Why.
        source: io::Error,
    },
    /// What it is to start with is over a limit.
    #[error(transparent)]
    Spec(#[from] ChannelError),
}

/// Why a child is replaced.
#[derive(Debug, Error)]
pub(super) enum Fault {
    /// It could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It ended.
    #[error("it ended: {0}")]
    Exit(std::process::ExitStatus),
    /// It closed its end and lives on.
    #[error("it closed the channel")]
    Closed,
    /// Nothing came from it for too long.
    #[error("it was silent for too long")]
    Silent,
    /// It takes nothing that it is told.
    #[error("it does not read what it is told")]
    Deaf,
    /// It sent what is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It sent what is no message.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// It answered a call that was not made.
    #[error("it answered a call that was never made")]
    Unasked,
    /// It asked more at once than it may let through, or one thing twice.
    #[error("it let more questions through than it may")]
    Flood,
    /// The system refused.
    #[error("the channel failed")]
    System(#[source] io::Error),
}
