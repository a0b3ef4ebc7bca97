//! The cluster's first node tells the link where the cluster IPs are: a router that still has the MAC address of another mode,
//! or of a single host that had the address before, would keep it for minutes. Later nodes change nothing, and say nothing.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::arp::Arp;
use crate::cluster::node::Snapshot;
use crate::cluster::peer::Standing;
use crate::cluster::wire::Phase;
use crate::config::model::{ClusterIp, Priority};
use crate::ndp;
use crate::sys::{FrameSocket, Received};

/// How often each cluster IP is announced, and how long after one another (RFC 4861, section 10: MAX_NEIGHBOR_ADVERTISEMENT,
/// RetransTimer); the first frames may be lost where a switch is still learning.
const TIMES: u32 = 3;
const EVERY: Duration = Duration::from_secs(1);

/// How long after a node began to serve its snapshot (at most 100 ms old) surely tells who else does.
pub(crate) const SETTLED: Duration = Duration::from_millis(200);

/// Whether the node `me`, which began to serve, announces: nobody else serves, or of several that may have begun together it is
/// the default host. One that returns to the others says the same as before, which does no harm.
pub(crate) fn is_due(me: Priority, snapshot: &Snapshot) -> bool {
    let others = snapshot.peers.iter().any(|peer| serves(peer.standing, peer.phase));
    snapshot.default_host == Some(me) || !others
}

const fn serves(standing: Standing, phase: Option<Phase>) -> bool {
    match (standing, phase) {
        (Standing::Alive, Some(Phase::Serving | Phase::Stopping)) => true,
        (Standing::Alive, Some(Phase::Starting | Phase::Stopped) | None)
        | (Standing::Unknown | Standing::Suspect | Standing::Dead | Standing::Stopped, _) => false,
    }
}

/// Announces the cluster IPs, some times over some seconds.
#[derive(Debug)]
pub(crate) struct Announcer {
    socket: FrameSocket,
    frames: Vec<Vec<u8>>,
}

impl Announcer {
    /// For the interface with index `interface`, in the calling thread's network namespace.
    pub(crate) fn open(
        interface: u32,
        ips: &[ClusterIp],
        cluster_mac: [u8; 6],
        own_mac: [u8; 6],
    ) -> io::Result<Self> {
        let frames = ips.iter().map(|ip| frame(ip.address, cluster_mac, own_mac)).collect();
        Ok(Self { socket: FrameSocket::open(interface, Received::Nothing)?, frames })
    }

    /// Cancel safe: what was sent was sent.
    pub(crate) async fn announce(self) -> io::Result<()> {
        let mut turn = tokio::time::interval(EVERY);
        for _ in 0..TIMES {
            turn.tick().await;
            self.frames.iter().try_for_each(|frame| self.socket.send(frame))?;
        }
        Ok(())
    }
}

/// Never from the cluster MAC: a switch would learn a port for it, and no longer send to all nodes.
fn frame(address: IpAddr, cluster_mac: [u8; 6], own_mac: [u8; 6]) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => Arp::announcement(address, cluster_mac, own_mac).encode().to_vec(),
        IpAddr::V6(address) => ndp::announcement(address, cluster_mac, own_mac),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arp::{BROADCAST, Operation};

    #[test]
    fn an_ipv4_announcement_is_a_request_of_the_address_for_itself() {
        let (address, cluster) = ([192, 168, 50, 8].into(), [0x03, 0xbf, 192, 168, 50, 8]);
        let own = [2, 0, 0, 0, 0, 6];
        let arp = Arp::decode(&frame(IpAddr::V4(address), cluster, own)).unwrap();
        assert_eq!((arp.to, arp.from, arp.operation), (BROADCAST, own, Operation::Request));
        assert_eq!((arp.sender, arp.target), ((address, cluster), (address, [0; 6])));
    }
}
