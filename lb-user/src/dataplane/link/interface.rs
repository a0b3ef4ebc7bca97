//! What is true of a network interface. Reads only; what is changed is in `link.rs`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use thiserror::Error;

use super::netlink::Netlink;

/// A network interface, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index in this network namespace.
    pub index: u32,
    /// Its own MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 addresses and their prefix lengths.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// Whether it is switched on (`ip link set .. up`).
    pub up: bool,
    /// Whether the cable, or what stands for it, is connected.
    pub carrier: bool,
    /// How often that has been lost since the interface is there (`IFLA_CARRIER_DOWN_COUNT`).
    pub carrier_losses: u32,
    /// `veth`, `bond`, `vlan` and so on; `None` for an ordinary NIC.
    pub kind: Option<String>,
    /// Its IPv6 addresses.
    pub v6_addresses: Vec<Ipv6Addr>,
    /// The router of the default route that leaves here: of IPv4, or else of IPv6.
    pub gateway: Option<IpAddr>,
    /// The network namespace that it is in: the inode of `/proc/self/ns/net`.
    pub netns: u64,
    /// The XDP program on it, if there is one.
    pub xdp: Option<AttachedXdp>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// In the driver, not in the network stack.
    pub native: bool,
    /// The kernel's number of the program.
    pub program: u32,
}

impl Interface {
    /// Looks at the interface `name` in the calling thread's network namespace.
    pub fn inspect(name: &str) -> Result<Self, InspectError> {
        let mut netlink = Netlink::open()?;
        let links = netlink.links()?;
        let Some(link) = links.iter().find(|link| name_of(link) == Some(name)) else {
            let mut known: Vec<&str> =
                links.iter().filter_map(name_of).filter(|name| *name != "lo").collect();
            known.sort_unstable();
            return Err(InspectError::Missing { name: name.to_owned(), known: known.join(", ") });
        };
        let Some(mac) = mac_of(link) else {
            return Err(InspectError::NotEthernet { name: name.to_owned() });
        };
        let index = link.header.index;
        let addresses = netlink.addresses()?;
        let here = addresses.iter().filter(|address| address.interface == index);
        let v6 = here.clone().filter_map(|found| match found.address {
            IpAddr::V6(address) if !address.is_multicast() => Some(address),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        });
        let v6_addresses = v6.collect();
        // The address of a group that the kernel joins by it is none of the host's.
        let v4 = here.filter_map(|found| match found.address {
            IpAddr::V4(address) if !address.is_multicast() => Some((address, found.prefix)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        });
        let flags = link.header.flags;
        Ok(Self {
            name: name.to_owned(),
            index,
            mac,
            addresses: v4.collect(),
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            carrier_losses: link.attributes.iter().find_map(losses_of).unwrap_or(0),
            kind: kind_of(link),
            v6_addresses,
            gateway: gateway(&mut netlink, index)?,
            netns: network_namespace()?,
            xdp: link.attributes.iter().find_map(xdp_of),
        })
    }

    /// Whether it is one end of a veth pair, whose driver sets the packet type before XDP.
    pub fn is_veth(&self) -> bool {
        self.kind.as_deref() == Some("veth")
    }

    /// The address from which it asks a router of IPv6: its own on this link, or else another of its own.
    pub fn asks_from(&self) -> Option<Ipv6Addr> {
        let mut addresses = self.v6_addresses.iter();
        let of_link = addresses.clone().find(|address| address.is_unicast_link_local());
        of_link.or_else(|| addresses.next()).copied()
    }

    /// Names this interface among all on the host: `<netns inode>-<ifindex>`.
    pub fn key(&self) -> String {
        format!("{}-{}", self.netns, self.index)
    }
}

/// The inode of the calling thread's network namespace.
pub(super) fn network_namespace() -> io::Result<u64> {
    Ok(rustix::fs::stat("/proc/thread-self/ns/net")?.st_ino)
}

/// Why an interface cannot be used. Nothing was changed.
#[derive(Debug, Error)]
pub enum InspectError {
    /// There is none of that name.
    #[error(
        "there is no interface {name}; hint: set `interface` (or `xdp_interface`) in node.toml to one of: {known}"
    )]
    Missing {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// It carries no Ethernet frames.
    #[error(
        "interface {name} is not an Ethernet interface; hint: set `interface` in node.toml to the one in the cluster IP's network"
    )]
    NotEthernet {
        /// The name.
        name: String,
    },
    /// The kernel cannot be asked.
    #[error("the kernel does not tell about its interfaces")]
    Netlink(#[from] io::Error),
}

impl InspectError {
    /// Whether the configuration is to blame.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::NotEthernet { .. } => true,
            Self::Netlink(_) => false,
        }
    }
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::IfName(name) = attribute { Some(name.as_str()) } else { None }
    })
}

/// `None`: no Ethernet interface. The loopback interface, too, has six bytes of address.
fn mac_of(link: &LinkMessage) -> Option<[u8; 6]> {
    (link.header.link_layer_type == LinkLayerType::Ether).then_some(())?;
    link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Address(mac) = attribute { mac.as_slice().try_into().ok() } else { None }
    })
}

fn xdp_of(attribute: &LinkAttribute) -> Option<AttachedXdp> {
    let LinkAttribute::Xdp(xdp) = attribute else { return None };
    let program =
        xdp.iter().find_map(|fact| if let LinkXdp::ProgId(id) = fact { Some(*id) } else { None })?;
    Some(AttachedXdp { native: xdp.contains(&LinkXdp::Attached(XdpAttached::Driver)), program })
}

fn losses_of(attribute: &LinkAttribute) -> Option<u32> {
    if let LinkAttribute::CarrierDownCount(count) = attribute { Some(*count) } else { None }
}

fn kind_of(link: &LinkMessage) -> Option<String> {
    let info = link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::LinkInfo(info) = attribute { Some(info) } else { None }
    })?;
    let kind =
        info.iter().find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind) } else { None })?;
    Some(if let InfoKind::Other(kind) = kind { kind.clone() } else { kind.to_string() })
}

fn gateway(netlink: &mut Netlink, interface: u32) -> io::Result<Option<IpAddr>> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let routes = netlink.routes(family)?;
        if let Some(gateway) = routes.iter().find_map(|route| gateway_of(route, interface)) {
            return Ok(Some(gateway));
        }
    }
    Ok(None)
}

fn gateway_of(route: &RouteMessage, interface: u32) -> Option<IpAddr> {
    let main =
        route.header.destination_prefix_length == 0 && route.header.table == RouteHeader::RT_TABLE_MAIN;
    let leaves_here = route.attributes.contains(&RouteAttribute::Oif(interface));
    (main && leaves_here).then_some(())?;
    route.attributes.iter().find_map(|attribute| {
        let RouteAttribute::Gateway(gateway) = attribute else { return None };
        if let RouteAddress::Inet(address) = gateway {
            Some(IpAddr::V4(*address))
        } else if let RouteAddress::Inet6(address) = gateway {
            Some(IpAddr::V6(*address))
        } else {
            None
        }
    })
}

/// The name of the interface with this index.
pub(super) fn name(netlink: &mut Netlink, index: u32) -> String {
    let links = netlink.links().unwrap_or_default();
    let link = links.iter().find(|link| link.header.index == index);
    link.and_then(name_of).unwrap_or("of unknown name").to_owned()
}
