//! Questions and answers by ARP, and of the gateway by neighbour discovery: what is asked, and what a frame tells us.

use std::io;
use std::net::Ipv4Addr;

use super::{Arrival, Gateway, Network, Transport};
use crate::arp::{Arp, BROADCAST, Operation};
use crate::cluster::node::Conflict;
use crate::cluster::peer::{Answer, Probe};
use crate::config::model::Priority;
use crate::ndp;

impl Transport {
    /// Asks a peer's host.
    pub(crate) fn ask(&self, node: Priority, probe: Probe) -> io::Result<()> {
        match self.network.question(node, probe) {
            Some(question) => self.arp.send(&question.encode()),
            None => Ok(()),
        }
    }

    /// Asks the gateway.
    pub(crate) fn ask_gateway(&self) -> io::Result<()> {
        match (self.network.gateway, &self.ndp) {
            (Some(Gateway::V4(gateway)), _) => {
                self.arp.send(&Arp::question(gateway, BROADCAST, self.network.own).encode())
            }
            (Some(Gateway::V6 { address, own }), Some(ndp)) => {
                ndp.send(&ndp::solicitation(address, (own, self.network.own.1)))
            }
            (Some(Gateway::V6 { .. }), None) | (None, _) => Ok(()),
        }
    }

    /// Asks who has this node's own address, and who has the cluster IPs.
    pub(crate) fn ask_addresses(&self) -> io::Result<()> {
        self.network.address_questions().try_for_each(|question| self.arp.send(&question.encode()))
    }
}

impl Network {
    fn question(&self, node: Priority, probe: Probe) -> Option<Arp> {
        let address = *self.peers.get(&node)?;
        Some(match probe {
            Probe::Kernel => Arp::question(address, BROADCAST, self.own),
            Probe::Lease { mac } => Arp::question(*self.cluster_ips.first()?, mac, self.own),
        })
    }

    fn address_questions(&self) -> impl Iterator<Item = Arp> {
        // Without a sender's address it changes nobody's table (RFC 5227, section 2.1.1).
        let own = Arp::question(self.own.0, BROADCAST, (Ipv4Addr::UNSPECIFIED, self.own.1));
        let cluster_ips = self.cluster_ips.iter().map(|address| Arp::question(*address, BROADCAST, self.own));
        std::iter::once(own).chain(cluster_ips)
    }

    /// What an ARP frame tells us. Answers for the cluster IP bear the same cluster MAC from every node, so the Ethernet
    /// source says whose it is.
    pub(super) fn understand(&self, arp: &Arp) -> Option<Arrival> {
        if arp.from == self.own.1 {
            return None;
        }
        let (address, mac) = arp.sender;
        let conflict = |conflict| Some(Arrival::Conflict { conflict, from: arp.from });
        if address == self.own.0 {
            return conflict(Conflict::OwnAddress { mac }).filter(|_| mac != self.own.1);
        }
        if self.cluster_ips.contains(&address) {
            if mac != self.cluster_mac {
                return conflict(Conflict::ClusterIp { mac });
            }
            let answers = arp.operation == Operation::Reply && self.cluster_ips.first() == Some(&address);
            return answers.then_some(Arrival::Answer(Answer::Lease { mac: arp.from }));
        }
        match self.peers.iter().find(|(_, peer)| **peer == address) {
            Some((node, _)) if arp.operation == Operation::Reply => {
                Some(Arrival::Answer(Answer::Kernel { node: *node, mac }))
            }
            Some(_) => None,
            None => self.is_sign_of_a_network(arp).then_some(Arrival::Gateway),
        }
    }

    /// A gateway has to answer us: that it speaks does not say that it hears us. Where none is known any host will do.
    fn is_sign_of_a_network(&self, arp: &Arp) -> bool {
        match self.gateway {
            Some(Gateway::V4(gateway)) => {
                let answers = arp.operation == Operation::Reply && arp.to == self.own.1;
                gateway == arp.sender.0 && answers
            }
            Some(Gateway::V6 { .. }) => false,
            None => !arp.sender.0.is_unspecified(),
        }
    }

