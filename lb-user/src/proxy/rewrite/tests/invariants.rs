//! What must hold of all rules and requests.

use proptest::prelude::*;

use super::*;

fn texts() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/",
        "x",
        "..",
        "%2e",
        "%25",
        "?",
        "#",
        "é",
        " ",
        "\\",
        "//",
        "https://",
        "{R:0}",
        "{R:1}",
        "{C:0}",
        "{C:1}",
        "{URL}",
        "{REQUEST_URI}",
        "{QUERY_STRING}",
        "{HTTP_X}",
        "{UrlDecode:{QUERY_STRING}}",
        "{ToLower:{R:0}}",
        "{UrlEncode:{HTTP_X}}",
    ]);
    prop::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat())
}

fn rules() -> impl Strategy<Value = Vec<RuleSpec>> {
    let patterns = prop::sample::select(vec!["(.*)", "^(a|owa)", "(?=.*(x))", "(.)\\1"]);
    let inputs = prop::sample::select(vec![
        "{URL}",
        "{QUERY_STRING}",
        "{UrlDecode:{REQUEST_URI}}",
        "{HTTP_X}",
        "{R:1}",
    ]);
    let one = (patterns, inputs, texts(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(from, input, text, redirects, append_query, stop_processing)| RuleSpec {
            url: pattern(from),
            conditions: all(vec![condition(input, "(.*)")]),
            set: vec![set("HTTP_X", &text, append_query)],
            stop_processing,
            ..rule(if redirects {
                ActionSpec::Redirect { url: text, append_query, status: RedirectStatus::Found }
            } else {
                ActionSpec::Rewrite { url: text, append_query }
            })
        },
    );
    prop::collection::vec(one, 1..4).prop_map(|mut rules| {
        rules.iter_mut().enumerate().for_each(|(number, rule)| rule.name = number.to_string());
        rules
    })
}

fn requests() -> impl Strategy<Value = Request> {
    let piece = prop::sample::select(vec![
        "/", "owa", "aa", "x", "%41", "%3f", "%25", "%0d", "%20", "%c3%a9", "?", "&", "..", ";",
    ]);
    (prop::collection::vec(piece, 0..8), "[a-z%0/.]{0,6}").prop_filter_map(
        "an ambiguous path",
        |(pieces, header)| {
            let target = format!("/{}", pieces.concat());
            NormalPath::of(target.as_bytes()).ok()?;
            Some(Request::get(&target).with("x", &header))
        },
    )
}

/// What may follow the method in a request, or `Location:`, and be read in one way.
fn is_sendable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

proptest! {
    #[test]
    fn what_rules_make_can_be_sent_and_means_one_thing(rules in rules(), request in requests()) {
        let set = compile(&rules);
        let outcome = set.apply(&request);
        prop_assert_eq!(&outcome, &set.explain(&request).0);
        match outcome {
            Outcome::Continue(found) => {
                prop_assert!(found.headers.values().all(|value| !value.contains(char::is_control)));
                if let Some(url) = found.url {
                    let target = url.target();
                    prop_assert!(is_sendable(&target), "{}", target);
                    prop_assert_eq!(NormalPath::of(target.as_bytes()), Ok(url.path));
                }
            }
            Outcome::Redirect { location, .. } => {
                prop_assert!(is_sendable(&location), "{}", location);
                prop_assert!(!location.starts_with("//"), "{}", location);
            }
            Outcome::Respond { .. } | Outcome::Abort { .. } | Outcome::Refuse { .. } => {}
        }
    }

    #[test]
    fn no_template_panics(text in "[{}:RC01a-zA-Z_é]{0,30}") {
        let conditions = all(vec![condition(&text, ".")]);
        drop(RuleSet::compile(&[RuleSpec { conditions, ..rule(ActionSpec::None) }], &Maps::new()));
    }

    #[test]
    fn a_rewrite_to_the_same_path_keeps_every_byte(request in requests()) {
        let rules = [RuleSpec { syntax: Syntax::Wildcard, url: pattern("*"), ..rule(rewrite("https://farm/{R:0}")) }];
        let (farm, target) = forwarded(apply(&rules, &request), &request);
        prop_assert_eq!(farm.as_deref(), Some("farm"));
        prop_assert_eq!(target, request.target);
    }
}
