//! A pattern as a tree, whatever syntax it was written in, and what decides which engine can run it. Pure.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

/// A part of a pattern, with ECMAScript's meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Nothing: matches everywhere.
    Empty,
    /// One character of a set. The set is ready: folded, negated.
    Set(ClassUnicode),
    /// One after the other.
    Concat(Vec<Node>),
    /// The first that leads to a match.
    Alternation(Vec<Node>),
    /// Captures what its part matches; counted from 1.
    Group(usize, Box<Node>),
    /// Its part, again and again.
    Repeat(Repeat),
    /// Matches nothing, at some places.
    Assertion(Assertion),
    /// Matches nothing, where its part matches what follows (or, negative, does not).
    LookAhead { negative: bool, node: Box<Node> },
    /// What a group captured, once more; nothing if it captured nothing.
    BackReference { group: usize, ignore_case: bool },
}

/// `min` to `max` turns; `max` of `None` is without end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repeat {
    pub(super) node: Box<Node>,
    pub(super) min: u32,
    pub(super) max: Option<u32>,
    pub(super) greedy: bool,
}

/// Where nothing is matched. Without the flag `m`, so a line's end is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Assertion {
    /// `^`.
    Start,
    /// `$`.
    End,
    /// `\b`.
    WordBoundary,
    /// `\B`.
    NotWordBoundary,
}

impl Node {
    /// Whether a linear engine gives this the very meaning that ECMAScript does.
    ///
    /// Look-ahead and back references it cannot; and there are two corners where it would match otherwise: a turn that may match
    /// nothing (ECMAScript takes no such turn beyond the required ones: RepeatMatcher, step 2.b), and groups that a later turn may
    /// skip (each turn forgets what the one before captured: step 4).
    pub(super) fn is_linear(&self) -> bool {
        match self {
            Self::Empty | Self::Set(_) | Self::Assertion(_) => true,
            Self::Concat(nodes) | Self::Alternation(nodes) => nodes.iter().all(Self::is_linear),
            Self::Group(_, node) => node.is_linear(),
            Self::Repeat(repeat) => {
                let once = repeat.max.is_some_and(|max| max <= 1);
                repeat.node.is_linear()
                    && !repeat.node.may_be_empty()
                    && (once || !repeat.node.may_skip_a_group())
            }
            Self::LookAhead { .. } | Self::BackReference { .. } => false,
        }
    }

    /// Whether it can match without taking a character.
    fn may_be_empty(&self) -> bool {
        match self {
            Self::Empty | Self::Assertion(_) | Self::LookAhead { .. } | Self::BackReference { .. } => true,
            Self::Set(_) => false,
            Self::Concat(nodes) => nodes.iter().all(Self::may_be_empty),
            Self::Alternation(nodes) => nodes.iter().any(Self::may_be_empty),
            Self::Group(_, node) => node.may_be_empty(),
            Self::Repeat(repeat) => repeat.min == 0 || repeat.node.may_be_empty(),
        }
    }

    /// Whether it can match without coming by each of its groups.
    fn may_skip_a_group(&self) -> bool {
        match self {
            Self::Empty | Self::Set(_) | Self::Assertion(_) | Self::BackReference { .. } => false,
            Self::Concat(nodes) => nodes.iter().any(Self::may_skip_a_group),
            Self::Alternation(nodes) => nodes.iter().any(Self::has_group),
            Self::Group(_, node) => node.may_skip_a_group(),
            Self::Repeat(repeat) => {
                repeat.node.may_skip_a_group() || repeat.min == 0 && repeat.node.has_group()
            }
            Self::LookAhead { negative, node } => node.may_skip_a_group() || *negative && node.has_group(),
        }
    }

    fn has_group(&self) -> bool {
        self.groups().is_some()
    }

    /// The first and the last of its groups.
    pub(super) fn groups(&self) -> Option<(usize, usize)> {
        let widest = |nodes: &[Self]| {
            let found = nodes.iter().filter_map(Self::groups);
            found.reduce(|(first, last), (from, to)| (first.min(from), last.max(to)))
        };
        match self {
            Self::Empty | Self::Set(_) | Self::Assertion(_) | Self::BackReference { .. } => None,
            Self::Concat(nodes) | Self::Alternation(nodes) => widest(nodes),
            Self::Group(group, node) => Some((*group, node.groups().map_or(*group, |(_, last)| last))),
            Self::Repeat(Repeat { node, .. }) | Self::LookAhead { node, .. } => node.groups(),
        }
    }
}

/// The characters from `first` to `last`.
pub(super) fn range(first: char, last: char) -> ClassUnicode {
    ClassUnicode::new([ClassUnicodeRange::new(first, last)])
}

/// Every character.
pub(super) fn any() -> ClassUnicode {
    range('\0', char::MAX)
}

/// `set` and the other case of its letters. An ASCII letter and another are never the same (Canonicalize, step 3.f: U+017F is not
/// `s`); beyond ASCII this is Unicode's simple folding.
pub(super) fn folded(set: &ClassUnicode) -> ClassUnicode {
    let half = |half: ClassUnicode| {
        let mut members = set.clone();
        members.intersect(&half);
        // Simple folding is there: regex-syntax's feature `unicode-case` is on.
        members.case_fold_simple();
        members.intersect(&half);
        members
    };
    let mut both = half(range('\0', '\x7f'));
    both.union(&half(range('\u{80}', char::MAX)));
    both
}

/// Whether two characters are the same letter, as `folded` has it.
pub(super) fn same_letter(one: char, other: char) -> bool {
    if one == other {
        return true;
    }
    if one.is_ascii() || other.is_ascii() {
        return one.eq_ignore_ascii_case(&other);
    }
    folded(&range(one, one)).ranges().iter().any(|range| (range.start()..=range.end()).contains(&other))
}
