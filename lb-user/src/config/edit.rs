//! Changes to a configuration file by commands: what is changed is changed, and every other line, comment and line ending stays
//! as it was. Pure. Whether the result makes sense is for `check.rs`: whoever applies edits reads the result before it is used.

use std::fmt;

use thiserror::Error;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TableLike, Value};

mod lines;
mod path;
#[cfg(test)]
mod tests;

pub use path::{Path, PathError, Step};

/// A change to a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Gives a key this value, in place of any other. Tables on the way that are not there are made; list entries are not.
    Set(Path, Literal),
    /// Takes a key, a table or an entry of a list out, with the comments right above it.
    Remove(Path),
    /// Adds an entry such as `[[node]]` behind the last of its kind. No other may have its name.
    Add {
        /// The list's name, such as `node`.
        list: String,
        /// Its keys, in the order in which they are written.
        fields: Vec<(String, Literal)>,
    },
    /// Gives an entry of a list these keys and no others. Keys that stay keep their places and comments.
    Replace(Path, Vec<(String, Literal)>),
}

/// A value to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// `true` or `false`.
    Flag(bool),
    /// A list.
    List(Vec<Literal>),
}

impl Literal {
    /// What an operator typed: a value as in a file (`5`, `true`, `["a", "b"]`, `"5"`), and whatever is none of those as text.
    pub fn typed(text: &str) -> Self {
        let value = text.trim().parse::<Value>().ok();
        value.and_then(|value| Self::of_value(&value)).unwrap_or_else(|| Self::Text(text.to_owned()))
    }

    fn of_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.value().clone())),
            Value::Integer(number) => Some(Self::Number(*number.value())),
            Value::Boolean(flag) => Some(Self::Flag(*flag.value())),
            Value::Array(list) => list.iter().map(Self::of_value).collect::<Option<_>>().map(Self::List),
            Value::Float(_) | Value::Datetime(_) | Value::InlineTable(_) => None,
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Text(text) => one_line(text),
            Self::Number(number) => (*number).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::List(list) => Value::Array(list.iter().map(Self::to_value).collect()),
        }
    }
}

/// The text in one line: one of several would get the line endings of its file, and mean another text.
fn one_line(text: &str) -> Value {
    if !text.chars().any(char::is_control) {
        return text.into();
    }
    let escaped: String = text
        .chars()
        .map(|letter| match letter {
            '"' | '\\' => format!("\\{letter}"),
            letter if letter.is_control() => format!("\\u{:04x}", u32::from(letter)),
            letter => letter.to_string(),
        })
        .collect();
    format!("\"{escaped}\"").parse().unwrap_or_else(|_| text.into())
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_value().fmt(f)
    }
}

/// Why a file was not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EditError {
    /// The file cannot be read as it is.
    #[error("the file is not sound as it is: {0}; hint: rollcall check FILE says where; correct it first")]
    Syntax(String),
    /// What should be changed is not there.
    #[error("there is no {what} in the file; hint: {there}")]
    Missing {
        /// What was looked for.
        what: String,
        /// What there is instead.
        there: String,
    },
    /// An entry with this name is there.
    #[error("there is a {list} named {name} already; hint: replace it, or choose another name")]
    Exists {
        /// The list.
        list: String,
        /// The name.
        name: String,
    },
    /// Something on the way is not what the path takes it for.
    #[error("{what} is no {kind} in the file; hint: {cure}")]
    Other {
        /// What the path names.
        what: String,
        /// What it takes it for.
        kind: &'static str,
        /// What to do.
        cure: &'static str,
    },
}

/// `text` with all the edits, in their order; none is made if one cannot be.
pub fn apply(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    edits.iter().try_fold(text.to_owned(), |text, edit| apply_one(&text, edit))
}

fn apply_one(text: &str, edit: &Edit) -> Result<String, EditError> {
    let unix = text.replace("\r\n", "\n");
    let mut document: DocumentMut =
        unix.parse().map_err(|error: toml_edit::TomlError| EditError::Syntax(error.message().to_owned()))?;
    let root = document.as_table_mut();
    match edit {
        Edit::Set(path, value) => set(root, path, value)?,
        Edit::Remove(path) => remove(root, path)?,
        Edit::Add { list, fields } => add(root, list, fields)?,
        Edit::Replace(path, fields) => replace(root, path, fields)?,
    }
    Ok(lines::with_old_endings(text, &document.to_string()))
}

fn set(root: &mut Table, path: &Path, value: &Literal) -> Result<(), EditError> {
    let (last, way) = path.split_last();
    let Step::Key(key) = last else {
        return Err(not_a_key(path));
    };
    set_key(table_at(root, way, true)?, key, value);
    Ok(())
}

