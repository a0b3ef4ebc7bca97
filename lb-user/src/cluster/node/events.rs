//! What an operator cares about, as data and as the sentence he reads. The driver knows the nodes' names.

use std::time::Duration;

use super::super::hearing::State as HearingState;
use super::super::peer::Standing;
use super::super::wire::TableId;
use super::Unsent;
use crate::config::model::{HEARTBEAT_PORT, Priority};

/// Something that an operator cares about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node serves: it has a lease.
    Serving,
    /// A peer lives.
    Heard(Priority),
    /// A peer left in good order.
    Left(Priority),
    /// A peer and its data path are silent: its buckets are taken over.
    Suspect(Priority),
    /// A suspect peer's host is gone, and its connections with it.
    Dead(Priority),
    /// An owner table came into force.
    Converged {
        /// Which.
        table: TableId,
        /// For how many nodes.
        members: usize,
    },
    /// This node did not renew its lease in time, and gave up what it held.
    LeaseLapsed {
        /// How long ago it ended.
        late: Duration,
    },
    /// The cluster NIC lost its carrier; this node holds nothing.
    CarrierLost,
    /// The cluster NIC has a carrier again; this node begins as at a start.
    CarrierFound,
    /// A peer's data path answers, its heartbeats do not come.
    HeartbeatsFiltered(Priority),
    /// No heartbeat from a configured peer for long.
    NoHeartbeat {
        /// Which.
        node: Priority,
        /// Whether its host answers ARP.
        host_answers: bool,
    },
    /// This node cannot serve before it has heard this peer, or found it silent.
    WaitingFor(Priority),
    /// This node hears no peer, and neither the gateway nor a neighbour answers it.
    Alone,
    /// This host does not let heartbeats out, so that no lease can be renewed.
    CannotSend(Unsent),
    /// A peer has other cluster facts.
    FactsDiffer(Priority),
    /// The service on this node works, or does not.
    Ready(bool),
    /// The operator drains this node, or has it resumed.
    Draining(bool),
    /// This node hears no frames for the cluster MAC while others do.
    Deaf,
    /// Frames for the cluster MAC arrive again.
    Hears,
    /// No node hears frames for the cluster MAC.
    HeardNowhere,
    /// Another node uses this node's priority.
    OwnPriority,
    /// A peer seals with another secret.
    OtherSecret(Priority),
    /// Somebody speaks another protocol version.
    OtherVersion(u8),
}

impl Event {
    /// A peer was heard again.
    pub(super) fn heard(node: Priority, standing: Standing) -> Self {
        match standing {
            Standing::Stopped => Self::Left(node),
            Standing::Unknown | Standing::Alive | Standing::Suspect | Standing::Dead => Self::Heard(node),
        }
    }

    /// A peer was judged.
    pub(super) fn fallen(node: Priority, standing: Standing) -> Option<Self> {
        match standing {
            Standing::Suspect => Some(Self::Suspect(node)),
            Standing::Dead => Some(Self::Dead(node)),
            Standing::Unknown | Standing::Alive | Standing::Stopped => None,
        }
    }

    /// This node's hearing changed.
    pub(super) fn hearing(state: HearingState) -> Self {
        match state {
            HearingState::Fine => Self::Hears,
            HearingState::Deaf => Self::Deaf,
            HearingState::Nowhere => Self::HeardNowhere,
        }
    }

    /// Whether this could wake someone (WARN), or is a change of state (INFO).
    pub fn is_warning(&self) -> bool {
        match self {
            Self::Serving
            | Self::Heard(_)
            | Self::Left(_)
            | Self::Converged { .. }
            | Self::CarrierFound
            | Self::Ready(true)
            | Self::Draining(_)
            | Self::Hears => false,
            Self::Suspect(_)
            | Self::Dead(_)
            | Self::LeaseLapsed { .. }
            | Self::CarrierLost
            | Self::HeartbeatsFiltered(_)
            | Self::NoHeartbeat { .. }
            | Self::WaitingFor(_)
            | Self::Alone
            | Self::CannotSend(_)
            | Self::FactsDiffer(_)
            | Self::Ready(false)
            | Self::Deaf
            | Self::HeardNowhere
            | Self::OwnPriority
            | Self::OtherSecret(_)
            | Self::OtherVersion(_) => true,
        }
    }

