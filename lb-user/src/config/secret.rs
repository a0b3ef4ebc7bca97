//! The cluster secret and what is derived from it. One secret, a key for each purpose, so that no use of one can weaken
//! another.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use std::hash::Hasher as _;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use siphasher::sip::SipHasher13;
use thiserror::Error;

use crate::proxy::tls::TicketSecret;

/// The longest file that is read, bytes: room for the keys and some comments.
const MAX_BYTES: usize = 4096;

/// The most keys that a file may hold: two while one replaces the other, and one to spare.
const MAX_KEYS: usize = 3;

/// What all nodes of a cluster know and nobody else does.
#[derive(Clone)]
pub struct ClusterSecret {
    /// What seals; at least one key is there.
    first: Prk,
    /// What is accepted too, in the order of the file.
    others: Vec<Prk>,
    /// What was there before: for affinity cookies, and to know who has missed the change.
    previous: Option<Prk>,
    /// What the flow hash's key derives from.
    seed: Prk,
}

impl ClusterSecret {
    /// Reads the secret from its file, which must be readable by its owner alone.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let cannot = |source| SecretError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(cannot)?;
        let mode = file.metadata().map_err(cannot)?.mode();
        if mode & 0o077 != 0 {
            return Err(SecretError::Exposed { path: path.to_owned(), mode: mode & 0o777 });
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
        // What is not UTF-8 is no hexadecimal digit either.
        let malformed = |reason| SecretError::Malformed { path: path.to_owned(), reason };
        Self::parse(&String::from_utf8_lossy(&bytes)).map_err(malformed)
    }

    /// The secret that `text` spells: one to three lines of 64 hexadecimal digits, a key each, of which the first seals and all
    /// are accepted; and at most one line `seed` with 64 digits, the key that the flow hash comes from. Without it that is the
    /// key. Several keys need that line, or the spread of clients would change with the keys. At most one line `previous` with 64
    /// digits: the key of before, under which affinity cookies are accepted, and who still seals heartbeats with it is told that it
    /// has no part in the cluster; it opens nothing else. Empty lines and those that begin with `#` do not count.
    pub fn parse(text: &str) -> Result<Self, MalformedSecret> {
        if text.len() > MAX_BYTES {
            return Err(MalformedSecret::TooLong);
        }
        let (mut keys, mut seed, mut previous) = (Vec::new(), None, None);
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match *words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["seed", _] if seed.is_some() => return Err(MalformedSecret::SecondSeed { line: number }),
                ["seed", digits] => seed = Some(key(digits, number)?),
                ["previous", _] if previous.is_some() => {
                    return Err(MalformedSecret::SecondPrevious { line: number });
                }
                ["previous", digits] => previous = Some(key(digits, number)?),
                [_] if keys.len() == MAX_KEYS => return Err(MalformedSecret::TooManyKeys { line: number }),
                [digits] => keys.push(key(digits, number)?),
                [_, _, ..] => return Err(MalformedSecret::Line { line: number }),
            }
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or(MalformedSecret::NoKey)?;
        let others: Vec<Prk> = keys.collect();
        if seed.is_none() && !others.is_empty() {
            return Err(MalformedSecret::NoSeed);
        }
        let seed = seed.unwrap_or_else(|| first.clone());
        Ok(Self { first, others, previous, seed })
    }

    /// The text of the secret that follows the one that `text` spells: `key`, which nobody can guess, in place of what is there. Clients
    /// stay where they are: the flow hash goes on as before, and affinity cookies of before are accepted. Session tickets of before
    /// are not: who knows the old key could make one that names any client's certificate.
    pub fn successor(text: &str, key: &[u8; 32]) -> Result<String, MalformedSecret> {
        Self::parse(text)?;
        let lines = || text.lines().map(str::trim);
        let is_key = |line: &&str| line.len() == 64 && !line.starts_with('#');
        let first = lines().find(is_key).ok_or(MalformedSecret::NoKey)?;
        let seed = lines().find_map(|line| line.strip_prefix("seed")).map_or(first, str::trim);
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("{key}\nprevious {first}\nseed {seed}\n"))
    }

    /// The key of the flow hash: equal on all nodes, and the same before, while and after keys are changed with a `seed` line.
    pub fn hash_seed(&self) -> [u64; 2] {
        let bytes = derive(&self.seed, &[b"flow hash"]);
        let word =
            |at: usize| bytes[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        [word(0), word(8)]
    }

    /// Under which the proxy hashes requests to servers. Like the hash seed, from which it derives one way, it stays when keys
    /// are replaced.
    pub fn farm_seed(&self) -> [u64; 2] {
        let [one, two] = self.hash_seed();
        let part = |label: &[u8]| {
            let mut hasher = SipHasher13::new_with_keys(one, two);
            hasher.write(label);
            hasher.finish()
        };
        [part(b"farm one"), part(b"farm two")]
    }

    /// Under which the proxy makes affinity cookies: the first makes them, all are accepted. At most four.
    pub fn affinity_keys(&self) -> Vec<[u8; 32]> {
        let keys = std::iter::once(&self.first).chain(&self.others).chain(&self.previous);
        keys.map(|key| derive(key, &[b"affinity cookies"])).collect()
    }

    /// Under which the doctor signs the frames that it sends to other nodes: the first signs, all are accepted. At most three.
    pub(crate) fn doctor_keys(&self) -> Vec<[u8; 32]> {
        let keys = std::iter::once(&self.first).chain(&self.others);
        keys.map(|key| derive(key, &[b"doctor"])).collect()
    }

    /// What the keys of the proxy's session tickets derive from: the first seals, all are accepted. At most three.
    pub fn ticket_secrets(&self) -> Vec<TicketSecret> {
        let keys = std::iter::once(&self.first).chain(&self.others);
        keys.map(|key| TicketSecret::new(derive(key, &[b"session tickets"]))).collect()
    }

    /// The key that a node seals its heartbeats with, from one start of its agent (`session`) to the next.
    pub(crate) fn heartbeat_key(&self, sender: u8, session: &[u8; 16]) -> [u8; 32] {
        heartbeat_key(&self.first, sender, session)
    }

    /// The keys that heartbeats of `sender` may be sealed with, the likeliest first.
    pub(crate) fn heartbeat_keys(&self, sender: u8, session: &[u8; 16]) -> impl Iterator<Item = [u8; 32]> {
        let keys = std::iter::once(&self.first).chain(&self.others);
        keys.map(move |key| heartbeat_key(key, sender, session))
    }

    /// The same of the key of before, under which nothing is believed.
    pub(crate) fn former_heartbeat_key(&self, sender: u8, session: &[u8; 16]) -> Option<[u8; 32]> {
        self.previous.as_ref().map(|key| heartbeat_key(key, sender, session))
    }

    /// Whether it is the same as `other`.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let keys = |secret: &Self| secret.heartbeat_keys(0, &[0; 16]).collect::<Vec<_>>();
        let cookies = self.affinity_keys() == other.affinity_keys();
        self.hash_seed() == other.hash_seed() && keys(self) == keys(other) && cookies
    }

    /// Names the key that seals, and gives nothing of it away.
    pub(crate) fn key_id(&self) -> [u8; 8] {
        let derived = derive(&self.first, &[b"name of the key"]);
        std::array::from_fn(|index| derived[index])
    }
}

