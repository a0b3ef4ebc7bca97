//! What the proxy itself says to clients.

use std::time::Duration;

use super::Problems;
use super::routes::networks;
use crate::config::model::{Maintenance, PLAIN_TEXT, Response};
use crate::config::problem::Problem;
use crate::config::raw::{MaintenanceEntry, MaintenanceTable, Time};
use crate::config::spanned::Spanned;

/// An answer of a route's own.
pub(super) fn response(
    status: u16,
    text: &Spanned<String>,
    content_type: Option<&Spanned<String>>,
    problems: &mut Problems,
) -> Option<Response> {
    let body = body(text.get_ref(), text, problems);
    let content_type = media_type(content_type, problems);
    if matches!(status, 204 | 205 | 304) && !text.get_ref().is_empty() {
        let problem = Problem::at(text.span(), format!("an answer with status {status} has no content"));
        problems.add(problem.hint("respond = \"\""));
        return None;
    }
    Some(Response { status, content_type: content_type?, body: body? })
}

/// What a site that is closed says, if it is.
pub(super) fn maintenance(
    raw: Option<&Spanned<MaintenanceEntry>>,
    problems: &mut Problems,
) -> Option<Option<Maintenance>> {
    let Some(raw) = raw else {
        return Some(None);
    };
    let MaintenanceEntry(MaintenanceTable { text, content_type, retry_after, allow }) = raw.get_ref();
    let body = body(text, raw, problems);
    let content_type = media_type(content_type.as_ref(), problems);
    let second = Duration::from_secs(1);
    let retry_after = match retry_after {
        Some(time) => whole_seconds(time, problems)
            .and_then(|time| problems.time("retry_after", time, second..=second * 86_400)),
        None => Some(second * 300),
    };
    let allow = networks(allow, problems);
    Some(Some(Maintenance {
        body: body?,
        content_type: content_type?,
        retry_after: retry_after?,
        allow: allow?,
    }))
}

/// Retry-After knows nothing smaller.
fn whole_seconds<'a>(raw: &'a Spanned<Time>, problems: &mut Problems) -> Option<&'a Spanned<Time>> {
    let Time(time) = *raw.get_ref();
    problems.require((time.subsec_nanos() == 0).then_some(raw), || {
        Problem::at(raw.span(), "`retry_after` is told to clients in whole seconds")
    })
}

fn body<T>(text: &str, place: &Spanned<T>, problems: &mut Problems) -> Option<String> {
    problems.require((text.len() <= LONGEST_BODY).then(|| text.to_owned()), || {
        let text = format!("an answer of {} bytes, more than {LONGEST_BODY}", text.len());
        Problem::at(place.span(), text)
            .hint("have a server answer it: the configuration is no place for files")
    })
}

/// RFC 9110, 8.3.1, as far as it matters that it can be written in a header field.
fn media_type(raw: Option<&Spanned<String>>, problems: &mut Problems) -> Option<String> {
    let Some(raw) = raw else {
        return Some(PLAIN_TEXT.to_owned());
    };
    let text = raw.get_ref();
    let named = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c))
    };
    let bare = text.split(';').next().unwrap_or_default().trim_end();
    let two = bare.split_once('/').is_some_and(|(kind, of_it)| named(kind) && named(of_it));
    let writable = text.len() <= 128 && text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    problems.require((two && writable).then(|| text.clone()), || {
        Problem::at(raw.span(), format!("\"{text}\" is not a media type"))
            .hint("\"text/html; charset=utf-8\", \"application/json\"")
    })
}

/// Most bytes of an answer that is written in the configuration.
const LONGEST_BODY: usize = 64 << 10;
