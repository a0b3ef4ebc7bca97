//! What one program leaves to the next in the same process: a sealed file in memory, and the numbers of what is open.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::proxy::supervisor::Words;

/// The number of this format, and of everything that a program says to its successor in it: to be raised with every change of `State`,
/// of a type in it, of the cluster's saved state, or of the layout of a pinned map.
pub const FORMAT: u32 = 4;

/// How the file begins, before its format's number.
const MAGIC: [u8; 8] = *b"rollcall";

/// No state is as large: 64 nodes with 32 owner tables have a tenth of it.
const LARGEST: u64 = 256 << 20;

/// What is left.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// The process. In another one the numbers mean nothing.
    pub(super) pid: u32,
    /// The version that leaves.
    pub(super) version: String,
    /// The file that this program came from: there the next upgrade looks for its program.
    pub(super) program: PathBuf,
    /// How many upgrades this process has seen, this one included.
    pub(super) count: u32,
    /// When the last heartbeat went out, in nanoseconds of the monotonic clock.
    pub(super) suspended_at: u64,
    /// How often the cluster NIC had lost its carrier by then.
    pub(super) carrier_losses: u32,
    /// Why the program that was to come could not be started, if this is its predecessor again.
    pub(super) failed: Option<String>,
    /// The cluster thread's, as `cluster::driver` saved it.
    pub(super) cluster: String,
    pub(super) proxy: Option<ProxyState>,
    pub(super) lock: RawFd,
    pub(super) run_dir: RawFd,
    /// Whether the run folder was made for the agent.
    pub(super) made_run_dir: bool,
    pub(super) control: RawFd,
    pub(super) view: Option<RawFd>,
    /// Whether the configuration is to be read again, because a signal asked for that meanwhile.
    #[serde(default)]
    pub(super) reload: bool,
    /// Whether the configuration is another: the cluster thread begins anew.
    #[serde(default)]
    pub(super) renewed: bool,
}

/// A proxy and its supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProxyState {
    pub(super) words: Words,
    pub(super) descriptors: Vec<RawFd>,
}

/// Why what another program left cannot be used.
#[derive(Debug, Error)]
pub(super) enum StateError {
    /// The file is not what it should be.
    #[error("what the program before this one left is no state of an agent")]
    Foreign,
    /// Its format is another version's.
    #[error("the program before this one left a state of format {found}; this one reads format {FORMAT}")]
    Format {
        /// Its number.
        found: u32,
    },
    /// It belongs to another process.
    #[error("the state is of process {0}")]
    OtherProcess(u32),
    /// It cannot be read.
    #[error("what the program before this one left cannot be read")]
    Read(#[from] io::Error),
}

impl State {
    /// A file in memory that nobody can change any more.
    pub(super) fn write(&self) -> io::Result<OwnedFd> {
        let mut file =
            File::from(memfd_create("rollcall-state", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.write_all(&MAGIC)?;
        file.write_all(&FORMAT.to_le_bytes())?;
        let mut buffered = io::BufWriter::new(&file);
        serde_json::to_writer(&mut buffered, self)?;
        buffered.flush()?;
        drop(buffered);
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        Ok(file.into())
    }

    /// What such a file says, if it is of this version and for this process.
    pub(super) fn read(file: OwnedFd) -> Result<Self, StateError> {
        let mut file = File::from(file);
        file.rewind()?;
        let mut head = [0; 12];
        file.read_exact(&mut head)?;
        let [magic @ .., f0, f1, f2, f3] = head;
        if magic != MAGIC {
            return Err(StateError::Foreign);
        }
        let found = u32::from_le_bytes([f0, f1, f2, f3]);
        if found != FORMAT {
            return Err(StateError::Format { found });
        }
        let mut json = Vec::new();
        file.take(LARGEST).read_to_end(&mut json)?;
        let state: Self = serde_json::from_slice(&json).map_err(io::Error::from)?;
        if state.pid != std::process::id() {
            return Err(StateError::OtherProcess(state.pid));
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(pid: u32) -> State {
        State {
            pid,
            version: "1.2.3".to_owned(),
            program: "/usr/bin/rollcall".into(),
            count: 1,
            suspended_at: 5,
            carrier_losses: 2,
            failed: None,
            cluster: "{\"node\":{}}".to_owned(),
            proxy: None,
            lock: 3,
            run_dir: 4,
            made_run_dir: true,
            control: 5,
            view: None,
            reload: true,
            renewed: false,
        }
    }

    #[test]
    fn a_state_comes_back_as_it_was_and_cannot_be_changed_on_the_way() {
        let file = state(std::process::id()).write().unwrap();
        let copy = File::from(file.try_clone().unwrap());
        assert_eq!((&copy).write(b"x").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let read = State::read(file).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", state(std::process::id())));
    }

    #[test]
    fn a_state_of_another_process_or_version_is_refused() {
        let other = state(std::process::id() + 1).write().unwrap();
        assert!(matches!(State::read(other), Err(StateError::OtherProcess(_))));
        let damaged = [&b"rollcall"[..], &FORMAT.to_le_bytes(), b"{"].concat();
        for (bytes, wanted) in [
            (&b"rollcall\xff\0\0\0{}"[..], "format 255"),
            (b"somethingelse", "no state"),
            (b"roll", "cannot be read"),
            (&damaged, "cannot be read"),
        ] {
            let mut file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
            file.write_all(bytes).unwrap();
            let error = State::read(file.into()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
