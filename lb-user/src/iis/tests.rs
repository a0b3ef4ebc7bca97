//! Whatever a file says: every node of it is reported once, nothing that is secret is told, and what is written is TOML.

use proptest::prelude::*;

use super::*;

/// An element of a file that nobody wrote.
#[derive(Clone, Debug)]
struct Tree {
    name: &'static str,
    attributes: Vec<(&'static str, &'static str)>,
    text: bool,
    children: Vec<Tree>,
}

const ELEMENTS: [&str; 34] = [
    "webFarms",
    "webFarm",
    "server",
    "applicationRequestRouting",
    "protocol",
    "cache",
    "healthCheck",
    "affinity",
    "loadBalancing",
    "system.webServer",
    "rewrite",
    "globalRules",
    "rules",
    "rule",
    "match",
    "conditions",
    "add",
    "serverVariables",
    "set",
    "action",
    "rewriteMaps",
    "rewriteMap",
    "outboundRules",
    "location",
    "system.applicationHost",
    "sites",
    "site",
    "bindings",
    "binding",
    "proxy",
    "httpProtocol",
    "customHeaders",
    "security",
    "unheardOf",
];

const ATTRIBUTES: [(&str, &[&str]); 24] = [
    ("name", &["a", "mail", "", "[enc:x:TOPSECRET:enc]", "HTTP_X_A", "\u{7f}"]),
    ("address", &["10.0.0.1", "sbex1", "::1", ""]),
    (
        "url",
        &[
            "",
            ".*",
            "*",
            "(",
            "https://mail/{R:0}",
            "http://10.0.0.9:81/{R:1}",
            "https://{Map:{HTTP_HOST}}/",
            "/x",
            "https:///",
        ],
    ),
    ("pattern", &["on", "^off$", "mail.example.test", "*", "[", ".+"]),
    ("input", &["{HTTPS}", "{HTTP_HOST}", "{NONE}", "{", ""]),
    ("type", &["Rewrite", "Redirect", "CustomResponse", "AbortRequest", "None", "x"]),
    ("patternSyntax", &["Wildcard", "ExactMatch", "ECMAScript", "x"]),
    ("stopProcessing", &["true", "false", "maybe"]),
    ("enabled", &["true", "false", "2"]),
    ("statusCode", &["403", "99", ""]),
    ("key", &["a", ""]),
    ("value", &["max-age=5", "", "x", "[enc:TOPSECRET"]),
    ("path", &["", "Default", "Default/owa"]),
    ("protocol", &["https", "http", "net.tcp"]),
    ("bindingInformation", &["*:443:", "*:443:mail.example.test", "*:80:", "x", "[::1]:443:B_D"]),
    ("certificateHash", &["00", ""]),
    ("timeout", &["00:00:30", "01:00:00", "x"]),
    ("interval", &["00:00:30", "9.00:00:00"]),
    ("weight", &["100", "4294967295", "x"]),
    ("httpPort", &["8080", "0", "99999"]),
    ("algorithm", &["RequestHash", "LeastRequests"]),
    ("hashServerVariable", &["QUERY_STRING", "HTTP_A", "{"]),
    ("serverVariable", &["RESPONSE_SERVER", "RESPONSE_Location", "x"]),
    ("unknown", &["1", "&<>'"]),
];

fn attributes() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let one = (0..ATTRIBUTES.len(), any::<prop::sample::Index>())
        .prop_map(|(at, value)| (ATTRIBUTES[at].0, ATTRIBUTES[at].1[value.index(ATTRIBUTES[at].1.len())]));
    prop::collection::vec(one, 0..6).prop_map(|mut list| {
        list.sort_by_key(|(name, _)| *name);
        list.dedup_by_key(|(name, _)| *name);
        list
    })
}

fn tree() -> impl Strategy<Value = Tree> {
    let element = || prop::sample::select(&ELEMENTS[..]);
    let leaf = (element(), attributes(), any::<bool>()).prop_map(|(name, attributes, text)| Tree {
        name,
        attributes,
        text,
        children: Vec::new(),
    });
    leaf.prop_recursive(7, 80, 8, move |inner| {
        (element(), attributes(), prop::collection::vec(inner, 0..8))
            .prop_map(|(name, attributes, children)| Tree { name, attributes, text: false, children })
    })
}

