//! An agent that ended in good order starts anew in the same process, so that whoever watches over it sees it go on.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

/// In the environment of an agent that was started by its predecessor.
const VARIABLE: &str = "ROLLCALL_AGAIN";

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// It is to start anew.
    Restart,
}

/// How this program was started.
#[derive(Debug)]
pub struct Again {
    /// Where it lies; a newer one may lie there by then.
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// The program cannot be started anew. The agent has ended in good order.
#[derive(Debug, Error)]
#[error("cannot start {program} anew; hint: this node has handed its share over and stopped; start its agent by hand", program = program.display())]
pub struct NotAgain {
    program: PathBuf,
    source: io::Error,
}

impl Again {
    /// To be asked at the start: where a program lay cannot be told once another lies there.
    pub fn remember() -> Self {
        let own = || PathBuf::from("/proc/self/exe");
        Self {
            program: std::env::current_exe().unwrap_or_else(|_| own()),
            arguments: std::env::args_os().skip(1).collect(),
        }
    }

    /// Starts it, in this process; returns only why that cannot be done.
    pub fn start(self) -> NotAgain {
        let source = self.replace(&self.program);
        // What is gone from its place is still open.
        self.replace(Path::new("/proc/self/exe"));
        NotAgain { program: self.program, source }
    }

    fn replace(&self, program: &Path) -> io::Error {
        Command::new(program).arg0("rollcall").args(&self.arguments).env(VARIABLE, "1").exec()
    }
}

/// Whether this agent was started by its predecessor.
pub(super) fn is_again() -> bool {
    std::env::var_os(VARIABLE).is_some()
}
