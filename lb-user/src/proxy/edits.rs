//! What is changed of one message's header fields. Pure; `headers` says what may be.

use std::borrow::Cow;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits<'a> {
    /// Names, in lower case, of fields that do not cross.
    gone: Vec<Cow<'a, str>>,
    /// Names and values of fields that are written instead, or beside them.
    said: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Edits<'a> {
    /// Nothing is changed.
    pub const NONE: Edits<'static> = Edits { gone: Vec::new(), said: Vec::new() };

    /// No field of this name, which is in lower case, crosses.
    pub fn remove(&mut self, name: impl Into<Cow<'a, str>>) {
        self.gone.push(name.into());
    }

    /// A field is written. Neither name nor value can end a line.
    pub fn write(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.said.push((name.into(), value.into()));
    }

    /// Whether a message's field of this name does not cross.
    pub fn replace(&self, name: &[u8]) -> bool {
        self.gone.iter().any(|gone| name.eq_ignore_ascii_case(gone.as_bytes()))
    }

    /// The fields that are written.
    pub fn said(&self) -> impl Iterator<Item = (&str, &str)> {
        self.said.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}
