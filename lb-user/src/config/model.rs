//! The checked configuration: what the rest of the agent works with. Values of these types have passed every check
//! (`check.rs`); nothing here is parsed or defaulted again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::held::{Files, Held};
use super::secret::{ClusterSecret, SecretError};
use crate::proxy::access::LogSettings;
use crate::proxy::protect::Protection;
use crate::proxy::protect::limits::Limits;
use crate::proxy::protect::proxies::TrustedProxy;
use crate::proxy::tls::Fingerprint;
use crate::shared::keys::PublicKeys;

mod check;
mod farm;
mod headers;
mod health;
mod message;
mod returning;
mod site;
mod store;
mod tcp;

pub use check::{Check, CheckKind};
pub use farm::{Balance, Reuse, Share};
pub use headers::{FieldEdits, HeaderEdits};
pub use health::{DEFAULT_TEST, HealthTest};
pub use message::{Maintenance, PLAIN_TEXT, Response};
pub use returning::{Failback, InitialState, Profile};
pub use site::{Action, Bounds, Clients, PathMatch, Route, Service, SiteTls};
pub use store::{Endpoint, Etcd, LONGEST_PREFIX, MOST_ENDPOINTS};
pub use tcp::{ClientAddress, HeaderVersion, TcpHealth, TcpService};

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
    /// Where the files that it names are read from.
    pub files: Files,
}

impl Config {
    /// The cluster secret: of the generation that this is, or from the file that this node's names.
    pub fn secret(&self) -> Result<ClusterSecret, SecretError> {
        match &self.files {
            Files::Disk => ClusterSecret::read(&self.local.secret_file),
            Files::Held(held) => {
                let path = PathBuf::from("in this generation");
                ClusterSecret::parse(&held.secret).map_err(|reason| SecretError::Malformed { path, reason })
            }
        }
    }

    /// This node's entry among the cluster's.
    pub fn me(&self) -> &Node {
        let me = self.cluster.nodes.iter().find(|node| node.name == self.local.name);
        me.expect("check.rs refuses a node file whose name is not in the cluster")
    }
}

/// What all nodes share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The addresses that the cluster serves, each with its network's prefix length; at least one of IPv4, at most
    /// `lb_common::table::CLUSTER_IPS`. The first gives the cluster MAC its last four bytes.
    pub cluster_ips: Vec<ClusterIp>,
    /// How frames for the cluster IPs reach every node.
    pub mode: Mode,
    /// All nodes, in the order of their priorities; at least one.
    pub nodes: Vec<Node>,
    /// Port rules, in the order of their first ports; no two share a port of one protocol and cluster IP. At most
    /// `lb_common::table::RULES - 1`.
    pub rules: Vec<PortRule>,
    /// What happens to connections that no rule names.
    pub unmatched: Unmatched,
    /// Heartbeats.
    pub timing: Timing,
    /// The router that a lone node must reach before it serves; `None`: the interface's default route, if it has one.
    pub gateway: Option<IpAddr>,
    /// Count verdicts and change nothing: the safe first run on a live host.
    pub observe: bool,
    /// Where generations are kept beside the nodes' own disks, if anywhere.
    pub store: Option<Etcd>,
    /// What the proxy publishes.
    pub sites: Vec<Site>,
    /// The servers behind it.
    pub farms: Vec<Farm>,
    /// What the proxy's clients are held to.
    pub limits: Limits,
    /// What is logged of requests.
    pub log: LogSettings,
    /// What keeps guessers and floods from the servers.
    pub protection: Protection,
    /// Who may say whom a request is from.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// What it passes on as it comes.
    pub tcp: Vec<TcpService>,
    /// How long connections in flight may go on once this node drains or stops.
    pub drain_timeout: Duration,
    /// When a node that was away takes its share back.
    pub failback: Failback,
    /// A node that fell and came back three times within this time gets no share until it has stayed for this time, up to
    /// 24 h; zero: it gets one every time.
    pub hold_down: Duration,
    /// Time over which the load weight of a returning node grows to its full value, up to 1 h; zero: at once.
    pub ramp: Duration,
    /// How a node begins after its agent starts.
    pub initial_state: InitialState,
}

impl Cluster {
    /// The cluster IP that lease probes ask for, by ARP.
    pub fn probed(&self) -> Ipv4Addr {
        self.v4_addresses().next().expect("check.rs refuses a cluster without an IPv4 cluster IP")
    }

