//! What agents ask each other, as bytes: what the child between them carries without knowing what it is.
//!
//! A question is answered once. Everything is bounded before it is looked at; names and lengths that do not fit are refused.
//!
//! ```text
//! kind u8 | fields: numbers big-endian, byte strings with a length of 4 bytes before them
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::generation::GenerationId;
use super::history::Inventory;
use super::record::RecordId;
use super::token::{Newcomer, Proof};
use crate::proxy::metrics::Tally;

/// What one agent asks another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// What do you have? Answered by `Inventory`.
    Inventory,
    /// Headers and, where they are there, contents of these generations. Answered by `Pieces`, as many as fit.
    Generations(Vec<GenerationId>),
    /// These records. Answered by `Pieces`, as many as fit.
    Records(Vec<RecordId>),
    /// Could you work with this generation, which follows the one in force? Answered by `Sound` or `Refused`.
    Check(Vec<u8>),
    /// The generation that was to be checked does not come. Answered by `Taken`.
    Forget(GenerationId),
    /// There is something new: these generations and records. Answered by `Taken`.
    Take {
        /// Generations.
        generations: Vec<Vec<u8>>,
        /// Records.
        records: Vec<Vec<u8>>,
    },
    /// Work with this generation, which follows the one in force, until so many seconds have gone by without a word of mine, and say how you
    /// do. Answered by `Tried` or `Refused`.
    Try {
        /// The generation.
        generation: Vec<u8>,
        /// How long without a word; then the node works with what is in force again.
        seconds: u32,
    },
    /// What do your clients get? Answered by `Work`, or `Refused` where nothing is published.
    Work,
    /// Let me in. Answered by `Welcome` or `Refused`.
    Join(Box<Application>),
}

/// What a node found out about a generation that it tries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// What is worse than before, in words.
    pub worse: Vec<String>,
    /// What is not well, and was not before, or is new.
    pub remarks: Vec<String>,
    /// How many things were looked at.
    pub asked: u32,
}

/// What a node's clients get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// It has a share of what is published.
    pub answers: bool,
    /// What became of all that clients wanted, since its proxy was started.
    pub tally: Tally,
}

/// Who wants in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Who.
    pub newcomer: Newcomer,
    /// That it has a token.
    pub proof: Proof,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To `Inventory`.
    Inventory(Inventory),
    /// To `Generations` and `Records`.
    Pieces(Vec<Vec<u8>>),
    /// To `Try`: it works with it, and how that goes.
    Tried(Findings),
    /// To `Work`.
    Work(Work),
    /// To `Check`: yes.
    Sound,
    /// To `Take` and `Forget`.
    Taken,
    /// No, and why, for an operator.
    Refused(String),
    /// To `Join`: the generation that lists the newcomer, with the record that puts it in force.
    Welcome {
        /// The generation.
        generation: Vec<u8>,
        /// The record.
        record: Vec<u8>,
    },
}

impl Question {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Inventory => out.kind(0),
            Self::Generations(ids) => {
                out.kind(1);
                out.names(ids.iter().map(GenerationId::bytes));
            }
            Self::Records(ids) => {
                out.kind(2);
                out.names(ids.iter().map(RecordId::bytes));
            }
            Self::Check(generation) => {
                out.kind(3);
                out.bytes(generation);
            }
            Self::Forget(id) => {
                out.kind(6);
                out.names(std::iter::once(id.bytes()));
            }
            Self::Take { generations, records } => {
                out.kind(4);
                out.list(generations);
                out.list(records);
            }
            Self::Try { generation, seconds } => {
                out.kind(7);
                out.number(*seconds);
                out.bytes(generation);
            }
            Self::Work => out.kind(8),
            Self::Join(application) => {
                out.kind(5);
                out.json(application);
            }
        }
        out.0
    }

    /// What `bytes` ask; they must be all of it.
    pub fn decode(bytes: &[u8]) -> Result<Self, NoMessage> {
        let mut reader = Reader(bytes);
        let question = match reader.kind()? {
            0 => Self::Inventory,
            1 => Self::Generations(reader.names()?.into_iter().map(GenerationId::from_bytes).collect()),
            2 => Self::Records(reader.names()?.into_iter().map(RecordId::from_bytes).collect()),
            3 => Self::Check(reader.bytes()?.to_owned()),
            4 => Self::Take { generations: reader.list()?, records: reader.list()? },
            5 => Self::Join(reader.json()?),
            6 => match *reader.names()?.as_slice() {
                [name] => Self::Forget(GenerationId::from_bytes(name)),
                [] | [_, _, ..] => return Err(NoMessage),
            },
            7 => Self::Try { seconds: reader.number()?, generation: reader.bytes()?.to_owned() },
            8 => Self::Work,
            _ => return Err(NoMessage),
        };
        reader.end(question)
    }
}

