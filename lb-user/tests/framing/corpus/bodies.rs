//! Requests about chunks and what comes after a body: sizes, extensions, data, trailers, and the next request.

use super::{Case, NAME, SMUGGLED, case, get, post};

pub(super) fn cases() -> Vec<Case> {
    [sizes(), ends(), trailers(), pipelines()].concat()
}

/// A chunked POST with this body.
fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn sizes() -> Vec<Case> {
    let long = format!("5;{}", "a".repeat(300));
    let of = |size: &str| case("chunk sizes", size, &chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")));
    SIZES.into_iter().chain([long.as_str()]).map(of).collect()
}

/// Lines before a chunk of five bytes, without their ends.
const SIZES: [&str; 44] = [
    "5",
    "05",
    "000000000000005",
    "0000000000000005",
    "00000000000000000000000000000005",
    " 5",
    "\t5",
    "5 ",
    "5\t",
    "5 \t ",
    "+5",
    "-5",
    "0x5",
    "0X5",
    "\\x35",
    "5h",
    "5_",
    "5,",
    "5.0",
    "5 5",
    "g",
    "",
    "\u{ef}\u{bc}\u{95}",
    "5\0",
    "5\u{b}",
    "\u{c}5",
    "fffffffffffffff",
    "ffffffffffffffff",
    "10000000000000005",
    "5;a",
    "5;a=b",
    "5;a=\"b;c\"",
    "5;a=\"b\\\"c\"",
    "5;a=\"b",
    "5;",
    "5;;",
    "5 ;a",
    "5; a = b",
    "5;\u{e4}",
    "5;a\0b",
    "5;a\nb",
    "5;\nhello\r\n0\r\n\r\nX",
    "5;a\rb",
    "5;a\r\r",
];

fn ends() -> Vec<Case> {
    let of = |(name, body): &(&str, &str)| case("chunk ends", name, &chunked(body));
    let smuggled = format!("5;\n{}\r\n{SMUGGLED}", "a".repeat(5));
    let zero = format!("0\n\r\n{SMUGGLED}");
    let late = format!("5\r\nhello\r\n0\r\n\r\n{}", "\r\n");
    let more = [
        ("extension ended by LF, then a request", smuggled.as_str()),
        ("last chunk ended by LF, then a request", zero.as_str()),
        ("CR LF after the end", late.as_str()),
    ];
    ENDS.iter().chain(&more).map(of).collect()
}

const ENDS: [(&str, &str); 29] = [
    ("two chunks", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    ("upper and lower case", "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"),
    ("no chunk", "0\r\n\r\n"),
    ("size ended by LF", "5\nhello\r\n0\r\n\r\n"),
    ("size ended by CR", "5\rhello\r\n0\r\n\r\n"),
    ("size ended by CR CR LF", "5\r\r\nhello\r\n0\r\n\r\n"),
    ("size ended by LF CR", "5\n\rhello\r\n0\r\n\r\n"),
    ("data ended by LF", "5\r\nhello\n0\r\n\r\n"),
    ("data ended by CR", "5\r\nhello\r0\r\n\r\n"),
    ("data ended by two other bytes", "5\r\nhelloXX0\r\n\r\n"),
    ("data ended by CR and another byte", "5\r\nhello\rX0\r\n\r\n"),
    ("data ended by nothing", "5\r\nhello0\r\n\r\n"),
    ("data longer than its size", "5\r\nhello world\r\n0\r\n\r\n"),
    ("data shorter than its size", "5\r\nhell\r\n0\r\n\r\n"),
    ("second chunk malformed", "5\r\nhello\r\nx\r\n0\r\n\r\n"),
    ("second chunk negative", "5\r\nhello\r\n-1\r\n0\r\n\r\n"),
    ("last chunk 00", "5\r\nhello\r\n00\r\n\r\n"),
    ("last chunk 000000000000000000000", "5\r\nhello\r\n000000000000000000000\r\n\r\n"),
    ("last chunk -0", "5\r\nhello\r\n-0\r\n\r\n"),
    ("last chunk 0x0", "5\r\nhello\r\n0x0\r\n\r\n"),
    ("last chunk with a space", "5\r\nhello\r\n0 \r\n\r\n"),
    ("last chunk with an extension", "5\r\nhello\r\n0;a=b\r\n\r\n"),
    ("last chunk ended by LF", "5\r\nhello\r\n0\n\r\n"),
    ("trailer ended by LF", "5\r\nhello\r\n0\r\n\n"),
    ("trailer ended by CR", "5\r\nhello\r\n0\r\n\r"),
    ("both ended by LF", "5\r\nhello\r\n0\n\n"),
    ("no CR LF after the last chunk", "5\r\nhello\r\n0\r\n"),
    ("no last chunk", "5\r\nhello\r\n"),
    ("an empty line before the last chunk", "5\r\nhello\r\n\r\n0\r\n\r\n"),
];

fn trailers() -> Vec<Case> {
    let many = "A: b\r\n".repeat(40);
    let long = format!("A: {}\r\n", "b".repeat(9000));
    let of = |fields: &str| case("trailers", fields, &chunked(&format!("5\r\nhello\r\n0\r\n{fields}\r\n")));
    TRAILERS.into_iter().chain([many.as_str(), long.as_str()]).map(of).collect()
}

/// Trailer fields, with their lines' ends.
const TRAILERS: [&str; 18] = [
    "X-Sum: 1\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Host: other.example.test\r\n",
    "Authorization: Basic YTpi\r\n",
    "Connection: close\r\n",
    "X_Forwarded_For: 192.0.2.1\r\n",
    "X-Sum: 1\n",
    "X-Sum: 1\r\r\n",
    "X-Sum: 1\r\n 2\r\n",
    " X-Sum: 1\r\n",
    "X-Sum : 1\r\n",
    "X-Sum\r\n",
    ": 1\r\n",
    "X-Sum: \0\r\n",
    "X-Sum: \u{e4}\r\n",
    "X-S\u{fc}m: 1\r\n",
    "GET /smuggled HTTP/1.1\r\n",
];

fn pipelines() -> Vec<Case> {
    let hello = post("Content-Length: 5\r\n", "hello");
    let (plain, many) = (get(""), get("").repeat(10));
    let head = plain.replace("GET", "HEAD");
    let leading = |before: &str| format!("{before}{plain}");
    let between = |between: &str| format!("{plain}{between}{plain}");
    [
        ("two GET", between("")),
        ("ten GET", many),
        ("POST, then GET", format!("{hello}{plain}")),
        ("chunked POST, then GET", format!("{}{plain}", chunked("5\r\nhello\r\n0\r\n\r\n"))),
        ("HEAD, then the canary", head),
        ("CR LF before", leading("\r\n")),
        ("two CR LF before", leading("\r\n\r\n")),
        ("LF before", leading("\n")),
        ("CR before", leading("\r")),
        ("space before", leading(" ")),
        ("NUL before", leading("\0")),
        ("byte order mark before", leading("\u{ef}\u{bb}\u{bf}")),
        ("TLS in the clear before", leading("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0")),
        ("CR LF between", between("\r\n")),
        ("two CR LF between", between("\r\n\r\n")),
        ("LF between", between("\n")),
        ("garbage between", between("garbage")),
        ("CR LF after a body", format!("{hello}\r\n{plain}")),
        ("garbage after a body", format!("{hello}garbage\r\n{plain}")),
        ("a body that nobody announced", format!("{plain}hello")),
        ("a head that does not end", format!("GET /case HTTP/1.1\r\nHost: {}\r\nX: ", NAME)),
        ("a smuggled request after a close", format!("{}{SMUGGLED}", get("Connection: close\r\n"))),
    ]
    .map(|(name, text)| case("pipelines", name, &text))
    .to_vec()
}
