//! The lab's internet: from the client to the router, over one more router and a narrow link where the plan says so.
//!
//! ```text
//!  client                 hop                                  router
//!  203.0.113.10 --1280--- .2   198.51.100.2 --(plan's MTU)---- .1   203.0.113.1
//! ```
//!
//! The client behind the narrow link announces segments as large as if there were none (as clients do whose narrow link is one
//! further away), so that the nodes have to learn of it by ICMP.

use std::fs;

use anyhow::{Context as _, Result};

use super::{CLIENT, CLIENT_POOL, CLIENT6, Lab, PUBLIC, plug};
use crate::sys::Namespace;

/// The MTU of the narrow link: the least that IPv6 allows.
const SMALL: u16 = 1280;

impl Lab {
    /// Plugs the client in, with its addresses and routes, and the router's side.
    pub(super) fn connect_internet(&self) -> Result<()> {
        if self.plan.small_hop { self.connect_by_hop() } else { self.connect_at_once() }?;
        if self.plan.ipv6 {
            self.router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        }
        let (first, _) = CLIENT_POOL;
        self.client.ip(&format!("route add local 203.0.113.{first}/26 dev wan"))?;
        if self.plan.ipv6 {
            self.client.ip("route add local 2001:db8:113:1::/64 dev lo")?;
            // With IPv4 the route is enough.
            self.client.sysctl("net/ipv6/ip_nonlocal_bind", "1")?;
        }
        Ok(())
    }

    fn connect_at_once(&self) -> Result<()> {
        self.cable(&self.client, "wan", &self.router, "wan", None)?;
        self.client.ip(&format!("addr add {CLIENT}/24 dev wan\nroute add default via {PUBLIC}"))?;
        self.router.ip(&format!("addr add {PUBLIC}/24 dev wan"))?;
        if self.plan.ipv6 {
            self.client.ip(&format!(
                "addr add {CLIENT6}/64 dev wan nodad\nroute add default via 2001:db8:113::1 dev wan"
            ))?;
            self.router.ip(&format!(
                "addr add 2001:db8:113::1/64 dev wan nodad\nroute add 2001:db8:113:1::/64 via {CLIENT6} dev wan"
            ))?;
        }
        Ok(())
    }

    fn connect_by_hop(&self) -> Result<()> {
        let hop = self.hop()?;
        plug(&self.client, "wan", hop, "near", None, SMALL)?;
        self.cable(hop, "far", &self.router, "wan", None)?;
        self.client.ip(&format!(
            "addr add {CLIENT}/24 dev wan\nroute add {PUBLIC} via 203.0.113.2 advmss 1460\nroute add default via 203.0.113.2 advmss 1460"
        ))?;
        hop.ip(&format!(
            "addr add 203.0.113.2/24 dev near\naddr add 198.51.100.2/30 dev far\nroute add {PUBLIC} via 198.51.100.1\nroute add default via 198.51.100.1"
        ))?;
        self.router.ip(&format!(
            "addr add 198.51.100.1/30 dev wan\naddr add {PUBLIC}/32 dev wan\nroute add 203.0.113.0/24 via 198.51.100.2"
        ))?;
        hop.sysctl("net/ipv4/ip_forward", "1")?;
        if self.plan.ipv6 { self.connect_by_hop6(hop) } else { Ok(()) }
    }

    fn connect_by_hop6(&self, hop: &Namespace) -> Result<()> {
        self.client.ip(&format!(
            "addr add {CLIENT6}/64 dev wan nodad\nroute add default via 2001:db8:113::2 dev wan advmss 1440"
        ))?;
        hop.ip(&format!(
            "addr add 2001:db8:113::2/64 dev near nodad\naddr add 2001:db8:114::2/64 dev far nodad\nroute add default via 2001:db8:114::1 dev far\nroute add 2001:db8:113:1::/64 via {CLIENT6} dev near"
        ))?;
        self.router.ip(
            "addr add 2001:db8:114::1/64 dev wan nodad\nroute add 2001:db8:113::/48 via 2001:db8:114::2 dev wan",
        )?;
        hop.sysctl("net/ipv6/conf/all/forwarding", "1")
    }

    /// How often the hop has said that a packet is too big: of IPv4, of IPv6.
    pub fn packets_too_big(&self) -> Result<(u64, u64)> {
        // Not /proc/net, which is that of the process's first thread.
        let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        let (v4, v6) = self.hop()?.enter(|| (read("snmp"), read("snmp6").unwrap_or_default()))?;
        let v4 = in_columns(&v4?, "Icmp:", "OutDestUnreachs").context("snmp has no OutDestUnreachs")?;
        let v6 = v6.lines().find_map(|line| line.strip_prefix("Icmp6OutPktTooBigs"));
        Ok((v4, v6.and_then(|number| number.trim().parse().ok()).unwrap_or(0)))
    }
}

/// The number below a name in the two lines of /proc/net/snmp that begin with `group`.
fn in_columns(snmp: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with(group));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let column = names.split_whitespace().position(|word| word == name)?;
    numbers.split_whitespace().nth(column)?.parse().ok()
}
