//! Questions and commands to the kernel's routing tables (rtnetlink), one at a time and blocking: they take microseconds, and
//! a socket opened by the calling thread speaks of that thread's network namespace. What is asked is for others.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
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

/// An IPv4 address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostAddress {
    pub(super) interface: u32,
    pub(super) address: Ipv4Addr,
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

    /// Every IPv4 route.
    pub(super) fn routes(&mut self) -> io::Result<Vec<RouteMessage>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
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

    /// Every IPv4 address.
    pub(super) fn addresses(&mut self) -> io::Result<Vec<HostAddress>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.request(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
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
    pub(super) fn add_to_loopback(&mut self, address: Ipv4Addr) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewAddress(loopback(address));
        tolerate(self.request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL), io::ErrorKind::AlreadyExists)
    }

    /// Takes `address` from the loopback interface.
    pub(super) fn remove_from_loopback(&mut self, address: Ipv4Addr) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelAddress(loopback(address));
        tolerate(self.request(message, NLM_F_ACK), io::ErrorKind::AddrNotAvailable)
    }

    /// Whether the interface's filter lets frames for `mac` in.
    pub(super) fn hears(&mut self, interface: u32, mac: [u8; 6]) -> io::Result<bool> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        let answers = self.request(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP)?;
        let entry = NeighbourAttribute::LinkLayerAddress(mac.to_vec());
        Ok(answers.iter().any(|answer| {
            matches!(answer, RouteNetlinkMessage::NewNeighbour(found)
                if found.header.ifindex == interface && found.attributes.contains(&entry))
        }))
    }

    /// Lets frames for `mac` in. The entry belongs to the interface and outlives this process (`bridge fdb .. self
    /// permanent`, dev_mc_add), unlike a socket's membership.
    pub(super) fn hear(&mut self, interface: u32, mac: [u8; 6]) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewNeighbour(filter_entry(interface, mac));
        tolerate(self.request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL), io::ErrorKind::AlreadyExists)
    }

    /// Takes the entry away.
    pub(super) fn unhear(&mut self, interface: u32, mac: [u8; 6]) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelNeighbour(filter_entry(interface, mac));
        tolerate(self.request(message, NLM_F_ACK), io::ErrorKind::NotFound)
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
    let local = message.attributes.iter().find_map(|attribute| {
        if let AddressAttribute::Local(IpAddr::V4(address)) = attribute { Some(*address) } else { None }
    })?;
    Some(HostAddress {
        interface: message.header.index,
        address: local,
        prefix: message.header.prefix_len,
        host_scope: message.header.scope == AddressScope::Host,
    })
}

fn loopback(address: Ipv4Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.scope = AddressScope::Host;
    message.header.index = LOOPBACK;
    message.attributes.push(AddressAttribute::Local(address.into()));
    message.attributes.push(AddressAttribute::Address(address.into()));
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
