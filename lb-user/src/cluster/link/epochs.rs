//! By which cluster secrets datagrams are opened: the one in force, and around a change of it those that this node could switch to and the
//! one that was before. Pure.
//!
//! ```text
//! expect(next)         switch(next)                          OVERLAP after it
//!   next is opened ----> next seals, before is still opened ------------------> before is refused
//! ```
//! Nobody seals with a secret before every node that lives can open it: that is the core's to know (`cluster/node/facts.rs`).

use std::time::Duration;

use crate::clock::Time;
use crate::cluster::wire::MAX_KNOWN;
use crate::config::secret::ClusterSecret;

/// How long the secret of before is accepted. Who has prepared the next one follows within a heartbeat; what is on its way, or waits
/// in a queue, is far sooner there.
pub(super) const OVERLAP: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Epochs {
    current: Epoch,
    /// The latest first; at most `MAX_KNOWN`.
    next: Vec<Epoch>,
    /// And until when it counts.
    before: Option<(Epoch, Time)>,
}

/// A cluster secret, named by what it seals with.
#[derive(Clone, Debug)]
pub(super) struct Epoch {
    pub(super) id: [u8; 8],
    pub(super) secret: ClusterSecret,
}

impl Epoch {
    fn of(secret: ClusterSecret) -> Self {
        Self { id: secret.key_id(), secret }
    }
}

impl Epochs {
    pub(super) fn new(secret: ClusterSecret) -> Self {
        Self { current: Epoch::of(secret), next: Vec::new(), before: None }
    }

    /// What seals.
    pub(super) fn current(&self) -> &Epoch {
        &self.current
    }

    /// All that are accepted, the likeliest first: at most five.
    pub(super) fn all(&self) -> impl Iterator<Item = &Epoch> {
        let before = self.before.iter().map(|(epoch, _)| epoch);
        std::iter::once(&self.current).chain(&self.next).chain(before)
    }

    /// Whether more than one is accepted.
    pub(super) fn overlap(&self) -> bool {
        !self.next.is_empty() || self.before.is_some()
    }

    /// Whether this is one that this node could switch to.
    pub(super) fn is_next(&self, id: [u8; 8]) -> bool {
        id != self.current.id && self.next.iter().any(|epoch| epoch.id == id)
    }

    /// This node could switch to `secret` from now on.
    pub(super) fn expect(&mut self, secret: ClusterSecret) {
        if secret.is(&self.current.secret) {
            return;
        }
        self.next.retain(|known| !known.secret.is(&secret));
        self.next.insert(0, Epoch::of(secret));
        self.next.truncate(MAX_KNOWN);
    }

    /// `secret` is in force. False: it was before. What this node could have switched to earlier is refused from now on.
    pub(super) fn switch(&mut self, secret: ClusterSecret, now: Time) -> bool {
        if secret.is(&self.current.secret) {
            return false;
        }
        let place = self.next.iter().position(|known| known.secret.is(&secret));
        self.next.truncate(place.unwrap_or(0));
        let before = std::mem::replace(&mut self.current, Epoch::of(secret));
        self.before = Some((before, now + OVERLAP));
        true
    }

    /// Whether the one of before has just ceased to count.
    pub(super) fn retire(&mut self, now: Time) -> bool {
        self.before.take_if(|(_, until)| *until <= now).is_some()
    }
}
