//! What an operator cares about, as data and as the sentence he reads. The driver knows the nodes' names.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::hearing::State as HearingState;
use super::super::operate::{Cause, Intent};
use super::super::peer::Standing;
use super::super::wire::TableId;
use super::Unsent;
use crate::arp::format_mac;
use crate::config::model::{HEARTBEAT_PORT, Priority};

/// Something that an operator cares about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// An owner table came into force, and every node holds what it should.
    Converged {
        /// Which.
        table: TableId,
        /// For how many nodes.
        members: usize,
        /// How many buckets have another owner than by the table before.
        moved: u32,
        /// From the moment when this node followed the table.
        duration: Duration,
        /// Why it was computed.
        causes: Vec<Cause>,
    },
    /// A peer that had been suspected was heard again, and had not begun again: it had lived all the time.
    WronglySuspected(Priority),
    /// Both halves of a split hear each other again: this peer held buckets that this node held, too.
    Merged {
        /// The peer.
        node: Priority,
        /// How many buckets both held.
        buckets: u32,
    },
    /// The gateway no longer answers this node.
    GatewayLost,
    /// The gateway answers this node again.
    GatewayFound,
    /// The gateway answers another ready node but not this one, which hands its share over; or this one again.
    CutOff(bool),
    /// A peer is not heard on one of its two paths.
    PathLost {
        /// Which peer.
        node: Priority,
        /// Whether it is the second path.
        second: bool,
    },
    /// A peer is heard on both paths again.
    PathFound {
        /// Which peer.
        node: Priority,
        /// Whether it is the second path that was lost.
        second: bool,
    },
    /// Another machine uses this node's own address.
    OwnAddressTaken {
        /// Its MAC address.
        mac: [u8; 6],
    },
    /// A machine that is no node answers for a cluster IP.
    ClusterIpTaken {
        /// Its MAC address.
        mac: [u8; 6],
    },
    /// The cluster thread was late, so its verdicts on others wait.
    Late {
        /// By how much.
        by: Duration,
    },
    /// A peer has fallen and come back so often that it gets no share until it has stayed.
    HeldDown(Priority),
    /// This node stands by while others serve: it came back, and waits as `failback` says, or it fell too often.
    StandsBy {
        /// It fell too often.
        held_down: bool,
    },
    /// Its time for a share has come.
    FailedBack,
    /// The service behind an owner table's rules works on this node, or does not.
    Service {
        /// The table's index.
        table: u8,
        /// Whether it works.
        works: bool,
    },
    /// The operator wants something else of this node as a whole.
    Operated(Intent),
    /// The operator changed what this node wants of some tables, its weight or its rank.
    Adjusted,
    /// The operator declared this silent peer gone.
    Forgotten(Priority),
    /// The others do not let this node in, because its priority was another node's before.
    PriorityTaken {
        /// Who says so.
        by: Priority,
    },
    /// A node with this priority wants in beside the one that has it.
    Duplicate(Priority),
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
    /// The cluster has switched to other cluster facts.
    Switched {
        /// Of the switch.
        epoch: u64,
    },
    /// The others are about to switch to facts without this node, or no longer are.
    Removed(bool),
    /// A peer serves by facts without this node.
    NotConfigured {
        /// Which.
        by: Priority,
    },
    /// The service on this node works, or does not.
    Ready(bool),
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
            | Self::GatewayFound
            | Self::CutOff(false)
            | Self::PathFound { .. }
            | Self::StandsBy { held_down: false }
            | Self::FailedBack
            | Self::Service { works: true, .. }
            | Self::Operated(_)
            | Self::Adjusted
            | Self::Forgotten(_)
            | Self::CarrierFound
            | Self::Switched { .. }
            | Self::Removed(false)
            | Self::Ready(true)
            | Self::Hears => false,
            Self::WronglySuspected(_)
            | Self::Merged { .. }
            | Self::GatewayLost
            | Self::CutOff(true)
            | Self::PathLost { .. }
            | Self::OwnAddressTaken { .. }
            | Self::ClusterIpTaken { .. }
            | Self::Late { .. }
            | Self::HeldDown(_)
            | Self::StandsBy { held_down: true }
            | Self::Service { works: false, .. }
            | Self::PriorityTaken { .. }
            | Self::Duplicate(_) => true,
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
            | Self::Removed(true)
            | Self::NotConfigured { .. }
            | Self::Ready(false)
            | Self::Deaf
            | Self::HeardNowhere
            | Self::OwnPriority
            | Self::OtherSecret(_)
            | Self::OtherVersion(_) => true,
        }
    }

    /// What kind it is, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Heard(_) => "joined",
            Self::Left(_) => "left",
            Self::Suspect(_) => "suspect",
            Self::Dead(_) => "dead",
            Self::Converged { .. } => "converged",
            Self::WronglySuspected(_) => "wrongly-suspected",
            Self::Merged { .. } => "merged",
            Self::GatewayLost => "gateway-lost",
            Self::GatewayFound => "gateway-found",
            Self::CutOff(true) => "stepped-down",
            Self::CutOff(false) => "stepped-up",
            Self::PathLost { .. } => "path-lost",
            Self::PathFound { .. } => "path-found",
            Self::OwnAddressTaken { .. } => "own-address-taken",
            Self::ClusterIpTaken { .. } => "cluster-ip-taken",
            Self::Late { .. } => "late",
            Self::HeldDown(_) => "held-down",
            Self::StandsBy { .. } => "stands-by",
            Self::FailedBack => "failed-back",
            Self::Service { works: true, .. } => "service-works",
            Self::Service { works: false, .. } => "service-fails",
            Self::Operated(Intent::Started) => "started",
            Self::Operated(Intent::Draining) => "draining",
            Self::Operated(Intent::Stopped) => "stopped",
            Self::Operated(Intent::Suspended) => "suspended",
            Self::Adjusted => "adjusted",
            Self::Forgotten(_) => "forgotten",
            Self::PriorityTaken { .. } => "priority-taken",
            Self::Duplicate(_) => "duplicate-priority",
            Self::LeaseLapsed { .. } => "lease-lapsed",
            Self::CarrierLost => "carrier-lost",
            Self::CarrierFound => "carrier-found",
            Self::HeartbeatsFiltered(_) => "heartbeats-filtered",
            Self::NoHeartbeat { .. } => "no-heartbeat",
            Self::WaitingFor(_) => "waiting",
            Self::Alone => "alone",
            Self::CannotSend(_) => "cannot-send",
            Self::FactsDiffer(_) => "facts-differ",
            Self::Switched { .. } => "facts-switched",
            Self::Removed(true) => "removed",
            Self::Removed(false) => "not-removed",
            Self::NotConfigured { .. } => "not-configured",
            Self::Ready(true) => "ready",
            Self::Ready(false) => "unready",
            Self::Deaf => "deaf",
            Self::Hears => "hears",
            Self::HeardNowhere => "heard-nowhere",
            Self::OwnPriority => "own-priority",
            Self::OtherSecret(_) => "other-secret",
            Self::OtherVersion(_) => "other-version",
        }
    }

    /// Which other node it is about, if it is about one.
    pub fn about(&self) -> Option<Priority> {
        match self {
            Self::Heard(node)
            | Self::Left(node)
            | Self::Suspect(node)
            | Self::Dead(node)
            | Self::WronglySuspected(node)
            | Self::Merged { node, .. }
            | Self::PathLost { node, .. }
            | Self::PathFound { node, .. }
            | Self::HeldDown(node)
            | Self::Forgotten(node)
            | Self::PriorityTaken { by: node }
            | Self::NotConfigured { by: node }
            | Self::Duplicate(node)
            | Self::HeartbeatsFiltered(node)
            | Self::NoHeartbeat { node, .. }
            | Self::WaitingFor(node)
            | Self::CannotSend(Unsent { node, .. })
            | Self::FactsDiffer(node)
            | Self::OtherSecret(node) => Some(*node),
            Self::Serving
            | Self::Converged { .. }
            | Self::GatewayLost
            | Self::GatewayFound
            | Self::CutOff(_)
            | Self::OwnAddressTaken { .. }
            | Self::ClusterIpTaken { .. }
            | Self::Late { .. }
            | Self::StandsBy { .. }
            | Self::FailedBack
            | Self::Service { .. }
            | Self::Operated(_)
            | Self::Adjusted
            | Self::LeaseLapsed { .. }
            | Self::CarrierLost
            | Self::CarrierFound
            | Self::Alone
            | Self::Switched { .. }
            | Self::Removed(_)
            | Self::Ready(_)
            | Self::Deaf
            | Self::Hears
            | Self::HeardNowhere
            | Self::OwnPriority
            | Self::OtherVersion(_) => None,
        }
    }

    /// The sentence for the operator; `name` gives a node's name.
    #[expect(clippy::too_many_lines, reason = "a table: one arm for each event")]
    pub fn sentence(&self, name: impl Fn(Priority) -> String) -> String {
        match self {
            Self::Serving => "this node serves".to_owned(),
            Self::Heard(node) => format!("{} is heard", name(*node)),
            Self::Left(node) => format!("{} left in good order", name(*node)),
            Self::Suspect(node) => format!("{} is silent and so is its data path: its share is taken over", name(*node)),
            Self::Dead(node) => format!("{} is dead: its host answers no ARP", name(*node)),
            Self::Converged { table, members, moved, duration, causes } => {
                let causes: Vec<String> = causes.iter().map(|cause| cause.sentence(&name)).collect();
                let because = if causes.is_empty() { String::new() } else { format!(", because {}", causes.join(", ")) };
                format!(
                    "converged: owner table {} of {members} nodes is in force after {} ms, {moved} buckets moved{because}",
                    table.epoch,
                    duration.as_millis()
                )
            }
            Self::WronglySuspected(node) => format!("{} was suspected though it lived: heartbeats were lost or late", name(*node)),
            Self::Merged { node, buckets } => format!(
                "merged: {} held {buckets} buckets that this node held, too, as after a split of the network; the lower priority number keeps them",
                name(*node)
            ),
            Self::GatewayLost => "the gateway no longer answers".to_owned(),
            Self::GatewayFound => "the gateway answers again".to_owned(),
            Self::CutOff(true) => "stepped down: the gateway answers another ready node, but not this one; look at this host's port, VLAN and cable".to_owned(),
            Self::CutOff(false) => "this node is no longer cut off from the gateway".to_owned(),
            Self::PathLost { node, second } => format!("{} is not heard on its {} path", name(*node), path(*second)),
            Self::PathFound { node, second } => format!("{} is heard on its {} path again", name(*node), path(*second)),
            Self::OwnAddressTaken { mac } => format!(
                "the machine with the MAC address {} uses this node's own address: give one of them another",
                format_mac(*mac)
            ),
            Self::ClusterIpTaken { mac } => format!(
                "the machine with the MAC address {} answers for a cluster IP and is no node: take that address from it",
                format_mac(*mac)
            ),
            Self::Late { by } => format!(
                "this host kept the cluster thread waiting for {} ms: until it is on time again, its verdicts on others wait longer",
                by.as_millis()
            ),
            Self::HeldDown(node) => format!(
                "{} has fallen and come back three times: it gets no share until it has stayed for the hold-down time",
                name(*node)
            ),
            Self::StandsBy { held_down: true } => "this node stands by: the others have seen it fall too often; `rollcall failback` gives it a share at once".to_owned(),
            Self::StandsBy { held_down: false } => "this node came back and stands by as `failback` says; `rollcall failback` gives it a share at once".to_owned(),
            Self::FailedBack => "this node stands by no longer: it takes a share".to_owned(),
            Self::Service { table, works: true } => format!("the service behind owner table {table} works on this node"),
            Self::Service { table, works: false } => {
                format!("the service behind owner table {table} does not work on this node: its share goes to nodes where it does")
            }
            Self::Operated(Intent::Started) => "started: this node takes a share".to_owned(),
            Self::Operated(Intent::Draining) => "draining: this node hands its share over".to_owned(),
            Self::Operated(Intent::Stopped) => "stopped: this node hands its share over and leaves the cluster".to_owned(),
            Self::Operated(Intent::Suspended) => "suspended: this node leaves the cluster until `rollcall resume` on it".to_owned(),
            Self::Adjusted => "the operator changed this node's weight, priority or port rules".to_owned(),
            Self::Forgotten(node) => format!("{} is gone, the operator says, and its connections with it", name(*node)),
            Self::PriorityTaken { by } => format!(
                "not serving: {} knows another node with this node's priority that was there before; give this node another, the same in every cluster file",
                name(*by)
            ),
            Self::Duplicate(node) => format!(
                "a second node comes with the priority of {}: it stays out; the cluster file must be the same on all nodes",
                name(*node)
            ),
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
            Self::Alone => "not serving yet: no other node is heard, and neither the gateway nor a neighbour answers; check this host's cable and network".to_owned(),
            Self::CannotSend(Unsent { node, reason }) => format!(
                "not serving: heartbeats to {} cannot be sent ({reason}): check this host's own address, and that its firewall lets UDP port {HEARTBEAT_PORT} out",
                name(*node)
            ),
            Self::FactsDiffer(node) => format!(
                "{} runs with another cluster configuration: rules, addresses and nodes must be the same on all; compare `rollcall check` on both",
                name(*node)
            ),
            Self::Switched { epoch } => format!("the cluster switched to another configuration at epoch {epoch}"),
            Self::Removed(true) => "the others are about to switch to a configuration without this node: it hands its share over and leaves".to_owned(),
            Self::Removed(false) => "the others no longer want to switch to a configuration without this node".to_owned(),
            Self::NotConfigured { by } => format!(
                "{} serves by a configuration without this node, which so has no part: add it there, or stop its agent",
                name(*by)
            ),
            Self::Ready(true) => "the service on this node works".to_owned(),
            Self::Ready(false) => "the service on this node does not work: its share goes to nodes where it does".to_owned(),
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

fn path(second: bool) -> &'static str {
    if second { "second" } else { "first" }
}
