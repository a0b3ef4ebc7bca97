//! Session tickets (RFC 5077, RFC 8446 4.6.1) that every node of the cluster issues and accepts, without a word between
//! them: the keys derive from a secret that all have, the site's policy and the time. Pure: the clock is an argument.
//!
//! A ticket is `key id (16) | nonce (12) | sealed session | tag (16)`, AES-256-GCM with a random nonce and the key id as
//! associated data. A key is one epoch's. The current epoch's seals; the previous, the current and the next one's open, so
//! that a ticket lives at least one epoch, at most two, and nodes' clocks may differ by one.
//!
//! What it costs: who has the ticket secret can open every ticket ever issued under it. A TLS 1.3 session stays secret all
//! the same, as each resumption agrees on fresh keys (RFC 8446 2.2); of a TLS 1.2 session that used tickets, whoever
//! recorded it can then read all. That holds until the secret is replaced; epochs do not bound it, as each derives from the
//! secret. A key alone, without the secret, opens the tickets of one site and one epoch.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

use super::site::Policy;

/// What tickets' keys derive from. Does not show itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TicketSecret([u8; 32]);

impl TicketSecret {
    /// Wraps 32 bytes that nobody can guess.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketSecret(..)")
    }
}

/// Seconds since 1970, as the nodes agree on them.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What the tickets of all sites have in common.
#[derive(Clone)]
pub struct TicketSettings {
    /// The secrets, at least one: the first seals, all open. Two while one replaces the other.
    pub secrets: Vec<TicketSecret>,
    /// How long a key seals, in seconds; 1 to 302,400, so that no ticket outlives RFC 8446's seven days.
    pub epoch: u32,
    /// The time.
    pub clock: Clock,
}

/// Issues and accepts the tickets of one site under one policy.
pub(super) struct Tickets {
    secrets: Vec<Prk>,
    policy: Policy,
    epoch: u32,
    clock: Clock,
    keys: ArcSwap<Keys>,
}

impl Tickets {
    pub(super) fn new(settings: &TicketSettings, policy: Policy) -> Self {
        let salt = Salt::new(HKDF_SHA256, b"rollcall session tickets v1");
        let secrets: Vec<Prk> = settings.secrets.iter().map(|secret| salt.extract(&secret.0)).collect();
        let epoch = settings.epoch.clamp(1, LONGEST_EPOCH);
        let now = (settings.clock)() / u64::from(epoch);
        let keys = ArcSwap::from_pointee(Keys::derive(&secrets, &policy, now));
        Self { secrets, policy, epoch, clock: Arc::clone(&settings.clock), keys }
    }

    /// The keys of now. Those of epochs that are over are forgotten.
    fn keys(&self) -> Arc<Keys> {
        let epoch = (self.clock)() / u64::from(self.epoch);
        let keys = self.keys.load_full();
        if keys.epoch == epoch {
            return keys;
        }
        let keys = Arc::new(Keys::derive(&self.secrets, &self.policy, epoch));
        self.keys.store(Arc::clone(&keys));
        keys
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    /// A key accepts for at least this long after it has sealed.
    fn lifetime(&self) -> u32 {
        self.epoch
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > LONGEST_SESSION {
            return None;
        }
        self.keys().sealing.as_ref()?.seal(plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > LONGEST_SESSION + OVERHEAD {
            return None;
        }
        let (id, sealed) = ticket.split_first_chunk::<ID_LEN>()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys();
        let key = keys.sealing.iter().chain(&keys.accepted).find(|key| key.id == *id)?;
        key.open(*nonce, sealed)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(..)")
    }
}

/// The keys of one time.
struct Keys {
    epoch: u64,
    /// `None` without a secret: then there are no tickets.
    sealing: Option<TicketKey>,
    accepted: Vec<TicketKey>,
}

impl Keys {
    fn derive(secrets: &[Prk], policy: &Policy, epoch: u64) -> Self {
        let mut keys = secrets.iter().map(|secret| TicketKey::derive(secret, policy, epoch));
        let sealing = keys.next();
        let others = keys.collect::<Vec<_>>();
        let neighbours = epoch.checked_sub(1).into_iter().chain(epoch.checked_add(1));
        let neighbours = neighbours
            .flat_map(|epoch| secrets.iter().map(move |secret| TicketKey::derive(secret, policy, epoch)));
        Self { epoch, sealing, accepted: others.into_iter().chain(neighbours).collect() }
    }
}

/// A key and how tickets name it. With random nonces a key is good for 2^32 tickets (NIST SP 800-38D 8.3): 100,000 a second
/// for half a day.
struct TicketKey {
    id: [u8; ID_LEN],
    key: RandomizedNonceKey,
}

impl TicketKey {
    fn derive(secret: &Prk, policy: &Policy, epoch: u64) -> Self {
        let epoch = epoch.to_be_bytes();
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&expand(secret, &[b"id", policy.bytes(), &epoch])[..ID_LEN]);
        let key = expand(secret, &[b"key", policy.bytes(), &epoch]);
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key);
        Self { id, key: key.expect("invariant: AES-256 takes a key of 32 bytes") }
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD);
        sealed.extend_from_slice(plain);
        let nonce = self.key.seal_in_place_append_tag(Aad::from(self.id), &mut sealed).ok()?;
        sealed.splice(0..0, self.id.iter().chain(nonce.as_ref()).copied());
        Some(sealed)
    }

    fn open(&self, nonce: [u8; NONCE_LEN], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = self.key.open_in_place(nonce, Aad::from(self.id), &mut buffer).ok()?.len();
        buffer.truncate(plain);
        Some(buffer)
    }
}

/// HKDF-Expand (RFC 5869 2.3).
fn expand(secret: &Prk, info: &[&[u8]]) -> [u8; 32] {
    let mut derived = [0; 32];
    let okm = secret.expand(info, HKDF_SHA256).expect("invariant: one hash length is within HKDF's limit");
    okm.fill(&mut derived).expect("invariant: the output length is the one asked for");
    derived
}

const ID_LEN: usize = 16;

/// What a ticket has besides the session: key id, nonce, tag.
const OVERHEAD: usize = ID_LEN + NONCE_LEN + 16;

/// Longest session in bytes that gets a ticket. One without a client's certificate has some 150; a client's chain comes on top.
/// Clients send tickets back in each greeting, so longer ones would cost more than they save.
const LONGEST_SESSION: usize = 8 << 10;

/// Half of RFC 8446 4.6.1's seven days, in seconds.
const LONGEST_EPOCH: u32 = 302_400;

#[cfg(test)]
mod tests;
