//! What this node knows of another: whether it lives, and what it holds. Not what follows from that (`node.rs`).

mod paths;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::paths::PathChange;
pub use self::paths::{Arrived, Path};
use super::operate::Denied;
use super::sets::BucketSet;
use super::wire::{Heartbeat, MAX_PARTS, PART, Part, PeerReport, Phase, State};
use crate::clock::Time;
use crate::config::model::{Priority, Timing};

/// Whether a peer lives.
///
/// ```text
///             heard                silent S, and its lease probes too
///  Unknown ----------> Alive ----------------------------------------> Suspect
///     |                ^ ^ ^ \                                          |  |
///     |                | | |  `-- says goodbye --> Stopped --heard--.   |  | its kernel answers no ARP for its own
///     |                | | |                                        |   |  | address for max(1 s, 3 S)
///     |                | | `----------------------------------------'   |  v
///     |                | `------------------- heard --------------------' Dead
///     |                `----------------------- heard --------------------'   (and back to Suspect if it answers again)
///     `-- as Alive -> Suspect
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Not heard yet since this node started, nor silent for long enough.
    Unknown,
    /// Heard, or at least its data path answers.
    Alive,
    /// Silent: its buckets may be taken for new connections. Its old connections may live on.
    Suspect,
    /// Its connections are gone for certain.
    Dead,
    /// Left in good order.
    Stopped,
}

/// A question to a peer's host, asked by ARP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probe {
    /// Who has the peer's own address? Its kernel answers while the host lives.
    Kernel,
    /// Who has the cluster IP, sent to the peer's own MAC address? Its XDP program answers exactly while its lease lives.
    Lease {
        /// The peer's own MAC address.
        mac: [u8; 6],
    },
}

/// An answer to a `Probe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel of this node answered for its own address.
    Kernel {
        /// Whose.
        node: Priority,
        /// From which MAC address.
        mac: [u8; 6],
    },
    /// Somebody's data path answered for the cluster IP. All answer alike, so only the frame's source says whose it is.
    Lease {
        /// The frame's source.
        mac: [u8; 6],
    },
}

/// What this node knows of one peer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) node: Priority,
    pub(crate) standing: Standing,
    /// Its latest heartbeat.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// Its latest whole state; `None` until one came, and once its connections are known to be gone.
    pub(crate) state: Option<(u64, Arc<State>)>,
    /// While it is suspect: what it may have connections in, per table. More than it last told, because it may have come to hold
    /// buckets in its last moments without our hearing of it.
    pub(crate) may_have: Option<Vec<BucketSet>>,
    /// The greatest id of its releases that we have accepted.
    pub(crate) accepted: u32,
    /// Its latest wish, and how it was answered.
    pub(crate) obeyed: Option<(u32, Option<Denied>)>,
    /// When it last came back after a fall, the latest last; at most `FALLS`.
    falls: VecDeque<Time>,
    /// When silence began to count.
    since: Time,
    last_heard: Option<Time>,
    /// When it was last heard on each path.
    paths: [Option<Time>; 2],
    /// On which path it is not heard while it is on the other, as the operator was told.
    lost_path: Option<Path>,
    last_lease_answer: Option<Time>,
    last_kernel_answer: Option<Time>,
    suspect_since: Time,
    /// The operator said that it is gone for good: then that its host still answers means nothing.
    forgotten: bool,
    /// It is asked for its lease as often as before it was suspect.
    pub(crate) asks_eagerly: bool,
    mac: Option<[u8; 6]>,
    probes: Probes,
    assembly: Option<Assembly>,
    /// Whether the operator was told that heartbeats are filtered, or missing for long.
    pub(crate) told: Told,
}

/// How many rounds of lease probes in a row must stay unanswered before silence counts. At 30 % loss each way half the rounds of a
/// living lease are answered, so one in fifty thousand such silences is a living lease's; and five heartbeats in a row are lost
/// only one time in four hundred then.
const ROUNDS: u32 = 16;

/// How many rounds go out in a period.
const PACE: u32 = 8;

/// As many do where its kernel has answered `CONFIRMATIONS` times meanwhile: one in sixteen thousand such silences is a living lease's.
const CONFIRMED_ROUNDS: u32 = 12;

/// How often its kernel must have answered while its lease did not, to show that the host is well and the lease has ended. One would do
/// if no frame were lost.
const CONFIRMATIONS: u32 = 8;

