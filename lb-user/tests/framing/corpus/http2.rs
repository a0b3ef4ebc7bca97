//! HTTP/2 requests that a careless proxy would write into HTTP/1 as something else ("downgrade").

use super::{NAME, SMUGGLED, bytes, shown};

/// A request as field lines, and its content.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) family: &'static str,
    pub(crate) name: String,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// All of them. Each name and value is of chars that are a byte each.
pub(crate) fn cases() -> Vec<Case> {
    [lines(), of_http1(), lengths(), pseudo(), names(), hosts(), plain()].concat()
}

/// What a line's end would make another field, or another request.
fn lines() -> Vec<Case> {
    let smuggled = format!("a\r\n\r\n{SMUGGLED}");
    let values = [
        "a\r\nContent-Length: 0",
        "a\r\nTransfer-Encoding: chunked",
        "a\nTransfer-Encoding: chunked",
        "a\rTransfer-Encoding: chunked",
        "a\r\n b",
        "a\0b",
        "a\u{7f}b",
        " a",
        "a ",
        "\ta",
        "a\u{80}b",
        &smuggled,
    ];
    let values = values.map(|value| with("HTTP/2: values", &[("x", value)], None));
    let paths = [
        "/case HTTP/1.1\r\nX: y",
        "/case HTTP/1.1\r\n\r\nGET /smuggled HTTP/1.1\r\n",
        "/case x",
        "/case\tx",
        "/case\0",
        "/case#x",
        "/case\u{ff}",
        "/case\"{}",
        "case",
        "",
        "*",
        "//case",
        "https://mail.example.test/case",
        "?case",
    ];
    let paths = paths.map(|path| replaced("HTTP/2: paths", ":path", path));
    let methods = ["GET / HTTP/1.1\r\nX: y", "GET\0", "G ET", "", "GET:", "CONNECT", "TRACE"];
    let methods = methods.map(|method| replaced("HTTP/2: methods", ":method", method));
    [values.to_vec(), paths.to_vec(), methods.to_vec()].concat()
}

