//! Heads between HTTP/2 and the form of HTTP/1, in which the rest of the proxy reads and writes them. Pure.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};

use crate::proxy::http1::{Field, Head, HeadLimits, Known, Trailers, Violation, write_field};

/// Reads a request's head. What is missing in HTTP/2 is said as HTTP/1 says it: the host in `Host`, and the length of a body
/// that has none, and has not `ended`, by chunks.
pub fn read<B>(
    request: &Request<B>,
    ended: bool,
    head: &mut Head,
    limits: &HeadLimits,
) -> Result<(), Violation> {
    let uri = request.uri();
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    let target = match (uri.path_and_query(), authority) {
        (Some(target), _) => target.as_str().as_bytes(),
        (None, Some(authority)) if request.method() == http::Method::CONNECT => authority,
        (None, _) => return Err(Violation::Target),
    };
    if uri.scheme_str().is_some_and(|scheme| !["https", "http"].contains(&scheme)) {
        return Err(Violation::Target);
    }
    let mut text = Vec::with_capacity(512);
    text.extend_from_slice(request.method().as_str().as_bytes());
    text.push(b' ');
    text.extend_from_slice(one_line(target, Violation::Target)?);
    text.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = authority {
        write_field(&mut text, b"Host", one_line(authority, Violation::Host)?);
    }
    fields(request.headers(), authority, &mut text)?;
    if !ended && !request.headers().contains_key(http::header::CONTENT_LENGTH) {
        text.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    text.extend_from_slice(b"\r\n");
    head.read_translated(&text, limits)?;
    let length = head.values(Known::ContentLength).next();
    if ended && length.is_some_and(|length| length.iter().any(|digit| *digit != b'0')) {
        return Err(Violation::ContentLength);
    }
    Ok(())
}

fn fields(map: &HeaderMap, authority: Option<&[u8]>, text: &mut Vec<u8>) -> Result<(), Violation> {
    let mut cookies: Vec<&[u8]> = Vec::new();
    for (name, value) in map {
        let name = name.as_str().as_bytes();
        let value = one_line(value.as_bytes(), Violation::FieldValue)?;
        let known = Known::of(name);
        if known == Known::Host
            && let Some(authority) = authority
        {
            // Two words on the host must be one (RFC 9113, 8.3.1).
            if !authority.eq_ignore_ascii_case(value) {
                return Err(Violation::OtherHost);
            }
        } else if known == Known::Cookie {
            // The field may come in crumbs, which HTTP/1 does not know (RFC 9113, 8.2.3).
            cookies.push(value);
        } else if is_of_http1(known, value) {
            return Err(Violation::Http1Field);
        } else {
            write_field(text, name, value);
        }
    }
    if !cookies.is_empty() {
        write_field(text, b"cookie", &cookies.join(&b"; "[..]));
    }
    Ok(())
}

/// RFC 9113, 8.2.2.
fn is_of_http1(known: Known, value: &[u8]) -> bool {
    let framing = matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade
    );
    framing || known == Known::Te && value != b"trailers"
}

/// What is written into a line must not end it. The `http` crate's types do not allow that either.
fn one_line(text: &[u8], violation: Violation) -> Result<&[u8], Violation> {
    if text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) { Err(violation) } else { Ok(text) }
}

/// A request's trailers that may cross the proxy.
pub fn read_trailers(map: &HeaderMap) -> Result<Trailers, Violation> {
    let mut text = Vec::new();
    for (name, value) in map {
        write_field(&mut text, name.as_str().as_bytes(), one_line(value.as_bytes(), Violation::FieldValue)?);
    }
    text.extend_from_slice(b"\r\n");
    Trailers::read(&text)
}

/// A response's head. `None`: it cannot be said, which is a mistake of ours.
pub fn response(head: &Head) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status()).ok()?;
    let fields = head.fields().filter(|field| !field.known.is_hop_by_hop());
    *response.headers_mut() = header_map(fields)?;
    Some(response)
}

/// A response's trailers.
pub fn trailers(trailers: &Trailers) -> Option<HeaderMap> {
    header_map(trailers.fields())
}

