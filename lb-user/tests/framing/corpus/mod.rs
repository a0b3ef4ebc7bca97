//! What is sent: messages that have no reading, several, or just one, in families. Each is one spelling of what its family is
//! about; nothing is random, so that a verdict has a name.

mod bodies;
mod framing;
mod heads;
pub(crate) mod http2;
pub(crate) mod responses;

/// What a client sends, after which it sends [`CANARY`].
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) family: &'static str,
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// The host that all is for.
pub(crate) const NAME: &str = "mail.example.test";

/// A plain request behind every case: whatever of it does not come out as a request of its own has been made a part of another.
pub(crate) const CANARY: &str =
    "GET /canary HTTP/1.1\r\nHost: mail.example.test\r\nConnection: close\r\n\r\n";

/// What a client would have a server take for a request that no proxy saw.
pub(crate) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: mail.example.test\r\n\r\n";

/// All requests.
pub(crate) fn requests() -> Vec<Case> {
    [framing::cases(), bodies::cases(), heads::cases()].concat()
}

/// Each char is one byte, so that a literal can have any.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).unwrap()).collect()
}

/// A case from a whole message; `name` may be the part of it that matters.
fn case(family: &'static str, name: &str, text: &str) -> Case {
    Case { family, name: shown(name), bytes: bytes(text) }
}

/// A POST with these fields, each with its line end, and this body.
fn post(fields: &str, body: &str) -> String {
    format!("POST /case HTTP/1.1\r\nHost: {NAME}\r\n{fields}\r\n{body}")
}

fn get(fields: &str) -> String {
    format!("GET /case HTTP/1.1\r\nHost: {NAME}\r\n{fields}\r\n")
}

/// Bytes as a table can show them, cut where they are long.
pub(crate) fn shown(text: &str) -> String {
    if text.is_empty() {
        return "(nothing)".to_owned();
    }
    let shown: String = text.chars().flat_map(char::escape_default).collect();
    let shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    if shown.len() <= LONGEST_NAME {
        return shown;
    }
    format!("{}... ({} bytes)", &shown[..LONGEST_NAME / 2], text.len())
}

const LONGEST_NAME: usize = 90;
