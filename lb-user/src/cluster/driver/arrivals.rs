//! What arrives, read to the end and handed to the core.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::calm::{PLENTY, is_usual};
use super::{DataPath, Driver};
use crate::clock::Time;
use crate::cluster::link::{Refused, Stranger};
use crate::cluster::peer::{Arrived, Path};
use crate::cluster::transport::{Arrival, Inbox, age};
use crate::cluster::wire::Header;
use crate::config::model::Priority;
use crate::sys::datagrams::{Datagram, Room};

/// How much is read before the heartbeats have their turn again.
const TURN: usize = 512;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// The one that counts.
    pub(super) now: Time,
    /// The wall clock, in which the kernel stamps what arrives; since 1970.
    wall: Duration,
}

impl Clocks {
    pub(super) fn read() -> Self {
        let wall = clock_gettime(ClockId::Realtime);
        let seconds = u64::try_from(wall.tv_sec).unwrap_or(0);
        let wall = Duration::new(seconds, u32::try_from(wall.tv_nsec).unwrap_or(0));
        Self { now: Time::now(), wall }
    }
}

/// So much of something a second.
#[derive(Debug)]
pub(super) struct Rate {
    most: u32,
    left: u32,
    since: Time,
}

impl Rate {
    pub(super) fn per_second(most: u32, now: Time) -> Self {
        Self { most, left: most, since: now }
    }

    /// Whether there is something left at `now`.
    pub(super) fn is_left(&self, now: Time) -> bool {
        self.left > 0 || now.since(self.since) >= Duration::from_secs(1)
    }

    /// Takes one; false if none is left.
    pub(super) fn take(&mut self, now: Time) -> bool {
        if now.since(self.since) >= Duration::from_secs(1) {
            (self.left, self.since) = (self.most, now);
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

impl<D: DataPath> Driver<D> {
    /// Reads every queue in which something waits to its end; false if there is more. Bounded, so that a flood cannot keep the heartbeats
    /// from being sent; what is left comes with the next turn.
    pub(super) fn receive(&mut self, inbox: &mut Inbox, clocks: Clocks) -> io::Result<bool> {
        let mut read = 0;
        while read < TURN {
            self.transport.receive(inbox)?;
            if inbox.arrivals.is_empty() {
                return Ok(true);
            }
            read += inbox.arrivals.len();
            if read >= PLENTY {
                self.calm.stir(clocks.now);
            }
            for arrival in inbox.arrivals.drain(..) {
                self.take_in(arrival, &inbox.room, clocks);
                self.carry_out()?;
            }
        }
        self.node.handle_overload(clocks.now);
        Ok(false)
    }

    fn take_in(&mut self, arrival: Arrival, room: &Room, clocks: Clocks) {
        let now = clocks.now;
        match arrival {
            Arrival::Datagram { datagram, path, from } => {
                let age = age(datagram.stamp, clocks.wall, now.since(self.drained));
                self.open(&datagram, room, Arrived { at: now - age, path }, from, now);
            }
            Arrival::Stranger(datagram) => self.open_stranger(&datagram, room, now),
            Arrival::Answer(answer) => self.node.handle_answer(answer, now),
            Arrival::Gateway => self.node.handle_gateway(now),
            Arrival::Conflict { conflict, from } => self.node.handle_conflict(conflict, from, now),
            Arrival::Carrier(up) => self.node.handle_carrier(up, now),
            Arrival::Nothing => {}
        }
    }

    /// A datagram from the address of `from`.
    fn open(&mut self, datagram: &Datagram, room: &Room, arrived: Arrived, from: Priority, now: Time) {
        let bytes = room.bytes(datagram);
        let claims_another = Header::decode(bytes).is_ok_and(|header| header.sender != from);
        if claims_another && arrived.path == Path::First {
            return self.open_stranger(datagram, room, now);
        }
        match self.link.open(bytes) {
            Ok(heard) => {
                if !is_usual(&heard.message) {
                    self.calm.stir(now);
                }
                self.node.handle_message(heard.from, heard.new_session, heard.message, arrived, now);
            }
            Err(refused) => {
                if let Refused::Overtaken(peer) = refused {
                    self.node.handle_overtaken(peer, arrived);
                }
                let forged = matches!(refused, Refused::Forged(_)) && self.strangers.take(now);
                match Some(bytes).filter(|_| forged).and_then(|bytes| self.link.former(bytes)) {
                    Some(former) => self.answer(&former, datagram, now),
                    None => self.node.handle_refused(refused, Some(from), now),
                }
            }
        }
    }

    /// A datagram from an address that is not that of the node it says it is from. Few are looked at.
    fn open_stranger(&mut self, datagram: &Datagram, room: &Room, now: Time) {
        if !self.strangers.take(now) {
            self.transport.pass_over_strangers();
            return;
        }
        match self.link.open_stranger(room.bytes(datagram)) {
            Ok(stranger) => self.answer(&stranger, datagram, now),
            Err(refused) => self.node.handle_refused(refused, None, now),
        }
    }

    fn answer(&mut self, stranger: &Stranger, datagram: &Datagram, now: Time) {
        let Stranger { node, serves, former, .. } = *stranger;
        let refusal = if former {
            self.node.handle_former(node, serves, now)
        } else {
            self.node.handle_stranger(node, serves, now)
        };
        if let Some(refusal) = refusal.filter(|_| self.refusals.take(now)) {
            let refusal = self.link.refuse(stranger, refusal);
            // A refusal that is lost is repeated.
            let _ = self.transport.answer_stranger(datagram.from, &refusal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_are_taken_in_a_second() {
        let at = |ms| Time::from_nanos(1_000_000_000) + Duration::from_millis(ms);
        let mut rate = Rate::per_second(3, at(0));
        let taken: Vec<u64> = (0..25).map(|step| step * 100).filter(|ms| rate.take(at(*ms))).collect();
        assert_eq!(taken, [0, 100, 200, 1000, 1100, 1200, 2000, 2100, 2200]);
        assert!(!rate.is_left(at(2500)) && rate.is_left(at(3000)));
    }
}
