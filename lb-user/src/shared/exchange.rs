//! What a node takes from a store that is no node, and what it puts there, so that both have the same. Pure.
//!
//! Of contents a store has those of the newest generations, as nodes have them: which these are follows from the generations that a node
//! knows, so nodes that know the same want the same there. Who knows less learns first, and puts then.

use std::collections::{BTreeMap, BTreeSet};

use super::generation::{GenerationId, SignedHeader};
use super::history::{History, Refused};
use super::record::RecordId;

/// What is in a store, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Generations whose header is there, and whether their content is, whole.
    pub generations: BTreeMap<GenerationId, bool>,
    /// Records, by what they are about.
    pub records: BTreeSet<(GenerationId, RecordId)>,
}

/// What is there and of no use here, so that it is not fetched again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    generations: BTreeSet<GenerationId>,
    records: BTreeSet<(GenerationId, RecordId)>,
}

impl Ignored {
    /// What is under this name is none.
    pub fn generation(&mut self, id: GenerationId) {
        // Who can fill a store with rubbish is not to fill the memory.
        if self.generations.len() >= MOST_IGNORED {
            self.generations.clear();
        }
        self.generations.insert(id);
    }

    /// Likewise.
    pub fn record(&mut self, about: GenerationId, id: RecordId) {
        if self.records.len() >= MOST_IGNORED {
            self.records.clear();
        }
        self.records.insert((about, id));
    }
}

/// The headers to fetch: those that are not here.
pub fn heads(history: &History, there: &Listing, ignored: &Ignored) -> Vec<GenerationId> {
    let unknown = |id: &&GenerationId| history.head(**id).is_none() && !ignored.generations.contains(id);
    there.generations.keys().filter(unknown).copied().collect()
}

/// The contents to fetch, of generations whose header is here: those of the newest `kept` that are there and not here.
pub fn contents(history: &History, there: &Listing, ignored: &Ignored, kept: usize) -> Vec<GenerationId> {
    let newest = history.newest(kept);
    let missing = |id: &&GenerationId| {
        !history.has_content(**id)
            && !ignored.generations.contains(id)
            && there.generations.get(id) == Some(&true)
    };
    newest.iter().filter(missing).copied().collect()
}

/// The records to fetch: those on generations that are here.
pub fn records(history: &History, there: &Listing, ignored: &Ignored) -> Vec<(GenerationId, RecordId)> {
    let mine: BTreeSet<(GenerationId, RecordId)> = history.records().map(|(name, _)| name).collect();
    let unknown = there.records.difference(&mine).filter(|name| !ignored.records.contains(name));
    unknown.filter(|(about, _)| history.head(*about).is_some()).copied().collect()
}

/// What becomes of a header that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken in.
    Fits,
    /// What it follows may come yet.
    Later,
    /// It is from before what is kept here.
    Old,
    /// It is not believed.
    Refused(Refused),
}

/// See [`Verdict`].
pub fn judge(history: &History, head: &SignedHeader) -> Verdict {
    match history.fits(head) {
        Ok(()) => Verdict::Fits,
        Err(Refused::Orphan) if history.is_past(head) => Verdict::Old,
        Err(Refused::Orphan) => Verdict::Later,
        Err(refused) => Verdict::Refused(refused),
    }
}

/// What is to be put into a store, and what has no place there any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Generations in the order in which they follow each other, and whether with their content.
    pub generations: Vec<(GenerationId, bool)>,
    /// Records.
    pub records: Vec<(GenerationId, RecordId)>,
    /// Generations whose content is old.
    pub old: Vec<GenerationId>,
}

/// What a store lacks of what is here, where contents of the newest `kept` are kept.
pub fn lacking(history: &History, there: &Listing, kept: usize) -> Lacking {
    let newest = history.newest(kept);
    let mut all: Vec<&SignedHeader> = history.log().into_iter().map(|(head, _)| head).collect();
    all.sort_by_key(|head| (head.header().height, head.id()));
    let mut lacking = Lacking::default();
    for id in all.into_iter().map(SignedHeader::id) {
        let wants = newest.contains(&id) && history.has_content(id);
        match there.generations.get(&id) {
            None => lacking.generations.push((id, wants)),
            Some(false) if wants => lacking.generations.push((id, true)),
            Some(true) if !newest.contains(&id) => lacking.old.push(id),
            Some(_) => {}
        }
    }
    let records = history.records().map(|(name, _)| name);
    lacking.records = records.filter(|name| !there.records.contains(name)).collect();
    lacking
}

