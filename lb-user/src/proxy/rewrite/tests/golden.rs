//! Rules word for word, and what IIS makes of requests by its documentation.

use super::*;

/// ARR writes these itself for a farm (`ARR_myServerFarm_loadbalance_SSL`).
fn arr(name: &str, https: &str, url: &str) -> RuleSpec {
    RuleSpec {
        name: name.to_owned(),
        syntax: Syntax::Wildcard,
        stop_processing: true,
        url: pattern("*"),
        conditions: all(vec![condition("{HTTPS}", https)]),
        ..rule(rewrite(url))
    }
}

#[test]
fn arrs_own_rules_name_the_farm_and_keep_the_clients_bytes() {
    let rules = [
        arr("ARR_myServerFarm_loadbalance_SSL", "On", "https://myServerFarm/{R:0}"),
        arr("ARR_myServerFarm_loadbalance", "Off", "http://myServerFarm/{R:0}"),
    ];
    for target in ["/", "/owa/", "/owa/%41b%3fc%25%3B/x?id=Rg%2fx&y", "/a/../owa?", "/a%20b//c/"] {
        let mut request = Request::get(target);
        for tls in [true, false] {
            request.tls = tls;
            let Outcome::Continue(found) = apply(&rules, &request) else { panic!("{target}") };
            assert_eq!(found.farm, Some(Farm { tls, authority: "myServerFarm".to_owned() }));
            assert_eq!(found.url.unwrap().target(), target);
            assert_eq!(found.rules.len(), 1);
        }
    }
}

#[test]
fn microsofts_mitigations_abort() {
    let abort = |name: &str, input: &str, text: &str| RuleSpec {
        name: name.to_owned(),
        stop_processing: true,
        conditions: all(vec![condition(input, text)]),
        ..rule(ActionSpec::AbortRequest)
    };
    let rules = [
        abort("X-AnonResource-Backend Abort - inbound", "{HTTP_COOKIE}", "(.*)X-AnonResource-Backend(.*)"),
        abort("X-BEResource Abort - inbound", "{HTTP_COOKIE}", "(.*)X-BEResource=(.+)/(.+)~(.+)"),
        abort("PowerShell - inbound", "{UrlDecode:{REQUEST_URI}}", "(?=.*autodiscover)(?=.*powershell)"),
    ];
    for (target, cookie, number) in [
        ("/ecp/x.js", "a=b; x-anonresource-backend=x", Some(0)),
        ("/ecp/x.js", "X-BEResource=a/b~c", Some(1)),
        ("/Autodiscover/autodiscover.json?@x/%50owershell", "", Some(2)),
        ("/x?PowerShell&autodiscover", "", Some(2)),
        ("/autodiscover/autodiscover.json?Email=a%40b", "X-BEResource=a", None),
    ] {
        let outcome = apply(&rules, &Request::get(target).with("cookie", cookie));
        let wanted = number.map(|number: usize| Outcome::Abort { rule: rules[number].name.clone() });
        match wanted {
            Some(wanted) => assert_eq!(outcome, wanted, "{target}"),
            None => assert_eq!(outcome, Outcome::Continue(Continue::default()), "{target}"),
        }
    }
}

#[test]
fn the_references_examples_mean_what_it_says() {
    let maps = Maps::from([
        (
            "StaticRewrites".to_owned(),
            map(&[
                ("/diagnostic", "/default.aspx?tabid=2&subtabid=29"),
                ("/php", "/default.aspx?tabid=7116"),
            ]),
        ),
        (
            "StaticRedirects".to_owned(),
            map(&[
                ("/default.aspx?tabid=2&subtabid=29", "/diagnostics"),
                ("/default.aspx?tabid=7116", "/php"),
            ]),
        ),
    ]);
    let through =
        |condition: ConditionSpec, action| RuleSpec { conditions: all(vec![condition]), ..rule(action) };
    let rewrites = through(
        condition("{StaticRewrites:{REQUEST_URI}}", "(.+)"),
        ActionSpec::Rewrite { url: "{C:1}".to_owned(), append_query: false },
    );
    let redirects = through(
        condition("{staticredirects:{REQUEST_URI}}", "(.+)"),
        ActionSpec::Redirect {
            url: "http://www.contoso.com{C:1}".to_owned(),
            append_query: false,
            status: RedirectStatus::Found,
        },
    );
    let (rewrites, redirects) =
        (RuleSet::compile(&[rewrites], &maps).unwrap(), RuleSet::compile(&[redirects], &maps).unwrap());
    for (target, wanted) in [
        ("/diagnostic", "/default.aspx?tabid=2&subtabid=29"),
        ("/PHP", "/default.aspx?tabid=7116"),
        ("/default.aspx", "/default.aspx"),
    ] {
        let request = Request::get(target);
        assert_eq!(forwarded(rewrites.apply(&request), &request), (None, wanted.to_owned()));
    }
    let location = |target: &str| match redirects.apply(&Request::get(target)) {
        Outcome::Redirect { location, status: 302, .. } => Some(location),
        Outcome::Redirect { .. }
        | Outcome::Continue(_)
        | Outcome::Respond { .. }
        | Outcome::Abort { .. }
        | Outcome::Refuse { .. } => None,
    };
    assert_eq!(location("/default.aspx?tabid=7116").as_deref(), Some("http://www.contoso.com/php"));
    assert_eq!(location("/default.aspx"), None);
}

