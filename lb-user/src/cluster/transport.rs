//! Moves the cluster's bytes: heartbeats over UDP, probes over ARP and neighbour discovery, the carrier's state over rtnetlink. It decides nothing,
//! and knows no key.

mod carrier;
mod neighbours;
mod outbox;
mod sockets;
mod waiting;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_ROUTE};

use self::outbox::Outbox;
use self::waiting::Waiting;
pub(crate) use self::waiting::Wanted;
use super::node::Conflict;
use super::peer::{Answer, Path};
use crate::arp::{ARP_FRAME, Arp};
use crate::config::model::{HEARTBEAT_PORT, Priority};
use crate::sys::datagrams::{BATCH, Datagram, Room};
use crate::sys::{FrameSocket, Received};

/// What the transport has to know of the network.
#[derive(Clone, Debug)]
pub struct Network {
    /// Index of the cluster NIC.
    pub ifindex: u32,
    /// This node's own address and MAC address there.
    pub own: (Ipv4Addr, [u8; 6]),
    /// The IPv4 cluster IPs; lease probes ask for the first.
    pub cluster_ips: Vec<Ipv4Addr>,
    /// The MAC address at which every node answers for them.
    pub cluster_mac: [u8; 6],
    /// The peers' own addresses.
    pub peers: BTreeMap<Priority, Ipv4Addr>,
    /// The gateway, if one is known.
    pub gateway: Option<Gateway>,
    /// Another way to the peers, if there is one.
    pub second: Option<SecondPath>,
}

/// The gateway, by the address at which it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// By ARP.
    V4(Ipv4Addr),
    /// By neighbour discovery.
    V6 {
        /// The gateway's address.
        address: Ipv6Addr,
        /// The address of the cluster NIC that asks.
        own: Ipv6Addr,
    },
}

/// A way to the peers through another network.
#[derive(Clone, Debug)]
pub struct SecondPath {
    /// This node's own address there.
    pub own: Ipv4Addr,
    /// The peers' addresses there.
    pub peers: BTreeMap<Priority, Ipv4Addr>,
}

/// The sockets of the cluster thread.
#[derive(Debug)]
pub(crate) struct Transport {
    network: Network,
    udp: UdpSocket,
    second: Option<UdpSocket>,
    strangers: UdpSocket,
    arp: FrameSocket,
    /// Where the gateway is asked by neighbour discovery.
    ndp: Option<FrameSocket>,
    links: Netlink,
    outboxes: [Outbox; 2],
    waiting: Waiting,
    /// Which queue is looked at next.
    turn: usize,
    /// In which queues something may wait.
    ready: [bool; QUEUES],
}

/// What was received by one call.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// The bytes of datagrams.
    pub(crate) room: Room,
    /// In the order in which they came.
    pub(crate) arrivals: Vec<Arrival>,
}

/// Something that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A datagram from a node's address, its bytes in the room.
    Datagram {
        /// What the kernel says of it.
        datagram: Datagram,
        /// Where it came.
        path: Path,
        /// Whose address it came from.
        from: Priority,
    },
    /// A datagram from another address.
    Stranger(Datagram),
    /// A peer's host answered a probe.
    Answer(Answer),
    /// The gateway answered, or where none is known another host that is no node spoke.
    Gateway,
    /// Another machine claims an address of ours.
    Conflict {
        /// What it claims.
        conflict: Conflict,
        /// The frame's source.
        from: [u8; 6],
    },
    /// The carrier of the cluster NIC is there, or not.
    Carrier(bool),
    /// What concerns nobody here.
    Nothing,
}

/// How many queues take turns.
const QUEUES: usize = 6;

/// Which: datagrams of both paths, of strangers, ARP, neighbour advertisements; the last are link messages.
const FIRST: usize = 0;
const SECOND: usize = 1;
const STRANGERS: usize = 2;
const ARP: usize = 3;
const NDP: usize = 4;

/// No gateway's answer is longer; one that is cut off is none.
const LONGEST_ADVERTISEMENT: usize = 512;

/// Multicast group of link changes (linux/rtnetlink.h: RTNLGRP_LINK).
const RTNLGRP_LINK: u32 = 1;

