//! Reads ECMAScript's pattern syntax (ECMA-262, section 22.2.1, without flags but `i`). Pure.
//!
//! What other dialects write and ECMAScript reads as something else, and what it leaves to the implementation (its Annex B), is
//! refused with its place, never guessed.

use regex_syntax::hir::ClassUnicode;
use thiserror::Error;

use super::node::{Assertion, Node, Repeat, folded, range};

mod class;
mod group;
mod quantifier;

/// Why a pattern is refused, and where: `at` counts its characters from 0.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("character {at}: {why}")]
pub struct SyntaxError {
    /// How many characters come before the place.
    pub at: usize,
    /// What is wrong there.
    pub why: Why,
}

/// What can be wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Why {
    /// `(a`.
    #[error("a group is not closed")]
    OpenGroup,
    /// `a)`.
    #[error("a parenthesis closes nothing; hint: write \\) for the character")]
    StrayParenthesis,
    /// `[a`.
    #[error("a character class is not closed")]
    OpenClass,
    /// `[z-a]`, `a{3,2}`.
    #[error("a range ends before it begins")]
    Reversed,
    /// `[\d-z]`.
    #[error("a range needs a single character on both sides; hint: write \\- for the character")]
    RangeOfSets,
    /// `*a`, `a**`, `^*`, `(?=a)*`.
    #[error("there is nothing to repeat")]
    NothingToRepeat,
    /// `a{,3}`: three at most in other dialects, plain text in ECMAScript.
    #[error("a repeat needs its least number; hint: write {{0,n}}, or \\{{ for the character")]
    NoMinimum,
    /// `a{1001}`.
    #[error("a repeat is above 1000 turns")]
    TooManyTurns,
    /// `a\`.
    #[error("the pattern ends within an escape")]
    OpenEscape,
    /// `\A`, `\z`, `\p`, `\Q`: plain letters in ECMAScript, other things elsewhere.
    #[error("the escape means nothing in ECMAScript")]
    UnknownEscape,
    /// `\x4`, `\u12`, `\c1`.
    #[error("the escape is not complete")]
    BadEscape,
    /// `\u{41}`, which needs the flag `u`.
    #[error("\\u{{..}} is not read; hint: write \\u and four hexadecimal digits, or the character")]
    BracedEscape,
    /// `\uD800`.
    #[error("half a surrogate pair is no character; hint: write the character itself")]
    Surrogate,
    /// `\012`.
    #[error("octal escapes are not read; hint: write \\x and two hexadecimal digits")]
    Octal,
    /// `\3` with two groups, `\k<x>` without a group `x`.
    #[error("the back reference names no group")]
    NoSuchGroup,
    /// `(?<=a)`, `(?<!a)`.
    #[error("look-behind is not run")]
    LookBehind,
    /// `(?i)`, `(?>a)`, `(?#a)`, `(?P<a>b)`.
    #[error("this kind of group is not ECMAScript's")]
    UnknownGroup,
    /// `(?<1>a)`, `(?<a>b)(?<a>c)`.
    #[error("a group's name has to be letters, digits and _, and its own")]
    GroupName,
    /// More than 99 groups, or 60 within each other.
    #[error("there are too many groups")]
    TooManyGroups,
    /// Above 4,096 characters.
    #[error("the pattern is too long")]
    TooLong,
}

/// Parses `pattern`: its tree and how many groups it has.
pub(super) fn parse(pattern: &str, ignore_case: bool) -> Result<(Node, usize), SyntaxError> {
    let mut parser = Parser {
        text: pattern.chars().collect(),
        at: 0,
        ignore_case,
        names: Vec::new(),
        depth: 0,
        references: Vec::new(),
    };
    if parser.text.len() > LONGEST {
        return Err(parser.error(Why::TooLong));
    }
    let node = parser.alternation()?;
    if parser.at < parser.text.len() {
        return Err(parser.error(Why::StrayParenthesis));
    }
    let groups = parser.names.len();
    let missing = parser.references.iter().find(|(group, _)| *group > groups);
    match missing {
        Some(&(_, at)) => Err(SyntaxError { at, why: Why::NoSuchGroup }),
        None => Ok((node, groups)),
    }
}

struct Parser {
    text: Vec<char>,
    at: usize,
    ignore_case: bool,
    /// One for each group so far.
    names: Vec<Option<String>>,
    depth: usize,
    /// Back references by number, which may come before their group, and their places.
    references: Vec<(usize, usize)>,
}

