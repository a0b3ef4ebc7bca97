//! The engine for patterns with look-ahead or back references, which can take exponential time: it counts its steps and gives
//! up. Pure.
//!
//! A crate was tried first. fancy-regex 0.20 counts only how often it turns back, not the work in between, which it leaves to
//! automata: `(?:(?=.*a)[^b])*c` ran 18 s on 8 KiB within a limit of 10^6, and Microsoft's own `(?=.*autodiscover)(?=.*powershell)`
//! 140 ms without ever coming near it. regress 0.12 counts nothing. Here each step, each character of a run and each choice that
//! is given up counts, so that the limit is one of time. ECMA-262, section 22.2.2.

use super::node::{Assertion, same_letter};
use super::program::{Program, Set, Step};
use super::{OverLimit, Span};

/// The spans of the match and its groups in `text`, and the steps that finding them took; `Err` beyond `limit` steps.
pub(super) fn search(
    program: &Program,
    text: &str,
    limit: u64,
) -> Result<(Option<Vec<Span>>, u64), OverLimit> {
    let letters: Vec<(usize, char)> = text.char_indices().collect();
    let mut machine = Machine {
        program,
        letters: &letters,
        slots: vec![None; program.slots],
        choices: Vec::new(),
        reached: false,
        steps: 0,
        limit,
    };
    let mut start = 0;
    while start <= letters.len() {
        if machine.run(start)? {
            return Ok((Some(machine.spans(text.len())), machine.steps));
        }
        start = machine.next_start(start)?;
    }
    Ok((None, machine.steps))
}

struct Machine<'a> {
    program: &'a Program,
    /// Each character and the bytes before it.
    letters: &'a [(usize, char)],
    /// Positions, as characters.
    slots: Vec<Option<usize>>,
    choices: Vec<Choice>,
    /// Whether the leading look-aheads have all matched in this run.
    reached: bool,
    steps: u64,
    limit: u64,
}

/// What is left to try, or to undo on the way back.
enum Choice {
    /// Go on there.
    At { step: usize, position: usize },
    /// The run that ends at `position` can be shortened down to `least`.
    Shorter { step: usize, position: usize, least: usize },
    /// The run can be made longer by up to `more`.
    Longer { step: usize, position: usize, more: usize },
    /// The slot held this.
    Slot { slot: usize, before: Option<usize> },
    /// A look-ahead from `position` is under way.
    Look { negative: bool, next: usize, position: usize },
}

