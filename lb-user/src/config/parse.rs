//! Text to the raw mirror. It knows about encodings, places in a text and misspelt keys; what values mean is for
//! `check.rs`.

use std::ops::Range;

use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The longest file that is read, bytes: a thousand times the reference cluster.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// The text of a file. A byte order mark is dropped; what is not UTF-8 is refused by name.
pub(crate) fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() > MAX_BYTES {
        let text = format!("the file is longer than {MAX_BYTES} bytes; that is no configuration");
        return Err(Problem::of_file(text));
    }
    if looks_like_utf16(bytes) {
        let text = "the file is in UTF-16, as Windows editors call \"Unicode\"".to_owned();
        return Err(Problem::of_file(text).hint("save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        Problem::of_file(format!("line {line} is not UTF-8 text")).hint("save the file as UTF-8")
    })
}

/// The raw mirror of `text`.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        explain(error.message(), span)
    })
}

/// ASCII text in UTF-16 has a zero in every other byte, with or without a byte order mark.
fn looks_like_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [first, second, ..] => (*first == 0) != (*second == 0),
        _ => false,
    }
}

/// The parser's message in an operator's words.
fn explain(message: &str, span: Range<usize>) -> Problem {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        let key = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        let problem = Problem::at(span, format!("unknown key `{key}`"));
        return match nearest(key, &known) {
            Some(known) => problem.hint(format!("did you mean `{known}`?")),
            None => problem.hint(format!("known here: {}", known.join(", "))),
        };
    }
    if message.starts_with("missing field") {
        let key = quoted.next().unwrap_or_default();
        return Problem::at(span, format!("`{key}` is missing here"));
    }
    let message = message
        .replace("invalid type: ", "wrong type: ")
        .replace("invalid value: ", "wrong value: ")
        .replace("expected u8", "expected a whole number from 0 to 255")
        .replace("expected u16", "expected a whole number from 0 to 65535")
        .replace("expected u32", "expected a whole number, not negative")
        .replace("expected usize", "expected a whole number, not negative")
        .replace("expected struct ", "expected a table for ")
        .replace("expected a sequence", "expected a list")
        .replace("expected path string", "expected a file's path as text in quotes")
        .replace("expected a string", "expected text in quotes")
        .replace("expected a boolean", "expected true or false");
    let message = message.replace('\n', ", ");
    match message.split_once(", expected ") {
        Some((what, expected)) => Problem::at(span, what).hint(format!("expected here: {expected}")),
        None => Problem::at(span, message),
    }
}

/// The candidate that `key` most likely misspells: at most a third of its letters away.
fn nearest<'a>(key: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let key: Vec<char> = key.chars().take(64).collect();
    let allowed = key.len().div_ceil(3);
    let distance = |candidate: &&str| edit_distance(&key, candidate);
    let best = candidates.iter().copied().min_by_key(distance)?;
    (edit_distance(&key, best) <= allowed).then_some(best)
}

/// How many letters must be put in, left out or changed (Levenshtein).
fn edit_distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
