//! What the agent asks of its child that talks to etcd, and what it is answered, as bytes. Pure. Answers come from who speaks with the
//! network: they are read as hostile, and what is in them is checked as what another node sends.
//!
//! ```text
//! kind u8 | fields, as those of `shared::message`
//! ```

use super::key::MOST_KEYS;
use crate::shared::exchange::Listing;
use crate::shared::generation::GenerationId;
use crate::shared::message::{NoMessage, Reader, Writer};
use crate::shared::record::RecordId;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// What is there? Answered by `Listing`.
    List,
    /// These generations' headers. Answered by `Pieces`, as many as are there.
    Heads(Vec<GenerationId>),
    /// This generation's content, all of it. Answered by `Pieces`: one, or none if it is not there.
    Content(GenerationId),
    /// These records. Answered by `Pieces`, as many as are there.
    Records(Vec<(GenerationId, RecordId)>),
    /// Put this there: first the content, if there is one, then the header. Answered by `Done`.
    Put {
        /// The generation's name.
        id: GenerationId,
        /// Its header.
        head: Vec<u8>,
        /// Its content.
        content: Option<Vec<u8>>,
    },
    /// Put this record there. Answered by `Done`.
    PutRecord {
        /// The generation that it is about.
        about: GenerationId,
        /// Its name.
        id: RecordId,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Delete what is old. Answered by `Done`.
    LetGo {
        /// Generations whose contents are.
        contents: Vec<GenerationId>,
        /// Generations of which all is, records too.
        generations: Vec<GenerationId>,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What is there.
    Listing(Listing),
    /// What was asked for.
    Pieces(Vec<Vec<u8>>),
    /// It is done.
    Done,
}

impl Request {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::List => out.kind(0),
            Self::Heads(ids) => {
                out.kind(1);
                put_names(&mut out, ids);
            }
            Self::Content(id) => {
                out.kind(2);
                put_names(&mut out, &[*id]);
            }
            Self::Records(pairs) => {
                out.kind(3);
                put_pairs(&mut out, pairs.iter().copied());
            }
            Self::Put { id, head, content } => {
                out.kind(4);
                put_names(&mut out, &[*id]);
                out.bytes(head);
                out.list(content.as_slice());
            }
            Self::PutRecord { about, id, bytes } => {
                out.kind(5);
                put_pairs(&mut out, std::iter::once((*about, *id)));
                out.bytes(bytes);
            }
            Self::LetGo { contents, generations } => {
                out.kind(6);
                put_names(&mut out, contents);
                put_names(&mut out, generations);
            }
        }
        out.0
    }

    /// What `bytes` ask; they must be all of it.
    pub fn decode(bytes: &[u8]) -> Result<Self, NoMessage> {
        let mut reader = Reader(bytes);
        let request = match reader.kind()? {
            0 => Self::List,
            1 => Self::Heads(names(&mut reader)?),
            2 => Self::Content(one(&names(&mut reader)?)?),
            3 => Self::Records(pairs(&mut reader)?),
            4 => {
                let (id, head) = (one(&names(&mut reader)?)?, reader.bytes()?.to_vec());
                let mut content = reader.list()?.into_iter();
                let (content, None) = (content.next(), content.next()) else { return Err(NoMessage) };
                Self::Put { id, head, content }
            }
            5 => {
                let (about, id) = one(&pairs(&mut reader)?)?;
                Self::PutRecord { about, id, bytes: reader.bytes()?.to_vec() }
            }
            6 => Self::LetGo { contents: names(&mut reader)?, generations: names(&mut reader)? },
            _ => return Err(NoMessage),
        };
        reader.end(request)
    }
}

