//! What is refused when it is configured, and what when a request comes.

use super::super::rule::Place;
use super::*;

fn error(rule: RuleSpec) -> String {
    let maps = Maps::from([("Map".to_owned(), map(&[]))]);
    RuleSet::compile(&[rule], &maps).map(|_| ()).unwrap_err().to_string()
}

fn conditions(list: Vec<ConditionSpec>) -> RuleSpec {
    RuleSpec { conditions: all(list), ..rule(ActionSpec::None) }
}

#[test]
fn a_pattern_or_template_that_cannot_be_read_is_refused_with_its_place() {
    let url = |text: &str| RuleSpec { url: pattern(text), ..rule(ActionSpec::None) };
    for (rule, wanted) in [
        (url("a("), "url pattern: character 1: a group is not closed"),
        (url("(?<=a)b"), "url pattern: character 0: look-behind is not run"),
        (
            conditions(vec![condition("{HTTPS}", "."), condition("{NOTHING}", ".")]),
            "input of condition 2: character 0: there is no server variable NOTHING; \
             hint: request header fields are HTTP_ and the name with _ for -",
        ),
        (
            conditions(vec![condition("x", "[")]),
            "pattern of condition 1: character 0: a character class is not closed",
        ),
        (
            rule(rewrite("a{b")),
            "action: character 1: there is no server variable b; hint: request header fields are HTTP_ and the name with _ for -",
        ),
        (rule(rewrite("a{R:0")), "action: character 1: a brace is not closed"),
        (
            rule(rewrite("a}")),
            "action: character 1: a brace closes nothing; hint: in a URL, write %7D for the character",
        ),
        (rule(rewrite("{R:10}")), "action: character 0: a back reference needs one digit"),
        (rule(rewrite("{Mop:x}")), "action: character 0: there is neither a function nor a rewrite map Mop"),
        (
            rule(rewrite(&format!("{}{}", "{ToLower:".repeat(21), "}".repeat(21)))),
            "action: character 180: there are more than 20 braces within each other",
        ),
    ] {
        assert_eq!(error(rule), format!("rule \"rule\", {wanted}"));
    }
}

#[test]
fn a_back_reference_to_what_is_not_captured_is_refused() {
    for (rule, wanted) in [
        (
            conditions(vec![condition("{C:1}", ".")]),
            "input of condition 1: {C:n} is used, but nothing is captured; hint: {URL} is the path",
        ),
        (rule(rewrite("{R:1}")), "action: {R:1} is used, but only 0 groups are captured"),
        (
            rule(rewrite("{ToLower:{Map:{C:0}}}")),
            "action: {C:n} is used, but nothing is captured; hint: {URL} is the path",
        ),
        (
            RuleSpec { url: not("a"), ..rule(rewrite("{R:0}")) },
            "action: {R:n} is used, but nothing is captured; hint: {URL} is the path",
        ),
    ] {
        assert_eq!(error(rule), format!("rule \"rule\", {wanted}"));
    }
}

#[test]
fn what_no_answer_or_request_can_be_is_refused() {
    let setting =
        |name: &str, value: &str| RuleSpec { set: vec![set(name, value, true)], ..rule(ActionSpec::None) };
    let status = |status| {
        rule(ActionSpec::CustomResponse {
            status,
            substatus: 0,
            reason: String::new(),
            description: String::new(),
        })
    };
    for (rule, wanted) in [
        (rule(rewrite("")), "action: the URL is empty; hint: use / for the root"),
        (status(101), "action: status 101 is none of an answer; hint: use 200 to 599"),
        (
            setting("ORIGINAL_URI", "x"),
            "server variable 1: only request header fields can be set; hint: write HTTP_ and the name with _ for -",
        ),
        (
            setting("HTTP_A:B", "x"),
            "server variable 1: only request header fields can be set; hint: write HTTP_ and the name with _ for -",
        ),
        (
            setting("HTTP_TRANSFER_ENCODING", "x"),
            "server variable 1: the proxy itself writes the field transfer-encoding",
        ),
    ] {
        assert_eq!(error(rule), format!("rule \"rule\", {wanted}"));
    }
}

#[test]
fn each_rule_has_a_name_of_its_own() {
    let named = |name: &str| RuleSpec { name: name.to_owned(), ..rule(ActionSpec::None) };
    for rules in [[named("one"), named("one")], [named("one"), named("")]] {
        let error: RuleError = RuleSet::compile(&rules, &Maps::new()).unwrap_err();
        assert_eq!((error.rule.as_str(), error.place), (rules[1].name.as_str(), Place::Name));
    }
}

#[test]
fn what_cannot_be_judged_or_sent_is_refused_whatever_the_action() {
    let hard = || RuleSpec { url: pattern("(?=a)(a+)+$"), ..rule(ActionSpec::None) };
    let target = format!("/{}b", "a".repeat(40));
    let farm = |url: &str| rule(rewrite(url));
    let setting =
        RuleSpec { set: vec![set("HTTP_X", "{UrlDecode:{QUERY_STRING}}", true)], ..rule(ActionSpec::None) };
    for (rule, target, cause) in [
        (hard(), target.as_str(), Refusal::OverLimit),
        (RuleSpec { url: PatternSpec { negate: true, ..hard().url }, ..hard() }, &target, Refusal::OverLimit),
        (RuleSpec { action: ActionSpec::AbortRequest, ..hard() }, &target, Refusal::OverLimit),
        (farm("https:///{R:0}"), "/owa", Refusal::NoFarm),
        (farm("https://{HTTP_X_NONE}/owa"), "/owa", Refusal::NoFarm),
        (farm("x/{QUERY_STRING}"), "/owa?../../y", Refusal::Ambiguous(Ambiguous::AboveRoot)),
        (farm("x/{QUERY_STRING}"), "/owa?%252e", Refusal::Ambiguous(Ambiguous::DoubleEncoding)),
        (farm("x\\y"), "/owa", Refusal::Ambiguous(Ambiguous::EncodedBackslash)),
        (farm("x?a#b"), "/owa", Refusal::Ambiguous(Ambiguous::Fragment)),
        (setting, "/owa?%0d%0aX:y", Refusal::Header),
    ] {
        assert_eq!(
            apply(&[rule], &Request::get(target)),
            Outcome::Refuse { rule: "rule".to_owned(), cause },
            "{target}"
        );
    }
}

#[test]
fn rules_that_double_a_url_are_stopped() {
    let doubling = |number: usize| RuleSpec { name: number.to_string(), ..rule(rewrite("{R:0}{R:0}")) };
    let rules: Vec<RuleSpec> = (0..40).map(doubling).collect();
    let outcome = apply(&rules, &Request::get(&format!("/{}", "a".repeat(1000))));
    assert_eq!(outcome, Outcome::Refuse { rule: "6".to_owned(), cause: Refusal::TooLong });
}

#[test]
fn specs_survive_the_way_to_the_proxy() {
    let rules = [
        RuleSpec {
            syntax: Syntax::Wildcard,
            set: vec![set("HTTP_X", "y", false)],
            ..rule(rewrite("https://farm/{R:0}"))
        },
        RuleSpec { conditions: all(vec![condition("{URL}", "x")]), ..rule(ActionSpec::AbortRequest) },
        rule(redirect("/x")),
        rule(ActionSpec::CustomResponse {
            status: 403,
            substatus: 1,
            reason: "r".to_owned(),
            description: "d".to_owned(),
        }),
    ];
    let text = serde_json::to_string(&rules).unwrap();
    assert_eq!(serde_json::from_str::<Vec<RuleSpec>>(&text).unwrap(), rules);
}
