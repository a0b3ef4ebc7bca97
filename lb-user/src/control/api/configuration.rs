//! What is asked of the shared configuration, and what became of it.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wall::WallTime;

/// How long a change may be on trial.
pub const TRIAL: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3600);

/// How long a change may be watched where it is tried.
pub const WATCH: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Configure {
    /// A generation, whole. Also for the group `rollcall-view`. Answered by `Shown`.
    Show {
        /// Its name, or how that begins; `None`: the one at work.
        generation: Option<String>,
    },
    /// All generations, the newest first. Also for the group `rollcall-view`. Answered by `Generations`.
    Log,
    /// Check a file and make it the configuration of all nodes. Answered by `Applied`.
    Apply {
        /// The file, as the agent can read it.
        path: PathBuf,
        /// Why, for the log.
        comment: String,
        /// The generation that the file was made from: if another is in force since, it is refused. `None`: as the file's first
        /// line says, or the one in force.
        parent: Option<String>,
        /// Look, but change nothing.
        dry_run: bool,
        /// Read again from the disk what the generation in force holds already.
        reread: bool,
        /// This node alone is to work with it until `Confirm`, or for so many seconds, within [`TRIAL`]. `None`: all nodes are, at once.
        #[serde(default)]
        confirm_within: Option<u64>,
        /// One node tries it first, where that can be, and is watched for so many seconds, within [`WATCH`]. `None`: all work with it at once.
        #[serde(default)]
        canary: Option<u64>,
    },
    /// Have all nodes work with what is on trial on this one. Answered by `Applied`.
    Confirm,
    /// Replace a site's certificate on all nodes. Answered by `CertificateSet`.
    SetCertificate {
        /// One of the site's names.
        site: String,
        /// The new certificate, PEM or PKCS#12, as the agent can read it.
        certificate: PathBuf,
        /// Its key, where that is another file.
        key: Option<PathBuf>,
        /// The file whose first line is the password of a PKCS#12 file.
        password_file: Option<PathBuf>,
        /// An OCSP response about it (DER), where the site staples one.
        ocsp: Option<PathBuf>,
        /// Why, for the log; empty: that the certificate was replaced.
        comment: String,
        /// Look, but change nothing.
        dry_run: bool,
        /// As of `Apply`.
        #[serde(default)]
        canary: Option<u64>,
    },
    /// Print a word that lets one host join within so many seconds. Answered by `Token`.
    Token {
        /// At most a day's.
        seconds: u64,
    },
    /// Leave a node out of the cluster, with another cluster secret for the rest. Answered by `Removed`.
    Remove {
        /// Its name: another than that of the node that is asked.
        node: String,
        /// Why, for the log; empty: that it is removed.
        comment: String,
    },
    /// Leave this node out, likewise: the others are told first, and then the agent ends. Answered by `Removed`.
    Leave {
        /// Why, for the log; empty: that it leaves.
        comment: String,
    },
    /// Have another cluster secret. Answered by `Applied`.
    RotateSecret {
        /// Why, for the log; empty: that the secret is changed.
        comment: String,
    },
    /// Make an older generation's content the configuration again, as a new generation. Answered by `Applied`.
    RollBack {
        /// Its name, or how that begins.
        generation: String,
        /// Why, for the log; empty: that it goes back.
        comment: String,
    },
}

/// A generation's place in history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationEntry {
    /// Its name.
    pub id: String,
    /// The generation that it changed.
    pub parent: Option<String>,
    /// How many generations it is from the first, which has 1.
    pub height: u64,
    /// The node that made it.
    pub author: String,
    /// When, by that node's clock.
    pub time: WallTime,
    /// Why.
    pub comment: String,
    /// The generation whose content it has again.
    pub restores: Option<String>,
    /// `stored`, `candidate`, `current`, `superseded`, `failed` or `void`.
    pub standing: String,
    /// Whether this node works with it.
    pub at_work: bool,
    /// Whether this node has its content still.
    pub whole: bool,
}

/// A generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its place.
    pub entry: GenerationEntry,
    /// The configuration, as its author wrote it.
    pub text: String,
    /// The files that it holds.
    pub files: Vec<FileFacts>,
}

/// A file that a generation holds, with nothing of it that is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// The path that the text gives it.
    pub path: String,
    /// Its length.
    pub bytes: usize,
    /// A digest under a key of the cluster: whether two generations hold the same can be seen, what it is cannot be guessed.
    pub digest: String,
    /// The certificate in it, where it is a site's.
    pub certificate: Option<CertificateFacts>,
}

/// A site's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// The sites' first names.
    pub sites: Vec<String>,
    /// The names that it is for.
    pub names: Vec<String>,
    /// When it ends.
    pub not_after: Option<WallTime>,
    /// SHA-256 of it.
    pub fingerprint: String,
}

/// What became of a node's removal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The node.
    pub node: String,
    /// Whether it knows, and so ends by itself.
    pub told: bool,
    /// The change.
    pub applied: Applied,
    /// The files with what is secret that it has known.
    pub known: Vec<FileFacts>,
}

/// What became of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The generation that is in force now.
    pub generation: String,
    /// What is not as before, in words.
    pub changed: Vec<String>,
    /// What the operator should know all the same.
    pub warnings: Vec<String>,
    /// Files that were not read from the disk, which has another content: the generation before held them.
    pub kept: Vec<String>,
    /// The other nodes that work with it; of a look, that could.
    pub on: Vec<String>,
    /// Those that were not reached, and follow once they are.
    pub unreached: Vec<String>,
    /// For what each agent begins anew in the same process: no connection ends by it, and new ones wait for a moment.
    #[serde(default)]
    pub renewed: Vec<String>,
    /// What each node takes up only when its agent is started anew.
    pub restart: Vec<String>,
    /// Nothing was changed: it was only looked.
    pub dry_run: bool,
    /// It is on trial on this node alone, and gone after so many seconds unless it is confirmed.
    #[serde(default)]
    pub confirm_within: Option<u64>,
    /// Who tried it before; `None`: nobody.
    #[serde(default)]
    pub canary: Option<Canary>,
}

/// How a change did where it was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The node.
    pub node: String,
    /// How many handshakes, pages and servers it looked at by itself.
    pub asked: u32,
    /// What of that is not well, and was not before, or is new.
    pub remarks: Vec<String>,
    /// How its clients fared beside the others', in words; begins with `synthetic only` where they could not be compared.
    pub clients: String,
}
