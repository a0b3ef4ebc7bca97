//! Where a node's configuration is: in files that an operator keeps, or in the store that the nodes keep by themselves.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::generation::{Generation, GenerationId, SignedHeader};
use super::history::History;
use super::keys::NodeKeys;
use super::sealed::{OpenError, Secrets};
use super::store::{Damage, Opened, Store, StoreError};
use crate::config::model::{Config, Files, Held};
use crate::config::{self, ConfigErrors, LocalFile, told};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In files.
    Files {
        /// The cluster file.
        cluster: PathBuf,
        /// This node's file; `None`: `node.toml` beside it.
        node: Option<PathBuf>,
    },
    /// In the store, in the state folder that this node's file names.
    Store {
        /// This node's file.
        node: PathBuf,
    },
}

/// This node's file where nothing else is said.
pub const NODE_FILE: &str = "/etc/rollcall/node.toml";

impl Origin {
    /// The configuration, checked.
    pub fn load(&self) -> Result<Config, LoadError> {
        match self {
            Self::Files { cluster, node } => Ok(config::load(cluster, node.as_deref())?),
            Self::Store { node } => Ok(Local::open(node)?.in_force()?.config),
        }
    }

    /// This node's file.
    pub fn node_file(&self) -> PathBuf {
        match self {
            Self::Files { cluster, node } => config::node_path(cluster, node.as_deref()),
            Self::Store { node } => node.clone(),
        }
    }
}

/// What a node keeps of the shared configuration.
#[derive(Debug)]
pub struct Local {
    /// What its own file says.
    pub file: LocalFile,
    /// Where that is.
    pub node_file: PathBuf,
    /// Its keys.
    pub keys: NodeKeys,
    /// Where generations are kept.
    pub store: Store,
    /// What is kept.
    pub history: History,
    /// What could not be used of it.
    pub damage: Vec<Damage>,
}

/// A configuration and the generation that it is.
#[derive(Debug)]
pub struct InForce {
    /// The generation.
    pub id: GenerationId,
    /// What is sealed in it.
    pub secrets: Secrets,
    /// What it says, checked.
    pub config: Config,
    /// What is wrong with the generation that should be in force, where this is an older one.
    pub instead_of: Option<String>,
}

impl Local {
    /// Reads keys and store, where the node's file says.
    pub fn open(node_file: &Path) -> Result<Self, LoadError> {
        let file = config::local_file(node_file)?;
        let keys = read_keys(&file.key_file)?;
        let Opened { store, history, damage } = Store::open(&file.state_dir)?;
        Ok(Self { file, node_file: node_file.to_owned(), keys, store, history, damage })
    }

    /// The generation that left this node out of the cluster, if one has that is in force or followed by what is.
    pub fn removal(&self) -> Option<&SignedHeader> {
        let mine = self.keys.public();
        let mut removal = None;
        for head in self.history.line() {
            if head.header().roster.get(&self.file.name) == Some(&mine) {
                return removal;
            }
            removal = Some(head);
        }
        // It was never listed with these keys.
        None
    }

    /// The generation in force; where it cannot be used here, the newest before it that can. Not if this node was left out since.
    pub fn in_force(&self) -> Result<InForce, LoadError> {
        if let Some(removed) = self.removal() {
            return Err(self.removed_by(removed));
        }
        self.usable()
    }

    /// The same, whether this node has a part in it or not: what its host was set up for.
    pub fn usable(&self) -> Result<InForce, LoadError> {
        let mut next = self.history.current().map(|head| head.id());
        let mut first = None;
        while let Some(id) = next {
            let read = self
                .history
                .generation(id)
                .ok_or(LoadError::Absent(id))
                .and_then(|generation| self.read(&generation));
            match read {
                Ok(read) => {
                    let instead_of = first.map(|(id, error): (GenerationId, LoadError)| {
                        format!("generation {}: {}", id.short(), told(&error))
                    });
                    return Ok(InForce { instead_of, ..read });
                }
                Err(error) => first = first.or(Some((id, error))),
            }
            next = self.history.head(id).and_then(|head| head.header().parent);
        }
        Err(first.map_or(LoadError::Nothing, |(_, error)| error))
    }

    /// The newest generations before `now`, at most so many, of which each held other files than the one after it: where a certificate was
    /// replaced, what was there before. What this node cannot read is passed over.
    pub fn with_other_files(&self, now: &InForce, most: usize) -> Vec<InForce> {
        let mut found: Vec<InForce> = Vec::new();
        let before = self.history.line().skip_while(|head| head.id() != now.id).skip(1);
        for generation in before.map_while(|head| self.history.generation(head.id())) {
            if found.len() == most {
                break;
            }
            let after = &found.last().unwrap_or(now).secrets.files;
            let secrets = Secrets::open(&generation.content.sealed, &self.keys);
            if secrets.is_ok_and(|secrets| secrets.files != *after) {
                found.extend(self.read(&generation));
            }
        }
        found
    }

