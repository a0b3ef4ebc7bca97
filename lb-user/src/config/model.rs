//! The checked configuration: what the rest of the agent works with. Values of these types have passed every check
//! (`check.rs`); nothing here is parsed or defaulted again.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A node's host priority, 1..=64 and unique in the cluster; it also names the node on the wire. Of the living nodes the one
/// with the lowest number is the default host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(u8);

impl Priority {
    /// The highest number that may be given.
    pub const MAX: u8 = 64;

    /// The priority `number`, or `None` outside 1..=64.
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// The number, 1..=64.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The whole configuration as one node sees it: what all nodes share, and this node's own facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Equal on every node.
    pub cluster: Cluster,
    /// This machine's.
    pub local: Local,
}

impl Config {
    /// This node's entry among the cluster's.
    pub fn me(&self) -> &Node {
        let me = self.cluster.nodes.iter().find(|node| node.name == self.local.name);
        me.expect("check.rs refuses a node file whose name is not in the cluster")
    }
}

/// What all nodes share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The addresses that the cluster serves, each with its network's prefix length; at least one, at most
    /// `lb_common::table::CLUSTER_IPS`.
    pub cluster_ips: Vec<ClusterIp>,
    /// How frames for the cluster IPs reach every node.
    pub mode: Mode,
    /// All nodes, in the order of their priorities; at least one.
    pub nodes: Vec<Node>,
    /// Port rules, in the order of their first ports; no two share a port.
    pub rules: Vec<PortRule>,
    /// What happens to connections that no rule names.
    pub unmatched: Unmatched,
    /// Heartbeats.
    pub timing: Timing,
    /// The router that a lone node must reach before it serves; `None`: the interface's default route, if it has one.
    pub gateway: Option<Ipv4Addr>,
    /// Count verdicts and change nothing: the safe first run on a live host.
    pub observe: bool,
    /// What the proxy publishes.
    pub sites: Vec<Site>,
    /// The servers behind it.
    pub farms: Vec<Farm>,
    /// How long connections in flight may go on once this node drains or stops.
    pub drain_timeout: Duration,
}

/// A cluster IP and the prefix length of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterIp {
    /// The address that clients, or the router's NAT, know.
    pub address: Ipv4Addr,
    /// The prefix length of the network that it and the nodes are in.
    pub prefix: u8,
}

/// A way to reach all nodes (DESIGN: `cluster.mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Frames go to the multicast MAC address 03:bf and the cluster IP's octets.
    Multicast,
}

/// A node, as all nodes know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Its host priority, unique in the cluster.
    pub priority: Priority,
    /// Its own address in the cluster IP's network: heartbeats go there.
    pub address: Ipv4Addr,
    /// Its share of `multiple` rules against the others', 0..=100.
    pub weight: u8,
}

/// Which connections a rule is for and how they are spread. Protocol TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRule {
    /// First port of the range, at least 1.
    pub first_port: u16,
    /// Last port of the range, not below the first.
    pub last_port: u16,
    /// How connections are spread over the nodes.
    pub filtering: Filtering,
    /// Which connections of one client stay together.
    pub affinity: lb_common::table::Affinity,
}

impl PortRule {
    /// Whether `port` is in its range.
    pub fn covers(&self, port: u16) -> bool {
        (self.first_port..=self.last_port).contains(&port)
    }
}

impl std::fmt::Display for PortRule {
    /// Its ports: `443` or `8000-8099`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first_port == self.last_port {
            write!(f, "{}", self.first_port)
        } else {
            write!(f, "{}-{}", self.first_port, self.last_port)
        }
    }
}

/// A rule's filtering mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// Over all nodes, by weight.
    Multiple,
    /// To the default host alone; the others stand by.
    Single,
    /// To nobody.
    Disabled,
}

/// What happens to connections that no port rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// They are dropped.
    Drop,
    /// The default host takes them, as NLB does; shows its other services to the world.
    DefaultHost,
}

/// Heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time from one heartbeat to the next, 5 ms to 1 s.
    pub period: Duration,
    /// How many periods of silence make a peer suspect, 3..=100.
    pub multiplier: u8,
}

impl Timing {
    /// Silence of this length makes a peer suspect.
    pub fn suspect(&self) -> Duration {
        self.period * u32::from(self.multiplier)
    }
}

/// Names that the proxy serves at the cluster IPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Host names, lower case; the certificate serves them all.
    pub names: Vec<String>,
    /// Where it listens: every cluster IP with the site's port.
    pub listen: Vec<SocketAddrV4>,
    /// PEM file with the certificate chain, the site's own first.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
    /// The name of the farm that answers.
    pub farm: String,
}

/// Servers that can stand in for one another.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// A server of a farm; always spoken to over TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name in status and logs; the address where none is given.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddrV4,
}

/// How a server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// It presents the very certificate that the site serves, as Exchange's Extended Protection demands.
    SameCertificate,
    /// Its certificate is good for the site's first name under this CA (PEM file).
    Ca(PathBuf),
    /// Not at all.
    Nothing,
}

/// A request that a working server answers well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthTest {
    /// The path that is asked for, such as `/owa/healthcheck.htm`.
    pub path: String,
    /// The request's Host.
    pub host: String,
    /// The status of a good answer.
    pub status: u16,
    /// What a good answer's body contains; empty: anything.
    pub body: String,
    /// Time from one test to the next.
    pub interval: Duration,
    /// Longest time for one test.
    pub timeout: Duration,
    /// Failures in a row that make a server unhealthy; one success makes it healthy again.
    pub failures: u8,
}

/// What belongs to this machine alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Which of the cluster's nodes this is.
    pub name: String,
    /// The interface in the cluster IP's network.
    pub interface: String,
    /// File with the cluster secret, 64 hexadecimal digits, readable by root alone.
    pub secret_file: PathBuf,
    /// User (name or number) that the proxy runs as.
    pub proxy_user: String,
    /// Folder for the control socket and for what a killed agent leaves for the next, `/run/rollcall`.
    pub run_dir: PathBuf,
    /// How the XDP program is attached.
    pub xdp: XdpChoice,
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpChoice {
    /// In the driver where it can, else generic.
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the network stack.
    Generic,
}

/// Heartbeats between nodes (UDP).
pub const HEARTBEAT_PORT: u16 = 7644;

/// Replication and joining between nodes (TCP); reserved, nothing listens there yet.
pub const PEER_PORT: u16 = 7645;
