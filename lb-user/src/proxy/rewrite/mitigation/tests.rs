//! Each attack as it was published, its evasions by encoding, and what users do that looks alike.

use proptest::prelude::*;

use super::super::pattern::{Pattern, Syntax};
use super::*;

fn found(target: &str, cookie: &str) -> Option<&'static str> {
    let all = Mitigations::without(&BTreeSet::new()).unwrap();
    all.find(target, cookie).map(|mitigation| mitigation.name)
}

#[test]
fn published_attacks_are_found_however_they_are_encoded() {
    for (target, cookie, name) in [
        ("/owa/", "a=b; X-AnonResource-Backend=localhost/ecp/default.flt?~3", "proxylogon-anonresource"),
        ("/ecp/y.js", "X-BEResource=localhost~1942062522/autodiscover/x~1", "proxylogon-beresource"),
        ("/ecp/y.js", "x-beresource=]@ex1:444/ecp/proxyLogon.ecp?#~1941962754", "proxylogon-beresource"),
        (
            "/autodiscover/autodiscover.json?@e.example/owa/&Email=autodiscover/autodiscover.json%3f@e.example&x=PowerShell",
            "",
            "proxynotshell",
        ),
        ("/autodiscover/autodiscover.json?a@e.example/%70owershell/", "", "proxynotshell"),
        ("/%2561utodiscover/x?powershell", "", "proxynotshell"),
        ("/%u0061utodiscover/x?powershell", "", "proxynotshell"),
        ("/autodiscover/autodiscover.json?@e.example/mapi/nspi/?&Email=x", "", "proxyshell"),
        ("/autodiscover/autodiscover.json?@e.example%2fmapi%2fnspi", "", "proxyshell"),
        ("/x?X%2DRps-CAT=VgEAVA", "", "proxyshell-token"),
        ("/owa/mastermailbox%40outlook.com/powershell", "", "owassrf"),
        ("/OWA/a@b.example/PowerShell?x", "", "owassrf"),
    ] {
        assert_eq!(found(target, cookie), Some(name), "{target} {cookie}");
    }
}

#[test]
fn what_users_do_is_let_through() {
    for (target, cookie) in [
        ("/owa/", "X-BackEndCookie=S-1-5-21=u56Lnp2ejJqBx8jPnM~x/y; cadata=a/b~c"),
        ("/owa/", "X-BEResource=ex1"),
        ("/autodiscover/autodiscover.json?Email=user%40example.test&Protocol=Autodiscoverv1", ""),
        ("/autodiscover/autodiscover.json/v1.0/user@example.test?Protocol=MapiHttp", ""),
        ("/mapi/emsmdb/?MailboxId=1@example.test", ""),
        ("/owa/powershell@example.test/?ae=Item", ""),
        ("/owa/?q=powershell", ""),
        ("/ews/exchange.asmx", ""),
    ] {
        assert_eq!(found(target, cookie), None, "{target} {cookie}");
    }
}

#[test]
fn a_mitigation_is_switched_off_by_its_name() {
    let off = |name: &str| Mitigations::without(&BTreeSet::from([name.to_owned()]));
    let target = "/autodiscover/autodiscover.json?a/powershell/";
    let next = off("proxynotshell").unwrap().find(target, "").map(|mitigation| mitigation.name);
    assert_eq!(next, Some("proxyshell"));
    let error = off("proxynotshel").unwrap_err().to_string();
    assert!(error.contains("proxynotshell, proxyshell"), "{error}");
}

#[test]
fn names_are_unique() {
    let names: BTreeSet<_> = MITIGATIONS.iter().map(|mitigation| mitigation.name).collect();
    assert_eq!(names.len(), MITIGATIONS.len());
}

proptest! {
    #[test]
    fn cookies_and_urls_are_judged_as_by_the_published_patterns(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "X-BEResource=", "x-beresource", "X-AnonResource-Backend", "/", "~", "a", "=", "é", "; ",
            "Autodiscover", "autodiscover", "PowerShell", "powershel", "l", "?", "@",
        ]), 0..10)
    ) {
        let text = pieces.concat();
        let matches = |pattern: &str| {
            Pattern::compile(Syntax::Ecmascript, pattern, true).unwrap().find(&text).unwrap().is_some()
        };
        let shown = |name: &str, views: &Views<'_>| {
            MITIGATIONS.iter().find(|mitigation| mitigation.name == name).is_some_and(|mitigation| (mitigation.shows)(views))
        };
        let (cookie, target) = (Views::new("/", &text), Views::new(&text, ""));
        prop_assert_eq!(shown("proxylogon-anonresource", &cookie), matches("(.*)X-AnonResource-Backend(.*)"));
        prop_assert_eq!(shown("proxylogon-beresource", &cookie), matches("(.*)X-BEResource=(.+)/(.+)~(.+)"));
        prop_assert_eq!(shown("proxynotshell", &target), matches("(?=.*autodiscover)(?=.*powershell)"));
    }
}