/// Fields of HTTP/1's connections (RFC 9113, 8.2.2).
fn of_http1() -> Vec<Case> {
    let fields = [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("Transfer-Encoding", "chunked"),
        ("transfer_encoding", "chunked"),
        ("connection", "close"),
        ("connection", "content-length"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, chunked"),
        ("te", "trailers"),
    ];
    let chunks = format!("0\r\n\r\n{SMUGGLED}");
    fields.map(|field| with("HTTP/2: fields of HTTP/1", &[field], Some(&chunks))).to_vec()
}

/// Lengths that do not fit the content.
fn lengths() -> Vec<Case> {
    let family = "HTTP/2: lengths";
    let smuggled = Some(SMUGGLED);
    let over = SMUGGLED.len().to_string();
    vec![
        with(family, &[("content-length", "0")], smuggled),
        with(family, &[("content-length", "5")], smuggled),
        with(family, &[("content-length", "5")], Some("abc")),
        with(family, &[("content-length", "5")], None),
        with(family, &[("content-length", "+5")], Some("abcde")),
        with(family, &[("content-length", "0x5")], Some("abcde")),
        with(family, &[("content-length", " 5")], Some("abcde")),
        with(family, &[("content-length", "5, 5")], Some("abcde")),
        with(family, &[("content-length", "5"), ("content-length", "5")], Some("abcde")),
        with(family, &[("content-length", "5"), ("content-length", "6")], Some("abcde")),
        with(family, &[("content-length", "")], Some("abcde")),
        with(family, &[("content-length", "18446744073709551621")], Some("abcde")),
        with(family, &[("content_length", "5")], smuggled),
        with(family, &[("Content-Length", "0")], smuggled),
        with(family, &[("content-length", &over)], smuggled),
        with(family, &[], smuggled),
    ]
}

fn pseudo() -> Vec<Case> {
    let family = "HTTP/2: pseudo fields";
    let base = || fields("GET", "/case");
    let without = |name: &str| base().into_iter().filter(|(other, _)| other != name.as_bytes()).collect();
    let plus = |name: &str, value: &str| [base(), vec![pair(name, value)]].concat();
    let late = [vec![pair("x", "y")], base()].concat();
    let of = |name: &str, fields: Vec<_>| Case {
        family,
        name: name.to_owned(),
        fields,
        body: None,
        trailers: Vec::new(),
    };
    vec![
        of("no :method", without(":method")),
        of("no :scheme", without(":scheme")),
        of("no :path", without(":path")),
        of("no :authority and no host", without(":authority")),
        of("two :path", plus(":path", "/smuggled")),
        of("two :method", plus(":method", "POST")),
        of("two :authority", plus(":authority", "other.example.test")),
        of(":status", plus(":status", "200")),
        of(":protocol", plus(":protocol", "websocket")),
        of(":unknown", plus(":unknown", "a")),
        of(": alone", plus(":", "a")),
        of("a field before", late),
        replaced(family, ":scheme", "http"),
        replaced(family, ":scheme", "ftp"),
        replaced(family, ":scheme", "https://mail.example.test/smuggled?"),
        replaced(family, ":scheme", ""),
        Case {
            name: "trailer :path: /smuggled".to_owned(),
            trailers: vec![pair(":path", "/smuggled")],
            ..with(family, &[], Some("abc"))
        },
    ]
}

fn names() -> Vec<Case> {
    let names = [
        "X-Upper",
        "x y",
        "x:y",
        "x: y\r\nb",
        "x\r\nContent-Length: 0\r\nb",
        "x\0",
        "x\u{ff}",
        "",
        "x_y",
        "x-forwarded_for",
        "x-forwarded-for",
        "x-original-url",
        "(x)",
    ];
    let mut cases = names.map(|name| with("HTTP/2: names", &[(name, "a")], None)).to_vec();
    for (name, value) in
        [("x-sum", "1"), ("content-length", "0"), ("transfer-encoding", "chunked"), ("X-Sum", "1")]
    {
        let trailers = vec![pair(name, value)];
        let name = format!("trailer {}", shown(&format!("{name}: {value}")));
        cases.push(Case { name, trailers, ..with("HTTP/2: names", &[], Some("abc")) });
    }
    cases
}

fn hosts() -> Vec<Case> {
    let family = "HTTP/2: hosts";
    let mut cases = vec![
        with(family, &[("host", "other.example.test")], None),
        with(family, &[("host", NAME)], None),
        with(family, &[("host", NAME), ("host", "other.example.test")], None),
        with(family, &[("host", "a\r\nX: y")], None),
    ];
    let authorities = [
        "",
        "user@mail.example.test",
        "mail.example.test:443",
        "mail.example.test:",
        "mail.example.test:x",
        "mail.example.test/case",
        "mail.example.test\r\nX: y",
        "other.example.test",
        "mail.example.test, other.example.test",
    ];
    cases.extend(authorities.map(|authority| replaced(family, ":authority", authority)));
    cases
}

/// What every proxy should let through.
fn plain() -> Vec<Case> {
    let family = "HTTP/2: plain requests";
    vec![
        with(family, &[("x", "y")], None),
        with(family, &[("x", "y")], Some("abcde")),
        with(family, &[("content-length", "5")], Some("abcde")),
        with(family, &[("cookie", "a=1"), ("cookie", "b=2")], None),
        with(family, &[("expect", "100-continue")], Some("abcde")),
    ]
}

/// A GET, or a POST if there is content, with these fields more.
fn with(family: &'static str, more: &[(&str, &str)], body: Option<&str>) -> Case {
    let method = if body.is_some() { "POST" } else { "GET" };
    let more: Vec<_> = more.iter().map(|(name, value)| pair(name, value)).collect();
    let text = more.iter().map(|(name, value)| {
        let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
        shown(&format!("{}: {}", text(name), text(value)))
    });
    let text = text.collect::<Vec<_>>().join(", ");
    let text = if text.is_empty() { "no field".to_owned() } else { text };
    let content = body.map_or(String::new(), |body| format!(" with {}", body.len()));
    Case {
        family,
        name: format!("{text}{content}"),
        fields: [fields(method, "/case"), more].concat(),
        body: body.map(bytes),
        trailers: Vec::new(),
    }
}

/// A GET with another pseudo field.
fn replaced(family: &'static str, name: &str, value: &str) -> Case {
    let mut fields = fields("GET", "/case");
    for (other, old) in &mut fields {
        if other == name.as_bytes() {
            *old = bytes(value);
        }
    }
    Case { family, name: format!("{name} {}", shown(value)), fields, body: None, trailers: Vec::new() }
}

/// The field lines of a plain request.
pub(crate) fn fields(method: &str, path: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pseudo = [(":method", method), (":scheme", "https"), (":authority", NAME), (":path", path)];
    pseudo.map(|(name, value)| pair(name, value)).to_vec()
}

fn pair(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (bytes(name), bytes(value))
}