impl Reply {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Inventory(Inventory { generations, records }) => {
                out.kind(0);
                let whole = generations.iter().filter(|(_, whole)| **whole).map(|(id, _)| id.bytes());
                out.names(whole);
                out.names(generations.iter().filter(|(_, whole)| !**whole).map(|(id, _)| id.bytes()));
                out.names(records.iter().map(RecordId::bytes));
            }
            Self::Pieces(pieces) => {
                out.kind(1);
                out.list(pieces);
            }
            Self::Tried(findings) => {
                out.kind(6);
                out.json(findings);
            }
            Self::Work(work) => {
                out.kind(7);
                out.json(work);
            }
            Self::Sound => out.kind(2),
            Self::Taken => out.kind(3),
            Self::Refused(why) => {
                out.kind(4);
                out.bytes(why.as_bytes());
            }
            Self::Welcome { generation, record } => {
                out.kind(5);
                out.bytes(generation);
                out.bytes(record);
            }
        }
        out.0
    }

    /// What `bytes` answer; they must be all of it.
    pub fn decode(bytes: &[u8]) -> Result<Self, NoMessage> {
        let mut reader = Reader(bytes);
        let reply = match reader.kind()? {
            0 => Self::Inventory(reader.inventory()?),
            1 => Self::Pieces(reader.list()?),
            2 => Self::Sound,
            3 => Self::Taken,
            4 => Self::Refused(printable(reader.bytes()?)),
            5 => Self::Welcome { generation: reader.bytes()?.to_owned(), record: reader.bytes()?.to_owned() },
            6 => Self::Tried(reader.json::<Findings>()?.printable()),
            7 => Self::Work(reader.json()?),
            _ => return Err(NoMessage),
        };
        reader.end(reply)
    }
}

impl Findings {
    fn printable(self) -> Self {
        let each = |told: Vec<String>| {
            told.iter().take(MOST_FINDINGS).map(|told| printable(told.as_bytes())).collect()
        };
        Self { worse: each(self.worse), remarks: each(self.remarks), asked: self.asked }
    }
}

/// Most findings of another node's that are looked at.
const MOST_FINDINGS: usize = 32;

/// Another node's words, which must not steer an operator's terminal, nor fill it.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

/// Fields, one behind the other.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn kind(&mut self, kind: u8) {
        self.0.push(kind);
    }

    fn number(&mut self, number: u32) {
        self.0.extend(number.to_be_bytes());
    }

    fn json(&mut self, value: &impl Serialize) {
        // What has only texts and whole numbers in it is always written.
        self.bytes(&serde_json::to_vec(value).unwrap_or_default());
    }

    fn length(&mut self, length: usize) {
        // Nothing longer than a message of 17 MiB is ever written.
        self.number(u32::try_from(length).unwrap_or(u32::MAX));
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn names(&mut self, names: impl Iterator<Item = [u8; 32]>) {
        let names: Vec<[u8; 32]> = names.take(MOST_NAMES).collect();
        self.bytes(names.as_flattened());
    }

    pub(crate) fn list(&mut self, list: &[Vec<u8>]) {
        self.length(list.len());
        list.iter().for_each(|item| self.bytes(item));
    }
}

