//! Calls that have no answer yet, and whose turn it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::error::{CallError, Fault};
use super::{Greeted, Trouble};
use crate::peer::MOST_OF_NODE;
use crate::peer::channel::{Target, Why};
use crate::shared::keys::VerifyingKey;

/// See the module.
#[derive(Debug)]
pub(super) struct Pending {
    ours: VerifyingKey,
    calls: Mutex<Open>,
    /// By the node's name; greetings share the one without.
    places: Mutex<BTreeMap<Option<String>, Arc<Semaphore>>>,
}

#[derive(Debug, Default)]
struct Open {
    calls: BTreeMap<u64, Call>,
    last: u64,
    stopped: bool,
}

#[derive(Debug)]
struct Call {
    about: About,
    answer: oneshot::Sender<Result<Greeted, CallError>>,
}

/// What an error says of a call.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// Whom.
    pub(super) whom: String,
    /// The key that it has to have.
    pub(super) key: VerifyingKey,
    /// How long is waited.
    pub(super) within: Duration,
}

impl About {
    pub(super) fn error(&self, ours: VerifyingKey, why: Why) -> CallError {
        let Self { whom, key: wanted, within } = self.clone();
        match why {
            Why::Unreachable(trouble) => CallError::Unreachable { whom, trouble },
            Why::OtherKey(presented) => CallError::OtherKey { whom, presented, wanted },
            Why::Unlisted => CallError::Unlisted { whom, ours },
            Why::Refused => CallError::Refused { whom },
            Why::Busy => CallError::Busy { whom },
            Why::TimedOut => CallError::TimedOut { whom, within },
            Why::NoSuchNode => CallError::Unreachable { whom, trouble: Trouble::Removed },
        }
    }
}

/// A call that was made. Dropped, nobody waits for its answer.
pub(super) struct Ticket<'a> {
    pub(super) number: u64,
    pub(super) answer: oneshot::Receiver<Result<Greeted, CallError>>,
    of: &'a Pending,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.of.open().calls.remove(&self.number);
    }
}

impl Pending {
    pub(super) fn new(ours: VerifyingKey) -> Self {
        Self { ours, calls: Mutex::default(), places: Mutex::default() }
    }

    /// This node's key.
    pub(super) fn ours(&self) -> VerifyingKey {
        self.ours
    }

    /// Waits until there may be another call to this one.
    pub(super) async fn place(&self, target: &Target) -> Option<OwnedSemaphorePermit> {
        let name = match target {
            Target::Node(name) => Some(name.clone()),
            Target::Stranger { .. } => None,
        };
        let places = {
            let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            // Nodes that were removed leave nothing behind.
            all.retain(|_, places| Arc::strong_count(places) > 1);
            let new = || Arc::new(Semaphore::new(MOST_OF_NODE));
            Arc::clone(all.entry(name).or_insert_with(new))
        };
        places.acquire_owned().await.ok()
    }

    /// A number for a call, and where its answer comes.
    pub(super) fn ticket(&self, about: About) -> Ticket<'_> {
        let (send, answer) = oneshot::channel();
        let mut open = self.open();
        open.last += 1;
        let number = open.last;
        if open.stopped {
            // Nobody waits for it yet.
            drop(send.send(Err(CallError::Stopped)));
        } else {
            open.calls.insert(number, Call { about, answer: send });
        }
        Ticket { number, answer, of: self }
    }

    /// Whether somebody waits for the answer.
    pub(super) fn is_open(&self, number: u64) -> bool {
        self.open().calls.contains_key(&number)
    }

    /// The child says what became of a call; nobody may wait for it any more.
    pub(super) fn settle(&self, number: u64, result: Result<Greeted, Why>) -> Result<(), Fault> {
        let mut open = self.open();
        if number == 0 || number > open.last {
            return Err(Fault::Unasked);
        }
        if let Some(Call { about, answer }) = open.calls.remove(&number) {
            drop(answer.send(result.map_err(|why| about.error(self.ours, why))));
        }
        Ok(())
    }

    /// The child that had them is gone.
    pub(super) fn fail_all(&self) {
        for Call { about, answer } in std::mem::take(&mut self.open().calls).into_values() {
            let why = Why::Unreachable(Trouble::Restarted);
            drop(answer.send(Err(about.error(self.ours, why))));
        }
    }

    /// There will be no child any more.
    pub(super) fn stop(&self) {
        let mut open = self.open();
        open.stopped = true;
        for Call { answer, .. } in std::mem::take(&mut open.calls).into_values() {
            drop(answer.send(Err(CallError::Stopped)));
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
