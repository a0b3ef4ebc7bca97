//! The cluster secret and what is derived from it. One secret, a key for each purpose, so that no use of one can weaken
//! another.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use thiserror::Error;

/// What all nodes of a cluster know and nobody else does.
#[derive(Clone)]
pub struct ClusterSecret(Prk);

impl ClusterSecret {
    /// Reads the secret from its file: 64 hexadecimal digits, readable by its owner alone.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let cannot = |source| SecretError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(cannot)?;
        let mode = file.metadata().map_err(cannot)?.mode();
        if mode & 0o077 != 0 {
            return Err(SecretError::Exposed { path: path.to_owned(), mode: mode & 0o777 });
        }
        let mut text = String::new();
        file.by_ref().take(1024).read_to_string(&mut text).map_err(cannot)?;
        Self::parse(&text).ok_or_else(|| SecretError::Malformed { path: path.to_owned() })
    }

    /// The secret that `text` spells, or `None` unless it is 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(Salt::new(HKDF_SHA256, b"rollcall cluster secret v1").extract(&bytes)))
    }

    /// The key of the flow hash: equal on all nodes.
    pub fn hash_seed(&self) -> [u64; 2] {
        let bytes = self.derive(&[b"flow hash"]);
        let word =
            |at: usize| bytes[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        [word(0), word(8)]
    }

    /// The key that a node seals its heartbeats with, from one start of its agent (`session`) to the next.
    pub(crate) fn heartbeat_key(&self, sender: u8, session: &[u8; 16]) -> [u8; 32] {
        self.derive(&[b"heartbeat", &[sender], session])
    }

    fn derive(&self, info: &[&[u8]]) -> [u8; 32] {
        let mut key = [0; 32];
        let okm = self.0.expand(info, Bytes32).expect("32 bytes are within HKDF-SHA256's limit of 8160");
        okm.fill(&mut key).expect("the output length is the one asked for");
        key
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

/// Why there is no cluster secret. Nothing was changed.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the cluster secret {path}; hint: openssl rand -hex 32 > {path} && chmod 600 {path}, then copy it to every node", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path} is not a cluster secret: expected 64 hexadecimal digits; hint: openssl rand -hex 32 > {path}, the same on every node", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner can read it.
    #[error("the cluster secret {path} is open to others (mode {mode:03o}); hint: chmod 600 {path}", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn keys_differ_by_purpose_sender_and_session() {
        let secret = ClusterSecret::parse(SECRET).unwrap();
        let a = secret.heartbeat_key(1, &[0; 16]);
        assert_ne!(a, secret.heartbeat_key(2, &[0; 16]));
        assert_ne!(a, secret.heartbeat_key(1, &[1; 16]));
        assert_eq!(a, secret.heartbeat_key(1, &[0; 16]));
    }

    #[test]
    fn only_64_hexadecimal_digits_are_a_secret() {
        assert!(ClusterSecret::parse(&format!("{SECRET}\n")).is_some());
        for bad in
            ["", "00", &SECRET[1..], &SECRET.replace('f', "g"), &format!("{SECRET}00"), &"é".repeat(32)]
        {
            assert!(ClusterSecret::parse(bad).is_none(), "{bad}");
        }
    }
}
