//! What this node tells the link beside heartbeats and probes, and what it hears of the others' tests.

use std::collections::BTreeMap;
use std::io;

use crate::announce::Announcer;
use crate::clock::Time;
use crate::config::model::{ClusterIp, Config, Priority};
use crate::dataplane::Hearing;
use crate::dataplane::link::Interface;
use crate::hearing::{Path, Sender};

/// On the cluster NIC.
pub(super) struct Voice {
    interface: u32,
    own_mac: [u8; 6],
    cluster_mac: [u8; 6],
    ips: Vec<ClusterIp>,
    sender: Sender,
    heard: Hearing,
    others: Vec<Priority>,
}

impl Voice {
    pub(super) fn open(
        config: &Config,
        nic: &Interface,
        cluster_mac: [u8; 6],
        heard: Hearing,
    ) -> io::Result<Self> {
        let me = config.me();
        let others = config.cluster.nodes.iter().map(|node| node.priority);
        let path = Path {
            node: me.priority,
            own: (me.address, nic.mac),
            cluster: (config.cluster.probed(), cluster_mac),
        };
        Ok(Self {
            interface: nic.index,
            own_mac: nic.mac,
            cluster_mac,
            ips: config.cluster.cluster_ips.clone(),
            sender: Sender::open(nic.index, &path)?,
            heard,
            others: others.filter(|node| *node != me.priority).collect(),
        })
    }

    /// Listens to the nodes of this configuration from now on.
    pub(super) fn follow(&mut self, config: &Config) {
        let (me, nodes) = (config.me().priority, &config.cluster.nodes);
        self.others = nodes.iter().map(|node| node.priority).filter(|node| *node != me).collect();
    }

    /// Sends a hearing test.
    pub(super) fn test(&self) -> io::Result<()> {
        self.sender.send()
    }

    /// When each other node's latest hearing test arrived.
    pub(super) fn hearing(&self) -> io::Result<BTreeMap<Priority, Time>> {
        self.heard.read(self.others.iter().copied())
    }

    /// What announces the cluster IPs.
    pub(super) fn announcer(&self) -> io::Result<Announcer> {
        Announcer::open(self.interface, &self.ips, self.cluster_mac, self.own_mac)
    }
}
