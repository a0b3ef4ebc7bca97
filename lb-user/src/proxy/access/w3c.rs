//! A line of W3C's extended log file format (W3C working draft WD-logfile-960323), its first fields those that IIS writes by
//! default, in IIS's order, so that what reads IIS's logs reads these; `x-` fields are ours.

use std::time::Duration;

use super::json::without_query;
use super::line::{address, cut, date_and_time, field, millis, number};
use super::{Asked, Entry, Outcome, Query, mask, split_target, version};
use crate::wall::WallTime;

/// The fields, in their order.
const FIELDS: &str = "date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) \
    cs(Referer) sc-status sc-substatus sc-win32-status time-taken cs-host cs-version sc-bytes cs-bytes \
    x-request-id x-site x-route x-farm x-server x-pinned x-cause x-violation x-whole x-connect x-tls-connect \
    x-first-byte x-tls-version x-tls-cipher x-tls-resumed x-why";

/// Appends what stands at the beginning of a file, with its end.
pub(super) fn header(now: WallTime, text: &mut Vec<u8>) {
    text.extend_from_slice(
        concat!("#Software: Rollcall ", env!("CARGO_PKG_VERSION"), "\n#Version: 1.0\n#Date: ").as_bytes(),
    );
    date_and_time(now, b' ', text);
    text.extend_from_slice(b"\n#Fields: ");
    text.extend_from_slice(FIELDS.as_bytes());
    text.push(b'\n');
}

/// Appends the line that tells how many are lost, with its end.
pub(super) fn lost(lost: u64, text: &mut Vec<u8>) {
    text.extend_from_slice(b"#Remark: the reader of this log was too slow for ");
    number(lost, text);
    text.extend_from_slice(b" lines\n");
}

/// Appends the line of `entry`.
pub(super) fn line(entry: &Entry<'_>, query: Query, line: &mut Vec<u8>) {
    date_and_time(entry.time, b' ', line);
    line.push(b' ');
    address(entry.local.ip(), line);
    line.push(b' ');
    let (host, version) = match entry.asked {
        Asked::Request { head, host, user, .. } => {
            request(head, user, query, entry, line);
            (host, if head.method().is_empty() { "" } else { version(head.version()) })
        }
        Asked::Tcp { sni } => {
            line.extend_from_slice(b"- - - ");
            middle(entry, b"", line);
            line.extend_from_slice(b" - - ");
            (sni, "")
        }
    };
    ended(&entry.outcome, line);
    for text in [host, version] {
        line.push(b' ');
        field(cut(text.as_bytes()), line);
    }
    ours(entry, line);
}

fn request(
    head: &crate::proxy::http1::Head,
    user: &[u8],
    query: Query,
    entry: &Entry<'_>,
    line: &mut Vec<u8>,
) {
    let (path, its_query) = split_target(head);
    for text in [head.method(), path] {
        field(cut(text), line);
        line.push(b' ');
    }
    match (its_query, query) {
        (Some(its_query @ [_, ..]), Query::Masked) => {
            mask::query(its_query, |part| part_of_field(part, line))
        }
        (Some(_) | None, Query::Masked | Query::Off) => line.push(b'-'),
    }
    line.push(b' ');
    middle(entry, user, line);
    line.push(b' ');
    field(cut(head.value("user-agent").unwrap_or_default()), line);
    line.push(b' ');
    match (head.value("referer"), query) {
        (Some(url @ [_, ..]), Query::Masked) => mask::referrer(url, |part| part_of_field(part, line)),
        (Some(url @ [_, ..]), Query::Off) => {
            mask::referrer(without_query(url), |part| part_of_field(part, line));
        }
        (Some([]) | None, Query::Masked | Query::Off) => line.push(b'-'),
    }
    line.push(b' ');
}

fn part_of_field(part: &[u8], line: &mut Vec<u8>) {
    if !part.is_empty() {
        field(part, line);
    }
}

/// `s-port cs-username c-ip`.
fn middle(entry: &Entry<'_>, user: &[u8], line: &mut Vec<u8>) {
    number(entry.local.port().into(), line);
    line.push(b' ');
    field(cut(user), line);
    line.push(b' ');
    address(entry.client, line);
}

/// `sc-status sc-substatus sc-win32-status time-taken`.
fn ended(outcome: &Outcome, line: &mut Vec<u8>) {
    if outcome.status == 0 {
        line.push(b'-');
    } else {
        number(outcome.status.into(), line);
    }
    // ERROR_NETNAME_DELETED: what IIS writes when a client has gone.
    line.extend_from_slice(if outcome.whole { b" 0 0 " } else { b" 0 64 " });
    millis(outcome.took, line);
}

/// The bytes, and the fields that IIS does not have.
fn ours(entry: &Entry<'_>, line: &mut Vec<u8>) {
    let outcome = &entry.outcome;
    for bytes in [outcome.sent, outcome.received] {
        line.push(b' ');
        number(bytes, line);
    }
    line.push(b' ');
    match entry.asked {
        Asked::Request { id, .. } => id.write_to(line),
        Asked::Tcp { .. } => line.push(b'-'),
    }
    let names = &entry.names;
    let cause = outcome.cause.map_or("", |cause| cause.as_str());
    let violation = outcome.violation.map_or("", |violation| violation.name());
    let truth = |truth| if truth { "1" } else { "0" };
    for text in [names.site, names.route, names.farm, names.server, truth(outcome.pinned), cause, violation] {
        line.push(b' ');
        field(cut(text.as_bytes()), line);
    }
    line.push(b' ');
    line.extend_from_slice(truth(outcome.whole).as_bytes());
    for time in [outcome.connect, outcome.greet, outcome.first_byte] {
        line.push(b' ');
        optional(time, line);
    }
    let tls = entry.tls.map_or(["", "", ""], |tls| [tls.version, tls.cipher, truth(tls.resumed)]);
    for text in tls {
        line.push(b' ');
        field(text.as_bytes(), line);
    }
    line.push(b' ');
    field(cut(entry.why.as_bytes()), line);
}

fn optional(time: Option<Duration>, line: &mut Vec<u8>) {
    match time {
        Some(time) => millis(time, line),
        None => line.push(b'-'),
    }
}