impl Parser {
    fn alternation(&mut self) -> Result<Node, SyntaxError> {
        let mut branches = vec![self.concat()?];
        while self.eat('|') {
            branches.push(self.concat()?);
        }
        Ok(if branches.len() == 1 { branches.swap_remove(0) } else { Node::Alternation(branches) })
    }

    fn concat(&mut self) -> Result<Node, SyntaxError> {
        let mut terms = Vec::new();
        while let Some(next) = self.peek() {
            if matches!(next, '|' | ')') {
                break;
            }
            terms.push(self.term(next)?);
        }
        Ok(match terms.len() {
            0 => Node::Empty,
            1 => terms.swap_remove(0),
            _ => Node::Concat(terms),
        })
    }

    /// An atom and the quantifier behind it, if there is one.
    fn term(&mut self, next: char) -> Result<Node, SyntaxError> {
        let node = self.atom(next)?;
        let at = self.at;
        let Some((min, max)) = self.quantifier()? else {
            return Ok(node);
        };
        match node {
            Node::Assertion(_) | Node::LookAhead { .. } => Err(SyntaxError { at, why: Why::NothingToRepeat }),
            Node::Empty
            | Node::Set(_)
            | Node::Concat(_)
            | Node::Alternation(_)
            | Node::Group(..)
            | Node::Repeat(_)
            | Node::BackReference { .. } => {
                let greedy = !self.eat('?');
                Ok(Node::Repeat(Repeat { node: Box::new(node), min, max, greedy }))
            }
        }
    }

    fn atom(&mut self, next: char) -> Result<Node, SyntaxError> {
        self.at += 1;
        match next {
            '^' => Ok(Node::Assertion(Assertion::Start)),
            '$' => Ok(Node::Assertion(Assertion::End)),
            '.' => Ok(dot()),
            '(' => self.group(),
            '[' => self.class().map(Node::Set),
            '\\' => self.escape(),
            '*' | '+' | '?' => Err(self.error_behind(Why::NothingToRepeat)),
            '{' if self.starts_quantifier() => Err(self.error_behind(Why::NothingToRepeat)),
            _ => Ok(self.literal(next)),
        }
    }

    /// `\..` outside of a class, of which the `\` is read.
    fn escape(&mut self) -> Result<Node, SyntaxError> {
        let start = self.at - 1;
        let boundary = match self.peek() {
            Some('b') => Some(Assertion::WordBoundary),
            Some('B') => Some(Assertion::NotWordBoundary),
            Some(_) | None => None,
        };
        if let Some(boundary) = boundary {
            self.at += 1;
            return Ok(Node::Assertion(boundary));
        }
        match self.peek() {
            Some('1'..='9') => self.numbered(start),
            Some('k') => self.named(start),
            Some(_) | None => match self.escaped()? {
                class::Escaped::Character(letter) => Ok(self.literal(letter)),
                class::Escaped::Set(set) => Ok(Node::Set(set)),
            },
        }
    }

    fn numbered(&mut self, start: usize) -> Result<Node, SyntaxError> {
        let group = self.number().ok_or(SyntaxError { at: start, why: Why::NoSuchGroup })?;
        self.references.push((group as usize, start));
        Ok(Node::BackReference { group: group as usize, ignore_case: self.ignore_case })
    }

    /// `\k<name>`: the group has to come first.
    fn named(&mut self, start: usize) -> Result<Node, SyntaxError> {
        let wrong = SyntaxError { at: start, why: Why::NoSuchGroup };
        self.at += 1;
        if !self.eat('<') {
            return Err(wrong);
        }
        let name = Some(self.name()?);
        let group = self.names.iter().position(|known| *known == name).ok_or(wrong)? + 1;
        Ok(Node::BackReference { group, ignore_case: self.ignore_case })
    }

    fn literal(&self, letter: char) -> Node {
        Node::Set(self.cased(range(letter, letter)))
    }

    fn cased(&self, set: ClassUnicode) -> ClassUnicode {
        if self.ignore_case { folded(&set) } else { set }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn follows(&self, wanted: &str) -> bool {
        wanted.chars().eq(self.text[self.at..].iter().copied().take(wanted.len()))
    }

    fn error(&self, why: Why) -> SyntaxError {
        SyntaxError { at: self.at, why }
    }

    fn error_behind(&self, why: Why) -> SyntaxError {
        SyntaxError { at: self.at - 1, why }
    }
}

/// `.`: any character but a line's end.
pub(super) fn dot() -> Node {
    Node::Set(class::not(&class::line_ends()))
}

/// Characters. URL Rewrite's own examples have below 100.
pub(super) const LONGEST: usize = 4096;
pub(super) const MOST_GROUPS: usize = 99;
