//! The sealed channel between nodes: who may speak, and that nothing old is heard again. What is said is `wire.rs`.
//!
//! Each agent start draws a random session, and seals with a key derived from the cluster secret, its own priority and that
//! session; the nonce is the datagram's number, so no key meets a nonce twice. Every datagram echoes the newest session and
//! number heard from its receiver. Two rules keep replays out, also those recorded before a restart of either side:
//!
//! - within a session each number counts once, and one that is older than the newest by more than a window's width not at
//!   all; heartbeats moreover only grow newer, while parts of a state may overtake each other;
//! - a new session is believed only once a datagram of it echoes *our* session with a newer number than any datagram of that
//!   peer echoed before. A recording cannot, because the number did not exist when it was made.

mod passage;
mod stranger;

use std::collections::{BTreeMap, VecDeque};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use thiserror::Error;

pub(crate) use self::passage::SavedLink;
use super::wire::{HEADER, Header, Malformed, Message, Reader};
use crate::config::model::Priority;
use crate::config::secret::ClusterSecret;

/// This node's end of the channel to every configured peer.
#[derive(Debug)]
pub(crate) struct Link {
    me: Priority,
    secret: ClusterSecret,
    session: [u8; 16],
    /// The last number used; counts datagrams to all peers.
    seq: u64,
    key: LessSafeKey,
    peers: BTreeMap<Priority, Peer>,
}

/// How many sessions of a peer may wait for their proof.
const CANDIDATES: usize = 4;

/// What was heard of a peer.
#[derive(Debug, Default)]
struct Peer {
    /// The session that proved itself fresh.
    proven: Option<Session>,
    /// The latest sessions that are sealed rightly but not proven yet, newest first: echoed, so that they can prove themselves. At
    /// most `CANDIDATES`, because all but one are recordings.
    candidates: VecDeque<Session>,
    /// Which is echoed next.
    turn: usize,
    /// The greatest number of ours that a proven datagram echoed.
    echoed: u64,
}

#[derive(Debug)]
struct Session {
    id: [u8; 16],
    key: SessionKey,
    /// The greatest number heard.
    seq: u64,
    /// Which of the numbers up to `seq` were heard: bit n is `seq - n`.
    window: u128,
    /// The number of the newest heartbeat.
    heartbeat: u64,
}

/// What opens a session's datagrams.
#[derive(Debug)]
struct SessionKey {
    /// From which of the secret's keys, in their order, it is derived.
    which: usize,
    aead: LessSafeKey,
}

/// A message that may be believed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) from: Priority,
    /// The first of a new session: the peer's agent has started anew.
    pub(crate) new_session: bool,
    pub(crate) message: Message,
}

/// Why a datagram was not believed. Only `Unproven` has left a trace (the session is echoed); nothing else was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refused {
    /// The bytes make no sense.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// No node of that priority is configured, or it is for another node.
    #[error("from an unknown node, or for another")]
    Stranger,
    /// Rightly sealed, but with this node's own priority.
    #[error("sent by another node with this node's own priority")]
    OwnPriority,
    /// The seal does not fit the cluster secret.
    #[error("sealed with another key")]
    Forged(Priority),
    /// Heard before, or older than what was heard.
    #[error("a replay")]
    Replay,
    /// A heartbeat that a newer one has overtaken. Its seal is right, and it was not heard before.
    #[error("overtaken by a newer one")]
    Overtaken(Priority),
    /// A new session that has not echoed ours yet. A heartbeat back lets it.
    #[error("a new session that is yet to prove itself")]
    Unproven(Priority),
}

impl Link {
    /// A link of node `me` to `peers`. `session` must be random.
    pub(crate) fn new(
        me: Priority,
        peers: impl IntoIterator<Item = Priority>,
        secret: ClusterSecret,
        session: [u8; 16],
    ) -> Self {
        let key = aead(&secret.heartbeat_key(me.number(), &session));
        let peers = peers.into_iter().map(|peer| (peer, Peer::default())).collect();
        Self { me, secret, session, seq: 0, key, peers }
    }

