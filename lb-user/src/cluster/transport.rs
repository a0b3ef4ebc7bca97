//! Moves the cluster's bytes: heartbeats over UDP, probes over ARP, the carrier's state over rtnetlink. It decides nothing,
//! and knows no key.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkFlags;
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_ROUTE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::arp::{ARP_FRAME, Arp, BROADCAST, Operation};
use super::peer::{Answer, Probe};
use crate::config::model::{HEARTBEAT_PORT, Priority};
use crate::sys::ArpSocket;

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
    arp: ArpSocket,
    links: Netlink,
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
}

/// Multicast group of link changes (linux/rtnetlink.h: RTNLGRP_LINK).
const RTNLGRP_LINK: u32 = 1;

impl Transport {
    /// Opens the sockets.
    pub(crate) fn open(network: Network) -> io::Result<Self> {
        let udp = UdpSocket::bind((network.own.0, HEARTBEAT_PORT))?;
        udp.set_nonblocking(true)?;
        let arp = ArpSocket::open(network.ifindex)?;
        let mut links = Netlink::new(NETLINK_ROUTE)?;
        links.bind(&NetlinkAddr::new(0, 0))?;
        links.add_membership(RTNLGRP_LINK)?;
        links.set_non_blocking(true)?;
        Ok(Self { network, udp, arp, links })
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

    /// The next thing that arrived; `None` once every queue is empty. What makes no sense is passed over.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Arrival>> {
        loop {
            let arrival = match self.receive_one(buffer) {
                Ok(arrival) => arrival,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
                // The kernel dropped link messages: it has newer ones.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => None,
                // An interface that went down says so once on each socket.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => None,
                Err(error) => return Err(error),
            };
            if arrival.is_some() {
                return Ok(arrival);
            }
        }
    }

    fn receive_one(&self, buffer: &mut [u8]) -> io::Result<Option<Arrival>> {
        match self.udp.recv_from(buffer) {
            Ok((length, SocketAddr::V4(_))) => return Ok(Some(Arrival::Datagram(length))),
            Ok((_, SocketAddr::V6(_))) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let mut frame = [0; ARP_FRAME];
        match self.arp.recv(&mut frame) {
            Ok(length) => return Ok(Arp::decode(&frame[..length]).and_then(|arp| self.understand(&arp))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let (message, _) = self.links.recv_from_full()?;
        Ok(self.carrier(&message))
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