    /// Whether a frame is the gateway's answer by neighbour discovery.
    pub(super) fn is_gateways_answer(&self, frame: &[u8]) -> bool {
        match self.gateway {
            Some(Gateway::V6 { address, own }) => ndp::is_answer(frame, address, (own, self.own.1)),
            Some(Gateway::V4(_)) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const OWN: (Ipv4Addr, [u8; 6]) = (Ipv4Addr::new(192, 168, 50, 6), [2, 0, 0, 0, 0, 6]);
    const PEER: (Ipv4Addr, [u8; 6]) = (Ipv4Addr::new(192, 168, 50, 7), [2, 0, 0, 0, 0, 7]);
    const GATEWAY: (Ipv4Addr, [u8; 6]) = (Ipv4Addr::new(192, 168, 50, 1), [2, 0, 0, 0, 0, 1]);
    const OTHER: (Ipv4Addr, [u8; 6]) = (Ipv4Addr::new(192, 168, 50, 99), [2, 0, 0, 0, 0, 99]);
    const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 8);
    const CLUSTER_MAC: [u8; 6] = [3, 0xbf, 192, 168, 50, 8];

    fn network(gateway: bool) -> Network {
        Network {
            ifindex: 1,
            own: OWN,
            cluster_ips: vec![CLUSTER_IP, Ipv4Addr::new(192, 168, 50, 9)],
            cluster_mac: CLUSTER_MAC,
            peers: BTreeMap::from([(Priority::new(2).unwrap(), PEER.0)]),
            gateway: gateway.then_some(Gateway::V4(GATEWAY.0)),
            second: None,
        }
    }

    /// What `sender` says in a frame from the MAC address `from` to us.
    fn says(operation: Operation, sender: (Ipv4Addr, [u8; 6]), from: [u8; 6]) -> Arp {
        Arp { to: OWN.1, from, operation, sender, target: OWN }
    }

    #[test]
    fn each_frame_tells_one_thing() {
        use Operation::{Reply, Request};
        let node = Priority::new(2).unwrap();
        let kernel = Some(Arrival::Answer(Answer::Kernel { node, mac: PEER.1 }));
        let lease = Some(Arrival::Answer(Answer::Lease { mac: PEER.1 }));
        let own = Some(Arrival::Conflict { conflict: Conflict::OwnAddress { mac: OTHER.1 }, from: OTHER.1 });
        let taken = Some(Arrival::Conflict { conflict: Conflict::ClusterIp { mac: OTHER.1 }, from: OTHER.1 });
        let cluster = (CLUSTER_IP, CLUSTER_MAC);
        let rows = [
            ("the peer's kernel", says(Reply, PEER, PEER.1), kernel),
            ("the peer asks something", says(Request, PEER, PEER.1), None),
            ("the peer's data path", says(Reply, cluster, PEER.1), lease),
            ("an announcement of the cluster IP", says(Request, cluster, PEER.1), None),
            ("what this node itself said", says(Reply, cluster, OWN.1), None),
            (
                "another machine answers for the cluster IP",
                says(Reply, (CLUSTER_IP, OTHER.1), OTHER.1),
                taken.clone(),
            ),
            (
                "another machine announces the cluster IP",
                says(Request, (CLUSTER_IP, OTHER.1), OTHER.1),
                taken,
            ),
            ("another machine has our address", says(Reply, (OWN.0, OTHER.1), OTHER.1), own.clone()),
            ("another machine uses our address", says(Request, (OWN.0, OTHER.1), OTHER.1), own),
            ("the gateway answers", says(Reply, GATEWAY, GATEWAY.1), Some(Arrival::Gateway)),
            ("the gateway asks something", says(Request, GATEWAY, GATEWAY.1), None),
            ("another host", says(Reply, OTHER, OTHER.1), None),
        ];
        for (what, arp, expected) in rows {
            assert_eq!(network(true).understand(&arp), expected, "{what}");
        }
        let neighbour = network(false).understand(&says(Request, OTHER, OTHER.1));
        assert_eq!(neighbour, Some(Arrival::Gateway), "where no gateway is known");
        let v6 = Gateway::V6 { address: "fe80::1".parse().unwrap(), own: "fe80::6".parse().unwrap() };
        let asked_by_ndp = Network { gateway: Some(v6), ..network(false) };
        for sender in [GATEWAY, OTHER] {
            let arrival = asked_by_ndp.understand(&says(Reply, sender, sender.1));
            assert_eq!(arrival, None, "a gateway of IPv6 does not answer by ARP");
        }
        let probe = (Ipv4Addr::UNSPECIFIED, OTHER.1);
        assert_eq!(network(false).understand(&says(Request, probe, OTHER.1)), None);
    }

    #[test]
    fn a_probe_for_our_own_address_changes_nobodys_table() {
        let questions: Vec<Arp> = network(true).address_questions().collect();
        assert_eq!(questions.len(), 3);
        assert_eq!(questions[0].sender, (Ipv4Addr::UNSPECIFIED, OWN.1));
        assert_eq!(questions[0].target.0, OWN.0);
        assert_eq!(questions[1].target.0, CLUSTER_IP);
        assert!(questions.iter().all(|question| question.to == BROADCAST));
    }
}
