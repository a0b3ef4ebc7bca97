//! Where requests wait for a server below its connection limit: the tasks around `queue`.
//!
//! Whoever stops waiting, by a drop too, leaves the queue; a slot that was given to it meanwhile goes to the next.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::farm::{Choice, Criteria, Farm};
use super::queue::{Queue, QueueFull, Ticket, Turn};
use crate::clock::Time;

/// The queue of a farm and of those that succeed it. Connections are opened and closed under its lock, so that none who comes
/// later gets what one who waits was about to get.
#[derive(Debug, Default)]
pub struct Gate {
    queue: Mutex<Queue<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    /// The farm that it came to, whose indices it knows.
    farm: Arc<Farm>,
    criteria: Criteria,
    answer: oneshot::Sender<Result<Slot, NoSlot>>,
}

/// The right to one connection to a server, until dropped.
#[derive(Debug)]
pub struct Slot {
    farm: Arc<Farm>,
    server: usize,
}

/// Why there is no connection for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoSlot {
    /// No server works, or each was tried.
    #[error("no server of the farm can take the request; hint: look at the servers' states and health tests")]
    NoServer,
    /// Too many wait already.
    #[error(transparent)]
    QueueFull(#[from] QueueFull),
    /// No server became free in time.
    #[error("no server was free in time; hint: raise the servers' connection limits")]
    TimedOut,
}

impl Slot {
    /// Index of the server.
    pub fn server(&self) -> usize {
        self.server
    }

    /// Counts for `server` of a farm that succeeded its own, where that is the same server.
    pub fn follow(&mut self, farm: &Arc<Farm>, server: usize) {
        if std::ptr::eq(self.farm.load(self.server), farm.load(server)) {
            (self.farm, self.server) = (Arc::clone(farm), server);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut queue = self.farm.gate().queue();
        self.farm.load(self.server).disconnect();
        let served = serve(&mut queue, 1);
        drop(queue);
        tell(served);
    }
}

impl Farm {
    /// A connection to the server for a request; waits for it if every server that could take the request is at its limit.
    /// Cancel safe.
    pub async fn slot(self: &Arc<Self>, criteria: &Criteria) -> Result<Slot, NoSlot> {
        let settings = self.settings().queue;
        let (_place, answer) = {
            let mut queue = self.gate().queue();
            match take(self, criteria, Time::now()) {
                Turn::Leave(outcome) => return outcome,
                Turn::Wait | Turn::Stop => {}
            }
            let (sender, answer) = oneshot::channel();
            let waiter = Waiter { farm: Arc::clone(self), criteria: *criteria, answer: sender };
            let ticket = queue.enter(waiter, settings.length)?;
            (Place { gate: self.gate(), ticket }, answer)
        };
        match timeout(settings.timeout, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(NoSlot::TimedOut),
        }
    }

    /// Serves those who wait, after a server's health or state has changed.
    pub fn recheck(&self) {
        let served = serve(&mut self.gate().queue(), usize::MAX);
        tell(served);
    }

    /// How many requests wait, at this farm and at those that it succeeded.
    pub fn waiting(&self) -> usize {
        self.gate().queue().len()
    }
}

impl Gate {
    fn queue(&self) -> MutexGuard<'_, Queue<Waiter>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody's place in the queue, given up when dropped.
struct Place<'a> {
    gate: &'a Gate,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = self.gate.queue().leave(self.ticket);
        // Not before the lock is released: it may be the last to know its farm.
        drop(left);
    }
}

type Served = Vec<(Waiter, Result<Slot, NoSlot>)>;

/// Lets out who need not wait any more, at most `most` of them with a slot.
fn serve(queue: &mut Queue<Waiter>, mut most: usize) -> Served {
    if queue.is_empty() {
        return Vec::new();
    }
    let now = Time::now();
    queue.serve(|waiter| {
        if most == 0 {
            return Turn::Stop;
        }
        let turn = take(&waiter.farm, &waiter.criteria, now);
        if matches!(turn, Turn::Leave(Ok(_))) {
            most -= 1;
        }
        turn
    })
}

/// Without the queue's lock: an answer that nobody waits for any more gives its slot back, which takes the lock.
fn tell(served: Served) {
    for (waiter, outcome) in served {
        drop(waiter.answer.send(outcome));
    }
}

/// Opens a connection, if one may be opened now. For holders of the queue's lock.
fn take(farm: &Arc<Farm>, criteria: &Criteria, now: Time) -> Turn<Result<Slot, NoSlot>> {
    match farm.choose(criteria, now) {
        Choice::Server(server) => {
            farm.load(server).connect();
            Turn::Leave(Ok(Slot { farm: Arc::clone(farm), server }))
        }
        Choice::NoServer => Turn::Leave(Err(NoSlot::NoServer)),
        Choice::Full => Turn::Wait,
    }
}
