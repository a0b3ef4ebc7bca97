//! What a server answers: one response, none, or more than one.

use super::{bytes, shown};

/// A server's answer to one request; the client's next request follows at once.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) family: &'static str,
    pub(crate) name: String,
    /// Of the request.
    pub(crate) method: &'static str,
    pub(crate) answer: Answer,
}

/// Bytes for an answer, and what then becomes of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) then: Then,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    /// With TLS's close_notify.
    Close,
    /// Without.
    Cut,
}

/// What a server would have a client take for the answer to its next request.
const POISON: &str = "HTTP/1.1 200 OK\r\nX-Read: GET /poison 0\r\nContent-Length: 6\r\n\r\npoison";

/// All answers.
pub(crate) fn responses() -> Vec<Case> {
    [lengths(), codings(), status_lines(), heads(), interims(), bodiless(), chunks(), surplus(), closes()]
        .concat()
}

fn case(family: &'static str, name: &str, text: &str) -> Case {
    let answer = Answer { bytes: bytes(text), then: Then::Keep };
    Case { family, name: shown(name), method: "GET", answer }
}

fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")
}

fn lengths() -> Vec<Case> {
    [
        "Content-Length: 5",
        "content-length:5",
        "Content-Length: 05",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: 5 5",
        "Content-Length: five",
        "Content-Length:",
        "Content-Length: 5\0",
        "Content-Length: \u{b}5",
        "Content-Length: 99999999999999999999",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 0",
        "Content-Length : 5",
        "Content-Length:\r\n 5",
        "X: y\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: identity",
    ]
    .map(|field| case("response CL", field, &ok(&format!("{field}\r\n"), "hello")))
    .to_vec()
}

fn codings() -> Vec<Case> {
    [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: CHUNKED",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding:\r\n chunked",
        "X: y\nTransfer-Encoding: chunked",
        "Transfer_Encoding: chunked",
    ]
    .map(|field| case("response TE", field, &ok(&format!("{field}\r\n"), "5\r\nhello\r\n0\r\n\r\n")))
    .to_vec()
}

fn status_lines() -> Vec<Case> {
    [
        "HTTP/1.1 200",
        "HTTP/1.1 200 ",
        "HTTP/1.1 299 \u{e4}",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1 abc OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 999 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.0 200 OK",
        "HTTP/0.9 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/2 200",
        "http/1.1 200 OK",
        "ICY 200 OK",
        " HTTP/1.1 200 OK",
        "\r\nHTTP/1.1 200 OK",
        "<html>",
        "GET / HTTP/1.1",
        "",
    ]
    .map(|line| case("status lines", line, &format!("{line}\r\nContent-Length: 5\r\n\r\nhello")))
    .to_vec()
}

fn heads() -> Vec<Case> {
    let ended = |name: &str, end: &str| {
        case("response heads", name, &ok("Content-Length: 5\r\n", "hello").replace("\r\n", end))
    };
    let field = |field: &&str| {
        case("response heads", field, &ok(&format!("{field}\r\nContent-Length: 5\r\n"), "hello"))
    };
    let long = case("response heads", "of 70,000 bytes", &ok(&format!("A: {}\r\n", "b".repeat(70_000)), ""));
    let many = case("response heads", "of 300 fields", &ok(&"A: b\r\n".repeat(300), ""));
    [
        "X: y\r\n z",
        " X: y",
        "X : y",
        "X",
        ": y",
        "X: \0",
        "X: a\rb",
        "X: a\r\r",
        "X: a\nY: b",
        "X-Read: GET /poison 0\nX: y",
    ]
    .iter()
    .map(field)
    .chain([
        ended("ended by LF", "\n"),
        ended("ended by CR", "\r"),
        ended("ended by CR CR LF", "\r\r\n"),
        long,
        many,
    ])
    .collect()
}