/// Most names that are remembered as of no use.
const MOST_IGNORED: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shared::generation::Generation;
    use crate::shared::generation::tests::generation;
    use crate::shared::record::Word;
    use crate::shared::record::tests::record;

    /// So many generations in a line, each in force.
    fn line(length: usize) -> (Vec<Generation>, History) {
        let first = generation(None, 1, &[1, 2], "0");
        let mut history = History::new(first.head.clone(), Some(first.content.clone()));
        history.admit_record(record(first.id(), Word::InForce, 1)).unwrap();
        let mut all = vec![first];
        for number in 1..length {
            let next = generation(all.last().map(|last| &last.head), 1, &[1, 2], &number.to_string());
            history.admit(next.head.clone(), Some(next.content.clone())).unwrap();
            history.admit_record(record(next.id(), Word::InForce, 1)).unwrap();
            all.push(next);
        }
        (all, history)
    }

    /// What a store has once it was given all that it lacked.
    fn filled(history: &History, mut there: Listing, kept: usize) -> Listing {
        let Lacking { generations, records, old } = lacking(history, &there, kept);
        there.generations.extend(generations);
        there.generations.extend(old.into_iter().map(|id| (id, false)));
        there.records.extend(records);
        there
    }

    #[test]
    fn a_store_that_has_all_lacks_nothing_and_has_nothing_new() {
        let (_, history) = line(5);
        let there = filled(&history, Listing::default(), 3);
        assert_eq!(there.generations.values().filter(|whole| **whole).count(), 3);
        assert_eq!(there.records.len(), 5);
        assert_eq!(lacking(&history, &there, 3), Lacking::default());
        let none = Ignored::default();
        assert_eq!(heads(&history, &there, &none), []);
        assert_eq!(contents(&history, &there, &none, 3), []);
        assert_eq!(records(&history, &there, &none), []);
    }

    #[test]
    fn generations_are_put_in_the_order_in_which_they_follow_each_other() {
        let (all, history) = line(6);
        let wanted: Vec<_> = all.iter().map(|generation| (generation.id(), true)).collect();
        assert_eq!(lacking(&history, &Listing::default(), 64).generations, wanted);
    }

    #[test]
    fn what_is_missing_here_is_fetched_unless_it_was_found_to_be_of_no_use() {
        let (all, history) = line(4);
        let there = filled(&history, Listing::default(), 64);
        let behind = History::new(all[0].head.clone(), None);
        let mut ignored = Ignored::default();
        let mut wanted: Vec<_> = all[1..].iter().map(Generation::id).collect();
        wanted.sort_unstable();
        assert_eq!(heads(&behind, &there, &ignored), wanted);
        assert_eq!(contents(&behind, &there, &ignored, 64), [all[0].id()]);
        // Records on what is not here would be orphans.
        let on_first = record(all[0].id(), Word::InForce, 1);
        assert_eq!(records(&behind, &there, &ignored), [(all[0].id(), on_first.id())]);
        ignored.generation(wanted[0]);
        ignored.generation(all[0].id());
        ignored.record(all[0].id(), on_first.id());
        assert_eq!(heads(&behind, &there, &ignored), wanted[1..]);
        assert_eq!(contents(&behind, &there, &ignored, 64), []);
        assert_eq!(records(&behind, &there, &ignored), []);
    }

    #[test]
    fn a_header_is_taken_in_told_to_wait_or_not_believed() {
        let (all, mut history) = line(4);
        let [first, second, third, _] = &all[..] else { panic!() };
        let behind = History::new(first.head.clone(), None);
        assert_eq!(judge(&behind, &second.head), Verdict::Fits);
        assert_eq!(judge(&behind, &third.head), Verdict::Later);
        let stranger = generation(Some(&first.head), 9, &[9], "x");
        assert!(matches!(judge(&behind, &stranger.head), Verdict::Refused(Refused::Untrusted(_))));
        history.prune(64, 2);
        assert_eq!(judge(&history, &second.head), Verdict::Old);
    }

    proptest! {
        #[test]
        fn nodes_that_know_the_same_want_the_same_in_a_store(length in 1..8_usize, kept in 1..8_usize, behind in 0..8_usize) {
            let (all, history) = line(length);
            // One that knows the oldest alone has put those there.
            let (_, other) = line(behind.min(length - 1) + 1);
            let there = filled(&other, Listing::default(), kept);
            let there = filled(&history, there, kept);
            prop_assert_eq!(&there, &filled(&history, Listing::default(), kept));
            // Once the other has learnt, it changes nothing any more.
            let mut other = other;
            for next in &all {
                other.admit(next.head.clone(), None).unwrap();
                other.admit_record(record(next.id(), Word::InForce, 1)).unwrap();
            }
            prop_assert_eq!(filled(&other, there.clone(), kept), there);
        }
    }
}
