//! Moves the cluster's bytes: heartbeats over UDP, probes over ARP, the carrier's state over rtnetlink. It decides nothing,
//! and knows no key.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_ROUTE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use socket2::{SockFilter, SockRef};

use super::peer::{Answer, Probe};
use crate::arp::{ARP_FRAME, Arp, BROADCAST, Operation};
use crate::config::model::{HEARTBEAT_PORT, Priority};
use crate::sys::{FrameSocket, Received};

/// What the transport has to know of the network.
#[derive(Clone, Debug)]
pub struct Network {
    /// Index of the cluster NIC.
    pub ifindex: u32,
    /// This node's own address and MAC address there.
    pub own: (Ipv4Addr, [u8; 6]),
    /// The cluster IP that lease probes ask for.
    pub cluster_ip: Ipv4Addr,
    /// The peers' own addresses.
    pub peers: BTreeMap<Priority, Ipv4Addr>,
    /// The gateway, if one is known.
    pub gateway: Option<Ipv4Addr>,
}

/// The sockets of the cluster thread.
#[derive(Debug)]
pub(crate) struct Transport {
    network: Network,
    udp: UdpSocket,
    arp: FrameSocket,
    links: Netlink,
    /// Which queue is looked at next.
    turn: u8,
}

/// Something that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A datagram, of this length in the caller's buffer.
    Datagram(usize),
    /// A peer's host answered a probe.
    Answer(Answer),
    /// The gateway, or another host that is no node, spoke.
    Gateway,
    /// The carrier of the cluster NIC is there, or not.
    Carrier(bool),
    /// What concerns nobody here.
    Nothing,
}

/// How many queues take turns: datagrams, ARP, link messages.
const QUEUES: u8 = 3;

/// How much may wait for a paused agent: at 64 nodes half a second of heartbeats.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Multicast group of link changes (linux/rtnetlink.h: RTNLGRP_LINK).
const RTNLGRP_LINK: u32 = 1;

impl Transport {
    /// Opens the sockets.
    pub(crate) fn open(network: Network) -> io::Result<Self> {
        let udp = UdpSocket::bind((network.own.0, HEARTBEAT_PORT))?;
        udp.set_nonblocking(true)?;
        only_from(&udp, network.peers.values().copied())?;
        // Beyond the system's limit where this process may; else what the limit allows.
        if set_socket_recv_buffer_size_force(&udp, RECEIVE_BUFFER).is_err() {
            set_socket_recv_buffer_size(&udp, RECEIVE_BUFFER)?;
        }
        let arp = FrameSocket::open(network.ifindex, Received::Arp)?;
        let mut links = Netlink::new(NETLINK_ROUTE)?;
        links.bind(&NetlinkAddr::new(0, 0))?;
        links.add_membership(RTNLGRP_LINK)?;
        links.set_non_blocking(true)?;
        Ok(Self { network, udp, arp, links, turn: 0 })
    }

