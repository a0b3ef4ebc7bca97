//! Who has the cluster's key, and speaks from an address that is not that of the node it says it is: a second node with one priority, or
//! one that is not configured. Nothing it says is taken in. It is answered once it may be believed to have the key, so that it can name why it stays out.
//! So is who has the key of before: it was removed, or has missed a change of the secret, and would else serve beside the others.

use super::{Link, Refused, aead, open, open_anew};
use crate::cluster::wire::{Header, Message, Phase, Refusal};
use crate::config::model::Priority;

/// A stranger with the cluster's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stranger {
    /// Who it says it is.
    pub(crate) node: Priority,
    /// It says that it serves.
    pub(crate) serves: bool,
    /// It seals with the key of before, and is answered under it.
    pub(crate) former: bool,
    session: [u8; 16],
    seq: u64,
}

impl Link {
    /// Opens a datagram from an address that is not that of the node that it names as its sender, or says why it cannot be
    /// somebody with the key. Changes nothing.
    pub(crate) fn open_stranger(&self, datagram: &[u8]) -> Result<Stranger, Refused> {
        let header = Header::decode(datagram)?;
        if header.sender == self.me && header.session != self.session {
            open_anew(&self.epochs, &header, datagram)?;
            return Err(Refused::OwnPriority);
        }
        if header.receiver != self.me {
            return Err(Refused::Stranger);
        }
        // A copy of what the node itself said.
        let peer = self.peers.get(&header.sender).into_iter();
        let known = peer.flat_map(|peer| peer.proven.iter().chain(&peer.candidates));
        if known.into_iter().any(|session| session.id == header.session) {
            return Err(Refused::Replay);
        }
        // Anybody can write any number. Of a configured node's a wrong seal is told; else a forger could fill the log with 64.
        let is_configured = self.peers.contains_key(&header.sender);
        match open_anew(&self.epochs, &header, datagram) {
            Ok((_, opened)) => Ok(Stranger::new(&header, &opened.message, false)),
            Err(refused) => {
                let refused = if is_configured { refused } else { Refused::Stranger };
                self.open_former(&header, datagram).ok_or(refused)
            }
        }
    }

    /// Who has sent a datagram that nobody with the cluster's key has, if it was somebody with the key of before.
    pub(crate) fn former(&self, datagram: &[u8]) -> Option<Stranger> {
        let header = Header::decode(datagram).ok().filter(|header| header.receiver == self.me)?;
        self.open_former(&header, datagram)
    }

    fn open_former(&self, header: &Header, datagram: &[u8]) -> Option<Stranger> {
        let secret = &self.epochs.current().secret;
        let key = secret.former_heartbeat_key(header.sender.number(), &header.session)?;
        let opened = open(&aead(&key), header, datagram).ok()?;
        Some(Stranger::new(header, &opened.message, true))
    }

    /// The datagram that tells a stranger that it stays out. It believes us because we echo its session, which is no recording.
    pub(crate) fn refuse(&mut self, stranger: &Stranger, refusal: Refusal) -> Vec<u8> {
        let refusal = Message::Refusal(refusal);
        let mut datagram = Vec::new();
        let secret = &self.epochs.current().secret;
        let former = secret.former_heartbeat_key(self.me.number(), &self.session);
        let former = former.filter(|_| stranger.former).map(|key| aead(&key));
        self.seal_with(stranger.node, (stranger.session, stranger.seq), &refusal, former, &mut datagram);
        datagram
    }
}

