//! What a request's head says of the request: where it goes, how long its body is, and what becomes of its connection.

use super::body::{Length, content_length};
use super::field::{Field, Known};
use super::head::Head;
use super::{Version, Violation};

/// A request that has one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing<'a> {
    /// The host that it is for, with its port if it has one.
    pub host: &'a str,
    /// Path and query, from the first `/` on.
    pub target: &'a str,
    /// Its body.
    pub body: Length,
    /// Whether the client's connection can carry another request.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Whether it asks for a WebSocket on this connection (RFC 6455, 4.1).
    pub websocket: bool,
}

/// Reads a request's framing, or says why it has none.
pub fn framing(head: &Head) -> Result<Framing<'_>, Violation> {
    if head.method() == b"CONNECT" {
        return Err(Violation::Tunnel);
    }
    let body = length(head)?;
    let host = one_host(head)?;
    let target = origin_form(head, host)?;
    let says = |known, token: &str| has_token(head.values(known), token);
    let keep_alive = match head.version() {
        Version::Http11 => !says(Known::Connection, "close"),
        Version::Http10 => says(Known::Connection, "keep-alive") && !says(Known::Connection, "close"),
        // A stream is one request's.
        Version::Http2 => false,
    };
    let websocket = head.version() == Version::Http11
        && says(Known::Upgrade, "websocket")
        && says(Known::Connection, "upgrade")
        && head.method() == b"GET"
        && body == Length::None;
    let expects_continue =
        head.version() != Version::Http10 && body != Length::None && says(Known::Expect, "100-continue");
    Ok(Framing { host, target, body, keep_alive, expects_continue, websocket })
}

fn length(head: &Head) -> Result<Length, Violation> {
    if let Some(violation) = head.fields().find_map(|field| disguised(&field)) {
        return Err(violation);
    }
    let chunked = is_chunked(head)?;
    match (chunked, content_length(head)?) {
        (true, Some(_)) => Err(Violation::TwoLengths),
        (true, None) => Ok(Length::Chunked),
        (false, Some(0) | None) => Ok(Length::None),
        (false, Some(length)) => Ok(Length::Exact(length)),
    }
}

/// A length under a name that gateways and CGI cannot tell from its own. Nobody sends it by mistake.
fn disguised(field: &Field<'_>) -> Option<Violation> {
    let is = |name: &str| field.known == Known::Alias && field.name.eq_ignore_ascii_case(name.as_bytes());
    if is("content_length") {
        return Some(Violation::ContentLength);
    }
    is("transfer_encoding").then_some(Violation::TransferEncoding)
}

/// Whether the body comes in chunks. What a server might read otherwise is refused: a list, a parameter, a second field.
pub(super) fn is_chunked(head: &Head) -> Result<bool, Violation> {
    let mut codings = head.values(Known::TransferEncoding);
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None)
            if coding.eq_ignore_ascii_case(b"chunked") && head.version() != Version::Http10 =>
        {
            Ok(true)
        }
        (Some(_), _) => Err(Violation::TransferEncoding),
    }
}

fn one_host(head: &Head) -> Result<&str, Violation> {
    let mut hosts = head.values(Known::Host);
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Violation::Host);
    };
    let host = std::str::from_utf8(host).map_err(|_| Violation::Host)?;
    if is_host(host) { Ok(host) } else { Err(Violation::Host) }
}

/// A name, an IPv4 address or an IPv6 one in brackets, with or without a port (RFC 9110, 7.2). A port without digits, which
/// RFC 3986, 3.2.3 allows, is refused: not all servers take it.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        Some(_) | None => (text, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let named = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.len() <= 255 && name.chars().all(plain),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    named && port.is_none_or(is_port)
}

