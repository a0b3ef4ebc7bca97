//! What speaks against this node's part in the cluster, or another's: datagrams that are not believed, a priority or an address
//! that two use. Nothing here is proof, because most of it can be forged: so it keeps nobody out for longer than it lasts.

use serde::{Deserialize, Serialize};

use super::super::link::Refused;
use super::super::wire::{Malformed, Refusal};
use super::*;

/// What an ARP frame of another machine claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// This node's own address.
    OwnAddress {
        /// The machine's MAC address.
        mac: [u8; 6],
    },
    /// A cluster IP, at another MAC address than the cluster's.
    ClusterIp {
        /// The machine's MAC address.
        mac: [u8; 6],
    },
}

/// How many datagrams were not believed, since the agent started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RefusedCounts {
    /// The bytes make no sense.
    pub malformed: u64,
    /// Of another protocol version.
    pub other_version: u64,
    /// From no configured node, from a node's wrong address, or for another node.
    pub stranger: u64,
    /// Sealed with another secret.
    pub forged: u64,
    /// Rightly sealed, with this node's own priority.
    pub own_priority: u64,
    /// Rightly sealed, from another address than that of the node with this priority.
    pub duplicate: u64,
    /// Heard before, or too old.
    pub replay: u64,
    /// Of a session that had not proved itself yet: some at each start of a peer.
    pub unproven: u64,
}

/// What of all this is known at present.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Conflicts {
    pub(super) refused: RefusedCounts,
    own_address: Option<([u8; 6], Time)>,
    cluster_ip: Option<([u8; 6], Time)>,
    duplicate: Option<(Priority, Time)>,
    own_priority: Option<Time>,
    /// Who last said that this node's priority is taken.
    refused_by: Option<(Priority, Time)>,
    /// Who last said that it serves by facts without this node.
    unknown_to: Option<(Priority, Time)>,
    /// Per peer, the latest datagram of it that could not be believed.
    doubts: BTreeMap<Priority, (Doubt, Time)>,
    /// What the operator was told, and when.
    told: Vec<(Topic, Time)>,
    /// How often a starting node has asked who has the addresses.
    asked: u32,
    last_asked: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Doubt {
    OtherSecret,
    OtherVersion(u8),
}

/// What the operator is told of at most once a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Topic {
    OtherSecret(Priority),
    OtherVersion,
    OwnPriority,
    Duplicate(Priority),
    OwnAddress,
    ClusterIp,
    OtherFacts(Priority),
}

/// How long after the last sign of it something keeps a starting node out.
const KEEPS_OUT: Duration = Duration::from_secs(10);

/// The same for a refusal, which is repeated each second.
const REFUSED: Duration = Duration::from_secs(5);

/// How long it stays in the status of a node that serves: the default host asks anew before.
const SHOWN: Duration = Duration::from_secs(90);

/// How often the default host asks who has the cluster IPs.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// How often a starting node asks before it serves (RFC 5227, PROBE_NUM).
const QUESTIONS: u32 = 3;

impl Conflicts {
    /// A peer speaks to this node, and so has it in its configuration.
    pub(super) fn handle_heartbeat(&mut self, from: Priority) {
        self.unknown_to.take_if(|(by, _)| *by == from);
    }

    /// A node that starts asks anew.
    pub(super) fn begin_again(&mut self) {
        self.asked = 0;
        self.last_asked = None;
    }

    /// Whether everybody who uses an address of ours had time to say so.
    pub(super) fn has_asked(&self, timing: &Timing, now: Time) -> bool {
        self.asked >= QUESTIONS && self.last_asked.is_some_and(|last| now.since(last) >= pace(timing))
    }

    /// When a starting node asks next, if it has not asked enough.
    pub(super) fn next_question(&self, timing: &Timing) -> Option<Time> {
        let next = self.last_asked.map_or(Time::default(), |last| last + pace(timing));
        (self.asked < QUESTIONS).then_some(next)
    }