#[test]
fn a_sub_domain_becomes_a_folder() {
    let rules = [RuleSpec {
        url: pattern("^(.+)"),
        conditions: all(vec![condition("{HTTP_HOST}", r"^([^.]+)\.contoso\.com$")]),
        ..rule(rewrite("{C:1}/{R:1}"))
    }];
    let request = Request::get("/owa/x?y");
    assert_eq!(forwarded(apply(&rules, &request), &request).1, "/mail/owa/x?y");
}

#[test]
fn a_language_folder_becomes_a_cookie() {
    let maps = Maps::from([(
        "Languages".to_owned(),
        MapSpec { default: "en_US".to_owned(), ..map(&[("fr-fr", "fr_FR"), ("de-de", "de_DE")]) },
    )]);
    let rules = [RuleSpec {
        url: pattern("^([a-z]{2}-[a-z]{2})/(.*)"),
        conditions: all(vec![condition("{Languages:{R:1}}", "(.+)")]),
        set: vec![
            set("HTTP_COOKIE", "Language={C:1}", true),
            set("HTTP_X_ORIGINAL_URI", "http://{HTTP_HOST}{REQUEST_URI}", true),
        ],
        ..rule(rewrite("{R:2}"))
    }];
    let rules = RuleSet::compile(&rules, &maps).unwrap();
    for (target, cookie) in
        [("/de-DE/language.aspx", "Language=de_DE"), ("/xx-xx/language.aspx", "Language=en_US")]
    {
        let Outcome::Continue(found) = rules.apply(&Request::get(target)) else { panic!("{target}") };
        assert_eq!(found.url.unwrap().target(), "/language.aspx");
        assert_eq!(found.headers["cookie"], cookie);
        assert_eq!(found.headers["x-original-uri"], format!("http://mail.contoso.com{target}"));
    }
}

#[test]
fn functions_are_applied_inside_out() {
    for (url, wanted) in [
        ("{ToLower:{R:0}}", "/owa/r%c3%a9sum%c3%a9%20x%3fy?Q=%C3%A9"),
        ("x?y={UrlEncode:{R:0}}", "/x?y=Owa%2FR%C3%A9sum%C3%A9%20X%3Fy&Q=%C3%A9"),
        ("x?y={UrlEncode:{ToLower:{REQUEST_METHOD} &}}", "/x?y=get%20%26&Q=%C3%A9"),
        ("x?y={UrlDecode:{QUERY_STRING}}", "/x?y=Q=%C3%A9&Q=%C3%A9"),
        ("x?y={HtmlEncode:<&>}", "/x?y=&lt;&amp;&gt;&Q=%C3%A9"),
    ] {
        let request = Request::get("/Owa/R%C3%A9sum%C3%A9%20X%3Fy?Q=%C3%A9");
        assert_eq!(forwarded(apply(&[rule(rewrite(url))], &request), &request).1, wanted, "{url}");
    }
}

#[test]
fn a_part_of_the_path_stays_one_wherever_it_is_captured() {
    let through = |inputs: &[&str], url: &str| RuleSpec {
        conditions: all(inputs.iter().map(|input| condition(input, "(.*)")).collect()),
        ..rule(ActionSpec::Rewrite { url: url.to_owned(), append_query: false })
    };
    for (inputs, url, wanted) in [
        (&["{URL}"][..], "x{C:1}", "/x/a%3Fb%25c%20d"),
        (&["{R:0}"], "x/{C:0}", "/x/a%3Fb%25c%20d"),
        (&["{ToLower:{R:0}}", "{C:1}"], "x/{C:1}", "/x/a%3Fb%25c%20d"),
        (&["{URL}", "{QUERY_STRING}"], "x?{C:1}", "/x?e=%3f"),
        (&["{REQUEST_URI}"], "x{C:1}", "/x/a%3fb%25c%20d?e=%3f"),
    ] {
        let request = Request::get("/a%3fb%25c%20d?e=%3f");
        assert_eq!(forwarded(apply(&[through(inputs, url)], &request), &request).1, wanted, "{inputs:?}");
    }
}

