//! What must hold at every moment: one acceptor, no connection dropped or reset, no bucket without an acceptor for long. A look
//! is taken at a host when what its data path does may have changed, and compares it with all others.

use super::*;

/// How long things may take, for these heartbeats on this network.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    suspect: Duration,
    /// How long a node that begins asks who has its addresses.
    pub(super) questions: Duration,
    /// Until every bucket has an acceptor, and all nodes have converged, after the last fault.
    pub(super) converge: Duration,
    /// The least time away after which a host may count as dead: the last question that it answered may be two periods older.
    pub(super) dead: Duration,
    /// From one look at the whole to the next.
    pub(super) look: Duration,
}

/// Clocks differ by a hundredth, and both ends of a time may be seen late.
const SLACK: Duration = Duration::from_millis(3);

impl Bounds {
    pub(super) fn of(setup: &Setup, most: Duration) -> Self {
        let (suspect, period) = (setup.timing.suspect(), setup.timing.period);
        // One that begins again does so while it finds out who is silent.
        let questions = period.clamp(MS * 10, MS * 100) * 3;
        let converge = suspect.max(questions) + period * 2 + most * 4;
        let dead = Duration::from_secs(1).max(suspect * 3);
        Self {
            suspect,
            questions,
            converge: converge + converge / 100 + SLACK,
            dead: dead - dead / 50 - period * 2,
            look: MS * 2,
        }
    }

    /// How long two halves that hear each other again may both accept: as long as they may take to converge. Where datagrams are
    /// lost no bound holds for certain; after four such times a state that did not come is one in millions.
    pub(super) fn merge(&self, losses: bool) -> Duration {
        if losses { self.converge * 4 + self.suspect * 4 } else { self.converge }
    }
}

/// What is remembered from one look to the next.
pub(super) struct Watch {
    /// When the last fault began or ended, or an operator did something.
    pub(super) disturbed: Time,
    /// By owner table, what nobody accepts, and since when.
    pub(super) missing: Vec<BucketSet>,
    pub(super) since: Vec<Vec<Time>>,
    /// What the nodes wanted at the last look, and when that last changed.
    pub(super) wants: Vec<(Priority, Vec<crate::cluster::wire::Want>)>,
    pub(super) wanted: Time,
    /// Until when nothing is expected of the others, because they are patient.
    pub(super) patience: Time,
    /// The table that all followed when they had converged, and the longest time that took.
    pub(super) converged: Option<TableId>,
    pub(super) slowest: Duration,
    pub(super) longest_gap: Duration,
    pub(super) checks: u64,
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    pub(super) keeps_events: bool,
    /// Faults that are under way beside those of the network: hosts asleep, agents being replaced, a configuration half changed.
    pub(super) under_way: u32,
}

impl Watch {
    pub(super) fn new(tables: usize, now: Time) -> Self {
        Self {
            disturbed: now,
            missing: vec![BucketSet::FULL; tables],
            since: vec![vec![now; lb_common::table::BUCKETS]; tables],
            wants: Vec::new(),
            wanted: now,
            patience: now,
            converged: None,
            slowest: Duration::ZERO,
            longest_gap: Duration::ZERO,
            checks: 0,
            datagrams: 0,
            bytes: 0,
            keeps_events: false,
            under_way: 0,
        }
    }

    /// IPv4 and UDP add 28 bytes to a datagram.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.datagrams += 1;
        self.bytes += bytes as u64 + 28;
    }
}

impl Sim {
    /// Something happened from which the bounds count.
    pub(super) fn disturb(&mut self) {
        self.watch.disturbed = self.watch.disturbed.max(self.now);
        self.watch.converged = None;
    }

    /// Something happened to a host. If it had asked the others for patience, they have it before they do anything.
    pub(super) fn disturb_host(&mut self, host: usize) {
        self.disturb();
        if self.hosts[host].patience > self.now {
            self.watch.patience = self.now + PATIENCE + PATIENCE / 50;
        }
    }

    /// What a host's data path does now, and whether that may be beside the others.
    pub(super) fn look(&mut self, host: usize) {
        self.note_accepted(host);
        for table in 0..self.setup.tables.len() {
            self.check_own_connections(table, host);
            self.check_pairs_with(table, host);
            self.note_missing(table);
        }
    }

    /// What a host's data path does now.
    fn note_accepted(&mut self, host: usize) {
        self.watch.checks += 1;
        let of = &self.hosts[host];
        let works =
            of.kernel_runs() && of.cable && (bug::is_on(Bug::IgnoreLease) || of.lease_lives(self.now));
        let tables = 0..self.setup.tables.len();
        let set = |states: &[BucketState]| -> Vec<BucketSet> {
            let buckets = |table| if works { of.buckets(table, states) } else { BucketSet::EMPTY };
            tables.clone().map(buckets).collect()
        };
        let accepts = set(&[BucketState::Mine, BucketState::Arriving]);
        let mine = set(&[BucketState::Mine]);
        let of = &mut self.hosts[host];
        (of.accepts, of.mine) = (accepts, mine);
    }

    /// Looks at everything, because who is exempt has changed. A lease may end at this very moment, so nobody is compared with what
    /// another did before.
    pub(super) fn check_everything(&mut self) {
        (0..self.hosts.len()).for_each(|host| self.note_accepted(host));
        (0..self.hosts.len()).for_each(|host| self.look(host));
    }