impl Stranger {
    fn new(header: &Header, message: &Message, former: bool) -> Self {
        let serves = match message {
            Message::Heartbeat(heartbeat) => matches!(heartbeat.phase, Phase::Serving | Phase::Stopping),
            Message::Part(_) | Message::Wish { .. } | Message::Answer { .. } | Message::Refusal(_) => false,
        };
        Self { node: header.sender, serves, former, session: header.session, seq: header.seq }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{introduced, link, message, node};
    use super::super::{Heard, Refused};
    use super::*;
    use crate::clock::Time;
    use crate::config::secret::ClusterSecret;
    use std::time::Duration;

    #[test]
    fn a_second_node_with_a_peers_priority_is_told_so_and_believes_it() {
        let (_, mut b) = introduced();
        let mut newcomer = link(1, 0xcc);
        let stranger = b.open_stranger(&newcomer.seal(node(2), &message(1))).unwrap();
        assert_eq!(stranger.node, node(1));
        let refused = Message::Refusal(Refusal::PriorityTaken);
        let heard = newcomer.open(&b.refuse(&stranger, Refusal::PriorityTaken));
        assert_eq!(heard, Ok(Heard { from: node(2), new_session: true, message: refused.clone() }));
        let again = b.open_stranger(&newcomer.seal(node(2), &message(2))).unwrap();
        let heard = newcomer.open(&b.refuse(&again, Refusal::PriorityTaken));
        assert_eq!(heard, Ok(Heard { from: node(2), new_session: false, message: refused }));
    }

    #[test]
    fn a_wrong_seal_is_told_of_a_configured_node_alone() {
        let (mut a, mut b) = introduced();
        let mut damaged = a.seal(node(2), &message(1));
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        // From an address that is not the node's, in a session of its own.
        let mut newcomer = link(1, 0xcc);
        let mut other = newcomer.seal(node(2), &message(1));
        other[last] ^= 1;
        assert!(matches!(b.open_stranger(&other), Err(Refused::Forged(_))), "{:?}", b.open_stranger(&other));
        b.set_peers(&[node(3)]);
        assert_eq!(b.open_stranger(&other), Err(Refused::Stranger));
        assert_eq!(b.open_stranger(&damaged), Err(Refused::Stranger));
    }

    #[test]
    fn a_refusal_of_another_session_is_not_believed() {
        let (mut a, mut b) = introduced();
        let mut before = link(1, 0xaa);
        let recorded = before.seal(node(2), &message(1));
        let stranger = b.open_stranger(&recorded).unwrap();
        assert_eq!(a.open(&b.refuse(&stranger, Refusal::PriorityTaken)), Err(Refused::Replay));
    }

    #[test]
    fn a_node_that_is_not_configured_is_told_so_and_one_that_was_is_no_longer_believed() {
        let (mut a, mut b) = introduced();
        b.set_peers(&[node(3)]);
        let said = a.seal(node(2), &message(5));
        assert_eq!(b.open(&said), Err(Refused::Stranger));
        let stranger = b.open_stranger(&said).unwrap();
        let heard = a.open(&b.refuse(&stranger, Refusal::NotConfigured)).unwrap();
        assert_eq!(heard.message, Message::Refusal(Refusal::NotConfigured));
        b.set_peers(&[node(1)]);
        assert_eq!(b.open(&a.seal(node(2), &message(6))), Err(Refused::Unproven(node(1))), "as a newcomer");
    }

    #[test]
    fn who_has_the_key_of_before_is_told_that_it_stays_out_and_nothing_it_says_is_believed() {
        let (mut a, mut b) = introduced();
        let text = ClusterSecret::successor(super::super::tests::SECRET, &[9; 32]).unwrap();
        b.switch(ClusterSecret::parse(&text).unwrap(), Time::from_nanos(0));
        b.handle_timeout(Time::from_nanos(0) + Duration::from_secs(5));
        let said = a.seal(node(2), &message(5));
        assert_eq!(b.open(&said), Err(Refused::Forged(node(1))));
        let former = b.former(&said).unwrap();
        assert_eq!((former.node, former.former), (node(1), true));
        let heard = a.open(&b.refuse(&former, Refusal::NotConfigured)).unwrap();
        assert_eq!(heard.message, Message::Refusal(Refusal::NotConfigured));
        // The same once it is not configured any more.
        b.set_peers(&[node(3)]);
        let stranger = b.open_stranger(&a.seal(node(2), &message(6))).unwrap();
        assert!(stranger.former);
        assert!(a.open(&b.refuse(&stranger, Refusal::NotConfigured)).is_ok());
        let mut recorded = said.clone();
        recorded[20] ^= 1;
        assert_eq!(b.former(&recorded), None, "without any key");
    }

    #[test]
    fn a_copy_of_what_a_node_says_makes_no_second_node() {
        let (mut a, b) = introduced();
        assert_eq!(b.open_stranger(&a.seal(node(2), &message(4))), Err(Refused::Replay));
    }

    #[test]
    fn without_the_key_nobody_is_answered() {
        let (_, b) = introduced();
        let other = crate::config::secret::ClusterSecret::parse(&"ff".repeat(32)).unwrap();
        let mut forger = Link::new(node(1), [node(2)], other, [7; 16]);
        assert_eq!(b.open_stranger(&forger.seal(node(2), &message(1))), Err(Refused::Forged(node(1))));
        assert_eq!(b.open_stranger(b"RLCL"), Err(Refused::Malformed(super::super::Malformed::Truncated)));
    }
}