/// The same, read.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn kind(&mut self) -> Result<u8, NoMessage> {
        let (kind, rest) = self.0.split_first().ok_or(NoMessage)?;
        self.0 = rest;
        Ok(*kind)
    }

    fn number(&mut self) -> Result<u32, NoMessage> {
        let (number, rest) = self.0.split_first_chunk().ok_or(NoMessage)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    fn json<T: DeserializeOwned>(&mut self) -> Result<T, NoMessage> {
        serde_json::from_slice(self.bytes()?).map_err(|_| NoMessage)
    }

    fn length(&mut self) -> Result<usize, NoMessage> {
        usize::try_from(self.number()?).map_err(|_| NoMessage)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], NoMessage> {
        let length = self.length()?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(NoMessage)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn names(&mut self) -> Result<Vec<[u8; 32]>, NoMessage> {
        let (names, []) = self.bytes()?.as_chunks::<32>() else {
            return Err(NoMessage);
        };
        if names.len() > MOST_NAMES { Err(NoMessage) } else { Ok(names.to_vec()) }
    }

    pub(crate) fn list(&mut self) -> Result<Vec<Vec<u8>>, NoMessage> {
        let length = self.length()?;
        // Each costs four bytes at least: what is not there is not made room for.
        if length > MOST_NAMES || length.saturating_mul(4) > self.0.len() {
            return Err(NoMessage);
        }
        (0..length).map(|_| self.bytes().map(<[u8]>::to_vec)).collect()
    }

    fn inventory(&mut self) -> Result<Inventory, NoMessage> {
        let mut generations = BTreeMap::new();
        for whole in [true, false] {
            generations.extend(self.names()?.into_iter().map(|name| (GenerationId::from_bytes(name), whole)));
        }
        let records: BTreeSet<RecordId> = self.names()?.into_iter().map(RecordId::from_bytes).collect();
        Ok(Inventory { generations, records })
    }

    pub(crate) fn end<T>(&self, read: T) -> Result<T, NoMessage> {
        if self.0.is_empty() { Ok(read) } else { Err(NoMessage) }
    }
}

/// Bytes are no message of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it is no message of this version; hint: do all nodes run the same version of rollcall?")]
pub struct NoMessage;

/// Most names, or pieces, in a message.
pub const MOST_NAMES: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shared::generation::tests::generation;
    use crate::shared::keys::tests::keys;
    use crate::shared::keys::{Seed, Signature};
    use crate::shared::record::Word;
    use crate::shared::record::tests::record;
    use crate::shared::token::ClusterId;

    fn questions() -> Vec<Question> {
        let of = generation(None, 1, &[1], "a");
        let newcomer = Newcomer {
            name: "arr2".to_owned(),
            address: "192.168.50.7".parse().unwrap(),
            priority: Some(2),
            keys: keys(2).public(),
        };
        let secret = crate::config::secret::ClusterSecret::parse(&"07".repeat(32)).unwrap();
        let cluster = ClusterId::of(&secret);
        let proof = Proof { cluster, key: Seed([1; 32]).public(), signature: Signature([2; 64]) };
        vec![
            Question::Inventory,
            Question::Generations(vec![of.id(); 3]),
            Question::Records(vec![record(of.id(), Word::Failed, 1).id()]),
            Question::Check(of.encode()),
            Question::Forget(of.id()),
            Question::Take { generations: vec![of.encode(), Vec::new()], records: Vec::new() },
            Question::Try { generation: of.encode(), seconds: 85 },
            Question::Work,
            Question::Join(Box::new(Application { newcomer, proof })),
        ]
    }

    fn replies() -> Vec<Reply> {
        let of = generation(None, 1, &[1], "a");
        let said = record(of.id(), Word::InForce, 1);
        let inventory = Inventory { generations: [(of.id(), true)].into(), records: [said.id()].into() };
        vec![
            Reply::Inventory(inventory),
            Reply::Pieces(vec![vec![1], vec![]]),
            Reply::Tried(Findings { worse: vec!["a".to_owned()], remarks: Vec::new(), asked: 3 }),
            Reply::Work(Work { answers: true, tally: Tally { ended: 3, ..Tally::default() } }),
            Reply::Sound,
            Reply::Taken,
            Reply::Refused("no".to_owned()),
            Reply::Welcome { generation: of.encode(), record: said.encode() },
        ]
    }

    #[test]
    fn a_message_survives_its_bytes_and_a_part_of_it_is_none() {
        for question in questions() {
            let bytes = question.encode();
            assert_eq!(Question::decode(&bytes), Ok(question));
            (0..bytes.len()).for_each(|cut| assert!(Question::decode(&bytes[..cut]).is_err(), "{cut}"));
            assert_eq!(Question::decode(&[&bytes[..], &[0]].concat()), Err(NoMessage));
        }
        for reply in replies() {
            let bytes = reply.encode();
            assert_eq!(Reply::decode(&bytes), Ok(reply));
            (0..bytes.len()).for_each(|cut| assert!(Reply::decode(&bytes[..cut]).is_err(), "{cut}"));
        }
    }

    #[test]
    fn another_node_s_words_steer_no_terminal() {
        let reply = Reply::Refused("a\x1b[2J\nb".to_owned());
        assert_eq!(Reply::decode(&reply.encode()), Ok(Reply::Refused("a[2J\nb".to_owned())));
        let found = Findings { worse: vec!["\x1b[2J".to_owned(); 100], remarks: Vec::new(), asked: 1 };
        let Ok(Reply::Tried(read)) = Reply::decode(&Reply::Tried(found).encode()) else { panic!() };
        assert_eq!(read.worse, vec!["[2J".to_owned(); MOST_FINDINGS]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Question::decode(&bytes), Reply::decode(&bytes));
        }
    }
}
