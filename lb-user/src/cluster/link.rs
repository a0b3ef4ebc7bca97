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
//!
//! The cluster secret may change meanwhile (`epochs`): sessions and numbers go on under it. A peer that has switched to a secret that
//! this node could switch to is answered under that one, because it takes nothing else for much longer.

mod epochs;
mod passage;
mod stranger;

use std::collections::{BTreeMap, VecDeque};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use thiserror::Error;

use self::epochs::Epochs;
pub(crate) use self::passage::SavedLink;
pub(crate) use self::stranger::Stranger;
use super::wire::{HEADER, Header, Malformed, Message, Reader};
use crate::clock::Time;
use crate::config::model::Priority;
use crate::config::secret::ClusterSecret;

/// This node's end of the channel to every configured peer.
#[derive(Debug)]
pub(crate) struct Link {
    me: Priority,
    epochs: Epochs,
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
    /// It seals with a secret that this node could switch to: with that it is answered.
    ahead: Option<Ahead>,
}

/// What a peer that has switched is answered with.
#[derive(Debug)]
struct Ahead {
    epoch: [u8; 8],
    aead: LessSafeKey,
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
    /// Of which secret.
    epoch: [u8; 8],
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
        Self { me, epochs: Epochs::new(secret), session, seq: 0, key, peers }
    }

    /// What is sealed with `secret` is opened, too, from now on: this node could switch to it.
    pub(crate) fn expect(&mut self, secret: ClusterSecret) {
        self.epochs.expect(secret);
        self.drop_refused();
    }

    /// Seals with `secret` from now on. What is sealed with the one before is opened for a few seconds yet.
    pub(crate) fn switch(&mut self, secret: ClusterSecret, now: Time) {
        if self.epochs.switch(secret, now) {
            self.key = aead(&self.epochs.current().secret.heartbeat_key(self.me.number(), &self.session));
            self.drop_refused();
        }
    }

    /// Does what is due at `now`: a secret of before is refused once its time is over.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        if self.epochs.retire(now) {
            self.drop_refused();
        }
    }

    /// No session goes on under a secret that is not accepted any more: its peer is heard again when it seals with the one in force.
    fn drop_refused(&mut self) {
        let epochs = &self.epochs;
        let accepted = |id: [u8; 8]| epochs.all().any(|epoch| epoch.id == id);
        for (node, peer) in &mut self.peers {
            peer.ahead.take_if(|ahead| !epochs.is_next(ahead.epoch));
            let sessions = peer.proven.iter_mut().chain(&mut peer.candidates);
            for session in sessions.filter(|session| !accepted(session.key.epoch)) {
                session.key = SessionKey::current(epochs, *node, &session.id);
            }
        }
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
        self.seal_with(receiver, echo.unwrap_or(([0; 16], 0)), message, None, datagram);
    }

    /// With `key` in place of the usual one.
    fn seal_with(
        &mut self,
        receiver: Priority,
        echo: ([u8; 16], u64),
        message: &Message,
        key: Option<LessSafeKey>,
        datagram: &mut Vec<u8>,
    ) {
        self.seq += 1;
        let header = Header { sender: self.me, receiver, session: self.session, seq: self.seq }.encode();
        datagram.extend(header);
        datagram.extend(echo.0);
        datagram.extend(echo.1.to_le_bytes());
        message.encode(datagram);
        let ahead = self.peers.get(&receiver).and_then(|peer| peer.ahead.as_ref()).map(|ahead| &ahead.aead);
        let tag = key
            .as_ref()
            .or(ahead)
            .unwrap_or(&self.key)
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
            let (other, Opened { echo, message }) = session.open(&self.epochs, &header, datagram)?;
            session.admit(&header, &message)?;
            if let Some(key) = other {
                session.key = key;
                peer.ahead = Ahead::of(&self.epochs, session.key.epoch, self.me, &self.session);
            }
            // A refusal is for the session that it answers, or a recorded datagram could bring one about.
            if matches!(message, Message::Refusal(_)) && echo.0 != self.session {
                return Err(Refused::Replay);
            }
            if echo.0 == self.session && echo.1 <= self.seq {
                peer.echoed = peer.echoed.max(echo.1);
            }
            return Ok(Heard { from: header.sender, new_session: false, message });
        }
        let heard = peer.consider(&self.epochs, &header, datagram, (self.session, self.seq));
        if matches!(heard, Ok(_) | Err(Refused::Unproven(_))) {
            peer.follow(&self.epochs, &header, self.me, &self.session);
        }
        heard
    }

    /// A datagram that claims this node's own priority is worth an event only when its seal is right.
    fn open_own_priority(&self, header: &Header, datagram: &[u8]) -> Result<Heard, Refused> {
        open_anew(&self.epochs, header, datagram)?;
        Err(Refused::OwnPriority)
    }
}

