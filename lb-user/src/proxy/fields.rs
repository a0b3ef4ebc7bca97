//! Which header fields cross the proxy, and what it says of itself. Pure.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use super::edits::Edits;
use super::http1::request::tokens;
use super::http1::{Field, Head, Known, Length, Version, write_field};
use super::number::RequestId;
use super::pin;

/// What a server is told of the client.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Its address.
    pub client: IpAddr,
    /// The request's number, which the log has, too.
    pub request: RequestId,
    /// What rules, the site and its route change of the client's fields.
    pub edits: &'a Edits<'a>,
}

/// Writes the head of the request that a server gets: the client's, less what belongs to the client's connection and what only a
/// proxy may say.
///
/// Content-Length stays as it came, since the body does; a transfer coding is written anew. Fields with a `_` in their name are
/// left out: IIS cannot tell them from those with `-`. So are, for the same reason, Exchange's own between its front and back
/// ends, as fields and as cookies (CVE-2021-26855).
pub fn to_server(
    into: &mut Vec<u8>,
    head: &Head,
    target: &str,
    body: Length,
    websocket: bool,
    origin: Origin<'_>,
) {
    into.extend_from_slice(head.method());
    into.push(b' ');
    into.extend_from_slice(target.as_bytes());
    into.extend_from_slice(b" HTTP/1.1\r\n");
    for field in crossing(head) {
        if origin.edits.replace(field.name) {
            continue;
        }
        if field.known == Known::Cookie {
            cookies(into, field);
        } else if field.known.crosses() && !field.known.is_hop_by_hop() {
            write_field(into, field.name, field.value);
        }
    }
    if body == Length::Chunked {
        into.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    for (name, value) in origin.edits.said() {
        write_field(into, name.as_bytes(), value.as_bytes());
    }
    if websocket {
        into.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    }
    into.extend_from_slice(b"X-Forwarded-For: ");
    // Writing to memory does not fail.
    write!(into, "{}", origin.client).ok();
    into.extend_from_slice(b"\r\nX-Forwarded-Proto: https\r\nX-Request-Id: ");
    origin.request.write_to(into);
    into.extend_from_slice(b"\r\n\r\n");
}

/// How a response goes to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The framing of its body.
    pub body: Length,
    /// What the client said of its protocol.
    pub version: Version,
    /// Whether the client's connection goes on.
    pub keep_alive: bool,
    /// Whether the connection becomes a WebSocket.
    pub websocket: bool,
    /// Whether a proxy shares the client's connection between its clients: then nobody is asked to log a connection on.
    pub shared: bool,
}

impl Delivery {
    /// Of an interim response.
    pub fn interim() -> Self {
        Self {
            body: Length::None,
            version: Version::Http11,
            keep_alive: true,
            websocket: false,
            shared: false,
        }
    }
}

/// What the proxy says in a response beside its server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Says<'a> {
    /// The site's own word on Strict-Transport-Security, which then counts alone.
    pub hsts: Option<&'a str>,
    /// The `Location` in place of the server's.
    pub location: Option<&'a str>,
    /// A cookie more.
    pub cookie: Option<&'a str>,
    /// What the site and the route change of the server's fields.
    pub edits: Option<&'a Edits<'a>>,
}

