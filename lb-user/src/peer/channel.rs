//! What agent and child say to each other over their socket pair, as frames (`frame`). Pure: sockets are in `supervisor` and `worker`.
//!
//! The child speaks with the network, so the agent reads what it says as hostile: whatever is not exactly a known message is an
//! error, and the child is replaced. Texts and bytes that stand before the last field have their length before them.

mod field;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use thiserror::Error;

use self::field::{Fields, put_text};
use super::frame::Frame;
use super::supervisor::Asker;
use super::{MAX_MESSAGE, MAX_NAME, MOST_NODES, Node};
use crate::config::model::PEER_PORT;
use crate::shared::keys::{Seed, VerifyingKey};

/// What the agent tells the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// Begin. The first one, and sent once; its first byte carries the listening socket, if there is one.
    Start(Box<Start>),
    /// These are the nodes from now on.
    Nodes(Vec<Node>),
    /// So many strangers may be connected.
    Admit(u8),
    /// Ask this; answered by `Up::Returned`.
    Call {
        /// Numbers the answer.
        number: u64,
        /// How long an answer is worth having.
        within: Duration,
        /// Whom.
        target: Target,
        /// What.
        bytes: Vec<u8>,
    },
    /// The answer to an `Up::Asked`; `None`: there is none.
    Answer {
        /// The question's number.
        number: u64,
        /// What is answered.
        bytes: Option<Vec<u8>>,
    },
}

/// What a child begins with.
#[derive(Clone, Debug)]
pub struct Start {
    /// This node's name.
    pub me: String,
    /// What its transport key is made from.
    pub seed: Seed,
    /// The other nodes.
    pub nodes: Vec<Node>,
}

impl PartialEq for Start {
    fn eq(&self, other: &Self) -> bool {
        (&self.me, self.seed.0, &self.nodes) == (&other.me, other.seed.0, &other.nodes)
    }
}

impl Eq for Start {}

/// Whom a call is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The listed node of this name.
    Node(String),
    /// Whoever has this key, at this address.
    Stranger {
        /// Where.
        address: Ipv4Addr,
        /// Which.
        key: VerifyingKey,
    },
}

/// What the child tells the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Up {
    /// Sent every second: it lives.
    Alive,
    /// What became of a `Down::Call`.
    Returned {
        /// The call's number.
        number: u64,
        /// The answer and the channel binding of the connection that it came over, or why there is none.
        result: Result<([u8; 32], Vec<u8>), Why>,
    },
    /// Another node asks; answered by `Down::Answer`.
    Asked {
        /// Numbers the answer; the child gives each number once.
        number: u64,
        /// Who.
        from: Asker,
        /// What.
        bytes: Vec<u8>,
    },
    /// Whether a node is connected to, whenever that changes.
    Reachable {
        /// Which.
        node: String,
        /// If not, why.
        why: Option<Why>,
    },
}

/// Why a call has no answer, or a node is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no connection, or it broke.
    Unreachable(Trouble),
    /// Who answers there has this key, and should have another.
    OtherKey(VerifyingKey),
    /// It does not list this node's key.
    Unlisted,
    /// It gave no answer.
    Refused,
    /// It has enough questions.
    Busy,
    /// It took too long.
    TimedOut,
    /// No such node is listed.
    NoSuchNode,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The kernel's reason, by number (errno).
    System(i32),
    /// Nothing came for too long, or nothing was taken.
    Silent,
    /// Who is there does not speak TLS as nodes do.
    NoPeer,
    /// The other end closed it.
    Closed,
    /// What came is nothing that a node says.
    Garbled,
    /// The node is not listed any more.
    Removed,
    /// The child was started again; said by the agent alone.
    Restarted,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::System(errno) => return io::Error::from_raw_os_error(*errno).fmt(f),
            Self::Silent => {
                return write!(
                    f,
                    "it is silent; hint: is the host up, and TCP {PEER_PORT} open between the nodes?"
                );
            }
            Self::NoPeer => {
                "what listens there is no Rollcall node of this version; hint: `ss -ltnp` on it names who listens"
            }
            Self::Closed => "it closed the connection; hint: it may be starting; its log says more",
            Self::Garbled => "what came is nothing that a node says; hint: is it the same version?",
            Self::Removed => "it is not listed any more",
            Self::Restarted => {
                "the child that talks to other nodes is being started again; hint: this node's log says why"
            }
        };
        f.write_str(text)
    }
}

