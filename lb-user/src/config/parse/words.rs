//! The parser's messages in an operator's words.

use std::ops::Range;

use crate::config::problem::Problem;

/// What `message` about `span` means.
pub(super) fn explain(message: &str, span: Range<usize>) -> Problem {
    if let Some((key, known)) = unknown_key(message) {
        let problem = Problem::at(span, format!("unknown key `{key}`"));
        return match nearest(key, &known) {
            Some(known) => problem.hint(format!("did you mean `{known}`?")),
            None => problem.hint(format!("known here: {}", known.join(", "))),
        };
    }
    if let Some(key) = missing_key(message) {
        let problem = Problem::at(span, format!("`{key}` is missing here"));
        return match example(key) {
            Some(example) => problem.hint(format!("such as {example}")),
            None => problem,
        };
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

/// The key that a message calls unknown, and those that are known in its place.
pub(super) fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field")?.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// The key that a message calls missing.
pub(super) fn missing_key(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// A line that gives a required key, of which there are few.
pub(super) fn example(key: &str) -> Option<&'static str> {
    let (_, example) = EXAMPLES.iter().find(|(known, _)| *known == key)?;
    Some(example)
}

/// The candidate that `key` most likely misspells: at most a third of its letters away.
pub(super) fn nearest<'a>(key: &str, candidates: &[&'a str]) -> Option<&'a str> {
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

/// Of the keys that a table cannot do without, by name; one of two tables will do.
const EXAMPLES: [(&str, &str); 16] = [
    ("address", "address = \"192.168.50.6\""),
    ("ca", "ca = \"/etc/rollcall/ca.pem\""),
    ("certificate", "certificate = \"/etc/rollcall/mail.pem\""),
    ("cluster", "[cluster] with `ip` and `mode`"),
    ("input", "input = \"{HTTP_HOST}\""),
    ("interface", "interface = \"eth0\""),
    ("match", "match = \"^owa/(.*)$\""),
    ("name", "name = \"arr1\""),
    ("names", "names = [\"mail.example.test\"]"),
    ("networks", "networks = [\"192.168.50.20\"]"),
    ("per", "per = \"1min\""),
    ("port", "port = 993"),
    ("ports", "ports = 443"),
    ("priority", "priority = 1"),
    ("requests", "requests = 600"),
    ("servers", "servers = [\"10.0.0.36\", \"10.0.0.37\"]"),
];
