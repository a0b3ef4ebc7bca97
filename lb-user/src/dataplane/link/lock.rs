//! One agent an interface, one agent a run folder: locks that end with their holder, however it ends.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::{Interface, LinkError};

/// Where locks lie, whatever the run folder is: two agents with different run folders must still find each other's.
const LOCKS: &str = "/run/rollcall";

/// The right to be the agent of an interface; held until dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes it, unless another agent has it.
    pub fn take(interface: &Interface) -> Result<Self, LinkError> {
        Self::take_in(Path::new(LOCKS), &interface.key(), &interface.name)
    }

    /// The lock that the program before this one in the same process held: `file` is still open, so it never was free.
    pub fn take_up(interface: &Interface, file: OwnedFd) -> Self {
        Self { path: Path::new(LOCKS).join(lock_name(&interface.key())), file: file.into() }
    }

    /// What holds it.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn take_in(folder: &Path, key: &str, interface: &str) -> Result<Self, LinkError> {
        let path = folder.join(lock_name(key));
        let failed = |source| LinkError::Lock { path: path.clone(), source };
        loop {
            fs::create_dir_all(folder).map_err(failed)?;
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = match options.open(&path) {
                Ok(file) => file,
                // An agent that ended meanwhile took the folder, which was empty.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(taken(interface, &mut file)),
                Err(error) => return Err(failed(error.into())),
            }
            // The former holder may have removed the file between the two calls: then this lock locks nothing.
            let current = fs::metadata(&path).map(|now| now.ino());
            if current.ok() == Some(file.metadata().map_err(failed)?.ino()) {
                file.set_len(0).map_err(failed)?;
                file.rewind().map_err(failed)?;
                writeln!(file, "{}", std::process::id()).map_err(failed)?;
                return Ok(Self { path, file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is held, so that nobody's new lock is. A folder that others use stays.
        let _ = fs::remove_file(&self.path);
        let _ = self.path.parent().map(fs::remove_dir);
    }
}

/// The right to use a run folder; held until dropped. The folder goes with it if it was made for it and is empty.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    made: bool,
    folder: File,
}

impl RunDir {
    /// Takes it, unless another agent has it: two would undo each other's settings.
    pub fn take(path: &Path) -> Result<Self, LinkError> {
        let failed = |source| LinkError::RunDir { path: path.to_owned(), source };
        loop {
            let made = !path.exists();
            let opened = fs::create_dir_all(path).and_then(|()| File::open(path));
            let folder = opened.map_err(failed)?;
            match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(LinkError::RunDirTaken { path: path.to_owned() });
                }
                Err(error) => return Err(failed(error.into())),
            }
            // The former holder may have removed it between the two calls.
            let current = fs::metadata(path).map(|now| now.ino());
            if current.ok() == Some(folder.metadata().map_err(failed)?.ino()) {
                return Ok(Self { path: path.to_owned(), made, folder });
            }
        }
    }
}

impl RunDir {
    /// The folder that the program before this one in the same process had; `made`: for it.
    pub fn take_up(path: &Path, made: bool, folder: OwnedFd) -> Self {
        Self { path: path.to_owned(), made, folder: folder.into() }
    }

    /// What holds it, and whether it was made for it.
    pub fn descriptor(&self) -> (BorrowedFd<'_>, bool) {
        (self.folder.as_fd(), self.made)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.made {
            // One that something else uses by now stays.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

fn lock_name(key: &str) -> String {
    format!("lock-{key}")
}

fn taken(interface: &str, file: &mut File) -> LinkError {
    let mut pid = String::new();
    let _ = file.take(32).read_to_string(&mut pid);
    let pid = match pid.trim() {
        // It has the lock, and is about to write its number.
        "" => "still unknown".to_owned(),
        pid => pid.to_owned(),
    };
    LinkError::Locked { interface: interface.to_owned(), pid }
}
