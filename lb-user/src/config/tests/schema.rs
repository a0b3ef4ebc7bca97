//! The schemas and the readers know the same keys, values and ranges; what is in use validates.

use serde_json::{Value, json};
use toml::Table;

use super::*;
use crate::config::schema::{cluster_file, node_file};

/// A key that is like none of ours.
const UNKNOWN: &str = "zzzzzzzzzzzzzzzzzzzzzzzz";

/// A configuration with every table, on which single values are tried.
const FULL: &str = r#"
config = {}
log = {}
protection = { logons = {}, rate = { requests = 5, per = "1s" }, logon_rate = { requests = 5, per = "1s" } }
[cluster]
ip = "192.168.50.8/24"
mode = "multicast"
[limits]
[[node]]
name = "arr1"
address = "192.168.50.6"
priority = 1
[[trusted_proxy]]
networks = ["192.168.50.20"]
[[rule]]
ports = 8443
check = { http = "/" }
weights = { arr1 = 70 }
handling_priorities = { arr1 = 7 }
[[rule]]
ports = 25
[exchange]
names = ["mail.example.test"]
certificate = "/etc/rollcall/mail.pem"
servers = [{ address = "10.0.0.36" }]
client_certificates = { ca = "/ca.pem" }
tests = { ews = {} }
route = { ews = {} }
maps = { m = {} }
rate = { requests = 5, per = "1s" }
logon_rate = { requests = 5, per = "1s" }
maintenance = { text = "later" }
[exchange.health]
[exchange.balance]
[exchange.request_headers]
[exchange.response_headers]
[[exchange.rewrite]]
name = "r"
match = ".*"
respond = 403
conditions = [{ input = "{URL}", match = "x" }]
set = [{ name = "HTTP_X", value = "1" }]
[[farm]]
name = "web"
servers = [{ address = "10.0.0.40" }]
[farm.health]
[farm.balance]
[farm.tests.api]
[[site]]
names = ["www.example.test"]
certificate = "/w.pem"
port = 8443
farm = "web"
protocols = ["h2"]
client_certificates = { ca = "/ca.pem" }
maps = { m = {} }
rate = { requests = 5, per = "1s" }
logon_rate = { requests = 5, per = "1s" }
maintenance = { text = "later" }
[site.request_headers]
[site.response_headers]
[[site.rewrite]]
name = "r"
match = ".*"
respond = 403
conditions = [{ input = "{URL}", match = "x" }]
set = [{ name = "HTTP_X", value = "1" }]
[[site.route]]
path = "/"
farm = "web"
test = "api"
[site.route.request_headers]
[site.route.response_headers]
[[site]]
names = ["rates.example.test"]
certificate = "/w.pem"
port = 8443
farm = "web"
[[tcp]]
name = "smtp"
port = 25
servers = [{ address = "10.0.0.36" }]
client_address = "hidden"
sni = { "a.example.test" = [{ address = "10.0.0.36" }] }
[tcp.health]
"#;

/// A node's file with every table and list.
const TAGGED: &str = "name = \"arr1\"\ninterface = \"eth0\"\nxdp_interface = \"eth1\"\nvlans = [100]\n";

/// A step from a table to one below.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    /// Any element of a list, here the first.
    Element,
    /// Any value of a table with names as keys, here the only one.
    Named,
}

/// Every schema of `schema` that says something of a value, with the way there.
fn walk<'a>(schema: &'a Value, found: &mut Vec<(Vec<Step>, &'a Value)>) {
    visit(schema, schema, &mut Vec::new(), found);
}

fn visit<'a>(
    root: &'a Value,
    schema: &'a Value,
    path: &mut Vec<Step>,
    found: &mut Vec<(Vec<Step>, &'a Value)>,
) {
    found.push((path.clone(), schema));
    if let Some(there) = referred(root, schema) {
        visit(root, there, path, found);
    }
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        visit(root, choice, path, found);
    }
    let keys = properties(schema).into_iter().flatten().map(|(key, below)| (Step::Key(key.clone()), below));
    let lists = schema.get("items").map(|below| (Step::Element, below));
    let names = schema
        .get("additionalProperties")
        .filter(|below| below.is_object())
        .map(|below| (Step::Named, below));
    for (step, below) in keys.chain(lists).chain(names) {
        path.push(step);
        visit(root, below, path, found);
        path.pop();
    }
}

fn properties(schema: &Value) -> Option<&serde_json::Map<String, Value>> {
    schema.get("properties")?.as_object()
}

fn referred<'a>(root: &'a Value, schema: &Value) -> Option<&'a Value> {
    let name = schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
    Some(&root["$defs"][name])
}

