//! What operators want of this node and of others: who may, what it changes, and that each wish is done once.

use serde::{Deserialize, Serialize};

use super::super::operate::Intent;
use super::*;

/// What another node is to be told, until it answers or the time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wished {
    to: Priority,
    wish: Wish,
    until: Time,
}

/// How long another node is told what the operator wants of it.
const WISH: Duration = Duration::from_secs(3);

/// How long a node that is stopped has to end its connections, once its share is elsewhere: as soon as it has left, the others
/// answer what belongs to them with a reset.
const CLOSING: Duration = Duration::from_millis(500);

/// How many wishes may be under way.
const WISHES: usize = 256;

impl Node {
    /// What an operator at this node wants of `to`, which may be this node. Answered by `Command::Wished` with the same `id`, which
    /// must be random: an agent that starts anew may not repeat what its predecessor said.
    pub fn handle_wish(&mut self, id: u32, to: Priority, wish: Wish, now: Time) {
        self.notice(now);
        if to == self.settings.me {
            let denied = self.obey(wish, None, now).err();
            self.commands.push_back(Command::Wished { id, denied });
            return;
        }
        let alive = |peer: &Peer| matches!(peer.standing, Standing::Alive | Standing::Stopped);
        if self.peers.get(&to).is_some_and(alive) && self.wishes.len() < WISHES {
            self.wishes.insert(id, Wished { to, wish, until: now + WISH });
            self.urgent = true;
        } else {
            self.commands.push_back(Command::Wished { id, denied: Some(Denied::Unanswered) });
        }
    }

