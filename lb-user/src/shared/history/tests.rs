//! What generations and records come to, by hand and in any order.

use proptest::prelude::*;

use super::*;
use crate::shared::generation::decode;
use crate::shared::generation::tests::generation;
use crate::shared::record::tests::record;

fn history(first: &Generation) -> History {
    let mut history = History::new(first.head.clone(), Some(first.content.clone()));
    history.admit_record(record(first.id(), Word::InForce, 1)).unwrap();
    history
}

fn admit(history: &mut History, generation: &Generation) -> Result<bool, Refused> {
    history.admit(generation.head.clone(), Some(generation.content.clone()))
}

fn in_force(history: &mut History, generation: &Generation, by: u8) {
    admit(history, generation).unwrap();
    history.admit_record(record(generation.id(), Word::InForce, by)).unwrap();
}

fn current(history: &History) -> Option<GenerationId> {
    history.current().map(SignedHeader::id)
}

const ALL: &[u8] = &[1, 2, 3];

#[test]
fn a_generation_is_in_force_once_somebody_said_so_and_never_after_it_failed() {
    let first = generation(None, 1, ALL, "a");
    let mut history = history(&first);
    let second = generation(Some(&first.head), 2, ALL, "b");
    assert_eq!(admit(&mut history, &second), Ok(true));
    assert_eq!(admit(&mut history, &second), Ok(false), "it is no news");
    assert_eq!(
        (current(&history), history.standing(second.id())),
        (Some(first.id()), Some(Standing::Stored))
    );
    assert_eq!(history.admit_record(record(second.id(), Word::InForce, 2)), Ok(true));
    assert_eq!(
        (current(&history), history.standing(first.id())),
        (Some(second.id()), Some(Standing::Superseded))
    );
    assert_eq!(history.admit_record(record(second.id(), Word::Failed, 3)), Ok(true));
    assert_eq!(
        (current(&history), history.standing(second.id())),
        (Some(first.id()), Some(Standing::Failed))
    );
    assert_eq!(history.admit_record(record(second.id(), Word::InForce, 1)), Ok(true));
    assert_eq!(current(&history), Some(first.id()), "failed is failed");
    let words: Vec<_> =
        history.log().into_iter().map(|(head, standing)| (head.id(), standing.word())).collect();
    assert_eq!(words, [(second.id(), "failed"), (first.id(), "current")]);
}

#[test]
fn a_content_that_comes_later_brings_no_other_signature_along() {
    let first = generation(None, 1, ALL, "a");
    let mut history = history(&first);
    let second = generation(Some(&first.head), 2, ALL, "b");
    history.admit(second.head.clone(), None).unwrap();
    let signature =
        |head: &SignedHeader| String::from_utf8(head.encode()).unwrap().lines().nth(1).unwrap().to_owned();
    let text = String::from_utf8(second.head.encode()).unwrap();
    let text = text.replace(&signature(&second.head), &signature(&first.head));
    let (forged, None) = decode(text.as_bytes()).unwrap() else { panic!() };
    assert_eq!(forged.id(), second.id());
    assert_ne!(forged, second.head);
    let news = history.weigh(forged, Some(second.content.clone())).unwrap().unwrap();
    assert_eq!(news.head(), &second.head, "which is what the disk gets");
    history.insert(news);
    assert_eq!(history.generation(second.id()), Some(second));
}

#[test]
fn what_cannot_be_checked_is_not_taken_in() {
    let first = generation(None, 1, ALL, "a");
    let mut history = history(&first);
    let second = generation(Some(&first.head), 2, ALL, "b");
    let third = generation(Some(&second.head), 2, ALL, "c");
    assert_eq!(admit(&mut history, &third), Err(Refused::Orphan));
    let orphan = history.admit_record(record(second.id(), Word::InForce, 2));
    assert_eq!(orphan, Err(Refused::Orphan));
    let stranger = generation(Some(&first.head), 4, &[1, 4], "b");
    assert!(matches!(admit(&mut history, &stranger), Err(Refused::Untrusted(_))));
    admit(&mut history, &second).unwrap();
    let record = history.admit_record(record(second.id(), Word::Failed, 4));
    assert!(matches!(record, Err(Refused::Unbelieved(_))));
    let another_first = generation(None, 1, ALL, "z");
    assert_eq!(admit(&mut history, &another_first), Err(Refused::Orphan), "of another cluster");
}

#[test]
fn of_siblings_the_higher_wins_then_the_smaller_name() {
    let first = generation(None, 1, ALL, "a");
    let siblings = ["b", "c"].map(|text| generation(Some(&first.head), 2, ALL, text));
    let smaller = siblings.iter().map(Generation::id).min();
    let mut history = history(&first);
    siblings.iter().for_each(|sibling| in_force(&mut history, sibling, 2));
    assert_eq!(current(&history), smaller);
    let loser = siblings.iter().find(|sibling| Some(sibling.id()) != smaller).unwrap();
    let higher = generation(Some(&loser.head), 3, ALL, "d");
    in_force(&mut history, &higher, 3);
    assert_eq!(current(&history), Some(higher.id()));
}