fn header_map<'a>(fields: impl Iterator<Item = Field<'a>>) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name).ok()?;
        map.try_append(name, HeaderValue::from_bytes(field.value).ok()?).ok()?;
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proxy::http1::{Length, request};

    fn ask(method: &str, uri: &str, fields: &[(&str, &str)]) -> Request<()> {
        let mut asked = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            asked = asked.header(*name, *value);
        }
        asked.body(()).unwrap()
    }

    #[test]
    fn a_request_is_one_of_http1_with_its_host_and_length_or_is_refused() {
        let body = Ok(Length::Chunked);
        for (method, uri, fields, ended, wanted) in [
            ("GET", "https://a/x?y", &[][..], true, Ok(Length::None)),
            ("POST", "https://a/", &[], false, body),
            ("POST", "https://a/", &[("content-length", "5")], false, Ok(Length::Exact(5))),
            ("POST", "https://a/", &[("content-length", "0")], true, Ok(Length::None)),
            ("POST", "https://a/", &[("content-length", "5")], true, Err(Violation::ContentLength)),
            ("POST", "https://a/", &[("content-length", "5,5")], false, Err(Violation::ContentLength)),
            ("RPC_IN_DATA", "https://a/rpc/rpcproxy.dll?b:6001", &[], false, body),
            ("GET", "/", &[("host", "a")], true, Ok(Length::None)),
            ("GET", "/", &[], true, Err(Violation::Host)),
            ("GET", "https://a/", &[("host", "A"), ("host", "a")], true, Ok(Length::None)),
            ("GET", "https://a/", &[("host", "b")], true, Err(Violation::OtherHost)),
            ("GET", "https://a:443/", &[("host", "a")], true, Err(Violation::OtherHost)),
            ("GET", "https://u@a/", &[], true, Err(Violation::Host)),
            ("GET", "ftp://a/", &[], true, Err(Violation::Target)),
            ("OPTIONS", "*", &[("host", "a")], true, Err(Violation::Target)),
            ("CONNECT", "a:443", &[], true, Err(Violation::Tunnel)),
            ("GET", "https://a/\"", &[], true, Ok(Length::None)),
            ("GET", "https://a/", &[("te", "trailers")], true, Ok(Length::None)),
            ("GET", "https://a/", &[("te", "gzip")], true, Err(Violation::Http1Field)),
            ("GET", "https://a/", &[("connection", "x")], true, Err(Violation::Http1Field)),
            ("GET", "https://a/", &[("keep-alive", "5")], true, Err(Violation::Http1Field)),
            ("GET", "https://a/", &[("proxy-connection", "x")], true, Err(Violation::Http1Field)),
            ("GET", "https://a/", &[("upgrade", "websocket")], true, Err(Violation::Http1Field)),
            ("POST", "https://a/", &[("transfer-encoding", "chunked")], false, Err(Violation::Http1Field)),
            (
                "POST",
                "https://a/",
                &[("transfer_encoding", "chunked")],
                false,
                Err(Violation::TransferEncoding),
            ),
        ] {
            let mut head = Head::default();
            let asked = ask(method, uri, fields);
            let read = read(&asked, ended, &mut head, &HeadLimits::default());
            let framing = read.and_then(|()| request::framing(&head));
            assert_eq!(framing.map(|framing| framing.body), wanted, "{method} {uri} {fields:?}");
            if let Ok(framing) = framing {
                assert!(framing.host.eq_ignore_ascii_case("a") && !framing.keep_alive && !framing.websocket);
            }
        }
    }

    #[test]
    fn crumbs_of_cookies_become_one_field() {
        let mut head = Head::default();
        let asked = ask("GET", "https://a/", &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3")]);
        read(&asked, true, &mut head, &HeadLimits::default()).unwrap();
        let cookies: Vec<_> = head.values(Known::Cookie).collect();
        assert_eq!(cookies, [b"a=1; b=2; c=3"]);
    }

    #[test]
    fn heads_are_bounded_as_those_of_http1() {
        let long = "a".repeat(70_000);
        let path = format!("https://a/{}", "a".repeat(17_000));
        let many: Vec<_> = (0..300).map(|_| ("x", "")).collect();
        for (uri, fields, violation) in [
            ("https://a/", vec![("x", long.as_str())], Violation::HeadTooLong),
            (path.as_str(), Vec::new(), Violation::TargetTooLong),
            ("https://a/", many, Violation::TooManyFields),
        ] {
            let (asked, mut head) = (ask("GET", uri, &fields), Head::default());
            assert_eq!(read(&asked, true, &mut head, &HeadLimits::default()), Err(violation));
        }
    }

    #[test]
    fn trailers_are_bounded_and_frame_nothing() {
        let mut map = HeaderMap::new();
        map.insert("x-sum", HeaderValue::from_static("1"));
        map.insert("content-length", HeaderValue::from_static("5"));
        let read = read_trailers(&map).unwrap();
        assert_eq!(read.fields().map(|field| field.name).collect::<Vec<_>>(), [b"x-sum"]);
        map.insert("x-long", HeaderValue::from_bytes(&[b'a'; 9000]).unwrap());
        assert_eq!(read_trailers(&map).map(drop), Err(Violation::TrailerTooLong));
    }

    proptest! {
        #[test]
        fn no_name_or_value_becomes_another_field(
            fields in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 1..12), proptest::collection::vec(any::<u8>(), 0..20)), 0..8),
            path in "/[ -~]{0,20}",
        ) {
            let mut asked = Request::new(());
            let Ok(uri) = format!("https://a{path}").parse() else { return Ok(()) };
            *asked.uri_mut() = uri;
            for (name, value) in &fields {
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                    asked.headers_mut().append(name, value);
                }
            }
            let mut head = Head::default();
            if read(&asked, true, &mut head, &HeadLimits::default()).is_ok() {
                let target = asked.uri().path_and_query().unwrap().as_str();
                prop_assert_eq!(head.target(), target.as_bytes());
                let got: Vec<_> = head.fields().filter(|field| !matches!(field.known, Known::Host | Known::Cookie)).map(|field| (field.name.to_vec(), field.value.to_vec())).collect();
                let wanted: Vec<_> = asked.headers().iter().filter(|(name, _)| !["host", "cookie"].contains(&name.as_str())).map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().trim_ascii().to_vec())).collect();
                prop_assert_eq!(got, wanted);
            }
        }
    }
}
