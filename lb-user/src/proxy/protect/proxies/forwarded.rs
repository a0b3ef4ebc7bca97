//! `Forwarded` and the addresses in it and in `X-Forwarded-For` (RFC 7239, sections 4 and 6).

use std::net::{IpAddr, Ipv6Addr};

use super::Hop;

/// The `for` of each element, from first to last; `None`: it cannot be told where one ends.
pub(super) fn hops(value: &[u8]) -> Option<Vec<Hop>> {
    split(value, b',')?.into_iter().map(hop).collect()
}

/// The `for` of an element: `for=192.0.2.60;proto=http`. One that has none hides it, two say two things.
fn hop(element: &[u8]) -> Option<Hop> {
    let mut found = None;
    for pair in split(element, b';')? {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"for") && found.replace(node(unquoted(value)?)).is_some() {
            return None;
        }
    }
    Some(found.unwrap_or(Hop::Unknown))
}

/// The text of a token or of a quoted string. No address has anything that needs to be escaped.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    match value.strip_prefix(b"\"") {
        None => Some(value),
        Some(rest) => rest.strip_suffix(b"\"").filter(|text| !text.iter().any(|byte| b"\\\"".contains(byte))),
    }
}

/// The parts between separators that no quoted string holds; `None`: a string does not end.
fn split(text: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match (quoted, *byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            (false, byte) if byte == separator => {
                parts.push(text[from..at].trim_ascii());
                from = at + 1;
            }
            (true | false, _) => {}
        }
    }
    parts.push(text[from..].trim_ascii());
    (!quoted).then_some(parts)
}

/// An address, with or without a port: `192.0.2.60`, `192.0.2.60:4711`, `[2001:db8::1]:4711`, `2001:db8::1`, `unknown`, `_hidden`.
pub(super) fn node(text: &[u8]) -> Hop {
    let text = text.trim_ascii();
    if text.eq_ignore_ascii_case(b"unknown") || text.starts_with(b"_") {
        return Hop::Unknown;
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return Hop::Malformed;
    };
    let address = match (text.strip_prefix('['), text.parse::<IpAddr>()) {
        (_, Ok(address)) => Some(address),
        (Some(rest), Err(_)) => rest.split_once(']').and_then(|(address, port)| {
            let alone = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            address.parse::<Ipv6Addr>().ok().filter(|_| alone).map(IpAddr::V6)
        }),
        (None, Err(_)) => text.split_once(':').and_then(|(address, port)| {
            let address = address.parse().ok().map(IpAddr::V4);
            address.filter(|_| is_port(port))
        }),
    };
    address.map_or(Hop::Malformed, |address| Hop::Address(address.to_canonical()))
}

/// A port, or what stands for one.
fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() || text.starts_with('_')
}
