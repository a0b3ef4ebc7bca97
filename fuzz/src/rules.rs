//! The rule engine: any pattern, templates and request are judged within the limits, and what comes of it can be sent.
#![no_main]

#[path = "../../lb-user/src/proxy/path/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "a module of the proxy, of which this needs a part")]
mod path;
#[path = "../../lb-user/src/proxy/rewrite/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "likewise")]
mod rewrite;

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;

use crate::path::NormalPath;
use crate::rewrite::apply::{Outcome, Variables};
use crate::rewrite::pattern::Syntax;
use crate::rewrite::rule::RuleSet;
use crate::rewrite::spec::{
    ActionSpec, ConditionSpec, ConditionsSpec, Maps, PatternSpec, RedirectStatus, RuleSpec, SetSpec,
};

// A byte of choices, then lines: target, header field, pattern, condition's input and pattern, URL.
fuzz_target!(|input: &[u8]| {
    let Some((&choices, text)) = input.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let mut lines = text.splitn(6, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (target, header) = (line(), line());
    let rules = [
        rule("one", choices, [line(), line(), line(), line()]),
        rule("two", choices >> 4, ["", "", "", "x"]),
    ];
    let Ok(path) = NormalPath::of(target.as_bytes()) else {
        return;
    };
    if let Ok(rules) = RuleSet::compile(&rules, &Maps::new()) {
        check(&rules, &Request { target, path, header });
    }
});

fn rule(name: &str, choices: u8, [from, input, wanted, url]: [&str; 4]) -> RuleSpec {
    let on = |bit: u8| choices & 1 << bit != 0;
    let pattern = |text: &str, negate| PatternSpec { pattern: text.to_owned(), ignore_case: on(0), negate };
    let condition = ConditionSpec { input: input.to_owned(), pattern: pattern(wanted, on(1)) };
    let url = url.to_owned();
    RuleSpec {
        name: name.to_owned(),
        enabled: true,
        syntax: if on(2) { Syntax::Wildcard } else { Syntax::Ecmascript },
        stop_processing: false,
        url: pattern(from, false),
        conditions: ConditionsSpec { list: vec![condition], ..ConditionsSpec::default() },
        set: vec![SetSpec { name: "HTTP_X".to_owned(), value: url.clone(), replace: true }],
        action: if on(3) {
            ActionSpec::Redirect { url, append_query: true, status: RedirectStatus::Found }
        } else {
            ActionSpec::Rewrite { url, append_query: true }
        },
    }
}

fn check(rules: &RuleSet, request: &Request<'_>) {
    let outcome = rules.apply(request);
    assert_eq!(outcome, rules.explain(request).0);
    match outcome {
        Outcome::Continue(found) => {
            assert!(found.headers.values().all(|value| !value.contains(char::is_control)));
            if let Some(url) = found.url {
                assert_eq!(NormalPath::of(url.target().as_bytes()), Ok(url.path.clone()));
            }
        }
        Outcome::Redirect { location, .. } => {
            assert!(
                !location.starts_with("//") && location.bytes().all(|byte| byte.is_ascii_graphic()),
                "{location}"
            );
        }
        Outcome::Respond { .. } | Outcome::Abort { .. } | Outcome::Refuse { .. } => {}
    }
}

struct Request<'a> {
    target: &'a str,
    path: NormalPath,
    header: &'a str,
}

impl Variables for Request<'_> {
    fn target(&self) -> &str {
        self.target
    }

    fn path(&self) -> &NormalPath {
        &self.path
    }

    fn method(&self) -> &str {
        "GET"
    }

    fn header(&self, _: &str) -> Option<String> {
        Some(self.header.to_owned())
    }

    fn is_tls(&self) -> bool {
        true
    }

    fn port(&self) -> u16 {
        443
    }

    fn client(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
}
