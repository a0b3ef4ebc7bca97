//! What befalls the lab's network: a firewall that drops heartbeats, a segment that falls apart, a router that one node cannot
//! reach or that restarts. Cables and power are in `lab`.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use lb_user::config::model::HEARTBEAT_PORT;

use super::{Lab, Place, mac_text};

/// The table of a packet filter that stands for a fault.
const FAULT: &str = "fault";

impl Lab {
    /// A firewall on the node's own host drops the heartbeats that come in; all else passes.
    pub fn filter_heartbeats(&self, place: &Place) -> Result<()> {
        place.namespace.nft(&format!(
            "table inet {FAULT} {{\nchain heartbeats {{\ntype filter hook input priority 0;\nudp dport {HEARTBEAT_PORT} drop\n}}\n}}\n"
        ))
    }

    /// The same for those that come in on one of its interfaces.
    pub fn filter_heartbeats_on(&self, place: &Place, interface: &str) -> Result<()> {
        place.namespace.nft(&format!(
            "table inet {FAULT} {{\nchain heartbeats {{\ntype filter hook input priority 0;\niifname {interface} udp dport {HEARTBEAT_PORT} drop\n}}\n}}\n"
        ))
    }

    /// Undoes [`Lab::filter_heartbeats`] and [`Lab::filter_heartbeats_on`].
    pub fn pass_heartbeats(&self, place: &Place) -> Result<()> {
        place.namespace.nft(&format!("delete table inet {FAULT}\n"))
    }

    /// The segment falls in two: these nodes hear each other, and nobody else, the router neither. No carrier is lost.
    pub fn split_off(&self, places: &[&Place]) -> Result<()> {
        if self.dmz.ip("link show br1").is_err() {
            self.dmz.ip("link add br1 type bridge mcast_snooping 0 stp_state 0\nlink set br1 up")?;
        }
        self.move_to_bridge(places, "br1")
    }

    /// Undoes [`Lab::split_off`].
    pub fn rejoin(&self, places: &[&Place]) -> Result<()> {
        self.move_to_bridge(places, "br0")
    }

    fn move_to_bridge(&self, places: &[&Place], bridge: &str) -> Result<()> {
        let commands: String =
            places.iter().map(|place| format!("link set {} master {bridge}\n", place.name)).collect();
        self.dmz.ip(&commands).map(drop)
    }

    /// The router no longer answers what this node asks by ARP; the nodes hear each other as before.
    pub fn hide_gateway(&self, place: &Place) -> Result<()> {
        self.router.nft(&format!(
            "table arp {FAULT} {{\nchain questions {{\ntype filter hook input priority 0;\narp saddr ether {} drop\n}}\n}}\n",
            mac_text(place.mac)
        ))
    }

    /// The same of what it asks by neighbour discovery.
    pub fn hide_gateway6(&self, place: &Place) -> Result<()> {
        self.router.nft(&format!(
            "table ip6 {FAULT} {{\nchain questions {{\ntype filter hook input priority 0;\nicmpv6 type nd-neighbor-solicit ether saddr {} drop\n}}\n}}\n",
            mac_text(place.mac)
        ))
    }

    /// The router takes no multicast MAC address from ARP, as pfSense, FreeBSD and Cisco's do out of the box (RFC 1812, section 3.3.2).
    pub fn refuse_multicast_arp(&self) -> Result<()> {
        self.router.nft(&format!(
            "table arp {FAULT} {{\nchain learning {{\ntype filter hook input priority 0;\narp saddr ether and 01:00:00:00:00:00 == 01:00:00:00:00:00 drop\n}}\n}}\n"
        ))
    }

    /// The snooping switch no longer takes a node's port for one to a router, which it is by no means: what carries a unicast address
    /// to a multicast MAC address does not reach it any more.
    pub fn snoop_on(&self, place: &Place) -> Result<()> {
        self.dmz.ip(&format!("link set {} type bridge_slave mcast_router 0", place.name)).map(drop)
    }

    /// A firewall on the node's own host lets nobody connect to that port.
    pub fn block_port(&self, place: &Place, port: u16) -> Result<()> {
        place.namespace.nft(&format!(
            "table inet {FAULT} {{\nchain ports {{\ntype filter hook input priority 0;\ntcp dport {port} drop\n}}\n}}\n"
        ))
    }

    /// Undoes [`Lab::hide_gateway6`].
    pub fn show_gateway6(&self) -> Result<()> {
        self.router.nft(&format!("delete table ip6 {FAULT}\n"))
    }

    /// Undoes [`Lab::hide_gateway`].
    pub fn show_gateway(&self) -> Result<()> {
        self.router.nft(&format!("delete table arp {FAULT}\n"))
    }

    /// A firewall on the node's own host lets nothing out to that server.
    pub fn block_server(&self, place: &Place, server: Ipv4Addr) -> Result<()> {
        place.namespace.nft(&format!(
            "table inet {FAULT} {{\nchain servers {{\ntype filter hook output priority 0;\nip daddr {server} drop\n}}\n}}\n"
        ))
    }

    /// Undoes [`Lab::block_server`].
    pub fn unblock_server(&self, place: &Place) -> Result<()> {
        place.namespace.nft(&format!("delete table inet {FAULT}\n"))
    }

    /// The router's interface in the DMZ goes down, as while it restarts.
    pub fn stop_router(&self) -> Result<()> {
        self.router.ip("link set dmz down").map(drop)
    }

    /// The router is back. What it knew of the DMZ is gone.
    pub fn start_router(&self) -> Result<()> {
        self.router.ip("link set dmz up").context("the router does not come back").map(drop)
    }
}
