//! The cluster interface as the kernel describes it (rtnetlink), read once before the program is attached.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// What attaching has to know of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nic {
    pub(crate) name: String,
    pub(crate) index: u32,
    /// `None`: not an Ethernet interface.
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) veth: bool,
    /// The XDP program that is attached.
    pub(crate) xdp: Option<AttachedXdp>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttachedXdp {
    pub(crate) native: bool,
    /// The kernel's number of the program.
    pub(crate) program: u32,
}

impl Nic {
    /// The interface of this network namespace with that name; `None` where there is none.
    pub(crate) fn find(name: &str) -> io::Result<Option<Self>> {
        // The kernel's limit; it would answer a longer name with an error that tells less.
        if name.is_empty() || name.len() > 15 {
            return Ok(None);
        }
        let answer = ask(name)?;
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = answer {
            return Ok(Some(Self::of(name, &link)));
        }
        let NetlinkPayload::Error(error) = answer else {
            let text = "the kernel's answer describes no interface";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        let error = error.to_io();
        if is_no_device(&error) { Ok(None) } else { Err(error) }
    }

    fn of(name: &str, link: &LinkMessage) -> Self {
        let ethernet = link.header.link_layer_type == LinkLayerType::Ether;
        Self {
            name: name.to_owned(),
            index: link.header.index,
            mac: link.attributes.iter().find_map(mac_of).filter(|_| ethernet),
            veth: link.attributes.iter().any(is_veth),
            xdp: link.attributes.iter().find_map(xdp_of),
        }
    }
}

fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

fn ask(name: &str) -> io::Result<NetlinkPayload<RouteNetlinkMessage>> {
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = 1;
    let mut message = NetlinkMessage::new(header, RouteNetlinkMessage::GetLink(question).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::deserialize(&answer)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    Ok(answer.payload)
}

fn mac_of(attribute: &LinkAttribute) -> Option<[u8; 6]> {
    let LinkAttribute::Address(address) = attribute else {
        return None;
    };
    address.as_slice().try_into().ok()
}

fn is_veth(attribute: &LinkAttribute) -> bool {
    if let LinkAttribute::LinkInfo(infos) = attribute {
        infos.contains(&LinkInfo::Kind(InfoKind::Veth))
    } else {
        false
    }
}

fn xdp_of(attribute: &LinkAttribute) -> Option<AttachedXdp> {
    let LinkAttribute::Xdp(xdp) = attribute else {
        return None;
    };
    let program = xdp.iter().find_map(|fact| {
        let LinkXdp::ProgId(id) = fact else {
            return None;
        };
        Some(*id)
    })?;
    Some(AttachedXdp { native: xdp.contains(&LinkXdp::Attached(XdpAttached::Driver)), program })
}
