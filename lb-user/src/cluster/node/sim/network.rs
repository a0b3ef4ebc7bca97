//! The network between the hosts: what is lost, delayed, doubled, filtered, cut and parted.

use super::*;

/// One direction between two hosts.
#[derive(Clone, Copy, Default)]
pub(super) struct Way {
    /// Nothing passes.
    pub(super) cut: bool,
    /// Heartbeats do not pass, ARP does.
    pub(super) filtered: bool,
    /// Of a thousand frames so many are lost, beside those that are lost everywhere.
    pub(super) loss: u64,
}

/// How two hosts stand to each other, as far as the network is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bond {
    Joined,
    /// Nothing passes in at least one direction, so neither can know of the other what it must.
    Apart,
    /// Heartbeats pass again, and until this moment two may still accept what both did.
    Merging(Time),
}

/// Of a thousand frames: the greatest loss beside which no two nodes may accept.
const WORST_LOSS: u64 = 300;

pub(super) struct Network {
    pub(super) ways: Vec<Vec<Way>>,
    pub(super) bonds: Vec<Vec<Bond>>,
    /// Until when two may still count each other as dead. The dead are asked once a second whether they live after all.
    pub(super) dead_until: Vec<Vec<Time>>,
    /// The part of the network that each host is in.
    pub(super) part: Vec<u8>,
    /// Of a thousand frames so many are lost.
    pub(super) loss: u64,
    /// A frame takes at least `least` and less than `most`.
    pub(super) least: Duration,
    pub(super) most: Duration,
    /// Of a thousand datagrams so many arrive twice.
    pub(super) doubled: u64,
}

impl Network {
    pub(super) fn new(count: usize) -> Self {
        Self {
            ways: vec![vec![Way::default(); count]; count],
            bonds: vec![vec![Bond::Joined; count]; count],
            dead_until: vec![vec![Time::default(); count]; count],
            part: vec![0; count],
            loss: 0,
            least: Duration::from_micros(50),
            most: Duration::from_micros(3050),
            doubled: 20,
        }
    }

    /// Whether ARP passes from one to the other.
    pub(super) fn passes(&self, from: usize, to: usize) -> bool {
        !self.ways[from][to].cut && self.part[from] == self.part[to]
    }

    pub(super) fn passes_heartbeats(&self, from: usize, to: usize) -> bool {
        self.passes(from, to) && !self.ways[from][to].filtered
    }

    /// Whether anything is out of order.
    pub(super) fn is_faulty(&self) -> bool {
        let bad = |way: &Way| way.cut || way.filtered || way.loss > 0;
        self.loss > 0 || self.part.iter().any(|part| *part != 0) || self.ways.iter().flatten().any(bad)
    }

    pub(super) fn heal(&mut self) {
        self.loss = 0;
        self.part.fill(0);
        self.ways.iter_mut().flatten().for_each(|way| *way = Way::default());
    }
}

impl Sim {
    /// Sends a frame on its way; it may be lost, and a datagram may arrive twice.
    pub(super) fn send(&mut self, from: usize, to: usize, frame: Frame) {
        let datagram = matches!(frame, Frame::Datagram(_));
        let network = &self.network;
        let passes = if datagram { network.passes_heartbeats(from, to) } else { network.passes(from, to) };
        if !passes || !self.hosts[from].cable {
            return;
        }
        // Beyond it a way is as good as cut, and what holds for a cut would have to be exempt.
        let loss = (self.network.loss + self.network.ways[from][to].loss).min(WORST_LOSS);
        if loss > 0 && self.random.chance(loss) {
            return;
        }
        if datagram && self.random.chance(self.network.doubled) {
            let delay = self.random.between(self.network.least, self.network.most);
            self.schedule(self.now + delay, Happening::Arrival { from, to, frame: frame.clone() });
        }
        let delay = self.random.between(self.network.least, self.network.most);
        self.schedule(self.now + delay, Happening::Arrival { from, to, frame });
    }

    /// After a change of the network: who is apart from whom now, and who finds whom again.
    pub(super) fn network_changed(&mut self) {
        self.disturb();
        // One whose agent ended cannot hear, but its lease ends.
        let orphans = self.hosts.iter().filter(|host| host.agent.is_none() && host.lease_lives(self.now));
        let leases = orphans.map(|host| host.clock.when(host.lease)).max().unwrap_or(self.now);
        let merged = leases.max(self.now + self.bounds.merge(self.network.loss > 0));
        let mut merging = false;
        for (a, b) in pairs(self.hosts.len()) {
            let both = |passes: fn(&Network, usize, usize) -> bool| {
                passes(&self.network, a, b) && passes(&self.network, b, a)
            };
            let stopped = self.hosts[a].clock.stopped || self.hosts[b].clock.stopped;
            let cut_unseen = self.hosts[a].cut_unseen || self.hosts[b].cut_unseen;
            let hears = |host: usize| self.hosts[host].saved.is_none() && self.hosts[host].asleep.is_none();
            let bond = match self.network.bonds[a][b] {
                // An agent that stands still, or is being replaced, hears nothing yet.
                Bond::Apart if !hears(a) || !hears(b) => Bond::Apart,
                _ if stopped || cut_unseen || !both(Network::passes) => Bond::Apart,
                Bond::Apart if both(Network::passes_heartbeats) => Bond::Merging(merged),
                Bond::Merging(_) if !both(Network::passes_heartbeats) || !hears(a) || !hears(b) => {
                    Bond::Apart
                }
                // What is lost may be what they had to hear of each other.
                Bond::Merging(_) if self.network.loss > 0 => Bond::Merging(merged),
                bond @ (Bond::Joined | Bond::Apart | Bond::Merging(_)) => bond,
            };
            merging |= bond == Bond::Merging(merged);
            if self.network.bonds[a][b] == Bond::Apart && bond != Bond::Apart {
                let until = merged + Duration::from_secs(1);
                (self.network.dead_until[a][b], self.network.dead_until[b][a]) = (until, until);
            }
            self.network.bonds[a][b] = bond;
            self.network.bonds[b][a] = bond;
        }
        if merging {
            self.schedule(merged, Happening::Merged);
            self.schedule(merged + Duration::from_secs(1), Happening::Merged);
        }
    }

    /// Merging has had its time.
    pub(super) fn end_merging(&mut self) {
        let now = self.now;
        for bond in self.network.bonds.iter_mut().flatten() {
            if matches!(bond, Bond::Merging(until) if *until <= now) {
                *bond = Bond::Joined;
            }
        }
    }
}

fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |a| (a + 1..count).map(move |b| (a, b)))
}
