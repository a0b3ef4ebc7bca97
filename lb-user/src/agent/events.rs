//! The latest events, for `rollcall status`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How many events are kept; older ones are in the log.
const KEPT: usize = 50;

/// The latest events, oldest first.
#[derive(Debug, Default)]
pub(super) struct EventLog(Mutex<VecDeque<String>>);

impl EventLog {
    /// Adds a sentence.
    pub(super) fn push(&self, sentence: String) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == KEPT {
            events.pop_front();
        }
        events.push_back(sentence);
    }

    /// What is kept.
    pub(super) fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
