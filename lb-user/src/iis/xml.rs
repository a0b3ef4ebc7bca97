//! Elements and attributes with their lines. Pure. What they mean is for `read`; this knows none of IIS's names.
//!
//! Nothing a file says makes this cost more than the file is long: there are no entities but XML's own five and characters by number, no
//! document type, and depth and number of nodes are bounded.

use std::collections::BTreeSet;

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use thiserror::Error;

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Its number among all nodes of the file, which count elements, attributes and texts in their order.
    pub id: usize,
    /// Its name as it was written.
    pub name: String,
    /// Its line, from 1.
    pub line: usize,
    /// Its attributes in their order; no two have one name.
    pub attributes: Vec<Attribute>,
    /// The elements in it.
    pub children: Vec<Element>,
    /// Text in it that is more than space: number and line of each piece. applicationHost.config has none.
    pub texts: Vec<(usize, usize)>,
}

/// An attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribute {
    /// See `Element`.
    pub id: usize,
    /// Its name as it was written.
    pub name: String,
    /// Its value, with entities resolved.
    pub value: String,
    /// Its line, from 1.
    pub line: usize,
}

impl Element {
    /// The attribute of this name; IIS tells names apart by case.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// The elements of this name in it.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// Why a text is no XML that can be read. It is the file's fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {why}")]
pub struct XmlError {
    /// From 1.
    pub line: usize,
    /// What is wrong there.
    pub why: XmlFault,
}

/// What can be wrong with XML.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum XmlFault {
    /// Not well-formed.
    #[error("no well-formed XML: {0}; hint: IIS would not start with this file, copy it again")]
    Malformed(String),
    /// `<!DOCTYPE`.
    #[error("a document type, which no configuration of IIS has; hint: remove it")]
    DocumentType,
    /// One name twice in one element.
    #[error("the attribute {0} is given twice; hint: remove one")]
    Twice(String),
    /// More than `DEEPEST`.
    #[error("elements within each other, more than {DEEPEST}; hint: this is no configuration of IIS")]
    TooDeep,
    /// More than `MOST`.
    #[error("more than {MOST} elements and attributes; hint: this is no configuration of IIS")]
    TooMany,
    /// No element, or more than one that is in none.
    #[error("not one element around all others; hint: the file was cut off, or is two files")]
    NotOneRoot,
}

/// Elements within each other.
pub const DEEPEST: usize = 32;

/// Elements, attributes and texts. A large server has some 20,000.
pub const MOST: usize = 200_000;

/// The outermost element of `text`.
pub fn parse(text: &str) -> Result<Element, XmlError> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut builder = Builder { text, counted: (0, 1), nodes: 0, open: Vec::new(), root: None };
    loop {
        let start = usize::try_from(reader.buffer_position()).unwrap_or(text.len());
        let event = reader.read_event().map_err(|error| {
            let at = usize::try_from(reader.error_position()).unwrap_or(start);
            builder.malformed(at, error)
        })?;
        match event {
            Event::Start(tag) => builder.open(start, &tag)?,
            Event::End(_) => builder.close(start)?,
            Event::Text(words) if words.trim().is_empty() => {}
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => builder.words(start)?,
            Event::DocType(_) => return Err(builder.error(start, XmlFault::DocumentType)),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => return builder.finish(),
        }
    }
}

struct Builder<'a> {
    text: &'a str,
    /// A place in the text and its line; places are asked for in their order.
    counted: (usize, usize),
    nodes: usize,
    open: Vec<Element>,
    root: Option<Element>,
}

