//! Questions and commands to the kernel's routing tables (rtnetlink), one at a time and blocking: they take microseconds, and
//! a socket opened by the calling thread speaks of that thread's network namespace. What is asked is for others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// The index of the loopback interface, in every network namespace.
const LOOPBACK: u32 = 1;

/// A socket to the kernel.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostAddress {
    pub(super) interface: u32,
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
    /// Whether it means this host alone, and so is nobody else's business.
    pub(super) host_scope: bool,
}

impl HostAddress {
    pub(super) fn on_loopback(&self) -> bool {
        self.interface == LOOPBACK
    }
}

impl Netlink {
    /// In the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Every interface.
    pub(super) fn links(&mut self) -> io::Result<Vec<LinkMessage>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.request(request, NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(
                |answer| {
                    if let RouteNetlinkMessage::NewLink(link) = answer { Some(link) } else { None }
                },
            )
            .collect())
    }

    /// Every route of this family.
    pub(super) fn routes(&mut self, family: AddressFamily) -> io::Result<Vec<RouteMessage>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let answers = self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(
                |answer| {
                    if let RouteNetlinkMessage::NewRoute(route) = answer { Some(route) } else { None }
                },
            )
            .collect())
    }

    /// Every address, of IPv4 and IPv6.
    pub(super) fn addresses(&mut self) -> io::Result<Vec<HostAddress>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.request(request, NLM_F_DUMP)?;
        Ok(answers
            .iter()
            .filter_map(|answer| {
                if let RouteNetlinkMessage::NewAddress(address) = answer {
                    host_address(address)
                } else {
                    None
                }
            })
            .collect())
    }

    /// Adds `address` to the loopback interface, for this host alone: so it never becomes the source of a connection that
    /// names none, and the kernel can be told not to answer ARP for it without silencing the operator's other addresses.
    pub(super) fn add_to_loopback(&mut self, address: IpAddr) -> io::Result<()> {
        self.add_address(loopback(address))
    }

    /// Takes `address` from the loopback interface.
    pub(super) fn remove_from_loopback(&mut self, address: IpAddr) -> io::Result<()> {
        self.remove_address(loopback(address))
    }

    /// Joins the multicast group for as long as the interface has its address: a socket of the kernel is the member
    /// (net/ipv4/devinet.c: ip_mc_autojoin_config), so the membership outlives this process.
    pub(super) fn join(&mut self, interface: u32, group: Ipv4Addr) -> io::Result<()> {
        self.add_address(membership(interface, group))
    }

    /// Leaves the group.
    pub(super) fn leave(&mut self, interface: u32, group: Ipv4Addr) -> io::Result<()> {
        self.remove_address(membership(interface, group))
    }

    /// The addresses whose solicited-node groups the interface is in as a proxy; see `solicit`.
    pub(super) fn solicited(&mut self, interface: u32) -> io::Result<Vec<Ipv6Addr>> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.header.flags = NeighbourFlags::Proxy;
        let answers = self.request(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP)?;
        Ok(answers.iter().filter_map(|answer| solicited(answer, interface)).collect())
    }

    /// Joins the solicited-node group of `address` by an entry of a proxied neighbour (net/ipv6/ndisc.c: pndisc_constructor),
    /// which outlives this process, but not that the interface goes down. The kernel never answers for it: XDP does, or drops.
    ///
    /// Not by the group's address with `autojoin`, as for IPv4: the kernel takes that for a link-local address, and on an
    /// interface without another reports its groups from it (seen on 6.18), which no router believes (RFC 3810, section 5.2.13).
    pub(super) fn solicit(&mut self, interface: u32, address: Ipv6Addr) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewNeighbour(proxied(interface, address));
        self.request(message, NLM_F_ACK | NLM_F_CREATE).map(drop)
    }

    /// Takes the entry away.
    pub(super) fn unsolicit(&mut self, interface: u32, address: Ipv6Addr) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelNeighbour(proxied(interface, address));
        tolerate(self.request(message, NLM_F_ACK), io::ErrorKind::NotFound)
    }

    /// Whether the interface's filter lets frames for `mac` in.
    pub(super) fn hears(&mut self, interface: u32, mac: [u8; 6]) -> io::Result<bool> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        let answers = self.request(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP)?;
        Ok(answers.iter().any(|answer| lets_in(answer, interface, mac)))
    }

    /// Lets frames for `mac` in. The entry belongs to the interface and outlives this process (`bridge fdb .. self
    /// permanent`: dev_mc_add or dev_uc_add), unlike a socket's membership. An interface on another (a VLAN) hands it on.
    pub(super) fn hear(&mut self, interface: u32, mac: [u8; 6]) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewNeighbour(filter_entry(interface, mac));
        tolerate(self.request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL), io::ErrorKind::AlreadyExists)
    }

    /// Takes the entry away.
    pub(super) fn unhear(&mut self, interface: u32, mac: [u8; 6]) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelNeighbour(filter_entry(interface, mac));
        tolerate(self.request(message, NLM_F_ACK), io::ErrorKind::NotFound)
    }

    /// Whether somebody made the interface promiscuous by name (`ip link set .. promisc on`); not whether a capture did
    /// (net/core/dev.c: dev_get_flags).
    pub(super) fn is_promiscuous(&mut self, interface: u32) -> io::Result<bool> {
        let links = self.links()?;
        let link = links.iter().find(|link| link.header.index == interface);
        Ok(link.is_some_and(|link| link.header.flags.contains(LinkFlags::Promisc)))
    }

    /// Lets every frame in, or only those for it.
    pub(super) fn set_promiscuous(&mut self, interface: u32, on: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = interface;
        message.header.flags = if on { LinkFlags::Promisc } else { LinkFlags::empty() };
        message.header.change_mask = LinkFlags::Promisc;
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }

    fn add_address(&mut self, message: AddressMessage) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewAddress(message);
        tolerate(self.request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL), io::ErrorKind::AlreadyExists)
    }

    fn remove_address(&mut self, message: AddressMessage) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelAddress(message);
        tolerate(self.request(message, NLM_F_ACK), io::ErrorKind::AddrNotAvailable)
    }

    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        while !self.collect(&mut answers)? {}
        Ok(answers)
    }

    /// Reads one datagram. Whether it ended the answer.
    fn collect(&mut self, answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
        let (bytes, _) = self.socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (message, after) = split(rest)?;
            rest = after;
            // What this version of the library cannot read (a new kind of interface, say) is nothing that was asked for.
            let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) else {
                continue;
            };
            if message.header.sequence_number != self.sequence {
                continue;
            }
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Noop | NetlinkPayload::Overrun(_) | _ => {}
            }
        }
        Ok(false)
    }
}

