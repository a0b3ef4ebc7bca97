//! A link -> the link of the next program in the same process. Sessions and numbers go on, so that no nonce is used twice and
//! nothing old is heard again; keys are derived anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::epochs::Epochs;
use super::{Link, Peer, Session, SessionKey, aead};
use crate::config::model::Priority;
use crate::config::secret::ClusterSecret;

/// All of a link but the secret and what is derived from it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedLink {
    session: [u8; 16],
    seq: u64,
    peers: BTreeMap<Priority, SavedPeer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedPeer {
    proven: Option<SavedSession>,
    echoed: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedSession {
    id: [u8; 16],
    /// Of the secret's keys.
    key: usize,
    seq: u64,
    window: u128,
    heartbeat: u64,
}

impl Link {
    /// For `resume`. This link must not seal anything any more.
    pub(crate) fn save(&self) -> SavedLink {
        let current = self.epochs.current().id;
        let session = |session: &Session| SavedSession {
            id: session.id,
            // The next program accepts the secret in force alone: who is yet to switch to it does by its next heartbeat.
            key: if session.key.epoch == current { session.key.which } else { 0 },
            seq: session.seq,
            window: session.window,
            heartbeat: session.heartbeat,
        };
        let peer = |(&node, peer): (&Priority, &Peer)| {
            // One that waits for its proof comes again.
            (node, SavedPeer { proven: peer.proven.as_ref().map(session), echoed: peer.echoed })
        };
        SavedLink { session: self.session, seq: self.seq, peers: self.peers.iter().map(peer).collect() }
    }

    /// The link that `saved` was, of node `me` with the same secret. `None`: it was another secret.
    pub(crate) fn resume(saved: SavedLink, me: Priority, secret: ClusterSecret) -> Option<Self> {
        let epoch = secret.key_id();
        let session = |node: Priority, saved: SavedSession| {
            let bytes = secret.heartbeat_keys(node.number(), &saved.id).nth(saved.key)?;
            Some(Session {
                key: SessionKey { epoch, which: saved.key, aead: aead(&bytes) },
                id: saved.id,
                seq: saved.seq,
                window: saved.window,
                heartbeat: saved.heartbeat,
            })
        };
        let some = |node, saved: Option<SavedSession>| match saved {
            Some(saved) => session(node, saved).map(Some),
            None => Some(None),
        };
        let peer = |(node, saved): (Priority, SavedPeer)| {
            let proven = some(node, saved.proven)?;
            Some((node, Peer { proven, echoed: saved.echoed, ..Peer::default() }))
        };
        let peers = saved.peers.into_iter().map(peer).collect::<Option<_>>()?;
        let key = aead(&secret.heartbeat_key(me.number(), &saved.session));
        Some(Self { me, epochs: Epochs::new(secret), session: saved.session, seq: saved.seq, key, peers })
    }
}