/// `base` with `value` at the end of `path`; `None`: it has no such table.
fn with(base: &Value, path: &[Step], value: Value) -> Option<Value> {
    let mut document = base.clone();
    let (last, way) = path.split_last()?;
    let mut at = &mut document;
    for step in way {
        at = match step {
            Step::Key(key) => at.get_mut(key)?,
            Step::Element => at.get_mut(0)?,
            Step::Named => at.as_object_mut()?.values_mut().next()?,
        };
    }
    match (last, at) {
        (Step::Key(key), Value::Object(table)) => {
            table.insert(key.clone(), value);
        }
        (Step::Element, Value::Array(list)) => *list = vec![value],
        (Step::Named, Value::Object(table)) => table.values_mut().for_each(|old| *old = value.clone()),
        _ => return None,
    }
    Some(document)
}

fn toml_of(document: &Value) -> String {
    toml::to_string(document).expect("TOML has all of it")
}

/// What is told of a file of `T`, form and meaning.
fn errors_of(document: &Value, node: bool) -> Vec<String> {
    let text = toml_of(document);
    let errors = if node { local_from(&text).err() } else { cluster_text(&text).err() };
    errors
        .map(|errors| errors.0.iter().map(|error| format!("{} {:?}", error.text, error.hint)).collect())
        .unwrap_or_default()
}

fn cases() -> [(Value, Value, bool); 2] {
    let value = |text: &str| serde_json::to_value(text.parse::<Table>().unwrap()).unwrap();
    [(cluster_file(), value(FULL), false), (node_file(), value(TAGGED), true)]
}

#[test]
fn the_base_of_these_tests_is_sound_in_form() {
    let errors = parse::parse::<raw::ClusterFile>(FULL).err();
    assert!(errors.is_none(), "{errors:?}");
}

#[test]
fn every_table_of_the_schema_has_exactly_the_readers_keys() {
    let mut tables = 0;
    for (schema, base, node) in cases() {
        let mut found = Vec::new();
        walk(&schema, &mut found);
        for (mut path, schema) in found {
            let Some(keys) = properties(schema) else { continue };
            assert_eq!(schema["additionalProperties"], false, "{path:?}");
            path.push(Step::Key(UNKNOWN.to_owned()));
            let document = with(&base, &path, json!(1)).unwrap_or_else(|| panic!("no table there: {path:?}"));
            let errors = errors_of(&document, node);
            let known: Vec<&str> = keys.keys().map(String::as_str).collect();
            let told = errors
                .iter()
                .find(|error| error.starts_with("unknown key"))
                .unwrap_or_else(|| panic!("{path:?}: {errors:?}"));
            let told = told.split_once("known here: ").unwrap().1.trim_end_matches("\")");
            let mut told: Vec<&str> = told.split(", ").collect();
            told.sort_unstable();
            assert_eq!(told, known, "{path:?}");
            tables += 1;
        }
    }
    assert!(tables > 40, "{tables}");
}

/// Keys whose ranges and choices depend on others, which the base cannot all satisfy.
fn said_otherwise(path: &[Step]) -> bool {
    let keys: Vec<&str> = path
        .iter()
        .filter_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None })
        .collect();
    // Weights, states and connections of servers are one message of their own.
    keys.contains(&"servers") || keys.contains(&"sni")
}

