//! A proxy under measurement: its processes' CPU time and memory.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::ours::Ours;
use crate::sys::{Memory, Process, memory};

/// A running proxy.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) port: u16,
    running: Running,
}

pub(super) enum Running {
    Ours(Ours),
    Peer(Process),
}

impl Subject {
    pub(super) fn new(name: &'static str, port: u16, running: Running) -> Self {
        Self { name, port, running }
    }

    /// The CPU time, user and system, that it has used so far, to the nanosecond: that of all its threads.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        let mut nanos = 0;
        for pid in self.pids()? {
            let tasks = fs::read_dir(format!("/proc/{pid}/task"));
            for task in tasks.with_context(|| format!("{} has ended", self.name))?.flatten() {
                // A thread that has just ended.
                let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                let ran = text.split(' ').next().and_then(|ran| ran.parse::<u64>().ok());
                nanos += ran.context("cannot read /proc/PID/schedstat")?;
            }
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Its memory in bytes, shared pages by their share (PSS).
    pub(super) fn memory(&self) -> Result<u64> {
        let mut bytes = 0;
        for pid in self.pids()? {
            bytes += memory(pid, Memory::Proportional)
                .with_context(|| format!("cannot read the memory of {}", self.name))?;
        }
        Ok(bytes)
    }

    /// The process and its children, as nginx has a worker.
    fn pids(&self) -> Result<Vec<u32>> {
        let pid = match &self.running {
            Running::Ours(ours) => ours.pid(),
            Running::Peer(process) => process.pid(),
        };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .with_context(|| format!("{} has ended", self.name))?;
        Ok(children.split_whitespace().filter_map(|child| child.parse().ok()).chain([pid]).collect())
    }
}
