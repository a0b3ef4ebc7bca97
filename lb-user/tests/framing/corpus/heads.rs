//! Requests about first lines, fields and their line ends: where a head, a line or a name ends, and whom it is for.

use super::{Case, NAME, case, get, post};

pub(super) fn cases() -> Vec<Case> {
    [line_ends(), fields(), hosts(), targets(), versions(), methods(), connections(), sizes()].concat()
}

/// Every way to end a line at every place where one ends.
fn line_ends() -> Vec<Case> {
    let places = [
        ("the request line", "GET /case HTTP/1.1"),
        ("a field", "X-Case: y"),
        ("Host", "Host: mail.example.test"),
        ("Content-Length", "Content-Length: 5"),
    ];
    let whole = format!("POST /case HTTP/1.1\r\nX-Case: y\r\nHost: {NAME}\r\nContent-Length: 5\r\n\r\nhello");
    let of = |(place, line): (&str, &str)| {
        let line = line.replace("GET", "POST");
        let ended = whole.clone();
        LINE_ENDS.map(move |end| {
            let text = ended.replace(&format!("{line}\r\n"), &format!("{line}{end}"));
            case("line ends", &format!("{place} ended by {end}"), &text)
        })
    };
    let head_ends = LINE_ENDS.map(|end| {
        let text = whole.replace("\r\n\r\nhello", &format!("\r\n{end}hello"));
        case("line ends", &format!("the head ended by {end}"), &text)
    });
    let all = |name: &str, end: &str| case("line ends", name, &whole.replace("\r\n", end));
    let alls =
        [all("all ended by LF", "\n"), all("all ended by CR", "\r"), all("all ended by LF CR", "\n\r")];
    places.into_iter().flat_map(of).chain(head_ends).chain(alls).collect()
}

const LINE_ENDS: [&str; 9] =
    ["\n", "\r", "\r\r\n", "\n\r", "\r\0\n", "\0\r\n", "\u{b}\r\n", "\u{c}\r\n", " \r\n"];

fn fields() -> Vec<Case> {
    FIELDS.iter().map(|field| case("fields", field, &get(&format!("{field}\r\n")))).collect()
}

/// Fields after Host, without the last one's line end.
const FIELDS: [&str; 30] = [
    "X-Case: y",
    "X-Case:",
    "X-Case:y",
    "X-Case: a\tb",
    "X-Case: \u{e4}",
    "x!#$%&'*+-.^_`|~0: y",
    "X-Case: y\r\nX-Case: z",
    "X-Case",
    ": y",
    ":",
    " ",
    "\t",
    " X-Case: y",
    "X-Case: y\r\n z",
    "X-Case: y\r\n\tz",
    "X-Case: y\r\n ",
    "X-Case:\r\n y",
    "X-Case : y",
    "X Case: y",
    "X\tCase: y",
    "X-Case\0: y",
    "X-C\u{e4}se: y",
    "X(Case): y",
    "\"X-Case\": y",
    "X/Case: y",
    "X-Case: \0",
    "X-Case: \u{1}",
    "X-Case: \u{7f}",
    "X-Case: a\u{b}b",
    "X_Forwarded_For: 192.0.2.1",
];

fn hosts() -> Vec<Case> {
    let of = |fields: &&str| case("Host", fields, &format!("GET /case HTTP/1.1\r\n{fields}\r\n\r\n"));
    let none = case("Host", "none", "GET /case HTTP/1.1\r\nX-Case: y\r\n\r\n");
    let old = case("Host", "none, HTTP/1.0", "GET /case HTTP/1.0\r\nX-Case: y\r\n\r\n");
    let head = "HEAD /case HTTP/1.1\r\nHost: unknown.example.test\r\n\r\n";
    let head = case("Host", "HEAD for an unknown one", head);
    HOSTS.iter().map(of).chain([none, old, head]).collect()
}