    /// Speaks with these peers from now on, and with no others. What was heard of those that stay still counts; who is new proves itself
    /// by a number that is yet to be used, so that nothing recorded before is believed.
    pub(crate) fn set_peers(&mut self, peers: &[Priority]) {
        self.peers.retain(|peer, _| peers.contains(peer));
        for peer in peers {
            let echoed = self.seq;
            self.peers.entry(*peer).or_insert_with(|| Peer { echoed, ..Peer::default() });
        }
    }

    /// The datagram that carries `message` to `receiver`.
    #[cfg(test)]
    pub(crate) fn seal(&mut self, receiver: Priority, message: &Message) -> Vec<u8> {
        let mut datagram = Vec::new();
        self.seal_into(receiver, message, &mut datagram);
        datagram
    }

    /// Writes the datagram that carries `message` to `receiver` into an empty buffer.
    pub(crate) fn seal_into(&mut self, receiver: Priority, message: &Message, datagram: &mut Vec<u8>) {
        let echo = self.peers.get_mut(&receiver).and_then(Peer::echo);
        self.seal_with(receiver, echo.unwrap_or(([0; 16], 0)), message, datagram);
    }

    fn seal_with(
        &mut self,
        receiver: Priority,
        echo: ([u8; 16], u64),
        message: &Message,
        datagram: &mut Vec<u8>,
    ) {
        self.seq += 1;
        let header = Header { sender: self.me, receiver, session: self.session, seq: self.seq }.encode();
        datagram.extend(header);
        datagram.extend(echo.0);
        datagram.extend(echo.1.to_le_bytes());
        message.encode(datagram);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(self.seq), Aad::from(header), &mut datagram[HEADER..])
            .expect("invariant: a datagram is far below AES-GCM's limit");
        datagram.extend(tag.as_ref());
    }

    /// Opens a datagram, or says why not.
    pub(crate) fn open(&mut self, datagram: &[u8]) -> Result<Heard, Refused> {
        let header = Header::decode(datagram)?;
        if header.sender == self.me && header.session != self.session {
            return self.open_own_priority(&header, datagram);
        }
        let peer = self.peers.get_mut(&header.sender).ok_or(Refused::Stranger)?;
        if header.receiver != self.me {
            return Err(Refused::Stranger);
        }
        if let Some(session) = peer.proven.as_mut().filter(|session| session.id == header.session) {
            let Opened { echo, message } = open(&session.key.aead, &header, datagram)?;
            session.admit(&header, &message)?;
            // A refusal is for the session that it answers, or a recorded datagram could bring one about.
            if matches!(message, Message::Refusal(_)) && echo.0 != self.session {
                return Err(Refused::Replay);
            }
            if echo.0 == self.session && echo.1 <= self.seq {
                peer.echoed = peer.echoed.max(echo.1);
            }
            return Ok(Heard { from: header.sender, new_session: false, message });
        }
        peer.consider(&self.secret, &header, datagram, (self.session, self.seq))
    }

    /// A datagram that claims this node's own priority is worth an event only when its seal is right.
    fn open_own_priority(&self, header: &Header, datagram: &[u8]) -> Result<Heard, Refused> {
        open_anew(&self.secret, header, datagram)?;
        Err(Refused::OwnPriority)
    }
}

impl Peer {
    /// What to tell this peer that we last heard of it. Sessions take turns: were one preferred, whoever replays recordings of
    /// another could keep the living one from being proven.
    fn echo(&mut self) -> Option<([u8; 16], u64)> {
        let sessions = self.proven.iter().chain(&self.candidates);
        let count = self.candidates.len() + usize::from(self.proven.is_some());
        self.turn = (self.turn + 1).checked_rem(count).unwrap_or(0);
        sessions.map(|session| (session.id, session.seq)).nth(self.turn)
    }

