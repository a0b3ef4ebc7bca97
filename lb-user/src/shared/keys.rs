//! A node's keys: what it proves itself by, and the public part by which the configuration lists it.
//!
//! Three, so that no process holds more than it needs: the agent signs and opens what is sealed, the child that faces other nodes
//! has the key of its TLS connections alone. A child that was taken over can speak as its node, but sign nothing and read nothing.

use std::fmt;
use std::str::FromStr;

use age::secrecy::ExposeSecret as _;
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::text::{base64, hex, unbase64};

/// The private keys of a node.
pub struct NodeKeys {
    signing: Seed,
    transport: Seed,
    sealing: age::x25519::Identity,
}

/// What an Ed25519 key is made from (RFC 8032, section 5.1.5).
#[derive(Clone, Copy)]
pub struct Seed(pub [u8; 32]);

impl NodeKeys {
    /// The keys that come from these random seeds, and another of the system's for sealing.
    pub fn new(signing: Seed, transport: Seed) -> Self {
        Self { signing, transport, sealing: age::x25519::Identity::generate() }
    }

    /// The keys that the text of a key file spells; `None`: it is none. What it says is not repeated: it may be a secret all the
    /// same.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let file: KeyFile = toml::from_str(text).map_err(|_| KeyError::Malformed)?;
        let seed = |text: &str| unbase64(text).map(Seed).ok_or(KeyError::Malformed);
        let (signing, transport) = (seed(&file.signing)?, seed(&file.transport)?);
        let sealing = file.sealing.parse().map_err(|_| KeyError::Malformed)?;
        Ok(Self { signing, transport, sealing })
    }

    /// The text of a key file.
    pub fn text(&self) -> String {
        format!(
            "# The private keys of this Rollcall node. They never leave this host; the configuration lists the public ones.\n\
             signing = \"{}\"\ntransport = \"{}\"\nsealing = \"{}\"\n",
            base64(&self.signing.0),
            base64(&self.transport.0),
            self.sealing.to_string().expose_secret()
        )
    }

    /// What the others know this node by.
    pub fn public(&self) -> PublicKeys {
        PublicKeys {
            signing: self.signing.public(),
            transport: self.transport.public(),
            sealing: self.sealing.to_public(),
        }
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.signing.sign(message)
    }

    /// What the TLS key of connections between nodes is made from: all that the child which makes them needs.
    pub fn transport(&self) -> Seed {
        self.transport
    }

    /// Opens what is sealed to this node.
    pub(super) fn sealing(&self) -> &age::x25519::Identity {
        &self.sealing
    }
}

impl fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKeys({})", self.public())
    }
}

impl Seed {
    /// The key pair.
    pub fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&self.0)
            .expect("a seed is 32 bytes long, and any 32 bytes are one")
    }

    pub(super) fn sign(&self, message: &[u8]) -> Signature {
        let signature = self.pair().sign(message);
        Signature(signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes"))
    }

    /// The public half.
    pub fn public(&self) -> VerifyingKey {
        let pair = self.pair();
        VerifyingKey(pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes"))
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed(of {})", self.public())
    }
}

/// By which a node is known to the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeys {
    /// Verifies what its agent signs.
    pub signing: VerifyingKey,
    /// Verifies its TLS connections.
    pub transport: VerifyingKey,
    /// Seals for its agent.
    #[serde(with = "recipient")]
    pub sealing: age::x25519::Recipient,
}

impl PublicKeys {
    /// The three as one word, as the configuration has them.
    pub fn word(&self) -> String {
        format!("{}:{}:{}", self.signing, self.transport, self.sealing)
    }

    /// The first 16 hexadecimal digits of a digest over all three, to be compared by eye.
    pub fn fingerprint(&self) -> String {
        let mut context = Context::new(&SHA256);
        context.update(b"rollcall node keys\0");
        context.update(self.word().as_bytes());
        hex(&context.finish().as_ref()[..8])
    }
}

impl fmt::Display for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word())
    }
}

impl FromStr for PublicKeys {
    type Err = KeyError;

    fn from_str(word: &str) -> Result<Self, KeyError> {
        let mut parts = word.split(':');
        let (Some(signing), Some(transport), Some(sealing), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(KeyError::NoKeys);
        };
        Ok(Self {
            signing: signing.parse()?,
            transport: transport.parse()?,
            sealing: sealing.parse().map_err(|_| KeyError::NoKeys)?,
        })
    }
}

/// An Ed25519 public key (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    /// Whether who has the private key signed `message`.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, &signature.0).is_ok()
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature(pub [u8; 64]);

/// How 32 or 64 bytes are written.
macro_rules! spelt {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&base64(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }

        impl FromStr for $type {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                unbase64(text).map(Self).ok_or(KeyError::NoKeys)
            }
        }

        impl TryFrom<String> for $type {
            type Error = KeyError;

            fn try_from(text: String) -> Result<Self, KeyError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(of: $type) -> Self {
                of.to_string()
            }
        }
    };
}

spelt!(VerifyingKey);
spelt!(Signature);

mod recipient {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(key: &age::x25519::Recipient, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(key)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<age::x25519::Recipient, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    signing: String,
    transport: String,
    sealing: String,
}

/// Why something is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The text of a key file is something else.
    #[error("it is no key file of a Rollcall node")]
    Malformed,
    /// A word is no public key.
    #[error(
        "it is no node's public keys; hint: copy the whole word that `rollcall init` or `rollcall join` printed"
    )]
    NoKeys,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Always the same for a number, which is below 10.
    pub(crate) fn keys(number: u8) -> NodeKeys {
        let sealing = SEALING.get_or_init(|| std::array::from_fn(|_| age::x25519::Identity::generate()));
        let sealing = sealing[usize::from(number)].clone();
        NodeKeys { signing: Seed([number; 32]), transport: Seed([number + 100; 32]), sealing }
    }

    static SEALING: std::sync::OnceLock<[age::x25519::Identity; 10]> = std::sync::OnceLock::new();

    #[test]
    fn keys_survive_their_file_and_their_word() {
        let keys = keys(1);
        let again = NodeKeys::parse(&keys.text()).unwrap();
        assert_eq!(again.public(), keys.public());
        assert_eq!(again.text(), keys.text());
        assert_eq!(keys.public().word().parse(), Ok(keys.public()));
        for wrong in ["", "signing = 1", "signing = \"a\"\ntransport = \"b\"\nsealing = \"c\"\n"] {
            assert_eq!(NodeKeys::parse(wrong).unwrap_err(), KeyError::Malformed, "{wrong}");
        }
        let word = keys.public().word();
        for wrong in ["", "a:b:c", &word[1..], &format!("{word}:"), &word.replace("age1", "age2")] {
            assert_eq!(wrong.parse::<PublicKeys>(), Err(KeyError::NoKeys), "{wrong}");
        }
    }

    #[test]
    fn only_the_signer_s_key_verifies_and_only_what_was_signed() {
        let (mine, other) = (keys(1), keys(2));
        let signature = mine.sign(b"this");
        assert!(mine.public().signing.verifies(b"this", &signature));
        assert!(!mine.public().signing.verifies(b"that", &signature));
        assert!(!other.public().signing.verifies(b"this", &signature));
        assert!(!mine.public().transport.verifies(b"this", &signature));
    }

    #[test]
    fn no_private_key_is_in_what_is_printed_for_a_log() {
        let keys = keys(7);
        let shown = format!("{keys:?}");
        let file = keys.text();
        for secret in file.lines().skip(1).filter_map(|line| line.split('"').nth(1)) {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