impl Transport {
    /// Opens the sockets.
    pub(crate) fn open(network: Network) -> io::Result<Self> {
        let peers = network.peers.values().copied();
        let own = SocketAddrV4::new(network.own.0, HEARTBEAT_PORT);
        let udp = sockets::of_nodes(own, peers.clone(), false)?;
        let strangers = sockets::of_strangers(&udp, peers)?;
        let second = |path: &SecondPath| {
            let own = SocketAddrV4::new(path.own, HEARTBEAT_PORT);
            sockets::of_nodes(own, path.peers.values().copied(), true)
        };
        let second = network.second.as_ref().map(second).transpose()?;
        let arp = FrameSocket::open(network.ifindex, Received::Arp)?;
        let ndp = match network.gateway {
            Some(Gateway::V6 { .. }) => Some(FrameSocket::open(network.ifindex, Received::Advertisements)?),
            Some(Gateway::V4(_)) | None => None,
        };
        let mut links = Netlink::new(NETLINK_ROUTE)?;
        links.bind(&NetlinkAddr::new(0, 0))?;
        links.add_membership(RTNLGRP_LINK)?;
        links.set_non_blocking(true)?;
        let waiting = Waiting::new([
            Some(udp.as_fd()),
            second.as_ref().map(AsFd::as_fd),
            Some(strangers.as_fd()),
            Some(arp.as_fd()),
            ndp.as_ref().map(AsFd::as_fd),
            Some(links.as_fd()),
        ])?;
        let outboxes = [Outbox::default(), Outbox::default()];
        let (turn, ready) = (0, [false; QUEUES]);
        Ok(Self { network, udp, second, strangers, arp, ndp, links, outboxes, waiting, turn, ready })
    }

    /// Goes on with other peers and another gateway. Everything else of the network stays as it is: addresses of this node, cluster IPs,
    /// and whether there is a second path.
    pub(crate) fn follow(&mut self, network: Network) -> io::Result<()> {
        let Network { peers, gateway, second, .. } = network;
        let addresses = peers.values().copied();
        sockets::only_from(&self.udp, addresses.clone())?;
        sockets::choose_by(&self.strangers, addresses)?;
        if let (Some(socket), Some(path)) = (&self.second, &second) {
            sockets::only_from(socket, path.peers.values().copied())?;
        }
        if self.ndp.is_none() && matches!(gateway, Some(Gateway::V6 { .. })) {
            let ndp = FrameSocket::open(self.network.ifindex, Received::Advertisements)?;
            self.waiting.add(NDP, ndp.as_fd())?;
            self.ndp = Some(ndp);
        }
        (self.network.peers, self.network.gateway) = (peers, gateway);
        if let (Some(ours), Some(path)) = (&mut self.network.second, second) {
            ours.peers = path.peers;
        }
        Ok(())
    }

    /// `wait` tells from now on whether `wake` is readable, too.
    pub(crate) fn watch(&self, wake: BorrowedFd<'_>) -> io::Result<()> {
        self.waiting.watch(wake)
    }

    /// Waits until something that is wanted may be received, what is watched is readable, or `timeout` is over; tells whether it is.
    pub(crate) fn wait(&mut self, timeout: Duration, wanted: Wanted) -> io::Result<bool> {
        let (ready, woken) = self.waiting.wait(timeout, wanted, self.strangers.as_fd())?;
        self.ready = ready;
        Ok(woken)
    }

    /// The buffer for a datagram to a peer, which leaves with the next `send`; `beats`: it is a heartbeat. `None`: there is no such way.
    pub(crate) fn add(&mut self, to: Priority, path: Path, beats: bool) -> Option<&mut Vec<u8>> {
        let peers = match path {
            Path::First => &self.network.peers,
            Path::Second => &self.network.second.as_ref()?.peers,
        };
        let address = SocketAddrV4::new(*peers.get(&to)?, HEARTBEAT_PORT);
        Some(self.outboxes[path as usize].add(to, address, beats))
    }

    /// Whether there is no room for another datagram before the next `send`.
    pub(crate) fn is_full(&self) -> bool {
        self.outboxes.iter().any(Outbox::is_full)
    }

    /// Sends what was added, in its order; gives the first heartbeat that did not go out on the first path, and why. What else is lost is
    /// repeated, and that a second path is lost shows at the others.
    pub(crate) fn send(&mut self) -> Option<(Priority, io::Error)> {
        let [first, second] = &mut self.outboxes;
        let unsent = first.send(&self.udp);
        if let Some(socket) = &self.second {
            // The lease hangs on the cluster NIC alone.
            let _ = second.send(socket);
        }
        unsent
    }

    /// Sends a datagram to a stranger.
    pub(crate) fn answer_stranger(&self, to: Ipv4Addr, datagram: &[u8]) -> io::Result<()> {
        self.udp.send_to(datagram, SocketAddrV4::new(to, HEARTBEAT_PORT)).map(drop)
    }