    /// A datagram of a session that is not the proven one; `ours` is our own session and last number.
    fn consider(
        &mut self,
        secret: &ClusterSecret,
        header: &Header,
        datagram: &[u8],
        ours: ([u8; 16], u64),
    ) -> Result<Heard, Refused> {
        let known = self.candidates.iter().position(|session| session.id == header.session);
        let (session_key, Opened { echo, message }) = match known.and_then(|place| self.candidates.get(place))
        {
            Some(session) => (None, open(&session.key.aead, header, datagram)?),
            None => {
                let (session_key, opened) = open_anew(secret, header, datagram)?;
                (Some(session_key), opened)
            }
        };
        let former = known.and_then(|place| self.candidates.remove(place)).map(|session| session.key);
        let mut session = Session {
            id: header.session,
            key: session_key.or(former).ok_or(Refused::Stranger)?,
            seq: 0,
            window: 0,
            heartbeat: 0,
        };
        session.admit(header, &message)?;
        if echo.0 == ours.0 && echo.1 <= ours.1 && echo.1 > self.echoed {
            self.echoed = echo.1;
            self.proven = Some(session);
            self.candidates.clear();
            return Ok(Heard { from: header.sender, new_session: true, message });
        }
        self.candidates.push_front(session);
        self.candidates.truncate(CANDIDATES);
        Err(Refused::Unproven(header.sender))
    }
}

impl Session {
    /// Notes a number as heard, unless it was heard before.
    fn admit(&mut self, header: &Header, message: &Message) -> Result<(), Refused> {
        let seq = header.seq;
        if seq > self.seq {
            let shift = u32::try_from(seq - self.seq).unwrap_or(u32::MAX);
            self.window = self.window.checked_shl(shift).unwrap_or(0) | 1;
            self.seq = seq;
        } else {
            let back = u32::try_from(self.seq - seq).unwrap_or(u32::MAX);
            let bit = 1u128.checked_shl(back).filter(|bit| self.window & bit == 0).ok_or(Refused::Replay)?;
            self.window |= bit;
        }
        match message {
            Message::Heartbeat(_) if seq < self.heartbeat => Err(Refused::Overtaken(header.sender)),
            Message::Heartbeat(_) => {
                self.heartbeat = seq;
                Ok(())
            }
            Message::Part(_) | Message::Wish { .. } | Message::Answer { .. } | Message::Refusal(_) => Ok(()),
        }
    }
}

/// The sealed part of a datagram.
struct Opened {
    /// The session and the number that it echoes of us.
    echo: ([u8; 16], u64),
    message: Message,
}

/// Opens the sealed part.
fn open(key: &LessSafeKey, header: &Header, datagram: &[u8]) -> Result<Opened, Refused> {
    let (clear, sealed) = datagram.split_at(HEADER);
    let mut sealed = sealed.to_vec();
    let plain = key
        .open_in_place(nonce(header.seq), Aad::from(clear), &mut sealed)
        .map_err(|_| Refused::Forged(header.sender))?;
    let mut reader = Reader(plain);
    let echo = (reader.array()?, reader.u64()?);
    Ok(Opened { echo, message: Message::decode(reader.0)? })
}

/// Opens the sealed part of a session that is not known yet: while the cluster's key is changed, some nodes seal with another
/// than this one. Also gives the key that fitted.
fn open_anew(
    secret: &ClusterSecret,
    header: &Header,
    datagram: &[u8],
) -> Result<(SessionKey, Opened), Refused> {
    for (bytes, which) in secret.heartbeat_keys(header.sender.number(), &header.session).zip(0..) {
        let key = SessionKey { which, aead: aead(&bytes) };
        match open(&key.aead, header, datagram) {
            Err(Refused::Forged(_)) => {}
            opened => return opened.map(|opened| (key, opened)),
        }
    }
    Err(Refused::Forged(header.sender))
}

fn aead(bytes: &[u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, bytes).expect("invariant: AES-256 takes 32 bytes");
    LessSafeKey::new(key)
}

fn nonce(seq: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&seq.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests;
