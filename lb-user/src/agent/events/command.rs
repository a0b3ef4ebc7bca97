//! The operator's `on_event` command: started for each record, one after the other, on a thread of its own.
//!
//! It gets the record as a line of JSON on standard input, and in its environment `ROLLCALL_EVENT` (kind), `ROLLCALL_NODE`,
//! `ROLLCALL_ABOUT` (empty where the event is about no other node) and `ROLLCALL_TEXT`. Its standard error is the agent's.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::clock::Time;
use crate::control::api::EventRecord;
use crate::sys::signals::unblock_in;

/// How long a command may run.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How many records wait for it; then the oldest is dropped and counted.
pub(super) const WAITING: usize = 100;

/// How often it is looked whether the agent is about to end.
const GLANCE: Duration = Duration::from_millis(200);

/// Where a command finds programs, since it does not get the agent's environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command, and the records for which it is still to be run.
#[derive(Debug)]
pub(super) struct Commands {
    program: PathBuf,
    patience: Duration,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<EventRecord>,
    dropped: u64,
    /// The agent ends, and waits until then.
    end: Option<Time>,
}

impl Commands {
    pub(super) fn new(program: PathBuf, patience: Duration) -> Self {
        Self { program, patience, queue: Mutex::default(), changed: Condvar::new() }
    }

    /// Has the command run for this record, when those before it are done.
    pub(super) fn push(&self, record: EventRecord) {
        let mut queue = self.lock();
        if queue.waiting.len() == WAITING {
            queue.waiting.pop_front();
            queue.dropped += 1;
        }
        queue.waiting.push_back(record);
        self.changed.notify_one();
    }

    /// Has `run` return once nothing waits, and at `end` at the latest.
    pub(super) fn end(&self, end: Time) {
        self.lock().end = Some(end);
        self.changed.notify_one();
    }

    /// Runs the command for one record after the other; blocks until the agent ends. `failed` is given a sentence on each failure.
    pub(super) fn run(&self, failed: impl Fn(String)) {
        while let Some((record, dropped)) = self.next() {
            let program = self.program.display();
            if dropped > 0 {
                failed(format!(
                    "the on_event command {program} is too slow: it was not run for {dropped} events"
                ));
            }
            if let Err(why) = self.run_for(&record) {
                failed(format!("the on_event command {program} {why}"));
            }
        }
    }

    /// The next record, and how many were dropped before it.
    fn next(&self) -> Option<(EventRecord, u64)> {
        let mut queue = self.lock();
        loop {
            if queue.end.is_some_and(|end| Time::now() >= end) {
                return None;
            }
            if let Some(record) = queue.waiting.pop_front() {
                return Some((record, std::mem::take(&mut queue.dropped)));
            }
            if queue.end.is_some() {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run_for(&self, record: &EventRecord) -> Result<(), String> {
        let mut child = self.start(record).map_err(|error| {
            format!("cannot be started ({error}): it must be an executable file, a script with its `#!` line")
        })?;
        let in_time = self.wait(&child).map_err(|error| format!("could not be waited for: {error}"));
        if !matches!(in_time, Ok(true)) {
            kill(&child);
        }
        let status = child.wait().map_err(|error| format!("could not be waited for: {error}"))?;
        if !in_time? {
            let seconds = self.patience.as_secs();
            return Err(match self.lock().end {
                Some(_) => "was killed: it had not ended when the agent did".to_owned(),
                None => format!("was killed: it had not ended after {seconds} s"),
            });
        }
        if status.success() { Ok(()) } else { Err(describe(status)) }
    }

    fn start(&self, record: &EventRecord) -> io::Result<Child> {
        // A file in memory, not a pipe: a command that does not read could fill a pipe.
        let mut input = File::from(memfd_create("rollcall-event", MemfdFlags::CLOEXEC)?);
        serde_json::to_writer(&mut input, record)?;
        input.write_all(b"\n")?;
        input.rewind()?;
        let mut command = Command::new(&self.program);
        unblock_in(&mut command)
            .env_clear()
            .env("PATH", PATH)
            .env("ROLLCALL_EVENT", &record.kind)
            .env("ROLLCALL_NODE", &record.node)
            .env("ROLLCALL_ABOUT", record.about.as_deref().unwrap_or_default())
            .env("ROLLCALL_TEXT", record.sentence())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::from(input))
            .stdout(Stdio::null())
            .spawn()
    }

    /// Waits until the command has ended, as long as it may run. Gives whether it has.
    fn wait(&self, child: &Child) -> io::Result<bool> {
        let process = pidfd_open(pid(child).ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
        let until = Time::now() + self.patience;
        loop {
            let until = self.lock().end.map_or(until, |end| end.min(until));
            let left = until.since(Time::now());
            let turn = Timespec::try_from(left.min(GLANCE)).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&turn)) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// Ends the command and what it has started, as far as it stayed in its process group. Nobody has waited for it yet, so the number
/// is still its own.
fn kill(child: &Child) {
    if let Some(pid) = pid(child) {
        // It may have ended by itself meanwhile.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "failed".to_owned(),
    }
}