    /// The sentence for the operator; `name` gives a node's name.
    pub fn sentence(&self, name: impl Fn(Priority) -> String) -> String {
        match self {
            Self::Serving => "this node serves".to_owned(),
            Self::Heard(node) => format!("{} is heard", name(*node)),
            Self::Left(node) => format!("{} left in good order", name(*node)),
            Self::Suspect(node) => format!("{} is silent and so is its data path: its share is taken over", name(*node)),
            Self::Dead(node) => format!("{} is dead: its host answers no ARP", name(*node)),
            Self::Converged { table, members } => {
                format!("converged: owner table {} of {members} nodes is in force", table.epoch)
            }
            Self::LeaseLapsed { late } => format!(
                "the lease lapsed {} ms ago: this node was paused or starved, and gave up what it held",
                late.as_millis()
            ),
            Self::CarrierLost => "the cluster interface lost its carrier: this node holds nothing until it is back".to_owned(),
            Self::CarrierFound => "the cluster interface has a carrier".to_owned(),
            Self::HeartbeatsFiltered(node) => format!(
                "heartbeats from {} do not arrive though its data path answers: let UDP port {HEARTBEAT_PORT} through",
                name(*node)
            ),
            Self::NoHeartbeat { node, host_answers: true } => format!(
                "no heartbeat from {} though its host answers ARP: is its agent running, and does a firewall let UDP port {HEARTBEAT_PORT} through?",
                name(*node)
            ),
            Self::NoHeartbeat { node, host_answers: false } => format!(
                "no heartbeat from {} (UDP port {HEARTBEAT_PORT}), and its host does not answer ARP either: is it on, and in this network?",
                name(*node)
            ),
            Self::WaitingFor(node) => format!(
                "not serving yet: waiting to hear {} on UDP port {HEARTBEAT_PORT}, or to find it silent",
                name(*node)
            ),
            Self::Alone => "not serving yet: no other node is heard, and neither the gateway nor a neighbour answers ARP; check this host's cable and network".to_owned(),
            Self::CannotSend(Unsent { node, reason }) => format!(
                "not serving: heartbeats to {} cannot be sent ({reason}): check this host's own address, and that its firewall lets UDP port {HEARTBEAT_PORT} out",
                name(*node)
            ),
            Self::FactsDiffer(node) => format!(
                "{} runs with another cluster configuration: rules, addresses and nodes must be the same on all; compare `rollcall check` on both",
                name(*node)
            ),
            Self::Ready(true) => "the service on this node works".to_owned(),
            Self::Ready(false) => "the service on this node does not work: its share goes to nodes where it does".to_owned(),
            Self::Draining(true) => "draining: this node hands its share over".to_owned(),
            Self::Draining(false) => "resumed: this node takes a share".to_owned(),
            Self::Deaf => "this node no longer hears frames for the cluster MAC while others do, so clients do not reach it: its share goes to them; look for a switch that snoops IGMP, a pruned group, or a vSwitch that filters".to_owned(),
            Self::Hears => "this node hears frames for the cluster MAC again".to_owned(),
            Self::HeardNowhere => "no node hears the frames that the others send to the cluster MAC: the network may deliver clients' packets to none of them either; nothing was moved".to_owned(),
            Self::OwnPriority => "another node uses this node's priority: the cluster file must be the same on all nodes, and each node.toml must name another node".to_owned(),
            Self::OtherSecret(node) => format!(
                "{} (or somebody in its name) seals heartbeats with another secret: the cluster secret must be the same on all nodes",
                name(*node)
            ),
            Self::OtherVersion(version) => format!(
                "a node speaks protocol version {version}, this one {}: run the same Rollcall version on all",
                super::super::wire::VERSION
            ),
        }
    }
}
