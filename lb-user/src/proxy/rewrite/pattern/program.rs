//! A pattern as a program for the backtracking engine. Pure.

use regex_syntax::hir::ClassUnicode;

use super::node::{Assertion, Node, Repeat};

/// One step. Jumps name places in the program.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Take one character of the set.
    Set(Set),
    /// Take `min` to `max` characters of the set: a repeat of a set, without a choice to keep for each turn.
    Run { set: Set, min: usize, max: usize, greedy: bool },
    /// Go on at the first place, and if that fails at the second.
    Split(usize, usize),
    /// Go on there.
    Jump(usize),
    /// Keep the position in a slot.
    Save(usize),
    /// Fail unless the position has moved on since it was kept in the slot: a turn has to take something.
    Moved(usize),
    /// Forget the slots from the first up to the second: a turn forgets what the one before captured.
    Forget(usize, usize),
    /// Fail unless it holds here.
    Assert(Assertion),
    /// Fail unless what the group captured follows.
    BackReference { group: usize, ignore_case: bool },
    /// Try what follows up to its `Seen`, then go on at `next` from here: if it matched, or, negative, if it did not.
    LookAhead { negative: bool, next: usize },
    /// The look-ahead matched.
    Seen,
    /// The pattern matched.
    Match,
}

/// A set of characters as sorted ranges.
pub(super) type Set = Box<[(char, char)]>;

/// A whole program.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) steps: Vec<Step>,
    /// Without the whole match.
    pub(super) groups: usize,
    /// Two for the match, two for each group, one for each repeat whose turns may be empty.
    pub(super) slots: usize,
    /// The pattern begins with look-aheads of `.*`: where one of these fails it fails in the rest of the line. The step behind
    /// the last of them.
    pub(super) leading: usize,
}

/// The program would be too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Compiles any tree that has `groups` groups.
pub(super) fn compile(node: &Node, groups: usize) -> Result<Program, TooLarge> {
    let mut program = Program { steps: Vec::new(), groups, slots: 2 * (groups + 1), leading: 0 };
    let terms = match node {
        Node::Concat(terms) => terms.as_slice(),
        other @ (Node::Empty
        | Node::Set(_)
        | Node::Alternation(_)
        | Node::Group(..)
        | Node::Repeat(_)
        | Node::Assertion(_)
        | Node::LookAhead { .. }
        | Node::BackReference { .. }) => std::slice::from_ref(other),
    };
    program.push(Step::Save(0))?;
    let leading = terms.iter().take_while(|term| looks_along_the_line(term)).count();
    for (number, term) in terms.iter().enumerate() {
        program.add(term)?;
        if number + 1 == leading {
            program.leading = program.steps.len();
        }
    }
    program.push(Step::Save(1))?;
    program.push(Step::Match)?;
    Ok(program)
}

/// Whether `node` is a look-ahead whose answer, if it is no, is the same for the rest of the line: `(?=.*..)`.
fn looks_along_the_line(node: &Node) -> bool {
    let Node::LookAhead { negative: false, node } = node else {
        return false;
    };
    let Node::Concat(terms) = node.as_ref() else {
        return false;
    };
    let Some(Node::Repeat(Repeat { node: dot, min: 0, max: None, .. })) = terms.first() else {
        return false;
    };
    let all = super::ecmascript::dot();
    **dot == all && !terms.iter().any(refers_back)
}

fn refers_back(node: &Node) -> bool {
    match node {
        Node::Empty | Node::Set(_) | Node::Assertion(_) => false,
        Node::Concat(nodes) | Node::Alternation(nodes) => nodes.iter().any(refers_back),
        Node::Group(_, node) | Node::Repeat(Repeat { node, .. }) | Node::LookAhead { node, .. } => {
            refers_back(node)
        }
        Node::BackReference { .. } => true,
    }
}

