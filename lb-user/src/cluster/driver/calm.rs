//! When the thread wakes for heartbeats. Each bears the time at which it came, so while nothing is under way it is soon enough to read them
//! a few together: one wake-up costs more than the heartbeat that causes it, and the more nodes there are the more there would be.

use std::time::Duration;

use crate::clock::Time;
use crate::cluster::node::Command;
use crate::cluster::wire::{Heartbeat, Message};

/// Whether anything is under way.
///
/// ```text
///   Stirred: each datagram is read at once --- nothing but heartbeats, on time, for a while ---> Calm: twice a period
///      ^                                                                                           |
///      `----------------- a round out of turn, or anything else that is no routine ----------------'
/// ```
/// Nobody is judged later for it: before that everything is read, whatever this says.
#[derive(Debug)]
pub(super) struct Calm {
    /// Until when datagrams are read at once.
    stirred_until: Time,
    /// When all was last looked at.
    looked: Time,
    /// Between this node's own heartbeats, as the latest said.
    period: Duration,
    /// How many heartbeats this round and the one before had.
    beats: (u32, u32),
    /// When the latest round went out.
    round: Time,
}

/// With fewer peers waking for each costs no more than to look twice a period.
const FEW: u32 = 2;

/// So much at once is no routine.
pub(super) const PLENTY: usize = 128;

impl Calm {
    pub(super) fn new(now: Time) -> Self {
        Self { stirred_until: now + LULL, looked: now, period: Duration::ZERO, beats: (0, 0), round: now }
    }

    /// Something is under way.
    pub(super) fn stir(&mut self, now: Time) {
        self.stirred_until = now + LULL.max(self.period * 10);
    }

    /// A heartbeat goes out.
    pub(super) fn beat(&mut self, heartbeat: &Heartbeat) {
        self.period = heartbeat.period;
        self.beats.0 += 1;
    }

    /// A round of heartbeats has gone out. One that did not wait for its time has news.
    pub(super) fn end_round(&mut self, now: Time) {
        if now.since(self.round) < self.period / 10 * 9 {
            self.stir(now);
        }
        self.round = now;
        self.beats = (0, self.beats.0);
    }

    /// All was looked at.
    pub(super) fn look(&mut self, now: Time) {
        self.looked = now;
    }

    /// When to look at the latest; `None`: at once when something comes.
    pub(super) fn next_look(&self, now: Time) -> Option<Time> {
        let calm = self.beats.1 > FEW && now >= self.stirred_until;
        calm.then(|| self.looked + self.period / 2)
    }
}

/// So long must nothing happen.
const LULL: Duration = Duration::from_secs(1);

/// Whether a node in a cluster at rest wants such things done.
pub(super) fn is_routine(command: &Command) -> bool {
    match command {
        Command::Send { message, .. } => is_usual(message),
        Command::EndRound { .. } | Command::AskGateway | Command::AskAddresses | Command::FindIdle => true,
        Command::Apply(_)
        | Command::EndLease
        | Command::Ask { .. }
        | Command::Scan
        | Command::Report(_)
        | Command::Keep(_)
        | Command::Wished { .. }
        | Command::Restart
        | Command::Switched(_)
        | Command::Prepared
        | Command::HandedOver => false,
    }
}

/// Whether nodes of a cluster at rest say such things.
pub(super) fn is_usual(message: &Message) -> bool {
    match message {
        Message::Heartbeat(_) => true,
        Message::Part(_) | Message::Wish { .. } | Message::Answer { .. } | Message::Refusal(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PERIOD: Duration = Duration::from_millis(20);

    fn start() -> Time {
        Time::from_nanos(1_000_000_000)
    }

    /// A node whose rounds have these heartbeats, at these times from the start.
    fn after(beats: u32, rounds: impl IntoIterator<Item = u32>) -> Calm {
        let mut calm = Calm::new(start());
        for round in rounds {
            calm.period = PERIOD;
            calm.beats.0 = beats;
            calm.end_round(start() + MS * round);
        }
        calm
    }

    #[test]
    fn heartbeats_wait_for_the_next_look_once_nothing_has_happened_for_a_while() {
        let on_time = || (1..=60).map(|round| round * 20);
        let now = start() + MS * 1205;
        let rows = [
            ("at rest", after(7, on_time()), true),
            ("two peers", after(2, on_time()), false),
            ("a round out of turn", after(7, on_time().chain([1204])), false),
            ("one a while ago", after(7, [20, 22].into_iter().chain(on_time().skip(2))), true),
            ("late rounds", after(7, (1..=40).map(|round| round * 30)), true),
        ];
        for (what, mut calm, expected) in rows {
            calm.look(start() + MS * 1200);
            let next = calm.next_look(now);
            assert_eq!(next, expected.then_some(start() + MS * 1210), "{what}");
        }
        assert_eq!(after(7, [20]).next_look(start() + MS * 999), None, "it has just begun");
        let mut calm = after(7, on_time());
        calm.stir(now);
        assert_eq!(calm.next_look(now + MS * 999), None);
        assert!(calm.next_look(now + MS * 1000).is_some());
    }
}