    /// The next things that arrived, of one queue; none once every queue that was ready is empty. The queues take turns, so that a flood
    /// of one, which anybody on the segment can send, does not hide what waits in another.
    pub(crate) fn receive(&mut self, inbox: &mut Inbox) -> io::Result<()> {
        inbox.arrivals.clear();
        while inbox.arrivals.is_empty() && self.ready.contains(&true) {
            let queue = self.turn;
            self.turn = (queue + 1) % QUEUES;
            if !self.ready[queue] {
                continue;
            }
            match self.receive_of(queue, inbox) {
                // It was empty for a moment after the clock was read: that is not asked again.
                Ok(()) if queue <= SECOND && inbox.arrivals.len() < BATCH => self.ready[queue] = false,
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready[queue] = false,
                // An interface that went down says so once on each socket.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => self.ready[queue] = false,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive_of(&mut self, queue: usize, inbox: &mut Inbox) -> io::Result<()> {
        let Inbox { room, arrivals } = inbox;
        match queue {
            FIRST => {
                let datagrams = room.receive(&self.udp, BATCH)?.iter();
                arrivals.extend(datagrams.map(|datagram| self.place(*datagram, Path::First)));
            }
            SECOND => {
                let second = self.second.as_ref().ok_or(io::ErrorKind::WouldBlock)?;
                let datagrams = room.receive(second, BATCH)?.iter();
                arrivals.extend(datagrams.map(|datagram| self.place(*datagram, Path::Second)));
            }
            // One by one, because the driver may want no more.
            STRANGERS => {
                let datagrams = room.receive(&self.strangers, 1)?.iter();
                arrivals.extend(datagrams.map(|datagram| Arrival::Stranger(*datagram)));
            }
            ARP => arrivals.push(self.receive_arp()?),
            NDP => arrivals.push(self.receive_advertisement()?),
            _ => arrivals.push(self.receive_link()?),
        }
        Ok(())
    }

    /// No stranger is read any more in this turn.
    pub(crate) fn pass_over_strangers(&mut self) {
        self.ready[STRANGERS] = false;
    }

    /// Whose address a datagram came from.
    fn place(&self, datagram: Datagram, path: Path) -> Arrival {
        let peers = match path {
            Path::First => Some(&self.network.peers),
            Path::Second => self.network.second.as_ref().map(|path| &path.peers),
        };
        let from = peers.and_then(|peers| peers.iter().find(|(_, address)| **address == datagram.from));
        match from {
            Some((&from, _)) => Arrival::Datagram { datagram, path, from },
            // It came before the filter was there.
            None => Arrival::Nothing,
        }
    }

    fn receive_arp(&self) -> io::Result<Arrival> {
        let mut frame = [0; ARP_FRAME];
        let length = self.arp.recv(&mut frame)?;
        let arrival = Arp::decode(&frame[..length]).and_then(|arp| self.network.understand(&arp));
        Ok(arrival.unwrap_or(Arrival::Nothing))
    }

    fn receive_advertisement(&self) -> io::Result<Arrival> {
        let ndp = self.ndp.as_ref().ok_or(io::ErrorKind::WouldBlock)?;
        let mut frame = [0; LONGEST_ADVERTISEMENT];
        let length = ndp.recv(&mut frame)?;
        let answers = self.network.is_gateways_answer(&frame[..length]);
        Ok(if answers { Arrival::Gateway } else { Arrival::Nothing })
    }
}

/// How long ago a datagram was received: by its stamp, which is the wall clock's, and that clock `now`. Since the queue was last
/// read empty at the most, so that a step of the wall clock changes nothing.
pub(crate) fn age(stamp: Option<Duration>, now: Duration, since_last_read: Duration) -> Duration {
    stamp.map_or(Duration::ZERO, |stamp| now.saturating_sub(stamp)).min(since_last_read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_makes_no_datagram_older_than_the_last_look_or_younger_than_now() {
        let ms = Duration::from_millis;
        let (day, stamp) = (Duration::from_secs(86_400), Duration::from_secs(1_800_000_000));
        // The stamp, the wall clock now, the time since the last read, the age.
        let rows = [
            (Some(stamp), stamp, ms(20), ms(0)),
            (Some(stamp), stamp + ms(7), ms(20), ms(7)),
            (Some(stamp), stamp + ms(70), ms(20), ms(20)),
            (Some(stamp), stamp + day, ms(20), ms(20)),
            (Some(stamp), stamp - day, ms(20), ms(0)),
            (Some(stamp), stamp + ms(7), ms(0), ms(0)),
            (None, stamp, ms(20), ms(0)),
        ];
        for (stamp, now, since_last_read, expected) in rows {
            assert_eq!(age(stamp, now, since_last_read), expected, "{stamp:?} {now:?} {since_last_read:?}");
        }
    }
}
