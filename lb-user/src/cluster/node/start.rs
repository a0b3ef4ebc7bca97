//! The start of a node: what it waits for before it serves.

use super::holding::held;
use super::*;

impl Node {
    /// Whether it is on its way to serve.
    pub(super) fn is_starting(&self) -> bool {
        self.phase == Phase::Starting && self.carrier && !self.ending
    }

    /// When the start goes on, if nothing is heard.
    pub(super) fn next_start(&self) -> Option<Time> {
        let question = self.conflicts.next_question(&self.settings.timing).filter(|_| self.is_starting());
        question.or(self.claims_until)
    }

    /// From `Starting` to `Serving`, once it is known of every configured node whether it lives.
    pub(super) fn advance(&mut self, now: Time) {
        if !self.is_starting() {
            return;
        }
        match self.obstacle() {
            None if self.conflicts.has_asked(&self.settings.timing, now) => {
                self.phase = Phase::Serving;
                self.waiting = None;
                // Until the first heartbeat is out; past it this node begins again.
                self.lease = Some(now + self.settings.timing.suspect());
                self.urgent = true;
                self.report(Event::Serving);
                self.begin_to_serve(now);
                self.begin_claim(now);
                self.settle(now);
            }
            None => {}
            Some(obstacle) => {
                let patience = self.settings.timing.suspect() * 3;
                if self.waiting.as_ref() != Some(&obstacle) && now.since(self.since) >= patience {
                    self.waiting = Some(obstacle.clone());
                    self.report(obstacle);
                }
            }
        }
    }

    /// Why this node may not serve yet.
    pub(super) fn obstacle(&self) -> Option<Event> {
        if let Some(unsent) = &self.unsent {
            return Some(Event::CannotSend(unsent.clone()));
        }
        if let Some(conflict) = self.conflicts.keeps_out(self.last_turn) {
            return Some(conflict);
        }
        let waits = |peer: &Peer| {
            let reason = self.conflicts.reason(peer.node, self.last_turn);
            Some(reason.unwrap_or(Event::WaitingFor(peer.node)))
        };
        let mut alone = true;
        for peer in self.peers.values() {
            match peer.standing {
                Standing::Unknown => return waits(peer),
                // Of two that start the one with the lower priority number goes on.
                Standing::Alive if self.stays_out_for_us(peer) && self.settings.me < peer.node => {
                    alone = false;
                }
                Standing::Alive if self.differs(peer) => return Some(Event::FactsDiffer(peer.node)),
                Standing::Alive => {
                    let hears_us = peer
                        .report_on(self.settings.me)
                        .is_some_and(|report| report.alive && report.incarnation == self.incarnation);
                    let counts_strangers =
                        peer.heartbeat.as_ref().is_some_and(|heartbeat| self.counts_strangers(heartbeat));
                    if !hears_us || !peer.is_current() || counts_strangers {
                        return waits(peer);
                    }
                    alone = false;
                }
                Standing::Suspect | Standing::Dead | Standing::Stopped => {}
            }
        }
        (alone && self.gateway_answered.is_none()).then_some(Event::Alone)
    }

    /// Two that start at once and do not hear each other, because heartbeats are filtered, find each other without a lease. So who
    /// serves beside a silent node shows its lease first, asks once more, and takes nothing yet. But where a living node holds
    /// something already, the silent one has seen that one's lease, and cannot serve.
    fn begin_claim(&mut self, now: Time) {
        let timing = self.settings.timing;
        let holds = |peer: &Peer| (0..self.holdings.len()).any(|index| !held(peer, index).is_empty());
        if self.peers.values().any(|peer| self.is_counted(peer) && holds(peer)) {
            return;
        }
        let mut silent = false;
        for peer in self.peers.values_mut().filter(|peer| peer.standing == Standing::Suspect) {
            // Who had a lease a moment ago cannot have begun since and found this node silent by now, which has a lease itself.
            peer.asks_eagerly = !peer.had_lease_since(now + timing.period - timing.suspect());
            silent |= peer.asks_eagerly;
        }
        self.claims_until = silent.then(|| now + timing.period * CLAIM_QUARTERS / 4);
    }

    /// The lease of a silent node with a lower priority number answers after all: it goes on, and this one waits for it.
    pub(super) fn give_up_claim(&mut self, now: Time) {
        let me = self.settings.me;
        let claims = |peer: &Peer| peer.node < me && peer.standing == Standing::Suspect && peer.is_back();
        if self.claims_until.is_some() && self.peers.values().any(claims) {
            self.begin_again(now);
        }
    }

    /// True if from now on it takes what nobody holds.
    pub(super) fn end_claim(&mut self, now: Time) -> bool {
        let ends = self.claims_until.is_some_and(|until| until <= now);
        if ends {
            self.claims_until = None;
            self.peers.values_mut().for_each(|peer| peer.asks_eagerly = false);
        }
        ends
    }
}

/// How many quarters of a period a claim lasts: twelve rounds of probes, and time for an answer.
const CLAIM_QUARTERS: u32 = 7;