/// How long a lease lasts after the round of heartbeats with which it was renewed, if the others suspect its holder after
/// `suspect_time`: four fifths of that, so that they, who ask for it all the while, have found it ended when that time is over.
pub(crate) fn lease_time(suspect_time: Duration) -> Duration {
    suspect_time * 4 / 5
}

/// So long after its fall a dead peer is asked for as often as a suspect one.
const FRESH: Duration = Duration::from_secs(60);

/// So many falls within the hold-down time are too many.
const FALLS: usize = 3;

/// The probes of the present silence.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Probes {
    /// The latest round.
    last: Option<Time>,
    /// How many rounds were sent since the latest answer of the lease.
    unanswered: u32,
    /// When there had been enough of them.
    enough: Option<Time>,
    /// The first round since the latest sign of life of any kind. The host renewed no lease after it, or it would have answered.
    first: Option<Time>,
    /// How often its kernel has answered since the latest answer of the lease.
    confirmed: u32,
}

impl Probes {
    /// What stayed unanswered so far says nothing any more.
    fn ask_anew(&mut self) {
        *self = Self { last: self.last, ..Self::default() };
    }
}

/// What the operator was told in the present silence.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) filtered: bool,
    pub(crate) missing: bool,
}

/// A state of which some parts have come.
#[derive(Debug, Serialize, Deserialize)]
struct Assembly {
    version: u64,
    parts: Vec<Option<Vec<u8>>>,
}

impl Peer {
    pub(crate) fn new(node: Priority, now: Time) -> Self {
        Self {
            node,
            standing: Standing::Unknown,
            heartbeat: None,
            state: None,
            may_have: None,
            accepted: 0,
            obeyed: None,
            falls: VecDeque::new(),
            since: now,
            last_heard: None,
            paths: [None; 2],
            lost_path: None,
            last_lease_answer: None,
            last_kernel_answer: None,
            suspect_since: now,
            forgotten: false,
            asks_eagerly: false,
            mac: None,
            probes: Probes::default(),
            assembly: None,
            told: Told::default(),
        }
    }

    /// Forgets whether it lives and what it holds, because this node was not there to see it change.
    pub(crate) fn forget(&mut self, now: Time) {
        self.forget_session();
        self.standing = Standing::Unknown;
        self.since = now;
        self.last_heard = None;
        self.paths = [None; 2];
        self.last_lease_answer = None;
        self.forgotten = false;
        self.asks_eagerly = false;
        self.probes = Probes::default();
        self.told = Told::default();
    }

    /// Counts its silence from now, because this node was not there to hear it.
    pub(crate) fn excuse(&mut self, now: Time) {
        self.since = now;
        self.probes = Probes::default();
    }

    /// Its agent has started anew: what the old one said is void.
    pub(crate) fn forget_session(&mut self) {
        self.heartbeat = None;
        self.state = None;
        self.may_have = None;
        self.assembly = None;
        self.accepted = 0;
        self.obeyed = None;
    }

    /// It has come back after a fall.
    pub(crate) fn note_fall(&mut self, now: Time) {
        self.falls.push_back(now);
        if self.falls.len() > FALLS {
            self.falls.pop_front();
        }
    }

    /// Whether it has fallen and come back `FALLS` times within `hold_down`, the last time less than that ago.
    pub(crate) fn flaps(&self, hold_down: Duration, now: Time) -> bool {
        let often = self.falls.len() == FALLS;
        match (self.falls.front(), self.falls.back()) {
            (Some(first), Some(last)) => {
                often && last.since(*first) <= hold_down && now.since(*last) < hold_down
            }
            (None, _) | (_, None) => false,
        }
    }

    /// Its connections are gone for certain.
    pub(crate) fn bury(&mut self) {
        self.standing = Standing::Dead;
        self.state = None;
        self.may_have = None;
    }

    /// The operator says that its connections are gone.
    pub(crate) fn bury_for_good(&mut self) {
        self.bury();
        self.forgotten = true;
    }

    /// Takes its heartbeat in.
    pub(crate) fn hear(&mut self, heartbeat: Heartbeat, arrived: Arrived) {
        self.forgotten = false;
        self.last_heard = self.last_heard.max(Some(arrived.at));
        self.hear_on(arrived);
        self.probes = Probes::default();
        self.told = Told::default();
        self.mac = Some(heartbeat.mac);
        self.standing = match heartbeat.phase {
            Phase::Starting | Phase::Serving | Phase::Stopping => Standing::Alive,
            Phase::Stopped => Standing::Stopped,
        };
        if self.standing == Standing::Stopped {
            self.state = None;
        }
        self.heartbeat = Some(heartbeat);
        if self.is_current() {
            self.may_have = None;
        }
    }

