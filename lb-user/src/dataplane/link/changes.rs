//! config -> changes of this host -> their undoing. What was there before is left alone, what is added stands in the record
//! first, and only what stands there is ever taken away.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::host::{self, Record};
use super::netlink::{HostAddress, Netlink};
use super::{LinkError, change, interface};
use crate::config::model::{Config, Mode};

/// What a configuration needs of this host, apart from settings.
pub(super) struct Wanted {
    /// Frames for it must come in.
    pub(super) mac: [u8; 6],
    /// The group that snooping switches must find this host in, of 01:00:5e:7f:y:z (RFC 1112, section 6.4).
    pub(super) group: Option<Ipv4Addr>,
    /// The cluster IPs.
    pub(super) addresses: Vec<IpAddr>,
}

impl Wanted {
    pub(super) fn of(config: &Config, mac: [u8; 6]) -> Self {
        let [.., y, z] = mac;
        let group = match config.cluster.mode {
            Mode::Igmp => Some(Ipv4Addr::new(239, 255, y, z)),
            Mode::Multicast | Mode::Unicast => None,
        };
        let addresses = config.cluster.cluster_ips.iter().map(|ip| ip.address).collect();
        Self { mac, group, addresses }
    }

    /// Solicitations for these must come in.
    fn solicited(&self) -> impl Iterator<Item = Ipv6Addr> {
        let v6 = |address: &IpAddr| if let IpAddr::V6(address) = address { Some(*address) } else { None };
        self.addresses.iter().filter_map(v6)
    }
}

/// Adds to the record what is missing on this host, and takes from both what an earlier agent added and nobody wants now:
/// with a former cluster IP this host would reach itself where others reach somebody else.
pub(super) fn plan(record: &mut Record, netlink: &mut Netlink, wanted: &Wanted) -> Result<(), LinkError> {
    let present = netlink.addresses().map_err(change("telling its addresses"))?;
    let nic = interface::name(netlink, record.index);
    refuse(&present, netlink, wanted, &nic)?;
    plan_addresses(record, &present, wanted);
    forget_former(record, netlink, wanted)?;
    if record.mac.is_none() {
        let hears = netlink.hears(record.index, wanted.mac).map_err(change("telling its MAC filter"))?;
        record.mac = (!hears).then_some(wanted.mac);
    }
    if let (Some(group), None) = (wanted.group, record.group) {
        let joined = |found: &HostAddress| found.interface == record.index && found.address == group;
        record.group = (!present.iter().any(joined)).then_some(group);
    }
    // A host without IPv6 need not be asked.
    if wanted.solicited().next().is_some() {
        let before = netlink.solicited(record.index).map_err(change("telling its proxied neighbours"))?;
        let missing = wanted.solicited().filter(|address| !before.contains(address));
        let missing: Vec<_> = missing.filter(|address| !record.solicited.contains(address)).collect();
        record.solicited.extend(missing);
    }
    Ok(record.plan_settings(wider(&present, wanted))?)
}

/// Lets frames for the cluster MAC in, by promiscuous mode only where the driver takes no entry. Says how. `write` keeps the
/// record before anything is done that stands in it.
pub(super) fn let_in(
    record: &mut Record,
    netlink: &mut Netlink,
    mac: [u8; 6],
    write: impl Fn(&Record) -> Result<(), LinkError>,
) -> Result<String, LinkError> {
    let heard = netlink.hear(record.index, mac);
    let was = record.promiscuous;
    let how = match heard {
        Ok(()) => {
            record.promiscuous = false;
            "a filter entry".to_owned()
        }
        Err(error) if is_refusal(&error) => {
            record.mac = None;
            let already = netlink.is_promiscuous(record.index).map_err(change("telling its flags"))?;
            record.promiscuous |= !already;
            format!("promiscuous mode: the driver refuses a filter entry ({error})")
        }
        Err(error) => return Err(change("letting the cluster MAC in")(error)),
    };
    if was && !record.promiscuous {
        netlink.set_promiscuous(record.index, false).map_err(change("ending promiscuous mode"))?;
    }
    write(record)?;
    if record.promiscuous {
        netlink.set_promiscuous(record.index, true).map_err(change("promiscuous mode"))?;
    }
    Ok(how)
}

