//! Requests about how long their bodies are: Transfer-Encoding and Content-Length, alone, together, and in disguise.

use super::{CANARY, Case, SMUGGLED, case, get, post};

pub(super) fn cases() -> Vec<Case> {
    [coding_then_length(), length_then_coding(), codings(), lengths(), expectations()].concat()
}

/// Who goes by the length takes the smuggled request for content; who goes by the chunks takes it for a request.
fn coding_then_length() -> Vec<Case> {
    let body = format!("0\r\n\r\n{SMUGGLED}");
    let of = |coding: &&str| {
        let fields = format!("{coding}\r\nContent-Length: {}\r\n", body.len());
        case("TE, then CL", coding, &post(&fields, &body))
    };
    CODINGS.iter().map(of).collect()
}

/// The other way round: who goes by the chunks takes it for content.
fn length_then_coding() -> Vec<Case> {
    let chunk = SMUGGLED.len();
    let body = format!("{chunk:02x}\r\n{SMUGGLED}\r\n0\r\n\r\n");
    let of = |coding: &&str| {
        case("CL, then TE", coding, &post(&format!("Content-Length: 4\r\n{coding}\r\n"), &body))
    };
    CODINGS.iter().map(of).collect()
}

fn codings() -> Vec<Case> {
    let of =
        |coding: &&str| case("TE alone", coding, &post(&format!("{coding}\r\n"), "5\r\nhello\r\n0\r\n\r\n"));
    let old = |(name, fields): (&str, &str)| {
        let text = post(fields, "5\r\nhello\r\n0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0");
        case("TE alone", name, &text)
    };
    let olds = [
        ("HTTP/1.0, Transfer-Encoding: chunked", "Transfer-Encoding: chunked\r\n"),
        (
            "HTTP/1.0 kept alive, Transfer-Encoding: chunked",
            "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
        ),
        ("HTTP/1.0, both lengths", "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n"),
    ];
    let get =
        case("TE alone", "GET, chunked", &format!("{}0\r\n\r\n", get("Transfer-Encoding: chunked\r\n")));
    CODINGS.iter().map(of).chain(olds.map(old)).chain([get]).collect()
}

/// Spellings of a Transfer-Encoding field, without the line's end.
const CODINGS: [&str; 50] = [
    "Transfer-Encoding: chunked",
    "transfer-encoding: chunked",
    "TRANSFER-ENCODING: CHUNKED",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding:  chunked \t",
    "Transfer-Encoding:\u{b}chunked",
    "Transfer-Encoding: \u{c}chunked",
    "Transfer-Encoding: chunked\u{b}",
    "Transfer-Encoding: \0chunked",
    "Transfer-Encoding: chunked\0",
    "Transfer-Encoding: \u{a0}chunked",
    "Transfer-Encoding: \u{85}chunked",
    "Transfer-Encoding: chunked\u{ff}",
    "Transfer-Encoding: chun\u{e2}\u{84}\u{aa}ed",
    "Transfer-Encoding: chunked\r",
    "Transfer-Encoding: chunked\rX: y",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    "Transfer-Encoding\0: chunked",
    "Transfer-Encoding\u{b}: chunked",
    "Transfer-Encoding:: chunked",
    "Transfer-Encoding chunked",
    "Transfer-Encoding; chunked",
    "Transfer-Encoding=chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding:\r\n\tchunked",
    "Transfer-Encoding: chun\r\n ked",
    "Transfer-Encoding: chunked\r\n , identity",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\r\r\nTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding:",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: chunked chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
];

fn lengths() -> Vec<Case> {
    let of = |fields: &&str| case("CL", fields, &post(&format!("{fields}\r\n"), "hello"));
    let others = [
        ("GET with Content-Length: 5", format!("{}hello", get("Content-Length: 5\r\n"))),
        ("GET with Content-Length: the canary's", get(&format!("Content-Length: {}\r\n", CANARY.len()))),
        ("HEAD with Content-Length: 5", post("Content-Length: 5\r\n", "hello").replace("POST", "HEAD")),
        ("OPTIONS with Content-Length: 5", post("Content-Length: 5\r\n", "hello").replace("POST", "OPTIONS")),
        ("TRACE with Content-Length: 5", post("Content-Length: 5\r\n", "hello").replace("POST", "TRACE")),
        (
            "HTTP/1.0, Content-Length: 5",
            post("Content-Length: 5\r\n", "hello").replace("HTTP/1.1", "HTTP/1.0"),
        ),
        ("POST without a length", post("", "")),
        ("longer than the body and the canary", post("Content-Length: 5000\r\n", "hello")),
    ];
    let others = others.into_iter();
    LENGTHS.iter().map(of).chain(others.map(|(name, text)| case("CL", name, &text))).collect()
}