/// Host fields, without the last one's line end.
const HOSTS: [&str; 36] = [
    "Host: mail.example.test",
    "host: MAIL.EXAMPLE.TEST",
    "Host:mail.example.test",
    "Host: \tmail.example.test\t",
    "Host: mail.example.test:443",
    "Host: mail.example.test:",
    "Host: mail.example.test:65536",
    "Host: mail.example.test:x",
    "Host: mail.example.test:443:443",
    "Host: mail.example.test.",
    "Host: unknown.example.test",
    "Host: 127.0.0.1",
    "Host: [::1]",
    "Host: [::1",
    "Host: ::1",
    "Host:",
    "Host: mail.example.test/",
    "Host: mail.example.test?",
    "Host: mail.example.test#",
    "Host: mail.example.test/../x",
    "Host: user@mail.example.test",
    "Host: https://mail.example.test",
    "Host: mail.example.test, other.example.test",
    "Host: mail.example.test other.example.test",
    "Host: mail.example.test\tother",
    "Host: mail.example.test\0",
    "Host: mail.example.test\u{b}",
    "Host: m\u{e4}il.example.test",
    "Host: mail%2eexample.test",
    "Host: \"mail.example.test\"",
    "Host : mail.example.test",
    " Host: mail.example.test",
    "Host:\r\n mail.example.test",
    "Host: mail.example.test\r\nHost: mail.example.test",
    "Host: mail.example.test\r\nHost: other.example.test",
    "Host: mail.example.test\r\nX: y\nHost: other.example.test",
];

fn targets() -> Vec<Case> {
    let of = |target: &str| case("targets", target, &get("").replace("/case", target));
    let long = |length: usize| format!("/{}", "a".repeat(length - 1));
    let longs = [long(8000), long(16 << 10), long((16 << 10) + 1)];
    let options = case("targets", "OPTIONS *", &get("").replace("GET /case", "OPTIONS *"));
    let connect = get("").replace("GET /case", &format!("CONNECT {NAME}:443"));
    let connect = case("targets", "CONNECT mail.example.test:443", &connect);
    TARGETS.into_iter().chain(longs.iter().map(String::as_str)).map(of).chain([options, connect]).collect()
}

const TARGETS: [&str; 36] = [
    "/case?a=b",
    "/case?a=b?c/d",
    "/case;a",
    "/case%20a",
    "//case",
    "/case//a",
    "/a/../case",
    "http://mail.example.test/case",
    "HTTPS://MAIL.example.test/case",
    "https://mail.example.test",
    "https://mail.example.test?a",
    "https://mail.example.test:443/case",
    "https://other.example.test/case",
    "https://user@mail.example.test/case",
    "https://mail.example.test@other.example.test/case",
    "https://mail.example.test\\@other.example.test/case",
    "https:///case",
    "https://",
    "https:/case",
    "ftp://mail.example.test/case",
    "mail.example.test:443",
    "*",
    "case",
    "?case",
    "",
    "/case#a",
    "/ca se",
    "/ca\tse",
    "/ca\0se",
    "/ca\u{b}se",
    "/ca\rse",
    "/ca\u{7f}se",
    "/c\u{e4}se",
    "/ca\\se",
    "/case\"<>^`{|}",
    "/case HTTP/1.1 /smuggled",
];

fn versions() -> Vec<Case> {
    let of = |version: &&str| case("versions", version, &get("").replace("HTTP/1.1", version));
    let simple = case("versions", "HTTP/0.9: no version, no fields", "GET /case\r\n");
    let none = case("versions", "no version", &get("").replace(" HTTP/1.1", ""));
    let kept = get("Connection: keep-alive\r\n").replace("HTTP/1.1", "HTTP/1.0");
    let kept = case("versions", "HTTP/1.0 kept alive", &kept);
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    let preface = case("versions", "HTTP/2 without a word", preface);
    VERSIONS.iter().map(of).chain([simple, none, kept, preface]).collect()
}

const VERSIONS: [&str; 21] = [
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/1.2",
    "HTTP/1.9",
    "HTTP/1.10",
    "HTTP/1.",
    "HTTP/1",
    "HTTP/01.1",
    "HTTP/1.01",
    "HTTP/1,1",
    "HTTP/2.0",
    "HTTP/2",
    "HTTP/3.0",
    "HTTP/11.1",
    "http/1.1",
    "HTTP /1.1",
    "HTTP/ 1.1",
    " HTTP/1.1",
    "HTTP/1.1 x",
    "HTTPS/1.1",
    "ICY/1.1",
];

