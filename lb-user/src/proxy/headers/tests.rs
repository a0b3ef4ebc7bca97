//! Which fields can be changed, and what becomes of a request's.

use std::net::IpAddr;

use super::super::path::NormalPath;
use super::super::rewrite::pattern::Syntax;
use super::super::rewrite::spec::{
    ActionSpec, ConditionSpec, ConditionsSpec, PatternSpec, RuleSpec, SetSpec,
};
use super::*;

#[test]
fn what_frames_a_message_or_is_the_proxys_word_cannot_be_changed() {
    for side in [Side::Request, Side::Response] {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "Connection",
            "Keep-Alive",
            "Upgrade",
            "TE",
            "Trailer",
            "Expect",
            "Proxy-Connection",
            "Proxy-Authenticate",
            "Host",
            "X-Request-Id",
            "X_Forwarded_For",
            "Content_Length",
            "a b",
            "a:",
            "",
            "a\r\nb",
        ] {
            for removed in [false, true] {
                assert!(check_name(side, name, removed).is_err(), "{side:?} {name} {removed}");
            }
        }
        for name in ["Server", "X-Site", "Cookie", "Authorization", "User-Agent"] {
            assert!(check_name(side, name, true).is_ok() && check_name(side, name, false).is_ok(), "{name}");
        }
    }
    for (side, name, removed, can) in [
        (Side::Request, "X-Forwarded-For", false, false),
        (Side::Request, "x-forwarded-proto", false, false),
        (Side::Request, "X-Forwarded-Host", false, true),
        (Side::Request, "X-Forwarded-Host", true, false),
        (Side::Request, "X-CommonAccessToken", false, false),
        (Side::Request, "X-IsFromCafe", false, false),
        (Side::Response, "X-CommonAccessToken", true, true),
        (Side::Response, "Strict-Transport-Security", true, false),
        (Side::Response, "strict-transport-security", false, false),
        (Side::Response, "Location", false, false),
        (Side::Request, "Location", false, true),
        (Side::Response, "Set-Cookie", false, true),
    ] {
        assert_eq!(check_name(side, name, removed).is_ok(), can, "{side:?} {name} {removed}");
    }
}

#[test]
fn a_value_cannot_end_a_line_nor_say_for_the_proxy_what_the_client_wrote() {
    for (name, value, can) in [
        ("X-A", "b", true),
        ("X-A", "", true),
        ("X-A", "b\r\nEvil: 1", false),
        ("X-A", "b\0", false),
        ("X-A", "{REMOTE_ADDR}:{SERVER_PORT}", true),
        ("X-A", "{HTTP_USER_AGENT}", true),
        ("X-A", "{HTTP_X_FORWARDED_FOR}", false),
        ("X-A", "{ToLower:{HTTP_X_REAL_IP}}", false),
        ("X-A", "{R:1}", false),
        ("X-A", "{C:0}", false),
        ("X-A", "{NOBODY}", false),
        ("X-A", "{REMOTE_ADDR", false),
        ("X-Real-IP", "{REMOTE_ADDR}", true),
        ("X-Forwarded-Host", "{HTTP_HOST}", true),
        ("X-Real-IP", "{HTTP_USER_AGENT}", false),
        ("Forwarded", "for={UrlEncode:{HTTP_X_MY_CLIENT}}", false),
    ] {
        let checked = check_value(Side::Request, name, value, &Maps::new());
        assert_eq!(checked.is_ok(), can, "{name}: {value}: {checked:?}");
    }
    assert!(check_value(Side::Request, "X-A", &"b".repeat(4097), &Maps::new()).is_err());
}