#[test]
fn what_a_removed_node_made_behind_the_remover_s_back_is_void_and_all_that_follows_it() {
    let first = generation(None, 1, ALL, "a");
    let removal = generation(Some(&first.head), 1, &[1, 2], "without arr3");
    let mut line = vec![generation(Some(&first.head), 3, ALL, "behind")];
    for author in [3, 2] {
        line.push(generation(line.last().map(|last| &last.head), author, ALL, "its back"));
    }
    // In the other half of a split, the line is longer.
    let mut other = history(&first);
    line.iter().for_each(|generation| in_force(&mut other, generation, 3));
    assert_eq!(current(&other), line.last().map(Generation::id));
    in_force(&mut other, &removal, 1);
    assert_eq!(current(&other), Some(removal.id()));
    assert_eq!(line.iter().map(|of| other.standing(of.id())).collect::<Vec<_>>(), [Some(Standing::Void); 3]);
    // And where it was removed, nothing more of it is taken in.
    let mut remover = history(&first);
    in_force(&mut remover, &removal, 1);
    assert_eq!(admit(&mut remover, &line[0]), Err(Refused::Removed("arr3".to_owned())));
    assert_eq!(current(&remover), Some(removal.id()));
}

#[test]
fn what_is_old_is_let_go_of_and_the_line_goes_on() {
    let first = generation(None, 1, ALL, "a");
    let mut history = history(&first);
    let mut line = vec![first];
    for number in 0..9 {
        let next = generation(line.last().map(|last| &last.head), 1, ALL, &number.to_string());
        in_force(&mut history, &next, 1);
        line.push(next);
    }
    let stray = generation(Some(&line[1].head), 2, ALL, "stray");
    admit(&mut history, &stray).unwrap();
    let pruned = history.prune(3, 6);
    assert_eq!(
        (pruned.contents.len(), pruned.generations.len(), pruned.records.len()),
        (8, 5, 4),
        "{pruned:?}"
    );
    assert_eq!(history.root(), line[4].id());
    let kept: Vec<_> =
        line.iter().map(|of| (history.head(of.id()).is_some(), history.has_content(of.id()))).collect();
    let wanted: Vec<_> = (0..10).map(|at| (at >= 4, at >= 7)).collect();
    assert_eq!(kept, wanted);
    assert_eq!(history.head(stray.id()), None);
    let next = generation(line.last().map(|last| &last.head), 3, ALL, "next");
    in_force(&mut history, &next, 3);
    assert_eq!(current(&history), Some(next.id()));
    assert_eq!(history.prune(3, 6).generations, [line[4].id()]);
}

/// A tree of generations with records, as honest nodes make them: a node is removed at most once.
fn world() -> impl Strategy<Value = (Generation, Vec<Piece>)> {
    let step = (any::<prop::sample::Index>(), 1_u8..=3, 0_u8..=9);
    proptest::collection::vec(step, 1..12).prop_map(|steps| {
        let first = generation(None, 1, ALL, "first");
        let mut all = vec![(first.clone(), ALL)];
        let (mut pieces, mut removed) = (Vec::new(), false);
        for (number, (parent, author, what)) in steps.into_iter().enumerate() {
            let (parent, nodes) = parent.get(&all).clone();
            let author = if nodes.contains(&author) { author } else { 1 };
            let removes = what == 0 && !removed;
            removed |= removes;
            let nodes = if removes { &ALL[..2] } else { nodes };
            let next = generation(Some(&parent.head), author, nodes, &number.to_string());
            pieces.push(Piece::Generation(Box::new(next.clone())));
            if what < 8 {
                pieces.push(Piece::Record(record(next.id(), Word::InForce, author)));
            }
            if what == 7 {
                pieces.push(Piece::Record(record(next.id(), Word::Failed, author)));
            }
            all.push((next, nodes));
        }
        (first, pieces)
    })
}

#[derive(Clone, Debug)]
enum Piece {
    Generation(Box<Generation>),
    Record(SignedRecord),
}

/// Takes everything in, in this order; what has no place yet is tried again, as nodes ask each other again.
fn merge(first: &Generation, pieces: &[Piece]) -> History {
    let mut history = history(first);
    for _ in 0..=pieces.len() {
        for piece in pieces {
            let taken = match piece {
                Piece::Generation(generation) => admit(&mut history, generation),
                Piece::Record(record) => history.admit_record(record.clone()),
            };
            assert!(
                !matches!(taken, Err(Refused::Untrusted(_) | Refused::Unbelieved(_) | Refused::TooMany)),
                "{taken:?}"
            );
        }
    }
    history
}

proptest! {
    #[test]
    fn any_order_gives_the_same_result((first, pieces) in world(), order in any::<prop::sample::Selector>(), cut in 0_usize..24) {
        let forward = merge(&first, &pieces);
        let mut shuffled = pieces.clone();
        shuffled.sort_by_cached_key(|piece| order.clone().select([format!("{piece:?}").len() % 7, pieces.len()]));
        let backward: Vec<Piece> = pieces.iter().rev().cloned().collect();
        // Two halves that lived apart and met.
        let cut = cut.min(pieces.len());
        let swapped: Vec<Piece> = pieces[cut..].iter().chain(&pieces[..cut]).cloned().collect();
        for other in [shuffled, backward, swapped] {
            let merged = merge(&first, &other);
            prop_assert_eq!(current(&merged), current(&forward));
            for (head, standing) in merged.log() {
                if let Some(known) = forward.standing(head.id()) {
                    prop_assert_eq!(standing, known, "{:?}", head.id());
                }
            }
        }
    }

    #[test]
    fn one_that_is_in_force_has_not_failed_and_is_the_highest((first, pieces) in world()) {
        let history = merge(&first, &pieces);
        let standings = history.log();
        let current = history.current().unwrap();
        for (head, standing) in standings {
            if standing == Standing::Superseded {
                prop_assert!(head.header().height <= current.header().height);
            }
            prop_assert_eq!(standing == Standing::Current, head.id() == current.id());
        }
    }
}
