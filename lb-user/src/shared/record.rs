//! A record: a node's signed word on a generation.
//!
//! ```text
//! rollcall record 1 LF
//! signature, base64 LF    over what follows up to the next LF
//! record, JSON      LF
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::generation::{GenerationId, MAX_COMMENT, Malformed, Roster, digest, line};
use super::keys::{NodeKeys, Signature};
use super::text::hex;

/// What is said of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Every node that could be asked found it sound, and it did well where it was tried: it is to be used.
    InForce,
    /// It is not to be used, now or ever: a node that comes back after a month must not revive it.
    Failed,
}

/// Who says what of which generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Of which.
    pub generation: GenerationId,
    /// What.
    pub word: Word,
    /// The node that says so: one of the generation's roster, or its author.
    pub by: String,
    /// When, by that node's clock, in milliseconds since 1970. For people alone.
    pub time: u64,
    /// Why; at most [`MAX_COMMENT`] characters.
    pub why: String,
}

/// The name of a record: the hash of what was signed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId([u8; 32]);

impl RecordId {
    /// As bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The name that these bytes are.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..6]))
    }
}

/// A record with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRecord {
    record: Record,
    signature: Signature,
    text: String,
}

impl SignedRecord {
    /// Signed with the keys of the node that it is by.
    pub fn new(record: Record, keys: &NodeKeys) -> Self {
        let record = Record { why: presentable(&record.why), ..record };
        let text =
            serde_json::to_string(&record).expect("a record of strings and numbers can be written as JSON");
        Self { signature: keys.sign(&signed(&text)), record, text }
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        format!("{MAGIC}\n{}\n{}\n", self.signature, self.text).into_bytes()
    }

    /// What `bytes` are; they must be all of it and nothing else. Whether anybody signed it is not looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_RECORD {
            return Err(Malformed::TooLong);
        }
        let mut rest = bytes;
        if line(&mut rest, MAX_RECORD)? != MAGIC {
            return Err(Malformed::Magic);
        }
        let signature = line(&mut rest, MAX_RECORD)?.parse().map_err(|_| Malformed::Signature)?;
        let text = line(&mut rest, MAX_RECORD)?;
        let record: Record = serde_json::from_str(text).map_err(|_| Malformed::Header)?;
        if !rest.is_empty() || record.why != presentable(&record.why) {
            return Err(Malformed::Header);
        }
        Ok(Self { record, signature, text: text.to_owned() })
    }

    /// What it says.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Its name.
    pub fn id(&self) -> RecordId {
        RecordId(digest(DOMAIN, self.text.as_bytes()))
    }

    /// Whether a node of one of these rosters says so and signed it.
    pub fn check(&self, rosters: &[&Roster]) -> Result<(), Unbelieved> {
        let by = &self.record.by;
        let mut keys = rosters.iter().filter_map(|roster| roster.get(by)).peekable();
        if keys.peek().is_none() {
            return Err(Unbelieved::Stranger(by.clone()));
        }
        if keys.any(|keys| keys.signing.verifies(&signed(&self.text), &self.signature)) {
            return Ok(());
        }
        Err(Unbelieved::Signature(by.clone()))
    }
}

fn signed(text: &str) -> Vec<u8> {
    [DOMAIN, text.as_bytes()].concat()
}

fn presentable(why: &str) -> String {
    why.chars().filter(|c| !c.is_control()).take(MAX_COMMENT).collect()
}

/// Why a record is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unbelieved {
    /// Whoever says so is no node of the generation.
    #[error("{0} is no node of the generation that it is about")]
    Stranger(String),
    /// It is not signed by that node.
    #[error("its signature is not that of {0}")]
    Signature(String),
}

const MAGIC: &str = "rollcall record 1";

const DOMAIN: &[u8] = b"rollcall record 1\0";

/// Most bytes of a record.
pub const MAX_RECORD: usize = 4096;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::shared::generation::tests::generation;
    use crate::shared::keys::tests::keys;

    /// What arr`by` says of a generation.
    pub(crate) fn record(generation: GenerationId, word: Word, by: u8) -> SignedRecord {
        let record =
            Record { generation, word, by: format!("arr{by}"), time: 1, why: "as tests want".to_owned() };
        SignedRecord::new(record, &keys(by))
    }

    #[test]
    fn a_record_is_believed_of_the_generation_s_nodes_alone_and_no_byte_can_be_changed() {
        let of = generation(None, 1, &[1, 2], "a");
        let roster = &of.head.header().roster;
        let said = record(of.id(), Word::Failed, 2);
        let bytes = said.encode();
        assert_eq!(SignedRecord::decode(&bytes), Ok(said.clone()));
        assert_eq!(said.check(&[roster]), Ok(()));
        assert_eq!(
            record(of.id(), Word::Failed, 3).check(&[roster]),
            Err(Unbelieved::Stranger("arr3".to_owned()))
        );
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let believed = SignedRecord::decode(&changed).ok().filter(|other| other.check(&[roster]).is_ok());
            assert!(believed.is_none(), "byte {at}");
        }
        for cut in 0..bytes.len() {
            assert!(SignedRecord::decode(&bytes[..cut]).is_err(), "{cut} bytes");
        }
        assert!(SignedRecord::decode(&[&bytes[..], b"x"].concat()).is_err());
    }
}
