//! The doctor: why a cluster does not work on its network, and what to type so that it does.
//!
//! [`observe`] looks (probes send frames, connect, read files, ask the agent), [`examine`] judges what was seen and is pure. A
//! node's agent, or `rollcall doctor --listen`, answers the frames that another node's doctor sends ([`responder`]).
//!
//! Nothing is changed on this host. On the network a gateway's ARP entry for an unused cluster IP is: see `probe/gateway.rs`.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::model::{Config, Mode};
use crate::dataplane::plan::cluster_mac;

pub use finding::{Finding, Line, Severity};
pub use judge::examine;
pub(crate) use probe::gateway::modes_that_come_back;
pub use probe::{Scope, observe};
pub use seen::Observations;

mod finding;
mod firewall;
mod host;
mod judge;
mod machine;
mod probe;
pub(crate) mod responder;
mod seen;
mod wire;

/// How many frames the doctor sends to the cluster MAC of a mode at most.
const MAX_FRAMES: u32 = 20;

/// Every mode, in the order in which they ask least of the network.
pub(crate) const MODES: [Mode; 3] = [Mode::Unicast, Mode::Multicast, Mode::Igmp];

/// Whose network is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// This node's name.
    pub node: String,
    /// Its interface in the cluster IP's network.
    pub interface: String,
    /// Its own address there.
    pub address: Ipv4Addr,
    /// The first IPv4 cluster IP.
    pub cluster_ip: Ipv4Addr,
    /// The address that gives the cluster MAC its last bytes.
    pub first_ip: IpAddr,
    /// The configured way to reach all nodes.
    pub mode: Mode,
    /// Whether the nodes share their configuration, and so use the peer port.
    pub shares: bool,
    /// Whether a rule keeps a client's connections on one node.
    pub sticks: bool,
}

impl Subject {
    /// That of a configuration.
    pub fn of(config: &Config) -> Self {
        let (cluster, me) = (&config.cluster, config.me());
        let sticks = |affinity: lb_common::table::Affinity| affinity != lb_common::table::Affinity::None;
        Self {
            node: me.name.clone(),
            interface: config.local.interface.clone(),
            address: me.address,
            cluster_ip: cluster.probed(),
            first_ip: cluster.cluster_ips.first().map_or(cluster.probed().into(), |ip| ip.address),
            mode: cluster.mode,
            shares: me.keys.is_some(),
            sticks: cluster.rules.iter().any(|rule| sticks(rule.affinity)),
        }
    }

    /// The cluster MAC in that mode.
    pub(crate) fn mac(&self, mode: Mode) -> [u8; 6] {
        cluster_mac(mode, self.first_ip)
    }
}

/// As the cluster file has it.
pub(crate) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Multicast => "multicast",
        Mode::Igmp => "igmp",
        Mode::Unicast => "unicast",
    }
}

/// The group that nodes join in igmp mode; `ip` is the first cluster IP.
pub(crate) fn igmp_group(ip: IpAddr) -> Ipv4Addr {
    let [.., c, d] = cluster_mac(Mode::Igmp, ip);
    Ipv4Addr::new(239, 255, c, d)
}

/// Where frames go in each mode; `ip` is the first cluster IP.
fn cluster_macs(ip: IpAddr) -> [(Mode, [u8; 6]); 3] {
    MODES.map(|mode| (mode, cluster_mac(mode, ip)))
}
