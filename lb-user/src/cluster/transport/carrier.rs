//! The carrier of the cluster NIC, as link messages tell of it.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_sys::SocketAddr as NetlinkAddr;

use super::{Arrival, Transport};

impl Transport {
    pub(super) fn receive_link(&mut self) -> io::Result<Arrival> {
        match self.links.recv_from_full() {
            Ok((message, _)) => Ok(self.carrier(&message).unwrap_or(Arrival::Nothing)),
            // The kernel dropped link messages; which, it does not say. So it is asked how things are now.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                self.ask_link()?;
                Ok(Arrival::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for the cluster NIC's state; the answer comes like any link message.
    fn ask_link(&mut self) -> io::Result<()> {
        let mut question = LinkMessage::default();
        question.header.index = self.network.ifindex;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let mut message = NetlinkMessage::new(header, RouteNetlinkMessage::GetLink(question).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.links.send_to(&bytes, &NetlinkAddr::new(0, 0), 0).map(drop)
    }

    /// The carrier that a link message tells of, if it is about the cluster NIC.
    fn carrier(&self, bytes: &[u8]) -> Option<Arrival> {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).ok()?;
        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = message.payload else {
            return None;
        };
        let ours = link.header.index == self.network.ifindex;
        ours.then(|| Arrival::Carrier(link.header.flags.contains(LinkFlags::LowerUp | LinkFlags::Up)))
    }
}
