//! The events that are kept in memory, their numbers, and the folding of those that repeat. Pure: the time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::Value;

use crate::clock::Time;
use crate::control::api::EventRecord;
use crate::wall::WallTime;

/// How many records are kept; older ones are in the file.
pub(super) const KEPT: usize = 1000;

/// For how long an equal event is folded into the one before.
const FOLDED: Duration = Duration::from_secs(60);

/// How many different events are watched for repeats; further ones are not folded.
const WATCHED: usize = 256;

/// The longest sentence, characters; what is longer is cut.
const SENTENCE: usize = 1000;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) struct Note {
    pub(in crate::agent) kind: &'static str,
    pub(in crate::agent) warning: bool,
    /// The other node that it is about.
    pub(in crate::agent) about: Option<String>,
    pub(in crate::agent) text: String,
    pub(in crate::agent) details: BTreeMap<String, Value>,
}

impl Note {
    /// About this node, without details.
    pub(in crate::agent) fn new(kind: &'static str, warning: bool, text: impl Into<String>) -> Self {
        Self { kind, warning, about: None, text: text.into(), details: BTreeMap::new() }
    }
}

/// When it happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) wall: WallTime,
    pub(super) monotonic: Time,
}

impl Moment {
    /// Reads both clocks. For shells only.
    pub(super) fn now() -> Self {
        Self { wall: WallTime::now(), monotonic: Time::now() }
    }
}

/// The latest records, oldest first.
#[derive(Debug)]
pub(super) struct Memory {
    node: String,
    records: VecDeque<EventRecord>,
    next: u64,
    /// The first number of this run of the agent.
    first: u64,
    seen: BTreeMap<Key, Seen>,
}

