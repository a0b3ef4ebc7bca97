//! What nodes say to each other, as bytes. Not how it is sealed (`link.rs`), nor what it means (`node.rs`).
//!
//! ```text
//!  0       4   5   6   7   8                24        32
//!  +-------+---+---+---+---+-----------------+---------+----------------------
//!  | RLCL  | v | s | r | 0 | session         | seq     | sealed: echo, message
//!  +-------+---+---+---+---+-----------------+---------+----------------------
//!   v version   s sender's priority   r receiver's priority   seq big-endian
//! ```
//! Numbers in the sealed part are little-endian. A datagram is at most 1400 bytes, so that no path fragments it.

mod bytemap;
mod heartbeat;
mod state;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use self::state::MAX_RELEASES;
pub use self::state::{Holdings, Owners, Published, Release, State};
use super::operate::{Denied, Intent, Wish};
use crate::config::model::Priority;

/// The version of all this. Nodes of different versions refuse each other.
pub(crate) const VERSION: u8 = 5;

/// Header length: what is authenticated but not encrypted.
pub(crate) const HEADER: usize = 32;

/// How many cluster facts that are not in force a node knows at most.
pub(crate) const MAX_KNOWN: usize = 3;

/// How many bytes of a state one part carries.
pub(crate) const PART: usize = 1200;

/// How many parts a state may have; bounds what a peer can make us keep. The largest state there may be has fewer.
pub(crate) const MAX_PARTS: usize = 255;

pub(crate) const MAGIC: [u8; 4] = *b"RLCL";

/// The clear beginning of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Who sent it, by its own word until the seal is open.
    pub(crate) sender: Priority,
    /// Whom it is for.
    pub(crate) receiver: Priority,
    /// Random, new at each start of the sender's agent.
    pub(crate) session: [u8; 16],
    /// Counts the sender's datagrams of this session, from 1.
    pub(crate) seq: u64,
}

impl Header {
    /// The bytes of the header.
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.sender.number();
        bytes[6] = self.receiver.number();
        bytes[8..24].copy_from_slice(&self.session);
        bytes[24..].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    /// Reads the header of a datagram.
    pub(crate) fn decode(datagram: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(datagram);
        if reader.array::<4>()? != MAGIC {
            return Err(Malformed::NotOurs);
        }
        let version = reader.u8()?;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let (sender, receiver) = (reader.priority()?, reader.priority()?);
        reader.u8()?;
        Ok(Self { sender, receiver, session: reader.array()?, seq: u64::from_be_bytes(reader.array()?) })
    }
}

/// One message from a node to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// I live, and this is how I am.
    Heartbeat(Box<Heartbeat>),
    /// A piece of my state.
    Part(Part),
    /// What an operator at the sender wants of the receiver; repeated until it is answered.
    Wish {
        /// The sender's count, so that each is done once however often it is repeated.
        id: u32,
        /// What.
        wish: Wish,
    },
    /// The answer to a wish.
    Answer {
        /// Of which wish.
        id: u32,
        /// Why it was not done, if it was not.
        denied: Option<Denied>,
    },
    /// The sender does not let the receiver into the cluster.
    Refusal(Refusal),
}

/// Why a node is not let in. The rest goes on serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Another node has the same priority, and was there before.
    PriorityTaken,
    /// The sender serves by facts in which there is no such node.
    NotConfigured,
}

/// A node's word on itself, sent every period and on a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Time to the next one.
    pub period: Duration,
    /// How many periods of silence make the sender suspect.
    pub multiplier: u8,
    /// Grows whenever the sender gave all its holdings up because its lease had lapsed.
    pub incarnation: u32,
    /// Where the sender is between start and stop.
    pub phase: Phase,
    /// What its operator wants of it as a whole.
    pub intent: Intent,
    /// Of the living nodes the one with the lowest rank, and among equals with the lowest priority number, is the default host.
    /// Its priority number, unless the operator set another.
    pub rank: Priority,
    /// How it is, beside what it wants of each table.
    pub health: Health,
    /// What it wants of each owner table.
    pub wants: Vec<Want>,
    /// The MAC address of its cluster NIC, for lease probes.
    pub mac: [u8; 6],
    /// Digest of the cluster facts that must be equal on all nodes.
    pub facts: u64,
    /// The epoch at which the cluster switched to them; 0: they came with an agent's start.
    pub switched: u64,
    /// Digests of the facts that it could switch to, the latest first; at most `MAX_KNOWN`.
    pub known: Vec<u64>,
    /// The first of `known` is prepared: it is not withdrawn.
    pub ready: bool,
    /// Which nodes have to go, because the cluster is about to switch to facts without them: bit n is priority n + 1.
    pub removes: u64,
    /// The owner table that it follows; epoch 0: none yet.
    pub table: TableId,
    /// Version of its state; the parts carry the same.
    pub state_version: u64,
    /// Whose hearing tests arrive at it: bit n is priority n + 1.
    pub hears: u64,
    /// What it has passed.
    pub traffic: Traffic,
    /// What it has of the configuration that the nodes share.
    pub generations: Generations,
    /// What it thinks of the other nodes, in the order of priorities.
    pub peers: Vec<PeerReport>,
}

/// What is new in a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Something of its sender, or of its receiver.
    OfItself,
    /// Only something of third nodes.
    OfOthers,
    /// Nothing that ownership depends on.
    Nothing,
}

/// How a node is, as far as it is not a matter of one owner table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Health {
    /// It does not hear frames for the cluster MAC while others do.
    pub deaf: bool,
    /// The gateway answers it.
    pub gateway: bool,
    /// It has lost the gateway while another node that is ready still has it, and so has stepped down.
    pub cut_off: bool,
    /// It has served for so long that a node that comes now comes back into a running cluster.
    pub settled: bool,
}

