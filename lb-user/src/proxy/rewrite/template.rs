//! Texts that are filled in for each request: `https://farm/{R:1}?host={HTTP_HOST}`. Pure.
//!
//! What stands in braces: `R:n` and `C:n` (what the rule's pattern and its conditions captured), a server variable, a function
//! with a template, or a rewrite map with a template as its key. IIS knows no way to write a brace itself.

use std::collections::BTreeMap;

use thiserror::Error;

use super::super::path;
use super::spec::{MapSpec, Maps};
use super::url;

mod parse;

/// A compiled text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Rule(usize),
    Condition(usize),
    Variable(Variable),
    Call(Function, Template),
    /// A map, and the text that is looked up in it.
    Lookup(Lookup, Template),
}

/// Server variables. Their values are IIS's, but that all of the URL's parts but the last are those of the URL so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `HTTP_X_NAME`: a request header field, in lower case and with dashes.
    Header(String),
    /// `ON` or `OFF`.
    Https,
    /// The port that the client connected to.
    ServerPort,
    /// `1` with TLS, else `0`.
    ServerPortSecure,
    /// The host that was asked for, without a port.
    ServerName,
    /// The client's address.
    RemoteAddr,
    /// `GET`.
    RequestMethod,
    /// Without `?`.
    QueryString,
    /// Path and query, encoded.
    RequestUri,
    /// The path, decoded, with its slash; also `PATH_INFO`.
    Url,
    /// The whole URL with scheme, host and port, encoded.
    CacheUrl,
    /// Path and query as the client sent them, whatever the rules made of them.
    UnencodedUrl,
    /// `HTTP_X_ORIGINAL_URL`: the same with the path decoded. Never the field of that name, which a client may write.
    OriginalUrl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    ToLower,
    UrlEncode,
    UrlDecode,
    HtmlEncode,
}

/// A rewrite map, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lookup {
    entries: BTreeMap<String, String>,
    default: String,
    ignore_case: bool,
}

/// Why a template is refused, and where: `at` counts its characters from 0.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("character {at}: {why}")]
pub struct TemplateError {
    /// How many characters come before the place.
    pub at: usize,
    /// What is wrong there.
    pub why: TemplateFault,
}

/// What can be wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateFault {
    /// `{R:1`.
    #[error("a brace is not closed")]
    OpenBrace,
    /// `a}`.
    #[error("a brace closes nothing; hint: in a URL, write %7D for the character")]
    StrayBrace,
    /// `{R:x}`, `{C:10}`.
    #[error("a back reference needs one digit")]
    Reference,
    /// `{LOCAL_ADDR}`.
    #[error(
        "there is no server variable {0}; hint: request header fields are HTTP_ and the name with _ for -"
    )]
    UnknownVariable(String),
    /// `{Nothing:a}`.
    #[error("there is neither a function nor a rewrite map {0}")]
    UnknownFunction(String),
    /// Braces within braces, too many.
    #[error("there are more than 20 braces within each other")]
    TooDeep,
}

/// What a template is filled in with.
pub trait Values {
    /// What group `number` of the rule's pattern captured, decoded.
    fn rule(&self, number: usize) -> &str;
    /// What group `number` of the conditions captured, and whether that is a part of the decoded path.
    fn condition(&self, number: usize) -> (&str, bool);
    /// A server variable; empty if the request has none.
    fn variable(&self, variable: &Variable) -> String;
}

/// What a filled-in template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A text of its own.
    Text,
    /// A URL: what comes from the decoded path is encoded again, so that a `?` or `%` of a name stays one.
    Url,
}

impl Template {
    /// Compiles `text`, which may use `maps`.
    pub fn compile(text: &str, maps: &Maps) -> Result<Self, TemplateError> {
        parse::template(text, maps)
    }

    /// The text for one request.
    pub fn fill(&self, values: &dyn Values, purpose: Use) -> String {
        self.0.iter().map(|piece| piece.fill(values, purpose)).collect()
    }

    /// The highest group of the rule's pattern that it uses.
    pub fn highest_rule(&self) -> Option<usize> {
        self.highest(&|piece| if let Piece::Rule(number) = piece { Some(*number) } else { None })
    }

