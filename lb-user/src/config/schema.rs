//! JSON Schemas (2020-12) of the two files, so that editors complete and check them. They are made from the types that read
//! the files, with their comments as descriptions; relations between values are for `check.rs` alone. Pure.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::{ClusterFile, NodeFile};

/// The schema of the cluster file.
pub(crate) fn cluster_file() -> Value {
    schema::<ClusterFile>("Rollcall: the cluster file")
}

/// The schema of a node's own file.
pub(crate) fn node_file() -> Value {
    schema::<NodeFile>("Rollcall: a node's own file")
}

fn schema<T: JsonSchema>(title: &str) -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    without_null(&mut schema);
    let definitions = schema.get("$defs").cloned().unwrap_or_default();
    describe(&mut schema, &definitions);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("title".to_owned(), title.into());
    }
    schema
}

/// TOML has no null: what may be left out is just not required. Formats are Rust's own (`uint8`); ranges say what they would.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.retain(|name, value| {
                !(name == "default" && value.is_null() || name == "format" && value.is_string())
            });
            for list in ["type", "enum", "anyOf"] {
                if let Some(Value::Array(choices)) = object.get_mut(list) {
                    choices.retain(|choice| !is_null(choice));
                }
            }
            if let Some([only]) = object.get("type").and_then(Value::as_array).map(Vec::as_slice) {
                let only = only.clone();
                object.insert("type".to_owned(), only);
            }
            if let Some([Value::Object(only)]) =
                object.get("anyOf").and_then(Value::as_array).map(Vec::as_slice)
            {
                let only = only.clone();
                object.remove("anyOf");
                only.into_iter().for_each(|(name, value)| {
                    object.entry(name).or_insert(value);
                });
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(list) => list.iter_mut().for_each(without_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_null(choice: &Value) -> bool {
    choice.is_null() || choice == "null" || choice.get("type").is_some_and(|name| name == "null")
}

/// Gives every key's description whole: lines as one, and what the types' comments only refer to in its place.
fn describe(schema: &mut Value, definitions: &Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                properties.iter_mut().for_each(|(key, property)| describe_key(key, property, definitions));
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            object.values_mut().for_each(|value| describe(value, definitions));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| describe(value, definitions)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn describe_key(key: &str, property: &mut Value, definitions: &Value) {
    if let Some(Value::String(text)) = property.get_mut("description") {
        *text = spelled_out(key, text, definitions);
    }
}

/// `text` with what `key` of the other table says in place of a reference to it. References lead on at most once or twice;
/// one that leads nowhere stays.
fn spelled_out(key: &str, text: &str, definitions: &Value) -> String {
    let mut text = text.to_owned();
    for _ in 0..3 {
        let Some((table, rest)) = text.strip_prefix("See `").and_then(|rest| rest.split_once('`')) else {
            break;
        };
        let Some(there) = definitions[table]["properties"][key]["description"].as_str() else {
            break;
        };
        text = match rest.strip_prefix("; ") {
            Some(more) => format!("{there} {}", capitalised(more)),
            None => there.to_owned(),
        };
    }
    text
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
