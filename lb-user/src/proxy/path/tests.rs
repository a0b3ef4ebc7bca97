//! What passes, what is refused and why, and what must hold of every target.

use proptest::prelude::*;

use super::*;

fn normal(target: &str) -> Result<String, Ambiguous> {
    NormalPath::of(target.as_bytes()).map(|path| path.0)
}

#[test]
fn what_exchange_clients_ask_for_passes() {
    for (target, path) in [
        ("/", "/"),
        ("/owa", "/owa"),
        ("/owa/?ae=Item&a=Open&id=RgAAAA%2fx%5c%00", "/owa/"),
        ("/owa/auth/15.1.2507/themes/resources/logon.css", "/owa/auth/15.1.2507/themes/resources/logon.css"),
        ("/ews/exchange.asmx/s/GetUserPhoto?email=a@b&size=HR48x48", "/ews/exchange.asmx/s/GetUserPhoto"),
        ("/autodiscover/autodiscover.json?Email=a%40b&Protocol=EWS", "/autodiscover/autodiscover.json"),
        (
            "/autodiscover/autodiscover.json/v1.0/a%40b?Protocol=EWS",
            "/autodiscover/autodiscover.json/v1.0/a@b",
        ),
        (
            "/OAB/6fdd0a3e-92e9-4a2b-8b8c-7f2f1d2f7c4d/oab.xml",
            "/OAB/6fdd0a3e-92e9-4a2b-8b8c-7f2f1d2f7c4d/oab.xml",
        ),
        ("/rpc/rpcproxy.dll?server.example.test:6001", "/rpc/rpcproxy.dll"),
        ("/Microsoft-Server-ActiveSync?Cmd=Ping&User=x%5Cy", "/Microsoft-Server-ActiveSync"),
        ("/mapi/emsmdb/?MailboxId=1@b", "/mapi/emsmdb/"),
        ("/owa/my%20report.pdf", "/owa/my report.pdf"),
        ("/owa/r%C3%A9sum%c3%a9", "/owa/résumé"),
        ("/owa/a;b=c/d", "/owa/a;b=c/d"),
        ("/owa/100%25/x", "/owa/100%/x"),
        ("/owa/.hidden/..x/x..", "/owa/.hidden/..x/x.."),
    ] {
        assert_eq!(normal(target).as_deref(), Ok(path), "{target}");
    }
}