    /// Takes a part of its state in; true once the state is whole and new.
    pub(crate) fn assemble(&mut self, part: Part, tables: usize) -> bool {
        if self.state.as_ref().is_some_and(|(version, _)| *version >= part.version) {
            return false;
        }
        if self.assembly.as_ref().is_none_or(|assembly| assembly.version < part.version) {
            let parts = vec![None; usize::from(part.total).min(MAX_PARTS)];
            self.assembly = Some(Assembly { version: part.version, parts });
        }
        let Some(assembly) = self.assembly.as_mut().filter(|assembly| assembly.version == part.version)
        else {
            return false;
        };
        if let Some(slot) = assembly.parts.get_mut(usize::from(part.index)) {
            *slot = Some(part.bytes);
        }
        let Some(parts) = assembly.parts.iter().map(Option::as_deref).collect::<Option<Vec<_>>>() else {
            return false;
        };
        debug_assert!(parts.iter().all(|part| part.len() <= PART));
        let state = State::decode(&parts.concat(), tables);
        let version = assembly.version;
        self.assembly = None;
        match state {
            Ok(state) => {
                self.state = Some((version, Arc::new(state)));
                self.may_have = None;
                true
            }
            // Its sender is authenticated, so this is another build's format; the fact digest names the difference.
            Err(_) => false,
        }
    }

    /// Takes an ARP answer in, if it is this peer's.
    pub(crate) fn answered(&mut self, answer: Answer, now: Time) {
        match answer {
            Answer::Kernel { node, mac } if node == self.node => {
                self.last_kernel_answer = Some(now);
                self.probes.first = None;
                self.probes.confirmed = self.probes.confirmed.saturating_add(1);
                if self.mac.is_none() {
                    // From here on its lease can be asked for; rounds before this one did not.
                    self.mac = Some(mac);
                    self.probes.ask_anew();
                }
                if self.standing == Standing::Dead && !self.forgotten {
                    // Its host lives after all; what it has is unknown.
                    self.standing = Standing::Suspect;
                    self.suspect_since = now;
                }
            }
            Answer::Lease { mac } if Some(mac) == self.mac => {
                self.last_lease_answer = Some(now);
                self.probes.ask_anew();
            }
            Answer::Kernel { .. } | Answer::Lease { .. } => {}
        }
    }

    /// Whether its kernel has answered since this node began to judge it.
    pub(crate) fn kernel_answered(&self) -> bool {
        self.last_kernel_answer.is_some_and(|answer| answer >= self.since)
    }

    /// Whether its lease has answered since it is suspect.
    pub(crate) fn is_back(&self) -> bool {
        self.had_lease_since(self.suspect_since)
    }

    /// Whether its lease has answered since `then`.
    pub(crate) fn had_lease_since(&self, then: Time) -> bool {
        self.last_lease_answer.is_some_and(|answer| answer >= then)
    }

    /// When it was last heard.
    pub(crate) fn last_heard(&self) -> Option<Time> {
        self.last_heard
    }

    /// Judges its silence; true if its standing changed. `reached`: when another host last answered this node. Who reaches
    /// nobody cannot call anybody dead. `slack`: how much longer than usual silence has to last.
    pub(crate) fn judge(&mut self, ours: &Timing, slack: Duration, reached: Option<Time>, now: Time) -> bool {
        let before = self.standing;
        match self.standing {
            Standing::Unknown | Standing::Alive => {
                let silent = now.since(self.silent_since(ours)) >= self.suspect_time(ours) + slack;
                if silent && self.has_asked(ours, now) && self.lease_over(ours) <= now {
                    self.standing = Standing::Suspect;
                    self.suspect_since = now;
                }
            }
            Standing::Suspect => {
                let silent = now.since(self.last_sign()) >= self.dead_time(ours);
                if silent && self.in_touch(reached) && self.has_asked(ours, now) {
                    self.bury();
                }
            }
            Standing::Dead | Standing::Stopped => {}
        }
        self.standing != before
    }

