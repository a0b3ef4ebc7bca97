//! Join tokens: what lets a host that nobody knows yet into the cluster, once and not for long.
//!
//! A token is a secret of the node that issued it. It carries that node's address and TLS key, so that the newcomer knows whom it
//! speaks to, and the seed of a signing key of its own: the newcomer *proves* that it has the token by a signature over its keys,
//! and the token itself never travels. On the issuer's disk lies the public half: who reads it there can join nothing.
//!
//! A token is spent on the disk before the answer to it leaves the node: two who come with one, at once or with a restart between,
//! are not both let in.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::generation::digest;
use super::keys::{PublicKeys, Seed, Signature, VerifyingKey};
use super::text::{hex, unhex};
use crate::config::secret::ClusterSecret;

/// What the operator carries from one node to the next. Its `Debug` and `Display` differ: the latter is the secret.
#[derive(Clone)]
pub struct Token {
    /// The cluster.
    pub cluster: ClusterId,
    /// By which the issuer's end of a TLS connection is known.
    pub issuer: VerifyingKey,
    /// The second since 1970 at which it is worth nothing any more.
    pub expires: u64,
    seed: Seed,
}

impl Token {
    /// A token of the node with this TLS key; `seed` is random.
    pub fn new(cluster: ClusterId, issuer: VerifyingKey, expires: u64, seed: Seed) -> Self {
        Self { cluster, issuer, expires, seed }
    }

    /// What the issuer keeps.
    pub fn issued(&self) -> Issued {
        Issued { key: self.seed.public(), expires: self.expires }
    }

    /// The proof that whoever wants in so has the token.
    pub fn prove(&self, newcomer: &Newcomer) -> Proof {
        Proof {
            cluster: self.cluster,
            key: self.seed.public(),
            signature: self.seed.sign(&newcomer.signed(self.cluster)),
        }
    }

    /// The token as one word: whoever knows it can join.
    pub fn word(&self) -> String {
        let bytes = [&self.cluster.0[..], &self.issuer.0, &self.expires.to_be_bytes(), &self.seed.0].concat();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({:?}, until {})", self.cluster, self.expires)
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(word: &str) -> Result<Self, NoToken> {
        let coded = word.trim().strip_prefix(PREFIX).filter(|coded| coded.len() <= 200).ok_or(NoToken)?;
        let bytes = URL_SAFE_NO_PAD.decode(coded).map_err(|_| NoToken)?;
        let (cluster, rest) = bytes.split_first_chunk().ok_or(NoToken)?;
        let (issuer, rest) = rest.split_first_chunk().ok_or(NoToken)?;
        let (expires, rest) = rest.split_first_chunk().ok_or(NoToken)?;
        let seed = rest.try_into().map_err(|_| NoToken)?;
        Ok(Self {
            cluster: ClusterId(*cluster),
            issuer: VerifyingKey(*issuer),
            expires: u64::from_be_bytes(*expires),
            seed: Seed(seed),
        })
    }
}

/// By which a cluster is told from others: it comes from what its flow hash does, which never changes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId([u8; 32]);

impl ClusterId {
    /// That of the cluster with this secret.
    pub fn of(secret: &ClusterSecret) -> Self {
        let seed = secret.hash_seed().map(u64::to_le_bytes);
        Self(digest(b"rollcall cluster id\0", seed.as_flattened()))
    }
}

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl std::fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0[..6]))
    }
}

impl TryFrom<String> for ClusterId {
    type Error = NoToken;

    fn try_from(text: String) -> Result<Self, NoToken> {
        unhex(&text).map(Self).ok_or(NoToken)
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> Self {
        id.to_string()
    }
}

/// A word is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "that is no join token; hint: copy the whole word that `rollcall token` printed on a node of the cluster"
)]
pub struct NoToken;

/// Who wants in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newcomer {
    /// Its name.
    pub name: String,
    /// Its own address in the cluster IP's network.
    pub address: Ipv4Addr,
    /// Its host priority; `None`: the lowest that is free.
    pub priority: Option<u8>,
    /// What it will be known by.
    pub keys: PublicKeys,
}

impl Newcomer {
    fn signed(&self, cluster: ClusterId) -> Vec<u8> {
        let Self { name, address, priority, keys } = self;
        let priority = priority.map_or("any".to_owned(), |priority| priority.to_string());
        format!("rollcall join 1\0{cluster}\n{name}\n{address}\n{priority}\n{keys}\n").into_bytes()
    }
}

