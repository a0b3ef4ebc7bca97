//! Groups of all kinds, and their names. Pure.

use super::super::node::Node;
use super::{MOST_GROUPS, Parser, SyntaxError, Why};

enum GroupKind {
    Plain,
    Look { negative: bool },
    Capture(usize),
}

impl Parser {
    /// `(..)`, of which the parenthesis is read.
    pub(super) fn group(&mut self) -> Result<Node, SyntaxError> {
        let open = self.at - 1;
        if self.depth == DEEPEST {
            return Err(SyntaxError { at: open, why: Why::TooManyGroups });
        }
        let kind = self.group_kind(open)?;
        self.depth += 1;
        let node = Box::new(self.alternation()?);
        self.depth -= 1;
        if !self.eat(')') {
            return Err(SyntaxError { at: open, why: Why::OpenGroup });
        }
        Ok(match kind {
            // A tree node of its own, so that a repeat of an assertion in a group stays one of a group.
            GroupKind::Plain => Node::Concat(vec![*node]),
            GroupKind::Look { negative } => Node::LookAhead { negative, node },
            GroupKind::Capture(group) => Node::Group(group, node),
        })
    }

    fn group_kind(&mut self, open: usize) -> Result<GroupKind, SyntaxError> {
        if !self.eat('?') {
            return self.capture(None, open);
        }
        for (marks, why) in [("<=", Why::LookBehind), ("<!", Why::LookBehind)] {
            if self.follows(marks) {
                return Err(SyntaxError { at: open, why });
            }
        }
        match self.next() {
            Some(':') => Ok(GroupKind::Plain),
            Some('=') => Ok(GroupKind::Look { negative: false }),
            Some('!') => Ok(GroupKind::Look { negative: true }),
            Some('<') => {
                let name = self.name()?;
                self.capture(Some(name), open)
            }
            Some(_) => Err(SyntaxError { at: open, why: Why::UnknownGroup }),
            None => Err(SyntaxError { at: open, why: Why::OpenGroup }),
        }
    }

    fn capture(&mut self, name: Option<String>, open: usize) -> Result<GroupKind, SyntaxError> {
        let why = if self.names.len() == MOST_GROUPS {
            Why::TooManyGroups
        } else if name.is_some() && self.names.contains(&name) {
            Why::GroupName
        } else {
            self.names.push(name);
            return Ok(GroupKind::Capture(self.names.len()));
        };
        Err(SyntaxError { at: open, why })
    }

    /// `name>`, of which the `<` is read.
    pub(super) fn name(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        let rest = &self.text[start..];
        let wrong = SyntaxError { at: start, why: Why::GroupName };
        let length = rest.iter().position(|&letter| letter == '>').ok_or(wrong.clone())?;
        let name: String = rest[..length].iter().collect();
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if name.is_empty()
            || name.starts_with(|letter: char| letter.is_ascii_digit())
            || !name.chars().all(plain)
        {
            return Err(wrong);
        }
        self.at += length + 1;
        Ok(name)
    }
}

/// Groups within groups: the tree is walked by recursion.
const DEEPEST: usize = 60;