/// Writes the head of the response that a client gets: the server's, less what belongs to the server's connection. What never has content has no length either
/// (RFC 9110, 8.6). To HTTP/2, whose requests share a connection, nobody is asked to log a connection on.
pub fn to_client(into: &mut Vec<u8>, head: &Head, delivery: Delivery, says: Says<'_>) {
    into.extend_from_slice(b"HTTP/1.1 ");
    write!(into, "{}", head.status()).ok();
    into.push(b' ');
    into.extend_from_slice(head.reason());
    into.extend_from_slice(b"\r\n");
    let is_empty = matches!(head.status(), 100..=199 | 204);
    let is_http2 = delivery.version == Version::Http2;
    let in_common = delivery.shared || is_http2;
    for field in crossing(head) {
        let said_by_us = field.known == Known::StrictTransportSecurity && says.hsts.is_some()
            || field.known == Known::Location && says.location.is_some();
        let untrue = field.known == Known::ContentLength && is_empty;
        let replaced = says.edits.is_some_and(|edits| edits.replace(field.name));
        let kept_back = field.known == Known::DisableAffinity || said_by_us || replaced || untrue;
        if kept_back || field.known.is_hop_by_hop() {
            continue;
        }
        if in_common && matches!(field.known, Known::WwwAuthenticate | Known::PersistentAuth) {
            if let Some(rest) = pin::without_connection_schemes(field) {
                write_field(into, field.name, &rest);
            }
        } else {
            write_field(into, field.name, field.value);
        }
    }
    let said =
        [("Strict-Transport-Security", says.hsts), ("Location", says.location), ("Set-Cookie", says.cookie)];
    for (name, value) in said {
        if let Some(value) = value {
            write_field(into, name.as_bytes(), value.as_bytes());
        }
    }
    for (name, value) in says.edits.into_iter().flat_map(Edits::said) {
        write_field(into, name.as_bytes(), value.as_bytes());
    }
    if delivery.body == Length::Chunked && !is_http2 {
        into.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    match (delivery.websocket, delivery.keep_alive, delivery.version) {
        (true, ..) => into.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        (false, _, Version::Http2) => {}
        (false, false, _) => into.extend_from_slice(b"Connection: close\r\n"),
        (false, true, Version::Http10) => into.extend_from_slice(b"Connection: keep-alive\r\n"),
        (false, true, Version::Http11) => {}
    }
    into.extend_from_slice(b"\r\n");
}

/// An answer of the proxy's own.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// 200 to 599.
    pub status: u16,
    /// The reason phrase.
    pub reason: &'a str,
    /// The body.
    pub text: &'a str,
    /// Its media type.
    pub content_type: &'a str,
    /// When the client is to come again.
    pub retry_after: Option<Duration>,
    /// Whether it is to a HEAD request: then there is no content.
    pub to_head: bool,
    /// Where a client is sent.
    pub location: Option<&'a str>,
    /// The site's word on Strict-Transport-Security.
    pub hsts: Option<&'a str>,
    /// What the site and the route change of an answer's fields.
    pub edits: &'a Edits<'a>,
    /// The request's number.
    pub request: RequestId,
    /// Whether the connection goes on.
    pub keep_alive: bool,
}

/// Writes the head of an answer of the proxy's own. The content that follows: what never has any (RFC 9110, 6.4.1 and 15.3.6) gets
/// none.
pub fn own<'a>(into: &mut Vec<u8>, answer: Own<'a>) -> &'a str {
    let Own { status, reason, content_type, retry_after, to_head, location, hsts, edits, .. } = answer;
    let text = if matches!(status, 204 | 205 | 304) { "" } else { answer.text };
    write!(into, "HTTP/1.1 {status} {reason}\r\n").ok();
    if !text.is_empty() && !edits.replace(b"Content-Type") {
        write_field(into, b"Content-Type", content_type.as_bytes());
    }
    if let Some(time) = retry_after.filter(|_| !edits.replace(b"Retry-After")) {
        write!(into, "Retry-After: {}\r\n", time.as_secs()).ok();
    }
    for (name, value) in [("Location", location), ("Strict-Transport-Security", hsts)] {
        if let Some(value) = value {
            write_field(into, name.as_bytes(), value.as_bytes());
        }
    }
    if !matches!(status, 204 | 304) {
        write!(into, "Content-Length: {}\r\n", text.len()).ok();
    }
    into.extend_from_slice(b"X-Request-Id: ");
    answer.request.write_to(into);
    into.extend_from_slice(b"\r\n");
    for (name, value) in edits.said() {
        write_field(into, name.as_bytes(), value.as_bytes());
    }
    if !answer.keep_alive {
        into.extend_from_slice(b"Connection: close\r\n");
    }
    into.extend_from_slice(b"\r\n");
    if to_head { "" } else { text }
}

/// The fields that no `Connection` field takes back. Only what this proxy does not know can be taken back: a client must not be
/// able to hide from a server who asks for what.
fn crossing(head: &Head) -> impl Iterator<Item = Field<'_>> {
    let named = head.values(Known::Connection).any(tokens_name_fields);
    head.fields().filter(move |field| {
        !(named
            && field.known == Known::Other
            && tokens(head.values(Known::Connection)).any(|token| token.eq_ignore_ascii_case(field.name)))
    })
}

/// Whether a `Connection` field names anything but what nearly all name.
fn tokens_name_fields(value: &[u8]) -> bool {
    let plain = |token: &[u8]| {
        ["close", "keep-alive", "upgrade"].iter().any(|known| token.eq_ignore_ascii_case(known.as_bytes()))
    };
    !tokens(std::iter::once(value)).all(plain)
}

