//! A machine that is busy with something else: stress-ng on every processor. Measures nothing.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::lab::Lab;
use crate::sys::{Process, find_program};

/// How long it may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps every processor of this machine busy, two processes each, until dropped.
#[derive(Debug)]
pub struct Stress(Process);

impl Stress {
    /// For `longest` at most.
    pub fn start(lab: &Lab, longest: Duration) -> Result<Self> {
        let folder = lab.folder();
        let workers = 2 * std::thread::available_parallelism()?.get();
        let mut command = Command::new(find_program("stress-ng")?);
        command.args(["--quiet", "--cpu", &workers.to_string()]);
        command.args(["--timeout", &longest.as_secs().to_string(), "--temp-path"]).arg(&folder);
        // In a namespace of the lab, so that whatever ends the lab ends it, too.
        Ok(Self(Process::start("stress-ng", &lab.client, &mut command, &folder.join("stress-ng.log"))?))
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        // Killed, it would leave its workers.
        let _ = self.0.terminate(PATIENCE);
    }
}