    /// The cluster IPs that can be asked for by ARP, the one that lease probes ask for first.
    pub fn v4_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.cluster_ips.iter().filter_map(|ip| match ip.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    /// Where the proxy listens, in no order; an address may come twice.
    pub fn listens(&self) -> impl Iterator<Item = SocketAddr> {
        let sites = self.sites.iter().flat_map(|site| site.listen.iter().chain(&site.redirect));
        sites.chain(self.tcp.iter().flat_map(|service| &service.listen)).copied()
    }
}

/// A cluster IP and the prefix length of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterIp {
    /// The address that clients, or the router's NAT, know.
    pub address: IpAddr,
    /// The prefix length of the network that it and the nodes are in.
    pub prefix: u8,
}

/// A way to reach all nodes (DESIGN: `cluster.mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Frames go to the multicast MAC address 03:bf and the last four octets of the first cluster IP.
    Multicast,
    /// Frames go to the MAC address 01:00:5e:7f and the last two octets of the first cluster IP, that of the group 239.255.y.z,
    /// which every node joins.
    Igmp,
    /// Frames go to the MAC address 02:bf and the last four octets of the first cluster IP, which no frame ever has as its
    /// source, so that switches never learn where it is and flood.
    Unicast,
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
    /// Its address in a network without cluster IP: heartbeats go there too. Either all nodes have one or none.
    pub second_address: Option<Ipv4Addr>,
    /// Its share of `multiple` rules against the others', 0..=100.
    pub weight: u8,
    /// What the others know it by, where the nodes share their configuration by themselves.
    pub keys: Option<PublicKeys>,
}

/// Which flows a rule is for and how they are spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRule {
    /// The cluster IP; `None`: all of them.
    pub ip: Option<IpAddr>,
    /// The protocol.
    pub protocol: Protocol,
    /// First port of the range, at least 1.
    pub first_port: u16,
    /// Last port of the range, not below the first.
    pub last_port: u16,
    /// Which flows of one client stay together.
    pub affinity: lb_common::table::Affinity,
    /// Whether its TCP connections end in the agent's network namespace, so that they survive the move of a bucket.
    pub local: bool,
    /// How its flows are spread over the nodes.
    pub spread: Spread,
    /// How the service behind it is tested on each node; `None`: not at all. Not for rules that are `Disabled`.
    pub check: Option<Check>,
}

impl PortRule {
    /// Whether it is for this TCP port of a cluster IP.
    pub fn covers_tcp(&self, ip: IpAddr, port: u16) -> bool {
        self.protocol != Protocol::Udp
            && self.ip.is_none_or(|own| own == ip)
            && (self.first_port..=self.last_port).contains(&port)
    }
}

/// The protocol of a port rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// TCP and UDP.
    Both,
}

/// How an owner table spreads its buckets over the nodes. Rules that are spread and checked alike share a table where there are
/// too many for one each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Over all nodes, to one, or to nobody.
    pub filtering: Filtering,
    /// `Multiple`: the load weights, 0..=100, of nodes that have another in these rules than their own.
    pub weights: BTreeMap<Priority, u8>,
    /// `Single`: the handling priorities, 1..=64, of nodes that have another in these rules than their host priority. No two
    /// nodes have one and the same; the lowest number alive takes all.
    pub handling_priorities: BTreeMap<Priority, u8>,
    /// Whether clients stay with their node while the nodes change. Not with `Affinity::None`, nor for `Single`.
    pub stickiness: Option<Stickiness>,
}

impl Spread {
    /// Over all nodes by their own weights, or to the default host, or to nobody.
    pub const fn plain(filtering: Filtering) -> Self {
        Self { filtering, weights: BTreeMap::new(), handling_priorities: BTreeMap::new(), stickiness: None }
    }
}

/// How long clients stay with their node while the nodes change. It makes a join slower: a bucket moves only once it is idle. If
/// its owner dies it moves at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stickiness {
    /// A bucket stays until no packet of it has come for this long, 1 s to 240 min.
    pub timeout: Duration,
    /// It moves after this long all the same, `timeout` to 7 days.
    pub max_hold: Duration,
}