    /// The highest group of the conditions that it uses.
    pub fn highest_condition(&self) -> Option<usize> {
        self.highest(&|piece| if let Piece::Condition(number) = piece { Some(*number) } else { None })
    }

    /// Whether it is the decoded path or made of parts of it.
    pub fn is_path(&self) -> bool {
        let of_path = |piece: &Piece| match piece {
            Piece::Rule(_) | Piece::Variable(Variable::Url) => true,
            Piece::Call(Function::ToLower, inner) => inner.is_path(),
            Piece::Text(_)
            | Piece::Condition(_)
            | Piece::Variable(_)
            | Piece::Call(Function::UrlEncode | Function::UrlDecode | Function::HtmlEncode, _)
            | Piece::Lookup(..) => false,
        };
        self.0.iter().any(of_path)
    }

    /// The request header fields that it uses, in lower case.
    pub fn fields(&self) -> Vec<&str> {
        self.0.iter().flat_map(Piece::fields).collect()
    }

    /// The text that it always is; itself, if there is anything to be filled in.
    pub fn into_text(self) -> Result<String, Self> {
        match self.0.as_slice() {
            [] => Ok(String::new()),
            [Piece::Text(text)] => Ok(text.clone()),
            _ => Err(self),
        }
    }

    fn highest(&self, number: &dyn Fn(&Piece) -> Option<usize>) -> Option<usize> {
        let deeper = |piece: &Piece| match piece {
            Piece::Call(_, inner) | Piece::Lookup(_, inner) => inner.highest(number),
            Piece::Text(_) | Piece::Rule(_) | Piece::Condition(_) | Piece::Variable(_) => number(piece),
        };
        self.0.iter().filter_map(deeper).max()
    }
}

impl Piece {
    fn fields(&self) -> Vec<&str> {
        match self {
            Self::Variable(Variable::Header(name)) => vec![name.as_str()],
            Self::Call(_, inner) | Self::Lookup(_, inner) => inner.fields(),
            Self::Text(_) | Self::Rule(_) | Self::Condition(_) | Self::Variable(_) => Vec::new(),
        }
    }

    fn fill(&self, values: &dyn Values, purpose: Use) -> String {
        let decoded = |text: &str| match purpose {
            Use::Text => text.to_owned(),
            Use::Url => path::encoded(text),
        };
        match self {
            Self::Text(text) => text.clone(),
            Self::Rule(number) => decoded(values.rule(*number)),
            Self::Condition(number) => match values.condition(*number) {
                (text, true) => decoded(text),
                (text, false) => text.to_owned(),
            },
            Self::Variable(variable @ Variable::Url) => decoded(&values.variable(variable)),
            Self::Variable(variable) => values.variable(variable),
            Self::Call(Function::ToLower, inner) => inner.fill(values, purpose).to_lowercase(),
            Self::Call(Function::UrlEncode, inner) => url::encode(&inner.fill(values, Use::Text)),
            Self::Call(Function::UrlDecode, inner) => {
                url::decode(&inner.fill(values, Use::Text)).into_owned()
            }
            Self::Call(Function::HtmlEncode, inner) => url::html(&inner.fill(values, Use::Text)),
            Self::Lookup(map, key) => map.value(&key.fill(values, Use::Text)).to_owned(),
        }
    }
}

impl Lookup {
    fn new(map: &MapSpec) -> Self {
        let key = |key: &String| if map.ignore_case { key.to_lowercase() } else { key.clone() };
        let entries = map.entries.iter().map(|(name, value)| (key(name), value.clone()));
        Self { entries: entries.collect(), default: map.default.clone(), ignore_case: map.ignore_case }
    }

    fn value(&self, key: &str) -> &str {
        let found =
            if self.ignore_case { self.entries.get(&key.to_lowercase()) } else { self.entries.get(key) };
        found.unwrap_or(&self.default)
    }
}

/// The field that `HTTP_X_NAME` is; `None` if it is no name of one.
pub fn header(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("http_")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (!name.is_empty() && name.bytes().all(plain)).then(|| name.replace('_', "-"))
}