/// Adds groups and addresses, those that are there already excepted.
pub(super) fn add(record: &Record, netlink: &mut Netlink) -> Result<(), LinkError> {
    if let Some(group) = record.group {
        netlink.join(record.index, group).map_err(change("joining the cluster's multicast group"))?;
    }
    for address in &record.solicited {
        let joined = netlink.solicit(record.index, *address);
        joined.map_err(change("joining a solicited-node group"))?;
    }
    for address in &record.addresses {
        netlink.add_to_loopback(*address).map_err(change("adding the cluster IP to lo"))?;
    }
    Ok(())
}

/// Takes everything away that the record has. Goes on after a failure, and reports the first.
pub(super) fn undo(record: &Record) -> Result<(), LinkError> {
    let mut netlink = Netlink::open().map_err(change("opening a netlink socket"))?;
    let mut results = Vec::new();
    for address in &record.addresses {
        let removed = netlink.remove_from_loopback(*address);
        results.push(removed.map_err(change("removing the cluster IP from lo")));
    }
    for address in &record.solicited {
        let left = unless_gone(netlink.unsolicit(record.index, *address));
        results.push(left.map_err(change("leaving a solicited-node group")));
    }
    if let Some(group) = record.group {
        let left = unless_gone(netlink.leave(record.index, group));
        results.push(left.map_err(change("leaving the cluster's multicast group")));
    }
    if let Some(mac) = record.mac {
        let removed = unless_gone(netlink.unhear(record.index, mac));
        results.push(removed.map_err(change("removing the cluster MAC")));
    }
    if record.promiscuous {
        let ended = unless_gone(netlink.set_promiscuous(record.index, false));
        results.push(ended.map_err(change("ending promiscuous mode")));
    }
    results.into_iter().collect()
}

/// What this host must not have, or not lack. Nothing was changed yet.
fn refuse(
    present: &[HostAddress],
    netlink: &mut Netlink,
    wanted: &Wanted,
    nic: &str,
) -> Result<(), LinkError> {
    let elsewhere = |found: &&HostAddress| !found.on_loopback() && wanted.addresses.contains(&found.address);
    if let Some(found) = present.iter().find(elsewhere) {
        return Err(LinkError::Ordinary {
            address: found.address,
            prefix: found.prefix,
            interface: interface::name(netlink, found.interface),
        });
    }
    let without = ["lo", nic].into_iter().find(|interface| host::lacks_ipv6(interface));
    match (wanted.solicited().next(), without) {
        (Some(address), Some(interface)) => {
            Err(LinkError::NoIpv6 { address, interface: interface.to_owned() })
        }
        (None, _) | (_, None) => Ok(()),
    }
}

/// Whether a cluster IP is on the loopback interface with a wider scope than this agent would give it.
fn wider(present: &[HostAddress], wanted: &Wanted) -> bool {
    let ours = |found: &&HostAddress| found.address.is_ipv4() && wanted.addresses.contains(&found.address);
    present.iter().filter(ours).any(|found| !found.host_scope)
}

fn plan_addresses(record: &mut Record, present: &[HostAddress], wanted: &Wanted) {
    for address in &wanted.addresses {
        let there = present.iter().any(|found| found.address == *address);
        if !there && !record.addresses.contains(address) {
            record.addresses.push(*address);
        }
    }
}

fn forget_former(record: &mut Record, netlink: &mut Netlink, wanted: &Wanted) -> Result<(), LinkError> {
    for address in record.addresses.extract_if(.., |address| !wanted.addresses.contains(address)) {
        netlink.remove_from_loopback(address).map_err(change("removing the former cluster IP from lo"))?;
    }
    let unwanted = |address: &mut Ipv6Addr| !wanted.addresses.contains(&IpAddr::V6(*address));
    for address in record.solicited.extract_if(.., unwanted) {
        netlink.unsolicit(record.index, address).map_err(change("leaving a former solicited-node group"))?;
    }
    if let Some(group) = record.group.take_if(|group| Some(*group) != wanted.group) {
        netlink.leave(record.index, group).map_err(change("leaving the former multicast group"))?;
    }
    if let Some(mac) = record.mac.take_if(|mac| *mac != wanted.mac) {
        netlink.unhear(record.index, mac).map_err(change("forgetting the former cluster MAC"))?;
    }
    Ok(())
}

/// Whether the interface can do no such thing, rather than this process may not.
fn is_refusal(error: &io::Error) -> bool {
    ![Some(libc::EPERM), Some(libc::EACCES), Some(libc::ENODEV)].contains(&error.raw_os_error())
}

/// The interface went, and with it what was on it.
fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        result => result,
    }
}
