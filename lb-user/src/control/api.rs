//! What goes over the control socket: one request, one answer, each a line of JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a client may ask of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How things are. Also for the group `rollcall-view`.
    Status,
    /// Hand this node's share (`None`), or the named node's, to the others; open connections end naturally.
    Drain {
        /// A node's name.
        node: Option<String>,
    },
    /// Take a share again.
    Resume {
        /// A node's name.
        node: Option<String>,
    },
}

impl Request {
    /// What a client must be allowed to do.
    pub fn needs(&self) -> Permission {
        match self {
            Self::Status => Permission::View,
            Self::Drain { .. } | Self::Resume { .. } => Permission::Change,
        }
    }
}

/// What a client may do; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Ask.
    View,
    /// Change how the node serves.
    Change,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To `Status`.
    Status(Box<Status>),
    /// Done, or under way; `text` says which.
    Done {
        /// One sentence for the operator.
        text: String,
    },
    /// Refused or failed.
    Error {
        /// What, where, and what to do.
        text: String,
    },
}

/// How things are on one node, as `rollcall status` shows it and `status --json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// One sentence on what is wrong, if anything is.
    pub problem: Option<String>,
    /// `starting`, `serving`, `draining`, `stopping` or `observing`.
    pub state: String,
    /// Epoch of the owner table in force.
    pub epoch: u64,
    /// The default host's name, if one is known.
    pub default_host: Option<String>,
    /// Whether the lease lives: only then are new connections accepted.
    pub lease: bool,
    /// Every configured node, in the order of priorities.
    pub nodes: Vec<NodeStatus>,
    /// Owner tables: what this node holds.
    pub tables: Vec<TableStatus>,
    /// The cluster interface.
    pub interface: InterfaceStatus,
    /// Verdicts by reason, in the order of the reasons' names.
    pub counters: BTreeMap<String, Count>,
    /// The proxy; `None` where nothing is published.
    pub proxy: Option<ProxyStatus>,
    /// Fixed ports between nodes: heartbeat (UDP), peer (TCP).
    pub heartbeat_port: u16,
    /// See `heartbeat_port`.
    pub peer_port: u16,
    /// The latest events, oldest first; each a sentence.
    pub events: Vec<String>,
    /// Process id of the agent.
    pub pid: u32,
}

/// A node as this one sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its host priority.
    pub priority: u8,
    /// Its own address.
    pub address: String,
    /// `serving`, `starting`, `draining`, `stopped`, `suspect`, `dead`, `unknown` (never heard).
    pub state: String,
    /// How many buckets of the first `multiple` table it holds.
    pub holds: u32,
    /// Milliseconds since its last heartbeat; `None` for this node and for one never heard.
    pub silent_ms: Option<u64>,
    /// Whether its service works, as far as it says.
    pub ready: bool,
}

/// What this node holds of one owner table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableStatus {
    /// `multiple` or `single`.
    pub filtering: String,
    /// The TCP ports of its rules, as `443` or `8000-8099`, comma-separated.
    pub ports: String,
    /// How many buckets are this node's alone, arriving, departing.
    pub mine: u32,
    /// See `mine`.
    pub arriving: u32,
    /// See `mine`.
    pub departing: u32,
    /// One character a bucket: `.` other, `m` mine, `a` arriving, `d` departing.
    pub states: String,
}

/// The cluster interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native` or `generic`.
    pub xdp: String,
    /// Why not native, where it is not.
    pub why: Option<String>,
    /// Where the XDP program is attached, if on another interface.
    #[serde(default)]
    pub xdp_interface: Option<String>,
    /// Whether the tc companion that corrects the packet type is attached.
    pub tc_companion: bool,
    /// The cluster MAC address.
    pub cluster_mac: String,
    /// How frames for it come in: `a filter entry`, or `promiscuous mode` and why.
    #[serde(default)]
    pub filter: String,
    /// The folder with the pinned link and maps.
    pub pins: String,
}

/// Frames and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Frames.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The proxy child.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProxyStatus {
    /// Whether the process is there.
    pub alive: bool,
    /// Its process id.
    pub pid: Option<u32>,
    /// Whether it accepts and every farm has a healthy server.
    pub ready: bool,
    /// Open client connections.
    pub connections: u32,
    /// Requests in flight.
    pub requests: u32,
    /// How often it was started again after it died.
    pub restarts: u32,
    /// Every farm's servers.
    pub servers: Vec<ServerStatus>,
}

/// A server of a farm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The farm's name.
    pub farm: String,
    /// The server's name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Whether its health test succeeds.
    pub healthy: bool,
}