/// What a node wants of an owner table: its claim to a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Its share of a `multiple` table against the others', 0..=100.
    pub weight: u8,
    /// The service behind the table's rules works on it, and packets reach it.
    pub ready: bool,
    /// It hands its share over, because its operator or its agent's end wants it.
    pub leaving: bool,
    /// It stands by while others serve: it came back, and its time for a share has not come.
    pub aside: bool,
}

/// What a node's data path has passed for the cluster IPs, since its counters began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Their lengths.
    pub bytes: u64,
    /// TCP connections to the cluster IPs that are open on it now.
    pub connections: u32,
}

/// What a node has of the configuration that the nodes share, by the first 64 bits of the generations' names
/// (`GenerationId::beginning`). Ownership does not depend on it: it tells operators who is behind, and the others whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Generations {
    /// What it works with, or has tried something in place of; 0: its nodes do not share a configuration.
    pub current: u64,
    /// What it tries; 0: nothing.
    pub candidate: u64,
}

/// Where a node is between start and stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Finding out who lives; holds nothing, has no lease.
    Starting,
    /// Has a lease, may hold buckets.
    Serving,
    /// Hands everything over before it stops.
    Stopping,
    /// Gone in good order: no lease, no connections.
    Stopped,
}

/// Which owner table: the default host that computed it, and its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct TableId {
    /// Greater than any that its author had seen.
    pub epoch: u64,
    /// The author's priority number; 0 with epoch 0.
    pub author: u8,
    /// The author's incarnation: one that has begun again may not have seen what it published before.
    pub incarnation: u32,
}

/// What a node says of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// Which one.
    pub node: Priority,
    /// Whether it counts it among the living.
    pub alive: bool,
    /// Whether it has seen it fall and come back so often that it should have no share for now.
    pub flaps: bool,
    /// After how long a silence it would suspect it.
    pub suspect: Duration,
    /// The other's incarnation, as last heard.
    pub incarnation: u32,
    /// The newest version of the other's state that it has whole.
    pub state_version: u64,
    /// The greatest id of the other's releases that it has accepted.
    pub accepted: u32,
}

/// A piece of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The state's version.
    pub version: u64,
    /// Which piece, below `total`.
    pub index: u8,
    /// How many pieces there are, at least 1.
    pub total: u8,
    /// Its bytes, at most `PART`.
    pub bytes: Vec<u8>,
}

/// What is wrong with bytes from the network. Nothing of them was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Too short, or a count that does not fit.
    #[error("truncated")]
    Truncated,
    /// More bytes than the message has.
    #[error("bytes after the end")]
    Trailing,
    /// Another program's.
    #[error("not a Rollcall datagram")]
    NotOurs,
    /// Another version's.
    #[error("protocol version {0}, this node speaks {VERSION}")]
    Version(u8),
    /// A field outside its range.
    #[error("field {0} out of range")]
    Field(&'static str),
}

impl Message {
    /// Appends the bytes of the message.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Heartbeat(heartbeat) => {
                out.push(0);
                heartbeat.encode(out);
            }
            Self::Part(part) => {
                out.push(1);
                out.extend(part.version.to_le_bytes());
                out.extend([part.index, part.total]);
                out.extend(&part.bytes);
            }
            Self::Wish { id, wish } => {
                out.push(2);
                out.extend(id.to_le_bytes());
                wish.encode(out);
            }
            Self::Answer { id, denied } => {
                out.push(3);
                out.extend(id.to_le_bytes());
                Denied::encode(*denied, out);
            }
            Self::Refusal(refusal) => out.extend([4, *refusal as u8]),
        }
    }

    /// Reads a message that fills `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        match reader.u8()? {
            0 => {
                let heartbeat = Heartbeat::decode(&mut reader)?;
                reader.end()?;
                Ok(Self::Heartbeat(Box::new(heartbeat)))
            }
            1 => {
                let part = Part {
                    version: reader.u64()?,
                    index: reader.u8()?,
                    total: reader.u8()?,
                    bytes: reader.0.to_vec(),
                };
                if part.index >= part.total || part.bytes.len() > PART {
                    return Err(Malformed::Field("part"));
                }
                Ok(Self::Part(part))
            }
            2 => {
                let (id, wish) = (reader.u32()?, Wish::decode(&mut reader)?);
                reader.end()?;
                Ok(Self::Wish { id, wish })
            }
            3 => {
                let (id, denied) = (reader.u32()?, Denied::decode(&mut reader)?);
                reader.end()?;
                Ok(Self::Answer { id, denied })
            }
            4 => {
                let refusal = Refusal::decode(reader.u8()?)?;
                reader.end()?;
                Ok(Self::Refusal(refusal))
            }
            _ => Err(Malformed::Field("message kind")),
        }
    }
}

impl Refusal {
    fn decode(byte: u8) -> Result<Self, Malformed> {
        [Self::PriorityTaken, Self::NotConfigured]
            .into_iter()
            .find(|refusal| *refusal as u8 == byte)
            .ok_or(Malformed::Field("refusal"))
    }
}

impl Phase {
    fn decode(byte: u8) -> Result<Self, Malformed> {
        [Self::Starting, Self::Serving, Self::Stopping, Self::Stopped]
            .into_iter()
            .find(|phase| *phase as u8 == byte)
            .ok_or(Malformed::Field("phase"))
    }
}

/// What is left of some bytes from outside.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn priority(&mut self) -> Result<Priority, Malformed> {
        Priority::new(self.u8()?).ok_or(Malformed::Field("priority"))
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

#[cfg(test)]
pub(in crate::cluster) mod tests;