    /// What there is to say when `removal` has left this node out.
    pub fn removed_by(&self, removal: &SignedHeader) -> LoadError {
        let (name, by) = (self.file.name.clone(), removal.header().author.clone());
        LoadError::Removed { name, by, id: removal.id() }
    }

    /// What a generation says, checked as this node's configuration.
    pub fn read(&self, generation: &Generation) -> Result<InForce, LoadError> {
        let id = generation.id();
        let secrets = Secrets::open(&generation.content.sealed, &self.keys)
            .map_err(|source| LoadError::Sealed { id, source })?;
        let name = PathBuf::from(format!("generation {}", id.short()));
        let config = config::load_text(&generation.content.text, &name, &self.node_file, held(&secrets))?;
        let listed = config.me().keys.as_ref();
        if listed != Some(&self.keys.public()) {
            return Err(LoadError::OtherKeys { name: self.file.name.clone(), id });
        }
        Ok(InForce { id, secrets, config, instead_of: None })
    }
}

/// What a configuration that is checked together with these secrets reads.
pub fn held(secrets: &Secrets) -> Files {
    let files = secrets.files.iter().map(|(path, bytes)| (PathBuf::from(path), bytes.0.clone())).collect();
    Files::Held(Arc::new(Held { secret: secrets.cluster.clone(), files }))
}

/// The keys in this file, or in the systemd credential `rollcall.node-key`, which comes first
/// (<https://systemd.io/CREDENTIALS/>).
pub fn read_keys(path: &Path) -> Result<NodeKeys, LoadError> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let path = &keys_at(path, credentials.as_deref().map(Path::new));
    let cannot = |source| LoadError::Keys { path: path.to_owned(), source };
    let file = File::open(path).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.mode();
    if mode & 0o077 != 0 {
        return Err(LoadError::Exposed { path: path.to_owned(), mode: mode & 0o777 });
    }
    let mut text = String::new();
    file.take(LONGEST_KEYS).read_to_string(&mut text).map_err(cannot)?;
    NodeKeys::parse(&text).map_err(|error| cannot(io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// Where a node's keys are: with systemd's credentials, if they are among them.
fn keys_at(path: &Path, credentials: Option<&Path>) -> PathBuf {
    let credential = credentials.map(|folder| folder.join(CREDENTIAL)).filter(|path| path.exists());
    credential.unwrap_or_else(|| path.to_owned())
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A file, or a generation's text, has errors.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are no keys.
    #[error("cannot read this node's keys {path}; hint: `rollcall init` makes them on a cluster's first node, `rollcall join` on the others; keys that only a service has (systemd's credential rollcall.node-key) only its agent can read", path = path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than root can read the keys.
    #[error("this node's keys {path} are open to others (mode {mode:03o}); hint: chmod 600 {path}", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A generation's secrets cannot be read.
    #[error("cannot open what is sealed in generation {id:?}")]
    Sealed {
        /// Which.
        id: GenerationId,
        /// Why.
        source: OpenError,
    },
    /// A generation lists other keys for this node.
    #[error(
        "generation {id:?} lists other keys for {name} than this host has; hint: `rollcall join` again, with a token of another node"
    )]
    OtherKeys {
        /// This node.
        name: String,
        /// The generation.
        id: GenerationId,
    },
    /// The cluster goes on without this node.
    #[error(
        "{name} is no node of the cluster any more: generation {id:?}, by {by}, leaves it out; hint: `rollcall leave` clears this host, and `rollcall join` with a token of another node brings it back as a new one"
    )]
    Removed {
        /// This node.
        name: String,
        /// Who made that generation.
        by: String,
        /// The generation.
        id: GenerationId,
    },
    /// Only its header is here.
    #[error("the content of generation {0:?} is not here any more")]
    Absent(GenerationId),
    /// None was put in force.
    #[error(
        "no generation is in force on this host; hint: join the cluster again: `rollcall token` on another node, then `rollcall join` here"
    )]
    Nothing,
}

/// The name of the credential.
const CREDENTIAL: &str = "rollcall.node-key";

/// Longest key file, bytes.
const LONGEST_KEYS: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_comes_before_the_file_and_only_if_it_is_there() {
        let folder = std::env::temp_dir().join(format!("rollcall-credentials-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = Path::new("/etc/rollcall/node.key");
        assert_eq!(keys_at(file, None), file);
        assert_eq!(keys_at(file, Some(&folder)), file);
        std::fs::write(folder.join(CREDENTIAL), "").unwrap();
        assert_eq!(keys_at(file, Some(&folder)), folder.join("rollcall.node-key"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
