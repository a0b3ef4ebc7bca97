//! Sets of HTTP status codes as ARR writes them: `200-399`, `200,401`, `500-`. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Status codes, at least one; each from 100 to 999 (RFC 9110, section 15: three digits).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StatusSet(Vec<Range>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
}

impl StatusSet {
    /// This one alone. One that HTTP does not have is contained in no answer.
    pub fn one(status: u16) -> Self {
        Self(vec![Range { first: status, last: status }])
    }

    /// Whether the code is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| (range.first..=range.last).contains(&status))
    }
}

impl FromStr for StatusSet {
    type Err = StatusError;

    /// Codes and ranges with commas between; spaces around them do not count. A range without an end goes on to 999.
    fn from_str(text: &str) -> Result<Self, StatusError> {
        if text.split(',').count() > MAX_RANGES {
            return Err(StatusError::TooMany);
        }
        text.split(',').map(|part| range(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

impl TryFrom<String> for StatusSet {
    type Error = StatusError;

    fn try_from(text: String) -> Result<Self, StatusError> {
        text.parse()
    }
}

impl From<StatusSet> for String {
    fn from(set: StatusSet) -> Self {
        set.to_string()
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Range { first, last }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match *last {
                last if last == *first => write!(f, "{comma}{first}")?,
                LAST => write!(f, "{comma}{first}-")?,
                last => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

fn range(part: &str) -> Result<Range, StatusError> {
    let (first, last) = match part.split_once('-') {
        None => (code(part, part)?, code(part, part)?),
        Some((first, last)) if last.trim().is_empty() => (code(first, part)?, LAST),
        Some((first, last)) => (code(first, part)?, code(last, part)?),
    };
    if first > last { Err(StatusError::Backwards { first, last }) } else { Ok(Range { first, last }) }
}

fn code(digits: &str, part: &str) -> Result<u16, StatusError> {
    let digits = digits.trim();
    let malformed = || StatusError::Malformed { part: part.chars().take(MAX_SHOWN).collect() };
    if digits.len() != 3 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(malformed());
    }
    digits.parse().ok().filter(|code| *code >= FIRST).ok_or_else(malformed)
}

/// A text that names no status codes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StatusError {
    /// A part is neither a code nor a range.
    #[error(
        "\"{part}\" names no HTTP status; hint: write codes from 100 to 999 such as 200, 200-399 or 500-, with commas between"
    )]
    Malformed {
        /// The part, cut off when it is long.
        part: String,
    },
    /// A range ends before it begins.
    #[error("the range {first}-{last} ends before it begins; hint: write {last}-{first}")]
    Backwards {
        /// Its beginning.
        first: u16,
        /// Its end.
        last: u16,
    },
    /// More parts than anybody needs.
    #[error("more than {MAX_RANGES} parts between commas; hint: join codes to ranges such as 200-399")]
    TooMany,
}

const FIRST: u16 = 100;
const LAST: u16 = 999;

/// Most parts of a set.
const MAX_RANGES: usize = 32;

/// Most characters of a wrong part in a message.
const MAX_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_and_ranges_contain_what_they_say() {
        for (text, within, without) in [
            ("200-399", &[200, 302, 399][..], &[199, 400, 100][..]),
            ("200", &[200], &[199, 201]),
            ("401", &[401], &[200, 400, 402]),
            ("500-", &[500, 503, 599, 999], &[499, 100]),
            (" 200 , 401,500 - 503 ", &[200, 401, 500, 503], &[201, 400, 504]),
        ] {
            let set: StatusSet = text.parse().unwrap();
            assert!(within.iter().all(|status| set.contains(*status)), "{text}");
            assert!(!without.iter().any(|status| set.contains(*status)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_shown() {
        let malformed = |part: &str| StatusError::Malformed { part: part.to_owned() };
        for (text, wanted) in [
            ("", malformed("")),
            ("200,", malformed("")),
            ("-", malformed("-")),
            ("-200", malformed("-200")),
            ("200,OK", malformed("OK")),
            ("2xx", malformed("2xx")),
            ("99", malformed("99")),
            ("099", malformed("099")),
            ("1000", malformed("1000")),
            ("+20", malformed("+20")),
            ("200-300-400", malformed("200-300-400")),
            ("\u{662}00", malformed("\u{662}00")),
            ("399-200", StatusError::Backwards { first: 399, last: 200 }),
            (&"é".repeat(100), malformed(&"é".repeat(20))),
            (&"200,".repeat(100), StatusError::TooMany),
        ] {
            assert_eq!(text.parse::<StatusSet>(), Err(wanted), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_as_the_same(text in "[0-9]{3}(-([0-9]{3})?)?(,[0-9]{3}(-([0-9]{3})?)?){0,3}") {
            if let Ok(set) = text.parse::<StatusSet>() {
                prop_assert_eq!(set.to_string().parse(), Ok(set));
            }
        }

        #[test]
        fn any_text_is_survived(text in ".{0,40}") {
            drop(text.parse::<StatusSet>());
        }
    }
}
