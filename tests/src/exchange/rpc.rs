//! An Outlook whose two RPC channels carry as much as they may: tests/python/rpc_streams.py. What it does is written there.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{Exchange, told};
use crate::sys::{Memory, memory};

/// What left and what came at both ends.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streams {
    /// Of the OUT channel's response, and of the IN channel's, which comes at its end.
    pub status: [u16; 2],
    seconds: f64,
    /// Outlook's end.
    pub client: Ends,
    /// The server's.
    pub server: Ends,
}

/// What one end sent and received.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ends {
    /// To the other.
    pub sent: Sum,
    /// From it.
    pub received: Sum,
}

/// How much, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    /// Without what opened the channel.
    pub bytes: u64,
    /// SHA-256 of all of it.
    pub digest: String,
}

impl Streams {
    /// Fills both channels of a virtual connection, each `length` bytes long, at the same time.
    pub fn run(exchange: &Exchange, length: u64) -> Result<Self> {
        told(exchange.client("rpc_streams.py")?.args(["--bytes", &length.to_string()]))
    }

    /// How long it took.
    pub fn took(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// What keeps it from being whole in both directions; `None`: nothing.
    pub fn trouble(&self, length: u64) -> Option<String> {
        /// What the PDUs take that open a channel.
        const OPENING: u64 = 200;
        let whole = |sum: &Sum| sum.bytes > length - OPENING && sum.bytes <= length;
        let Self { status, client, server, .. } = self;
        let sound = *status == [200, 200]
            && client.sent == server.received
            && server.sent == client.received
            && whole(&client.sent)
            && whole(&server.sent);
        (!sound).then(|| format!("{self:#?}"))
    }
}

/// The most memory that the proxy of a node has ever had resident, in bytes.
pub fn peak_memory(exchange: &mut Exchange, node: &str) -> Result<u64> {
    let proxy = exchange.cluster.node(node).status()?.proxy;
    let pid = proxy.and_then(|proxy| proxy.pid).with_context(|| format!("{node} has no proxy"))?;
    memory(pid, Memory::Peak)
}
