//! From a request target to the path that rules and routes are matched with, or why it is refused. Pure.
//!
//! A server decodes the path once, some layers behind it once more, and each resolves `..` in its own way. What we match must be
//! the resource that all of them serve, so whatever they could read in two ways is refused, each with its reason. The client's
//! own bytes are what is forwarded; the normal form serves to match alone. The query is not judged: OWA's item ids have encoded
//! slashes there. RFC 3986, sections 5.2.4 (dot segments) and 6.2.2 (normal forms); RFC 9112, section 3.2.1 (origin form).

use std::borrow::Cow;

use thiserror::Error;

/// Whether letters of both cases are the same. Only ASCII letters are: Exchange's own paths have no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `/OWA` is not `/owa`.
    Sensitive,
    /// `/OWA` is `/owa`, as everywhere in IIS.
    Insensitive,
}

/// A path that can mean only one thing: decoded once, without dot segments and repeated slashes. Begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NormalPath(String);

/// Why a target is refused. All are the client's doing, and answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Ambiguous {
    /// `*`, `host:port` or an absolute URL.
    #[error("the target does not begin with a slash")]
    NotOriginForm,
    /// `//host/..`, which some parsers take for a host.
    #[error("the path begins with two slashes")]
    LeadingSlashes,
    /// `#` belongs to the client alone (RFC 3986, section 3.5).
    #[error("the target has a fragment")]
    Fragment,
    /// `\`, which Windows takes for a slash.
    #[error("the path has a backslash")]
    Backslash,
    /// `%5c`.
    #[error("the path has an encoded backslash")]
    EncodedBackslash,
    /// `%2f`.
    #[error("the path has an encoded slash")]
    EncodedSlash,
    /// `%` without two hexadecimal digits.
    #[error("the path has a % that begins no escape")]
    MalformedEscape,
    /// `%u0041`, which old IIS decodes.
    #[error("the path has a %u escape")]
    IisEscape,
    /// `%252e`: decoded once more it would be another path.
    #[error("the path is encoded twice")]
    DoubleEncoding,
    /// `%00`, which ends a string for some.
    #[error("the path has a NUL")]
    Nul,
    /// A space or control character, as it is or encoded; an encoded space is fine.
    #[error("the path has a control character")]
    Control,
    /// Neither ASCII nor, decoded, UTF-8 in its shortest form.
    #[error("the path is not UTF-8")]
    NotUtf8,
    /// `/..;/`: some servers strip the parameter first.
    #[error("a dot segment has a parameter")]
    DotParameter,
    /// `...` or `.. `: Windows strips dots and spaces from the end of a name.
    #[error("a segment has nothing but dots and spaces")]
    DotsAndSpaces,
    /// `/a//../b`: servers disagree on what `..` takes away.
    #[error("the path has repeated slashes and goes up")]
    SlashesAndDots,
    /// More `..` than segments.
    #[error("the path goes above the root")]
    AboveRoot,
}

impl NormalPath {
    /// The normal form of the path in `target`, a request target in origin form; what follows the first `?` is not looked at but
    /// for a fragment.
    pub fn of(target: &[u8]) -> Result<Self, Ambiguous> {
        if target.first() != Some(&b'/') {
            return Err(Ambiguous::NotOriginForm);
        }
        if target.starts_with(b"//") {
            return Err(Ambiguous::LeadingSlashes);
        }
        if target.contains(&b'#') {
            return Err(Ambiguous::Fragment);
        }
        let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
        let decoded = decoded(path)?;
        check_characters(&decoded)?;
        resolved(&decoded).map(Self)
    }

    /// The path, decoded.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as a target has it, whose normal form it is again.
    pub fn encoded(&self) -> String {
        encoded(&self.0)
    }

    /// Whether the path is `prefix` or lies below it, by whole segments: `/owa` has `/owa`, `/owa/` and `/owa/x`, not `/owax`. A
    /// slash at the end of `prefix` changes nothing; `/` has every path.
    pub fn is_under(&self, prefix: &str, case: Case) -> bool {
        let prefix = prefix.trim_end_matches('/').as_bytes();
        let path = self.0.as_bytes();
        let (Some(head), Some(rest)) = (path.get(..prefix.len()), path.get(prefix.len()..)) else {
            return false;
        };
        let same = match case {
            Case::Sensitive => head == prefix,
            Case::Insensitive => head.eq_ignore_ascii_case(prefix),
        };
        same && (rest.is_empty() || rest.starts_with(b"/"))
    }