/// A cookie field, less the cookies with which Exchange's front end tells its back end where to go.
fn cookies(into: &mut Vec<u8>, field: Field<'_>) {
    let hostile = |pair: &[u8]| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        is("x-beresource") || is("x-anonresource-backend")
    };
    let pairs = || field.value.split(|byte| *byte == b';');
    if !pairs().any(hostile) {
        return write_field(into, field.name, field.value);
    }
    let kept: Vec<&[u8]> = pairs().filter(|pair| !hostile(pair)).map(<[u8]>::trim_ascii).collect();
    if !kept.is_empty() {
        write_field(into, field.name, &kept.join(&b"; "[..]));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::http1::HeadLimits;
    use super::*;

    fn request(fields: &str) -> Head {
        let mut head = Head::default();
        let text = format!("POST /owa/ HTTP/1.1\r\n{fields}\r\n");
        head.read_request(text.as_bytes(), &HeadLimits::default()).unwrap();
        head
    }

    fn id() -> RequestId {
        "0000000000000007-1".parse().unwrap()
    }

    fn sent(fields: &str, body: Length) -> String {
        let mut into = Vec::new();
        let origin = Origin { client: "203.0.113.5".parse().unwrap(), request: id(), edits: &Edits::NONE };
        to_server(&mut into, &request(fields), "/owa/", body, false, origin);
        String::from_utf8(into).unwrap()
    }

    const OURS: &str = "X-Forwarded-For: 203.0.113.5\r\nX-Forwarded-Proto: https\r\nX-Request-Id: 0000000000000007-1\r\n\r\n";

    #[test]
    fn the_server_learns_the_client_from_us_alone() {
        for (fields, kept) in [
            ("Host: a\r\nX-Custom: 1\r\n", "Host: a\r\nX-Custom: 1\r\n"),
            ("X-Forwarded-For: 6.6.6.6\r\nx-forwarded-host: b\r\nForwarded: for=6.6.6.6\r\n", ""),
            ("X_Forwarded_For: 6.6.6.6\r\nX_Harmless: 1\r\n", ""),
            ("X-Real-IP: 6.6.6.6\r\nFront-End-Https: on\r\nX-ARR-SSL: a\r\nX-Original-URL: /\r\n", ""),
            ("X-CommonAccessToken: a\r\nX-IsFromCafe: 1\r\nX-BEResource: b\r\nX-Request-Id: c\r\n", ""),
            ("Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Authorization: a\r\n", ""),
            ("Connection: X-Custom, close\r\nX-Custom: 1\r\nX-Other: 2\r\n", "X-Other: 2\r\n"),
            (
                "Connection: Host, Authorization, Cookie, Expect\r\nHost: a\r\nAuthorization: Negotiate A\r\nCookie: b\r\n",
                "Host: a\r\nAuthorization: Negotiate A\r\nCookie: b\r\n",
            ),
            ("Cookie: a=1; X-BEResource=s/a~1; b=2\r\n", "Cookie: a=1; b=2\r\n"),
            ("Cookie: x-anonresource-backend=a\r\nCookie: c=3\r\n", "Cookie: c=3\r\n"),
        ] {
            assert_eq!(
                sent(fields, Length::None),
                format!("POST /owa/ HTTP/1.1\r\n{kept}{OURS}"),
                "{fields}"
            );
        }
    }

    #[test]
    fn every_field_that_only_a_proxy_or_exchanges_front_end_may_say_is_taken_from_clients() {
        for name in [
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "X-Forwarded-Proto",
            "X-Forwarded-Server",
            "X-Forwarded-",
            "Forwarded",
            "X-Real-IP",
            "X-ARR-ClientCert",
            "X-ARR-LOG-ID",
            "X-ARR-SSL",
            "X-Original-URL",
            "X-Original-Host",
            "X-Rewrite-URL",
            "Front-End-Https",
            "X-CommonAccessToken",
            "X-IsFromCafe",
            "X-BEResource",
            "X-AnonResource-Backend",
            // What IIS could take for one of them, and so whatever has a `_`.
            "X_Forwarded_For",
            "X-Original_URL",
            "X_CommonAccessToken",
            "X-Common_Access",
            "a_b",
            "_",
        ] {
            for name in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                let fields = format!("X-Before: 1\r\n{name}: 6.6.6.6\r\n{name}: b\r\nX-After: 2\r\n");
                let kept = "X-Before: 1\r\nX-After: 2\r\n";
                assert_eq!(
                    sent(&fields, Length::None),
                    format!("POST /owa/ HTTP/1.1\r\n{kept}{OURS}"),
                    "{name}"
                );
            }
        }
        for name in ["X-BEResource", "x-beresource", "X-AnonResource-Backend", "X-ANONRESOURCE-BACKEND"] {
            for (cookies, kept) in [
                (format!("{name}=s/a~1"), ""),
                (name.to_owned(), ""),
                (format!("a=1; {name}=s/a~1; b=2"), "Cookie: a=1; b=2\r\n"),
                (format!("a=1;{name} =x"), "Cookie: a=1\r\n"),
                (format!("a={name}"), &format!("Cookie: a={name}\r\n")),
            ] {
                let sent = sent(&format!("Cookie: {cookies}\r\n"), Length::None);
                assert_eq!(sent, format!("POST /owa/ HTTP/1.1\r\n{kept}{OURS}"), "{cookies}");
            }
        }
    }

    fn ours(status: u16, to_head: bool) -> String {
        ours_with(status, to_head, None, &Edits::NONE)
    }

    fn ours_with(status: u16, to_head: bool, hsts: Option<&str>, edits: &Edits<'_>) -> String {
        let mut into = Vec::new();
        let answer = Own {
            status,
            reason: "Some Reason",
            text: "elsewhere",
            content_type: "text/html",
            retry_after: Some(Duration::from_secs(60)),
            to_head,
            location: None,
            hsts,
            edits,
            request: id(),
            keep_alive: true,
        };
        let content = own(&mut into, answer);
        String::from_utf8(into).unwrap() + content
    }

    #[test]
    fn changed_fields_are_written_once_and_in_place_of_what_came() {
        let mut edits = Edits::NONE;
        edits.remove("x-a");
        edits.remove("server");
        edits.remove("cookie");
        edits.write("X-A", "1");
        edits.write("X-B", "2");
        let came = "X-a: 0\r\nCookie: c=3\r\nx-A: 0\r\nX-B: 0\r\nContent-Length: 2\r\n";
        let mut into = Vec::new();
        let origin = Origin { client: "203.0.113.5".parse().unwrap(), request: id(), edits: &edits };
        to_server(&mut into, &request(came), "/owa/", Length::Exact(2), false, origin);
        let wanted = "POST /owa/ HTTP/1.1\r\nX-B: 0\r\nContent-Length: 2\r\nX-A: 1\r\nX-B: 2\r\n";
        assert_eq!(String::from_utf8(into).unwrap(), format!("{wanted}{OURS}"));

        let (mut head, mut into) = (Head::default(), Vec::new());
        let text = format!("HTTP/1.1 200 OK\r\nServer: IIS\r\n{came}Strict-Transport-Security: x\r\n\r\n");
        head.read_response(text.as_bytes(), &HeadLimits::default()).unwrap();
        let says = Says { hsts: Some("max-age=1"), edits: Some(&edits), ..Says::default() };
        to_client(&mut into, &head, Delivery { body: Length::Exact(2), ..Delivery::interim() }, says);
        let fields =
            "X-B: 0\r\nContent-Length: 2\r\nStrict-Transport-Security: max-age=1\r\nX-A: 1\r\nX-B: 2\r\n";
        assert_eq!(String::from_utf8(into).unwrap(), format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
    }

    #[test]
    fn an_answer_of_ours_has_what_its_status_lets_it_have() {
        let wanted = |status: u16, content: &str, rest: &str| {
            format!(
                "HTTP/1.1 {status} Some Reason\r\n{content}X-Request-Id: 0000000000000007-1\r\n\r\n{rest}"
            )
        };
        for (status, content, rest) in [
            (503, "Content-Type: text/html\r\nRetry-After: 60\r\nContent-Length: 9\r\n", "elsewhere"),
            (205, "Retry-After: 60\r\nContent-Length: 0\r\n", ""),
            (204, "Retry-After: 60\r\n", ""),
            (304, "Retry-After: 60\r\n", ""),
        ] {
            assert_eq!(ours(status, false), wanted(status, content, rest));
        }
    }

    #[test]
    fn an_answer_of_ours_is_changed_as_a_servers_is() {
        let mut edits = Edits::NONE;
        edits.remove("content-type");
        edits.remove("retry-after");
        edits.write("Content-Type", "text/css");
        edits.write("X-A", "1");
        let wanted = "HTTP/1.1 503 Some Reason\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 9\r\n\
                      X-Request-Id: 0000000000000007-1\r\nContent-Type: text/css\r\nX-A: 1\r\n\r\nelsewhere";
        assert_eq!(ours_with(503, false, Some("max-age=1"), &edits), wanted);
    }

    #[test]
    fn an_answer_of_ours_to_head_has_no_content() {
        let (page, none) = (ours(421, false), ours(421, true));
        assert!(none.contains("\r\nContent-Length: 9\r\n") && none.ends_with("\r\n\r\n"), "{none}");
        assert_eq!(page, none + "elsewhere");
    }

    #[test]
    fn a_transfer_coding_is_never_copied() {
        let chunked = sent("Transfer-Encoding: ChUnKeD\r\n", Length::Chunked);
        assert_eq!(chunked, format!("POST /owa/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{OURS}"));
        let exact = sent("Content-Length: 5\r\n", Length::Exact(5));
        assert_eq!(exact, format!("POST /owa/ HTTP/1.1\r\nContent-Length: 5\r\n{OURS}"));
    }

    #[test]
    fn a_response_is_framed_for_its_client() {
        let deliver = |fields: &str, body, version, keep_alive| {
            let (mut head, mut into) = (Head::default(), Vec::new());
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            head.read_response(text.as_bytes(), &HeadLimits::default()).unwrap();
            to_client(
                &mut into,
                &head,
                Delivery { body, version, keep_alive, websocket: false, shared: false },
                Says::default(),
            );
            String::from_utf8(into).unwrap()
        };
        let (new, old) = (Version::Http11, Version::Http10);
        for (fields, body, version, keep_alive, wanted) in [
            ("Content-Length: 2\r\n", Length::Exact(2), new, true, "Content-Length: 2\r\n"),
            (
                "Content-Length: 2\r\n",
                Length::Exact(2),
                new,
                false,
                "Content-Length: 2\r\nConnection: close\r\n",
            ),
            (
                "Content-Length: 2\r\n",
                Length::Exact(2),
                old,
                true,
                "Content-Length: 2\r\nConnection: keep-alive\r\n",
            ),
            ("Transfer-Encoding: chunked\r\n", Length::Chunked, new, true, "Transfer-Encoding: chunked\r\n"),
            ("Transfer-Encoding: chunked\r\n", Length::UntilClose, old, false, "Connection: close\r\n"),
            ("Connection: close, X-A\r\nX-A: 1\r\nDate: d\r\n", Length::None, new, true, "Date: d\r\n"),
            ("Arr-Disable-Session-Affinity: True\r\n", Length::None, new, true, ""),
        ] {
            let text = deliver(fields, body, version, keep_alive);
            assert_eq!(text, format!("HTTP/1.1 200 OK\r\n{wanted}\r\n"), "{fields}");
        }
    }

    #[test]
    fn a_response_without_content_has_no_length() {
        for (status, wanted) in
            [("103 Early Hints", ""), ("204 No Content", ""), ("304 Not Modified", "Content-Length: 5\r\n")]
        {
            let (mut head, mut into) = (Head::default(), Vec::new());
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\nDate: d\r\n\r\n");
            head.read_response(text.as_bytes(), &HeadLimits::default()).unwrap();
            to_client(&mut into, &head, Delivery::interim(), Says::default());
            let into = String::from_utf8(into).unwrap();
            assert_eq!(into, format!("HTTP/1.1 {status}\r\n{wanted}Date: d\r\n\r\n"));
        }
    }

    proptest! {
        #[test]
        fn no_spelling_of_a_forwarded_field_gets_through(name in "[xX][-_][fF]orwarded[-_][a-z]{1,8}", value in "[ -~]{0,20}") {
            prop_assert_eq!(sent(&format!("{name}: {value}\r\n"), Length::None), format!("POST /owa/ HTTP/1.1\r\n{OURS}"));
        }

        #[test]
        fn any_connection_field_leaves_host_and_cookie(value in "[ -~]{0,60}") {
            let sent = sent(&format!("Connection: {value}\r\nHost: a\r\nCookie: b\r\n"), Length::None);
            prop_assert_eq!(sent, format!("POST /owa/ HTTP/1.1\r\nHost: a\r\nCookie: b\r\n{OURS}"));
        }
    }
}
