//! Text to the raw mirror, or everything that is wrong with its form: syntax, unknown keys, wrong types, missing keys. What
//! values mean is for `check.rs`.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, Deserializer, Error};

use super::problem::Problem;
use words::explain;

mod repair;
mod words;

/// The raw mirror of `text`, or at most some dozens of problems, in the order of their places.
///
/// Syntax comes first: of a text that is not TOML nothing else can be told.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(syntax(text, &errors));
    }
    read(document.clone()).map_err(|error| {
        let mut problems =
            repair::all_problems(document, error, text.len(), |document| read::<T>(document).err());
        problems.sort_by_key(Problem::place);
        problems
    })
}

fn read<T: DeserializeOwned>(document: Spanned<DeTable<'_>>) -> Result<T, Error> {
    T::deserialize(Deserializer::from(document))
}

/// What is not TOML, one problem a line: what follows on the same line is mostly an echo of the first.
fn syntax(text: &str, errors: &[Error]) -> Vec<Problem> {
    let mut found: Vec<(Range<usize>, &str)> =
        errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
    found.sort_by_key(|(span, _)| span.start);
    let line = |place: usize| text.get(..place).unwrap_or(text).matches('\n').count();
    found.dedup_by_key(|(span, _)| line(span.start));
    let told = found.into_iter().take(PROBLEMS);
    told.map(|(span, message)| share_in_text(text, &span).unwrap_or_else(|| explain(message, span))).collect()
}

/// `"\\server\share"` is no text of TOML, which takes `\s` for an escape: told as the share that it is.
fn share_in_text(text: &str, span: &Range<usize>) -> Option<Problem> {
    let start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..].lines().next()?;
    let quote = line.find("\"\\\\")?;
    let end = line[quote + 1..].find('"').map_or(line.len(), |at| quote + 1 + at + 1);
    Some(on_a_share(start + quote..start + end, &line[quote..end]))
}

/// What is told of a path on a file server, `shown` as it is written.
pub(crate) fn on_a_share(span: Range<usize>, shown: &str) -> Problem {
    let text = format!("{shown} is on a file server: the nodes would all fail with it");
    Problem::at(span, text).hint(
        "nodes hold certificates and configuration themselves: copy the file to each node, such as to /etc/rollcall, \
         and write its path there",
    )
}

/// Whether a missing `key` is told with a line that gives it.
#[cfg(test)]
pub(super) fn has_example(key: &str) -> bool {
    words::example(key).is_some()
}

/// The most problems that are told of one file.
const PROBLEMS: usize = 50;