/// The key that 64 hexadecimal digits spell.
fn key(digits: &str, line: usize) -> Result<Prk, MalformedSecret> {
    let malformed = MalformedSecret::Line { line };
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(malformed);
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let pair = digits.get(2 * index..2 * index + 2).ok_or(malformed)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| malformed)?;
    }
    Ok(Salt::new(HKDF_SHA256, b"rollcall cluster secret v1").extract(&bytes))
}

fn heartbeat_key(key: &Prk, sender: u8, session: &[u8; 16]) -> [u8; 32] {
    derive(key, &[b"heartbeat", &[sender], session])
}

fn derive(key: &Prk, info: &[&[u8]]) -> [u8; 32] {
    let mut derived = [0; 32];
    let okm = key.expand(info, Bytes32).expect("32 bytes are within HKDF-SHA256's limit of 8160");
    okm.fill(&mut derived).expect("the output length is the one asked for");
    derived
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
    #[error("{path} is not a cluster secret: {reason}; hint: a line that `openssl rand -hex 32` printed, the same on every node", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: MalformedSecret,
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

/// Why a text is no cluster secret. What it says is not repeated: it may be a secret all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MalformedSecret {
    /// A line is something else.
    #[error("line {line} is neither 64 hexadecimal digits nor `seed` or `previous` and 64 of them")]
    Line {
        /// From 1.
        line: usize,
    },
    /// One key more than may be.
    #[error("line {line} is a fourth key: remove those that no node seals with any more")]
    TooManyKeys {
        /// From 1.
        line: usize,
    },
    /// One `seed` more than may be.
    #[error("line {line} is a second `seed`")]
    SecondSeed {
        /// From 1.
        line: usize,
    },
    /// One `previous` more than may be.
    #[error("line {line} is a second `previous`")]
    SecondPrevious {
        /// From 1.
        line: usize,
    },
    /// Several keys, and no `seed`.
    #[error(
        "it has several keys and no line `seed`: write `seed` and the key that was there before, so that clients stay where they are"
    )]
    NoSeed,
    /// There is no key.
    #[error("no line is a key of 64 hexadecimal digits")]
    NoKey,
    /// The file is too long.
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
}

#[cfg(test)]
mod tests;
