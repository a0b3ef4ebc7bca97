//! What a node is told once, and what it wants done: the core's outside.

use serde::{Deserialize, Serialize};

use super::*;

/// What a node is told at its start, and with other cluster facts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// This node.
    pub me: Priority,
    /// Its share of `multiple` tables against the others', 0..=100.
    pub weight: u8,
    /// The MAC address of its cluster NIC.
    pub mac: [u8; 6],
    /// The other configured nodes.
    pub peers: Vec<Priority>,
    /// Heartbeats.
    pub timing: Timing,
    /// How each owner table spreads its buckets; at least one, at most `lb_common::table::TABLES`.
    pub tables: Vec<Spread>,
    /// How much sooner than a peer suspects us our lease ends: at least a tick of the coarse clock, and what clocks may differ
    /// over the suspect time.
    pub lease_margin: Duration,
    /// Digest of the cluster facts that must be equal on all nodes.
    pub facts: u64,
    /// Whether there is a gateway that could be asked.
    pub gateway: bool,
    /// Whether there is a second path to every peer.
    pub second_path: bool,
    /// By owner table, whether the service behind its rules works on this node already.
    pub ready: Vec<bool>,
    /// When a node that comes back takes its share.
    pub failback: Failback,
    /// A node that fell and came back three times within this time gets no share until it has stayed for this time; zero: never.
    pub hold_down: Duration,
    /// How long the load weight of a node that comes back grows to its full value.
    pub ramp: Duration,
    /// What operators told this node before its agent started.
    pub mandate: Mandate,
    /// Random, so that what peers say of an earlier start of this node is not taken for news of this one.
    pub incarnation: u32,
}

/// What the node wants done, in this order. Each is done before the next is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Write these owner tables and make them active, before any message that follows is sent.
    Apply(Vec<BucketTable>),
    /// Seal and send a message.
    Send {
        /// To whom.
        to: Priority,
        /// What.
        message: Message,
    },
    /// All heartbeats of this round are above. If every one was sent, and there is a `lease`, let the lease end then. Say by
    /// `handle_round` how it went.
    EndRound {
        /// The new end of the lease.
        lease: Option<Time>,
    },
    /// End the lease now.
    EndLease,
    /// Ask a peer's host by ARP.
    Ask {
        /// Whose.
        node: Priority,
        /// What.
        probe: Probe,
    },
    /// Ask the gateway, by ARP or ND, or the neighbours, by ARP, whether this node reaches anyone.
    AskGateway,
    /// Ask by ARP who has this node's own address, and who has the cluster IPs.
    AskAddresses,
    /// Find the buckets in which this host has connections, and answer by `handle_scan`.
    Scan,
    /// Find the buckets of sticky tables that are idle, and answer by `handle_idle`. At most once a second.
    FindIdle,
    /// Tell the operator.
    Report(Event),
    /// Keep what operators want of this node, for its next start.
    Keep(Mandate),
    /// A wish of an operator at this node was answered.
    Wished {
        /// Which, as `handle_wish` named it.
        id: u32,
        /// Why it was not done, if it was not.
        denied: Option<Denied>,
    },
    /// An operator wants the agent to end in good order and to start anew.
    Restart,
    /// The cluster facts with this digest, which were prepared, are in force: what follows is sent to their peers.
    Switched(u64),
    /// `Order::Prepare` is done: every living peer will wait for `PATIENCE` from now on, and leases last for four fifths of it.
    Prepared,
    /// `Order::Stop` is done as far as it can be: nobody needs this node for new connections.
    HandedOver,
}

/// A heartbeat that this host did not let out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsent {
    /// To whom.
    pub node: Priority,
    /// Why, in the system's words.
    pub reason: String,
}

/// What the agent wants for its own end. What operators want is a `Wish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Have the others wait for longer than usual, then say `Prepared`: this agent is about to be replaced in place.
    Prepare,
    /// It is not.
    Unprepare,
    /// Hand everything over, then say `HandedOver`.
    Stop,
    /// Be gone: no lease, no buckets, and the others are told.
    Leave,
}

/// How long the others wait for a node whose agent is replaced in place.
pub const PATIENCE: Duration = Duration::from_secs(2);