impl std::fmt::Display for PortRule {
    /// Its protocol and ports, and the cluster IP where it is for one: `tcp 443`, `tcp+udp 8000-8099 at 192.168.50.8`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Both => "tcp+udp",
        };
        write!(f, "{protocol} {}", self.first_port)?;
        if self.first_port != self.last_port {
            write!(f, "-{}", self.last_port)?;
        }
        self.ip.map_or(Ok(()), |ip| write!(f, " at {ip}"))
    }
}

/// A rule's filtering mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filtering {
    /// Over all nodes, by weight.
    Multiple,
    /// To one node alone, the one with the lowest handling priority; the others stand by.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

    /// Whether the lease must end by the precise clock, which costs a packet 31 ns: of a suspect time below 60 ms, ticks of 4 ms
    /// would take too much.
    pub fn needs_precise_lease(&self) -> bool {
        self.suspect() < Duration::from_millis(60)
    }
}

/// Names that the proxy serves at the cluster IPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Host names, lower case; the certificate serves them all.
    pub names: Vec<String>,
    /// Where it listens: every cluster IP with the site's port.
    pub listen: Vec<SocketAddr>,
    /// Where requests without TLS are redirected to it: every cluster IP with port 80, or nowhere.
    pub redirect: Vec<SocketAddr>,
    /// File with the certificate chain: PEM or PKCS#12.
    pub certificate: PathBuf,
    /// File with its private key; may be the same.
    pub key: PathBuf,
    /// What else there is to its TLS.
    pub tls: SiteTls,
    /// What it does with requests.
    pub service: Service,
}

/// Servers that can stand in for one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farm {
    /// Its name, unique.
    pub name: String,
    /// At least one.
    pub servers: Vec<Server>,
    /// How requests are spread over them.
    pub balance: Balance,
    /// How many of them this node must reach to be ready for the farm's sites, at least 1 and at most all.
    pub min_servers: usize,
    /// How a server proves who it is.
    pub verify: Verify,
    /// How a server proves that it works: at least one test, the farm's own first; each route says which counts for it.
    pub tests: Vec<HealthTest>,
    /// Longest time to connect to a server, TLS included.
    pub connect_timeout: Duration,
    /// Whose the connections to its servers are.
    pub reuse: Reuse,
}

/// A server of a farm, spoken to over TLS, or of a TCP service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name in status and logs; the address where none is given.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddrV4,
    /// Which requests it gets.
    pub share: Share,
}

/// How a server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// It presents the very certificate that the site serves, as Exchange's Extended Protection demands.
    SameCertificate,
    /// Its certificate is good for the site's first name under this CA (PEM file).
    Ca(PathBuf),
    /// Its certificate, or that one's public key, has one of these fingerprints.
    Pins(Vec<Fingerprint>),
    /// Not at all.
    Nothing,
    /// Nor is it spoken to by TLS: requests and answers, passwords among them, travel in clear.
    Clear,
}

/// What belongs to this machine alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Which of the cluster's nodes this is.
    pub name: String,
    /// The interface in the cluster IP's network.
    pub interface: String,
    /// Where the XDP program is attached, if not to `interface`: the NIC beneath a VLAN interface.
    pub xdp_interface: Option<String>,
    /// The VLAN tags with which frames for the cluster IPs come to `xdp_interface`, outermost first, 1..=4094; at most two.
    pub vlans: Vec<u16>,
    /// File with the cluster secret (`ClusterSecret`), readable by root alone.
    pub secret_file: PathBuf,
    /// File with this node's private keys, where the nodes share their configuration by themselves.
    pub key_file: PathBuf,
    /// User (name or number) that the proxy runs as.
    pub proxy_user: String,
    /// User (name or number) that the child runs as which talks to the other nodes.
    pub peer_user: String,
    /// Folder for the control socket and for what a killed agent leaves for the next, `/run/rollcall`.
    pub run_dir: PathBuf,
    /// Folder for what outlives a reboot, `/var/lib/rollcall`.
    pub state_dir: PathBuf,
    /// The program that is run for each event, if any, by its path from the root.
    pub on_event: Option<PathBuf>,
    /// The file that the access log is appended to, by its path from the root; `None`: standard output.
    pub access_log: Option<PathBuf>,
    /// Whether events go to syslog too.
    pub syslog: bool,
    /// How the XDP program is attached.
    pub xdp: XdpChoice,
}

impl Local {
    /// The interface with the XDP program.
    pub fn beneath(&self) -> &str {
        self.xdp_interface.as_deref().unwrap_or(&self.interface)
    }
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
