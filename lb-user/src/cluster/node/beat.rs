//! What a node says of itself: heartbeats each period and on a change, and the parts of its state that others miss.

use super::*;

impl Node {
    pub(super) fn next_beat(&self) -> Time {
        match self.last_beat {
            None => self.since,
            Some(last) if self.urgent => last + RATE_LIMIT,
            Some(last) => last + self.pace(),
        }
    }

    /// A heartbeat to every peer, and what those that lag behind miss of our state.
    pub(super) fn beat(&mut self, now: Time) {
        let timing = self.settings.timing;
        let late = self.last_beat.map_or(Duration::ZERO, |last| now.since(last + self.pace()));
        if self.lateness.note(late, &timing, now) {
            self.report(Event::Late { by: late });
        }
        self.last_beat = Some(now);
        self.urgent = false;
        let heartbeat = Message::Heartbeat(Box::new(self.heartbeat(now)));
        let send = |&to: &Priority| Command::Send { to, message: heartbeat.clone() };
        self.commands.extend(self.peers.keys().map(send));
        self.send_parts();
        self.send_wishes(now);
        let until = now + lease_time(self.suspect_time()) - self.settings.lease_margin;
        let lease = self.lease.filter(|_| self.carrier).map(|_| until);
        self.commands.push_back(Command::EndRound { lease });
    }

    /// After the heartbeats, so that no state is so large that it delays one. Of a large state some parts in each round.
    pub(super) fn send_parts(&mut self) {
        let (me, version) = (self.settings.me, self.state_version);
        let lags = |peer: &&Peer| {
            let known = peer.report_on(me).map_or(0, |report| report.state_version);
            peer.standing == Standing::Alive && known < version
        };
        let lagging: Vec<Priority> = self.peers.values().filter(lags).map(|peer| peer.node).collect();
        if lagging.is_empty() {
            return;
        }
        let parts = self.announced.parts(version);
        let count = parts.len().min(PARTS_A_ROUND);
        let first = self.next_part % parts.len().max(1);
        self.next_part = first + count;
        for part in parts.iter().cycle().skip(first).take(count) {
            let send = |&to: &Priority| Command::Send { to, message: Message::Part(part.clone()) };
            self.commands.extend(lagging.iter().map(send));
        }
    }

    pub(super) fn heartbeat(&self, now: Time) -> Heartbeat {
        let report = |peer: &Peer| PeerReport {
            node: peer.node,
            alive: peer.standing == Standing::Alive,
            flaps: peer.flaps(self.settings.hold_down, now),
            suspect: peer.suspect_time(&self.settings.timing),
            incarnation: peer.incarnation(),
            state_version: peer.state_version(),
            accepted: peer.accepted,
        };
        Heartbeat {
            period: self.facts.announced().period,
            multiplier: self.multiplier(),
            incarnation: self.incarnation,
            phase: self.phase,
            intent: self.mandate.intent,
            rank: self.rank(),
            health: self.health,
            wants: self.wants(now),
            mac: self.settings.mac,
            facts: self.settings.facts,
            switched: self.facts.since,
            known: self.facts.digests(),
            ready: self.facts.is_prepared(),
            removes: self.removes(now),
            table: self.table_id(),
            state_version: self.state_version,
            hears: self.hearing.hears(now),
            traffic: self.traffic,
            generations: self.generations,
            peers: self.peers.values().map(report).collect(),
        }
    }
}

/// How many parts of a state are sent to a peer in one round. A state of two nodes has one to three parts, the largest of 64
/// nodes and 32 tables some 240; more in a row would fill queues on the way.
pub(super) const PARTS_A_ROUND: usize = 48;

/// The least time between two heartbeats to a peer, however much changes.
const RATE_LIMIT: Duration = Duration::from_millis(2);