/// Trees whose elements stand where IIS has them, so that the readers get far.
fn likely() -> impl Strategy<Value = Tree> {
    let of = |name, attributes: Vec<_>, children| Tree { name, attributes, text: false, children };
    let named = move |name: &'static str| attributes().prop_map(move |list| of(name, list, Vec::new()));
    let many = |inner: BoxedStrategy<Tree>| prop::collection::vec(inner, 0..4);
    let rule = (
        attributes(),
        named("match"),
        many(named("add").boxed()),
        many(named("set").boxed()),
        named("action"),
    )
        .prop_map(move |(list, matching, adds, sets, action)| {
            let inner =
                vec![matching, of("conditions", vec![], adds), of("serverVariables", vec![], sets), action];
            of("rule", list, inner)
        });
    let server = (attributes(), named("applicationRequestRouting"))
        .prop_map(move |(list, arr)| of("server", list, vec![arr]));
    let parts = (named("protocol"), named("healthCheck"), named("affinity"), named("loadBalancing"));
    let farm = (many(server.boxed()), parts).prop_map(move |(mut inner, (a, b, c, d))| {
        inner.push(of("applicationRequestRouting", vec![], vec![a, b, c, d]));
        of("webFarm", vec![("name", "mail")], inner)
    });
    let maps = many(named("add").boxed()).prop_map(move |adds| of("rewriteMap", vec![("name", "Map")], adds));
    (many(rule.boxed()), farm, maps, many(named("binding").boxed()), many(named("add").boxed())).prop_map(
        move |(rules, farm, map, bindings, headers)| {
            let site = of("site", vec![("name", "Default")], vec![of("bindings", vec![], bindings)]);
            let rewrite = of(
                "rewrite",
                vec![],
                vec![of("rewriteMaps", vec![], vec![map]), of("globalRules", vec![], rules)],
            );
            let headers = of("httpProtocol", vec![], vec![of("customHeaders", vec![], headers)]);
            let sections = vec![
                of("system.applicationHost", vec![], vec![of("sites", vec![], vec![site])]),
                of("webFarms", vec![], vec![farm]),
                of("system.webServer", vec![], vec![rewrite, headers]),
            ];
            of("configuration", vec![], sections)
        },
    )
}

fn written(tree: &Tree, out: &mut String) {
    out.push_str(&format!("\n<{}", tree.name));
    for (name, value) in &tree.attributes {
        out.push_str(&format!("\n {name}=\"{}\"", quick_xml::escape::escape(*value)));
    }
    out.push_str(if tree.text { ">words" } else { ">" });
    tree.children.iter().for_each(|child| written(child, out));
    out.push_str(&format!("</{}>", tree.name));
}

/// The last parts of all nodes' paths.
fn nodes(tree: &Tree, all: &mut Vec<String>) {
    all.push(tree.name.to_owned());
    all.extend(tree.attributes.iter().map(|(name, _)| format!("@{name}")));
    all.extend(tree.text.then(|| "text()".to_owned()));
    tree.children.iter().for_each(|child| nodes(child, all));
}

fn check(tree: &Tree) -> Result<(), TestCaseError> {
    let (mut text, mut wanted) = (String::new(), Vec::new());
    written(tree, &mut text);
    nodes(tree, &mut wanted);
    let sources = Sources { host: Some(File { name: "f", bytes: text.as_bytes() }), ..Sources::default() };
    let imported =
        import(&sources, Known::default()).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let (_, findings) = &imported.report.files[0];
    let last = |path: &str| {
        let node = match path.rsplit_once('@') {
            Some((_, name)) if !name.contains(']') => return format!("@{name}"),
            Some(_) | None if path.ends_with("text()") => "text()",
            Some(_) | None => path,
        };
        let (mut depth, mut start) = (0_i32, 0);
        for (at, letter) in node.char_indices() {
            match letter {
                '[' => depth += 1,
                ']' => depth -= 1,
                '/' if depth == 0 => start = at + 1,
                _ => {}
            }
        }
        node[start..].split('[').next().unwrap_or_default().to_owned()
    };
    let mut told: Vec<String> = findings.iter().map(|finding| last(&finding.path)).collect();
    prop_assert_eq!(findings.len(), wanted.len());
    // Values with brackets make names that cannot be told apart by their text alone.
    if !text.contains("[::1]") {
        told.sort();
        wanted.sort();
        prop_assert_eq!(told, wanted);
    }
    let report = imported.report.text() + &imported.report.json().to_string() + &imported.configuration;
    prop_assert!(!report.contains("TOPSECRET"), "{}", report);
    prop_assert!(
        toml::from_str::<toml::Table>(&imported.configuration).is_ok(),
        "{}",
        imported.configuration
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_element_and_attribute_of_any_tree_is_reported_once(tree in tree()) {
        check(&Tree { name: "configuration", attributes: Vec::new(), text: false, children: vec![tree] })?;
    }

    #[test]
    fn and_of_trees_as_iis_has_them(tree in likely()) {
        check(&tree)?;
    }
}

#[test]
fn what_is_no_file_of_iis_is_an_error_with_its_line() {
    let of = |bytes: &[u8]| {
        let sources = Sources { host: Some(File { name: "a.config", bytes }), ..Sources::default() };
        import(&sources, Known::default()).unwrap_err().to_string()
    };
    for (bytes, wanted) in [
        (&b"<web/>"[..], "a.config: the outermost element is web, not configuration; hint: "),
        (b"<configuration>\n<a></configuration>", "a.config: line 2: no well-formed XML"),
        (b"\n\xff", "a.config: line 2 is neither UTF-8 nor UTF-16; hint: "),
    ] {
        let error = of(bytes);
        assert!(error.starts_with(wanted), "{error}");
    }
}
