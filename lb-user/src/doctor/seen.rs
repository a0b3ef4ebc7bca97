//! What was seen: plain facts, from which `judge` makes findings. Nothing here is judged yet.

use std::net::{Ipv4Addr, SocketAddr};

use super::firewall::Obstacle;
use super::host::Manager;
use super::machine::Machine;
use crate::config::model::Mode;

/// What was seen of a thing, or why nobody looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look<T> {
    /// It.
    Seen(T),
    /// Nobody looked, because of this.
    Not(String),
}

impl<T> Look<T> {
    /// It, if somebody looked.
    pub fn seen(&self) -> Option<&T> {
        match self {
            Self::Seen(seen) => Some(seen),
            Self::Not(_) => None,
        }
    }
}

/// All that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observations {
    /// This node's interface.
    pub interface: Result<Port, String>,
    /// What the gateway does.
    pub gateway: Look<Gateway>,
    /// Frames sent to the other nodes.
    pub frames: Look<Vec<Counted>>,
    /// What the agents' own tests say of the configured mode.
    pub hearing: Look<Hearing>,
    /// What this host runs on.
    pub machine: Machine,
    /// The bridge that the interface is, or is a port of; `None`: neither.
    pub bridge: Option<Bridge>,
    /// Who manages interfaces that carry what the agent sets.
    pub managers: Vec<Managed>,
    /// What this host's packet filter does to what has to come in.
    pub firewall: Look<Vec<Obstacle>>,
    /// The other nodes.
    pub peers: Look<Vec<Peer>>,
    /// The servers.
    pub servers: Look<Vec<Server>>,
    /// Where open connections come from.
    pub clients: Look<Clients>,
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Whether it is switched on.
    pub up: bool,
    /// Whether its cable is connected.
    pub carrier: bool,
    /// Whether it has this node's address.
    pub has_address: bool,
}

/// What the gateway does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it answers ARP.
    pub resolves: bool,
    /// Echo requests from this node's own address.
    pub own: Echoes,
    /// Who answers for the cluster IP with another MAC address than the cluster's.
    pub claimed_by: Option<[u8; 6]>,
    /// Echo requests from the cluster IP.
    pub modes: Vec<ModeEchoes>,
}

/// Echo requests and what came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Echoes {
    /// How many were sent.
    pub sent: u32,
    /// How many came back.
    pub back: u32,
}

/// Echo requests from the cluster IP at the cluster MAC of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeEchoes {
    /// The mode.
    pub mode: Mode,
    /// What was sent, and came back to the cluster MAC.
    pub echoes: Echoes,
    /// How many came back to another MAC address than this mode's: the gateway keeps what it knew.
    pub elsewhere: u32,
    /// How often the gateway asked where the cluster IP is, and was answered.
    pub asked: u32,
    /// Who saw them.
    pub by: Watch,
}

/// Who saw what came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// A socket: the very echoes.
    Socket,
    /// The agent's counters, since its packet program drops such echoes: others may have been among them.
    Counters,
}

/// Frames that this node sent to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The other node.
    pub node: String,
    /// Its MAC address, if it answered ARP.
    pub mac: Option<[u8; 6]>,
    /// Whether its agent, or `rollcall doctor --listen` there, answered.
    pub listens: bool,
    /// How many frames went to the cluster MAC of each mode, and how many arrived.
    pub modes: Vec<(Mode, Echoes)>,
}

/// What the agents' tests say: each serving node sends a frame to the cluster MAC each second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hearing {
    /// How many nodes serve.
    pub serving: usize,
    /// Those that hear nothing while others do.
    pub deaf: Vec<String>,
}

/// A bridge of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// Whether the node's interface is the bridge itself, not a port of it.
    pub itself: bool,
    /// Whether it sends multicast only where somebody asked for it.
    pub snooping: bool,
    /// The port's `mcast_router`: 2 gets all multicast. Of the bridge itself its own setting.
    pub router: u8,
}

/// An interface and who manages it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// The interface.
    pub interface: String,
    /// Who.
    pub by: Manager,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its peer port.
    pub port: Reach,
    /// Its heartbeats.
    pub heartbeats: Heartbeats,
}

/// What a TCP connection came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It was made.
    Open,
    /// The host refused it: nobody listens.
    Refused,
    /// Nothing came back in time.
    Silent,
    /// This host cannot send there.
    Failed(String),
}

/// Heartbeats of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heartbeats {
    /// They come.
    Heard,
    /// None came for longer than they may stay away.
    Missing,
    /// Nobody here listens, because of this.
    Unknown(String),
}

/// A server behind the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its farm and name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What a connection came to.
    pub reach: Reach,
}

/// Where open connections come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    /// How many were looked at.
    pub connections: usize,
    /// From how many addresses.
    pub addresses: usize,
    /// The address that most of them come from.
    pub most: Option<(std::net::IpAddr, usize)>,
}