#[test]
fn choices_and_ranges_of_the_schema_are_those_of_the_checks() {
    let (mut tried, mut differ) = (0, Vec::new());
    for (schema, base, node) in cases() {
        let mut found = Vec::new();
        walk(&schema, &mut found);
        for (path, schema) in found.into_iter().filter(|(path, _)| !said_otherwise(path)) {
            let refused = |value: Value| {
                let errors = errors_of(&with(&base, &path, value)?, node);
                let says = |error: &&String| {
                    ["outside ", "cannot be \"", "wrong value", "is not supported"]
                        .iter()
                        .any(|part| error.contains(part))
                };
                Some(errors.iter().find(says).cloned())
            };
            let mut expect = |value: Value, good: bool| {
                let answer = refused(value.clone());
                if answer.as_ref().is_none_or(|refused| refused.is_none() != good) {
                    differ.push(format!("{path:?} = {value}: {answer:?}"));
                }
                tried += 1;
            };
            if let Some(choices) = schema["enum"].as_array() {
                choices.iter().for_each(|choice| expect(choice.clone(), true));
                expect(json!("zzz"), false);
            }
            if let (Some(low), Some(high)) = (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
                [low, high].into_iter().for_each(|number| expect(json!(number), true));
                [low - 1, high + 1].into_iter().for_each(|number| expect(json!(number), false));
            }
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
    assert!(tried > 100, "{tried}");
}

#[test]
fn a_required_key_that_is_missing_is_told_with_a_line_that_gives_it() {
    let mut required = std::collections::BTreeSet::new();
    for (schema, _, _) in cases() {
        let mut found = Vec::new();
        walk(&schema, &mut found);
        let keys = found.iter().flat_map(|(_, part)| part["required"].as_array().into_iter().flatten());
        required.extend(keys.filter_map(Value::as_str).map(str::to_owned));
    }
    assert!(required.len() > 10, "{required:?}");
    let without: Vec<_> = required.iter().filter(|key| !parse::has_example(key)).collect();
    assert_eq!(without, ["text", "value"], "keys of any text have none");
}

#[test]
fn defaults_of_the_schema_are_values_of_it() {
    for (schema, _, _) in cases() {
        let mut found = Vec::new();
        walk(&schema, &mut found);
        let defaults = found.iter().filter_map(|(path, part)| Some((path, part, part.get("default")?)));
        let mut count = 0;
        for (path, part, default) in defaults {
            assert_eq!(invalid(&schema, part, default), None, "{path:?}");
            count += 1;
        }
        assert!(count > 3, "{count}");
    }
}

#[test]
fn every_key_has_a_description_that_refers_to_no_type() {
    for (schema, _, _) in cases() {
        let mut found = Vec::new();
        walk(&schema, &mut found);
        for (path, part) in found {
            for (key, property) in properties(part).into_iter().flatten() {
                let text = property["description"].as_str().unwrap_or_else(|| panic!("{path:?} {key}"));
                assert!(
                    !text.is_empty() && !text.starts_with("See `") && !text.contains('\n'),
                    "{path:?} {key}: {text}"
                );
            }
        }
    }
}

#[test]
fn the_readme_and_the_tests_own_configurations_are_valid_and_wrong_ones_are_not() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let cluster = blocks.iter().find(|block| block.contains("[cluster]")).unwrap();
    let node = blocks.iter().find(|block| block.contains("interface = ")).unwrap();
    let expanded = expanded(&reference());
    let check = |schema: &Value, text: &str| {
        let document = serde_json::to_value(text.parse::<Table>().unwrap()).unwrap();
        invalid(schema, schema, &document)
    };
    for text in [REFERENCE, FULL, cluster] {
        assert_eq!(check(&cluster_file(), text), None);
    }
    assert_eq!(check(&cluster_file(), &expanded), None, "{expanded}");
    for text in [NODE, node] {
        assert_eq!(check(&node_file(), text), None);
    }
    for (from, to) in [
        ("mode =", "modes ="),
        ("= 1", "= 65"),
        ("= 1", "= \"1\""),
        ("\"multicast\"", "\"steer\""),
        ("servers =", "maps ="),
    ] {
        assert!(check(&cluster_file(), &REFERENCE.replacen(from, to, 1)).is_some(), "{to}");
    }
}

/// Why `value` is not one of `schema`, by the part of JSON Schema that ours are written in.
fn invalid(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(why) = referred(root, schema).and_then(|there| invalid(root, there, value)) {
        return Some(why);
    }
    if let Some(choices) = schema["anyOf"].as_array()
        && choices.iter().all(|choice| invalid(root, choice, value).is_some())
    {
        return Some(format!("{value} is none of {choices:?}"));
    }
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = match &schema["type"] {
        Value::String(wanted) => wanted == name,
        Value::Array(wanted) => wanted.iter().any(|wanted| wanted == name),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
    };
    let among = schema["enum"].as_array().is_none_or(|choices| choices.contains(value));
    let number = value.as_f64();
    let beyond = |bound: &str, order: fn(f64, f64) -> bool| {
        number.zip(schema[bound].as_f64()).is_some_and(|(number, bound)| order(number, bound))
    };
    let matches = schema["pattern"]
        .as_str()
        .zip(value.as_str())
        .is_none_or(|(pattern, text)| regex_automata::meta::Regex::new(pattern).unwrap().is_match(text));
    if !fits || !among || !matches || beyond("minimum", |a, b| a < b) || beyond("maximum", |a, b| a > b) {
        return Some(format!("{value} is not {schema}"));
    }
    match value {
        Value::Array(list) => {
            schema.get("items").and_then(|items| list.iter().find_map(|item| invalid(root, items, item)))
        }
        Value::Object(table) => invalid_table(root, schema, table),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn invalid_table(root: &Value, schema: &Value, table: &serde_json::Map<String, Value>) -> Option<String> {
    let missing = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|key| !table.contains_key(key.as_str().unwrap_or_default()));
    if let Some(key) = missing {
        return Some(format!("{key} is missing"));
    }
    table.iter().find_map(|(key, value)| {
        match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(property), _) => invalid(root, property, value),
            (None, Value::Bool(false)) => Some(format!("{key} is unknown")),
            (None, others) => others.is_object().then(|| invalid(root, others, value)).flatten(),
        }
    })
}