#[test]
fn a_routes_changes_are_in_place_of_the_sites_and_both_in_place_of_the_rules() {
    let site = edits(&[("X-A", "site"), ("X-B", "site")], &[("X-C", "site")], &["X-D", "X-E"]);
    let route = edits(&[("x-b", "route {REMOTE_ADDR}")], &[("X-D", "route")], &["X-C"]);
    let changes = Changes::compile(Side::Request, &site, &route, &Maps::new()).unwrap();
    let rules = [("x-a", "rule"), ("x-f", "rule")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let filled = changes.fill(&Request("/"), rules.into()).unwrap();
    let said: Vec<_> = filled.said().collect();
    let wanted = [("x-f", "rule"), ("X-A", "site"), ("x-b", "route 203.0.113.5"), ("X-D", "route")];
    assert_eq!(said, wanted);
    for (name, gone) in [
        ("X-A", true),
        ("x-B", true),
        ("X-C", true),
        ("X-D", false),
        ("X-E", true),
        ("X-F", true),
        ("X-G", false),
    ] {
        assert_eq!(filled.replace(name.as_bytes()), gone, "{name}");
    }
}

#[test]
fn what_a_client_writes_ends_no_line() {
    let changes = edits(&[("X-Path", "{URL}"), ("X-Query", "{UrlDecode:{QUERY_STRING}}")], &[], &[]);
    let changes = Changes::compile(Side::Response, &changes, &FieldEdits::default(), &Maps::new()).unwrap();
    let fill = |target| changes.fill(&Request(target), BTreeMap::new());
    let filled = fill("/a%20b?c=d").unwrap();
    assert_eq!(filled.said().collect::<Vec<_>>(), [("X-Path", "/a b"), ("X-Query", "c=d")]);
    assert_eq!(fill("/a?b%0d%0aEvil:1"), Err(Refusal::Header));
    assert_eq!(fill("/a?b%00"), Err(Refusal::Header));
}

fn edits(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> FieldEdits {
    let table = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let remove = remove.iter().map(|name| (*name).to_owned()).collect();
    FieldEdits { set: table(set), add: table(add), remove }
}

/// A GET of this target.
struct Request(&'static str);

impl Variables for Request {
    fn target(&self) -> &str {
        self.0
    }

    fn path(&self) -> &NormalPath {
        // Tests are few, and a trait that gives a reference wants something that lives.
        Box::leak(Box::new(NormalPath::of(self.0.as_bytes()).unwrap()))
    }

    fn method(&self) -> &str {
        "GET"
    }

    fn header(&self, _name: &str) -> Option<String> {
        None
    }

    fn is_tls(&self) -> bool {
        true
    }

    fn port(&self) -> u16 {
        443
    }

    fn client(&self) -> IpAddr {
        "203.0.113.5".parse().unwrap()
    }
}

/// Anybody can write what is removed from clients, and only the proxy may say what it says.
#[test]
fn no_word_of_the_clients_decides_a_rule_or_goes_on_by_it_as_the_proxys() {
    let checked = |condition: &str, name: &str, value: &str| {
        let rule = RuleSpec {
            conditions: ConditionsSpec {
                list: vec![ConditionSpec { input: condition.to_owned(), pattern: pattern() }],
                ..ConditionsSpec::default()
            },
            set: vec![SetSpec { name: name.to_owned(), value: value.to_owned(), replace: true }],
            ..rule()
        };
        let rules = RuleSet::compile(&[rule], &Maps::new()).unwrap();
        check_rules(&rules).map_err(|error| error.to_string())
    };
    for (condition, name, value, refused) in [
        ("{REMOTE_ADDR}", "HTTP_X_REAL_IP", "{REMOTE_ADDR}", None),
        ("{HTTP_HOST}", "HTTP_X_FORWARDED_HOST", "{HTTP_HOST}", None),
        ("{HTTP_X_A}", "HTTP_X_A", "{HTTP_X_B}", None),
        (
            "{HTTP_X_FORWARDED_FOR}",
            "HTTP_X_A",
            "1",
            Some("input of condition 1: x-forwarded-for is removed from"),
        ),
        (
            "{ToLower:{HTTP_X_REAL_IP}}",
            "HTTP_X_A",
            "1",
            Some("input of condition 1: x-real-ip is removed from"),
        ),
        ("x", "HTTP_X_REAL_IP", "{HTTP_FORWARDED}", Some("server variable 1: forwarded is removed from")),
        ("x", "HTTP_X_REAL_IP", "{HTTP_X_CLIENT}", Some("server variable 1: x-real-ip would say")),
        ("x", "HTTP_X_FORWARDED_PROTO", "https", Some("server variable 1: x-forwarded-proto")),
        ("x", "HTTP_X_FORWARDED_FOR", "{REMOTE_ADDR}", Some("server variable 1: x-forwarded-for")),
        ("x", "HTTP_X_REQUEST_ID", "1", Some("server variable 1: x-request-id")),
        ("x", "HTTP_X_COMMONACCESSTOKEN", "a", Some("server variable 1: x-commonaccesstoken")),
        ("x", "HTTP_X_BERESOURCE", "a", Some("server variable 1: x-beresource")),
    ] {
        match (checked(condition, name, value), refused) {
            (Ok(()), None) => {}
            (Err(error), Some(wanted)) => {
                assert!(error.starts_with(&format!("rule \"rule\", {wanted}")), "{error}");
            }
            (found, wanted) => panic!("{condition} {name} {value}: {found:?}, wanted {wanted:?}"),
        }
    }
}

fn rule() -> RuleSpec {
    RuleSpec {
        name: "rule".to_owned(),
        enabled: true,
        syntax: Syntax::Ecmascript,
        stop_processing: false,
        url: pattern(),
        conditions: ConditionsSpec::default(),
        set: Vec::new(),
        action: ActionSpec::None,
    }
}

fn pattern() -> PatternSpec {
    PatternSpec { pattern: ".*".to_owned(), ignore_case: true, negate: false }
}
