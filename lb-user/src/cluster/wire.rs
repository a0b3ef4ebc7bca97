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
mod state;

use std::time::Duration;

use thiserror::Error;

pub(crate) use self::state::MAX_RELEASES;
pub use self::state::{Holdings, Owners, Published, Release, State};
use crate::config::model::Priority;

/// The version of all this. Nodes of different versions refuse each other.
pub(crate) const VERSION: u8 = 2;

/// Header length: what is authenticated but not encrypted.
pub(crate) const HEADER: usize = 32;

/// How many bytes of a state one part carries.
pub(crate) const PART: usize = 1200;

/// How many parts a state may have; bounds what a peer can make us keep. The largest state there may be has fewer.
pub(crate) const MAX_PARTS: usize = 255;

const MAGIC: [u8; 4] = *b"RLCL";

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// I live, and this is how I am.
    Heartbeat(Box<Heartbeat>),
    /// A piece of my state.
    Part(Part),
    /// An operator at another node wants the receiver to drain, or to resume.
    Drain(bool),
}

/// A node's word on itself, sent every period and on a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Time to the next one.
    pub period: Duration,
    /// How many periods of silence make the sender suspect.
    pub multiplier: u8,
    /// Grows whenever the sender gave all its holdings up because its lease had lapsed.
    pub incarnation: u32,
    /// Where the sender is between start and stop.
    pub phase: Phase,
    /// Its operator wants it to own nothing.
    pub draining: bool,
    /// Its service works, and it hears frames for the cluster MAC.
    pub ready: bool,
    /// It does not hear frames for the cluster MAC while others do.
    pub deaf: bool,
    /// Its share of `multiple` tables against the others'.
    pub weight: u8,
    /// The MAC address of its cluster NIC, for lease probes.
    pub mac: [u8; 6],
    /// Digest of the cluster facts that must be equal on all nodes.
    pub facts: u64,
    /// The owner table that it follows; epoch 0: none yet.
    pub table: TableId,
    /// Version of its state; the parts carry the same.
    pub state_version: u64,
    /// Whose hearing tests arrive at it: bit n is priority n + 1.
    pub hears: u64,
    /// What it has passed.
    pub traffic: Traffic,
    /// What it thinks of the other nodes.
    pub peers: Vec<PeerReport>,
}

/// What a node's data path has passed for the cluster IPs, since its counters began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Their lengths.
    pub bytes: u64,
}

/// Where a node is between start and stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TableId {
    /// Greater than any that its author had seen.
    pub epoch: u64,
    /// The author's priority number; 0 with epoch 0.
    pub author: u8,
}

/// What a node says of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerReport {
    /// Which one.
    pub node: Priority,
    /// Whether it counts it among the living.
    pub alive: bool,
    /// The other's incarnation, as last heard.
    pub incarnation: u32,
    /// The newest version of the other's state that it has whole.
    pub state_version: u64,
    /// The greatest id of the other's releases that it has accepted.
    pub accepted: u32,
}

/// A piece of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
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
            Self::Drain(drain) => out.extend([2, u8::from(*drain)]),
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
                let drain = reader.u8()? != 0;
                reader.end()?;
                Ok(Self::Drain(drain))
            }
            _ => Err(Malformed::Field("message kind")),
        }
    }
}

impl Heartbeat {
    /// Whether anything is different that ownership depends on.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        // One that says so once a second is not news for that.
        let told = |of: &Self| Self { hears: 0, traffic: Traffic::default(), ..of.clone() };
        told(self) != told(other)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(u16::try_from(self.period.as_millis()).unwrap_or(u16::MAX).to_le_bytes());
        out.push(self.multiplier);
        out.extend(self.incarnation.to_le_bytes());
        out.push(self.phase as u8);
        out.push(u8::from(self.draining) | u8::from(self.ready) << 1 | u8::from(self.deaf) << 2);
        out.push(self.weight);
        out.extend(self.mac);
        out.extend(self.facts.to_le_bytes());
        out.extend(self.table.epoch.to_le_bytes());
        out.push(self.table.author);
        out.extend(self.state_version.to_le_bytes());
        out.extend(self.hears.to_le_bytes());
        out.extend(self.traffic.packets.to_le_bytes());
        out.extend(self.traffic.bytes.to_le_bytes());
        out.push(u8::try_from(self.peers.len()).unwrap_or(u8::MAX));
        for peer in &self.peers {
            out.extend([peer.node.number(), u8::from(peer.alive)]);
            out.extend(peer.incarnation.to_le_bytes());
            out.extend(peer.state_version.to_le_bytes());
            out.extend(peer.accepted.to_le_bytes());
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let period = u16::from_le_bytes(reader.array()?);
        let multiplier = reader.u8()?;
        if !(5..=1000).contains(&period) || multiplier < 3 {
            return Err(Malformed::Field("period or multiplier"));
        }
        let incarnation = reader.u32()?;
        let phase = Phase::decode(reader.u8()?)?;
        let flags = reader.u8()?;
        if flags > 7 {
            return Err(Malformed::Field("flags"));
        }
        Ok(Self {
            period: Duration::from_millis(u64::from(period)),
            multiplier,
            incarnation,
            phase,
            draining: flags & 1 != 0,
            ready: flags & 2 != 0,
            deaf: flags & 4 != 0,
            weight: reader.u8()?,
            mac: reader.array()?,
            facts: reader.u64()?,
            table: TableId { epoch: reader.u64()?, author: reader.u8()? },
            state_version: reader.u64()?,
            hears: reader.u64()?,
            traffic: Traffic { packets: reader.u64()?, bytes: reader.u64()? },
            peers: Self::decode_peers(reader)?,
        })
    }

    fn decode_peers(reader: &mut Reader<'_>) -> Result<Vec<PeerReport>, Malformed> {
        let count = reader.u8()?;
        if count > Priority::MAX {
            return Err(Malformed::Field("peers"));
        }
        let peer = |_| {
            Ok(PeerReport {
                node: reader.priority()?,
                alive: reader.u8()? != 0,
                incarnation: reader.u32()?,
                state_version: reader.u64()?,
                accepted: reader.u32()?,
            })
        };
        (0..count).map(peer).collect()
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

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    fn priority(&mut self) -> Result<Priority, Malformed> {
        Priority::new(self.u8()?).ok_or(Malformed::Field("priority"))
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

#[cfg(test)]
mod tests;