#[test]
fn redirects_name_where_to_go() {
    for (url, append_query, wanted) in [
        ("https://{HTTP_HOST}/{R:0}", true, "https://mail.contoso.com/owa/a%20b%3F?x=%2f"),
        ("https://{HTTP_HOST}{REQUEST_URI}", false, "https://mail.contoso.com/owa/a%20b%3F?x=%2f"),
        ("{CACHE_URL}", false, "https://mail.contoso.com:443/owa/a%20b%3F?x=%2f"),
        ("ecp/", true, "/ecp/?x=%2f"),
        ("/ecp/?y=1", true, "/ecp/?y=1&x=%2f"),
        ("/ecp/?y=1#z", false, "/ecp/?y=1#z"),
        ("//evil.example/{R:0}", false, "/evil.example/owa/a%20b%3F"),
        ("/\\evil.example/", false, "/evil.example/"),
        ("/x?\"y\"", true, "/x?%22y%22&x=%2f"),
        ("/{UrlDecode:%0d%0aSet-Cookie:x}é", false, "/%0D%0ASet-Cookie:x%C3%A9"),
    ] {
        let status = RedirectStatus::PermanentRedirect;
        let rules = [rule(ActionSpec::Redirect { url: url.to_owned(), append_query, status })];
        let wanted = Outcome::Redirect { rule: "rule".to_owned(), status: 308, location: wanted.to_owned() };
        assert_eq!(apply(&rules, &Request::get("/owa/a%20b%3F?x=%2f")), wanted, "{url}");
    }
}

#[test]
fn rules_follow_one_another_until_one_stops_or_ends() {
    let step = |name: &str, from: &str, action| RuleSpec {
        name: name.to_owned(),
        url: pattern(from),
        ..rule(action)
    };
    let rules = [
        step("one", "^a(.*)", rewrite("https://farm/b{R:1}?one")),
        step("two", "^b(.*)", rewrite("c{R:1}?two")),
        RuleSpec { stop_processing: true, ..step("three", "^cx", ActionSpec::None) },
        step("four", "^c", ActionSpec::AbortRequest),
    ];
    let request = Request::get("/ax?q");
    let Outcome::Continue(found) = apply(&rules, &request) else { panic!("cx stops at three") };
    assert_eq!(found.url.as_ref().map(super::super::url::Url::target).as_deref(), Some("/cx?two&one&q"));
    assert_eq!(found.farm.map(|farm| farm.authority).as_deref(), Some("farm"));
    assert_eq!(found.rules, ["one", "two", "three"]);
    assert_eq!(apply(&rules, &Request::get("/ay")), Outcome::Abort { rule: "four".to_owned() });
}

#[test]
fn an_answer_quotes_no_control_characters_in_its_reason() {
    let rules = [rule(ActionSpec::CustomResponse {
        status: 403,
        substatus: 7,
        reason: "No{UrlDecode:%0d%0a}{REQUEST_METHOD}".to_owned(),
        description: "not {URL}".to_owned(),
    })];
    let wanted = Outcome::Respond {
        rule: "rule".to_owned(),
        status: 403,
        substatus: 7,
        reason: "No  GET".to_owned(),
        description: "not /owa/".to_owned(),
    };
    assert_eq!(apply(&rules, &Request::get("/owa/")), wanted);
}

#[test]
fn conditions_are_all_or_any_and_capture_in_order() {
    let target = "/owa/x?p1=abc&p2=123";
    let first = condition("{QUERY_STRING}", "p1=([a-z]+)");
    let second = condition("{QUERY_STRING}", "p2=([0-9]+)");
    let none = condition("{HTTP_USER_AGENT}", "(.+)");
    let no_agent = ConditionSpec { pattern: not("."), ..none.clone() };
    let (all, any) = (Grouping::MatchAll, Grouping::MatchAny);
    for (grouping, track_all_captures, list, url, wanted) in [
        (all, false, vec![first.clone(), second.clone()], "{C:0}-{C:1}", Some("/p2=123-123")),
        (all, true, vec![first.clone(), second.clone()], "{C:0}-{C:1}-{C:2}", Some("/p1=abc-abc-123")),
        (all, false, vec![first.clone(), no_agent.clone()], "{C:1}", Some("/abc")),
        (all, false, vec![first.clone(), none.clone()], "{C:1}", None),
        (any, false, vec![none.clone(), second.clone(), first.clone()], "{C:1}", Some("/123")),
        (any, false, vec![none.clone(), ConditionSpec { pattern: not("p"), ..first.clone() }], "x", None),
        (all, false, vec![first.clone(), condition("{C:1}{R:0}", "^(.)bcowa")], "{C:1}", Some("/a")),
        (all, false, vec![], "x", Some("/x")),
        (any, false, vec![], "x", Some("/x")),
    ] {
        let conditions = ConditionsSpec { grouping, track_all_captures, list };
        let action = ActionSpec::Rewrite { url: url.to_owned(), append_query: false };
        let request = Request::get(target);
        let found = forwarded(apply(&[RuleSpec { conditions, ..rule(action) }], &request), &request).1;
        assert_eq!(found, wanted.unwrap_or(target), "{url}");
    }
}

