//! The fields of a message, read off hostile bytes in their order.

use super::ChannelError;
use crate::peer::MAX_NAME;

/// What is left of a body.
pub(super) struct Fields<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(kind: u8, body: &'a [u8]) -> Self {
        Self { kind, rest: body }
    }

    pub(super) fn byte(&mut self) -> Result<u8, ChannelError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ChannelError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(self.wrong())?;
        self.rest = rest;
        Ok(*array)
    }

    /// A text of 1 to `MAX_NAME` bytes.
    pub(super) fn text(&mut self) -> Result<String, ChannelError> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        if !(1..=MAX_NAME).contains(&length) {
            return Err(self.wrong());
        }
        let (text, rest) = self.rest.split_at_checked(length).ok_or(self.wrong())?;
        self.rest = rest;
        String::from_utf8(text.to_vec()).map_err(|_| self.wrong())
    }

    /// All that is left; the last field is so long.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), ChannelError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong()) }
    }

    pub(super) fn wrong(&self) -> ChannelError {
        ChannelError::Field { kind: self.kind }
    }
}

/// A text whose length was checked.
pub(super) fn put_text(body: &mut Vec<u8>, text: &str) {
    body.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    body.extend(text.as_bytes());
}