    /// When `judge` may next come to another result, if nothing is heard.
    pub(crate) fn next_judgement(
        &self,
        ours: &Timing,
        slack: Duration,
        reached: Option<Time>,
    ) -> Option<Time> {
        match self.standing {
            Standing::Unknown | Standing::Alive => {
                let silent = self.silent_since(ours) + self.suspect_time(ours) + slack;
                Some(silent.max(self.asked_enough(ours)).max(self.lease_over(ours)))
            }
            Standing::Suspect if !self.in_touch(reached) => None,
            Standing::Suspect => Some((self.last_sign() + self.dead_time(ours)).max(self.asked_enough(ours))),
            Standing::Dead | Standing::Stopped => None,
        }
    }

    /// Whether this node reached anyone since this peer is suspect.
    fn in_touch(&self, reached: Option<Time>) -> bool {
        reached.is_some_and(|reached| reached >= self.suspect_since)
    }

    /// The last sign of its host's life.
    fn last_sign(&self) -> Time {
        self.last_kernel_answer.map_or(self.suspect_since, |answer| answer.max(self.suspect_since))
    }

    /// When silence can count, because enough rounds were asked and the last of them had time for an answer.
    fn asked_enough(&self, ours: &Timing) -> Time {
        self.probes.enough.map_or_else(|| self.next_probe(ours), |enough| enough + self.period(ours) / 4)
    }

    /// When its lease has ended, given that nothing more is heard. Silence of the lease alone does not show that: a host that stands
    /// still answers nothing either, and wakes with what remains of the lease that it had renewed just before.
    fn lease_over(&self, ours: &Timing) -> Time {
        if self.probes.confirmed >= CONFIRMATIONS {
            return Time::default();
        }
        let last_renewed = self.probes.first.unwrap_or_else(|| self.next_probe(ours));
        last_renewed + lease_time(self.suspect_time(ours))
    }

    /// The probes to send now: from a quarter of a period after a missed heartbeat on eight rounds a period, so that it takes many
    /// lost frames to miss a living lease, and a lease that ends is noticed at once; one a period once suspect, and for a minute
    /// after death. With each the host is asked whether it is there to answer.
    pub(crate) fn probes_due(&mut self, ours: &Timing, now: Time) -> Vec<Probe> {
        if self.standing == Standing::Stopped || self.next_probe(ours) > now {
            return Vec::new();
        }
        self.probes.last = Some(now);
        self.probes.first.get_or_insert(now);
        self.probes.unanswered = self.probes.unanswered.saturating_add(1);
        let confirmed = self.probes.confirmed >= CONFIRMATIONS;
        if self.probes.unanswered >= if confirmed { CONFIRMED_ROUNDS } else { ROUNDS } {
            self.probes.enough.get_or_insert(now);
        }
        let lease = self.mac.map(|mac| Probe::Lease { mac });
        [Some(Probe::Kernel), lease].into_iter().flatten().collect()
    }

    /// When `probes_due` will next have some.
    pub(crate) fn next_probe(&self, ours: &Timing) -> Time {
        let period = self.period(ours);
        let pace = match self.standing {
            Standing::Unknown | Standing::Alive => period / PACE,
            Standing::Suspect if self.asks_eagerly => period / PACE,
            Standing::Suspect => period,
            // Its answer is also what gives the kernel its MAC address again, which by itself would ask once a second only. So two
            // parts of a network that meet after a while hear each other at once.
            Standing::Dead if self.probes.last.is_none_or(|last| last.since(self.suspect_since) < FRESH) => {
                period
            }
            Standing::Dead => period.max(Duration::from_millis(100)),
            Standing::Stopped => Duration::from_secs(1),
        };
        match (self.probes.last, self.last_heard) {
            (Some(last), _) => last + pace,
            (None, Some(heard)) => heard + period * 5 / 4,
            (None, None) => self.since,
        }
    }

    /// Whether its heartbeats are filtered: its lease answered so long after its last heartbeat that it must have been renewed
    /// since, and leases are renewed only with heartbeats.
    pub(crate) fn is_filtered(&self, ours: &Timing, now: Time) -> bool {
        let suspect_time = self.suspect_time(ours);
        self.renewed_unheard(ours).is_some_and(|answer| now.since(answer) < suspect_time)
    }

    /// How long it has not been heard.
    pub(crate) fn silence(&self, now: Time) -> Duration {
        now.since(self.last_heard.unwrap_or(self.since))
    }

