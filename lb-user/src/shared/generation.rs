//! A generation: one whole configuration with its place in history, signed by the node that made it.
//!
//! ```text
//! rollcall generation 1 LF
//! signature, base64     LF    over what follows up to the next LF
//! header, JSON          LF    parent, height, author, time, comment, roster, digest of the content
//! length of the text    LF    decimal
//! text                        the configuration, as its author wrote it
//! sealed                      to the end: what only the nodes of the roster can read
//! ```
//! The name of a generation is the hash of its header, which holds the digest of its content: whoever has the name can tell whether
//! bytes are it. A header can be kept without its content, so that the chain of signatures outlives old configurations.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::keys::{NodeKeys, PublicKeys, Signature};
use super::text::{hex, unhex};

/// The name of a generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GenerationId([u8; 32]);

impl GenerationId {
    /// As bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The name that these bytes are.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its first 16 digits as a number, for heartbeats.
    pub fn beginning(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Its first 12 digits, for people.
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for GenerationId {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, NoId> {
        unhex(text).map(Self).ok_or(NoId)
    }
}

impl TryFrom<String> for GenerationId {
    type Error = NoId;

    fn try_from(text: String) -> Result<Self, NoId> {
        text.parse()
    }
}

impl From<GenerationId> for String {
    fn from(id: GenerationId) -> Self {
        id.to_string()
    }
}

/// A text is no name of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it is no generation's name: 64 hexadecimal digits")]
pub struct NoId;

/// The nodes of a cluster, by name, with their keys.
pub type Roster = BTreeMap<String, PublicKeys>;

/// What a generation says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The generation that it changes; `None`: it is a cluster's first.
    pub parent: Option<GenerationId>,
    /// How many generations it is from the first, which has 1.
    pub height: u64,
    /// The node that made it.
    pub author: String,
    /// When, by that node's clock, in milliseconds since 1970. For people alone: nothing is decided by it.
    pub time: u64,
    /// What its author wrote about it; at most [`MAX_COMMENT`] characters.
    pub comment: String,
    /// The generation whose content it has again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<GenerationId>,
    /// The nodes from it on: its content is sealed to them, and they may make the next.
    pub roster: Roster,
    /// Digest of its content.
    content: ContentDigest,
}

/// A header with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeader {
    id: GenerationId,
    header: Header,
    signature: Signature,
    /// What was signed.
    text: String,
}

/// What a generation holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// The configuration, as its author wrote it.
    pub text: String,
    /// What only the listed nodes can read (`sealed`).
    pub sealed: Vec<u8>,
}

/// A whole generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its signed header.
    pub head: SignedHeader,
    /// Its content, which has the header's digest.
    pub content: Content,
}

/// What its author says of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    /// The node that makes it.
    pub author: String,
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// Why; what is too long or not printable is left out.
    pub comment: String,
    /// The generation whose content it has again.
    pub restores: Option<GenerationId>,
    /// The nodes from it on.
    pub roster: Roster,
}

impl Generation {
    /// The one that follows `parent`, signed with its author's keys.
    pub fn new(parent: Option<&SignedHeader>, saying: Saying, content: Content, keys: &NodeKeys) -> Self {
        let header = Header {
            parent: parent.map(|parent| parent.id),
            height: parent.map_or(1, |parent| parent.header.height.saturating_add(1)),
            author: saying.author,
            time: saying.time,
            comment: presentable(&saying.comment),
            restores: saying.restores,
            roster: saying.roster,
            content: content.digest(),
        };
        let text =
            serde_json::to_string(&header).expect("a header of strings and numbers can be written as JSON");
        let signature = keys.sign(&signed(&text));
        Self { head: SignedHeader { id: id_of(&text), header, signature, text }, content }
    }

    /// Its name.
    pub fn id(&self) -> GenerationId {
        self.head.id
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.head.encode();
        bytes.extend_from_slice(&self.content.encode());
        bytes
    }

    /// What `bytes` are; they must be all of it and nothing else. That its header has its content's digest is looked at, whether
    /// anybody signed it is not.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match decode(bytes)? {
            (head, Some(content)) => Ok(Self { head, content }),
            (_, None) => Err(Malformed::NoContent),
        }
    }
}

/// A header and, unless that was left out, its content.
pub fn decode(bytes: &[u8]) -> Result<(SignedHeader, Option<Content>), Malformed> {
    if bytes.len() > MAX_BYTES {
        return Err(Malformed::TooLong);
    }
    let mut rest = bytes;
    if line(&mut rest, MAGIC.len())? != MAGIC {
        return Err(Malformed::Magic);
    }
    let signature = line(&mut rest, MAX_LINE)?.parse().map_err(|_| Malformed::Signature)?;
    let head = SignedHeader::parse(line(&mut rest, MAX_HEADER)?, signature)?;
    if rest.is_empty() {
        return Ok((head, None));
    }
    let content = Content::decode(rest)?;
    if content.digest() != head.header.content {
        return Err(Malformed::Digest);
    }
    Ok((head, Some(content)))
}

