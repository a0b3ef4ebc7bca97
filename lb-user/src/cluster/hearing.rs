//! Whether this node hears what is sent to the cluster MAC. Each second every serving node sends a small frame there; a node
//! that hears none of them while others do is deaf, and clients' packets will not reach it either. Not how the frames are sent
//! and stamped (the data path), nor what follows (`node.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::config::model::Priority;

/// What this node's hearing is like.
///
/// ```text
///         no test arrives for 3 s, and 2 s later          tests arrive for 3 s, or nobody hears any
///         some peer still says that one arrives there     for as long
///  Fine -----------------------------------------> Deaf ------------------> Fine, Nowhere
///     \                                             ^
///      `--- as Deaf, but no peer hears any --> Nowhere --- a test arrives, for 2 s ---> Fine
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum State {
    /// Tests arrive, or there is nobody to send any.
    #[default]
    Fine,
    /// Tests arrive at others, and none here.
    Deaf,
    /// Tests arrive at nobody. That makes no node worse than another.
    Nowhere,
}

/// A living peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) node: Priority,
    /// Whether it serves, and so sends tests.
    pub(crate) serves: bool,
    /// Whose tests arrive at it.
    pub(crate) hears: u64,
}

/// This node's hearing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Hearing {
    /// When each peer's test last arrived here, and when that was read; `None`: nobody looks.
    heard: Option<(BTreeMap<Priority, Time>, Time)>,
    /// Since when this node and each of these peers have served side by side.
    beside: BTreeMap<Priority, Time>,
    state: State,
    /// What speaks for another state, and since when.
    turn: Option<(State, Time)>,
}

impl Hearing {
    /// Takes in when each peer's test last arrived here, as read now.
    pub(crate) fn handle_heard(&mut self, heard: BTreeMap<Priority, Time>, now: Time) {
        self.heard = Some((heard, now));
    }

    /// Judges; gives the new state if it changed. `serves`: whether this node does; `alive`: every living peer.
    pub(crate) fn handle_timeout(&mut self, serves: bool, alive: &[Neighbour], now: Time) -> Option<State> {
        let beside = alive.iter().filter(|peer| serves && peer.serves);
        let since = |node| self.beside.get(&node).copied().unwrap_or(now);
        self.beside = beside.map(|peer| (peer.node, since(peer.node))).collect();
        let Some(look) = self.look(alive, now).filter(|look| *look != self.state) else {
            self.turn = None;
            return None;
        };
        let (_, since) = *self.turn.insert(match self.turn {
            Some((state, since)) if state == look => (state, since),
            Some(_) | None => (look, now),
        });
        if now.since(since) < self.patience() {
            return None;
        }
        self.state = look;
        self.turn = None;
        Some(look)
    }

    /// Whether tests arrive at others and none here.
    pub(crate) fn is_deaf(&self) -> bool {
        self.state == State::Deaf
    }

    /// Whose tests arrive here, for heartbeats: bit n is priority n + 1.
    pub(crate) fn hears(&self, now: Time) -> u64 {
        let heard = self.heard.iter().flat_map(|(heard, _)| heard);
        let recent = heard.filter(|(_, at)| now.since(**at) < WINDOW);
        recent.fold(0, |bits, (node, _)| bits | 1 << (node.number() - 1))
    }

    /// How things look at this moment; `None` where nothing can be said: this node and some peer have not yet served side by
    /// side for long enough to hear each other, or the agent does not read on.
    fn look(&self, alive: &[Neighbour], now: Time) -> Option<State> {
        self.heard.as_ref().filter(|(_, read)| now.since(*read) < WINDOW)?;
        if !self.beside.values().any(|since| now.since(*since) >= WINDOW) {
            return None;
        }
        Some(if self.hears(now) != 0 {
            State::Fine
        } else if alive.iter().any(|peer| peer.hears != 0) {
            State::Deaf
        } else {
            State::Nowhere
        })
    }

    /// Where nobody hears any more from one moment on, what peers say of it is late by up to two seconds: their last test may
    /// have come a second after ours, and ours may have been read a second late. And who is deaf stays so until tests arrive steadily.
    fn patience(&self) -> Duration {
        match self.state {
            State::Fine | State::Nowhere => Duration::from_secs(2),
            State::Deaf => WINDOW,
        }
    }
}

/// A test that arrived this long ago no longer counts: two of them may be lost.
const WINDOW: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
