//! Moves the cluster's bytes: heartbeats over UDP, probes over ARP, the carrier's state over rtnetlink. It decides nothing,
//! and knows no key.

mod carrier;
mod neighbours;
mod sockets;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_ROUTE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::node::Conflict;
use super::peer::{Answer, Path};
use crate::arp::{ARP_FRAME, Arp};
use crate::config::model::{HEARTBEAT_PORT, Priority};
use crate::sys::datagrams::{Datagram, receive};
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
    pub gateway: Option<Ipv4Addr>,
    /// Another way to the peers, if there is one.
    pub second: Option<SecondPath>,
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
    links: Netlink,
    /// Which queue is looked at next.
    turn: usize,
    /// In which queues something may wait.
    ready: [bool; QUEUES],
}

/// Something that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A datagram from a node's address, in the caller's buffer.
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

/// How many queues take turns: datagrams of both paths and of strangers, ARP, link messages.
const QUEUES: usize = 5;

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
        let mut links = Netlink::new(NETLINK_ROUTE)?;
        links.bind(&NetlinkAddr::new(0, 0))?;
        links.add_membership(RTNLGRP_LINK)?;
        links.set_non_blocking(true)?;
        Ok(Self { network, udp, second, strangers, arp, links, turn: 0, ready: [false; QUEUES] })
    }

    /// Waits until something may be received, `wake` is readable, or `timeout` is over; tells whether `wake` is. Strangers are
    /// waited for only if `strangers`.
    pub(crate) fn wait(
        &mut self,
        wake: BorrowedFd<'_>,
        timeout: Duration,
        strangers: bool,
    ) -> io::Result<bool> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let timeout = Timespec { tv_sec: seconds, tv_nsec: timeout.subsec_nanos().into() };
        let asked = |fd, wanted| {
            PollFd::from_borrowed_fd(fd, if wanted { PollFlags::IN } else { PollFlags::empty() })
        };
        let second = self.second.as_ref();
        let mut fds = [
            asked(self.udp.as_fd(), true),
            asked(second.map_or(self.udp.as_fd(), AsFd::as_fd), second.is_some()),
            asked(self.strangers.as_fd(), strangers),
            asked(self.arp.as_fd(), true),
            asked(self.links.as_fd(), true),
            asked(wake, true),
        ];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let [queues @ .., wake] = fds.map(|fd| !fd.revents().is_empty());
        self.ready = queues;
        Ok(wake)
    }

    /// Whether there is a second path.
    pub(crate) fn has_second(&self) -> bool {
        self.second.is_some()
    }

    /// Sends a datagram to a peer.
    pub(crate) fn send(&self, to: Priority, path: Path, datagram: &[u8]) -> io::Result<()> {
        let way = match path {
            Path::First => Some((&self.udp, &self.network.peers)),
            Path::Second => self.second.as_ref().zip(self.network.second.as_ref().map(|path| &path.peers)),
        };
        let Some((udp, address)) = way.and_then(|(udp, peers)| Some((udp, *peers.get(&to)?))) else {
            return Ok(());
        };
        udp.send_to(datagram, SocketAddrV4::new(address, HEARTBEAT_PORT)).map(drop)
    }

    /// Sends a datagram to a stranger.
    pub(crate) fn answer_stranger(&self, to: Ipv4Addr, datagram: &[u8]) -> io::Result<()> {
        self.udp.send_to(datagram, SocketAddrV4::new(to, HEARTBEAT_PORT)).map(drop)
    }

    /// The next thing that arrived; `None` once every queue that was ready is empty. The queues take turns, so that a flood of one,
    /// which anybody on the segment can send, does not hide what waits in another.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Arrival>> {
        while self.ready.contains(&true) {
            let queue = self.turn;
            self.turn = (queue + 1) % QUEUES;
            if !self.ready[queue] {
                continue;
            }
            let received = match queue {
                0 => receive(&self.udp, buffer).map(|datagram| self.place(datagram, Path::First)),
                1 => self.receive_second(buffer),
                2 => receive(&self.strangers, buffer).map(Arrival::Stranger),
                3 => self.receive_arp(),
                _ => self.receive_link(),
            };
            match received {
                Ok(arrival) => return Ok(Some(arrival)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready[queue] = false,
                // An interface that went down says so once on each socket.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => self.ready[queue] = false,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// No stranger is read any more in this turn.
    pub(crate) fn pass_over_strangers(&mut self) {
        self.ready[2] = false;
    }

    fn receive_second(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        let second = self.second.as_ref().ok_or(io::ErrorKind::WouldBlock)?;
        receive(second, buffer).map(|datagram| self.place(datagram, Path::Second))
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
