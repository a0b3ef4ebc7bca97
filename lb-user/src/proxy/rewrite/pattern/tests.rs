//! What patterns mean, what is refused, and that no input takes long. The table of meanings was taken from V8 (`RegExp.exec`), and
//! so was a comparison of some million random patterns and inputs, which differed for `ẞ` without case alone.

use proptest::prelude::*;

use super::*;

fn compile(pattern: &str, ignore_case: bool) -> Pattern {
    Pattern::compile(Syntax::Ecmascript, pattern, ignore_case)
        .unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

fn groups(pattern: &Pattern, input: &str) -> Option<Vec<String>> {
    pattern.find(input).unwrap().map(|captures| captures.into_groups().collect())
}

#[test]
fn patterns_mean_what_ecmascript_says() {
    for (pattern, input, wanted) in [
        (r"([0-9]+)/([a-z]+)\.html", "07/article.html", Some(&["07/article.html", "07", "article"][..])),
        (r"^([_0-9a-zA-Z-]+/)?(wp-.*)", "blog/wp-admin/x", Some(&["blog/wp-admin/x", "blog/", "wp-admin/x"])),
        (r"^(www\.)(.*)$", "www.foo.com", Some(&["www.foo.com", "www.", "foo.com"])),
        // Greedy, lazy, alternation in order.
        ("a+?", "aaa", Some(&["a"])),
        ("a|ab", "ab", Some(&["a"])),
        ("(a|ab)(c|bcd)(d*)", "abcd", Some(&["abcd", "a", "bcd", ""])),
        ("a{2,3}", "aaaa", Some(&["aaa"])),
        ("a{0}b", "ab", Some(&["b"])),
        // A turn forgets what the one before captured, and takes something.
        ("(?:(a)|b)*", "ab", Some(&["ab", ""])),
        ("(z)((a+)?(b+)?(c))*", "zaacbbbcac", Some(&["zaacbbbcac", "z", "ac", "a", "", "c"])),
        ("(a*)*", "b", Some(&["", ""])),
        ("(|a)*", "aaa", Some(&["aaa", "a"])),
        ("(?:a*?){2,}b", "aab", Some(&["aab"])),
        // Look-ahead keeps its captures and is not entered again.
        ("(?=(a+))a*b\\1", "baaabac", Some(&["aba", "a"])),
        ("(?=(a+))", "baaabac", Some(&["", "aaa"])),
        ("(.*?)a(?!(a+)b\\2c)\\2(.*)", "baaabaac", Some(&["baaabaac", "ba", "", "abaac"])),
        ("(?!foo)...", "foobar", Some(&["oob"])),
        ("^(?!.*secret).*$", "a/secret", None),
        // Back references: to nothing, to itself, with a name.
        ("(?:(a)|b)\\1c", "bc", Some(&["bc", ""])),
        ("(a\\1)", "aa", Some(&["a", "a"])),
        ("\\1(a)", "aa", Some(&["a", "a"])),
        ("(?<x>[ab])\\k<x>", "abb", Some(&["bb", "b"])),
        // Places: `$` is the end alone, `\b` knows ASCII.
        ("a$", "a\n", None),
        ("^b", "a\nb", None),
        (r"\bé", "é", None),
        (r"\Bé", "é", Some(&["é"])),
        // Characters and classes.
        (".", "\u{2028}\n\r", None),
        ("[^]", "\n", Some(&["\n"])),
        ("[]a", "a", None),
        (r"\d", "٣", None),
        (r"\w", "é", None),
        (r"\s", "\u{feff}", Some(&["\u{feff}"])),
        (r"\cJ", "\n", Some(&["\n"])),
        (r"\x41\u00e9\t\0", "Aé\t\0", Some(&["Aé\t\0"])),
        (r"[\b]", "\u{8}", Some(&["\u{8}"])),
        (r"[a\-z]+", "-az", Some(&["-az"])),
        ("[a-]+", "-a", Some(&["-a"])),
        (r"\/\.", "/.", Some(&["/."])),
        ("a{b}]", "a{b}]", Some(&["a{b}]"])),
        ("", "abc", Some(&[""])),
    ] {
        let found = groups(&compile(pattern, false), input);
        let wanted = wanted.map(|groups| groups.iter().map(|&group| group.to_owned()).collect::<Vec<_>>());
        assert_eq!(found, wanted, "{pattern:?} in {input:?}");
    }
}

#[test]
fn case_is_ignored_by_single_letters() {
    for (pattern, input, found) in [
        ("owa", "OWA", true),
        ("[a-f]", "C", true),
        ("[^a]", "A", false),
        ("é", "É", true),
        ("(a)\\1", "aA", true),
        // Not an ASCII letter, though Unicode folds it to one.
        ("s", "ſ", false),
        ("k", "\u{212a}", false),
        (r"\w", "ſ", false),
        (r"[^\W]", "ſ", false),
    ] {
        assert_eq!(compile(pattern, true).find(input).unwrap().is_some(), found, "{pattern:?} in {input:?}");
    }
}

#[test]
fn what_ecmascript_does_not_know_is_refused_with_its_place() {
    for (pattern, at, why) in [
        ("a(b", 1, Why::OpenGroup),
        ("(?", 0, Why::OpenGroup),
        ("ab)", 2, Why::StrayParenthesis),
        ("é[a", 1, Why::OpenClass),
        ("[z-a]", 1, Why::Reversed),
        ("a{3,2}", 1, Why::Reversed),
        (r"[\d-z]", 1, Why::RangeOfSets),
        ("*a", 0, Why::NothingToRepeat),
        ("a|+", 2, Why::NothingToRepeat),
        ("a**", 2, Why::NothingToRepeat),
        ("a++", 2, Why::NothingToRepeat),
        ("^*", 1, Why::NothingToRepeat),
        ("{2}", 0, Why::NothingToRepeat),
        ("(?=a)*", 5, Why::NothingToRepeat),
        ("a{,3}", 1, Why::NoMinimum),
        ("a{1001}", 1, Why::TooManyTurns),
        ("a{99999999999}", 1, Why::TooManyTurns),
        ("ab\\", 2, Why::OpenEscape),
        (r"\Aa\z", 0, Why::UnknownEscape),
        (r"a\p{L}", 1, Why::UnknownEscape),
        (r"[\B]", 1, Why::UnknownEscape),
        (r"\x4", 0, Why::BadEscape),
        (r"\c1", 0, Why::BadEscape),
        (r"\u12g4", 0, Why::BadEscape),
        (r"\u{41}", 0, Why::BracedEscape),
        (r"\uD800", 0, Why::Surrogate),
        (r"\012", 0, Why::Octal),
        (r"[\1]", 1, Why::Octal),
        (r"(a)\2", 3, Why::NoSuchGroup),
        (r"\k<x>(?<x>a)", 0, Why::NoSuchGroup),
        (r"\k", 0, Why::NoSuchGroup),
        ("(?<=a)b", 0, Why::LookBehind),
        ("a(?<!a)b", 1, Why::LookBehind),
        ("(?i)a", 0, Why::UnknownGroup),
        ("(?>a)", 0, Why::UnknownGroup),
        ("(?P<a>b)", 0, Why::UnknownGroup),
        ("(?<1>a)", 3, Why::GroupName),
        ("(?<a>b)(?<a>c)", 7, Why::GroupName),
    ] {
        let Err(PatternError::Syntax(error)) = Pattern::compile(Syntax::Ecmascript, pattern, false) else {
            panic!("{pattern} is taken");
        };
        assert_eq!(error, SyntaxError { at, why }, "{pattern}");
    }
}

#[test]
fn patterns_are_bounded_in_length_depth_and_size() {
    let of = |pattern: String| Pattern::compile(Syntax::Ecmascript, &pattern, true);
    let why = |pattern| match of(pattern) {
        Err(PatternError::Syntax(error)) => Some(error.why),
        Err(PatternError::TooLarge | PatternError::Build(_)) | Ok(_) => None,
    };
    assert_eq!(why("a".repeat(4097)), Some(Why::TooLong));
    assert_eq!(why(format!("{}{}", "(?:".repeat(61), ")".repeat(61))), Some(Why::TooManyGroups));
    assert_eq!(why("(a)".repeat(100)), Some(Why::TooManyGroups));
    assert!(matches!(of(format!("{}a{}", "(?:".repeat(60), "){2}".repeat(60))), Err(PatternError::Build(_))));
    assert!(matches!(of("(?=a)(?:(?:(?:ab){1000}){1000}){1000}".to_owned()), Err(PatternError::TooLarge)));
    assert!(matches!(
        of("(?:[a-z]b){1000}{0,9}".replace("}{", "}c){").replacen("(?:", "(?:(?:", 1)),
        Err(PatternError::Build(_)) | Ok(_)
    ));
}

#[test]
fn wildcards_match_all_of_the_input() {
    for (pattern, input, wanted) in [
        ("*", "owa/x", Some(&["owa/x", "owa/x"][..])),
        ("*", "", Some(&["", ""])),
        ("*/*.html", "contoso/test.html", Some(&["contoso/test.html", "contoso", "test"])),
        ("/Scripts/*_in.???", "/scripts/a_in.txt", Some(&["/scripts/a_in.txt", "a"])),
        ("owa", "owa/x", None),
        ("o.a", "owa", None),
        ("a?c", "ac", None),
        ("(*)[a]", "(x)[a]", Some(&["(x)[a]", "x"])),
    ] {
        let pattern = Pattern::compile(Syntax::Wildcard, pattern, true).unwrap();
        let wanted = wanted.map(|groups| groups.iter().map(|&group| group.to_owned()).collect::<Vec<_>>());
        assert_eq!(groups(&pattern, input), wanted, "{input}");
    }
}

#[test]
fn an_exact_match_knows_no_syntax() {
    let pattern = |ignore_case| Pattern::compile(Syntax::ExactMatch, "owa/*.(x", ignore_case).unwrap();
    assert_eq!(groups(&pattern(true), "OWA/*.(X"), Some(vec!["OWA/*.(X".to_owned()]));
    assert_eq!(groups(&pattern(false), "OWA/*.(X"), None);
    assert_eq!(groups(&pattern(true), "owa/*.(x/"), None);
}

#[test]
fn no_input_takes_more_steps_than_the_limit() {
    let run = |text: &str| text.repeat(LONGEST_BACKTRACKED / text.len() - 1);
    for (pattern, input, wanted) in [
        // The automaton knows no bad input.
        ("(a+)+$", run("a") + "b", Ok(false)),
        ("^(a|a)*$", run("a") + "b", Ok(false)),
        ("^(a|aa)+$", run("a") + "b", Ok(false)),
        ("(.*)(.*)(.*)(.*)(.*)[xyz]$", run("x") + "b", Ok(false)),
        // What one would write with look-ahead is nowhere near the limit.
        ("^(?!.*secret).*$", run("secre"), Ok(true)),
        ("^(?:(?!secret).)*$", run("secre"), Ok(true)),
        ("^(?!owa|ecp).*", run("ecq"), Ok(true)),
        // Exponential.
        ("(?=a)(a+)+$", run("a") + "b", Err(OverLimit)),
        ("^(?!b)(a|a)*$", run("a") + "b", Err(OverLimit)),
        (r"^(a+)+\1$", run("a") + "b", Err(OverLimit)),
        (r"(a*)*\1b", run("a"), Err(OverLimit)),
        (r"(x+x+)+y\1", run("x"), Err(OverLimit)),
        // The square or cube of the length, with few choices and much work in between.
        ("(?=.*a)b", run("x") + "a", Err(OverLimit)),
        ("(?:(?=.*a)[^b])*c", run("x") + "a", Err(OverLimit)),
        ("^(?:(?=(?:(?=.*a)[^b])*).)*c", run("x") + "a", Err(OverLimit)),
    ] {
        let found = compile(pattern, true).find(&input).map(|captures| captures.is_some());
        assert_eq!(found, wanted, "{pattern}");
    }
}

#[test]
fn the_limit_is_one_of_counted_steps() {
    let Engine::Backtrack(program) = compile("(?=.*c)b", true).engine else {
        panic!("it has look-ahead");
    };
    let input = "a".repeat(100);
    let (found, steps) = backtrack::search(&program, &input, STEP_LIMIT).unwrap();
    assert_eq!(found, None);
    // `.*` takes each character and gives it up, where `c` is tried, and then the line is passed over.
    assert!((400..500).contains(&steps), "{steps}");
    assert_eq!(backtrack::search(&program, &input, steps), Ok((None, steps)));
    assert_eq!(backtrack::search(&program, &input, steps - 1), Err(OverLimit));
}

#[test]
fn the_published_patterns_take_few_steps_for_any_input() {
    let run = |text: &str| text.repeat(LONGEST_BACKTRACKED / text.len());
    for pattern in ["(?=.*autodiscover)(?=.*powershell)", "(?=.*autodiscover.json)(?=.*@)(?=.*powershell)"] {
        let Engine::Backtrack(program) = compile(pattern, true).engine else {
            panic!("{pattern} has look-ahead");
        };
        for input in
            [run("a"), run("autodiscove"), run("autodiscover"), run("powershell"), run("autodiscover\n")]
        {
            let (found, steps) = backtrack::search(&program, &input, STEP_LIMIT).unwrap();
            assert_eq!(found, None);
            assert!(steps < 10 * input.len() as u64, "{pattern}: {steps}");
        }
    }
}

#[test]
fn a_leading_look_ahead_is_tried_again_in_each_line() {
    let pattern = compile("(?=.*b)(?=.*a)[ab]", false);
    assert_eq!(groups(&pattern, "b\nxa\ncba"), Some(vec!["b".to_owned()]));
    assert_eq!(groups(&pattern, "b\nxa\u{2028}c"), None);
    assert_eq!(groups(&compile("(?=.*b)c", false), "ab\u{2028}acb"), Some(vec!["c".to_owned()]));
}

#[test]
fn longer_inputs_than_a_pattern_can_judge_are_over_the_limit() {
    let (linear, backtrack) = (compile("a", false), compile("(?=a)", false));
    assert!(linear.find(&"b".repeat(LONGEST_LINEAR)).is_ok());
    assert_eq!(linear.find(&"b".repeat(LONGEST_LINEAR + 1)), Err(OverLimit));
    assert!(backtrack.find(&"b".repeat(LONGEST_BACKTRACKED)).is_ok());
    assert_eq!(backtrack.find(&"b".repeat(LONGEST_BACKTRACKED + 1)), Err(OverLimit));
}

/// Patterns that both engines run.
fn plain_patterns() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(vec!["a", "b", ".", "[ab]", "[^a]", r"\w", r"\b", "^", "$", "é"]);
    let leaf = atom.prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| parts.concat()),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("(?:{one}|{other})")),
            inner.clone().prop_map(|part| format!("({part})")),
            (inner, prop::sample::select(vec!["*", "+", "?", "{2}", "{1,3}", "*?", "+?"]))
                .prop_map(|(part, turns)| format!("(?:{part}){turns}")),
        ]
    })
}

proptest! {
    #[test]
    fn both_engines_agree_where_both_can_run(pattern in plain_patterns(), input in "[abé\n]{0,8}", ignore_case: bool) {
        let (node, groups) = ecmascript::parse(&pattern, ignore_case).unwrap();
        prop_assume!(node.is_linear());
        let linear = find_linear(&linear::compile(&node).unwrap(), &input).unwrap();
        let program = program::compile(&node, groups).unwrap();
        let (backtrack, _) = backtrack::search(&program, &input, STEP_LIMIT).unwrap();
        prop_assert_eq!(linear, backtrack);
    }

    #[test]
    fn no_pattern_and_no_input_panics(pattern in r"[-ab\\(?:!=<>)\[\]^$.*+{},1-3kdwsbBxu|\n]{0,20}", input in any::<String>()) {
        if let Ok(pattern) = Pattern::compile(Syntax::Ecmascript, &pattern, true) {
            drop(pattern.find(&input));
        }
    }
}