impl Program {
    fn add(&mut self, node: &Node) -> Result<(), TooLarge> {
        match node {
            Node::Empty => Ok(()),
            Node::Set(set) => self.push(Step::Set(ranges(set))),
            Node::Concat(nodes) => nodes.iter().try_for_each(|node| self.add(node)),
            Node::Alternation(nodes) => self.add_alternation(nodes),
            Node::Group(group, node) => {
                self.push(Step::Save(2 * group))?;
                self.add(node)?;
                self.push(Step::Save(2 * group + 1))
            }
            Node::Repeat(repeat) => self.add_repeat(repeat),
            Node::Assertion(assertion) => self.push(Step::Assert(*assertion)),
            Node::LookAhead { negative, node } => {
                let look = self.steps.len();
                self.push(Step::LookAhead { negative: *negative, next: 0 })?;
                self.add(node)?;
                self.push(Step::Seen)?;
                self.steps[look] = Step::LookAhead { negative: *negative, next: self.steps.len() };
                Ok(())
            }
            Node::BackReference { group, ignore_case } => {
                self.push(Step::BackReference { group: *group, ignore_case: *ignore_case })
            }
        }
    }

    fn add_alternation(&mut self, nodes: &[Node]) -> Result<(), TooLarge> {
        let mut ends = Vec::new();
        let Some((last, others)) = nodes.split_last() else {
            return Ok(());
        };
        for node in others {
            let split = self.hole()?;
            self.add(node)?;
            ends.push(self.hole()?);
            self.steps[split] = Step::Split(split + 1, self.steps.len());
        }
        self.add(last)?;
        for end in ends {
            self.steps[end] = Step::Jump(self.steps.len());
        }
        Ok(())
    }

    /// The required turns one after the other, then those that may be.
    fn add_repeat(&mut self, repeat: &Repeat) -> Result<(), TooLarge> {
        let Repeat { node, min, max, greedy } = repeat;
        if let Node::Set(set) = node.as_ref() {
            let max = max.map_or(usize::MAX, |max| max as usize);
            return self.push(Step::Run { set: ranges(set), min: *min as usize, max, greedy: *greedy });
        }
        for _ in 0..*min {
            self.forget(node)?;
            self.add(node)?;
        }
        let slot = self.slots;
        self.slots += 1;
        let Some(max) = max else {
            let split = self.turn(node, slot)?;
            self.push(Step::Jump(split))?;
            self.leave(split, *greedy);
            return Ok(());
        };
        let splits: Result<Vec<usize>, TooLarge> = (*min..*max).map(|_| self.turn(node, slot)).collect();
        splits?.into_iter().for_each(|split| self.leave(split, *greedy));
        Ok(())
    }

    /// One turn that may be; its place, where `leave` then writes the choice.
    fn turn(&mut self, node: &Node, slot: usize) -> Result<usize, TooLarge> {
        let split = self.hole()?;
        self.push(Step::Save(slot))?;
        self.forget(node)?;
        self.add(node)?;
        self.push(Step::Moved(slot))?;
        Ok(split)
    }

    fn leave(&mut self, split: usize, greedy: bool) {
        let end = self.steps.len();
        self.steps[split] = if greedy { Step::Split(split + 1, end) } else { Step::Split(end, split + 1) };
    }

    fn forget(&mut self, node: &Node) -> Result<(), TooLarge> {
        match node.groups() {
            Some((first, last)) => self.push(Step::Forget(2 * first, 2 * last + 2)),
            None => Ok(()),
        }
    }

    /// A step that is written later.
    fn hole(&mut self) -> Result<usize, TooLarge> {
        self.push(Step::Jump(0))?;
        Ok(self.steps.len() - 1)
    }

    fn push(&mut self, step: Step) -> Result<(), TooLarge> {
        if self.steps.len() == MOST_STEPS {
            return Err(TooLarge);
        }
        self.steps.push(step);
        Ok(())
    }
}

fn ranges(set: &ClassUnicode) -> Set {
    set.ranges().iter().map(|range| (range.start(), range.end())).collect()
}

const MOST_STEPS: usize = 10_000;