fn interims() -> Vec<Case> {
    let last = ok("Content-Length: 5\r\n", "hello");
    let before = |name: &str, text: &str| case("interim responses", name, &format!("{text}{last}"));
    [
        before("100", "HTTP/1.1 100 Continue\r\n\r\n"),
        before("103", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
        before("199", "HTTP/1.1 199 Odd\r\n\r\n"),
        before("fifty 103", &"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(50)),
        before("100 with Content-Length", "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n"),
        before("100 with a body", "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello"),
        before(
            "103 with Transfer-Encoding",
            "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        before(
            "103 with two lengths",
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        before(
            "101 unasked",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        ),
        before("100 ended by LF", "HTTP/1.1 100 Continue\n\n"),
        case("interim responses", "100 and no more", "HTTP/1.1 100 Continue\r\n\r\n").then(Then::Close),
    ]
    .to_vec()
}

fn bodiless() -> Vec<Case> {
    let of = |status: &str, fields: &str, body: &str| {
        let fields_end = if fields.is_empty() { "" } else { ", " };
        let body_end = if body.is_empty() { "" } else { ", and a body" };
        let name = format!("{status}{fields_end}{}{body_end}", fields.trim_end());
        case("bodiless", &name, &format!("HTTP/1.1 {status}\r\n{fields}\r\n{body}"))
    };
    let (length, coding) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    let head = |case: Case| Case { method: "HEAD", name: format!("HEAD: {}", case.name), ..case };
    [
        of("204 No Content", "", ""),
        of("204 No Content", length, ""),
        of("204 No Content", length, "hello"),
        of("204 No Content", coding, chunked),
        of("204 No Content", "", POISON),
        of("205 Reset Content", length, "hello"),
        of("304 Not Modified", length, ""),
        of("304 Not Modified", length, "hello"),
        of("304 Not Modified", coding, chunked),
        of("304 Not Modified", "", POISON),
        head(of("200 OK", length, "")),
        head(of("200 OK", length, "hello")),
        head(of("200 OK", coding, "")),
        head(of("200 OK", coding, chunked)),
        head(of("200 OK", "", POISON)),
        head(of("200 OK", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "")),
    ]
    .to_vec()
}

fn chunks() -> Vec<Case> {
    let of = |body: &&str| case("response chunks", body, &ok("Transfer-Encoding: chunked\r\n", body));
    [
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello world\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5;\nhello\r\n0\r\n\r\n",
        "hello",
    ]
    .iter()
    .map(of)
    .collect()
}

fn surplus() -> Vec<Case> {
    let whole = ok("Content-Length: 5\r\n", "hello");
    let chunked = ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n");
    [
        ("a second response", format!("{whole}{POISON}")),
        ("a second response after chunks", format!("{chunked}{POISON}")),
        ("a second response after no content", format!("{}{POISON}", ok("Content-Length: 0\r\n", ""))),
        ("a byte", format!("{whole}!")),
        ("CR LF", format!("{whole}\r\n")),
        ("CR LF after chunks", format!("{chunked}\r\n")),
        ("half a head", format!("{whole}HTTP/1.1 200 OK\r\nX: ")),
        (
            "a second response after one to close",
            ok("Content-Length: 5\r\nConnection: close\r\n", "hello") + POISON,
        ),
    ]
    .map(|(name, text)| case("surplus", name, &text))
    .to_vec()
}

fn closes() -> Vec<Case> {
    let of = |name: &str, text: &str, then| case("closes", name, text).then(then);
    let chunk = ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n");
    [
        of("until the close", &ok("", "hello"), Then::Close),
        of("until the close, cut", &ok("", "hello"), Then::Cut),
        of("until the close, no content", &ok("", ""), Then::Close),
        of("HTTP/1.0 until the close", &ok("", "hello").replace("HTTP/1.1", "HTTP/1.0"), Then::Close),
        of("HTTP/1.0 until the close, cut", &ok("", "hello").replace("HTTP/1.1", "HTTP/1.0"), Then::Cut),
        of("shorter than its length", &ok("Content-Length: 50\r\n", "hello"), Then::Close),
        of("shorter than its length, cut", &ok("Content-Length: 50\r\n", "hello"), Then::Cut),
        of("shorter than its length, kept open", &ok("Content-Length: 50\r\n", "hello"), Then::Keep),
        of("whole, then closed", &ok("Content-Length: 5\r\n", "hello"), Then::Close),
        of("whole, then cut", &ok("Content-Length: 5\r\n", "hello"), Then::Cut),
        of("no last chunk", &chunk, Then::Close),
        of("no last chunk, cut", &chunk, Then::Cut),
        of("no last chunk, kept open", &chunk, Then::Keep),
        of("within a trailer", &format!("{chunk}0\r\nX-Sum: 1\r\n"), Then::Close),
        of("within a head", "HTTP/1.1 200 OK\r\nContent-", Then::Close),
        of("without a word", "", Then::Close),
        of("without a word, cut", "", Then::Cut),
    ]
    .to_vec()
}

impl Case {
    fn then(mut self, then: Then) -> Self {
        self.answer.then = then;
        self
    }
}