#[test]
fn dot_segments_and_repeated_slashes_are_resolved() {
    for (target, path) in [
        ("/owa/../ecp/", "/ecp/"),
        ("/owa/%2e%2E/ecp", "/ecp"),
        ("/owa/./x/.", "/owa/x/"),
        ("/owa/x/..", "/owa/"),
        ("/owa/..", "/"),
        ("/owa///x//", "/owa/x/"),
        ("/%65cp", "/ecp"),
    ] {
        assert_eq!(normal(target).as_deref(), Ok(path), "{target}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for (target, why) in [
        ("", Ambiguous::NotOriginForm),
        ("*", Ambiguous::NotOriginForm),
        ("https://mail.example.test/owa", Ambiguous::NotOriginForm),
        ("//evil.example/ecp/", Ambiguous::LeadingSlashes),
        ("/owa#/ecp", Ambiguous::Fragment),
        ("/owa?x#y", Ambiguous::Fragment),
        ("/owa/..\\ecp", Ambiguous::Backslash),
        ("/owa/..%5Cecp", Ambiguous::EncodedBackslash),
        ("/owa/..%2fecp", Ambiguous::EncodedSlash),
        ("/owa%", Ambiguous::MalformedEscape),
        ("/owa%4", Ambiguous::MalformedEscape),
        ("/owa%4g/", Ambiguous::MalformedEscape),
        ("/%u0065cp", Ambiguous::IisEscape),
        ("/%2565cp", Ambiguous::DoubleEncoding),
        ("/%25%36%35cp", Ambiguous::DoubleEncoding),
        ("/owa/%25u002e", Ambiguous::DoubleEncoding),
        ("/owa%00.css", Ambiguous::Nul),
        ("/owa\0", Ambiguous::Nul),
        ("/owa%0d%0aX:y", Ambiguous::Control),
        ("/owa\t", Ambiguous::Control),
        ("/owa x", Ambiguous::Control),
        ("/owa%7f", Ambiguous::Control),
        ("/owa%c2%85", Ambiguous::Control),
        ("/owa/é", Ambiguous::NotUtf8),
        ("/owa/%e9", Ambiguous::NotUtf8),
        ("/owa/%c0%ae%c0%ae/ecp", Ambiguous::NotUtf8),
        ("/owa/%c0%af", Ambiguous::NotUtf8),
        ("/owa/..;/ecp", Ambiguous::DotParameter),
        ("/owa/%2e%2e%3bx=1/ecp", Ambiguous::DotParameter),
        ("/owa/.;a/ecp", Ambiguous::DotParameter),
        ("/owa/.../ecp", Ambiguous::DotsAndSpaces),
        ("/owa/..%20/ecp", Ambiguous::DotsAndSpaces),
        ("/owa/%20..;x/ecp", Ambiguous::DotsAndSpaces),
        ("/owa//../ecp", Ambiguous::SlashesAndDots),
        ("/owa/../x//y", Ambiguous::SlashesAndDots),
        ("/../ecp", Ambiguous::AboveRoot),
        ("/owa/../../ecp", Ambiguous::AboveRoot),
    ] {
        assert_eq!(normal(target), Err(why), "{target:?}");
    }
}

#[test]
fn a_prefix_is_whole_segments() {
    use Case::{Insensitive, Sensitive};
    for (target, prefix, case, under) in [
        ("/owa", "/owa", Sensitive, true),
        ("/owa/", "/owa", Sensitive, true),
        ("/owa", "/owa/", Sensitive, true),
        ("/OWA/x", "/owa", Insensitive, true),
        ("/OWA/x", "/owa", Sensitive, false),
        ("/owax", "/owa", Insensitive, false),
        ("/ow", "/owa", Insensitive, false),
        ("/owa/../ecp", "/ecp", Insensitive, true),
        ("/anything", "/", Sensitive, true),
        ("/%c3%a9", "/\u{c3}", Insensitive, false),
    ] {
        let path = NormalPath::of(target.as_bytes()).unwrap();
        assert_eq!(path.is_under(prefix, case), under, "{target} {prefix} {case:?}");
    }
}

/// As a server decodes that leaves what is no escape.
fn lenient(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let found = escape(rest);
        decoded.push(found.unwrap_or(byte));
        rest = if found.is_some() { &tail[2..] } else { tail };
    }
    decoded
}

/// RFC 3986, section 5.2.4, by the text, in a server that also takes `\` for `/` and collapses slashes if `collapse`.
fn served(path: &[u8], collapse: bool) -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        match segment {
            b"" if collapse => {}
            b"." => {}
            b".." => drop(kept.pop()),
            _ => kept.push(segment.to_vec()),
        }
    }
    kept.retain(|segment| !segment.is_empty());
    kept
}

/// Targets that are made of what attacks are made of.
fn targets() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "/", "//", "..", ".", "%2e", "%2E", "%252e", "%25", "25", "%", "%2f", "%5c", "\\", ";", "%3b", "%20",
        "%u002e", "?", "#", "owa", "ecp", "%65", "%c3%a9", "%c0%ae", "%00", "41", "%41", "é",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()).into_bytes())
}

proptest! {
    #[test]
    fn no_bytes_panic_and_a_normal_path_is_its_own_normal_form(
        target in prop_oneof![targets(), prop::collection::vec(any::<u8>(), 0..40)]
    ) {
        if let Ok(path) = NormalPath::of(&target) {
            prop_assert!(path.0.starts_with('/'));
            prop_assert!(path.0.split('/').all(|segment| !matches!(segment, "." | "..")));
            prop_assert!(!path.0.contains("//") && !path.0.contains('\\'));
            prop_assert_eq!(NormalPath::of(path.encoded().as_bytes()), Ok(path));
        }
    }

    #[test]
    fn servers_that_decode_once_or_twice_serve_what_was_matched(target in targets(), collapse: bool) {
        if let Ok(path) = NormalPath::of(&target) {
            let raw = target.split(|&byte| byte == b'?').next().unwrap();
            let once = lenient(raw);
            let twice = lenient(&once);
            let matched = served(path.0.as_bytes(), true);
            prop_assert_eq!(&served(&once, collapse), &matched);
            prop_assert_eq!(&served(&twice, collapse), &matched);
        }
    }
}