    /// The path in lower case (ASCII letters), to be looked up by.
    pub fn folded(&self) -> Cow<'_, str> {
        if self.0.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(self.0.to_ascii_lowercase())
        } else {
            Cow::Borrowed(&self.0)
        }
    }
}

/// `text` as a part of a path: all is encoded but what RFC 3986 allows in segments, and slashes.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || IN_SEGMENTS.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            push_escape(&mut encoded, byte);
        }
    }
    encoded
}

/// Writes `%XX`.
pub fn push_escape(text: &mut String, byte: u8) {
    let digit = |value: u8| char::from(HEXADECIMAL[usize::from(value)]);
    text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
}

/// The byte that `%` and two hexadecimal digits at the head of `text` stand for.
pub fn escape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// `path` decoded once.
fn decoded(path: &[u8]) -> Result<String, Ambiguous> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            b'%' => {
                bytes.push(unescaped(rest)?);
                rest = &tail[2..];
                continue;
            }
            b'\\' => return Err(Ambiguous::Backslash),
            0 => return Err(Ambiguous::Nul),
            0x01..=0x20 | 0x7f => return Err(Ambiguous::Control),
            0x80.. => return Err(Ambiguous::NotUtf8),
            _ => bytes.push(byte),
        }
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| Ambiguous::NotUtf8)
}

fn unescaped(text: &[u8]) -> Result<u8, Ambiguous> {
    if matches!(text, [_, b'u' | b'U', ..]) {
        return Err(Ambiguous::IisEscape);
    }
    match escape(text).ok_or(Ambiguous::MalformedEscape)? {
        b'/' => Err(Ambiguous::EncodedSlash),
        b'\\' => Err(Ambiguous::EncodedBackslash),
        0 => Err(Ambiguous::Nul),
        byte => Ok(byte),
    }
}

fn check_characters(decoded: &str) -> Result<(), Ambiguous> {
    if decoded.contains(char::is_control) {
        return Err(Ambiguous::Control);
    }
    let bytes = decoded.as_bytes();
    let again = |at: usize| {
        bytes[at] == b'%'
            && (escape(&bytes[at..]).is_some() || matches!(bytes.get(at + 1), Some(b'u' | b'U')))
    };
    if (0..bytes.len()).any(again) { Err(Ambiguous::DoubleEncoding) } else { Ok(()) }
}

/// `path` without dot segments and empty ones, but for the last: a slash at the end stays.
fn resolved(path: &str) -> Result<String, Ambiguous> {
    let mut kept: Vec<&str> = Vec::new();
    let (mut empty, mut up, mut folder) = (false, false, false);
    let segments = path.strip_prefix('/').unwrap_or(path);
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        folder = matches!(segment, "" | "." | "..");
        match segment {
            "" => empty |= !last,
            "." => {}
            ".." => {
                up = true;
                kept.pop().ok_or(Ambiguous::AboveRoot)?;
            }
            _ => kept.push(checked(segment)?),
        }
    }
    if empty && up {
        return Err(Ambiguous::SlashesAndDots);
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &kept {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if folder || kept.is_empty() {
        resolved.push('/');
    }
    Ok(resolved)
}

fn checked(segment: &str) -> Result<&str, Ambiguous> {
    let name = segment.split(';').next().unwrap_or_default();
    if name.len() < segment.len() && matches!(name, "." | "..") {
        return Err(Ambiguous::DotParameter);
    }
    if name.contains('.') && name.bytes().all(|byte| matches!(byte, b'.' | b' ')) {
        return Err(Ambiguous::DotsAndSpaces);
    }
    Ok(segment)
}

/// RFC 3986, section 3.3: `pchar` without escapes, and the slash between segments.
const IN_SEGMENTS: &[u8] = b"-._~!$&'()*+,;=:@/";
const HEXADECIMAL: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests;
