//! How a node stands, as others may look at it.

use super::super::operate::Intent;
use super::super::wire::Want;
use super::share::Aside;
use super::*;

/// How a node stands, for `rollcall status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When things stood so.
    pub at: Time,
    /// Where it is between start and stop.
    pub phase: Phase,
    /// What operators want of it.
    pub mandate: Mandate,
    /// Its rank among the candidates for default host.
    pub rank: Priority,
    /// Random at the start of its agent; one more whenever it gave everything up.
    pub incarnation: u32,
    /// Why it stands by, if it does.
    pub aside: Option<Aside>,
    /// How it is.
    pub health: Health,
    /// What it wants of each owner table.
    pub wants: Vec<Want>,
    /// Not every node holds yet what it should.
    pub converging: bool,
    /// By how much the latest round of heartbeats of the last minute was late.
    pub late: Duration,
    /// How often a peer was suspected that lived, since this agent started.
    pub wrongly_suspected: u64,
    /// Datagrams that were not believed.
    pub refused: RefusedCounts,
    /// What is wrong while it serves: a priority or an address that another uses.
    pub problem: Option<Event>,
    /// Digest of the cluster facts in force.
    pub facts: u64,
    /// The epoch at which the cluster switched to them; 0: they came with an agent's start.
    pub switched: u64,
    /// What it has of the configuration that the nodes share.
    pub generations: Generations,
    /// What it has prepared to switch to.
    pub preparation: Option<Preparation>,
    /// Why it does not serve yet, if that lasts.
    pub waiting: Option<Event>,
    /// When its lease ends.
    pub lease: Option<Time>,
    /// The owner table in force.
    pub table: TableId,
    /// The living node with the lowest priority number, among those that serve.
    pub default_host: Option<Priority>,
    /// The owner tables as the data path has them.
    pub tables: Vec<BucketTable>,
    /// How many buckets of each owner table stay here for now, because their clients are sticky and another should own them.
    pub sticking: Vec<u32>,
    /// Every other configured node.
    pub peers: Vec<PeerSnapshot>,
}

/// How a peer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSnapshot {
    /// Which.
    pub node: Priority,
    /// Whether it lives.
    pub standing: Standing,
    /// Where it is between start and stop, by its latest heartbeat.
    pub phase: Option<Phase>,
    /// What its operator wants of it, by its latest heartbeat.
    pub intent: Intent,
    /// Its rank among the candidates for default host, by its latest heartbeat.
    pub rank: Priority,
    /// Which start of its agent that is, by its latest heartbeat.
    pub incarnation: Option<u32>,
    /// How it is, by its latest heartbeat.
    pub health: Health,
    /// What it wants of each owner table, by its latest heartbeat.
    pub wants: Vec<Want>,
    /// What its data path has passed, by its latest heartbeat.
    pub traffic: Traffic,
    /// What it has of the configuration that the nodes share, by its latest heartbeat.
    pub generations: Generations,
    /// How many buckets of each owner table it holds.
    pub holds: Vec<u32>,
    /// What it holds, and what departs from it, as it last announced; `None`: that is not known.
    pub state: Option<Arc<State>>,
    /// When it was last heard.
    pub last_heard: Option<Time>,
    /// On which of two paths it is not heard while it is on the other.
    pub lost_path: Option<Path>,
    /// Its heartbeats are missing while its data path answers.
    pub filtered: bool,
}

impl Node {
    /// How things stand.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let peer = |peer: &Peer| PeerSnapshot {
            node: peer.node,
            standing: peer.standing,
            phase: peer.phase(),
            intent: peer.heartbeat.as_ref().map_or(Intent::default(), |heartbeat| heartbeat.intent),
            rank: peer.heartbeat.as_ref().map_or(peer.node, |heartbeat| heartbeat.rank),
            incarnation: peer.heartbeat.as_ref().map(|heartbeat| heartbeat.incarnation),
            health: peer.heartbeat.as_ref().map_or(Health::default(), |heartbeat| heartbeat.health),
            wants: peer.heartbeat.as_ref().map_or(Vec::new(), |heartbeat| heartbeat.wants.clone()),
            generations: peer
                .heartbeat
                .as_ref()
                .map_or(Generations::default(), |heartbeat| heartbeat.generations),
            traffic: peer.heartbeat.as_ref().map_or(Traffic::default(), |heartbeat| heartbeat.traffic),
            holds: self.counts_of(peer),
            state: peer.state.as_ref().map(|(_, state)| Arc::clone(state)),
            last_heard: peer.last_heard(),
            lost_path: peer.lost_path(),
            filtered: peer.is_filtered(&self.settings.timing, now),
        };
        Snapshot {
            at: now,
            phase: self.phase,
            mandate: self.mandate.clone(),
            rank: self.rank(),
            incarnation: self.incarnation,
            aside: self.entry.aside(),
            health: self.health,
            wants: self.wants(now),
            converging: self.converging.is_some(),
            late: self.lateness.worst(now),
            wrongly_suspected: self.wrongly_suspected,
            refused: self.conflicts.refused,
            problem: self.conflicts.problem(now).filter(|_| self.serves()),
            facts: self.settings.facts,
            switched: self.facts.since,
            generations: self.generations,
            preparation: self.preparation(now),
            waiting: self.waiting.clone(),
            lease: self.lease,
            table: self.table_id(),
            default_host: self.default_host(),
            tables: self.applied.clone(),
            sticking: self.waiting_counts(),
            peers: self.peers.values().map(peer).collect(),
        }
    }

    fn counts_of(&self, peer: &Peer) -> Vec<u32> {
        let held = |index: usize| {
            let state = peer.state.as_ref().filter(|_| peer.standing == Standing::Alive);
            state.and_then(|(_, state)| state.holdings.get(index)).map_or(0, |holdings| holdings.holds.len())
        };
        (0..self.holdings.len()).map(|index| u32::try_from(held(index)).unwrap_or(BUCKETS as u32)).collect()
    }
}