impl Builder<'_> {
    fn open(&mut self, start: usize, tag: &BytesStart<'_>) -> Result<(), XmlError> {
        let line = self.line(start);
        if self.open.len() == DEEPEST {
            return Err(self.error(start, XmlFault::TooDeep));
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err(self.error(start, XmlFault::NotOneRoot));
        }
        let mut element = Element {
            id: self.next(start)?,
            name: tag.name().as_ref().to_owned(),
            line,
            ..Element::default()
        };
        let mut names = BTreeSet::new();
        // Its own check compares each with each.
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute.map_err(|error| self.malformed(start, error))?;
            let name = attribute.key.as_ref();
            // The tag is borrowed from the text, so the name lies in it.
            let place = name.as_ptr().addr().wrapping_sub(self.text.as_ptr().addr());
            let place = if place < self.text.len() { place } else { start };
            if !names.insert(name.to_owned()) {
                return Err(self.error(place, XmlFault::Twice(name.to_owned())));
            }
            let value = unescape(&attribute.value).map_err(|error| self.malformed(place, error))?;
            let (name, value) = (name.to_owned(), value.into_owned());
            let (id, line) = (self.next(place)?, self.line(place));
            element.attributes.push(Attribute { id, name, value, line });
        }
        self.open.push(element);
        Ok(())
    }

    fn close(&mut self, at: usize) -> Result<(), XmlError> {
        let element = self.open.pop().ok_or_else(|| self.error(at, XmlFault::NotOneRoot))?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn words(&mut self, at: usize) -> Result<(), XmlError> {
        let (id, line) = (self.next(at)?, self.line(at));
        match self.open.last_mut() {
            Some(element) => element.texts.push((id, line)),
            None => return Err(self.error(at, XmlFault::NotOneRoot)),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Element, XmlError> {
        let end = self.text.len();
        match self.root.take() {
            Some(root) if self.open.is_empty() => Ok(root),
            Some(_) | None => Err(self.error(end, XmlFault::NotOneRoot)),
        }
    }

    fn next(&mut self, at: usize) -> Result<usize, XmlError> {
        if self.nodes == MOST {
            return Err(self.error(at, XmlFault::TooMany));
        }
        self.nodes += 1;
        Ok(self.nodes - 1)
    }

    fn line(&mut self, at: usize) -> usize {
        let (from, line) = self.counted;
        let newlines = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count();
        let bytes = self.text.as_bytes();
        let line = match bytes.get(from..at) {
            Some(passed) => line + newlines(passed),
            // A tag's error may lie before what was looked at last.
            None => 1 + newlines(bytes.get(..at).unwrap_or(bytes)),
        };
        self.counted = (at, line);
        line
    }

    fn error(&mut self, at: usize, why: XmlFault) -> XmlError {
        XmlError { line: self.line(at), why }
    }

    fn malformed(&mut self, at: usize, error: impl std::fmt::Display) -> XmlError {
        let words: String = error.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
        self.error(at, XmlFault::Malformed(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_attributes_have_lines_and_numbers_in_their_order() {
        let text = "<?xml version=\"1.0\"?>\n<!-- a -->\n<a x='1'\n   y=\"&lt;&#65;\">\n <b/>\n <c z=\"\"/>\n words\n</a>\n";
        let root = parse(text).unwrap();
        let attribute = |id, name: &str, value: &str, line| Attribute {
            id,
            name: name.to_owned(),
            value: value.to_owned(),
            line,
        };
        assert_eq!((root.id, root.name.as_str(), root.line), (0, "a", 3));
        assert_eq!(root.attributes, [attribute(1, "x", "1", 3), attribute(2, "y", "<A", 4)]);
        let [b, c] = &root.children[..] else { panic!("{root:?}") };
        assert_eq!((b.id, b.line, c.id, c.line), (3, 5, 4, 6));
        assert_eq!(c.attributes, [attribute(5, "z", "", 6)]);
        assert_eq!(root.texts.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn what_is_no_configuration_is_told_with_its_line() {
        let deep = "<a>".repeat(DEEPEST + 1);
        let many = format!("<a>{}</a>", "<b/>".repeat(MOST));
        let malformed = |line| XmlError { line, why: XmlFault::Malformed(String::new()) };
        for (text, wanted) in [
            ("", XmlError { line: 1, why: XmlFault::NotOneRoot }),
            ("<a>\n", XmlError { line: 2, why: XmlFault::NotOneRoot }),
            ("<a/>\n<b/>", XmlError { line: 2, why: XmlFault::NotOneRoot }),
            ("words", XmlError { line: 1, why: XmlFault::NotOneRoot }),
            ("<a>\n</b>", malformed(2)),
            ("<a\nx>", malformed(1)),
            ("<a>\n<b x='&bomb;'/></a>", malformed(2)),
            ("<!DOCTYPE a>\n<a/>", XmlError { line: 1, why: XmlFault::DocumentType }),
            ("<a x='1'\nx='2'/>", XmlError { line: 2, why: XmlFault::Twice("x".to_owned()) }),
            (&deep, XmlError { line: 1, why: XmlFault::TooDeep }),
            (&many, XmlError { line: 1, why: XmlFault::TooMany }),
        ] {
            let error = parse(text).unwrap_err();
            let malformed = matches!(&error.why, XmlFault::Malformed(words) if !words.is_empty());
            let why = if malformed { XmlFault::Malformed(String::new()) } else { error.why };
            assert_eq!(XmlError { why, line: error.line }, wanted, "{}", text.get(..40).unwrap_or(text));
        }
    }
}
