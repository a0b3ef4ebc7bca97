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

use std::time::Duration;

use lb_common::table::{BUCKETS, TABLES};
use thiserror::Error;

use super::sets::BucketSet;
use crate::config::model::Priority;

/// The version of all this. Nodes of different versions refuse each other.
pub(crate) const VERSION: u8 = 1;

/// Header length: what is authenticated but not encrypted.
pub(crate) const HEADER: usize = 32;

/// How many bytes of a state one part carries.
pub(crate) const PART: usize = 1200;

/// How many parts a state may have; bounds what a peer can make us keep.
pub(crate) const MAX_PARTS: usize = 255;

/// How many releases of one owner table may be under way.
pub(crate) const MAX_RELEASES: usize = 64;

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
    /// Its service works.
    pub ready: bool,
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

/// What a node holds, has released, and as default host has computed. Replaced whole by a newer version.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct State {
    /// Per owner table.
    pub holdings: Vec<Holdings>,
    /// The owner table that the sender computed, if it is the default host.
    pub published: Option<Published>,
}

/// What a node holds of one owner table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Accepts new connections of these.
    pub holds: BucketSet,
    /// Accepts none, but may still have connections in these.
    pub departing: BucketSet,
    /// Released, and not yet accepted: final, so that only the heir may take them. At most `MAX_RELEASES`.
    pub released: Vec<Release>,
}

/// Buckets that their holder gave to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// To whom.
    pub heir: Priority,
    /// To which incarnation of it: one that has given everything up since cannot accept.
    pub incarnation: u32,
    /// Counts the sender's releases from 1, so that each is accepted once however often it is repeated.
    pub id: u32,
    /// What.
    pub set: BucketSet,
}

impl Holdings {
    /// Holds nothing, has no connections.
    pub const NONE: Self =
        Self { holds: BucketSet::EMPTY, departing: BucketSet::EMPTY, released: Vec::new() };
}

/// An owner table: who should own what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its epoch; the author is the sender.
    pub epoch: u64,
    /// The nodes that it is for, in the order of priorities.
    pub members: Vec<Priority>,
    /// Per owner table, what each of `members` should own.
    pub shares: Vec<Vec<BucketSet>>,
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
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(u16::try_from(self.period.as_millis()).unwrap_or(u16::MAX).to_le_bytes());
        out.push(self.multiplier);
        out.extend(self.incarnation.to_le_bytes());
        out.push(self.phase as u8);
        out.push(u8::from(self.draining) | u8::from(self.ready) << 1);
        out.push(self.weight);
        out.extend(self.mac);
        out.extend(self.facts.to_le_bytes());
        out.extend(self.table.epoch.to_le_bytes());
        out.push(self.table.author);
        out.extend(self.state_version.to_le_bytes());
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
        if flags > 3 {
            return Err(Malformed::Field("flags"));
        }
        Ok(Self {
            period: Duration::from_millis(u64::from(period)),
            multiplier,
            incarnation,
            phase,
            draining: flags & 1 != 0,
            ready: flags & 2 != 0,
            weight: reader.u8()?,
            mac: reader.array()?,
            facts: reader.u64()?,
            table: TableId { epoch: reader.u64()?, author: reader.u8()? },
            state_version: reader.u64()?,
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

impl State {
    /// The bytes that parts carry.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::try_from(self.holdings.len()).unwrap_or(u8::MAX)];
        for holdings in &self.holdings {
            put_set(&mut out, &holdings.holds);
            put_set(&mut out, &holdings.departing);
            out.push(u8::try_from(holdings.released.len()).unwrap_or(u8::MAX));
            for release in &holdings.released {
                out.push(release.heir.number());
                out.extend(release.incarnation.to_le_bytes());
                out.extend(release.id.to_le_bytes());
                put_set(&mut out, &release.set);
            }
        }
        match &self.published {
            None => out.push(0),
            Some(published) => {
                out.push(u8::try_from(published.members.len()).unwrap_or(u8::MAX));
                out.extend(published.epoch.to_le_bytes());
                out.extend(published.members.iter().map(|member| member.number()));
                published.shares.iter().flatten().for_each(|set| put_set(&mut out, set));
            }
        }
        out
    }

    /// Reads a state that fills `bytes`, of a cluster with `tables` owner tables.
    pub(crate) fn decode(bytes: &[u8], tables: usize) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        if usize::from(reader.u8()?) != tables || tables > TABLES {
            return Err(Malformed::Field("tables"));
        }
        let holdings = (0..tables).map(|_| Holdings::decode(&mut reader)).collect::<Result<_, _>>()?;
        let published = match reader.u8()? {
            0 => None,
            count => Some(Published::decode(&mut reader, count, tables)?),
        };
        reader.end()?;
        Ok(Self { holdings, published })
    }

    /// The state cut into parts.
    pub(crate) fn parts(&self, version: u64) -> Vec<Part> {
        let bytes = self.encode();
        let chunks: Vec<&[u8]> = bytes.chunks(PART).collect();
        let total = u8::try_from(chunks.len()).unwrap_or(u8::MAX);
        let part = |(index, bytes): (u8, &&[u8])| Part { version, index, total, bytes: bytes.to_vec() };
        (0..total).zip(&chunks).map(part).collect()
    }
}

impl Holdings {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (holds, departing) = (reader.set()?, reader.set()?);
        let count = reader.u8()?;
        if usize::from(count) > MAX_RELEASES {
            return Err(Malformed::Field("releases"));
        }
        let release = |_| {
            Ok(Release {
                heir: reader.priority()?,
                incarnation: reader.u32()?,
                id: reader.u32()?,
                set: reader.set()?,
            })
        };
        let released = (0..count).map(release).collect::<Result<_, Malformed>>()?;
        Ok(Self { holds, departing, released })
    }
}

impl Published {
    fn decode(reader: &mut Reader<'_>, count: u8, tables: usize) -> Result<Self, Malformed> {
        let epoch = reader.u64()?;
        let members: Vec<Priority> = (0..count).map(|_| reader.priority()).collect::<Result<_, _>>()?;
        if !members.is_sorted_by(|a, b| a < b) {
            return Err(Malformed::Field("members"));
        }
        let share = |reader: &mut Reader<'_>| (0..count).map(|_| reader.set()).collect::<Result<Vec<_>, _>>();
        let shares = (0..tables).map(|_| share(reader)).collect::<Result<_, _>>()?;
        Ok(Self { epoch, members, shares })
    }
}

fn put_set(out: &mut Vec<u8>, set: &BucketSet) {
    if set.is_empty() {
        out.push(0);
    } else if *set == BucketSet::FULL {
        out.push(1);
    } else {
        out.push(2);
        out.extend(set.to_bytes());
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

    fn set(&mut self) -> Result<BucketSet, Malformed> {
        match self.u8()? {
            0 => Ok(BucketSet::EMPTY),
            1 => Ok(BucketSet::FULL),
            2 => self.array::<{ BUCKETS / 8 }>().map(|bytes| BucketSet::from_bytes(&bytes)),
            _ => Err(Malformed::Field("set")),
        }
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

#[cfg(test)]
mod tests;
