//! The file with the records: a line of JSON each. Two files of at most 1 MiB, the older one ends in `.1`.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::control::api::EventRecord;

/// The file's name in the state folder.
const NAME: &str = "events.jsonl";

/// How long it becomes, bytes; and how much of a longer one is read.
pub(super) const LONGEST: u64 = 1 << 20;

/// For root, and whatever group an administrator gives it.
const MODE: u32 = 0o640;

/// What the agents of this node have left in `state_dir`, oldest first. What is no record is left out.
pub(crate) fn read(state_dir: &Path) -> io::Result<Vec<EventRecord>> {
    let older = match tail(&older(state_dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        older => older?,
    };
    let newer = match tail(&path(state_dir)) {
        // A rotation was the last thing that happened.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !older.is_empty() => Vec::new(),
        newer => newer?,
    };
    let lines = [&older, &newer].into_iter().flat_map(|bytes| bytes.split(|&byte| byte == b'\n'));
    Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// The path of the file in `state_dir`.
pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(NAME)
}

fn older(state_dir: &Path) -> PathBuf {
    state_dir.join(format!("{NAME}.1"))
}

/// The last `LONGEST` bytes.
fn tail(path: &Path) -> io::Result<Vec<u8>> {
    read_tail(&mut File::open(path)?)
}

fn read_tail(file: &mut File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The file as its only writer sees it. Folder and file are made when they are needed.
#[derive(Debug)]
pub(super) struct EventFile {
    state_dir: PathBuf,
    /// `None` before the first record, and after an error.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
}

impl EventFile {
    pub(super) fn new(state_dir: PathBuf) -> Self {
        Self { state_dir, open: None }
    }

    /// Adds a record. After an error it is not in the file, and the next one may be.
    pub(super) fn append(&mut self, record: &EventRecord) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let added = self.add(&line);
        if added.is_err() {
            // What is there of the line is cut when the file is opened again.
            self.open = None;
        }
        added
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        path(&self.state_dir)
    }

    /// Waits until a power failure no longer takes what was added.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), |open| open.file.sync_data())
    }

    fn add(&mut self, line: &[u8]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let length = line.len() as u64;
        if open.length > 0 && open.length + length > LONGEST {
            fs::rename(path(&self.state_dir), older(&self.state_dir))?;
            open = self.begin()?;
        }
        open.file.write_all(line)?;
        open.length += length;
        self.open = Some(open);
        Ok(())
    }

    fn begin(&self) -> io::Result<Open> {
        DirBuilder::new().recursive(true).mode(0o750).create(&self.state_dir)?;
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(MODE).open(path(&self.state_dir))?;
        file.set_permissions(Permissions::from_mode(MODE))?;
        let length = mend(&mut file)?;
        Ok(Open { file, length })
    }
}

/// Cuts off a last line that was not finished. Gives the file's length.
fn mend(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let bytes = read_tail(file)?;
    let torn = bytes.iter().rev().take_while(|&&byte| byte != b'\n').count() as u64;
    if torn > 0 {
        file.set_len(length - torn)?;
    }
    Ok(length - torn)
}