impl Reply {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Listing(Listing { generations, records }) => {
                out.kind(0);
                for whole in [true, false] {
                    let those = generations.iter().filter(|(_, is)| **is == whole);
                    out.names(those.map(|(id, _)| id.bytes()));
                }
                put_pairs(&mut out, records.iter().copied().take(MOST_KEYS));
            }
            Self::Pieces(pieces) => {
                out.kind(1);
                out.list(pieces);
            }
            Self::Done => out.kind(2),
        }
        out.0
    }

    /// What `bytes` answer; they must be all of it.
    pub fn decode(bytes: &[u8]) -> Result<Self, NoMessage> {
        let mut reader = Reader(bytes);
        let reply = match reader.kind()? {
            0 => {
                let mut listing = Listing::default();
                for whole in [true, false] {
                    listing.generations.extend(names(&mut reader)?.into_iter().map(|id| (id, whole)));
                }
                listing.records.extend(pairs(&mut reader)?);
                Self::Listing(listing)
            }
            1 => Self::Pieces(reader.list()?),
            2 => Self::Done,
            _ => return Err(NoMessage),
        };
        reader.end(reply)
    }
}

fn put_names(out: &mut Writer, ids: &[GenerationId]) {
    out.names(ids.iter().map(GenerationId::bytes));
}

fn names(reader: &mut Reader<'_>) -> Result<Vec<GenerationId>, NoMessage> {
    Ok(reader.names()?.into_iter().map(GenerationId::from_bytes).collect())
}

fn put_pairs(out: &mut Writer, pairs: impl Iterator<Item = (GenerationId, RecordId)>) {
    let pairs: Vec<[u8; 32]> = pairs.flat_map(|(about, id)| [about.bytes(), id.bytes()]).collect();
    out.bytes(pairs.as_flattened());
}

fn pairs(reader: &mut Reader<'_>) -> Result<Vec<(GenerationId, RecordId)>, NoMessage> {
    let (pairs, []) = reader.bytes()?.as_chunks::<64>() else { return Err(NoMessage) };
    if pairs.len() > MOST_KEYS {
        return Err(NoMessage);
    }
    let pair = |pair: &[u8; 64]| {
        let half = |from: usize| std::array::from_fn(|at| pair[from + at]);
        (GenerationId::from_bytes(half(0)), RecordId::from_bytes(half(32)))
    };
    Ok(pairs.iter().map(pair).collect())
}

fn one<T: Copy>(all: &[T]) -> Result<T, NoMessage> {
    match all {
        [only] => Ok(*only),
        [] | [_, _, ..] => Err(NoMessage),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requests() -> Vec<Request> {
        let (id, record) = (GenerationId::from_bytes([1; 32]), RecordId::from_bytes([2; 32]));
        vec![
            Request::List,
            Request::Heads(vec![id, id]),
            Request::Content(id),
            Request::Records(vec![(id, record)]),
            Request::Put { id, head: vec![1, 2], content: Some(vec![3]) },
            Request::Put { id, head: vec![1, 2], content: None },
            Request::PutRecord { about: id, id: record, bytes: vec![4] },
            Request::LetGo { contents: vec![id], generations: Vec::new() },
        ]
    }

    fn replies() -> Vec<Reply> {
        let id = |number| GenerationId::from_bytes([number; 32]);
        let listing = Listing {
            generations: [(id(1), true), (id(2), false)].into(),
            records: [(id(1), RecordId::from_bytes([9; 32]))].into(),
        };
        vec![Reply::Listing(listing), Reply::Pieces(vec![vec![1], Vec::new()]), Reply::Done]
    }

    #[test]
    fn what_is_said_survives_its_bytes_and_a_part_of_it_is_nothing() {
        for request in requests() {
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Ok(request));
            (0..bytes.len()).for_each(|cut| assert!(Request::decode(&bytes[..cut]).is_err(), "{cut}"));
            assert_eq!(Request::decode(&[&bytes[..], &[0]].concat()), Err(NoMessage));
        }
        for reply in replies() {
            let bytes = reply.encode();
            assert_eq!(Reply::decode(&bytes), Ok(reply));
            (0..bytes.len()).for_each(|cut| assert!(Reply::decode(&bytes[..cut]).is_err(), "{cut}"));
            assert_eq!(Reply::decode(&[&bytes[..], &[0]].concat()), Err(NoMessage));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Request::decode(&bytes), Reply::decode(&bytes));
        }
    }
}