    /// What an operator at another node wants of this one. A wish that is repeated is answered again, and done once.
    pub(super) fn handle_foreign_wish(&mut self, from: Priority, id: u32, wish: Wish, now: Time) {
        let known = self.peers.get(&from).and_then(|peer| peer.obeyed).filter(|(known, _)| *known == id);
        let denied = match known {
            Some((_, denied)) => denied,
            None => self.obey(wish, Some(from), now).err(),
        };
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.obeyed = Some((id, denied));
        }
        self.commands.push_back(Command::Send { to: from, message: Message::Answer { id, denied } });
    }

    pub(super) fn handle_wish_answer(&mut self, from: Priority, id: u32, denied: Option<Denied>) {
        if self.wishes.get(&id).is_some_and(|wished| wished.to == from) {
            self.wishes.remove(&id);
            self.commands.push_back(Command::Wished { id, denied });
        }
    }

    /// Says what other nodes are to do, as long as they have not answered.
    pub(super) fn send_wishes(&mut self, now: Time) {
        let over: Vec<u32> =
            self.wishes.iter().filter(|(_, wished)| wished.until <= now).map(|(id, _)| *id).collect();
        for id in over {
            self.wishes.remove(&id);
            self.commands.push_back(Command::Wished { id, denied: Some(Denied::Unanswered) });
        }
        let send = |(&id, wished): (&u32, &Wished)| Command::Send {
            to: wished.to,
            message: Message::Wish { id, wish: wished.wish },
        };
        self.commands.extend(self.wishes.iter().map(send));
    }

    /// Does what an operator wants, here or at the node `from`.
    fn obey(&mut self, wish: Wish, from: Option<Priority>, now: Time) -> Result<(), Denied> {
        if from.is_some() && self.mandate.intent == Intent::Suspended {
            return Err(Denied::Suspended);
        }
        match wish {
            Wish::Start { table: None } if self.mandate.intent == Intent::Suspended => {
                return Err(Denied::Suspended);
            }
            Wish::Start { table: None } | Wish::Resume => self.intend(Intent::Started, now),
            Wish::Stop { table: None } => self.intend(Intent::Stopped, now),
            Wish::Suspend => self.intend(Intent::Suspended, now),
            // What has stopped has no share to hand over.
            Wish::Drain { table: None } if self.phase == Phase::Stopped => return Ok(()),
            Wish::Drain { table: None } => self.intend(Intent::Draining, now),
            Wish::Start { table: Some(table) } => self.table_mandate(table)?.intent = Intent::Started,
            Wish::Stop { table: Some(table) } => self.table_mandate(table)?.intent = Intent::Stopped,
            Wish::Drain { table: Some(table) } => self.table_mandate(table)?.intent = Intent::Draining,
            Wish::SetWeight { table: None, weight } => self.mandate.weight = weight,
            Wish::SetWeight { table: Some(table), weight } => self.table_mandate(table)?.weight = weight,
            Wish::SetRank { rank } => self.set_rank(rank)?,
            Wish::FailBack => {
                self.entry.fail_back(now);
                self.report(Event::FailedBack);
            }
            Wish::Forget { node } => return self.forget(node, now),
            Wish::Restart => {
                self.commands.push_back(Command::Restart);
                return Ok(());
            }
        }
        let adjusts = matches!(
            wish,
            Wish::Start { table: Some(_) }
                | Wish::Stop { table: Some(_) }
                | Wish::Drain { table: Some(_) }
                | Wish::SetWeight { .. }
                | Wish::SetRank { .. }
        );
        if adjusts {
            self.report(Event::Adjusted);
        }
        self.commands.push_back(Command::Keep(self.mandate.clone()));
        self.urgent = true;
        self.settle(now);
        Ok(())
    }

    fn intend(&mut self, intent: Intent, now: Time) {
        if self.mandate.intent != intent {
            self.mandate.intent = intent;
            self.report(Event::Operated(intent));
        }
        match (intent, self.phase) {
            (Intent::Started | Intent::Draining, Phase::Stopping) if !self.ending => {
                self.phase = Phase::Serving;
                self.closing = None;
            }
            (Intent::Started, Phase::Stopped) if !self.ending => {
                self.phase = Phase::Starting;
                self.begin_again(now);
            }
            (Intent::Stopped | Intent::Suspended, Phase::Serving) => {
                self.phase = Phase::Stopping;
                self.urgent = true;
                self.settle(now);
                self.check_handed_over(now);
            }
            (Intent::Stopped | Intent::Suspended, Phase::Starting) => self.leave(),
            (Intent::Started | Intent::Draining, _) | (Intent::Stopped | Intent::Suspended, _) => {}
        }
    }

    fn table_mandate(&mut self, table: u8) -> Result<&mut super::super::operate::TableMandate, Denied> {
        let count = self.settings.tables.len();
        if usize::from(table) >= count {
            return Err(Denied::Unknown);
        }
        self.mandate.tables.resize(count, Default::default());
        self.mandate.tables.get_mut(usize::from(table)).ok_or(Denied::Unknown)
    }

    fn set_rank(&mut self, rank: Option<Priority>) -> Result<(), Denied> {
        let wanted = rank.unwrap_or(self.settings.me);
        let has_it = |peer: &&Peer| {
            let rank = peer.heartbeat.as_ref().map(|heartbeat| heartbeat.rank);
            peer.standing == Standing::Alive && rank == Some(wanted)
        };
        if let Some(peer) = self.peers.values().find(has_it) {
            return Err(Denied::RankTaken(peer.node));
        }
        self.mandate.rank = rank.filter(|rank| *rank != self.settings.me);
        Ok(())
    }

    /// The operator's word is evidence that a silent peer's connections are gone.
    fn forget(&mut self, node: Priority, now: Time) -> Result<(), Denied> {
        let peer = self.peers.get_mut(&node).ok_or(Denied::Unknown)?;
        match peer.standing {
            Standing::Unknown | Standing::Alive => return Err(Denied::Alive(node)),
            Standing::Suspect | Standing::Dead => peer.bury_for_good(),
            Standing::Stopped => return Ok(()),
        }
        self.report(Event::Forgotten(node));
        self.urgent = true;
        self.settle(now);
        Ok(())
    }

    /// This node's rank: the operator's choice, else its priority number.
    pub(super) fn rank(&self) -> Priority {
        self.mandate.rank.unwrap_or(self.settings.me)
    }

    /// A node that its operator had stopped does not start with its agent.
    pub(super) fn begin_as_told(&mut self) {
        if matches!(self.mandate.intent, Intent::Stopped | Intent::Suspended) {
            self.leave();
        }
    }

    /// Once the others have all they can have: says so to an agent that ends, or leaves the cluster.
    pub(super) fn check_handed_over(&mut self, now: Time) {
        let holds = self.holdings.iter().any(|holdings| !holdings.holds.is_empty());
        let heirs = self
            .peers
            .values()
            .any(|peer| peer.is_member() && peer.phase() == Some(Phase::Serving) && !self.differs(peer));
        let released = self.holdings.iter().any(|holdings| !holdings.released.is_empty());
        if (holds || released) && heirs {
            return;
        }
        if self.ending {
            if !self.handed_over {
                self.handed_over = true;
                self.commands.push_back(Command::HandedOver);
            }
        } else if self.phase == Phase::Stopping && now >= *self.closing.get_or_insert(now) + CLOSING {
            self.leave();
            self.urgent = true;
            self.settle(now);
        }
    }

    /// How long the others can be asked to wait: what a heartbeat can say.
    pub(super) fn longest_patience(&self) -> Duration {
        PATIENCE.min(self.settings.timing.period * u32::from(u8::MAX))
    }

    pub(super) fn multiplier(&self) -> u8 {
        let announced = self.facts.announced();
        let Some(patience) = self.patience else { return announced.multiplier };
        let periods = patience.as_nanos() / announced.period.as_nanos().max(1);
        u8::try_from(periods).unwrap_or(u8::MAX).max(announced.multiplier)
    }

    /// After how long a silence of this node every peer that counts suspects it at the earliest.
    pub(super) fn suspect_time(&self) -> Duration {
        let timing = Timing { multiplier: self.multiplier(), ..self.facts.announced() };
        if self.prepared { timing.suspect() } else { self.facts.lease_by().suspect() }
    }

    /// Says once that every living peer will wait.
    pub(super) fn check_prepared(&mut self) {
        let Some(patience) = self.patience.filter(|_| !self.prepared) else { return };
        let waits = |peer: &Peer| {
            let report = peer.report_on(self.settings.me);
            report.is_some_and(|report| report.suspect + self.settings.timing.period > patience)
        };
        let alive = |peer: &&Peer| peer.standing == Standing::Alive;
        if self.peers.values().filter(alive).all(waits) {
            self.prepared = true;
            self.urgent = true;
            self.commands.push_back(Command::Prepared);
        }
    }
}
