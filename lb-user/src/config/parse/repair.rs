//! All that is wrong with a document's form. The reader stops at the first error; here that is noted, mended in the parsed
//! document, and the document read again, until it can be read: so the reader stays the only judge of what is right. Pure.
//!
//! A misspelt key gets the name that was likely meant, another unknown key or wrong value is taken out, a missing key is
//! put in with a value that the reader takes. What was mended is thrown away in the end.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue, Error};

use super::PROBLEMS;
use super::words::{explain, missing_key, nearest, unknown_key};
use crate::config::problem::Problem;

/// What is wrong with `document`, of which `error` was the first. `read` gives the next one of a document that was mended.
pub(super) fn all_problems<'i>(
    document: Spanned<DeTable<'i>>,
    error: Error,
    length: usize,
    read: impl Fn(Spanned<DeTable<'i>>) -> Option<Error>,
) -> Vec<Problem> {
    let mut repair = Repair {
        document: DeValue::Table(document.into_inner()),
        problems: Vec::new(),
        last: None,
        taken_out: BTreeSet::new(),
        trial: None,
    };
    let mut next = Some(error);
    let rounds = (WORK / length.max(1)).clamp(10, 1000);
    for _ in 0..rounds {
        let Some(error) = next else { break };
        if repair.problems.len() >= PROBLEMS || !repair.mend(&error) {
            break;
        }
        let DeValue::Table(table) = &repair.document else { break };
        next = read(Spanned::new(0..0, table.clone()));
    }
    repair.problems
}

/// How many bytes are read again in all, at most: what bounds the time for a long file full of errors.
const WORK: usize = 64 << 20;

/// The place of what was put in: no text is there.
const NOWHERE: Range<usize> = usize::MAX..usize::MAX;

struct Repair<'i> {
    /// Always a table.
    document: DeValue<'i>,
    problems: Vec<Problem>,
    /// The place and words of the last error that was noted.
    last: Option<(Range<usize>, String)>,
    /// Keys whose values were taken out, with their tables' places: that they are missing now is no news.
    taken_out: BTreeSet<(usize, String)>,
    trial: Option<Trial<'i>>,
}

/// A key that is missing, and where and with which values it may still be put in, the likeliest last.
struct Trial<'i> {
    key: String,
    span: Range<usize>,
    current: Path,
    left: Vec<(Path, DeValue<'i>)>,
}

/// The way from the document to a value.
type Path = Vec<Step>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl<'i> Repair<'i> {
    /// Notes the error and mends what it is about; `false` if that cannot be found.
    fn mend(&mut self, error: &Error) -> bool {
        let span = error.span().unwrap_or(0..0);
        if span == NOWHERE {
            return self.try_another_value();
        }
        if let Some((key, known)) = unknown_key(error.message()) {
            return self.rename_or_remove(key, &known, span, error);
        }
        if let Some(key) = missing_key(error.message()) {
            return self.put_in(key, span, error);
        }
        self.take_out(span, error)
    }

    fn note(&mut self, error: &Error, span: Range<usize>) {
        let place = (span.clone(), error.message().to_owned());
        if self.last.as_ref() != Some(&place) {
            self.problems.push(explain(error.message(), span));
            self.last = Some(place);
        }
    }

    fn rename_or_remove(&mut self, key: &str, known: &[&str], span: Range<usize>, error: &Error) -> bool {
        self.note(error, span.clone());
        let tables = paths(&self.document, &|_, value| {
            value.as_table().is_some_and(|table| table.keys().any(|key| key.span() == span))
        });
        let Some(table) = tables.first().and_then(|path| table_at(&mut self.document, path)) else {
            return false;
        };
        let Some((_, value)) = table.remove_entry(key) else {
            return false;
        };
        if let Some(meant) = nearest(key, known)
            && table.get(meant).is_none()
        {
            table.insert(Spanned::new(span, Cow::Owned(meant.to_owned())), value);
        }
        true
    }

    fn put_in(&mut self, key: &str, span: Range<usize>, error: &Error) -> bool {
        if !self.taken_out.contains(&(span.start, key.to_owned())) {
            self.note(error, span.clone());
        }
        // What was put in went to a table that takes any key and begins at the same place.
        if self.trial.as_ref().is_some_and(|trial| trial.key == key && trial.span == span) {
            return self.try_another_value();
        }
        let tables = paths(&self.document, &|place, value| *place == span && value.is_table());
        let tries = tables.into_iter().rev();
        let left = tries.flat_map(|path| values().map(move |value| (path.clone(), value))).collect();
        self.trial = Some(Trial { key: key.to_owned(), span, current: Vec::new(), left });
        self.put_in_next()
    }

    fn try_another_value(&mut self) -> bool {
        let Some(trial) = &self.trial else {
            return false;
        };
        if let Some(table) = table_at(&mut self.document, &trial.current) {
            table.remove(trial.key.as_str());
        }
        self.put_in_next()
    }

    fn put_in_next(&mut self) -> bool {
        let Some((trial, (path, value))) =
            self.trial.as_mut().and_then(|trial| trial.left.pop().map(|next| (trial, next)))
        else {
            return false;
        };
        trial.current = path;
        let Some(table) = table_at(&mut self.document, &trial.current) else {
            return false;
        };
        table.insert(Spanned::new(NOWHERE, Cow::Owned(trial.key.clone())), Spanned::new(NOWHERE, value));
        true
    }

    /// Removes the value that the error is about, or the innermost of those that begin with the same header.
    fn take_out(&mut self, span: Range<usize>, error: &Error) -> bool {
        self.note(error, span.clone());
        let mut found = paths(&self.document, &|place, _| *place == span);
        let Some(mut path) = found.pop() else {
            return false;
        };
        let Some(last) = path.pop() else {
            return false;
        };
        let parent = span_at(&self.document, &path);
        let Some(parent_value) = value_at(&mut self.document, &path) else {
            return false;
        };
        match (parent_value, last) {
            (DeValue::Table(table), Step::Key(key)) => {
                table.remove(key.as_str());
                self.taken_out.insert((parent.start, key));
            }
            (DeValue::Array(array), Step::Index(index)) => {
                let others = std::mem::replace(array, DeArray::new()).into_iter().enumerate();
                others.filter(|(at, _)| *at != index).for_each(|(_, value)| array.push(value));
            }
            _ => return false,
        }
        true
    }
}