    /// Whether what we know of its holdings is what it holds as of its latest heartbeat.
    pub(crate) fn is_current(&self) -> bool {
        #[cfg(test)]
        if super::bug::is_on(super::bug::Bug::BelieveStale) {
            return self.heartbeat.is_some() && self.state.is_some();
        }
        match (&self.heartbeat, &self.state) {
            (Some(heartbeat), Some((version, _))) => *version == heartbeat.state_version,
            (None, _) | (_, None) => false,
        }
    }

    /// What it may have connections in of owner table `index`.
    pub(crate) fn may_have(&self, index: usize) -> BucketSet {
        #[cfg(test)]
        if self.standing == Standing::Suspect && super::bug::is_on(super::bug::Bug::ResetOrphansAtOnce) {
            return BucketSet::EMPTY;
        }
        match (self.standing, &self.state) {
            (Standing::Dead | Standing::Stopped, _) => BucketSet::EMPTY,
            (Standing::Unknown | Standing::Alive | Standing::Suspect, None) => BucketSet::FULL,
            (Standing::Unknown | Standing::Alive | Standing::Suspect, Some((_, state))) => {
                let told =
                    state.holdings.get(index).map(|holdings| holdings.holds.union(&holdings.departing));
                let more = self.may_have.as_ref().and_then(|tables| tables.get(index));
                let told = told.unwrap_or(BucketSet::FULL);
                more.map_or_else(|| told.clone(), |more| told.union(more))
            }
        }
    }

    /// The version of its state that we have whole; 0: none.
    pub(crate) fn state_version(&self) -> u64 {
        self.state.as_ref().map_or(0, |(version, _)| *version)
    }

    /// Its incarnation, as last heard.
    pub(crate) fn incarnation(&self) -> u32 {
        self.heartbeat.as_ref().map_or(0, |heartbeat| heartbeat.incarnation)
    }

    /// Between start and stop, and alive.
    pub(crate) fn is_member(&self) -> bool {
        self.standing == Standing::Alive && matches!(self.phase(), Some(Phase::Serving | Phase::Stopping))
    }

    /// Its rank among the candidates for default host.
    pub(crate) fn rank(&self) -> Priority {
        self.heartbeat.as_ref().map_or(self.node, |heartbeat| heartbeat.rank)
    }

    /// Where it is between start and stop.
    pub(crate) fn phase(&self) -> Option<Phase> {
        self.heartbeat.as_ref().map(|heartbeat| heartbeat.phase)
    }

    /// Whether this is the MAC address of its cluster NIC.
    pub(crate) fn has_mac(&self, mac: [u8; 6]) -> bool {
        self.mac == Some(mac)
    }

    /// What it says of `node`.
    pub(crate) fn report_on(&self, node: Priority) -> Option<&PeerReport> {
        self.heartbeat.as_ref()?.report_on(node)
    }

    /// Since when it is silent. An answer of its lease so late that the lease must have been renewed since it was last heard shows
    /// that only its heartbeats are lost; then the answers have to be missing for as long as heartbeats otherwise.
    fn silent_since(&self, ours: &Timing) -> Time {
        self.renewed_unheard(ours).unwrap_or_else(|| self.heard_or_since())
    }

    /// When its lease last answered, if it must have been renewed since this node last heard of it.
    pub(crate) fn renewed_unheard(&self, ours: &Timing) -> Option<Time> {
        let heard = self.heard_or_since();
        self.last_lease_answer.filter(|answer| *answer >= heard + self.suspect_time(ours))
    }

    /// When it was last heard, or when silence began to count.
    fn heard_or_since(&self) -> Time {
        self.last_heard.map_or(self.since, |heard| heard.max(self.since))
    }

    /// Enough rounds were asked since the lease last answered, and had time for an answer.
    fn has_asked(&self, ours: &Timing, now: Time) -> bool {
        self.probes.enough.is_some() && self.asked_enough(ours) <= now
    }

    fn period(&self, ours: &Timing) -> Duration {
        self.heartbeat.as_ref().map_or(ours.period, |heartbeat| heartbeat.period)
    }

    /// After how long a silence this node suspects it.
    pub(crate) fn suspect_time(&self, ours: &Timing) -> Duration {
        let theirs = |heartbeat: &Heartbeat| heartbeat.period * u32::from(heartbeat.multiplier);
        self.heartbeat.as_ref().map_or(ours.suspect(), theirs)
    }

    fn dead_time(&self, ours: &Timing) -> Duration {
        Duration::from_secs(1).max(self.suspect_time(ours) * 3)
    }
}

#[cfg(test)]
mod tests;
