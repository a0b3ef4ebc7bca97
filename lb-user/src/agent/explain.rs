//! What each node would do with a packet, and why, for `rollcall explain`: this node by what its XDP program goes by, others by
//! what they announced, all by the code that runs in the kernel. Pure; what must be read is read before.

use std::cell::Cell;
use std::net::IpAddr;

use lb_common::table::{Affinity, Bucket, BucketState};
use lb_common::verdict::{Action, LocalSocket, Reason};

use super::holders::{holder, peer_serves, peer_state, word};
use super::status::{name, peer_word};
use crate::cluster::node::{PeerSnapshot, Snapshot};
use crate::cluster::peer::Standing;
use crate::config::model::{Config, Node, Priority};
use crate::control::api::{Explanation, Flag, NodeExplanation, Packet};
use crate::dataplane::Plan;
use crate::dataplane::explain::{Facts, Trace, trace};
use crate::dataplane::reasons::{Class, class, meaning};

/// What is known of the cluster.
pub(super) struct Known<'a> {
    pub(super) config: &'a Config,
    pub(super) plan: &'a Plan,
    pub(super) snapshot: &'a Snapshot,
    /// The states of this node's buckets, as the XDP program has them now.
    pub(super) state: &'a dyn Fn(u8, Bucket) -> BucketState,
    /// Whether its lease lives.
    pub(super) lease: bool,
    /// What its kernel has for the packet's addresses and ports.
    pub(super) socket: LocalSocket,
}

/// Why a packet cannot be judged; `None`: it can.
pub(super) fn objection(packet: &Packet) -> Option<String> {
    let (source, destination) = (packet.source.ip(), packet.destination.ip());
    (source.is_ipv4() != destination.is_ipv4()).then(|| {
        format!(
            "{source} and {destination} are not of one family; hint: write IPv6 addresses as [ADDRESS]:PORT"
        )
    })
}

/// Explains `packet`.
pub(super) fn explain(packet: &Packet, known: &Known<'_>) -> Explanation {
    let own = known.judge(packet, known.socket);
    let number = usize::from(own.verdict.rule());
    let rules = &known.config.cluster.rules;
    let rule = number.checked_sub(1).and_then(|index| rules.get(index));
    let affinity = rule.map_or(Affinity::Single, |rule| rule.affinity);
    let for_cluster = class(own.verdict.reason()) != Class::NotOurs;
    let nodes = known.config.cluster.nodes.iter().map(|node| known.node(node, packet, &own));
    Explanation {
        summary: known.summary(&own),
        for_cluster,
        rule: rule.map(ToString::to_string),
        affinity: own.bucket.map(|_| describe_affinity(affinity, packet)),
        table: own.bucket.map(|(table, ..)| table),
        bucket: own.bucket.map(|(_, bucket, _)| bucket.index() as u16),
        nodes: if for_cluster { nodes.collect() } else { Vec::new() },
    }
}

impl Known<'_> {
    /// This node's verdict if its kernel had this socket.
    fn judge(&self, packet: &Packet, socket: LocalSocket) -> Trace {
        let Plan { config, port_lists, .. } = self.plan;
        trace(packet, &Facts { config, port_lists, state: self.state, lease: self.lease, socket })
    }

    fn summary(&self, own: &Trace) -> String {
        let (me, reason) = (&self.config.local.name, own.verdict.reason());
        let because = meaning(reason);
        if class(reason) == Class::NotOurs {
            return format!("it passes untouched on every node, because {because}");
        }
        let verb = verb(reason);
        let mut summary = match self.plan.config.observe {
            0 => format!("{me} {verb} it: {}, because {because}", reason.as_str()),
            _ => format!("{me} only observes; else it {verb} it: {}, because {because}", reason.as_str()),
        };
        if let Some((table, bucket, _)) = own.bucket.filter(|_| class(reason) == Class::LeftToOthers) {
            let holder = holder(self.snapshot, self.me(), usize::from(table), bucket);
            let holder = holder.map(|node| name(self.config, node));
            let holder = holder.unwrap_or_else(|| "no node that is known here".to_owned());
            summary += &format!("; {holder} holds bucket {}", bucket.index());
        }
        summary
    }

    fn me(&self) -> Priority {
        self.config.me().priority
    }

    fn node(&self, node: &Node, packet: &Packet, own: &Trace) -> NodeExplanation {
        let peer = self.snapshot.peers.iter().find(|peer| peer.node == node.priority);
        let explanation = match peer {
            None => self.this_node(packet, own),
            Some(peer) if peer.standing != Standing::Alive => silent(peer),
            Some(peer) => self.peer(peer, packet),
        };
        NodeExplanation { name: node.name.clone(), this: peer.is_none(), ..explanation }
    }

    fn this_node(&self, packet: &Packet, own: &Trace) -> NodeExplanation {
        let socket = own.asked_kernel.then(|| socket_word(self.socket).to_owned());
        NodeExplanation { socket, unsure: self.doubt(packet, own), ..said(own, self.lease) }
    }

    /// What of the packet is not described, and would change the verdict.
    fn doubt(&self, packet: &Packet, own: &Trace) -> Option<String> {
        if !own.asked_kernel || !packet.flags.contains(&Flag::Ack) {
            return None;
        }
        let (socket, condition) = match self.socket {
            LocalSocket::Listener { .. } => {
                (LocalSocket::Listener { cookie_ok: true }, "it acknowledges a SYN cookie of this host")
            }
            LocalSocket::HalfOpen { .. } => {
                (LocalSocket::HalfOpen { ack_ok: true }, "it acknowledges the SYN-ACK of this host")
            }
            LocalSocket::None | LocalSocket::Open | LocalSocket::TimeWait => return None,
        };
        let reason = self.judge(packet, socket).verdict.reason();
        (reason != own.verdict.reason())
            .then(|| format!("{} it ({}) if {condition}", verb(reason), reason.as_str()))
    }

    /// A living peer, by the state that it announced.
    fn peer(&self, peer: &PeerSnapshot, packet: &Packet) -> NodeExplanation {
        let unknown = Cell::new(false);
        let state = |table: u8, bucket| {
            let state = peer_state(self.snapshot, peer, usize::from(table), bucket);
            unknown.set(state.is_none());
            state.unwrap_or(BucketState::Other)
        };
        let Plan { config, port_lists, .. } = self.plan;
        let (lease, socket) = (peer_serves(peer), LocalSocket::None);
        let trace = trace(packet, &Facts { config, port_lists, state: &state, lease, socket });
        let said = said(&trace, lease);
        let unanswered = |action: &str, unsure: &str| NodeExplanation {
            action: action.to_owned(),
            unsure: Some(unsure.to_owned()),
            reason: String::new(),
            meaning: String::new(),
            ..said.clone()
        };
        if unknown.get() {
            let unsure = "what it holds is not known here yet";
            return NodeExplanation { state: None, ..unanswered("unknown", unsure) };
        }
        if trace.asked_kernel {
            return unanswered(
                "asks its kernel",
                "passes it if its kernel has the connection, else drops it",
            );
        }
        said
    }
}

