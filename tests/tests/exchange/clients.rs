//! Exchange's clients, each a real one, at servers that speak its protocol: what they do without a proxy they do through it.

use std::collections::BTreeMap;

use rollcall_tests::exchange::{Exchange, told};
use serde::Deserialize;
use serde::de::DeserializeOwned;

const BOTH: [&str; 2] = ["sbex1", "sbex3"];

/// What the program says that it saw, through a node and with stand-ins on these servers.
fn seen_by<T: DeserializeOwned>(program: &str, servers: &[&str]) -> T {
    let exchange = Exchange::of_standins(servers, 1).unwrap();
    let seen = told(&mut exchange.client(program).unwrap()).unwrap();
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
    seen
}

/// As the program ews_client.py tells.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ews {
    /// Each message's subject, and the length of its body.
    found: Vec<String>,
    events: Vec<String>,
}

#[test]
fn exchangelib_sends_finds_and_is_told_of_mail() {
    let Ews { found, events } = seen_by("ews_client.py", &BOTH);
    assert_eq!(found, ["first (3145728)", "second (5)"]);
    // The stream told something before it told of mail that was sent only then.
    assert_eq!(events, ["StatusEvent", "NewMailEvent"]);
}

/// As the program activesync_client.py tells.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Phone {
    versions: String,
    folders: Vec<String>,
    /// The status of the Ping that nothing came of.
    vain: String,
    /// Whether that one was answered no sooner than it was to be.
    waited: bool,
    /// The status of the Ping that mail came of.
    woken: String,
    subjects: Vec<String>,
}

#[test]
fn a_phone_waits_for_mail_in_vain_and_is_woken_by_it() {
    let phone: Phone = seen_by("activesync_client.py", &BOTH);
    let expected = Phone {
        versions: "2.5,12.0,12.1,14.0,14.1,16.0,16.1".to_owned(),
        folders: vec!["Inbox".to_owned()],
        vain: "1".to_owned(),
        waited: true,
        woken: "2".to_owned(),
        subjects: vec!["wake up".to_owned()],
    };
    assert_eq!(phone, expected);
}

/// As the program rpc_client.py tells.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rpc {
    /// Calls that were answered with what they carried, for each way to log on.
    answered: BTreeMap<String, u32>,
    /// The echo's requests: status, and the body in hexadecimal digits.
    echo: Vec<(u16, String)>,
}

/// MS-RPCH 2.2.4.48: an RTS PDU with RTS_FLAG_ECHO and without commands.
const ECHO_PDU: &str = "0500140310000000140000000000000040000000";

#[test]
fn impacket_calls_over_two_channels_of_rpc_logged_on_by_ntlm_and_by_basic() {
    let Rpc { answered, echo } = seen_by("rpc_client.py", &["sbex1"]);
    assert_eq!(answered, BTreeMap::from([("NTLM".to_owned(), 150), ("Basic".to_owned(), 150)]));
    // In HTTP/1.0, over the one connection that was logged on.
    assert_eq!(echo, [(401, String::new()), (200, ECHO_PDU.to_owned())]);
}

/// As the program owa_client.py tells.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Browser {
    /// Where it came to from the bare name.
    sent_to: String,
    /// Where it was after a wrong password, and what it read there.
    refused: [String; 2],
    /// Where it was after the right one, and the page's title.
    inside: [String; 2],
    /// How each cookie is kept.
    cookies: BTreeMap<String, String>,
    /// Of a response that goes on only when the browser has confirmed what it has.
    pieces: Vec<String>,
    socket: Socket,
    /// Where it was after the end of the session, and the cookies that were left.
    outside: (String, Vec<String>),
}

/// What became of the page's WebSocket.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Socket {
    /// Whether all came back as it was sent.
    seen: bool,
    code: u16,
    clean: bool,
}

#[test]
fn a_browser_is_refused_logs_on_works_and_leaves() {
    let browser: Browser = seen_by("owa_client.py", &BOTH);
    let logon = |reason: u8| format!("/owa/auth/logon.aspx?reason={reason}");
    assert_eq!(browser.sent_to, logon(0));
    let why = "The user name or password you entered isn't correct. Try entering it again.";
    assert_eq!(browser.refused, [logon(2), why.to_owned()]);
    assert_eq!(browser.inside, ["/owa/", "Mail - user000"]);
    let kept =
        ["cadata", "cadataIV", "cadataKey", "cadataSig", "cadataTTL"].map(|name| (name, "secure, HttpOnly"));
    let kept = kept.into_iter().chain([("PBack", "secure")]);
    assert_eq!(browser.cookies, kept.map(|(name, how)| (name.to_owned(), how.to_owned())).collect());
    assert_eq!(browser.pieces, [1, 2, 3, 4, 5].map(|number| format!("piece {number}\n")));
    assert_eq!(browser.socket, Socket { seen: true, code: 1000, clean: true });
    assert_eq!(browser.outside, (logon(0), vec!["PBack".to_owned()]));
}

/// As the program websocket_client.py tells.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebSocket {
    conversation: Conversation,
    half: Half,
    request: HalfRequest,
}

/// Messages in fragments, and the closing handshake.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Conversation {
    /// Of each message, whether it came back in the fragments that it was sent in.
    whole: Vec<bool>,
    ponged: bool,
    code: u16,
    reason: String,
}

/// A client that ended its side first.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Half {
    /// What it was told, of which the last was said after that.
    said: Vec<String>,
    code: u16,
}

/// A request whose client ended its side right after it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct HalfRequest {
    /// The status line of what came all the same.
    status: String,
    /// What a Ping came to.
    answer: String,
}

#[test]
fn fragments_pings_and_ends_of_a_websocket_arrive_as_they_are() {
    let WebSocket { conversation, half, request } = seen_by("websocket_client.py", &BOTH);
    let expected = Conversation { whole: vec![true; 4], ponged: true, code: 1000, reason: String::new() };
    assert_eq!(conversation, expected);
    let said = ["the last word", "1 frames came"].map(str::to_owned);
    assert_eq!(half, Half { said: said.into(), code: 1000 });
    let expected = HalfRequest { status: "HTTP/1.1 200 OK".to_owned(), answer: "status 1".to_owned() };
    assert_eq!(request, expected);
}