impl Machine<'_> {
    /// Whether the pattern matches at `start`. If not, all choices were undone, and no slot is set.
    fn run(&mut self, start: usize) -> Result<bool, OverLimit> {
        self.reached = self.program.leading == 0;
        let mut thread = Some((0, start));
        while let Some((step, position)) = thread {
            self.count(1)?;
            self.reached |= step == self.program.leading;
            if matches!(self.program.steps[step], Step::Match) {
                return Ok(true);
            }
            thread = match self.step(step, position)? {
                Some(next) => Some(next),
                None => self.turn_back()?,
            };
        }
        Ok(false)
    }

    /// One step: where to go on; `None` if it fails.
    fn step(&mut self, step: usize, position: usize) -> Result<Option<(usize, usize)>, OverLimit> {
        let here = Some((step + 1, position));
        Ok(match &self.program.steps[step] {
            Step::Set(set) => {
                self.letter(position).filter(|&letter| has(set, letter)).map(|_| (step + 1, position + 1))
            }
            Step::Run { set, min, max, greedy } => {
                return self.take_run(step, position, set, (*min, *max), *greedy);
            }
            Step::Split(first, second) => {
                self.choices.push(Choice::At { step: *second, position });
                Some((*first, position))
            }
            Step::Jump(next) => Some((*next, position)),
            Step::Save(slot) => {
                self.set(*slot, Some(position));
                here
            }
            Step::Moved(slot) => here.filter(|_| self.slots[*slot] != Some(position)),
            Step::Forget(first, end) => {
                self.count((end - first) as u64)?;
                (*first..*end).for_each(|slot| self.set(slot, None));
                here
            }
            Step::Assert(assertion) => here.filter(|_| self.holds(*assertion, position)),
            Step::BackReference { group, ignore_case } => {
                let length = self.repeated(*group, *ignore_case, position)?;
                length.map(|length| (step + 1, position + length))
            }
            Step::LookAhead { negative, next } => {
                self.choices.push(Choice::Look { negative: *negative, next: *next, position });
                here
            }
            Step::Seen => return self.seen(),
            Step::Match => here,
        })
    }

    fn take_run(
        &mut self,
        step: usize,
        position: usize,
        set: &Set,
        (min, max): (usize, usize),
        greedy: bool,
    ) -> Result<Option<(usize, usize)>, OverLimit> {
        let wanted = if greedy { max } else { min };
        let rest = &self.letters[position..];
        let taken = rest.iter().take(wanted).take_while(|(_, letter)| has(set, *letter)).count();
        self.count(taken as u64)?;
        if taken < min {
            return Ok(None);
        }
        let (next, end) = (step + 1, position + taken);
        if greedy && taken > min {
            self.choices.push(Choice::Shorter { step: next, position: end, least: position + min });
        }
        if !greedy && max > min {
            self.choices.push(Choice::Longer { step, position: end, more: max - min });
        }
        Ok(Some((next, end)))
    }

    /// The next thing to try; `None` if all has been.
    fn turn_back(&mut self) -> Result<Option<(usize, usize)>, OverLimit> {
        while let Some(choice) = self.choices.pop() {
            self.count(1)?;
            match choice {
                Choice::At { step, position } => return Ok(Some((step, position))),
                Choice::Shorter { step, position, least } => {
                    let position = position - 1;
                    if position > least {
                        self.choices.push(Choice::Shorter { step, position, least });
                    }
                    return Ok(Some((step, position)));
                }
                Choice::Longer { step, position, more } => {
                    if let Some(next) = self.longer(step, position, more) {
                        return Ok(Some(next));
                    }
                }
                Choice::Slot { slot, before } => self.slots[slot] = before,
                Choice::Look { negative: true, next, position } => return Ok(Some((next, position))),
                Choice::Look { negative: false, .. } => {}
            }
        }
        Ok(None)
    }

    fn longer(&mut self, step: usize, position: usize, more: usize) -> Option<(usize, usize)> {
        let Step::Run { set, .. } = &self.program.steps[step] else {
            return None;
        };
        self.letter(position).filter(|&letter| has(set, letter))?;
        let position = position + 1;
        if more > 1 {
            self.choices.push(Choice::Longer { step, position, more: more - 1 });
        }
        Some((step + 1, position))
    }

    /// The innermost look-ahead has matched. Its choices are given up; what it captured stays if it is a positive one.
    fn seen(&mut self) -> Result<Option<(usize, usize)>, OverLimit> {
        let mut kept = Vec::new();
        while let Some(choice) = self.choices.pop() {
            self.count(1)?;
            match choice {
                Choice::At { .. } | Choice::Shorter { .. } | Choice::Longer { .. } => {}
                Choice::Slot { slot, before } => kept.push((slot, before)),
                Choice::Look { negative: false, next, position } => {
                    let undo = kept.into_iter().rev().map(|(slot, before)| Choice::Slot { slot, before });
                    self.choices.extend(undo);
                    return Ok(Some((next, position)));
                }
                Choice::Look { negative: true, .. } => {
                    kept.into_iter().for_each(|(slot, before)| self.slots[slot] = before);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// How long the repetition of what `group` captured is at `position`; of nothing it is empty.
    fn repeated(
        &mut self,
        group: usize,
        ignore_case: bool,
        position: usize,
    ) -> Result<Option<usize>, OverLimit> {
        let (Some(from), Some(to)) = (self.slots[2 * group], self.slots[2 * group + 1]) else {
            return Ok(Some(0));
        };
        let length = to.saturating_sub(from);
        self.count(length as u64)?;
        let Some(there) = self.letters.get(position..position + length) else {
            return Ok(None);
        };
        let same = |(&(_, one), &(_, other)): (&(usize, char), &(usize, char))| {
            one == other || ignore_case && same_letter(one, other)
        };
        Ok(self.letters[from..from + length].iter().zip(there).all(same).then_some(length))
    }

    fn holds(&self, assertion: Assertion, position: usize) -> bool {
        let is_word = |at: Option<usize>| {
            at.and_then(|at| self.letter(at))
                .is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        };
        let boundary = is_word(position.checked_sub(1)) != is_word(Some(position));
        match assertion {
            Assertion::Start => position == 0,
            Assertion::End => position == self.letters.len(),
            Assertion::WordBoundary => boundary,
            Assertion::NotWordBoundary => !boundary,
        }
    }

    /// Where to look after nothing was found at `start`: behind it, or, if a leading look-ahead failed, behind its line.
    fn next_start(&mut self, start: usize) -> Result<usize, OverLimit> {
        if self.reached {
            return Ok(start + 1);
        }
        let rest = &self.letters[start..];
        let line = rest.iter().take_while(|(_, letter)| !is_line_end(*letter)).count();
        self.count(line as u64)?;
        Ok(start + line + 1)
    }

    fn set(&mut self, slot: usize, position: Option<usize>) {
        let before = std::mem::replace(&mut self.slots[slot], position);
        self.choices.push(Choice::Slot { slot, before });
    }

    fn letter(&self, position: usize) -> Option<char> {
        self.letters.get(position).map(|&(_, letter)| letter)
    }

    fn count(&mut self, steps: u64) -> Result<(), OverLimit> {
        self.steps += steps;
        let over = self.steps > self.limit || self.choices.len() > MOST_CHOICES;
        if over { Err(OverLimit) } else { Ok(()) }
    }

    /// The match and its groups as bytes.
    fn spans(&self, length: usize) -> Vec<Span> {
        let byte = |position: usize| self.letters.get(position).map_or(length, |&(byte, _)| byte);
        let groups = self.slots[..2 * (self.program.groups + 1)].chunks_exact(2);
        groups.map(|slots| Some(byte(slots[0]?)..byte(slots[1]?))).collect()
    }
}

fn has(set: &Set, letter: char) -> bool {
    let found = set.partition_point(|&(_, last)| last < letter);
    set.get(found).is_some_and(|&(first, _)| first <= letter)
}

/// LineTerminator, section 12.3.
fn is_line_end(letter: char) -> bool {
    matches!(letter, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

/// What can be left to try or to undo at once: 8 MB.
const MOST_CHOICES: usize = 200_000;