/// The first message and those after it. Messages are aligned to 4 bytes (NLMSG_ALIGN).
fn split(bytes: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let length = bytes.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let message = bytes.get(..length).filter(|_| length >= 16).ok_or(io::ErrorKind::InvalidData)?;
    Ok((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn tolerate(result: io::Result<Vec<RouteNetlinkMessage>>, harmless: io::ErrorKind) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == harmless => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

fn host_address(message: &AddressMessage) -> Option<HostAddress> {
    let attributes = message.attributes.iter();
    let local = attributes.clone().find_map(|attribute| {
        if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None }
    });
    let remote = || {
        attributes.clone().find_map(|attribute| {
            if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }
        })
    };
    Some(HostAddress {
        interface: message.header.index,
        // The second is the other end's where there is one; else IPv6 has no first (net/ipv6/addrconf.c: inet6_fill_ifaddr).
        address: local.or_else(remote)?,
        prefix: message.header.prefix_len,
        host_scope: message.header.scope == AddressScope::Host,
    })
}

/// A cluster IP on the loopback interface. IPv6 knows no scope of the host: there a preferred lifetime of zero keeps the
/// address from becoming a source (RFC 6724, rule 3), and nobody is asked whether it is another's.
fn loopback(address: IpAddr) -> AddressMessage {
    let mut message = host_route(LOOPBACK, address);
    if address.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = u32::MAX;
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    }
    message
}

/// Scope host: no packet is ever sent from it.
fn membership(interface: u32, group: Ipv4Addr) -> AddressMessage {
    let mut message = host_route(interface, group.into());
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Mcautojoin));
    message
}

fn host_route(interface: u32, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    (message.header.family, message.header.prefix_len) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.scope = AddressScope::Host;
    message.header.index = interface;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    message
}

fn filter_entry(interface: u32, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = interface;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message
}

/// Whether the entry lets frames for `mac` into the interface. One of a bridge says where that bridge would send them,
/// unless it is the bridge's own.
fn lets_in(answer: &RouteNetlinkMessage, interface: u32, mac: [u8; 6]) -> bool {
    let RouteNetlinkMessage::NewNeighbour(entry) = answer else { return false };
    let others = |attribute: &NeighbourAttribute| matches!(attribute, NeighbourAttribute::Controller(bridge) if *bridge != interface);
    entry.header.ifindex == interface
        && entry.attributes.contains(&NeighbourAttribute::LinkLayerAddress(mac.to_vec()))
        && !entry.attributes.iter().any(others)
}

fn proxied(interface: u32, address: Ipv6Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.ifindex = interface;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Proxy;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)));
    message
}

fn solicited(answer: &RouteNetlinkMessage, interface: u32) -> Option<Ipv6Addr> {
    let RouteNetlinkMessage::NewNeighbour(entry) = answer else { return None };
    (entry.header.ifindex == interface && entry.header.flags.contains(NeighbourFlags::Proxy)).then_some(())?;
    entry.attributes.iter().find_map(|attribute| {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) = attribute {
            Some(*address)
        } else {
            None
        }
    })
}
