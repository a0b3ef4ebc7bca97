//! What became of every element, attribute and text of a file. Pure. It begins with all of them, so nothing can be forgotten: what no
//! reader says a word about is refused as unknown.

use super::xml::{Attribute, Element};

/// What became of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// It means the same here.
    Mapped {
        /// What it is called here.
        to: String,
    },
    /// It is carried over, but not to the letter, or works otherwise here.
    Warned {
        /// What to know.
        why: String,
    },
    /// It is not carried over, and was there for something.
    Refused {
        /// Why, and what to do.
        why: String,
    },
    /// It is not carried over, and nothing is missing for it: a default, a part of IIS itself.
    Unneeded {
        /// Why.
        why: String,
    },
}

impl Became {
    /// See `Mapped`.
    pub fn mapped(to: impl Into<String>) -> Self {
        Self::Mapped { to: to.into() }
    }

    /// See `Warned`.
    pub fn warned(why: impl Into<String>) -> Self {
        Self::Warned { why: why.into() }
    }

    /// See `Refused`.
    pub fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }

    /// See `Unneeded`.
    pub fn unneeded(why: impl Into<String>) -> Self {
        Self::Unneeded { why: why.into() }
    }

    /// As the report names it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Mapped { .. } => "mapped",
            Self::Warned { .. } => "warned",
            Self::Refused { .. } => "refused",
            Self::Unneeded { .. } => "unneeded",
        }
    }

    /// Where it went, or why it did not.
    pub fn words(&self) -> &str {
        match self {
            Self::Mapped { to } => to,
            Self::Warned { why } | Self::Refused { why } | Self::Unneeded { why } => why,
        }
    }
}

/// All settings of a file.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    parent: Option<usize>,
    /// The last part of its path.
    segment: String,
    line: usize,
    became: Option<Became>,
    /// What stands there is not looked at, whatever a reader says.
    sealed: bool,
}

/// What became of one setting, for the report. No value is in it: some are secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line in the file, from 1; 0: of the file as a whole.
    pub line: usize,
    /// The elements around it and it, such as `webFarms/webFarm[owa]/server[10.0.0.36]@enabled`.
    pub path: String,
    /// What became of it.
    pub became: Became,
}

impl Ledger {
    /// Of all that is in `root`. Encrypted values are refused for good.
    pub fn of(root: &Element) -> Self {
        let mut ledger = Self::default();
        ledger.add(root, None);
        ledger
    }

    /// Says what became of a node; the last word counts.
    pub fn settle(&mut self, id: usize, became: Became) {
        if let Some(node) = self.nodes.get_mut(id).filter(|node| !node.sealed) {
            node.became = Some(became);
        }
    }

    /// The same of all in `element`, and itself.
    pub fn settle_all(&mut self, element: &Element, became: &Became) {
        self.settle(element.id, became.clone());
        element.attributes.iter().for_each(|attribute| self.settle(attribute.id, became.clone()));
        element.texts.iter().for_each(|(id, _)| self.settle(*id, became.clone()));
        element.children.iter().for_each(|child| self.settle_all(child, became));
    }

    /// Says something of all in `element` of which nothing was said yet.
    pub fn settle_rest(&mut self, element: &Element, became: &Became) {
        let own = element.attributes.iter().map(|attribute| attribute.id).chain([element.id]);
        for id in own.chain(element.texts.iter().map(|(id, _)| *id)) {
            if self.nodes.get(id).is_some_and(|node| node.became.is_none()) {
                self.settle(id, became.clone());
            }
        }
        element.children.iter().for_each(|child| self.settle_rest(child, became));
    }

    /// Whether it is a value that cannot be read.
    pub fn is_sealed(&self, id: usize) -> bool {
        self.nodes.get(id).is_some_and(|node| node.sealed)
    }

    /// The line of a node.
    pub fn line(&self, id: usize) -> usize {
        self.nodes.get(id).map_or(0, |node| node.line)
    }

    /// What became of each, in their order.
    pub fn findings(&self) -> Vec<Finding> {
        let unknown = || Became::refused(UNKNOWN);
        let finding = |(id, node): (usize, &Node)| Finding {
            line: node.line,
            path: self.path(id),
            became: node.became.clone().unwrap_or_else(unknown),
        };
        self.nodes.iter().enumerate().map(finding).collect()
    }

