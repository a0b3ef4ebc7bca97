//! Who waits for a free server, and who is next. Pure: what a server is and whether it is free is not known here.
//!
//! First come, first served, with one exception: who can use none of what is free does not hold up those behind.

use std::collections::BTreeMap;

use thiserror::Error;

/// Those who wait, each with what `W` says of its wishes.
#[derive(Debug)]
pub struct Queue<W> {
    /// Tickets are numbered, so their order is that of arrival.
    waiting: BTreeMap<Ticket, W>,
    next: u64,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What becomes of one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<T> {
    /// Leaves the queue with this.
    Leave(T),
    /// Waits on.
    Wait,
    /// Waits on, and so do all behind: nothing is free any more.
    Stop,
}

/// The queue is as long as it may be; nobody was put into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "all {length} places of the queue are taken; hint: raise the servers' connection limits or the queue's length"
)]
pub struct QueueFull {
    /// How long it may be.
    pub length: usize,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), next: 0 }
    }
}

impl<W> Queue<W> {
    /// Takes the last place of at most `length`.
    pub fn enter(&mut self, waiter: W, length: usize) -> Result<Ticket, QueueFull> {
        if self.waiting.len() >= length {
            return Err(QueueFull { length });
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, waiter);
        Ok(ticket)
    }

    /// Gives a place up. `None`: it was served or given up before.
    pub fn leave(&mut self, ticket: Ticket) -> Option<W> {
        self.waiting.remove(&ticket)
    }

    /// Asks everybody in order of arrival, and lets out who leaves.
    pub fn serve<T>(&mut self, mut turn: impl FnMut(&W) -> Turn<T>) -> Vec<(W, T)> {
        let mut leaving = Vec::new();
        for (ticket, waiter) in &self.waiting {
            match turn(waiter) {
                Turn::Leave(with) => leaving.push((*ticket, with)),
                Turn::Wait => {}
                Turn::Stop => break,
            }
        }
        let leave = |(ticket, with)| Some((self.waiting.remove(&ticket)?, with));
        leaving.into_iter().filter_map(leave).collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        /// Someone comes who can use one of these servers (bits).
        Enter(u8),
        /// The nth of all that ever came leaves.
        Leave(usize),
        /// A server has a place.
        Free(u8),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            (1..8_u8).prop_map(Op::Enter),
            (0..40_usize).prop_map(Op::Leave),
            (0..3_u8).prop_map(Op::Free),
        ];
        vec(op, 0..80)
    }

    const LENGTH: usize = 8;

    proptest! {
        #[test]
        fn a_free_place_goes_to_the_first_who_can_use_it(ops in ops()) {
            let mut queue = Queue::default();
            let mut tickets = Vec::new();
            let mut model: VecDeque<(usize, u8)> = VecDeque::new();
            for op in ops {
                match op {
                    Op::Enter(servers) => match queue.enter((tickets.len(), servers), LENGTH) {
                        Ok(ticket) => {
                            model.push_back((tickets.len(), servers));
                            tickets.push(ticket);
                        }
                        Err(QueueFull { length }) => prop_assert_eq!((model.len(), length), (LENGTH, LENGTH)),
                    },
                    Op::Leave(number) => {
                        let Some(ticket) = tickets.get(number) else { continue };
                        let position = model.iter().position(|(waiting, _)| *waiting == number);
                        prop_assert_eq!(queue.leave(*ticket), position.and_then(|position| model.remove(position)));
                    }
                    Op::Free(server) => {
                        let mut free = true;
                        let served = queue.serve(|(_, servers)| match (free, servers >> server & 1) {
                            (false, _) => Turn::Stop,
                            (true, 0) => Turn::Wait,
                            (true, _) => { free = false; Turn::Leave(server) }
                        });
                        let position = model.iter().position(|(_, servers)| servers >> server & 1 == 1);
                        let wanted = position.and_then(|position| model.remove(position));
                        prop_assert_eq!(served.into_iter().map(|(waiter, _)| waiter).next(), wanted);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn those_who_leave_do_so_in_order_up_to_a_stop() {
        let mut queue = Queue::default();
        for number in 0..5 {
            queue.enter(number, 5).unwrap();
        }
        let served = queue.serve(|number| match number {
            1 => Turn::Wait,
            3 => Turn::Stop,
            _ => Turn::Leave('x'),
        });
        assert_eq!(served, [(0, 'x'), (2, 'x')], "nobody behind a stop is asked");
        assert_eq!(queue.len(), 3);
    }
}