impl Ahead {
    /// If it is to be one: node `me` answers in its own `session`.
    fn of(epochs: &Epochs, id: [u8; 8], me: Priority, session: &[u8; 16]) -> Option<Self> {
        let epoch = epochs.all().find(|epoch| epoch.id == id && epochs.is_next(id))?;
        Some(Self { epoch: id, aead: aead(&epoch.secret.heartbeat_key(me.number(), session)) })
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

    /// A datagram of a session that was new a moment ago was rightly sealed. Who is ahead is answered under what it seals with, or it
    /// could not prove itself; who is not may be a recording, and changes nothing.
    fn follow(&mut self, epochs: &Epochs, header: &Header, me: Priority, ours: &[u8; 16]) {
        let sessions = self.proven.iter().chain(&self.candidates);
        let mut sealed =
            sessions.filter(|session| session.id == header.session).map(|session| session.key.epoch);
        let epoch = sealed.find(|epoch| epochs.is_next(*epoch));
        let known = self.ahead.as_ref().map(|ahead| ahead.epoch);
        if let Some(epoch) = epoch.filter(|epoch| known != Some(*epoch)) {
            self.ahead = Ahead::of(epochs, epoch, me, ours);
        }
    }

    /// A datagram of a session that is not the proven one; `ours` is our own session and last number.
    fn consider(
        &mut self,
        epochs: &Epochs,
        header: &Header,
        datagram: &[u8],
        ours: ([u8; 16], u64),
    ) -> Result<Heard, Refused> {
        let known = self.candidates.iter().position(|session| session.id == header.session);
        let (session_key, Opened { echo, message }) = match known.and_then(|place| self.candidates.get(place))
        {
            Some(session) => session.open(epochs, header, datagram)?,
            None => {
                let (session_key, opened) = open_anew(epochs, header, datagram)?;
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

impl SessionKey {
    /// By the secret in force.
    fn current(epochs: &Epochs, sender: Priority, session: &[u8; 16]) -> Self {
        let epoch = epochs.current();
        let bytes = epoch.secret.heartbeat_key(sender.number(), session);
        Self { epoch: epoch.id, which: 0, aead: aead(&bytes) }
    }
}

impl Session {
    /// Opens a datagram of this session. While the secret is changed also under another than the last one, which is given then.
    fn open(
        &self,
        epochs: &Epochs,
        header: &Header,
        datagram: &[u8],
    ) -> Result<(Option<SessionKey>, Opened), Refused> {
        match open(&self.key.aead, header, datagram) {
            Err(Refused::Forged(_)) if epochs.overlap() => {
                open_anew(epochs, header, datagram).map(|(key, opened)| (Some(key), opened))
            }
            opened => opened.map(|opened| (None, opened)),
        }
    }

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

/// Opens the sealed part of a session that is not known yet, or under another key than the last one: while the cluster's key is changed,
/// some nodes seal with another than this one. Also gives the key that fitted.
fn open_anew(epochs: &Epochs, header: &Header, datagram: &[u8]) -> Result<(SessionKey, Opened), Refused> {
    for epoch in epochs.all() {
        let keys = epoch.secret.heartbeat_keys(header.sender.number(), &header.session);
        for (bytes, which) in keys.zip(0..) {
            let key = SessionKey { epoch: epoch.id, which, aead: aead(&bytes) };
            match open(&key.aead, header, datagram) {
                Err(Refused::Forged(_)) => {}
                opened => return opened.map(|opened| (key, opened)),
            }
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
