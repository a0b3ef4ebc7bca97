//! Ways to a value of a file, as commands name them: `exchange.certificate`, `node[arr1].weight`,
//! `site[mail.example.test].key`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A way to a value; at least one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    way: Vec<Step>,
    last: Step,
}

/// A step of a way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The key of a table.
    Key(String),
    /// The entry of a list whose `name` is this, or whose `names` have it.
    Entry {
        /// The list, such as `node`.
        list: String,
        /// The name.
        name: String,
    },
}

/// A text that is no way to a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "\"{0}\" names no key; hint: such as exchange.certificate, node[arr1].weight or site[mail.example.test].key"
)]
pub struct PathError(String);

impl Path {
    /// The way to `key` of the document itself.
    pub fn key(key: &str) -> Self {
        Self { way: Vec::new(), last: Step::Key(key.to_owned()) }
    }

    /// The way to the entry of a list of the document itself.
    pub fn entry(list: &str, name: &str) -> Self {
        Self { way: Vec::new(), last: Step::Entry { list: list.to_owned(), name: name.to_owned() } }
    }

    /// The way to `key` of what this one leads to.
    pub fn then(mut self, key: &str) -> Self {
        self.way.push(self.last);
        Self { way: self.way, last: Step::Key(key.to_owned()) }
    }

    /// The last step, and those before it.
    pub fn split_last(&self) -> (&Step, &[Step]) {
        (&self.last, &self.way)
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let wrong = || PathError(text.to_owned());
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (key, after) = rest.split_at(end);
            if !is_bare(key) {
                return Err(wrong());
            }
            let after = match after.strip_prefix('[') {
                Some(named) => {
                    let (name, after) = named.split_once(']').ok_or_else(wrong)?;
                    if name.is_empty() || name.chars().any(char::is_control) {
                        return Err(wrong());
                    }
                    steps.push(Step::Entry { list: key.to_owned(), name: name.to_owned() });
                    after
                }
                None => {
                    steps.push(Step::Key(key.to_owned()));
                    after
                }
            };
            match after.strip_prefix('.') {
                Some(next) => rest = next,
                None if after.is_empty() => break,
                None => return Err(wrong()),
            }
        }
        let last = steps.pop().ok_or_else(wrong)?;
        Ok(Self { way: steps, last })
    }
}

/// What TOML takes for a key without quotes; no other is known to a configuration.
fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.way.iter().try_for_each(|step| write!(f, "{step}."))?;
        self.last.fmt(f)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Entry { list, name } => write!(f, "{list}[{name}]"),
        }
    }
}
