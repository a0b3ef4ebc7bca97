//! etcd's JSON gateway (<https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/>): questions as bytes, and answers read as hostile.
//! Pure. Keys and values are base64, 64-bit numbers are texts.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

/// Where ranges of keys are read.
pub const RANGE: &str = "/v3/kv/range";

/// Where several steps are taken at once, or none.
pub const TXN: &str = "/v3/kv/txn";

/// Where ranges of keys are deleted.
pub const DELETE: &str = "/v3/kv/deleterange";

/// Where changes are heard of.
pub const WATCH: &str = "/v3/watch";

/// Where a token is got for a user's password.
pub const AUTHENTICATE: &str = "/v3/auth/authenticate";

/// The keys in a range, at most so many; without their values.
pub fn keys(range: &Range<Vec<u8>>, limit: usize) -> Value {
    let mut question = of_range(range);
    question["keys_only"] = true.into();
    question["limit"] = limit.to_string().into();
    question
}

/// The value of a key.
pub fn value(key: &str) -> Value {
    json!({ "key": STANDARD.encode(key) })
}

/// Puts a value under a key that is not there.
pub fn put_new(key: &str, value: &[u8]) -> Value {
    let key = STANDARD.encode(key);
    json!({
        // Which is not there was never made.
        "compare": [{ "key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" }],
        "success": [{ "request_put": { "key": key, "value": STANDARD.encode(value) } }],
    })
}

/// Deletes what is in a range.
pub fn delete(range: &Range<Vec<u8>>) -> Value {
    of_range(range)
}

/// Tells of every change in a range from now on.
pub fn watch(range: &Range<Vec<u8>>) -> Value {
    json!({ "create_request": of_range(range) })
}

/// A token for a password.
pub fn authenticate(user: &str, password: &str) -> Value {
    json!({ "name": user, "password": password })
}

fn of_range(range: &Range<Vec<u8>>) -> Value {
    json!({ "key": STANDARD.encode(&range.start), "range_end": STANDARD.encode(&range.end) })
}

/// Keys of a range, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Those that were asked for, or the first of them.
    pub keys: Vec<Vec<u8>>,
    /// There are more behind them.
    pub more: bool,
}

/// The keys that were asked for by [`keys`]: within the range, each greater than the one before, and no more than `limit`, so that who
/// goes on behind the last one comes to an end.
pub fn read_keys(bytes: &[u8], range: &Range<Vec<u8>>, limit: usize) -> Result<Keys, Garbled> {
    let answer: RangeAnswer = serde_json::from_slice(bytes).map_err(|_| Garbled)?;
    if answer.kvs.len() > limit || (answer.more && answer.kvs.is_empty()) {
        return Err(Garbled);
    }
    let keys: Vec<Vec<u8>> = answer.kvs.iter().map(|kv| decode(&kv.key)).collect::<Result<_, _>>()?;
    let ascend = keys.is_sorted_by(|one, next| one < next);
    if ascend && keys.iter().all(|key| range.contains(key)) {
        Ok(Keys { keys, more: answer.more })
    } else {
        Err(Garbled)
    }
}

/// The value that was asked for by [`value`]; `None`: there is no such key.
pub fn read_value(bytes: &[u8], key: &str) -> Result<Option<Vec<u8>>, Garbled> {
    let answer: RangeAnswer = serde_json::from_slice(bytes).map_err(|_| Garbled)?;
    match answer.kvs.as_slice() {
        [] => Ok(None),
        [kv] if decode(&kv.key)? == key.as_bytes() => decode(&kv.value).map(Some),
        [_, ..] => Err(Garbled),
    }
}

/// The token that was asked for by [`authenticate`].
pub fn read_token(bytes: &[u8]) -> Result<String, Garbled> {
    #[derive(Deserialize)]
    struct Answer {
        token: String,
    }
    let Answer { token } = serde_json::from_slice(bytes).map_err(|_| Garbled)?;
    // It becomes a header field.
    let sound =
        (1..=LONGEST_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    if sound { Ok(token) } else { Err(Garbled) }
}

/// What an answer says that is an error, for an operator: in one line that steers no terminal.
pub fn read_error(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        error: String,
    }
    let text = serde_json::from_slice(bytes).map(|Answer { error }| error);
    let text = text.unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned());
    let text: String = text.chars().filter(|c| !c.is_control()).take(LONGEST_ERROR).collect();
    if text.is_empty() { "it says no more".to_owned() } else { text }
}

/// What a line of a watch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something changed, or may have.
    News,
    /// There is nothing more to come, and why.
    Ended(String),
}

/// What a line of a watch says; the bytes may be the first of a longer one.
pub fn read_watch(line: &[u8]) -> Heard {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Line {
        result: Outcome,
        error: Option<Value>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Outcome {
        canceled: bool,
        cancel_reason: String,
    }
    // What is too long to be read tells of a change.
    let Ok(Line { result, error }) = serde_json::from_slice(line) else { return Heard::News };
    match error {
        Some(error) => Heard::Ended(read_error(error.to_string().as_bytes())),
        None if result.canceled => {
            let why =
                if result.cancel_reason.is_empty() { "it was ended there" } else { &result.cancel_reason };
            Heard::Ended(read_error(why.as_bytes()))
        }
        None => Heard::News,
    }
}

#[derive(Deserialize)]
struct RangeAnswer {
    #[serde(default)]
    kvs: Vec<KeyValue>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    #[serde(default)]
    value: String,
}

fn decode(text: &str) -> Result<Vec<u8>, Garbled> {
    STANDARD.decode(text).map_err(|_| Garbled)
}

/// Bytes are no such answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "what it answers is nothing that etcd says; hint: is it an etcd of version 3.4 or later, with its gRPC gateway?"
)]
pub struct Garbled;

