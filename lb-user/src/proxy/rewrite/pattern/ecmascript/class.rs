//! Character classes and the escapes that stand for characters: the rest of the pattern syntax. Pure.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::super::node::{any, range};
use super::{Parser, SyntaxError, Why};

/// What an escape stands for.
pub(super) enum Escaped {
    Character(char),
    Set(ClassUnicode),
}

impl Parser {
    /// `[..]`, of which the bracket is read.
    pub(super) fn class(&mut self) -> Result<ClassUnicode, SyntaxError> {
        let open = self.at - 1;
        let negative = self.eat('^');
        let mut set = ClassUnicode::empty();
        loop {
            if self.eat(']') {
                break;
            }
            let start = self.at;
            let item = self.member(open)?;
            let ranged =
                self.peek() == Some('-') && self.text.get(self.at + 1).is_some_and(|&next| next != ']');
            if !ranged {
                set.union(&set_of(item));
                continue;
            }
            self.at += 1;
            let end = self.member(open)?;
            let (Escaped::Character(first), Escaped::Character(last)) = (item, end) else {
                return Err(SyntaxError { at: start, why: Why::RangeOfSets });
            };
            if first > last {
                return Err(SyntaxError { at: start, why: Why::Reversed });
            }
            set.union(&range(first, last));
        }
        let set = self.cased(set);
        Ok(if negative { not(&set) } else { set })
    }

    fn member(&mut self, open: usize) -> Result<Escaped, SyntaxError> {
        match self.next() {
            None => Err(SyntaxError { at: open, why: Why::OpenClass }),
            Some('\\') if self.peek() == Some('b') => {
                self.at += 1;
                Ok(Escaped::Character('\u{8}'))
            }
            Some('\\') => self.escaped(),
            Some(letter) => Ok(Escaped::Character(letter)),
        }
    }

    /// `\..` for characters, of which the `\` is read.
    pub(super) fn escaped(&mut self) -> Result<Escaped, SyntaxError> {
        let start = self.at - 1;
        let wrong = |why| SyntaxError { at: start, why };
        let letter = self.next().ok_or(wrong(Why::OpenEscape))?;
        let character = match letter {
            'd' => return Ok(Escaped::Set(digits())),
            'D' => return Ok(Escaped::Set(not(&digits()))),
            'w' => return Ok(Escaped::Set(word())),
            'W' => return Ok(Escaped::Set(not(&word()))),
            's' => return Ok(Escaped::Set(space())),
            'S' => return Ok(Escaped::Set(not(&space()))),
            't' => '\t',
            'n' => '\n',
            'v' => '\u{b}',
            'f' => '\u{c}',
            'r' => '\r',
            '0' if !self.peek().is_some_and(|next| next.is_ascii_digit()) => '\0',
            '0'..='9' => return Err(wrong(Why::Octal)),
            'c' => self.control().ok_or(wrong(Why::BadEscape))?,
            'x' => {
                self.hexadecimal(2).ok_or(wrong(Why::BadEscape)).and_then(|code| character(code, start))?
            }
            'u' if self.peek() == Some('{') => return Err(wrong(Why::BracedEscape)),
            'u' => {
                self.hexadecimal(4).ok_or(wrong(Why::BadEscape)).and_then(|code| character(code, start))?
            }
            _ if letter.is_alphanumeric() => return Err(wrong(Why::UnknownEscape)),
            _ => letter,
        };
        Ok(Escaped::Character(character))
    }

    /// `\cX`: the letter's place in the alphabet.
    fn control(&mut self) -> Option<char> {
        let letter = self.next().filter(char::is_ascii_alphabetic)?;
        char::from_u32(u32::from(letter) % 32)
    }

    fn hexadecimal(&mut self, digits: usize) -> Option<u32> {
        (0..digits).try_fold(0, |code, _| Some(code * 16 + self.next()?.to_digit(16)?))
    }
}

fn character(code: u32, start: usize) -> Result<char, SyntaxError> {
    char::from_u32(code).ok_or(SyntaxError { at: start, why: Why::Surrogate })
}

fn set_of(item: Escaped) -> ClassUnicode {
    match item {
        Escaped::Character(letter) => range(letter, letter),
        Escaped::Set(set) => set,
    }
}

/// Every character but those of `set`.
pub(super) fn not(set: &ClassUnicode) -> ClassUnicode {
    let mut others = any();
    others.difference(set);
    others
}

/// What `.` does not match: LineTerminator, section 12.3.
pub(super) fn line_ends() -> ClassUnicode {
    ranges(&[('\n', '\n'), ('\r', '\r'), ('\u{2028}', '\u{2029}')])
}

/// `\d`: ASCII digits only.
fn digits() -> ClassUnicode {
    range('0', '9')
}

/// `\w`: ASCII only, also without case.
fn word() -> ClassUnicode {
    ranges(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')])
}

/// `\s`: WhiteSpace and LineTerminator, sections 12.2 and 12.3.
fn space() -> ClassUnicode {
    ranges(&[
        ('\t', '\r'),
        (' ', ' '),
        ('\u{a0}', '\u{a0}'),
        ('\u{1680}', '\u{1680}'),
        ('\u{2000}', '\u{200a}'),
        ('\u{2028}', '\u{2029}'),
        ('\u{202f}', '\u{202f}'),
        ('\u{205f}', '\u{205f}'),
        ('\u{3000}', '\u{3000}'),
        ('\u{feff}', '\u{feff}'),
    ])
}

fn ranges(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|&(first, last)| ClassUnicodeRange::new(first, last)))
}
