//! The lab's switches: what they flood, what they send only where somebody asked for it, and whom they leave out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{Lab, Place};
use crate::sys::{Namespace, output};

/// A switch that floods the cluster MAC and forwards at once: no snooping, no spanning tree.
const PLAIN: &str = "link add br0 type bridge mcast_snooping 0 stp_state 0";

/// One that snoops, with times (in hundredths of a second) as short as a test wants them. The querier comes after them, because
/// the response interval is also how long a new querier floods all the same.
const SNOOPING: &str = "link add br0 type bridge mcast_snooping 1 stp_state 0 mcast_query_response_interval 100 \
    mcast_query_interval 200 mcast_startup_query_interval 100 mcast_membership_interval 600 mcast_igmp_version 3 \
    mcast_mld_version 2";

impl Lab {
    /// The bridges of DMZ and LAN, with the router plugged into both.
    pub(super) fn make_switches(&self) -> Result<()> {
        for (bridge, name) in [(&self.dmz, "dmz"), (&self.lan, "lan")] {
            let snooping = self.plan.snooping && name == "dmz";
            bridge.ip(if snooping { SNOOPING } else { PLAIN })?;
            bridge.ip("link set br0 up")?;
            self.cable(&self.router, name, bridge, "router", None)?;
            if snooping {
                bridge.ip("link set br0 type bridge mcast_querier 1")?;
            }
        }
        self.expect_multicast("router")
    }

    /// Tells a snooping switch of the DMZ that a port leads to a router, and so to whoever may want any multicast frame.
    pub(super) fn expect_multicast(&self, port: &str) -> Result<()> {
        if !self.plan.snooping {
            return Ok(());
        }
        self.dmz.ip(&format!("link set {port} type bridge_slave mcast_router 2")).map(drop)
    }

    /// Lets frames for the cluster MAC no longer reach a node, while all that is for itself does.
    pub fn deafen(&self, place: &Place) -> Result<()> {
        self.dmz
            .ip(&format!(
                "link set {} type bridge_slave flood off mcast_flood off mcast_router 0",
                place.name
            ))
            .map(drop)
    }

    /// Undoes [`Lab::deafen`].
    pub fn undeafen(&self, place: &Place) -> Result<()> {
        let router = if self.plan.snooping { 2 } else { 1 };
        self.dmz
            .ip(&format!(
                "link set {} type bridge_slave flood on mcast_flood on mcast_router {router}",
                place.name
            ))
            .map(drop)
    }

    /// The ports of the DMZ's switch that have asked it for a multicast group.
    pub fn listeners(&self, group: IpAddr) -> Result<BTreeSet<String>> {
        let mut bridge = Command::new("bridge");
        bridge.args(["-netns", self.dmz.name(), "-json", "mdb", "show"]);
        let text = output(&mut bridge, None)?;
        let tables: Vec<Memberships> =
            serde_json::from_str(&text).with_context(|| format!("`bridge mdb show` printed {text}"))?;
        let entries = tables.into_iter().flat_map(|table| table.mdb);
        Ok(entries.filter(|entry| entry.grp == group.to_string()).map(|entry| entry.port).collect())
    }
}

/// A table of `bridge -json mdb show`.
#[derive(Deserialize)]
struct Memberships {
    #[serde(default)]
    mdb: Vec<Membership>,
}

#[derive(Deserialize)]
struct Membership {
    port: String,
    grp: String,
}

/// Whether the multicast MAC address `mac` is one that an interface of `namespace` takes frames for (`ip maddr`).
pub fn takes_multicast(namespace: &Namespace, interface: &str, mac: [u8; 6]) -> Result<bool> {
    let mut ip = Command::new("ip");
    ip.args(["-n", namespace.name(), "maddr", "show", "dev", interface]);
    let text = output(&mut ip, None)?;
    let wanted = super::mac_text(mac);
    Ok(text.lines().any(|line| line.split_whitespace().any(|word| word == wanted)))
}