    /// Whether to ask now who has the addresses.
    pub(super) fn asks(&mut self, starts: bool, is_default_host: bool, timing: &Timing, now: Time) -> bool {
        let pace = if starts { pace(timing) } else { ASK_AGAIN };
        let wanted = (starts && self.asked < QUESTIONS) || (!starts && is_default_host);
        if !wanted || self.last_asked.is_some_and(|last| now.since(last) < pace) {
            return false;
        }
        self.asked = self.asked.saturating_add(1);
        self.last_asked = Some(now);
        true
    }

    /// Why a starting node may not serve, whatever its peers say.
    pub(super) fn keeps_out(&self, now: Time) -> Option<Event> {
        let within = |time: Duration, at: Time| now.since(at) < time;
        if let Some((by, _)) = self.refused_by.filter(|(_, at)| within(REFUSED, *at)) {
            return Some(Event::PriorityTaken { by });
        }
        if let Some((by, _)) = self.unknown_to.filter(|(_, at)| within(REFUSED, *at)) {
            return Some(Event::NotConfigured { by });
        }
        if let Some((mac, _)) = self.own_address.filter(|(_, at)| within(KEEPS_OUT, *at)) {
            return Some(Event::OwnAddressTaken { mac });
        }
        let cluster_ip = self.cluster_ip.filter(|(_, at)| within(KEEPS_OUT, *at));
        cluster_ip.map(|(mac, _)| Event::ClusterIpTaken { mac })
    }

    /// Why a peer is waited for, if its datagrams, or somebody's in its name, come and cannot be believed.
    pub(super) fn reason(&self, peer: Priority, now: Time) -> Option<Event> {
        let recent = |at: &Time| now.since(*at) < REFUSED;
        let doubt = self.doubts.get(&peer).filter(|(_, at)| recent(at));
        let doubt = doubt.map(|(doubt, _)| match doubt {
            Doubt::OtherSecret => Event::OtherSecret(peer),
            Doubt::OtherVersion(version) => Event::OtherVersion(*version),
        });
        doubt.or_else(|| self.own_priority.filter(recent).map(|_| Event::OwnPriority))
    }

    /// What is wrong while this node serves.
    pub(super) fn problem(&self, now: Time) -> Option<Event> {
        let shown = |at: Time| now.since(at) < SHOWN;
        let own_address = self.own_address.filter(|(_, at)| shown(*at));
        let cluster_ip = self.cluster_ip.filter(|(_, at)| shown(*at));
        let duplicate = self.duplicate.filter(|(_, at)| shown(*at));
        own_address
            .map(|(mac, _)| Event::OwnAddressTaken { mac })
            .or_else(|| cluster_ip.map(|(mac, _)| Event::ClusterIpTaken { mac }))
            .or_else(|| duplicate.map(|(node, _)| Event::Duplicate(node)))
    }

    /// Whether the operator is to be told of this now.
    fn tells(&mut self, topic: Topic, now: Time) -> bool {
        match self.told.iter_mut().find(|(known, _)| *known == topic) {
            Some((_, told)) if now.since(*told) < Duration::from_secs(60) => return false,
            Some((_, told)) => *told = now,
            None => self.told.push((topic, now)),
        }
        true
    }
}

/// Time from one question to the next: an answer takes some milliseconds.
fn pace(timing: &Timing) -> Duration {
    timing.period.clamp(Duration::from_millis(10), Duration::from_millis(100))
}

