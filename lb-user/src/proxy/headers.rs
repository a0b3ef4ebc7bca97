//! Which header fields cross the proxy, and what it says of itself. Pure.

use std::net::IpAddr;

use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Version};

/// A request that is answered without asking a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It contradicts itself, so that a server might read it otherwise than we do (400).
    Ambiguous,
    /// It asks for what this proxy does not do: a tunnel, or another protocol on this connection (501).
    Unsupported,
}

/// The Host of a request that can mean only one thing, or why it is refused.
pub fn host<B>(request: &Request<B>) -> Result<&str, Refused> {
    if request.method() == Method::CONNECT || request.headers().contains_key(UPGRADE) {
        return Err(Refused::Unsupported);
    }
    check_framing(request)?;
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refused::Ambiguous);
    };
    let host = host.to_str().map_err(|_| Refused::Ambiguous)?;
    // An absolute target names the host once more; a server may believe either.
    match request.uri().authority() {
        Some(authority) if !authority.as_str().eq_ignore_ascii_case(host) => Err(Refused::Ambiguous),
        Some(_) | None => Ok(host),
    }
}

/// hyper has checked the length; what it lets through and a server might read otherwise is a transfer coding that is not
/// plainly `chunked`.
fn check_framing<B>(request: &Request<B>) -> Result<(), Refused> {
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if request.version() == Version::HTTP_11 => {
            let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if chunked { Ok(()) } else { Err(Refused::Ambiguous) }
        }
        (Some(_), _) => Err(Refused::Ambiguous),
    }
}

/// Makes a client's header fields those of the request to the server.
///
/// Removed: what belongs to the client's connection alone, `Expect` (the proxy itself has asked for the body), what only a
/// proxy may say, and every alias of that with `_` for `-`, which IIS cannot tell apart.
pub fn to_server(headers: &mut HeaderMap, client: IpAddr) {
    remove_hop_by_hop(headers);
    headers.remove(EXPECT);
    remove_if(headers, |name| {
        let name = name.replace('_', "-");
        name.starts_with("x-forwarded-") || PROXY_SAYS.contains(&name.as_str())
    });
    let client = HeaderValue::try_from(client.to_string()).expect("invariant: an address is plain ASCII");
    headers.insert(FORWARDED_FOR, client);
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
}

/// Makes a server's header fields those of the response to the client.
pub fn to_client(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
}

/// Removes what belongs to one connection: the fields that say so of themselves, and those that `Connection` names, unless
/// removing them would change who asks for what.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .filter(|name| !KEPT.contains(name))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn remove_if(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that a `Connection` field must not take away from the server's sight.
const KEPT: [HeaderName; 4] = [HOST, AUTHORIZATION, COOKIE, CONTENT_LENGTH];

/// Beside `x-forwarded-`.
const PROXY_SAYS: [&str; 3] = ["forwarded", "x-real-ip", "front-end-https"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(lines: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri("/owa/");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn only_a_request_with_one_meaning_has_a_host() {
        let host_line = ("host", "mail.example.test");
        for (lines, wanted) in [
            (&[host_line][..], Ok("mail.example.test")),
            (&[host_line, ("transfer-encoding", "Chunked")], Ok("mail.example.test")),
            (&[], Err(Refused::Ambiguous)),
            (&[host_line, host_line], Err(Refused::Ambiguous)),
            (&[host_line, ("transfer-encoding", "gzip, chunked")], Err(Refused::Ambiguous)),
            (
                &[host_line, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Err(Refused::Ambiguous),
            ),
            (&[host_line, ("upgrade", "websocket")], Err(Refused::Unsupported)),
        ] {
            assert_eq!(host(&request(lines)), wanted, "{lines:?}");
        }
    }

    #[test]
    fn an_absolute_target_must_name_the_same_host() {
        let mut request = request(&[("host", "mail.example.test")]);
        *request.uri_mut() = "https://MAIL.example.test/owa/".parse().unwrap();
        assert!(host(&request).is_ok());
        *request.uri_mut() = "https://other.example.test/owa/".parse().unwrap();
        assert_eq!(host(&request), Err(Refused::Ambiguous));
    }

    #[test]
    fn the_server_learns_the_client_from_us_alone() {
        let mut headers = request(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("X_Forwarded_For", "6.6.6.6"),
            ("x-forwarded_proto", "http"),
            ("X-Forwarded-Host", "evil"),
            ("x_real_ip", "6.6.6.6"),
            ("Forwarded", "for=6.6.6.6"),
            ("x_harmless", "kept"),
        ])
        .headers()
        .clone();
        to_server(&mut headers, "203.0.113.5".parse().unwrap());
        let mut seen: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        seen.sort_unstable();
        assert_eq!(
            seen,
            [("x-forwarded-for", "203.0.113.5"), ("x-forwarded-proto", "https"), ("x_harmless", "kept")]
        );
    }

    #[test]
    fn what_belongs_to_a_connection_stays_on_it() {
        let mut headers = request(&[
            ("connection", "close, X-Private ,Authorization, not a token"),
            ("x-private", "1"),
            ("authorization", "Negotiate AA"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-type", "text/plain"),
        ])
        .headers()
        .clone();
        to_client(&mut headers);
        let mut seen: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        seen.sort_unstable();
        assert_eq!(seen, ["authorization", "content-type"]);
    }

    proptest! {
        #[test]
        fn no_spelling_of_a_forwarded_field_gets_through(name in "[xX][-_][fF]orwarded[-_][a-z]{1,8}", value in "[ -~]{0,20}") {
            let mut headers = request(&[(&name, &value)]).headers().clone();
            to_server(&mut headers, "192.0.2.1".parse().unwrap());
            prop_assert_eq!(headers.len(), 2);
            prop_assert_eq!(headers.get("x-forwarded-for").unwrap(), "192.0.2.1");
            prop_assert_eq!(headers.get("x-forwarded-proto").unwrap(), "https");
        }

        #[test]
        fn any_connection_field_is_survived(value in "[ -~]{0,60}") {
            let mut headers = request(&[("connection", &value), ("host", "a"), ("cookie", "b")]).headers().clone();
            to_server(&mut headers, "192.0.2.1".parse().unwrap());
            prop_assert!(headers.contains_key("host") && headers.contains_key("cookie"));
            prop_assert!(!headers.contains_key("connection"));
        }
    }
}
