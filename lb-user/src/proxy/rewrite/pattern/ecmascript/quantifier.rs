//! How often an atom is repeated. Pure.

use super::{Parser, SyntaxError, Why};

impl Parser {
    /// `*`, `+`, `?`, `{n}`, `{n,}` or `{n,m}`: from how many to how many turns.
    pub(super) fn quantifier(&mut self) -> Result<Option<(u32, Option<u32>)>, SyntaxError> {
        let start = self.at;
        let found = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') if self.starts_quantifier_at(self.at) => return self.braces().map(Some),
            Some('{') if self.text.get(start + 1) == Some(&',') => return Err(self.error(Why::NoMinimum)),
            Some(_) | None => return Ok(None),
        };
        self.at += 1;
        Ok(Some(found))
    }

    fn braces(&mut self) -> Result<(u32, Option<u32>), SyntaxError> {
        let at = self.at;
        let wrong = |why| SyntaxError { at, why };
        self.at += 1;
        let min = self.number().ok_or(wrong(Why::TooManyTurns))?;
        let max = match (self.eat(','), self.peek()) {
            (false, _) => Some(min),
            (true, Some('}')) => None,
            (true, _) => Some(self.number().ok_or(wrong(Why::TooManyTurns))?),
        };
        self.at += 1;
        if min > MOST_TURNS || max.is_some_and(|max| max > MOST_TURNS) {
            return Err(wrong(Why::TooManyTurns));
        }
        if max.is_some_and(|max| max < min) {
            return Err(wrong(Why::Reversed));
        }
        Ok((min, max))
    }

    pub(super) fn starts_quantifier(&self) -> bool {
        self.starts_quantifier_at(self.at - 1)
    }

    /// Whether the `{` at `at` begins a quantifier; it is plain text otherwise.
    fn starts_quantifier_at(&self, at: usize) -> bool {
        let rest = &self.text[at + 1..];
        let Some(end) = rest.iter().position(|&letter| letter == '}') else {
            return false;
        };
        let digits = |text: &[char]| text.iter().all(char::is_ascii_digit);
        match rest[..end].split_first() {
            Some((first, more)) if first.is_ascii_digit() => {
                let mut parts = more.splitn(2, |&letter| letter == ',');
                parts.all(digits)
            }
            Some(_) | None => false,
        }
    }

    /// A decimal number, if it fits.
    pub(super) fn number(&mut self) -> Option<u32> {
        let start = self.at;
        while self.peek().is_some_and(|letter| letter.is_ascii_digit()) {
            self.at += 1;
        }
        let digits: String = self.text[start..self.at].iter().collect();
        digits.parse().ok()
    }
}

const MOST_TURNS: u32 = 1000;