/// A value that was there leaves its comment and its spaces to the new one.
fn set_key(table: &mut dyn TableLike, key: &str, value: &Literal) {
    let mut value = value.to_value();
    if let Some(Item::Value(old)) = table.get(key) {
        *value.decor_mut() = old.decor().clone();
    }
    match table.get_mut(key) {
        Some(item) => *item = Item::Value(value),
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

fn remove(root: &mut Table, path: &Path) -> Result<(), EditError> {
    let (last, way) = path.split_last();
    let table = table_at(root, way, false)?;
    match last {
        Step::Key(key) => table.remove(key).map(drop).ok_or_else(|| missing_key(path, table)),
        Step::Entry { list, name } => {
            let entries = entries(table, list)?;
            let at = position(entries, list, name)?;
            entries.remove(at);
            if entries.is_empty() {
                table.remove(list);
            }
            Ok(())
        }
    }
}

fn add(root: &mut Table, list: &str, fields: &[(String, Literal)]) -> Result<(), EditError> {
    let mut entry = Table::new();
    fields.iter().for_each(|(key, value)| set_key(&mut entry, key, value));
    if !root.is_empty() {
        entry.decor_mut().set_prefix("\n");
    }
    if root.get(list).is_none() {
        root.insert(list, Item::ArrayOfTables(ArrayOfTables::new()));
    }
    let entries = entries(root, list)?;
    if let Some(name) = names(&entry).first()
        && entries.iter().any(|other| names(other).contains(name))
    {
        return Err(EditError::Exists { list: list.to_owned(), name: name.clone() });
    }
    entries.push(entry);
    Ok(())
}

fn replace(root: &mut Table, path: &Path, fields: &[(String, Literal)]) -> Result<(), EditError> {
    let (Step::Entry { list, name }, way) = path.split_last() else {
        return Err(EditError::Other {
            what: path.to_string(),
            kind: "entry of a list",
            cure: "name one, such as node[arr1]",
        });
    };
    let entries = entries(table_at(root, way, false)?, list)?;
    let at = position(entries, list, name)?;
    let Some(entry) = entries.get_mut(at) else {
        return Ok(());
    };
    entry.retain(|key, _| fields.iter().any(|(kept, _)| kept == key));
    fields.iter().for_each(|(key, value)| set_key(entry, key, value));
    Ok(())
}

/// The table that `way` leads to, made on the way if `make`.
fn table_at<'a>(root: &'a mut Table, way: &[Step], make: bool) -> Result<&'a mut dyn TableLike, EditError> {
    let mut table: &mut dyn TableLike = root;
    for step in way {
        table = match step {
            Step::Key(key) => {
                if table.get(key).is_none() && make {
                    table.insert(key, Item::Table(headed()));
                }
                let there = keys(table);
                let item = table.get_mut(key).ok_or(EditError::Missing { what: key.clone(), there })?;
                item.as_table_like_mut().ok_or(EditError::Other {
                    what: key.clone(),
                    kind: "table",
                    cure: "a list's entry is named too, such as site[mail.example.test]",
                })?
            }
            Step::Entry { list, name } => {
                let entries = entries(table, list)?;
                let at = position(entries, list, name)?;
                entries.get_mut(at).ok_or_else(|| no_entry(list, name, String::new()))?
            }
        };
    }
    Ok(table)
}

/// A table that gets a header of its own, apart from what is before it.
fn headed() -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    table
}

fn entries<'a>(table: &'a mut dyn TableLike, list: &str) -> Result<&'a mut ArrayOfTables, EditError> {
    let there = keys(table);
    let item = table.get_mut(list).ok_or(EditError::Missing { what: format!("[[{list}]]"), there })?;
    item.as_array_of_tables_mut().ok_or(EditError::Other {
        what: list.to_owned(),
        kind: "list of tables with headers",
        cure: "write its entries below [[..]] headers",
    })
}

/// Where the entry named `name` is. Sites have several names, any of which will do.
fn position(entries: &ArrayOfTables, list: &str, name: &str) -> Result<usize, EditError> {
    let found = entries.iter().position(|entry| names(entry).iter().any(|known| known == name));
    found.ok_or_else(|| {
        let known: Vec<String> = entries.iter().filter_map(|entry| names(entry).first().cloned()).collect();
        no_entry(list, name, known.join(", "))
    })
}

fn names(entry: &Table) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let one = entry.get("name").and_then(Item::as_value).and_then(text);
    let many = entry.get("names").and_then(Item::as_array).into_iter().flatten().filter_map(text);
    one.into_iter().chain(many).collect()
}

fn no_entry(list: &str, name: &str, known: String) -> EditError {
    EditError::Missing { what: format!("{list} named {name}"), there: format!("there are: {known}") }
}

fn missing_key(path: &Path, table: &dyn TableLike) -> EditError {
    EditError::Missing { what: path.to_string(), there: keys(table) }
}

fn keys(table: &dyn TableLike) -> String {
    let keys: Vec<&str> = table.iter().map(|(key, _)| key).collect();
    if keys.is_empty() { "nothing is there".to_owned() } else { format!("there are: {}", keys.join(", ")) }
}

fn not_a_key(path: &Path) -> EditError {
    EditError::Other { what: path.to_string(), kind: "key", cure: "add the key, such as node[arr1].weight" }
}
