//! What only the listed nodes can read: the files that a configuration names, and the cluster secret. Sealed as age does
//! (<https://age-encryption.org/v1>): X25519 and ChaCha20-Poly1305, a stanza for each node.
//!
//! The random numbers are the library's own.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::generation::{MAX_BYTES, Roster};
use super::keys::NodeKeys;

/// What is sealed in a generation.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// The cluster secret, as the text of its file (`config::secret`).
    pub cluster: String,
    /// Counts the cluster secrets that there were: it grows when a node is removed or the secret is changed.
    pub epoch: u64,
    /// By the path that the configuration's text gives it, each file.
    pub files: BTreeMap<String, Bytes>,
}

/// The content of a file; its `Debug` says its length alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

impl Secrets {
    /// Sealed to every node of `roster`.
    pub fn seal(&self, roster: &Roster) -> Result<Vec<u8>, SealError> {
        let plain = serde_json::to_vec(self).map_err(|_| SealError::Plain)?;
        let to = roster.values().map(|keys| &keys.sealing as &dyn age::Recipient);
        let sealing = age::Encryptor::with_recipients(to).map_err(|_| SealError::NoNode)?;
        let mut sealed = Vec::with_capacity(plain.len() + 4096);
        let written = sealing.wrap_output(&mut sealed).and_then(|mut to| {
            to.write_all(&plain)?;
            to.finish().map(drop)
        });
        written.map_err(|_| SealError::Plain)?;
        if sealed.len() > MAX_SEALED {
            return Err(SealError::TooLong { bytes: sealed.len() });
        }
        Ok(sealed)
    }

    /// What was sealed to the node with these keys, among others.
    pub fn open(sealed: &[u8], keys: &NodeKeys) -> Result<Self, OpenError> {
        let opening = age::Decryptor::new_buffered(sealed).map_err(|_| OpenError::Malformed)?;
        let identity: &dyn age::Identity = keys.sealing();
        let opened = opening.decrypt(std::iter::once(identity)).map_err(|error| {
            let not_for_us = matches!(error, age::DecryptError::NoMatchingKeys);
            if not_for_us { OpenError::NotForUs } else { OpenError::Malformed }
        })?;
        let mut plain = Vec::new();
        opened.take(MAX_SEALED as u64 + 1).read_to_end(&mut plain).map_err(|_| OpenError::Malformed)?;
        if plain.len() > MAX_SEALED {
            return Err(OpenError::Malformed);
        }
        serde_json::from_slice(&plain).map_err(|_| OpenError::Malformed)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("epoch", &self.epoch)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl TryFrom<String> for Bytes {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD_NO_PAD.decode(text).map(Self)
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        STANDARD_NO_PAD.encode(bytes.0)
    }
}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// There is no node to seal to.
    #[error("no node has keys to seal to; hint: give every [[node]] its `keys`")]
    NoNode,
    /// It cannot be written.
    #[error("what is to be sealed cannot be written")]
    Plain,
    /// There is more than a generation holds.
    #[error(
        "the files that the configuration names have {bytes} bytes with all that belongs to them, more than the {MAX_SEALED} that a generation holds"
    )]
    TooLong {
        /// How much there is.
        bytes: usize,
    },
}

/// Why something sealed cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// It is not sealed to this node.
    #[error("it is not sealed to this node, which was not in the cluster when it was made")]
    NotForUs,
    /// It is damaged, or something else.
    #[error("what is sealed in it is damaged")]
    Malformed,
}

/// Most bytes that are sealed: a generation's less its text and header.
const MAX_SEALED: usize = MAX_BYTES - (2 << 20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::keys::tests::keys;

    fn secrets() -> Secrets {
        let files = [("file:/root/mail.pfx".to_owned(), Bytes(vec![0, 1, 255]))].into();
        Secrets { cluster: "00ff".to_owned(), epoch: 3, files }
    }

    #[test]
    fn the_listed_nodes_read_what_is_sealed_and_nobody_else() {
        let nodes = [keys(1), keys(2), keys(3)];
        let roster: Roster =
            nodes[..2].iter().zip(["a", "b"]).map(|(keys, name)| (name.to_owned(), keys.public())).collect();
        let sealed = secrets().seal(&roster).unwrap();
        for keys in &nodes[..2] {
            assert_eq!(Secrets::open(&sealed, keys), Ok(secrets()));
        }
        assert_eq!(Secrets::open(&sealed, &nodes[2]), Err(OpenError::NotForUs));
        assert_eq!(secrets().seal(&Roster::new()), Err(SealError::NoNode));
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let keys = keys(1);
        let sealed = secrets().seal(&[("a".to_owned(), keys.public())].into()).unwrap();
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(Secrets::open(&damaged, &keys).is_err(), "byte {at}");
            assert!(Secrets::open(&sealed[..at], &keys).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn no_secret_is_in_what_is_printed_for_a_log() {
        let shown = format!("{:?}", secrets());
        assert_eq!(shown, "Secrets { epoch: 3, files: {\"file:/root/mail.pfx\": 3 bytes}, .. }");
    }
}