    /// Waits until something may be received, `wake` is readable, or `timeout` is over.
    pub(crate) fn wait(&self, wake: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let timeout = Timespec { tv_sec: seconds, tv_nsec: timeout.subsec_nanos().into() };
        let fds = [self.udp.as_fd(), self.arp.as_fd(), self.links.as_fd(), wake];
        let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a datagram to a peer.
    pub(crate) fn send(&self, to: Priority, datagram: &[u8]) -> io::Result<()> {
        let Some(&address) = self.network.peers.get(&to) else {
            return Ok(());
        };
        self.udp.send_to(datagram, SocketAddrV4::new(address, HEARTBEAT_PORT)).map(drop)
    }

    /// Asks a peer's host by ARP.
    pub(crate) fn ask(&self, node: Priority, probe: Probe) -> io::Result<()> {
        let Some(&address) = self.network.peers.get(&node) else {
            return Ok(());
        };
        let question = match probe {
            Probe::Kernel => Arp::question(address, BROADCAST, self.network.own),
            Probe::Lease { mac } => Arp::question(self.network.cluster_ip, mac, self.network.own),
        };
        self.arp.send(&question.encode())
    }

    /// Asks the gateway by ARP.
    pub(crate) fn ask_gateway(&self) -> io::Result<()> {
        let Some(gateway) = self.network.gateway else {
            return Ok(());
        };
        self.arp.send(&Arp::question(gateway, BROADCAST, self.network.own).encode())
    }

    /// The next thing that arrived; `None` once every queue is empty. The queues take turns, so that a flood of one, which
    /// anybody on the segment can send, does not hide what waits in another.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Arrival>> {
        for _ in 0..QUEUES {
            let queue = self.turn;
            self.turn = (queue + 1) % QUEUES;
            let received = match queue {
                0 => self.receive_datagram(buffer),
                1 => self.receive_arp(),
                _ => self.receive_link(),
            };
            match received {
                Ok(arrival) => return Ok(Some(arrival)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An interface that went down says so once on each socket.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn receive_datagram(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        let (length, _) = self.udp.recv_from(buffer)?;
        Ok(Arrival::Datagram(length))
    }

    fn receive_arp(&self) -> io::Result<Arrival> {
        let mut frame = [0; ARP_FRAME];
        let length = self.arp.recv(&mut frame)?;
        let arrival = Arp::decode(&frame[..length]).and_then(|arp| self.understand(&arp));
        Ok(arrival.unwrap_or(Arrival::Nothing))
    }

    fn receive_link(&mut self) -> io::Result<Arrival> {
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

    /// What an ARP frame tells us. Answers for the cluster IP bear the same cluster MAC from every node, so the Ethernet
    /// source says whose it is.
    fn understand(&self, arp: &Arp) -> Option<Arrival> {
        if arp.from == self.network.own.1 {
            return None;
        }
        if arp.operation == Operation::Reply && arp.sender.0 == self.network.cluster_ip {
            return Some(Arrival::Answer(Answer::Lease { mac: arp.from }));
        }
        let peer = self.network.peers.iter().find(|(_, address)| **address == arp.sender.0);
        match peer {
            Some((node, _)) if arp.operation == Operation::Reply => {
                Some(Arrival::Answer(Answer::Kernel { node: *node, mac: arp.sender.1 }))
            }
            Some(_) => None,
            None => {
                let speaks = self.network.gateway.is_none_or(|gateway| gateway == arp.sender.0);
                (speaks && !arp.sender.0.is_unspecified()).then_some(Arrival::Gateway)
            }
        }
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

/// Lets the kernel drop datagrams from other addresses than these before they take room in the queue, or the time of a
/// look at their seal. Classic BPF (Documentation/networking/filter.rst); a source can be forged, so this proves nothing.
fn only_from(udp: &UdpSocket, sources: impl Iterator<Item = Ipv4Addr>) -> io::Result<()> {
    /// Where the IPv4 header begins for a filter (linux/filter.h: SKF_NET_OFF), and the source address in it.
    const SOURCE: u32 = (-0x10_0000_i32 as u32) + 12;
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let sources: Vec<u32> = sources.map(u32::from).collect();
    let count = u8::try_from(sources.len()).map_err(io::Error::other)?;
    let mut filter = vec![SockFilter::new(LOAD_WORD, 0, 0, SOURCE)];
    // From each comparison over those left and over the refusal.
    let compare = |(source, left): (&u32, u8)| SockFilter::new(JUMP_IF_EQUAL, left, 0, *source);
    filter.extend(sources.iter().zip((1..=count).rev()).map(compare));
    filter.push(SockFilter::new(RETURN, 0, 0, 0));
    filter.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    SockRef::from(udp).attach_filter(&filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_drops_datagrams_from_other_addresses_than_the_peers() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        only_from(&receiver, [[127, 0, 0, 2], [127, 0, 0, 3]].map(Ipv4Addr::from).into_iter()).unwrap();
        for (source, text) in
            [("127.0.0.9", b"a"), ("127.0.0.2", b"b"), ("127.0.0.1", b"c"), ("127.0.0.3", b"d")]
        {
            UdpSocket::bind((source, 0)).unwrap().send_to(text, to).unwrap();
        }
        receiver.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0; 8];
        while let Ok(length) = receiver.recv(&mut buffer) {
            heard.extend_from_slice(&buffer[..length]);
        }
        assert_eq!(heard, b"bd");
    }
}
