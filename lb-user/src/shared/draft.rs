//! What becomes a generation: a text from a file, and the files that it names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use thiserror::Error;
use toml_edit::{DocumentMut, TomlError};

use super::generation::{Content, GenerationId, Roster};
use super::origin::held;
use super::sealed::{Bytes, SealError, Secrets};
use super::text::hex;
use crate::config::held::named;
use crate::config::model::{Cluster, Files};
use crate::config::secret::{ClusterSecret, MalformedSecret};
use crate::config::{self, ConfigErrors};
use crate::control::api::{CertificateFacts, FileFacts};
use crate::proxy::tls::Facts;
use crate::wall::WallTime;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The configuration.
    pub text: String,
    /// The files that it names, and the cluster secret.
    pub secrets: Secrets,
    /// Files that the generation before holds and that the disk has with another content: they were not read again.
    pub kept: Vec<String>,
}

impl Draft {
    /// What `text`, which was read from `path`, is with its files: those that `before` holds, and others from this host's disk;
    /// with `reread` all that the disk has.
    pub fn new(text: String, path: &Path, before: &Secrets, reread: bool) -> Result<Self, DraftError> {
        let cluster = config::cluster_of(text.as_bytes(), path)?;
        let (mut files, mut kept) = (BTreeMap::new(), Vec::new());
        for path in named(&cluster) {
            let name = path.to_string_lossy().into_owned();
            let (held, found) = (before.files.get(&name), Files::Disk.read(path));
            let content = match (held, found) {
                (Some(held), Ok(found)) if !reread => {
                    if held.0 != found {
                        kept.push(name.clone());
                    }
                    held.clone()
                }
                (_, Ok(found)) => Bytes(found),
                (Some(held), Err(_)) => held.clone(),
                (None, Err(source)) => return Err(DraftError::File { path: path.to_owned(), source }),
            };
            files.insert(name, content);
        }
        Ok(Self { text, secrets: Secrets { files, ..before.clone() }, kept })
    }

    /// With the next epoch of the cluster secret: `key`, which nobody can guess, in place of the one before.
    pub fn with_next_secret(self, key: &[u8; 32]) -> Result<Self, DraftError> {
        let cluster = ClusterSecret::successor(&self.secrets.cluster, key)?;
        let epoch = self.secrets.epoch.saturating_add(1);
        Ok(Self { secrets: Secrets { cluster, epoch, ..self.secrets }, ..self })
    }

    /// As the content of a generation, sealed to these nodes.
    pub fn seal(&self, roster: &Roster) -> Result<Content, SealError> {
        Ok(Content { text: self.text.clone(), sealed: self.secrets.seal(roster)? })
    }
}

/// The text in a file, and the generation that it says it was made from: lines that begin with `#:` above all others are what
/// `rollcall config show` prints, and not part of it.
pub fn read(path: &Path) -> Result<(String, Option<GenerationId>), DraftError> {
    let cannot = |source| DraftError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX);
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() > LONGEST {
        return Err(cannot(io::ErrorKind::FileTooLarge.into()));
    }
    let text = String::from_utf8(bytes).map_err(|_| cannot(io::ErrorKind::InvalidData.into()))?;
    let made_from = text.lines().next().and_then(|line| line.strip_prefix(MADE_FROM));
    let made_from = made_from.and_then(|id| id.trim().parse().ok());
    let printed = text.split_inclusive('\n').take_while(|line| line.starts_with(PRINTED)).map(str::len).sum();
    Ok((text[printed..].to_owned(), made_from))
}

/// What lines begin with that `rollcall config show` prints above a text.
const PRINTED: &str = "#: ";

/// What the first line of a text begins with that says which generation it was made from.
pub const MADE_FROM: &str = "#: generation ";

/// The nodes that a text lists, with their keys.
pub fn roster(text: &str) -> Result<Roster, DraftError> {
    let cluster = config::cluster_of(text.as_bytes(), Path::new("the configuration"))?;
    let with_keys = |node: &config::model::Node| {
        let keys = node.keys.clone().ok_or_else(|| DraftError::NoKeys { node: node.name.clone() })?;
        Ok((node.name.clone(), keys))
    };
    cluster.nodes.iter().map(with_keys).collect()
}

/// `text` with the nodes of `other` in place of its own.
pub fn with_nodes_of(text: &str, other: &str) -> Result<String, DraftError> {
    let mut document: DocumentMut = text.parse().map_err(DraftError::Toml)?;
    let other: DocumentMut = other.parse().map_err(DraftError::Toml)?;
    let nodes = other.get("node").cloned().unwrap_or_default();
    document.insert("node", nodes);
    Ok(document.to_string())
}

/// What each of the files that a generation holds is, with nothing secret.
pub fn facts(text: &str, secrets: &Secrets) -> Vec<FileFacts> {
    // Who could make a generation of it has checked it.
    let certificates = config::cluster_of(text.as_bytes(), Path::new("the configuration"))
        .map(|cluster| certificates(&cluster, secrets))
        .unwrap_or_default();
    // Of what never changes, so that files can be compared across changes of the secret.
    let seed = ClusterSecret::parse(&secrets.cluster).map(|secret| secret.hash_seed()).unwrap_or_default();
    let key = Key::new(HMAC_SHA256, format!("rollcall file facts {seed:?}").as_bytes());
    let fact = |(path, bytes): (&String, &Bytes)| FileFacts {
        path: path.clone(),
        bytes: bytes.0.len(),
        digest: hex(&hmac::sign(&key, &bytes.0).as_ref()[..8]),
        certificate: certificates.get(Path::new(path)).cloned(),
    };
    secrets.files.iter().map(fact).collect()
}

/// By the path of its file, each site's certificate, and each CA's.
fn certificates(cluster: &Cluster, secrets: &Secrets) -> BTreeMap<PathBuf, CertificateFacts> {
    let files = held(secrets);
    let facts = |sites: Vec<String>, facts: Facts| CertificateFacts {
        sites,
        names: facts.names,
        not_after: facts.not_after.map(|end| WallTime::from_unix_ms(end.saturating_mul(1000))),
        fingerprint: facts.sha256.to_string(),
    };
    let of_cas = config::held::authorities(cluster).into_iter().filter_map(|path| {
        let first = CertificateDer::pem_slice_iter(&files.read(path).ok()?).next()?.ok()?;
        let of = Facts::of(&first);
        // A CA is for no host.
        let names = vec![of.subject.clone()];
        Some((path.to_owned(), facts(Vec::new(), Facts { names, ..of })))
    });
    let of_sites = config::certificates::served(cluster, &files).into_iter();
    of_cas.chain(of_sites.map(|of| (of.file, facts(of.sites, of.facts)))).collect()
}

/// Why nothing can become a generation.
#[derive(Debug, Error)]
pub enum DraftError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}; hint: a text file in UTF-8 of at most 1 MiB", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that it names can be read neither here nor in the generation before.
    #[error("cannot read {path}, which the configuration names; hint: apply it on the node that has the file", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has errors.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The cluster secret of before is none.
    #[error("the cluster secret in force cannot be followed by another")]
    Secret(#[from] MalformedSecret),
    /// It is no TOML.
    #[error("it is no TOML")]
    Toml(#[source] TomlError),
    /// A node has no keys.
    #[error(
        "node {node} has no `keys`, so nothing can be sealed to it; hint: `rollcall join` on it puts it into the configuration"
    )]
    NoKeys {
        /// The node.
        node: String,
    },
}

/// Longest text, bytes.
const LONGEST: usize = 1 << 20;