/// What makes two events equal.
type Key = (&'static str, Option<String>, String);

/// An event that was recorded.
#[derive(Debug)]
struct Seen {
    recorded: Time,
    /// Equal ones that came since, which have no record yet.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    latest: Note,
    at: Moment,
    count: u32,
}

impl Memory {
    /// With what earlier runs of this node's agent left. Numbers go on.
    pub(super) fn new(node: String, left: Vec<EventRecord>) -> Self {
        let next = left.iter().map(|record| record.seq).max().unwrap_or(0).saturating_add(1);
        let skipped = left.len().saturating_sub(KEPT);
        let records = left.into_iter().skip(skipped).collect();
        Self { node, records, next, first: next, seen: BTreeMap::new() }
    }

    /// Notes what happened. Gives the records to hand on: none if it is folded.
    pub(super) fn note(&mut self, note: Note, at: Moment) -> Vec<EventRecord> {
        let mut records = self.settle(at);
        let key = (note.kind, note.about.clone(), note.text.clone());
        if let Some(seen) = self.seen.get_mut(&key) {
            let count = seen.held.as_ref().map_or(0, |held| held.count).saturating_add(1);
            seen.held = Some(Held { latest: note, at, count });
            return records;
        }
        if self.seen.len() < WATCHED {
            self.seen.insert(key, Seen { recorded: at.monotonic, held: None });
        }
        records.push(self.record(note, at, 1));
        records
    }

    /// Gives records of the events that were folded for long enough.
    pub(super) fn settle(&mut self, at: Moment) -> Vec<EventRecord> {
        let over = |seen: &Seen| at.monotonic.since(seen.recorded) >= FOLDED;
        let due = self.seen.values().any(|seen| seen.held.is_some() && over(seen));
        self.seen.retain(|_, seen| seen.held.is_some() || !over(seen));
        // All of them at once, or the last record on a node that came and went could be that it went.
        if due { self.unfold(at.monotonic) } else { Vec::new() }
    }

    /// Gives records of all events that were folded, in the order in which each was last there.
    pub(super) fn unfold(&mut self, now: Time) -> Vec<EventRecord> {
        let mut held: Vec<Held> = Vec::new();
        for seen in self.seen.values_mut() {
            if let Some(repeated) = seen.held.take() {
                seen.recorded = now;
                held.push(repeated);
            }
        }
        held.sort_by_key(|held| held.at.monotonic);
        held.into_iter().map(|Held { latest, at, count }| self.record(latest, at, count)).collect()
    }

    fn record(&mut self, note: Note, at: Moment, count: u32) -> EventRecord {
        let record = EventRecord {
            seq: self.next,
            time: at.wall,
            monotonic_ms: at.monotonic.as_nanos() / 1_000_000,
            node: self.node.clone(),
            kind: note.kind.to_owned(),
            warning: note.warning,
            about: note.about,
            text: note.text.chars().take(SENTENCE).collect(),
            count,
            missed: 0,
            details: note.details,
        };
        self.next = self.next.saturating_add(1);
        if self.records.len() == KEPT {
            self.records.pop_front();
        }
        self.records.push_back(record.clone());
        record
    }

    /// The number of the latest record; 0 if there was never one.
    pub(super) fn latest(&self) -> u64 {
        self.next - 1
    }

    /// The records with higher numbers than `seq`.
    pub(super) fn after(&self, seq: u64) -> Vec<EventRecord> {
        self.records.iter().filter(|record| record.seq > seq).cloned().collect()
    }

    /// The latest sentences of this run of the agent, at most so many, oldest first.
    pub(super) fn sentences(&self, most: usize) -> Vec<String> {
        let ours = self.records.iter().filter(|record| record.seq >= self.first);
        let mut latest: Vec<String> = ours.rev().take(most).map(EventRecord::sentence).collect();
        latest.reverse();
        latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment { wall: WallTime::from_unix_ms(1_000_000 + ms), monotonic: Time::from_nanos(ms * 1_000_000) }
    }

    fn heard(node: &str) -> Note {
        Note { about: Some(node.to_owned()), ..Note::new("joined", false, format!("{node} is heard")) }
    }

    fn lost(node: &str) -> Note {
        Note { about: Some(node.to_owned()), ..Note::new("suspect", true, format!("{node} is silent")) }
    }

    fn told(records: &[EventRecord]) -> Vec<(u64, &str, u32, u64)> {
        let told = |record: &EventRecord| record.monotonic_ms;
        records.iter().map(|record| (record.seq, &*record.text, record.count, told(record))).collect()
    }

    #[test]
    fn what_repeats_within_a_minute_is_one_record_with_a_count() {
        let mut memory = Memory::new("arr1".into(), Vec::new());
        assert_eq!(told(&memory.note(heard("arr2"), at(0))), [(1, "arr2 is heard", 1, 0)]);
        for ms in [10, 20, 59_000] {
            assert!(memory.note(heard("arr2"), at(ms)).is_empty());
        }
        assert_eq!(told(&memory.note(heard("arr3"), at(59_500))), [(2, "arr3 is heard", 1, 59_500)]);
        assert!(memory.settle(at(59_999)).is_empty());
        assert_eq!(told(&memory.settle(at(60_000))), [(3, "arr2 is heard", 3, 59_000)]);
        // And again: one a minute, however many come.
        assert!(memory.note(heard("arr2"), at(60_001)).is_empty());
        assert_eq!(told(&memory.settle(at(120_000))), [(4, "arr2 is heard", 1, 60_001)]);
        assert!(memory.settle(at(400_000)).is_empty());
        assert_eq!(told(&memory.note(heard("arr2"), at(400_001))), [(5, "arr2 is heard", 1, 400_001)]);
    }

    #[test]
    fn of_folded_events_the_last_record_is_what_happened_last() {
        let mut memory = Memory::new("arr1".into(), Vec::new());
        memory.note(heard("arr2"), at(0));
        memory.note(lost("arr2"), at(1000));
        memory.note(lost("arr2"), at(2000));
        memory.note(heard("arr2"), at(3000));
        let folded = memory.settle(at(60_000));
        assert_eq!(told(&folded), [(3, "arr2 is silent", 1, 2000), (4, "arr2 is heard", 1, 3000)]);
    }

    #[test]
    fn nothing_of_another_kind_node_or_sentence_is_folded() {
        let mut memory = Memory::new("arr1".into(), Vec::new());
        let other = [
            heard("arr2"),
            heard("arr3"),
            Note { about: None, ..heard("arr2") },
            Note { kind: "left", ..heard("arr2") },
            Note { text: "else".into(), ..heard("arr2") },
        ];
        for note in other {
            assert_eq!(memory.note(note, at(0)).len(), 1);
        }
    }

    #[test]
    fn what_is_watched_and_kept_is_bounded() {
        let mut memory = Memory::new("arr1".into(), Vec::new());
        for number in 0..2000 {
            let text = format!("{number} {}", "ä".repeat(5000));
            assert_eq!(memory.note(Note::new("late", true, text), at(number)).len(), 1);
        }
        assert_eq!(memory.seen.len(), WATCHED);
        let kept = memory.after(0);
        assert_eq!((kept.len(), kept[0].seq, memory.latest()), (KEPT, 1001, 2000));
        assert!(kept.iter().all(|record| record.text.chars().count() == SENTENCE));
        assert_eq!(memory.after(1999).len(), 1);
    }

    #[test]
    fn numbers_go_on_and_sentences_begin_with_this_run() {
        let mut earlier = Memory::new("arr1".into(), Vec::new());
        earlier.note(heard("arr2"), at(0));
        earlier.note(heard("arr3"), at(0));
        let mut memory = Memory::new("arr1".into(), earlier.after(0));
        assert_eq!(memory.latest(), 2);
        assert_eq!(memory.note(heard("arr4"), at(0))[0].seq, 3);
        assert_eq!(memory.sentences(10), ["arr4 is heard"]);
        assert_eq!(memory.after(0).len(), 3);
    }
}