/// Longest token, bytes: those of JWTs are about a thousand.
const LONGEST_TOKEN: usize = 8 << 10;

/// Longest text of an error, characters.
const LONGEST_ERROR: usize = 300;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range() -> Range<Vec<u8>> {
        b"/a/".to_vec()..b"/a0".to_vec()
    }

    fn of(keys: &[&str], more: bool) -> Vec<u8> {
        let kvs: Vec<Value> = keys
            .iter()
            .map(|key| json!({ "key": STANDARD.encode(key), "create_revision": "2", "value": STANDARD.encode("v") }))
            .collect();
        json!({ "header": { "revision": "7" }, "kvs": kvs, "more": more }).to_string().into_bytes()
    }

    #[test]
    fn keys_come_in_order_within_their_range_and_limit_or_not_at_all() {
        let read = |keys: &[&str], more| read_keys(&of(keys, more), &range(), 2);
        let ok = |keys: &[&str], more| {
            Ok(Keys { keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(), more })
        };
        assert_eq!(read(&["/a/1", "/a/2"], true), ok(&["/a/1", "/a/2"], true));
        assert_eq!(read_keys(br#"{"header":{}}"#, &range(), 2), ok(&[], false));
        for (keys, more, what) in [
            (&["/a/1", "/a/2", "/a/3"][..], false, "more than were asked for"),
            (&["/a/2", "/a/1"], false, "out of order"),
            (&["/a/1", "/a/1"], false, "one twice"),
            (&["/b/1"], false, "of elsewhere"),
            (&["/a0"], false, "just behind the range"),
            (&[], true, "more, and none"),
        ] {
            assert_eq!(read(keys, more), Err(Garbled), "{what}");
        }
    }

    #[test]
    fn a_value_is_that_of_the_key_that_was_asked_for() {
        assert_eq!(read_value(&of(&["/a/1"], false), "/a/1"), Ok(Some(b"v".to_vec())));
        assert_eq!(read_value(br#"{"count":"0"}"#, "/a/1"), Ok(None));
        for (bytes, what) in [
            (of(&["/a/2"], false), "another's"),
            (of(&["/a/1", "/a/2"], false), "two"),
            (br#"{"kvs":[{"key":"L2EvMQ==","value":"!"}]}"#.to_vec(), "no base64"),
            (br#"{"kvs":[{"key":"L2EvMQ","value":""}]}"#.to_vec(), "base64 cut off"),
            (br#"{"kvs":[{"key":7}]}"#.to_vec(), "a number"),
            (b"[".repeat(100_000), "deep"),
            (Vec::new(), "nothing"),
        ] {
            assert_eq!(read_value(&bytes, "/a/1"), Err(Garbled), "{what}");
        }
    }

    #[test]
    fn a_token_can_be_a_field_of_a_request() {
        assert_eq!(read_token(br#"{"token":"abc.16"}"#), Ok("abc.16".to_owned()));
        for text in [r#"{"token":""}"#, r#"{"token":"a\r\nX: y"}"#, r#"{"token":"a b"}"#, "{}"] {
            assert_eq!(read_token(text.as_bytes()), Err(Garbled), "{text}");
        }
        assert_eq!(read_token(json!({ "token": "a".repeat(9000) }).to_string().as_bytes()), Err(Garbled));
    }

    #[test]
    fn an_error_is_one_short_line() {
        let said = br#"{"error":"etcdserver: permission denied","code":7}"#;
        assert_eq!(read_error(said), "etcdserver: permission denied");
        assert_eq!(read_error(b"404 page\x1b[2J\nnot found"), "404 page[2Jnot found");
        assert_eq!(read_error(&b"x".repeat(10_000)).len(), LONGEST_ERROR);
        assert_eq!(read_error(b""), "it says no more");
    }

    #[test]
    fn a_watch_that_ends_is_told_from_one_that_tells_of_changes() {
        for line in [
            r#"{"result":{"created":true}}"#,
            r#"{"result":{"events":[{"kv":{"key":"YQ=="}}]}}"#,
            r#"{"result":{"events":[{"kv":{"key":"YQ"#,
            "[",
        ] {
            assert_eq!(read_watch(line.as_bytes()), Heard::News, "{line}");
        }
        let ended = |text: &str| Heard::Ended(text.to_owned());
        for (line, why) in [
            (r#"{"result":{"created":true,"canceled":true,"cancel_reason":"no right"}}"#, "no right"),
            (r#"{"result":{"canceled":true}}"#, "it was ended there"),
            (r#"{"error":{"message":"gone"}}"#, r#"{"message":"gone"}"#),
        ] {
            assert_eq!(read_watch(line.as_bytes()), ended(why), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (read_keys(&bytes, &range(), 9), read_value(&bytes, "k"), read_token(&bytes));
            let _ = (read_error(&bytes), read_watch(&bytes));
        }
    }
}