fn methods() -> Vec<Case> {
    let of = |method: &&str| case("methods", method, &get("").replace("GET", method));
    let rpc = |method: &str| {
        let text = post("Content-Length: 5\r\n", "hello").replace("POST", method);
        case("methods", &format!("{method} with five bytes"), &text)
    };
    METHODS.iter().map(of).chain(["RPC_IN_DATA", "X-Y", "PROPFIND", "get"].map(rpc)).collect()
}

const METHODS: [&str; 23] = [
    "HEAD",
    "OPTIONS",
    "DELETE",
    "TRACE",
    "M-SEARCH",
    "RPC_OUT_DATA",
    "PRI",
    "get",
    "Get",
    "GETGET",
    "!#$%&'*+-.^_`|~09",
    "",
    "GET ",
    "GET\t",
    "\tGET",
    "GET\0",
    "GET\u{b}",
    "G(ET",
    "GE:T",
    "G@T",
    "GET,",
    "\"GET\"",
    "G\u{c4}T",
];

fn connections() -> Vec<Case> {
    let of = |fields: &&str| {
        let chunked = fields.contains("Transfer-Encoding: chunked");
        let body = match (chunked, fields.contains("Content-Length: 5")) {
            (true, _) => "5\r\nhello\r\n0\r\n\r\n",
            (false, true) => "hello",
            (false, false) => "",
        };
        case("Connection", fields, &post(&format!("{fields}\r\n"), body))
    };
    let websocket = get("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    // The server answers none of them with 101: the client's connection goes on as it was.
    let websockets = [
        ("a WebSocket that is not to be", websocket.clone()),
        ("a WebSocket that is not to be, HTTP/1.0", websocket.replace("HTTP/1.1", "HTTP/1.0")),
        ("a WebSocket of an unknown version", websocket.replace("13", "777")),
        ("a WebSocket that is not to be, and h2c", websocket.replace("websocket", "websocket, h2c")),
    ];
    let websockets = websockets.map(|(name, text)| case("Connection", name, &text));
    CONNECTIONS.iter().map(of).chain(websockets).collect()
}

/// Fields after Host, without the last one's line end.
const CONNECTIONS: [&str; 27] = [
    "Connection: Content-Length\r\nContent-Length: 5",
    "Content-Length: 5\r\nConnection: content-length",
    "Connection: close, Content-Length\r\nContent-Length: 5",
    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    "Connection: Transfer-Encoding\r\nContent-Length: 5",
    "Connection: Host",
    "Connection: Host, Authorization, Cookie\r\nAuthorization: Basic YTpi\r\nCookie: a=b",
    "Connection: X-Forwarded-For\r\nX-Forwarded-For: 192.0.2.1",
    "Connection: X-Case\r\nX-Case: y",
    "Connection: Expect\r\nExpect: 100-continue\r\nContent-Length: 5",
    "Connection: Connection",
    "Connection:",
    "Connection: ,,,",
    "Connection: close\u{b}",
    "Connection: keep-alive, close",
    "Connection: keep-alive\r\nConnection: close",
    "Connection: keep-alive\r\nKeep-Alive: timeout=5, max=1",
    "Proxy-Connection: close",
    "TE: trailers",
    "TE: chunked",
    "Connection: TE\r\nTE: trailers, deflate;q=0.5\r\nTransfer-Encoding: chunked",
    "Connection: Upgrade\r\nUpgrade: h2c",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 5",
    "Upgrade: h2c",
    "Connection: Upgrade\r\nUpgrade: TLS/1.0",
    "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\nContent-Length: 5",
];

fn sizes() -> Vec<Case> {
    let many = |count: usize| get(&"A: b\r\n".repeat(count - 1));
    let long = |length: usize| {
        let rest = length - get("A: \r\n").len();
        get(&format!("A: {}\r\n", "b".repeat(rest)))
    };
    [
        ("100 fields", many(100)),
        ("200 fields", many(200)),
        ("201 fields", many(201)),
        ("a head of 8,000 bytes", long(8000)),
        ("a head of 16,000 bytes", long(16_000)),
        ("a head of 64 KiB", long(64 << 10)),
        ("a head of 64 KiB and a byte", long((64 << 10) + 1)),
        ("a field without an end", get("").trim_end().to_owned() + "\r\nA: " + &"b".repeat(70_000)),
    ]
    .map(|(name, text)| case("sizes", name, &text))
    .to_vec()
}