    fn add(&mut self, element: &Element, parent: Option<usize>) {
        debug_assert_eq!(element.id, self.nodes.len(), "nodes are numbered in their order");
        self.push(parent, segment(element), element.line, None);
        let mut inner: Vec<Inner<'_>> = element.attributes.iter().map(Inner::Attribute).collect();
        inner.extend(element.texts.iter().map(|(id, line)| Inner::Text(*id, *line)));
        inner.extend(element.children.iter().map(Inner::Element));
        inner.sort_by_key(Inner::id);
        for inner in inner {
            match inner {
                Inner::Element(child) => self.add(child, Some(element.id)),
                Inner::Text(_, line) => self.push(Some(element.id), "/text()".to_owned(), line, None),
                Inner::Attribute(attribute) => {
                    let segment = format!("@{}", label(&attribute.name));
                    let sealed = is_encrypted(&attribute.value).then(|| Became::refused(ENCRYPTED));
                    self.push(Some(element.id), segment, attribute.line, sealed);
                }
            }
        }
    }

    fn push(&mut self, parent: Option<usize>, segment: String, line: usize, became: Option<Became>) {
        let sealed = became.is_some();
        self.nodes.push(Node { parent, segment, line, became, sealed });
    }

    fn path(&self, id: usize) -> String {
        let mut segments = Vec::new();
        let mut at = Some(id);
        while let Some(node) = at.and_then(|at| self.nodes.get(at)) {
            // `configuration` is around everything.
            if node.parent.is_some() || segments.is_empty() {
                segments.push(node.segment.as_str());
            }
            at = node.parent;
        }
        let path: String = segments.into_iter().rev().collect();
        path.strip_prefix('/').map_or(path.clone(), str::to_owned)
    }
}

enum Inner<'a> {
    Element(&'a Element),
    Attribute(&'a Attribute),
    Text(usize, usize),
}

impl Inner<'_> {
    fn id(&self) -> usize {
        match self {
            Self::Element(element) => element.id,
            Self::Attribute(attribute) => attribute.id,
            Self::Text(id, _) => *id,
        }
    }
}

/// `/webFarm[owa]`: the name, and what tells it from its like.
fn segment(element: &Element) -> String {
    let own = NAMING.into_iter().find_map(|name| element.attribute(name));
    let name = label(&element.name);
    match own.filter(|own| !own.value.is_empty() && !is_encrypted(&own.value)) {
        Some(own) => format!("/{name}[{}]", label(&own.value)),
        None => format!("/{name}"),
    }
}

fn label(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_LABEL).collect()
}

/// Whether a value is encrypted with keys of a Windows machine: `[enc:PROVIDER:..:enc]`.
pub fn is_encrypted(value: &str) -> bool {
    value.trim_start().to_ascii_lowercase().starts_with("[enc:")
}

/// Attributes that tell an element from its like, none of which is ever secret.
const NAMING: [&str; 5] = ["name", "path", "address", "bindingInformation", "input"];

const LONGEST_LABEL: usize = 60;

const UNKNOWN: &str = "not known to this import; see what it did in IIS, and whether it is needed";

/// Keys stay in key containers of the Windows machine; configEncKey.key is under a password.
const ENCRYPTED: &str = "encrypted with keys of the Windows machine, and not read; write the value into the new configuration again";

#[cfg(test)]
mod tests {
    use super::super::xml::parse;
    use super::*;

    #[test]
    fn each_node_is_there_once_with_its_path_and_what_was_said_last() {
        let text = "<configuration>\n<webFarms x='1'>\n<webFarm name='owa' adminPassword='[enc:Aes:secret:enc]'/>w</webFarms>\n</configuration>";
        let root = parse(text).unwrap();
        let mut ledger = Ledger::of(&root);
        ledger.settle(1, Became::mapped("farms"));
        ledger.settle(5, Became::mapped("nothing"));
        ledger.settle_all(&root, &Became::unneeded("u"));
        ledger.settle(4, Became::warned("w"));
        let said: Vec<String> = ledger
            .findings()
            .iter()
            .map(|Finding { line, path, became }| format!("{line} {path} {}", became.as_str()))
            .collect();
        let wanted = [
            "1 configuration unneeded",
            "2 webFarms unneeded",
            "2 webFarms@x unneeded",
            "3 webFarms/webFarm[owa] unneeded",
            "3 webFarms/webFarm[owa]@name warned",
            "3 webFarms/webFarm[owa]@adminPassword refused",
            "3 webFarms/text() unneeded",
        ];
        assert_eq!(said, wanted);
        assert!(!format!("{:?}", ledger.findings()).contains("secret"));
    }

    #[test]
    fn what_nobody_spoke_of_is_refused() {
        let root = parse("<a><b/></a>").unwrap();
        let mut ledger = Ledger::of(&root);
        ledger.settle_rest(&root.children[0], &Became::warned("w"));
        let found: Vec<_> = ledger.findings().iter().map(|finding| finding.became.as_str()).collect();
        assert_eq!(found, ["refused", "warned"]);
    }
}