/// The target as path and query. A client may name the host in it once more (RFC 9112, 3.2.2); then it must be the same.
fn origin_form<'a>(head: &'a Head, host: &str) -> Result<&'a str, Violation> {
    let target = std::str::from_utf8(head.target()).map_err(|_| Violation::Target)?;
    if target.starts_with('/') {
        return Ok(target);
    }
    let (scheme, rest) = target.split_once("://").ok_or(Violation::Target)?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(Violation::Target);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !authority.eq_ignore_ascii_case(host) {
        return Err(Violation::OtherHost);
    }
    match path.as_bytes().first() {
        Some(b'/') => Ok(path),
        None => Ok("/"),
        // A query without a path: not all would ask for the same.
        Some(_) => Err(Violation::Target),
    }
}

/// Whether a list of tokens (RFC 9110, 5.6.1) has `token`.
pub(super) fn has_token<'a>(values: impl Iterator<Item = &'a [u8]>, token: &str) -> bool {
    tokens(values).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

/// The tokens of a list.
pub(crate) fn tokens<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::super::head::HeadLimits;
    use super::*;

    fn head(line: &str, fields: &str) -> Head {
        let mut head = Head::default();
        let text = format!("{line}\r\n{fields}\r\n");
        head.read_request(text.as_bytes(), &HeadLimits::default()).unwrap();
        head
    }

    #[test]
    fn a_body_has_one_length_or_the_request_is_refused() {
        for (fields, wanted) in [
            ("", Ok(Length::None)),
            ("Content-Length: 0\r\n", Ok(Length::None)),
            ("Content-Length: 5\r\n", Ok(Length::Exact(5))),
            ("Content-Length: 2147483648\r\n", Ok(Length::Exact(2 << 30))),
            ("Transfer-Encoding: Chunked\r\n", Ok(Length::Chunked)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(Violation::ContentLength)),
            ("Content-Length: 5, 5\r\n", Err(Violation::ContentLength)),
            ("Content-Length: +5\r\n", Err(Violation::ContentLength)),
            ("Content-Length: 0x5\r\n", Err(Violation::ContentLength)),
            ("Content-Length:\r\n", Err(Violation::ContentLength)),
            ("Content-Length: 99999999999999999999\r\n", Err(Violation::ContentLength)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(Violation::TwoLengths)),
            ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Err(Violation::TwoLengths)),
            ("Transfer-Encoding: identity\r\n", Err(Violation::TransferEncoding)),
            ("Transfer-Encoding: identity, chunked\r\n", Err(Violation::TransferEncoding)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(Violation::TransferEncoding)),
            ("Transfer-Encoding: chunked;a=b\r\n", Err(Violation::TransferEncoding)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(Violation::TransferEncoding)),
            ("Transfer-Encoding: xchunked\r\n", Err(Violation::TransferEncoding)),
            ("Transfer-Encoding:\r\n", Err(Violation::TransferEncoding)),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Err(Violation::TransferEncoding),
            ),
            ("Content_Length: 5\r\n", Err(Violation::ContentLength)),
            ("Content-Length: 5\r\ntransfer_encoding: chunked\r\n", Err(Violation::TransferEncoding)),
        ] {
            let head = head("POST / HTTP/1.1", &format!("Host: a\r\n{fields}"));
            assert_eq!(framing(&head).map(|framing| framing.body), wanted, "{fields}");
        }
        let old = head("POST / HTTP/1.0", "Host: a\r\nTransfer-Encoding: chunked\r\n");
        assert_eq!(framing(&old), Err(Violation::TransferEncoding));
    }

    #[test]
    fn a_request_names_one_host() {
        for (target, fields, wanted) in [
            ("/", "Host: mail.example.test\r\n", Ok(("mail.example.test", "/"))),
            ("/a?b", "Host: MAIL.example.test:443\r\n", Ok(("MAIL.example.test:443", "/a?b"))),
            ("/", "Host: [::1]:443\r\n", Ok(("[::1]:443", "/"))),
            ("/", "Host: 192.168.50.8\r\n", Ok(("192.168.50.8", "/"))),
            ("/", "", Err(Violation::Host)),
            ("/", "Host:\r\n", Err(Violation::Host)),
            ("/", "Host: a\r\nHost: a\r\n", Err(Violation::Host)),
            ("/", "Host: a, b\r\n", Err(Violation::Host)),
            ("/", "Host: a/b\r\n", Err(Violation::Host)),
            ("/", "Host: user@a\r\n", Err(Violation::Host)),
            ("/", "Host: a:x\r\n", Err(Violation::Host)),
            ("/", "Host: a:\r\n", Err(Violation::Host)),
            ("/", "Host: a:+443\r\n", Err(Violation::Host)),
            ("/", "Host: a:65536\r\n", Err(Violation::Host)),
            ("/", "Host: a:443:443\r\n", Err(Violation::Host)),
            ("/", "Host: [::1\r\n", Err(Violation::Host)),
            ("/", "Host: a b\r\n", Err(Violation::Host)),
            ("https://a/x?y", "Host: A\r\n", Ok(("A", "/x?y"))),
            ("http://a", "Host: a\r\n", Ok(("a", "/"))),
            ("https://a?x", "Host: a\r\n", Err(Violation::Target)),
            ("https://b/", "Host: a\r\n", Err(Violation::OtherHost)),
            ("https://user@a/", "Host: a\r\n", Err(Violation::OtherHost)),
            ("ftp://a/", "Host: a\r\n", Err(Violation::Target)),
            ("*", "Host: a\r\n", Err(Violation::Target)),
            ("a:443", "Host: a\r\n", Err(Violation::Target)),
            ("owa", "Host: a\r\n", Err(Violation::Target)),
        ] {
            let head = head(&format!("GET {target} HTTP/1.1"), fields);
            let found = framing(&head).map(|framing| (framing.host, framing.target));
            assert_eq!(found, wanted, "{target} {fields}");
        }
        assert_eq!(framing(&head("CONNECT a:443 HTTP/1.1", "Host: a:443\r\n")), Err(Violation::Tunnel));
    }

    #[test]
    fn what_becomes_of_the_connection_is_said_in_the_head() {
        let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
        for (line, fields, (keep_alive, websocket)) in [
            ("GET / HTTP/1.1", "", (true, false)),
            ("GET / HTTP/1.1", "Connection: Close\r\n", (false, false)),
            ("GET / HTTP/1.1", "Connection: x, close\r\n", (false, false)),
            ("GET / HTTP/1.0", "", (false, false)),
            ("GET / HTTP/1.0", "Connection: Keep-Alive\r\n", (true, false)),
            ("GET / HTTP/1.1", upgrade, (true, true)),
            ("POST / HTTP/1.1", upgrade, (true, false)),
            ("GET / HTTP/1.0", upgrade, (true, false)),
            ("GET / HTTP/1.1", "Upgrade: websocket\r\n", (true, false)),
            ("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade: h2c\r\n", (true, false)),
        ] {
            let head = head(line, &format!("Host: a\r\n{fields}"));
            let found = framing(&head).unwrap();
            assert_eq!((found.keep_alive, found.websocket), (keep_alive, websocket), "{line} {fields}");
        }
    }

    #[test]
    fn only_who_has_a_body_to_send_can_wait_for_the_word() {
        for (line, fields, wanted) in [
            ("POST / HTTP/1.1", "Expect: 100-Continue\r\nContent-Length: 3\r\n", true),
            ("POST / HTTP/1.1", "Expect: 100-continue\r\n", false),
            ("POST / HTTP/1.0", "Expect: 100-continue\r\nContent-Length: 3\r\n", false),
            ("POST / HTTP/1.1", "Expect: 200-ok\r\nContent-Length: 3\r\n", false),
        ] {
            let head = head(line, &format!("Host: a\r\n{fields}"));
            assert_eq!(framing(&head).unwrap().expects_continue, wanted, "{line} {fields}");
        }
    }
}
