//! A line as a JSON object on one line, in ASCII. What there is nothing to say of is left out.

use super::line::{address, cut, date_and_time, json, micros, number, thousandths};
use super::{Asked, Entry, Names, Outcome, Query, TlsFacts, mask, split_target, version};
use crate::proxy::http1::Head;
use crate::wall::WallTime;

/// Appends the line of `entry`.
pub(super) fn line(entry: &Entry<'_>, query: Query, line: &mut Vec<u8>) {
    let Entry { time, client, local, tls, asked, names, outcome, why } = entry;
    begin(*time, line);
    if let Asked::Request { id, .. } = asked {
        line.extend_from_slice(b",\"id\":\"");
        id.write_to(line);
        line.push(b'"');
    }
    line.extend_from_slice(b",\"client\":\"");
    address(*client, line);
    line.extend_from_slice(b"\",\"address\":\"");
    address(local.ip(), line);
    line.extend_from_slice(b"\",\"port\":");
    number(local.port().into(), line);
    if let Some(tls) = tls {
        greeted(tls, line);
    }
    match asked {
        Asked::Request { head, host, user, .. } => request(head, host, user, query, line),
        Asked::Tcp { sni } => text("sni", sni.as_bytes(), line),
    }
    let Names { site, route, farm, server } = names;
    let site_or_service = if matches!(asked, Asked::Tcp { .. }) { "tcp" } else { "site" };
    for (key, name) in [(site_or_service, site), ("route", route), ("farm", farm), ("server", server)] {
        text(key, name.as_bytes(), line);
    }
    ended(outcome, why, matches!(asked, Asked::Request { .. }), line);
    line.push(b'}');
}

/// Appends the line that tells how many are lost, with its end.
pub(super) fn lost(now: WallTime, lost: u64, line: &mut Vec<u8>) {
    begin(now, line);
    line.extend_from_slice(b",\"lost\":");
    number(lost, line);
    line.extend_from_slice(b"}\n");
}

fn begin(time: WallTime, line: &mut Vec<u8>) {
    line.extend_from_slice(b"{\"time\":\"");
    date_and_time(time, b'T', line);
    line.push(b'.');
    thousandths(time, line);
    line.extend_from_slice(b"Z\"");
}

fn greeted(tls: &TlsFacts, line: &mut Vec<u8>) {
    text("tls", tls.version.as_bytes(), line);
    text("cipher", tls.cipher.as_bytes(), line);
    truth("resumed", tls.resumed, line);
}

fn request(head: &Head, host: &str, user: &[u8], query: Query, line: &mut Vec<u8>) {
    let (path, its_query) = split_target(head);
    text("host", host.as_bytes(), line);
    if head.method().is_empty() {
        // Nothing of the head was understood.
        return;
    }
    text("method", head.method(), line);
    text("path", path, line);
    if let (Some(its_query), Query::Masked) = (its_query, query) {
        masked("query", line, |put| mask::query(its_query, put));
    }
    text("version", version(head.version()).as_bytes(), line);
    text("user", user, line);
    text("agent", head.value("user-agent").unwrap_or_default(), line);
    if let Some(referrer) = head.value("referer") {
        match query {
            Query::Masked => masked("referrer", line, |put| mask::referrer(referrer, put)),
            Query::Off => masked("referrer", line, |put| mask::referrer(without_query(referrer), put)),
        }
    }
}

/// A URL up to its query.
pub(super) fn without_query(url: &[u8]) -> &[u8] {
    let end = url.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(url.len());
    &url[..end]
}

fn ended(outcome: &Outcome, why: &str, is_request: bool, line: &mut Vec<u8>) {
    if outcome.status != 0 {
        count("status", outcome.status.into(), line);
    }
    if let Some(cause) = outcome.cause {
        text("cause", cause.as_str().as_bytes(), line);
    }
    if let Some(violation) = outcome.violation {
        text("violation", violation.name().as_bytes(), line);
    }
    text("why", why.as_bytes(), line);
    if is_request {
        truth("pinned", outcome.pinned, line);
    }
    let Outcome { connect, greet, first_byte, took, .. } = *outcome;
    for (key, time) in
        [("connect_ms", connect), ("tls_ms", greet), ("first_byte_ms", first_byte), ("total_ms", Some(took))]
    {
        if let Some(time) = time {
            begin_value(key, line);
            micros(time, line);
        }
    }
    count("received", outcome.received, line);
    count("sent", outcome.sent, line);
    truth("whole", outcome.whole, line);
}

fn text(key: &str, value: &[u8], line: &mut Vec<u8>) {
    if !value.is_empty() {
        begin_value(key, line);
        line.push(b'"');
        json(cut(value), line);
        line.push(b'"');
    }
}

fn masked(key: &str, line: &mut Vec<u8>, write: impl FnOnce(&mut dyn FnMut(&[u8]))) {
    begin_value(key, line);
    line.push(b'"');
    write(&mut |part| json(part, line));
    line.push(b'"');
}

fn count(key: &str, value: u64, line: &mut Vec<u8>) {
    begin_value(key, line);
    number(value, line);
}

fn truth(key: &str, value: bool, line: &mut Vec<u8>) {
    begin_value(key, line);
    line.extend_from_slice(if value { b"true" } else { b"false" });
}

fn begin_value(key: &str, line: &mut Vec<u8>) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(key.as_bytes());
    line.extend_from_slice(b"\":");
}