impl SignedHeader {
    fn parse(text: &str, signature: Signature) -> Result<Self, Malformed> {
        let header: Header = serde_json::from_str(text).map_err(|_| Malformed::Header)?;
        let name_fits = |name: &String| (1..=MAX_NAME).contains(&name.len());
        let sound = header.roster.len() <= MAX_NODES
            && header.roster.keys().all(name_fits)
            && name_fits(&header.author)
            && header.comment == presentable(&header.comment)
            && header.height >= 1
            && (header.height == 1) == header.parent.is_none();
        if !sound {
            return Err(Malformed::Header);
        }
        Ok(Self { id: id_of(text), header, signature, text: text.to_owned() })
    }

    /// The generation's name.
    pub fn id(&self) -> GenerationId {
        self.id
    }

    /// What it says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// As bytes, without content.
    pub fn encode(&self) -> Vec<u8> {
        format!("{MAGIC}\n{}\n{}\n", self.signature, self.text).into_bytes()
    }

    /// Whether its author was a node of its parent's roster, or of its own where it is a first one, and signed it.
    pub fn check(&self, parent: Option<&Self>) -> Result<(), Untrusted> {
        let of = parent.unwrap_or(self);
        let (ours, theirs) = (&self.header, &of.header);
        if ours.parent != parent.map(|parent| parent.id) {
            return Err(Untrusted::Parent);
        }
        if parent.is_some() && Some(ours.height) != theirs.height.checked_add(1) {
            return Err(Untrusted::Height);
        }
        let keys = theirs.roster.get(&ours.author).ok_or_else(|| Untrusted::Author(ours.author.clone()))?;
        if !keys.signing.verifies(&signed(&self.text), &self.signature) {
            return Err(Untrusted::Signature(ours.author.clone()));
        }
        Ok(())
    }
}

impl Content {
    /// As bytes: what follows the header.
    pub fn encode(&self) -> Vec<u8> {
        [format!("{}\n", self.text.len()).as_bytes(), self.text.as_bytes(), &self.sealed].concat()
    }

    fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let length = line(&mut bytes, MAX_LINE)?;
        // One spelling only, or two files could be one generation.
        let length: usize =
            length.parse().ok().filter(|n: &usize| n.to_string() == length).ok_or(Malformed::Length)?;
        let (text, sealed) = bytes.split_at_checked(length).ok_or(Malformed::Length)?;
        let text = std::str::from_utf8(text).map_err(|_| Malformed::Text)?;
        Ok(Self { text: text.to_owned(), sealed: sealed.to_owned() })
    }

    fn digest(&self) -> ContentDigest {
        ContentDigest(digest(b"rollcall content 1\0", &self.encode()))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes of text, {} sealed)", self.text.len(), self.sealed.len())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct ContentDigest([u8; 32]);

impl TryFrom<String> for ContentDigest {
    type Error = NoId;

    fn try_from(text: String) -> Result<Self, NoId> {
        unhex(&text).map(Self).ok_or(NoId)
    }
}

impl From<ContentDigest> for String {
    fn from(digest: ContentDigest) -> Self {
        hex(&digest.0)
    }
}

/// What a header's signature is over: nothing else that a node signs begins so.
fn signed(text: &str) -> Vec<u8> {
    [DOMAIN, text.as_bytes()].concat()
}

fn id_of(text: &str) -> GenerationId {
    GenerationId(digest(DOMAIN, text.as_bytes()))
}

pub(super) fn digest(domain: &[u8], bytes: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(domain);
    context.update(bytes);
    let digest = context.finish();
    std::array::from_fn(|index| digest.as_ref()[index])
}

/// Takes the line off that `bytes` begin with; its end must come within `limit` bytes.
pub(super) fn line<'a>(bytes: &mut &'a [u8], limit: usize) -> Result<&'a str, Malformed> {
    let within = &bytes[..bytes.len().min(limit.saturating_add(1))];
    let end = within.iter().position(|byte| *byte == b'\n').ok_or(Malformed::Line)?;
    let (line, rest) = bytes.split_at(end);
    *bytes = &rest[1..];
    std::str::from_utf8(line).map_err(|_| Malformed::Line)
}

/// A comment as it is kept: one line that steers no terminal.
fn presentable(comment: &str) -> String {
    comment.chars().filter(|c| !c.is_control()).take(MAX_COMMENT).collect()
}