/// A peer that is not heard.
fn silent(peer: &PeerSnapshot) -> NodeExplanation {
    NodeExplanation {
        action: "silent".to_owned(),
        meaning: format!("it is {}", peer_word(peer)),
        ..NodeExplanation::default()
    }
}

/// What a trace says by itself.
fn said(trace: &Trace, lease: bool) -> NodeExplanation {
    let reason = trace.verdict.reason();
    NodeExplanation {
        action: verb(reason).to_owned(),
        reason: reason.as_str().to_owned(),
        meaning: meaning(reason).to_owned(),
        state: trace.bucket.map(|(_, _, state)| word(state).to_owned()),
        lease,
        ..NodeExplanation::default()
    }
}

const fn verb(reason: Reason) -> &'static str {
    match reason.action() {
        Action::Untouched => "ignores",
        Action::Accept => "passes",
        Action::Drop => "drops",
        Action::Answer => "answers",
    }
}

const fn socket_word(socket: LocalSocket) -> &'static str {
    match socket {
        LocalSocket::None => "none",
        LocalSocket::Listener { .. } => "listener",
        LocalSocket::HalfOpen { .. } => "half-open",
        LocalSocket::Open => "open",
        LocalSocket::TimeWait => "time-wait",
    }
}

/// The affinity's name, and the part of the client that it counts.
fn describe_affinity(affinity: Affinity, packet: &Packet) -> String {
    let client = packet.source.ip();
    match (affinity, client) {
        (Affinity::None, _) => format!("none: {}", packet.source),
        (Affinity::Single, _) => format!("single: {client}"),
        (Affinity::Network { v4, .. }, IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4)).unwrap_or(0);
            format!("network: {}/{v4}", IpAddr::from((address.to_bits() & mask).to_be_bytes()))
        }
        (Affinity::Network { v6, .. }, IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6)).unwrap_or(0);
            format!("network: {}/{v6}", IpAddr::from((address.to_bits() & mask).to_be_bytes()))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use lb_common::table::BucketTable;

    use super::super::holders::tests::{peer, snapshot};
    use super::*;
    use crate::control::api::Protocol;

    const RULES: &str = "[cluster]\nip = \"192.168.50.8/24\"\nmode = \"multicast\"\n\
        [[node]]\nname = \"arr1\"\naddress = \"192.168.50.6\"\npriority = 1\n\
        [[node]]\nname = \"arr2\"\naddress = \"192.168.50.7\"\npriority = 2\n\
        [[rule]]\nports = 443\n[[rule]]\nports = 53\nprotocol = \"udp\"\naffinity = \"network\"\n";

    /// arr1's, with the rules tcp 443 and udp 53.
    pub(in crate::agent) fn config() -> Config {
        let thread = std::thread::current().id();
        let file = std::env::temp_dir().join(format!("rollcall-explain-{}-{thread:?}", std::process::id()));
        std::fs::write(&file, RULES).unwrap();
        let config = crate::config::load_for(&file, None).unwrap();
        std::fs::remove_file(file).unwrap();
        config
    }

    fn packet(protocol: Protocol, port: u16, flags: &[Flag]) -> Packet {
        Packet {
            source: "203.0.113.10:40000".parse().unwrap(),
            destination: format!("192.168.50.8:{port}").parse().unwrap(),
            protocol,
            flags: flags.to_vec(),
        }
    }

    /// Explains on arr1, whose buckets are all in `state`; arr2 holds and lets depart what the functions say of the bucket.
    fn explained(
        packet: &Packet,
        state: BucketState,
        socket: LocalSocket,
        arr2: (bool, bool),
    ) -> Explanation {
        let config = config();
        let plan = Plan::new(&config, [7, 9]);
        let mut snapshot = snapshot(vec![BucketTable::filled(state); plan.tables.len()]);
        let of_state = |_, _| state;
        let known = |snapshot: &Snapshot| {
            let known =
                Known { config: &config, plan: &plan, snapshot, state: &of_state, lease: true, socket };
            explain(packet, &known)
        };
        let bucket = known(&snapshot).bucket.unwrap_or(0);
        let of = |has: bool| if has { vec![bucket] } else { vec![] };
        snapshot.peers = vec![peer(2, plan.tables.len(), &of(arr2.0), &of(arr2.1))];
        known(&snapshot)
    }

    #[test]
    fn the_owner_passes_it_and_the_others_leave_it_to_him() {
        let syn = packet(Protocol::Tcp, 443, &[Flag::Syn]);
        let mine = explained(&syn, BucketState::Mine, LocalSocket::None, (false, false));
        assert_eq!(mine.summary, "arr1 passes it: new-mine, because its bucket is the node's alone");
        assert_eq!(mine.rule.as_deref(), Some("tcp 443"));
        assert_eq!(mine.affinity.as_deref(), Some("none: 203.0.113.10:40000"));
        let actions: Vec<_> =
            mine.nodes.iter().map(|node| (node.name.as_str(), node.action.as_str())).collect();
        assert_eq!(actions, [("arr1", "passes"), ("arr2", "drops")]);

        let theirs = explained(&syn, BucketState::Other, LocalSocket::None, (true, false));
        let bucket = theirs.bucket.unwrap();
        let expected =
            format!("arr1 drops it: other, because its bucket is another node's; arr2 holds bucket {bucket}");
        assert_eq!(theirs.summary, expected);
        let arr2 = &theirs.nodes[1];
        assert_eq!((arr2.action.as_str(), arr2.state.as_deref()), ("passes", Some("mine")));
        let nobody = explained(&syn, BucketState::Other, LocalSocket::None, (false, false));
        assert!(nobody.summary.ends_with(&format!("; no node that is known here holds bucket {bucket}")));
    }

    #[test]
    fn sockets_of_others_are_not_known_and_those_here_decide() {
        let ack = packet(Protocol::Tcp, 443, &[Flag::Ack]);
        let moved = explained(&ack, BucketState::Arriving, LocalSocket::Open, (false, true));
        assert_eq!(moved.summary, "arr1 passes it: local-open, because the node has the connection");
        assert_eq!(moved.nodes[0].socket.as_deref(), Some("open"));
        assert_eq!((moved.nodes[1].action.as_str(), moved.nodes[1].reason.as_str()), ("asks its kernel", ""));
        let half =
            explained(&ack, BucketState::Arriving, LocalSocket::HalfOpen { ack_ok: false }, (false, true));
        let unsure = "passes it (local-half-open) if it acknowledges the SYN-ACK of this host";
        assert_eq!(half.nodes[0].unsure.as_deref(), Some(unsure));
        assert_eq!(half.nodes[0].reason, "half-open-other");
    }

    #[test]
    fn affinity_says_what_counts_of_the_client() {
        let dns = packet(Protocol::Udp, 53, &[]);
        let dns = explained(&dns, BucketState::Mine, LocalSocket::None, (false, false));
        assert_eq!(dns.affinity.as_deref(), Some("network: 203.0.113.0/24"));
        assert_eq!(dns.rule.as_deref(), Some("udp 53"));
        let echo = packet(Protocol::Icmp, 0, &[]);
        let echo = explained(&echo, BucketState::Mine, LocalSocket::None, (false, false));
        assert_eq!((echo.affinity.as_deref(), echo.rule), (Some("single: 203.0.113.10"), None));
    }

    #[test]
    fn what_is_for_no_cluster_ip_passes_untouched() {
        let mut packet = packet(Protocol::Tcp, 443, &[Flag::Syn]);
        packet.destination = "192.0.2.1:443".parse().unwrap();
        let foreign = explained(&packet, BucketState::Mine, LocalSocket::None, (false, false));
        assert!(!foreign.for_cluster && foreign.nodes.is_empty());
        assert_eq!(
            foreign.summary,
            "it passes untouched on every node, because its destination is no cluster IP"
        );
        packet.source = "[2001:db8::1]:1".parse().unwrap();
        assert!(objection(&packet).is_some());
    }
}
