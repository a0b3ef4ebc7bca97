//! Reads a template's text. Pure.

use super::super::spec::Maps;
use super::{Function, Lookup, Piece, Template, TemplateError, TemplateFault, Variable, header};

pub(super) fn template(text: &str, maps: &Maps) -> Result<Template, TemplateError> {
    let letters: Vec<char> = text.chars().collect();
    let mut parser = Parser { letters: &letters, at: 0, depth: 0, maps };
    let template = parser.template()?;
    if parser.at < letters.len() {
        return Err(error(parser.at, TemplateFault::StrayBrace));
    }
    Ok(template)
}

struct Parser<'a> {
    letters: &'a [char],
    at: usize,
    depth: usize,
    maps: &'a Maps,
}

impl Parser<'_> {
    /// Up to the end or a closing brace, which stays.
    fn template(&mut self) -> Result<Template, TemplateError> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        while let Some(&letter) = self.letters.get(self.at).filter(|&&letter| letter != '}') {
            if letter != '{' {
                text.push(letter);
                self.at += 1;
                continue;
            }
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(self.braces()?);
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Template(pieces))
    }

    fn braces(&mut self) -> Result<Piece, TemplateError> {
        let open = self.at;
        if self.depth == DEEPEST {
            return Err(error(open, TemplateFault::TooDeep));
        }
        self.at += 1;
        let rest = &self.letters[self.at..];
        let length = rest.iter().take_while(|letter| !matches!(letter, ':' | '{' | '}')).count();
        let name: String = rest[..length].iter().collect();
        self.at += length;
        let piece = if self.letters.get(self.at) == Some(&':') {
            self.at += 1;
            self.depth += 1;
            let inner = self.template()?;
            self.depth -= 1;
            self.call(&name, inner, open)?
        } else {
            let unknown = || TemplateFault::UnknownVariable(name.clone());
            Piece::Variable(variable(&name).ok_or_else(|| error(open, unknown()))?)
        };
        if self.letters.get(self.at) != Some(&'}') {
            return Err(error(open, TemplateFault::OpenBrace));
        }
        self.at += 1;
        Ok(piece)
    }

    fn call(&self, name: &str, inner: Template, open: usize) -> Result<Piece, TemplateError> {
        let reference = || match inner.0.as_slice() {
            [Piece::Text(digit)] if digit.len() == 1 => digit.parse().ok(),
            _ => None,
        };
        let wrong = || error(open, TemplateFault::Reference);
        Ok(match name.to_ascii_lowercase().as_str() {
            "r" => Piece::Rule(reference().ok_or_else(wrong)?),
            "c" => Piece::Condition(reference().ok_or_else(wrong)?),
            "tolower" => Piece::Call(Function::ToLower, inner),
            "urlencode" => Piece::Call(Function::UrlEncode, inner),
            "urldecode" => Piece::Call(Function::UrlDecode, inner),
            "htmlencode" => Piece::Call(Function::HtmlEncode, inner),
            _ => {
                let map = self.maps.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                let (_, map) =
                    map.ok_or_else(|| error(open, TemplateFault::UnknownFunction(name.to_owned())))?;
                Piece::Lookup(Lookup::new(map), inner)
            }
        })
    }
}

fn error(at: usize, why: TemplateFault) -> TemplateError {
    TemplateError { at, why }
}

fn variable(name: &str) -> Option<Variable> {
    let name = name.to_ascii_uppercase();
    Some(match name.as_str() {
        "HTTPS" => Variable::Https,
        "SERVER_PORT" => Variable::ServerPort,
        "SERVER_PORT_SECURE" => Variable::ServerPortSecure,
        "SERVER_NAME" => Variable::ServerName,
        "REMOTE_ADDR" => Variable::RemoteAddr,
        "REQUEST_METHOD" => Variable::RequestMethod,
        "QUERY_STRING" => Variable::QueryString,
        "REQUEST_URI" => Variable::RequestUri,
        "URL" | "PATH_INFO" => Variable::Url,
        "CACHE_URL" => Variable::CacheUrl,
        "UNENCODED_URL" => Variable::UnencodedUrl,
        "HTTP_X_ORIGINAL_URL" => Variable::OriginalUrl,
        "CONTENT_TYPE" => Variable::Header("content-type".to_owned()),
        "CONTENT_LENGTH" => Variable::Header("content-length".to_owned()),
        _ => Variable::Header(header(&name)?),
    })
}

const DEEPEST: usize = 20;
