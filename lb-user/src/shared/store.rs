//! Generations and records on disk, a file each, named by what they are.
//!
//! No file says which generation is in force: that is a function of what is there (`history`). So there is nothing that could
//! disagree with anything, and a crash at any moment leaves what was there before, with or without the one file that was being
//! written: each is written beside its place, brought to the disk, and only then put there under its name.
//!
//! The folder is this node's own and root's alone. What cannot be read, or is not what its name says, is left out and told of; the
//! other nodes have it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::generation::{self, Content, Generation, GenerationId, Malformed, SignedHeader};
use super::history::{History, Pruned};
use super::record::{MAX_RECORD, SignedRecord, Word};

/// The folder. See the module.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// What was found in it.
#[derive(Debug)]
pub struct Opened {
    /// The folder.
    pub store: Store,
    /// What it held.
    pub history: History,
    /// What could not be used.
    pub damage: Vec<Damage>,
}

/// A file that cannot be used.
#[derive(Debug)]
pub struct Damage {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

impl Store {
    /// A new one in the state folder, with what a cluster, or this node's part in it, begins with.
    pub fn create(
        state_dir: &Path,
        first: &Generation,
        records: &[SignedRecord],
    ) -> Result<Self, StoreError> {
        let folder = state_dir.join(FOLDER);
        let cannot = |source| StoreError::Write { path: folder.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(cannot)?;
        if fs::read_dir(&folder).map_err(cannot)?.next().is_some() {
            return Err(StoreError::Exists { path: folder });
        }
        let store = Self { folder };
        store.keep(&first.head, Some(&first.content))?;
        records.iter().try_for_each(|record| store.keep_record(record))?;
        Ok(store)
    }

    /// Whether there is one in the state folder.
    pub fn exists(state_dir: &Path) -> bool {
        fs::read_dir(Self::folder(state_dir)).is_ok_and(|mut files| files.next().is_some())
    }

    /// Where it is in the state folder.
    pub fn folder(state_dir: &Path) -> PathBuf {
        state_dir.join(FOLDER)
    }

    /// The one in the state folder, with all that it holds.
    pub fn open(state_dir: &Path) -> Result<Opened, StoreError> {
        let folder = state_dir.join(FOLDER);
        let found = Found::read(&folder)?;
        let root = found.root().ok_or_else(|| StoreError::Nothing { path: folder.clone() })?;
        let Found { mut heads, records, mut damage } = found;
        let (head, content) =
            heads.remove(&root).ok_or_else(|| StoreError::Nothing { path: folder.clone() })?;
        let store = Self { folder };
        if let (None, Err(why)) = (head.header().parent, head.check(None)) {
            // It is the one that the next names as its parent all the same.
            damage.push(Damage { path: store.path_of(root), why: why.to_string() });
        }
        let mut history = History::new(head, content);
        let mut by_height: Vec<_> = heads.into_values().collect();
        by_height.sort_by_key(|(head, _)| head.header().height);
        for (head, content) in by_height {
            let id = head.id();
            if let Err(why) = history.admit(head, content) {
                damage.push(Damage { path: store.path_of(id), why: why.to_string() });
            }
        }
        for record in records {
            let path = store.path_of_record(&record);
            if let Err(why) = history.admit_record(record) {
                damage.push(Damage { path, why: why.to_string() });
            }
        }
        Ok(Opened { store, history, damage })
    }

    /// Removes what a crash left of files that were being written. For the agent, which alone writes: others who read the store may
    /// do so while it does.
    pub fn sweep(&self) {
        for file in fs::read_dir(&self.folder).into_iter().flatten().take(MOST_FILES).flatten() {
            if file.path().extension().is_some_and(|kind| kind == NEW) {
                // What stays does no harm but for its room.
                let _ = fs::remove_file(file.path());
            }
        }
    }

    /// Keeps a generation, or its header alone. Once it returns the disk has it.
    pub fn keep(&self, head: &SignedHeader, content: Option<&Content>) -> Result<(), StoreError> {
        let bytes = match content {
            Some(content) => Generation { head: head.clone(), content: content.clone() }.encode(),
            None => head.encode(),
        };
        self.write(&self.path_of(head.id()), &bytes)
    }

    /// Keeps a record, likewise.
    pub fn keep_record(&self, record: &SignedRecord) -> Result<(), StoreError> {
        self.write(&self.path_of_record(record), &record.encode())
    }

    /// Lets go of what `history` let go of. What cannot be removed is harmless: it is let go of again after the next start.
    pub fn let_go(&self, pruned: &Pruned, history: &History) -> Result<(), StoreError> {
        for id in &pruned.contents {
            if let Some(head) = history.head(*id) {
                self.keep(head, None)?;
            }
        }
        for record in &pruned.records {
            remove(&self.folder.join(format!("{record}.{RECORD}")))?;
        }
        for id in &pruned.generations {
            remove(&self.path_of(*id))?;
        }
        Ok(())
    }

    fn path_of(&self, id: GenerationId) -> PathBuf {
        self.folder.join(format!("{id}.{GENERATION}"))
    }

    fn path_of_record(&self, record: &SignedRecord) -> PathBuf {
        self.folder.join(format!("{}.{RECORD}", record.id()))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let new = path.with_extension(NEW);
        let written = write_and_sync(&new, bytes)
            .and_then(|()| fs::rename(&new, path))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        written.map_err(|source| {
            // A full disk is not to be filled by what did not fit.
            let _ = fs::remove_file(&new);
            StoreError::Write { path: path.to_owned(), source }
        })
    }
}

fn write_and_sync(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Write { path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// All that was read, before anybody looked whether it fits together.
#[derive(Default)]
struct Found {
    heads: BTreeMap<GenerationId, (SignedHeader, Option<Content>)>,
    records: Vec<SignedRecord>,
    damage: Vec<Damage>,
}

impl Found {
    fn read(folder: &Path) -> Result<Self, StoreError> {
        let cannot = |source| StoreError::Read { path: folder.to_owned(), source };
        let mut found = Self::default();
        for file in fs::read_dir(folder).map_err(cannot)?.take(MOST_FILES) {
            let path = file.map_err(cannot)?.path();
            if let Err(why) = found.take(&path) {
                found.damage.push(Damage { path, why });
            }
        }
        Ok(found)
    }

    fn take(&mut self, path: &Path) -> Result<(), String> {
        let (name, kind) = (path.file_stem(), path.extension().and_then(|kind| kind.to_str()));
        let is_named = |id: String| name.is_some_and(|name| name == id.as_str());
        let malformed = |error: Malformed| error.to_string();
        let strange = || "it is not what its name says".to_owned();
        match kind {
            Some(GENERATION) => {
                let (head, content) =
                    generation::decode(&read(path, generation::MAX_BYTES)?).map_err(malformed)?;
                if !is_named(head.id().to_string()) {
                    return Err(strange());
                }
                self.heads.insert(head.id(), (head, content));
            }
            Some(RECORD) => {
                let record = SignedRecord::decode(&read(path, MAX_RECORD)?).map_err(malformed)?;
                if !is_named(record.id().to_string()) {
                    return Err(strange());
                }
                self.records.push(record);
            }
            // Left by a crash, or being written by the agent at this moment.
            Some(NEW) => {}
            Some(_) | None => return Err("it does not belong here".to_owned()),
        }
        Ok(())
    }

    /// The oldest header of an unbroken line to the newest generation that was put in force: damage to an old one must not cost the
    /// new one. Without such, to the newest.
    fn root(&self) -> Option<GenerationId> {
        let said = |id: GenerationId, word: Word| {
            self.records.iter().any(|record| record.record().generation == id && record.record().word == word)
        };
        let rank = |head: &SignedHeader| {
            let id = head.id();
            let fit = said(id, Word::InForce) && !said(id, Word::Failed);
            (fit, head.header().height, std::cmp::Reverse(id))
        };
        let parent = |head: &SignedHeader| {
            head.header().parent.and_then(|parent| self.heads.get(&parent)).map(|(head, _)| head)
        };
        // One that follows what is here must be signed for it: else a damaged one would be the root, which is trusted.
        let is_sound =
            |head: &&SignedHeader| parent(head).is_none_or(|parent| head.check(Some(parent)).is_ok());
        let newest =
            self.heads.values().map(|(head, _)| head).filter(is_sound).max_by_key(|head| rank(head))?;
        let line = std::iter::successors(Some(newest), |head| {
            let parent = parent(head)?;
            head.check(Some(parent)).is_ok().then_some(parent)
        });
        line.last().map(SignedHeader::id)
    }
}

fn read(path: &Path, limit: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let read = File::open(path).and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Why the store cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be read.
    #[error("cannot read the configuration's store {path}; hint: the agent reads it as root", path = path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written. What was there before still is.
    #[error("cannot keep the configuration in {path}; hint: is the disk full, or mounted read-only?", path = path.display())]
    Write {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something in it already.
    #[error("this host belongs to a cluster already: {path} is not empty; hint: `rollcall leave` takes it out of that one", path = path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Nothing in it can be used.
    #[error("no generation of the configuration is left in {path}; hint: join the cluster again: `rollcall token` on another node, then `rollcall join` here", path = path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
}

/// The folder's name in the state folder.
const FOLDER: &str = "generations";

const GENERATION: &str = "generation";

const RECORD: &str = "record";

const NEW: &str = "new";

/// Most files that are looked at.
const MOST_FILES: usize = 20_000;

#[cfg(test)]
pub(super) mod tests;