/// Why bytes are no generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// More bytes than a generation may have.
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// It begins otherwise.
    #[error("it is not of this format, or of another version of it")]
    Magic,
    /// A line is missing, too long, or no text.
    #[error("a line is missing or too long")]
    Line,
    /// No signature where one should be.
    #[error("its signature is malformed")]
    Signature,
    /// The header is no header.
    #[error("its header is malformed")]
    Header,
    /// The content's length is no number, or larger than what there is.
    #[error("its text is cut off")]
    Length,
    /// The configuration is not UTF-8.
    #[error("its text is not UTF-8")]
    Text,
    /// The content is another one's.
    #[error("its content does not have the digest that its header names")]
    Digest,
    /// There is only a header.
    #[error("its content is missing")]
    NoContent,
}

/// Why a header is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Untrusted {
    /// It follows another than it is checked against.
    #[error("it has another parent")]
    Parent,
    /// Its height is not its parent's and one.
    #[error("its height is not one more than its parent's")]
    Height,
    /// Its author was no node of the cluster.
    #[error("its author {0} is no node of the generation that it follows")]
    Author(String),
    /// It is not signed by its author.
    #[error("its signature is not that of {0}")]
    Signature(String),
}

const MAGIC: &str = "rollcall generation 1";

const DOMAIN: &[u8] = b"rollcall generation 1\0";

/// Most bytes of a generation: a text of 1 MiB, 500 certificates with their keys, and as much again.
pub const MAX_BYTES: usize = 16 << 20;

/// Most bytes of a header: 64 nodes with the longest names.
const MAX_HEADER: usize = 64 << 10;

/// Most bytes of the other lines.
const MAX_LINE: usize = 128;

/// Most nodes of a cluster.
const MAX_NODES: usize = 64;

/// Most bytes of a node's name.
const MAX_NAME: usize = 63;

/// Most characters of a comment.
pub const MAX_COMMENT: usize = 200;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shared::keys::tests::keys;

    pub(crate) fn content(text: &str) -> Content {
        Content { text: text.to_owned(), sealed: vec![0, 10, 255] }
    }

    /// What arr`author` makes of `parent`, for these nodes.
    pub(crate) fn generation(
        parent: Option<&SignedHeader>,
        author: u8,
        nodes: &[u8],
        text: &str,
    ) -> Generation {
        let saying = Saying {
            author: format!("arr{author}"),
            time: 1,
            comment: format!("made\nby {author}"),
            restores: None,
            roster: nodes.iter().map(|node| (format!("arr{node}"), keys(*node).public())).collect(),
        };
        Generation::new(parent, saying, content(text), &keys(author))
    }

    #[test]
    fn a_generation_is_what_its_bytes_say_and_no_byte_can_be_changed() {
        let first = generation(None, 1, &[1, 2], "mode = \"igmp\"\n");
        let bytes = first.encode();
        assert_eq!(Generation::decode(&bytes), Ok(first.clone()));
        assert_eq!(decode(&first.head.encode()), Ok((first.head.clone(), None)));
        assert_eq!(Generation::decode(&first.head.encode()), Err(Malformed::NoContent));
        assert_eq!(first.head.header().comment, "madeby 1");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let believed = Generation::decode(&changed).ok().filter(|other| other.head.check(None).is_ok());
            assert!(believed.is_none(), "byte {at}: {:?}", String::from_utf8_lossy(&changed));
        }
        for cut in 0..bytes.len() {
            let cut = &bytes[..cut];
            assert!(Generation::decode(cut).is_err(), "{} bytes", cut.len());
        }
    }

    #[test]
    fn only_a_node_of_the_parent_may_follow_it() {
        let first = generation(None, 1, &[1, 2], "a");
        assert_eq!(first.head.check(None), Ok(()));
        let head = Some(&first.head);
        let check = |next: &Generation| next.head.check(head);
        assert_eq!(check(&generation(head, 2, &[1, 2], "b")), Ok(()));
        let stranger = generation(head, 3, &[1, 2, 3], "b");
        assert_eq!(check(&stranger), Err(Untrusted::Author("arr3".to_owned())));
        let other = generation(None, 1, &[1, 2], "b");
        assert_eq!(check(&generation(Some(&other.head), 1, &[1, 2], "c")), Err(Untrusted::Parent));
        // As arr1, but with the key of arr2.
        let mut forged = generation(head, 2, &[1, 2], "b");
        let text = forged.head.text.replace("\"author\":\"arr2\"", "\"author\":\"arr1\"");
        forged.head = SignedHeader::parse(&text, forged.head.signature).unwrap();
        assert_eq!(check(&forged), Err(Untrusted::Signature("arr1".to_owned())));
        let nobody = generation(None, 3, &[1, 2], "a");
        assert_eq!(nobody.head.check(None), Err(Untrusted::Author("arr3".to_owned())));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), begins in any::<bool>()) {
            if begins {
                bytes.splice(0..0, format!("{MAGIC}\n{}\n", Signature([0; 64])).into_bytes());
            }
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