    /// At most one host with a living lease accepts new connections of a bucket, and none resets another's connections.
    fn check_pairs_with(&self, table: usize, host: usize) {
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            // A parted network is the design's one exemption: each half serves whom the router lets reach it. A host whose
            // clock stood still with it is parted in time: what remained of its lease is lived again.
            if self.network.bonds[host][other] != Bond::Joined {
                continue;
            }
            let (one, two) = (&self.hosts[host], &self.hosts[other]);
            if one.accepts[table].intersects(&two.accepts[table]) {
                let both = one.accepts[table].intersection(&two.accepts[table]);
                self.fail(&format!(
                    "{} buckets of table {table} from {:?} are accepted by arr{} and arr{}",
                    both.len(),
                    both.iter().next(),
                    one.priority,
                    two.priority
                ));
            }
            if self.network.dead_until[host][other] <= self.now {
                self.check_resets(table, host, other);
                self.check_resets(table, other, host);
            }
        }
    }

    /// A host whose data path lets everything of a bucket in answers another's connections with resets.
    fn check_resets(&self, table: usize, by: usize, of: usize) {
        let (by, of) = (&self.hosts[by], &self.hosts[of]);
        let reset = by.mine[table].intersection(&of.connections[table]);
        if !reset.is_empty() && !self.is_lost(of) {
            let bucket = reset.iter().next();
            self.fail(&format!(
                "arr{} resets connections of arr{} in table {table}, bucket {bucket:?}",
                by.priority, of.priority
            ));
        }
    }

    /// A host that nobody reached for so long is dead by every sign there is; what it had gets a reset.
    pub(super) fn is_lost(&self, host: &Host) -> bool {
        // Where frames are lost the last answers before that may have been, too.
        let dead = if self.network.is_faulty() { self.bounds.dead / 2 } else { self.bounds.dead };
        host.away_since.is_some_and(|since| self.now.since(since) >= dead)
    }

    /// A host lets its own connections' packets in, whatever its agent does.
    fn check_own_connections(&self, table: usize, host: usize) {
        let of = &self.hosts[host];
        let dropped = of.connections[table]
            .iter()
            .find(|bucket| of.powered && of.tables[table].state(*bucket) == BucketState::Other);
        if let Some(bucket) = dropped {
            self.fail(&format!("arr{} drops its own connections in table {table}, {bucket:?}", of.priority));
        }
    }

    /// Notes since when nobody accepts what nobody accepts.
    fn note_missing(&mut self, table: usize) {
        let accepts = self.hosts.iter().map(|host| &host.accepts[table]);
        let all = accepts.fold(BucketSet::EMPTY, |all, accepts| all.union(accepts));
        let missing = BucketSet::FULL.difference(&all);
        if missing == self.watch.missing[table] {
            return;
        }
        for bucket in missing.difference(&self.watch.missing[table]).iter() {
            self.watch.since[table][bucket.index()] = self.now;
        }
        self.watch.missing[table] = missing;
    }

    /// Whether no fault is under way.
    pub(super) fn is_calm(&self) -> bool {
        let members =
            || (0..self.hosts.len()).filter(|host| self.is_member(*host)).map(|host| &self.hosts[host]);
        let asleep = self.hosts.iter().any(|host| host.powered && host.asleep.is_some());
        let replaced = self.hosts.iter().any(|host| host.saved.is_some());
        let patient = self.watch.patience > self.now;
        // A node that was late distrusts its own verdicts for some time. One goes on to wait longer for a peer that it has not heard
        // again: behind whose lease heartbeats were lost, or that had asked for patience and did not get through with more.
        let cautious = |node: &Node| {
            let timing = &node.settings.timing;
            let unheard = |peer: &Peer| {
                matches!(peer.standing, Standing::Unknown | Standing::Alive)
                    && (peer.renewed_unheard(timing).is_some()
                        || peer.suspect_time(timing) > timing.suspect())
            };
            !node.lateness.slack(timing).is_zero() || node.peers.values().any(unheard)
        };
        let cautious = members().filter_map(Host::node).any(cautious);
        self.watch.under_way == 0
            && !asleep
            && !replaced
            && !patient
            && !cautious
            && !self.network.is_faulty()
    }

    /// What must hold some time after the last fault. Not during one: while datagrams are lost or filtered, hosts stand still or
    /// the network is parted, no bound can be given for what needs an answer.
    pub(super) fn check_calm(&mut self) {
        if !self.is_calm() {
            self.disturb();
            return;
        }
        self.check_followed_by_now();
        self.check_complete_by_now();
        self.check_converged_by_now();
    }

    /// A node that can accept what others do not.
    fn can_serve(&self, host: &Host) -> bool {
        let node = host.node().filter(|_| host.is_up() && host.cable && host.gateway);
        let away = |node: &Node| node.mandate.intent.is_away() || node.ending;
        node.is_some_and(|node| !away(node))
    }

    /// No bucket is without an acceptor for longer than the bound, while a node lives that could be one.
    fn check_complete_by_now(&mut self) {
        let can_serve = |host: usize| self.is_member(host) && self.can_serve(&self.hosts[host]);
        if !(0..self.hosts.len()).any(can_serve) {
            self.disturb();
            return;
        }
        for table in 0..self.setup.tables.len() {
            let since = |bucket: Bucket| self.watch.since[table][bucket.index()].max(self.watch.disturbed);
            let Some(first) = self.watch.missing[table].iter().min_by_key(|bucket| since(*bucket)) else {
                continue;
            };
            let gap = self.now.since(since(first));
            self.watch.longest_gap = self.watch.longest_gap.max(gap);
            if gap > self.bounds.converge {
                let count = self.watch.missing[table].len();
                self.fail(&format!("{count} buckets of table {table} have no acceptor for {gap:?}"));
            }
        }
    }
}
