//! Patterns of rules and conditions: compiled once, and matched in bounded time. Pure.
//!
//! Each pattern gets the engine that it needs: an automaton (`linear`) where that has ECMAScript's very meaning, else one that
//! turns back and counts its steps (`backtrack`). Case is ignored as ECMAScript does, by single letters; characters are code
//! points, as with its flag `u`.

use std::ops::Range;

use regex_automata::meta::{BuildError, Regex};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use node::{Assertion, Node, Repeat};

pub use ecmascript::{SyntaxError, Why};

mod backtrack;
mod ecmascript;
mod linear;
mod node;
mod program;

/// How a rule writes its patterns (`patternSyntax`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Syntax {
    /// ECMAScript's regular expressions, which match anywhere in the input.
    #[default]
    Ecmascript,
    /// `*` for any text, which it captures, and `?` for one character; matches the whole input.
    Wildcard,
    /// The text itself, the whole input.
    ExactMatch,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    engine: Engine,
    groups: usize,
}

#[derive(Clone, Debug)]
enum Engine {
    Linear(Box<Regex>),
    Backtrack(program::Program),
}

/// Why a pattern is refused.
#[derive(Clone, Debug, Error)]
pub enum PatternError {
    /// It is not written well.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A repeat of a repeat of many turns.
    #[error("the pattern is too large when its repeats are written out; hint: use fewer turns")]
    TooLarge,
    /// The automaton could not be built.
    #[error("the pattern cannot be compiled")]
    Build(#[source] Box<BuildError>),
}

/// The input could not be judged within the limits: longer than `LONGEST_LINEAR` or `LONGEST_BACKTRACKED` bytes, or above
/// `STEP_LIMIT` steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the input takes too long to match")]
pub struct OverLimit;

/// Bytes of the input; `None` for a group that took no part.
type Span = Option<Range<usize>>;

/// What a pattern found: the whole match and its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures(Vec<String>);

impl Captures {
    /// What group `number` captured, 0 the whole match; empty if it captured nothing.
    pub fn group(&self, number: usize) -> &str {
        self.0.get(number).map_or("", String::as_str)
    }

    /// The whole match and its groups.
    pub fn into_groups(self) -> impl Iterator<Item = String> {
        self.0.into_iter()
    }
}

impl Pattern {
    /// Compiles `text`.
    pub fn compile(syntax: Syntax, text: &str, ignore_case: bool) -> Result<Self, PatternError> {
        let (node, groups) = match syntax {
            Syntax::Ecmascript => ecmascript::parse(text, ignore_case)?,
            Syntax::Wildcard => wildcard(text, ignore_case)?,
            Syntax::ExactMatch => (whole(literals(text, ignore_case)?), 0),
        };
        let engine = if node.is_linear() {
            let regex = linear::compile(&node).map_err(PatternError::Build)?;
            Engine::Linear(Box::new(regex))
        } else {
            Engine::Backtrack(
                program::compile(&node, groups).map_err(|program::TooLarge| PatternError::TooLarge)?,
            )
        };
        Ok(Self { engine, groups })
    }

    /// How many groups it captures, without the whole match.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Whether matching takes time linear in the input, and so has no step limit.
    pub fn is_linear(&self) -> bool {
        matches!(self.engine, Engine::Linear(_))
    }

    /// What it finds first in `input`.
    pub fn find(&self, input: &str) -> Result<Option<Captures>, OverLimit> {
        let spans = match &self.engine {
            Engine::Linear(regex) => find_linear(regex, input)?,
            Engine::Backtrack(program) if input.len() <= LONGEST_BACKTRACKED => {
                backtrack::search(program, input, STEP_LIMIT)?.0
            }
            Engine::Backtrack(_) => return Err(OverLimit),
        };
        let text = |span: &Span| span.clone().and_then(|span| input.get(span)).unwrap_or_default().to_owned();
        Ok(spans.map(|spans| Captures(spans.iter().map(text).collect())))
    }
}

fn find_linear(regex: &Regex, input: &str) -> Result<Option<Vec<Span>>, OverLimit> {
    if input.len() > LONGEST_LINEAR {
        return Err(OverLimit);
    }
    let mut captures = regex.create_captures();
    regex.captures(input, &mut captures);
    let spans = captures.iter().map(|span| span.map(|span| span.range()));
    Ok(captures.is_match().then(|| spans.collect()))
}

fn wildcard(text: &str, ignore_case: bool) -> Result<(Node, usize), SyntaxError> {
    let mut groups = 0;
    let mut node = |letter: char| match letter {
        '*' => {
            groups += 1;
            let all = Repeat { node: Box::new(Node::Set(node::any())), min: 0, max: None, greedy: true };
            Node::Group(groups, Box::new(Node::Repeat(all)))
        }
        '?' => Node::Set(node::any()),
        letter => literal(letter, ignore_case),
    };
    let nodes = bounded(text)?.chars().map(&mut node).collect();
    if groups > ecmascript::MOST_GROUPS {
        return Err(SyntaxError { at: 0, why: Why::TooManyGroups });
    }
    Ok((whole(nodes), groups))
}

fn literals(text: &str, ignore_case: bool) -> Result<Vec<Node>, SyntaxError> {
    Ok(bounded(text)?.chars().map(|letter| literal(letter, ignore_case)).collect())
}

fn literal(letter: char, ignore_case: bool) -> Node {
    let set = node::range(letter, letter);
    Node::Set(if ignore_case { node::folded(&set) } else { set })
}

fn whole(mut nodes: Vec<Node>) -> Node {
    nodes.insert(0, Node::Assertion(Assertion::Start));
    nodes.push(Node::Assertion(Assertion::End));
    Node::Concat(nodes)
}

fn bounded(text: &str) -> Result<&str, SyntaxError> {
    let length = text.chars().count();
    if length <= ecmascript::LONGEST { Ok(text) } else { Err(SyntaxError { at: length, why: Why::TooLong }) }
}

/// Bytes of input for a pattern that turns back: as long as a URL may be.
pub const LONGEST_BACKTRACKED: usize = 8 * 1024;
/// Bytes of input for all others: as long as the header may be, since a Kerberos ticket or OWA's cookies pass 8 KiB, and no input
/// of a request is longer. Decoding and rewrite maps may make one so.
pub const LONGEST_LINEAR: usize = 64 * 1024;
/// Steps for one input: some milliseconds. The published patterns take five for each character.
pub const STEP_LIMIT: u64 = 1_000_000;

#[cfg(test)]
mod tests;