impl Node {
    /// A datagram that the link does not believe; `from`: whose address it came from.
    pub(crate) fn handle_refused(&mut self, refused: Refused, from: Option<Priority>, now: Time) {
        let counts = &mut self.conflicts.refused;
        match refused {
            Refused::Malformed(Malformed::Version(version)) => {
                counts.other_version += 1;
                if let Some(peer) = from {
                    self.conflicts.doubts.insert(peer, (Doubt::OtherVersion(version), now));
                }
                self.tell_of(Topic::OtherVersion, Event::OtherVersion(version), now);
            }
            Refused::Forged(peer) => {
                counts.forged += 1;
                self.conflicts.doubts.insert(peer, (Doubt::OtherSecret, now));
                self.tell_of(Topic::OtherSecret(peer), Event::OtherSecret(peer), now);
            }
            Refused::OwnPriority => {
                counts.own_priority += 1;
                self.conflicts.own_priority = Some(now);
                self.tell_of(Topic::OwnPriority, Event::OwnPriority, now);
            }
            Refused::Unproven(peer) => {
                counts.unproven += 1;
                // Our next heartbeat lets it prove itself.
                self.urgent |= self.peers.contains_key(&peer);
            }
            Refused::Malformed(
                Malformed::Truncated | Malformed::Trailing | Malformed::NotOurs | Malformed::Field(_),
            ) => counts.malformed += 1,
            Refused::Stranger => counts.stranger += 1,
            Refused::Replay => counts.replay += 1,
            // Nothing is wrong with it.
            Refused::Overtaken(_) => {}
        }
    }

    /// A rightly sealed datagram with the priority of `node`, from another address than its own.
    pub fn handle_duplicate(&mut self, node: Priority, now: Time) {
        self.conflicts.refused.duplicate += 1;
        self.conflicts.duplicate = Some((node, now));
        self.tell_of(Topic::Duplicate(node), Event::Duplicate(node), now);
    }

    /// An ARP frame of another machine that claims what is ours; `from`: who sent it.
    pub fn handle_conflict(&mut self, conflict: Conflict, from: [u8; 6], now: Time) {
        self.notice(now);
        match conflict {
            Conflict::OwnAddress { mac } => {
                self.conflicts.own_address = Some((mac, now));
                self.tell_while_serving(Topic::OwnAddress, Event::OwnAddressTaken { mac }, now);
            }
            // A node with other facts may answer with another cluster MAC. That is told elsewhere, and its lease lives all the same.
            Conflict::ClusterIp { .. } if self.peers.values().any(|peer| peer.has_mac(from)) => {
                self.handle_answer(Answer::Lease { mac: from }, now);
            }
            Conflict::ClusterIp { mac } => {
                self.conflicts.cluster_ip = Some((mac, now));
                self.tell_while_serving(Topic::ClusterIp, Event::ClusterIpTaken { mac }, now);
            }
        }
    }

    /// Another node knows an older one with this node's priority. One that serves was there before; only a newcomer stays out. But who
    /// is no longer configured has missed it, and has no part any more, whatever it holds.
    pub(super) fn handle_refusal(&mut self, from: Priority, refusal: Refusal, now: Time) {
        match refusal {
            Refusal::PriorityTaken if self.phase == Phase::Starting => {
                self.conflicts.refused_by = Some((from, now));
            }
            Refusal::PriorityTaken => {}
            Refusal::NotConfigured => {
                let recent = self.conflicts.unknown_to.filter(|(_, at)| now.since(*at) < REFUSED);
                let (by, _) = *recent.as_ref().unwrap_or(&(from, now));
                self.conflicts.unknown_to = Some((by, now));
                if recent.is_none() {
                    self.report(Event::NotConfigured { by });
                }
                if self.serves() {
                    self.begin_again(now);
                }
            }
        }
    }

    /// A living peer has other cluster facts.
    pub(super) fn tell_of_other_facts(&mut self, now: Time) {
        let differing = |peer: &&Peer| peer.standing == Standing::Alive && self.differs(peer);
        if let Some(node) = self.peers.values().find(differing).map(|peer| peer.node) {
            self.tell_while_serving(Topic::OtherFacts(node), Event::FactsDiffer(node), now);
        }
    }

    /// A starting node says it as the reason why it does not serve.
    fn tell_while_serving(&mut self, topic: Topic, event: Event, now: Time) {
        if self.phase != Phase::Starting {
            self.tell_of(topic, event, now);
        }
    }

    fn tell_of(&mut self, topic: Topic, event: Event, now: Time) {
        if self.conflicts.tells(topic, now) {
            self.report(event);
        }
    }
}

#[cfg(test)]
mod tests;
