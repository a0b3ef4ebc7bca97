//! What becomes a generation: a text from a file, and the files that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use similar::TextDiff;
use thiserror::Error;
use toml_edit::{ArrayOfTables, DocumentMut, TomlError};

use super::founding::keep_in_rules;
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
    let text = config::text_of(path)?;
    let made_from = text.lines().next().and_then(|line| line.strip_prefix(MADE_FROM));
    let made_from = made_from.and_then(|id| id.trim().parse().ok());
    let printed = text.split_inclusive('\n').take_while(|line| line.starts_with(PRINTED)).map(str::len).sum();
    Ok((text[printed..].to_owned(), made_from))
}

/// What lines begin with that `rollcall config show` prints above a text.
const PRINTED: &str = "#: ";

/// What the first line of a text begins with that says which generation it was made from.
pub const MADE_FROM: &str = "#: generation ";

/// What `new` says otherwise than `old`, as a colon and the lines of a unified diff: at most 40, each of at most 200 characters, and found out in at
/// most a tenth of a second or so; empty if nothing differs but how lines end.
pub fn changed(old: &str, new: &str) -> String {
    let [old, new] = [old, new].map(|text| text.replace('\r', ""));
    let texts = TextDiff::configure().timeout(DIFF_TIME).diff_lines(&old, &new);
    let unified = texts.unified_diff().context_radius(0).to_string();
    let lines =
        unified.lines().take(MOST_CHANGED).map(|line| line.chars().take(LONGEST_LINE).collect::<String>());
    let mut told: Vec<String> = lines.collect();
    if unified.lines().nth(MOST_CHANGED).is_some() {
        told.push("  and more".to_owned());
    }
    if told.is_empty() { String::new() } else { format!(":\n{}", told.join("\n")) }
}

/// See [`changed`].
const DIFF_TIME: Duration = Duration::from_millis(100);
const MOST_CHANGED: usize = 40;
const LONGEST_LINE: usize = 200;

/// The nodes that a text lists, with their keys.
pub fn roster(text: &str) -> Result<Roster, DraftError> {
    let cluster = config::cluster_of(text.as_bytes(), Path::new("the configuration"))?;
    let with_keys = |node: &config::model::Node| {
        let keys = node.keys.clone().ok_or_else(|| DraftError::NoKeys { node: node.name.clone() })?;
        Ok((node.name.clone(), keys))
    };
    cluster.nodes.iter().map(with_keys).collect()
}

/// `text` with the nodes of `other` in place of its own, and without what its rules say of nodes that are none of these.
pub fn with_nodes_of(text: &str, other: &str) -> Result<String, DraftError> {
    let mut document: DocumentMut = text.parse().map_err(DraftError::Toml)?;
    let other: DocumentMut = other.parse().map_err(DraftError::Toml)?;
    let nodes = other.get("node").cloned().unwrap_or_default();
    let tables = nodes.as_array_of_tables().into_iter().flat_map(ArrayOfTables::iter);
    let names: BTreeSet<String> =
        tables.filter_map(|node| node.get("name")?.as_str().map(str::to_owned)).collect();
    document.insert("node", nodes);
    keep_in_rules(&mut document, |name| names.contains(name));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_by_few_short_lines_and_not_how_lines_end() {
        assert_eq!(changed("a\nb\n", "a\r\nb\r\n"), "");
        assert_eq!(changed("a\nb\n", "a\nc\n"), ":\n@@ -2 +2 @@\n-b\n+c");
        let [old, new] = ["x", "y"].map(|letter| format!("{}\n", letter.repeat(500)).repeat(100));
        let told = changed(&old, &new);
        assert!(told.ends_with("\n  and more") && told.lines().count() == 42, "{told}");
        assert!(told.lines().all(|line| line.chars().count() <= 200));
    }

    #[test]
    fn a_text_with_other_nodes_says_nothing_of_those_that_are_gone() {
        let old = "[[node]]\nname = \"arr1\"\n[[node]]\nname = \"arr3\"\n\n[[rule]]\nports = 443\nweights = { arr1 = 10, arr3 = 90 }\n\n[[rule]]\nports = 80\nhandling_priorities = { arr3 = 1 }\n";
        let now = "[[node]]\nname = \"arr1\"\n[[node]]\nname = \"arr4\"\n";
        let text = with_nodes_of(old, now).unwrap();
        assert!(text.contains("arr4") && !text.contains("arr3"), "{text}");
        assert!(text.contains("weights = { arr1 = 10") && !text.contains("handling_priorities"), "{text}");
    }

    #[test]
    fn what_an_editor_on_windows_saves_is_the_same_text_made_from_the_same_generation() {
        let id = "ab".repeat(32);
        let shown = format!("{MADE_FROM}{id}\n#: by arr1\n[cluster]\n");
        let crlf = shown.replace('\n', "\r\n");
        let utf16 = |text: &str| -> Vec<u8> {
            std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
        };
        let path = std::env::temp_dir().join(format!("rollcall-draft-{}.toml", std::process::id()));
        for (what, bytes, text) in [
            ("as it was", shown.clone().into_bytes(), "[cluster]\n"),
            ("a byte order mark", [&b"\xef\xbb\xbf"[..], shown.as_bytes()].concat(), "[cluster]\n"),
            ("CRLF", crlf.clone().into_bytes(), "[cluster]\r\n"),
            ("UTF-16", utf16(&crlf), "[cluster]\r\n"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let (read, made_from) = read(&path).unwrap();
            assert_eq!((read.as_str(), made_from), (text, Some(id.parse().unwrap())), "{what}");
        }
        std::fs::write(&path, b"[cluster]\nname = \"caf\xe9\"\n").unwrap();
        let refused = read(&path).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(refused.contains("line 2") && refused.contains("UTF-8"), "{refused}");
    }
}
