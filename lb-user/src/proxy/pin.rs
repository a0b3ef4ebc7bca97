//! Whether a connection has been logged on. Pure.
//!
//! NTLM and Negotiate log a *connection* on (MS-NTHT; RFC 4559, 6): what comes over it later is the user's, without a word of
//! who that is. HAProxy, nginx, F5 and Traefik know it by these signs, each by some of them; all of them count here. A Kerberos
//! client may send its ticket with the first request, so that no 401 was ever seen: the request's own word counts as much.

use std::borrow::Cow;

use super::edits::Edits;
use super::http1::{Field, Head, Known};

/// The request logs its connection on.
pub fn request_pins(head: &Head) -> bool {
    head.values(Known::Authorization).any(is_of_connections)
}

/// What is changed of a request logs its connection on.
pub fn edits_pin(edits: &Edits<'_>) -> bool {
    let is = |name: &str| name.eq_ignore_ascii_case("authorization");
    edits.said().any(|(name, value)| is(name) && is_of_connections(value.as_bytes()))
}

/// The response says that its connection is, or is being, logged on.
pub fn response_pins(head: &Head) -> bool {
    let challenged = matches!(head.status(), 401 | 407)
        && [Known::WwwAuthenticate, Known::ProxyAuthenticate]
            .into_iter()
            .any(|field| head.values(field).any(is_of_connections));
    let persistent = || head.values(Known::PersistentAuth).any(|value| value.eq_ignore_ascii_case(b"true"));
    challenged || persistent()
}

/// Whether a credential or a challenge is of a scheme that logs connections on: `NTLM`, and all of Microsoft's that begin with
/// `Nego` (`Negotiate`, `Nego2`), and `Kerberos`. A challenge field may list several (RFC 9110, 11.6.1).
pub fn is_of_connections(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| {
        let part = part.trim_ascii_start();
        let begins = |scheme: &str| {
            part.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
        };
        ["ntlm", "nego", "kerberos"].into_iter().any(begins)
    })
}

/// Whether a response asks for a logon, and for none that a client could do without a connection of its own.
pub fn asks_for_connection(head: &Head) -> bool {
    let challenges =
        || head.fields().filter(|field| head.status() == 401 && field.known == Known::WwwAuthenticate);
    challenges().next().is_some() && challenges().all(|field| without_connection_schemes(field).is_none())
}

/// What is left of a field when nothing in it is about logging a connection on; `None`: nothing.
pub fn without_connection_schemes(field: Field<'_>) -> Option<Cow<'_, [u8]>> {
    if field.known == Known::PersistentAuth {
        return None;
    }
    if !is_of_connections(field.value) {
        return Some(Cow::Borrowed(field.value));
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut removing = false;
    for part in outside_quotes(field.value) {
        let part = part.trim_ascii();
        // A challenge begins with its scheme; what is a parameter belongs to the one before (RFC 9110, 11.6.1).
        let word = part.split(|byte| *byte == b' ').next().unwrap_or_default();
        if !word.contains(&b'=') {
            removing = is_of_connections(word);
        }
        if !removing && !part.is_empty() {
            kept.push(part);
        }
    }
    (!kept.is_empty()).then(|| Cow::Owned(kept.join(&b", "[..])))
}

/// The parts of a list, whose quoted strings may have commas (RFC 9110, 5.6.4).
fn outside_quotes(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    list.split(move |byte| {
        let ends = *byte == b',' && !quoted;
        if *byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && !escaped && *byte == b'\\';
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::super::http1::HeadLimits;
    use super::*;

    #[test]
    fn what_logs_connections_on_is_taken_out_of_a_challenge_and_nothing_else() {
        for (fields, left) in [
            ("WWW-Authenticate: NTLM\r\nWWW-Authenticate: Negotiate oYG=\r\nPersistent-Auth: true\r\n", ""),
            ("WWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: NTLM\r\n", "Basic realm=\"a\""),
            (
                "WWW-Authenticate: Negotiate, Basic realm=\"a, NTLM\", nego2 a=b, c=d\r\n",
                "Basic realm=\"a, NTLM\"",
            ),
            (
                "WWW-Authenticate: Digest realm=\"a\\\", NTLM\", nonce=b,NTLM\r\n",
                "Digest realm=\"a\\\", NTLM\", nonce=b",
            ),
            ("WWW-Authenticate: Bearer\r\n", "Bearer"),
        ] {
            let mut head = Head::default();
            let text = format!("HTTP/1.1 401 Unauthorized\r\n{fields}\r\n");
            head.read_response(text.as_bytes(), &HeadLimits::default()).unwrap();
            let kept: Vec<_> = head.fields().filter_map(without_connection_schemes).collect();
            assert_eq!(String::from_utf8(kept.concat()).unwrap(), left, "{fields}");
            assert_eq!(asks_for_connection(&head), left.is_empty(), "{fields}");
        }
        let mut head = Head::default();
        head.read_response(b"HTTP/1.1 401 Unauthorized\r\n\r\n", &HeadLimits::default()).unwrap();
        assert!(!asks_for_connection(&head));
    }

    #[test]
    fn every_sign_of_a_logged_on_connection_counts() {
        for (authorization, pins) in [
            ("NTLM TlRMTVNTUAAB", true),
            ("Negotiate YIIK", true),
            ("negotiate YIIK", true),
            ("Nego2 AAAA", true),
            ("Kerberos YIIK", true),
            ("Basic dTpw", false),
            ("Bearer ntlm", false),
        ] {
            let mut head = Head::default();
            let text = format!("GET / HTTP/1.1\r\nAuthorization: {authorization}\r\n\r\n");
            head.read_request(text.as_bytes(), &HeadLimits::default()).unwrap();
            assert_eq!(request_pins(&head), pins, "{authorization}");
        }
        for (name, value, pins) in [
            ("authorization", "NTLM TlRM", true),
            ("Authorization", "Basic dTpw", false),
            ("X-Authorization", "NTLM TlRM", false),
        ] {
            let mut edits = Edits::NONE;
            edits.write(name, value);
            assert_eq!(edits_pin(&edits), pins, "{name}: {value}");
        }
        for (text, pins) in [
            ("401 Unauthorized\r\nWWW-Authenticate: NTLM\r\n", true),
            (
                "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nwww-authenticate: Negotiate oYG\r\n",
                true,
            ),
            ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\", NTLM\r\n", true),
            ("407 Proxy\r\nProxy-Authenticate: NTLM\r\n", true),
            ("200 OK\r\nPersistent-Auth: true\r\n", true),
            ("200 OK\r\nPersistent-Auth: false\r\n", false),
            ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"ntlm\"\r\n", false),
            ("200 OK\r\nWWW-Authenticate: Negotiate oYG\r\n", false),
        ] {
            let mut head = Head::default();
            head.read_response(format!("HTTP/1.1 {text}\r\n").as_bytes(), &HeadLimits::default()).unwrap();
            assert_eq!(response_pins(&head), pins, "{text}");
        }
    }
}