/// That a newcomer has a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Of which cluster it says that it is.
    pub cluster: ClusterId,
    /// Which: its public half.
    pub key: VerifyingKey,
    /// By its private one, over the newcomer's own words.
    pub signature: Signature,
}

/// What the issuer keeps of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// Its public half.
    pub key: VerifyingKey,
    /// The second since 1970 at which it is worth nothing any more.
    pub expires: u64,
}

/// The tokens that a node has issued, on its disk.
#[derive(Clone, Debug)]
pub struct Tokens {
    folder: PathBuf,
}

impl Tokens {
    /// Those in the state folder.
    pub fn of(state_dir: &Path) -> Self {
        Self { folder: Self::folder(state_dir) }
    }

    /// Where they are in the state folder.
    pub fn folder(state_dir: &Path) -> PathBuf {
        state_dir.join(FOLDER)
    }

    /// Keeps one that was issued; those that are over by `now`, in seconds since 1970, go.
    pub fn issue(&self, issued: &Issued, now: u64) -> Result<(), TokenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|source| self.failed(source))?;
        self.sweep(now)?;
        if self.out(now)? >= MOST {
            return Err(TokenError::TooMany);
        }
        let text = serde_json::to_string(issued).map_err(|error| self.failed(error.into()))?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(&issued.key));
        file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|source| self.failed(source))
    }

    /// How many are out at `now`.
    pub fn out(&self, now: u64) -> Result<usize, TokenError> {
        Ok(self
            .all()?
            .into_iter()
            .filter(|(_, issued)| issued.as_ref().is_some_and(|issued| issued.expires > now))
            .count())
    }

    /// Whether `proof` is that of a token which is out at `now`, by who wants in so. Changes nothing.
    pub fn check(
        &self,
        cluster: ClusterId,
        newcomer: &Newcomer,
        proof: &Proof,
        now: u64,
    ) -> Result<(), TokenError> {
        if proof.cluster != cluster {
            return Err(TokenError::OtherCluster);
        }
        let all = self.all()?;
        let issued = all.into_iter().filter_map(|(_, issued)| issued).find(|issued| issued.key == proof.key);
        let issued = issued.ok_or(TokenError::Unknown)?;
        if !proof.key.verifies(&newcomer.signed(cluster), &proof.signature) {
            return Err(TokenError::Proof);
        }
        if issued.expires <= now { Err(TokenError::Expired) } else { Ok(()) }
    }

    /// The token is worth nothing from here on: once this returns the disk says so, and nobody else has spent it.
    pub fn spend(&self, proof: &Proof) -> Result<(), TokenError> {
        match fs::remove_file(self.path(&proof.key)) {
            Ok(()) => File::open(&self.folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|source| self.failed(source)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(TokenError::Unknown),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn sweep(&self, now: u64) -> Result<(), TokenError> {
        for (path, issued) in self.all()? {
            if issued.is_none_or(|issued| issued.expires <= now) {
                fs::remove_file(path).map_err(|source| self.failed(source))?;
            }
        }
        Ok(())
    }

    /// All files; `None`: it is none.
    fn all(&self) -> Result<Vec<(PathBuf, Option<Issued>)>, TokenError> {
        let files = match fs::read_dir(&self.folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.failed(source)),
        };
        let read = |path: PathBuf| {
            let issued = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            (path, issued)
        };
        let paths =
            files.take(2 * MOST).map(|file| file.map(|file| file.path())).collect::<Result<Vec<_>, _>>();
        Ok(paths.map_err(|source| self.failed(source))?.into_iter().map(read).collect())
    }

    fn path(&self, key: &VerifyingKey) -> PathBuf {
        self.folder.join(hex(&key.0))
    }

    fn failed(&self, source: io::Error) -> TokenError {
        TokenError::Disk { path: self.folder.clone(), source }
    }
}

/// Why a token lets nobody in.
#[derive(Debug, Error)]
pub enum TokenError {
    /// It is another node's, was used, or never was.
    #[error(
        "this node did not issue that token, or it was used: each lets one node in; hint: `rollcall token` on this node prints another"
    )]
    Unknown,
    /// It is another cluster's.
    #[error(
        "that token is another cluster's; hint: is this the address that `rollcall token` printed with it?"
    )]
    OtherCluster,
    /// It is over.
    #[error("that token has expired; hint: `rollcall token` on this node prints another")]
    Expired,
    /// The signature is not the token's.
    #[error("the proof is not that of the token; hint: copy the whole word that `rollcall token` printed")]
    Proof,
    /// Too many are out.
    #[error("{MOST} join tokens are out already; hint: wait until some expire")]
    TooMany,
    /// The disk.
    #[error("cannot keep join tokens in {path}; hint: is the disk full?", path = path.display())]
    Disk {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How long a token is good for where nothing else is said.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(15 * 60);

/// How long at most.
pub const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

const PREFIX: &str = "rollcall-join-";

const FOLDER: &str = "tokens";

/// Most tokens that are out.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::keys::tests::keys;
    use crate::shared::store::tests::Folder;

    const NOW: u64 = 1000;

    fn token(seed: u8) -> Token {
        let cluster = ClusterId::of(&ClusterSecret::parse(&"07".repeat(32)).unwrap());
        Token::new(cluster, keys(1).public().transport, NOW + 60, Seed([seed; 32]))
    }

    fn newcomer(node: u8) -> Newcomer {
        let address = Ipv4Addr::new(192, 168, 50, node);
        Newcomer { name: format!("arr{node}"), address, priority: None, keys: keys(node).public() }
    }

    #[test]
    fn a_token_survives_being_a_word_and_nothing_else_is_taken_for_one() {
        let token = token(1);
        let again: Token = token.word().parse().unwrap();
        assert_eq!(
            (again.cluster, again.issuer, again.expires),
            (token.cluster, token.issuer, token.expires)
        );
        assert_eq!(again.prove(&newcomer(2)), token.prove(&newcomer(2)));
        let word = token.word();
        for wrong in
            ["", "rollcall-join-", &word[1..], &word[..word.len() - 1], &format!("{word}A"), &"a".repeat(500)]
        {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
        assert!(!format!("{token:?}").contains(&word[word.len() - 20..]));
    }

    #[test]
    fn a_token_lets_one_in_before_it_expires_and_nobody_twice() {
        let folder = Folder::new();
        let tokens = Tokens::of(&folder.0);
        let (token, other) = (token(1), token(2));
        tokens.issue(&token.issued(), NOW).unwrap();
        let check = |proof: &Proof, now| tokens.check(token.cluster, &newcomer(2), proof, now);
        let proof = token.prove(&newcomer(2));
        assert!(check(&proof, NOW).is_ok());
        assert!(matches!(check(&proof, NOW + 60), Err(TokenError::Expired)));
        assert!(matches!(check(&other.prove(&newcomer(2)), NOW), Err(TokenError::Unknown)));
        assert!(
            matches!(check(&token.prove(&newcomer(3)), NOW), Err(TokenError::Proof)),
            "for another's keys"
        );
        let other_cluster = ClusterId::of(&ClusterSecret::parse(&"08".repeat(32)).unwrap());
        let elsewhere = tokens.check(other_cluster, &newcomer(2), &proof, NOW);
        assert!(matches!(elsewhere, Err(TokenError::OtherCluster)));
        // A restart between.
        let tokens = Tokens::of(&folder.0);
        assert!(tokens.spend(&proof).is_ok());
        assert!(matches!(tokens.spend(&proof), Err(TokenError::Unknown)));
        assert!(matches!(tokens.check(token.cluster, &newcomer(2), &proof, NOW), Err(TokenError::Unknown)));
    }

    #[test]
    fn the_disk_of_the_issuer_does_not_give_the_token_away_and_old_ones_go() {
        let folder = Folder::new();
        let tokens = Tokens::of(&folder.0);
        let token = token(1);
        tokens.issue(&token.issued(), NOW).unwrap();
        let kept = fs::read_to_string(tokens.path(&token.issued().key)).unwrap();
        assert!(!kept.contains(&super::super::text::base64(&token.seed.0)), "{kept}");
        assert_eq!((tokens.out(NOW).unwrap(), tokens.out(NOW + 60).unwrap()), (1, 0));
        let later = Token { expires: NOW + 200, seed: Seed([9; 32]), ..token };
        tokens.issue(&later.issued(), NOW + 100).unwrap();
        assert_eq!(tokens.all().unwrap().len(), 1, "what is over was swept up");
    }
}