#[test]
fn header_fields_are_set_for_the_server_and_for_later_rules() {
    let named = |name: &str, set, action| RuleSpec { name: name.to_owned(), set, ..rule(action) };
    let rules = [
        named(
            "one",
            vec![
                set("HTTP_X_NEW", "{REMOTE_ADDR}", false),
                set("HTTP_ACCEPT", "no", false),
                set("http_x_old", "new", true),
            ],
            ActionSpec::None,
        ),
        named(
            "two",
            vec![set("HTTP_X_SEEN", "{HTTP_X_NEW} {HTTP_ACCEPT} {HTTP_X_OLD}", true)],
            ActionSpec::None,
        ),
    ];
    let request = Request::get("/").with("accept", "*/*").with("x-old", "old");
    let Outcome::Continue(found) = apply(&rules, &request) else { panic!("nothing ends") };
    let headers: Vec<(&str, &str)> =
        found.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, [("x-new", "203.0.113.5"), ("x-old", "new"), ("x-seen", "203.0.113.5 */* new")]);
    assert_eq!(found.url, None);
}

#[test]
fn variables_have_their_values() {
    let request =
        Request::get("/OWA/a%20b/../c?d=%20").with("host", "mail.contoso.com:8443").with("x-y", "z");
    for (name, value) in [
        ("HTTPS", "ON"),
        ("SERVER_PORT", "443"),
        ("SERVER_PORT_SECURE", "1"),
        ("SERVER_NAME", "mail.contoso.com"),
        ("HTTP_HOST", "mail.contoso.com:8443"),
        ("REMOTE_ADDR", "203.0.113.5"),
        ("REQUEST_METHOD", "GET"),
        ("QUERY_STRING", "d=%20"),
        ("REQUEST_URI", "/OWA/a%20b/../c?d=%20"),
        ("UNENCODED_URL", "/OWA/a%20b/../c?d=%20"),
        ("HTTP_X_ORIGINAL_URL", "/OWA/c?d=%20"),
        ("URL", "/OWA/c"),
        ("PATH_INFO", "/OWA/c"),
        ("CACHE_URL", "https://mail.contoso.com:443/OWA/a%20b/../c?d=%20"),
        ("HTTP_X_Y", "z"),
        ("HTTP_X_NONE", ""),
    ] {
        let input = format!("[{{{name}}}]");
        let exact = ConditionSpec { input, pattern: pattern(&format!("[{value}]")) };
        let rules = [RuleSpec {
            syntax: Syntax::ExactMatch,
            url: pattern("owa/C"),
            conditions: all(vec![exact]),
            ..rule(ActionSpec::AbortRequest)
        }];
        assert_eq!(apply(&rules, &request), Outcome::Abort { rule: "rule".to_owned() }, "{name}");
    }
}

#[test]
fn an_operator_is_told_what_came_of_each_rule() {
    let named = |name: &str| RuleSpec { name: name.to_owned(), ..rule(ActionSpec::None) };
    let rules = [
        RuleSpec { enabled: false, ..named("off") },
        RuleSpec { url: pattern("^ecp"), ..named("path") },
        RuleSpec { url: not("^owa"), ..named("negated") },
        RuleSpec {
            conditions: all(vec![condition("{HTTPS}", "."), condition("{URL}", "x$")]),
            ..named("condition")
        },
        RuleSpec { action: rewrite("y"), stop_processing: true, ..named("rewrite") },
        named("never"),
    ];
    let (outcome, tried) = compile(&rules).explain(&Request::get("/owa/?z"));
    let input = || "owa/".to_owned();
    let wanted = [
        ("off", Verdict::Disabled),
        ("path", Verdict::PathDiffers { input: input() }),
        ("negated", Verdict::PathDiffers { input: input() }),
        ("condition", Verdict::ConditionFails { condition: 1, input: "/owa/".to_owned() }),
        ("rewrite", Verdict::Performed { target: "/y?z".to_owned() }),
    ];
    let wanted = wanted.map(|(rule, verdict)| Tried { rule: rule.to_owned(), verdict });
    assert_eq!(tried, wanted);
    assert_eq!(outcome, compile(&rules).apply(&Request::get("/owa/?z")));
}
