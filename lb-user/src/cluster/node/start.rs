//! The start of a node: what it waits for before it serves.

use super::*;

impl Node {
    /// Whether it is on its way to serve.
    pub(super) fn is_starting(&self) -> bool {
        self.phase == Phase::Starting && self.carrier && !self.ending
    }

    /// When the start goes on, if nothing is heard.
    pub(super) fn next_start(&self) -> Option<Time> {
        self.conflicts.next_question(&self.settings.timing).filter(|_| self.is_starting())
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
                    if !hears_us || !peer.is_current() {
                        return waits(peer);
                    }
                    alone = false;
                }
                Standing::Suspect | Standing::Dead | Standing::Stopped => {}
            }
        }
        (alone && self.gateway_answered.is_none()).then_some(Event::Alone)
    }
}