/// Spellings of a Content-Length field, without the line's end.
const LENGTHS: [&str; 54] = [
    "Content-Length: 5",
    "Content-Length:5",
    "CONTENT-LENGTH: 5",
    "Content-Length: \t5\t ",
    "Content-Length: 05",
    "Content-Length: 000000000000000005",
    "Content-Length: 0000000000000000005",
    "Content-Length: 0000000000000000000000000000000000000000005",
    "Content-Length: +5",
    "Content-Length: -5",
    "Content-Length: -0",
    "Content-Length: 5, 5",
    "Content-Length: 5,5",
    "Content-Length: 5, 6",
    "Content-Length: 5,",
    "Content-Length: ,5",
    "Content-Length: 5;",
    "Content-Length: 0x5",
    "Content-Length: 5h",
    "Content-Length: 5.0",
    "Content-Length: 5e0",
    "Content-Length: 1_0",
    "Content-Length: 5 5",
    "Content-Length: five",
    "Content-Length: \"5\"",
    "Content-Length:",
    "Content-Length: 5\0",
    "Content-Length: \u{b}5",
    "Content-Length: 5\u{c}",
    "Content-Length: \u{ef}\u{bc}\u{95}",
    "Content-Length: 5\r",
    "Content-Length: 5\rX: y",
    "Content-Length: 4294967301",
    "Content-Length: 9223372036854775808",
    "Content-Length: 18446744073709551621",
    "Content-Length: 99999999999999999999999999",
    "Content-Length: 5\r\nContent-Length: 5",
    "Content-Length: 5\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: 5",
    "Content-Length: 5\r\ncontent-length: 05",
    "Content-Length: 5\r\nContent-Length:",
    "Content-Length:\r\nContent-Length: 5",
    "Content-Length:\r\n 5",
    "Content-Length: 5\r\n 0",
    "Content-Length : 5",
    "Content-Length\t: 5",
    "Content-Length\0: 5",
    "Content-Length 5",
    " Content-Length: 5",
    "X: y\nContent-Length: 5",
    "X: y\rContent-Length: 5",
    "Content_Length: 5",
    "Content-Length: 5\r\nContent_Length: 0",
    "Content-Length: 5\r\nContent-Length : 0",
];

fn expectations() -> Vec<Case> {
    let of = |(expect, rest): &(&str, &str)| {
        let body = if rest.contains("chunked") { "5\r\nhello\r\n0\r\n\r\n" } else { "hello" };
        let body = if rest.contains("5") || rest.contains("chunked") { body } else { "" };
        let name = format!("{expect}{}{}", if rest.is_empty() { "" } else { ", " }, rest.trim_end());
        case("Expect", &name, &post(&format!("Expect: {expect}\r\n{rest}"), body))
    };
    EXPECTATIONS.iter().map(of).collect()
}

const EXPECTATIONS: [(&str, &str); 12] = [
    ("100-continue", "Content-Length: 5\r\n"),
    ("100-CONTINUE", "Content-Length: 5\r\n"),
    ("100-continue", "Transfer-Encoding: chunked\r\n"),
    ("100-continue", "Content-Length: 0\r\n"),
    ("100-continue", ""),
    ("100-continue, 100-continue", "Content-Length: 5\r\n"),
    ("100-continue\r\nExpect: 100-continue", "Content-Length: 5\r\n"),
    ("100-continue", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    ("\u{b}100-continue", "Content-Length: 5\r\n"),
    ("200-ok", "Content-Length: 5\r\n"),
    ("y 100-continue", "Content-Length: 5\r\n"),
    ("", "Content-Length: 5\r\n"),
];
