//! The URL on its way through the rules: parts, encodings, query. Pure.

use std::borrow::Cow;

use super::super::path::{Ambiguous, NormalPath, escape, push_escape};

/// A URL's path and query as they are forwarded, and the normal form of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Encoded; the client's own bytes unless a rule changed it.
    pub raw: String,
    /// What rules match.
    pub path: NormalPath,
    /// Without the `?`; `None` if there is none.
    pub query: Option<String>,
}

/// Where a rewrite to a whole URL points: `https://FARM/..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farm {
    /// Whether the scheme was `https`.
    pub tls: bool,
    /// What stands between `//` and the path: a farm's name, or a host with or without port. It may be made of what a client
    /// sent, so only names that were configured may be followed.
    pub authority: String,
}

impl Url {
    /// The URL of a request target in origin form, whose normal form is `path`.
    pub fn new(target: &str, path: NormalPath) -> Self {
        let (raw, query) = split(target);
        Self { raw: raw.to_owned(), path, query: query.map(str::to_owned) }
    }

    /// Path and query, as a request target has them.
    pub fn target(&self) -> String {
        joined(&self.raw, self.query.as_deref())
    }

    /// What becomes of it when it is rewritten to `text`, which is encoded where it has to be: a path, with or without the first
    /// slash, perhaps with a query, behind which the query so far is added if `append`.
    pub fn rewritten(&self, text: &str, append: bool) -> Result<Self, Ambiguous> {
        let (raw, query) = split(text);
        let raw = format!("/{}", legal(raw.trim_start_matches('/')));
        let path = NormalPath::of(raw.as_bytes())?;
        let raw = if path == self.path { self.raw.clone() } else { raw };
        let added = if append { self.query.as_deref() } else { None };
        let query = both(query.map(legal).as_deref(), added);
        if query.as_deref().is_some_and(|query| query.contains('#')) {
            return Err(Ambiguous::Fragment);
        }
        Ok(Self { raw, path, query })
    }

    /// The `Location` of a redirect to `text`, likewise. What is not a whole URL begins with one slash, so that no client takes
    /// its first segment for a host.
    pub fn location(&self, text: &str, append: bool) -> String {
        let (text, fragment) = match text.split_once('#') {
            Some((text, fragment)) => (text, Some(fragment)),
            None => (text, None),
        };
        let (head, query) = split(text);
        let head = if has_scheme(head) {
            legal(head).into_owned()
        } else {
            format!("/{}", legal(head.trim_start_matches(['/', '\\'])))
        };
        let added = if append { self.query.as_deref() } else { None };
        let query = both(query.map(legal).as_deref(), added.map(legal).as_deref());
        let mut location = joined(&head, query.as_deref());
        if let Some(fragment) = fragment {
            location.push('#');
            location.push_str(&legal(fragment));
        }
        location
    }
}

/// `https://FARM/path?query` as farm and `/path?query`; `None` for what does not begin with `http://` or `https://`.
pub fn farm(text: &str) -> Option<(Farm, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    Some((Farm { tls, authority: authority.to_owned() }, rest))
}

/// `{UrlEncode:}`: everything but letters, digits and `-._~`.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            push_escape(&mut encoded, byte);
        }
    }
    encoded
}

/// `{UrlDecode:}`: `%XX`, and `%uXXXX` as old IIS reads it; what is neither stays, what is no UTF-8 becomes U+FFFD.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(byte) = escape(rest) {
            bytes.push(byte);
            rest = &rest[3..];
        } else if let Some(letter) = wide_escape(rest) {
            bytes.extend(letter.to_string().bytes());
            rest = &rest[6..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// `{HtmlEncode:}`.
pub fn html(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => encoded.push_str("&amp;"),
            '<' => encoded.push_str("&lt;"),
            '>' => encoded.push_str("&gt;"),
            '"' => encoded.push_str("&quot;"),
            '\'' => encoded.push_str("&#39;"),
            _ => encoded.push(letter),
        }
    }
    encoded
}

fn wide_escape(text: &[u8]) -> Option<char> {
    let [b'%', b'u' | b'U', digits @ ..] = text else {
        return None;
    };
    let digits = digits.get(..4)?;
    let code = digits.iter().try_fold(0, |code, &byte| Some(code * 16 + char::from(byte).to_digit(16)?));
    char::from_u32(code?)
}

/// `text` with escapes for what no URL may have (RFC 3986, section 2); escapes that are there stay.
fn legal(text: &str) -> Cow<'_, str> {
    let illegal = |byte: u8| !byte.is_ascii_graphic() || b"\"<>\\^`{|}".contains(&byte);
    if !text.bytes().any(illegal) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if illegal(byte) {
            push_escape(&mut encoded, byte);
        } else {
            encoded.push(char::from(byte));
        }
    }
    Cow::Owned(encoded)
}

fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    }
}

fn joined(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// The rule's own query first, as IIS has it.
fn both(own: Option<&str>, added: Option<&str>) -> Option<String> {
    match (own.filter(|own| !own.is_empty()), added.filter(|added| !added.is_empty())) {
        (Some(own), Some(added)) => Some(format!("{own}&{added}")),
        (Some(query), None) | (None, Some(query)) => Some(query.to_owned()),
        (None, None) => own.or(added).map(str::to_owned),
    }
}
