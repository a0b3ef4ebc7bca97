//! The path normaliser: on any bytes it does not panic, and what must hold of every normal path holds.
#![no_main]

#[path = "../../lb-user/src/proxy/path/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "a module of the proxy, of which this needs a part")]
mod path;

use libfuzzer_sys::fuzz_target;

use crate::path::{Case, NormalPath, escape};

fuzz_target!(|target: &[u8]| {
    if let Ok(path) = NormalPath::of(target) {
        check(&path, target);
    }
});

fn check(path: &NormalPath, target: &[u8]) {
    let text = path.as_str();
    assert!(text.starts_with('/') && !text.contains("//"), "{text}");
    assert!(text.split('/').all(|segment| !matches!(segment, "." | "..")), "{text}");
    assert!(!text.contains(|letter: char| letter == '\\' || letter.is_control()), "{text}");
    assert_eq!(NormalPath::of(path.encoded().as_bytes()).as_ref(), Ok(path));
    assert!(path.is_under("/", Case::Sensitive) && path.is_under(text, Case::Sensitive));
    assert!(path.is_under(&path.folded(), Case::Insensitive));
    let raw = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    let once = decoded(raw);
    assert_eq!(once, decoded(&once), "a second decoding sees another path than {text}");
    assert_eq!(
        segments(&once),
        segments(text.as_bytes()),
        "a server that resolves by the text serves another path"
    );
}

/// As a server decodes that leaves what is no escape.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let found = escape(rest);
        decoded.push(found.unwrap_or(byte));
        rest = if found.is_some() { &tail[2..] } else { tail };
    }
    decoded
}

/// What is left when dot segments are removed one after the other (RFC 3986, section 5.2.4), without empty ones.
fn segments(path: &[u8]) -> Vec<&[u8]> {
    let mut kept = Vec::new();
    for segment in path.split(|&byte| byte == b'/') {
        match segment {
            b"." => {}
            b".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    kept.retain(|segment| !segment.is_empty());
    kept
}