impl Down {
    /// Whether a child can be started so.
    pub fn check_start(me: &str, nodes: &[Node]) -> Result<(), ChannelError> {
        check_name(me)?;
        Self::check_nodes(nodes)
    }

    /// Whether these nodes can be told.
    pub fn check_nodes(nodes: &[Node]) -> Result<(), ChannelError> {
        let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
        if nodes.len() > MOST_NODES {
            return Err(ChannelError::Nodes { count: nodes.len() });
        }
        nodes.iter().try_for_each(|node| {
            check_name(&node.name)?;
            let is_new = names.insert(&node.name) && keys.insert(node.key);
            if is_new { Ok(()) } else { Err(ChannelError::Twice { name: node.name.clone() }) }
        })
    }

    /// As a frame.
    pub fn into_frame(self) -> Frame {
        let (kind, number, body) = match self {
            Self::Start(start) => {
                let mut body = Vec::new();
                put_text(&mut body, &start.me);
                body.extend(start.seed.0);
                put_nodes(&mut body, &start.nodes);
                (START, 0, body)
            }
            Self::Nodes(nodes) => {
                let mut body = Vec::new();
                put_nodes(&mut body, &nodes);
                (NODES, 0, body)
            }
            Self::Admit(strangers) => (ADMIT, 0, vec![strangers]),
            Self::Call { number, within, target, bytes } => {
                let mut body = Vec::with_capacity(bytes.len() + FIELDS);
                body.extend(u64::try_from(within.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
                match target {
                    Target::Node(name) => {
                        body.push(0);
                        put_text(&mut body, &name);
                    }
                    Target::Stranger { address, key } => {
                        body.push(1);
                        body.extend(address.octets());
                        body.extend(key.0);
                    }
                }
                body.extend(bytes);
                (CALL, number, body)
            }
            Self::Answer { number, bytes: Some(bytes) } => (ANSWER, number, bytes),
            Self::Answer { number, bytes: None } => (NO_ANSWER, number, Vec::new()),
        };
        Frame { kind, number, body }
    }

    /// What a frame says.
    pub fn of_frame(frame: Frame) -> Result<Self, ChannelError> {
        let Frame { kind, number, body } = frame;
        let mut fields = Fields::of(kind, &body);
        let down = match kind {
            START => {
                let (me, seed, nodes) = (fields.text()?, fields.array()?, nodes(&mut fields)?);
                Self::Start(Box::new(Start { me, seed: Seed(seed), nodes }))
            }
            NODES => Self::Nodes(nodes(&mut fields)?),
            ADMIT => Self::Admit(fields.byte()?),
            CALL => {
                let within = Duration::from_millis(u64::from_be_bytes(fields.array()?));
                let target = match fields.byte()? {
                    0 => Target::Node(fields.text()?),
                    1 => Target::Stranger {
                        address: Ipv4Addr::from(fields.array::<4>()?),
                        key: VerifyingKey(fields.array()?),
                    },
                    _ => return Err(ChannelError::Field { kind }),
                };
                return Ok(Self::Call { number, within, target, bytes: fields.rest().to_vec() });
            }
            ANSWER => return Ok(Self::Answer { number, bytes: Some(body) }),
            NO_ANSWER => Self::Answer { number, bytes: None },
            _ => return Err(ChannelError::Kind { kind }),
        };
        fields.end()?;
        Ok(down)
    }

    /// Longest body of each kind.
    pub fn limits(kind: u8) -> Option<usize> {
        match kind {
            START | NODES => Some((MOST_NODES + 1) * (MAX_NAME + FIELDS)),
            ADMIT => Some(1),
            CALL => Some(MAX_MESSAGE + FIELDS + MAX_NAME),
            ANSWER => Some(MAX_MESSAGE),
            NO_ANSWER => Some(0),
            _ => None,
        }
    }
}

fn check_name(name: &str) -> Result<(), ChannelError> {
    let length = name.len();
    if (1..=MAX_NAME).contains(&length) { Ok(()) } else { Err(ChannelError::Name { length }) }
}

fn put_nodes(body: &mut Vec<u8>, nodes: &[Node]) {
    body.push(u8::try_from(nodes.len()).unwrap_or(u8::MAX));
    for node in nodes {
        put_text(body, &node.name);
        body.extend(node.address.octets());
        body.extend(node.key.0);
    }
}

fn nodes(fields: &mut Fields<'_>) -> Result<Vec<Node>, ChannelError> {
    let count = fields.byte()?;
    let node = |_| {
        let (name, address) = (fields.text()?, Ipv4Addr::from(fields.array::<4>()?));
        Ok(Node { name, address, key: VerifyingKey(fields.array()?) })
    };
    (0..count).map(node).collect()
}

impl Up {
    /// As a frame.
    pub fn into_frame(self) -> Frame {
        let (kind, number, body) = match self {
            Self::Alive => (ALIVE, 0, Vec::new()),
            Self::Returned { number, result: Ok((binding, bytes)) } => {
                (RETURNED, number, [&binding[..], &bytes].concat())
            }
            Self::Returned { number, result: Err(why) } => (FAILED, number, why.encode()),
            Self::Asked { number, from, bytes } => {
                let mut body = Vec::with_capacity(bytes.len() + FIELDS);
                put_asker(&mut body, &from);
                body.extend(bytes);
                (ASKED, number, body)
            }
            Self::Reachable { node, why } => {
                let mut body = Vec::new();
                put_text(&mut body, &node);
                body.extend(why.map_or_else(Vec::new, Why::encode));
                (REACHABLE, 0, body)
            }
        };
        Frame { kind, number, body }
    }

    /// What a frame says. The bytes are hostile.
    pub fn of_frame(frame: Frame) -> Result<Self, ChannelError> {
        let Frame { kind, number, body } = frame;
        let mut fields = Fields::of(kind, &body);
        let up = match kind {
            ALIVE => Self::Alive,
            RETURNED => {
                let binding = fields.array()?;
                return Ok(Self::Returned { number, result: Ok((binding, fields.rest().to_vec())) });
            }
            FAILED => Self::Returned { number, result: Err(Why::decode(&mut fields)?) },
            ASKED => {
                let from = asker(&mut fields)?;
                return Ok(Self::Asked { number, from, bytes: fields.rest().to_vec() });
            }
            REACHABLE => {
                let node = fields.text()?;
                let why = (!fields.rest().is_empty()).then(|| Why::decode(&mut fields)).transpose()?;
                Self::Reachable { node, why }
            }
            _ => return Err(ChannelError::Kind { kind }),
        };
        fields.end()?;
        Ok(up)
    }

    /// Longest body of each kind.
    pub fn limits(kind: u8) -> Option<usize> {
        match kind {
            ALIVE => Some(0),
            RETURNED => Some(MAX_MESSAGE + 32),
            FAILED => Some(LONGEST_WHY),
            ASKED => Some(MAX_MESSAGE + FIELDS + MAX_NAME),
            REACHABLE => Some(FIELDS + MAX_NAME + LONGEST_WHY),
            _ => None,
        }
    }
}

fn put_asker(body: &mut Vec<u8>, from: &Asker) {
    match from {
        Asker::Node(name) => {
            body.push(0);
            put_text(body, name);
        }
        Asker::Stranger { key, address, binding } => {
            body.push(1);
            body.extend(key.0);
            body.extend(binding);
            match address {
                IpAddr::V4(address) => body.extend(address.to_ipv6_mapped().octets()),
                IpAddr::V6(address) => body.extend(address.octets()),
            }
        }
    }
}

fn asker(fields: &mut Fields<'_>) -> Result<Asker, ChannelError> {
    match fields.byte()? {
        0 => Ok(Asker::Node(fields.text()?)),
        1 => {
            let (key, binding) = (VerifyingKey(fields.array()?), fields.array()?);
            let address = IpAddr::from(fields.array::<16>()?).to_canonical();
            Ok(Asker::Stranger { key, address, binding })
        }
        _ => Err(ChannelError::Field { kind: ASKED }),
    }
}

impl Why {
    fn encode(self) -> Vec<u8> {
        let trouble = |code: u8| vec![1, code];
        match self {
            Self::Unreachable(Trouble::System(errno)) => [&[0], &errno.to_be_bytes()[..]].concat(),
            Self::Unreachable(Trouble::Silent) => trouble(1),
            Self::Unreachable(Trouble::NoPeer) => trouble(2),
            Self::Unreachable(Trouble::Closed) => trouble(3),
            Self::Unreachable(Trouble::Garbled) => trouble(4),
            Self::Unreachable(Trouble::Removed) => trouble(5),
            Self::Unreachable(Trouble::Restarted) => trouble(6),
            Self::OtherKey(presented) => [&[2], &presented.0[..]].concat(),
            Self::Unlisted => vec![3],
            Self::Refused => vec![4],
            Self::Busy => vec![5],
            Self::TimedOut => vec![6],
            Self::NoSuchNode => vec![7],
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, ChannelError> {
        Ok(match fields.byte()? {
            0 => Self::Unreachable(Trouble::System(i32::from_be_bytes(fields.array()?))),
            1 => Self::Unreachable(match fields.byte()? {
                1 => Trouble::Silent,
                2 => Trouble::NoPeer,
                3 => Trouble::Closed,
                4 => Trouble::Garbled,
                5 => Trouble::Removed,
                6 => Trouble::Restarted,
                _ => return Err(fields.wrong()),
            }),
            2 => Self::OtherKey(VerifyingKey(fields.array()?)),
            3 => Self::Unlisted,
            4 => Self::Refused,
            5 => Self::Busy,
            6 => Self::TimedOut,
            7 => Self::NoSuchNode,
            _ => return Err(fields.wrong()),
        })
    }
}

/// Why a frame is no message, or something cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChannelError {
    /// No such kind.
    #[error("a message has the unknown kind {kind}")]
    Kind {
        /// What it says.
        kind: u8,
    },
    /// A field is cut off, out of its range, or followed by more.
    #[error("a message of kind {kind} has a wrong field")]
    Field {
        /// The message's kind.
        kind: u8,
    },
    /// A node's name is empty or over the limit.
    #[error("a node's name of {length} bytes cannot be used; hint: 1 to {MAX_NAME}")]
    Name {
        /// Its length.
        length: usize,
    },
    /// Too many nodes.
    #[error("{count} nodes are more than the {MOST_NODES} that a cluster can have")]
    Nodes {
        /// How many.
        count: usize,
    },
    /// A name or a key is listed twice.
    #[error(
        "node {name} is listed twice, by its name or its transport key; hint: each node has keys of its own"
    )]
    Twice {
        /// The second one.
        name: String,
    },
}

const START: u8 = 1;
const NODES: u8 = 2;
const ADMIT: u8 = 3;
const CALL: u8 = 4;
const ANSWER: u8 = 5;
const NO_ANSWER: u8 = 6;

const ALIVE: u8 = 101;
const RETURNED: u8 = 102;
const FAILED: u8 = 103;
const ASKED: u8 = 104;
const REACHABLE: u8 = 105;

/// More than the fixed fields of any message, and of a node, take.
const FIELDS: usize = 128;

/// Longest spelling of a [`Why`].
const LONGEST_WHY: usize = 33;

#[cfg(test)]
mod tests;