/// Values of each type, the likeliest last. A number or text is also a time, a size or a list of ports.
fn values<'i>() -> impl Iterator<Item = DeValue<'i>> {
    [
        DeValue::Table(DeTable::new()),
        DeValue::Array(DeArray::new()),
        DeValue::Integer(DeInteger::default()),
        DeValue::String(Cow::Borrowed("1s")),
        DeValue::String(Cow::Borrowed("1")),
    ]
    .into_iter()
}

/// The ways to all values for which `wanted` says so, of the outer before the inner.
fn paths(document: &DeValue<'_>, wanted: &dyn Fn(&Range<usize>, &DeValue<'_>) -> bool) -> Vec<Path> {
    let mut found = Vec::new();
    collect(&(0..0), document, &mut Vec::new(), wanted, &mut found);
    found
}

fn collect(
    span: &Range<usize>,
    value: &DeValue<'_>,
    path: &mut Path,
    wanted: &dyn Fn(&Range<usize>, &DeValue<'_>) -> bool,
    found: &mut Vec<Path>,
) {
    if wanted(span, value) {
        found.push(path.clone());
    }
    for (step, value) in children(value) {
        path.push(step);
        collect(&value.span(), value.get_ref(), path, wanted, found);
        path.pop();
    }
}

fn children<'a, 'i>(value: &'a DeValue<'i>) -> Vec<(Step, &'a Spanned<DeValue<'i>>)> {
    match value {
        DeValue::Table(table) => {
            table.iter().map(|(key, value)| (Step::Key(key.get_ref().to_string()), value)).collect()
        }
        DeValue::Array(array) => {
            array.iter().enumerate().map(|(at, value)| (Step::Index(at), value)).collect()
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => Vec::new(),
    }
}

fn table_at<'a, 'i>(document: &'a mut DeValue<'i>, path: &[Step]) -> Option<&'a mut DeTable<'i>> {
    let value = value_at(document, path)?;
    if let DeValue::Table(table) = value { Some(table) } else { None }
}

fn value_at<'a, 'i>(document: &'a mut DeValue<'i>, path: &[Step]) -> Option<&'a mut DeValue<'i>> {
    path.iter().try_fold(document, |value, step| match (value, step) {
        (DeValue::Table(table), Step::Key(key)) => table.get_mut(key.as_str()).map(Spanned::get_mut),
        (DeValue::Array(array), Step::Index(at)) => array.get_mut(*at).map(Spanned::get_mut),
        _ => None,
    })
}

/// The place of the value at `path`.
fn span_at(document: &DeValue<'_>, path: &[Step]) -> Range<usize> {
    let mut span = 0..0;
    let mut value = document;
    for step in path {
        let next = match (value, step) {
            (DeValue::Table(table), Step::Key(key)) => table.get(key.as_str()),
            (DeValue::Array(array), Step::Index(at)) => array.get(*at),
            _ => None,
        };
        let Some(next) = next else { break };
        span = next.span();
        value = next.get_ref();
    }
    span
}
