//! A test that is a program: run as the proxy's user, or as root if nobody but root could have written it.

use std::fs;
use std::io::{self, PipeReader};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Outcome;
use crate::proxy::spawn::Account;
use crate::sys::signals::unblock_in;

/// How much of what it prints is kept, bytes; of this its first line is shown.
const LONGEST_OUTPUT: usize = 4096;

/// Where it finds programs, since it does not get the agent's environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `program` for at most `patience`; then it is killed with all that it started, as far as that stayed in its process group.
pub(super) async fn run(program: &Path, arguments: &[String], user: &str, patience: Duration) -> Outcome {
    let (path, arguments, user) = (program.to_owned(), arguments.to_vec(), user.to_owned());
    let started = spawn_blocking(move || Running::start(&path, &arguments, &user)).await;
    let (running, output) = started.map_err(|error| error.to_string())??;
    let mut text = Vec::new();
    let ended = timeout(patience, running.outlast(output, &mut text)).await;
    let status = spawn_blocking(move || running.end()).await.map_err(|error| error.to_string())?;
    let said = first_line(&text);
    match (ended, status) {
        (Err(_), _) => Err(format!("killed after {patience:?}{said}")),
        (Ok(Err(error)), _) | (Ok(Ok(())), Err(error)) => Err(format!("could not be waited for: {error}")),
        (Ok(Ok(())), Ok(status)) if status.success() => Ok(()),
        (Ok(Ok(())), Ok(status)) => Err(format!("{}{said}", describe(status))),
    }
}

/// A program that runs. Dropped, it is killed.
struct Running(Child);

impl Running {
    fn start(program: &Path, arguments: &[String], user: &str) -> Result<(Self, PipeReader), String> {
        let account = account_for(program, user)?;
        let cannot = |error: io::Error| format!("cannot be started: {error}");
        let (reader, writer) = io::pipe().map_err(cannot)?;
        let mut command = Command::new(program);
        unblock_in(&mut command)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(cannot)?)
            .stderr(writer);
        if let Some(account) = account {
            command.uid(account.uid).gid(account.gid);
        }
        command.spawn().map(|child| (Self(child), reader)).map_err(cannot)
    }

    /// Waits until it has ended, and reads what it prints; what is beyond the limit is read, too, so that it can go on.
    async fn outlast(&self, output: PipeReader, text: &mut Vec<u8>) -> io::Result<()> {
        let pid = pid(&self.0).ok_or(io::ErrorKind::NotFound)?;
        // Its number stays its own until `end`. The thread is free when it has ended or was killed.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let mut ended = spawn_blocking(move || waitid(WaitId::Pid(pid), options));
        let mut output = pipe::Receiver::from_owned_fd(output.into())?;
        let (mut open, mut buffer) = (true, [0; LONGEST_OUTPUT]);
        let mut keep = |bytes: &[u8]| {
            let room = LONGEST_OUTPUT.saturating_sub(text.len()).min(bytes.len());
            text.extend_from_slice(&bytes[..room]);
        };
        loop {
            tokio::select! {
                read = output.read(&mut buffer), if open => {
                    let length = read?;
                    open = length > 0;
                    keep(&buffer[..length]);
                }
                ended = &mut ended => {
                    ended??;
                    break;
                }
            }
        }
        // As much as a pipe holds; what it started may still be writing. The pipe itself is asked: the runtime may not know yet
        // that something came.
        let output = output.into_nonblocking_fd()?;
        for _ in 0..16 {
            let Ok(length @ 1..) = rustix::io::read(&output, &mut buffer) else { break };
            keep(&buffer[..length]);
        }
        Ok(())
    }

    /// Ends what is left of it.
    fn end(mut self) -> io::Result<ExitStatus> {
        self.kill();
        self.0.wait()
    }

    /// Nobody has waited for it yet, so the number is still its own.
    fn kill(&self) {
        if let Some(pid) = pid(&self.0) {
            // It may have ended by itself.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that was waited for has no number any more that could be killed.
        if let Ok(None) = self.0.try_wait() {
            self.kill();
            let _ = self.0.wait();
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// Whom it runs as; `None`: as root. A file that others than root can replace would make them root.
fn account_for(program: &Path, user: &str) -> Result<Option<Account>, String> {
    match is_roots_alone(program) {
        Ok(true) => Ok(None),
        Ok(false) => Account::find(user).map(Some).map_err(|error| error.to_string()),
        Err(error) => Err(format!("cannot be looked at: {error}")),
    }
}

/// Whether it and all folders above it belong to root and nobody else may write there.
fn is_roots_alone(program: &Path) -> io::Result<bool> {
    let whole: PathBuf = fs::canonicalize(program)?;
    for part in whole.ancestors() {
        let facts = fs::metadata(part)?;
        if facts.uid() != 0 || facts.mode() & 0o022 != 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `: ` and what it said first, if it said anything.
fn first_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "failed".to_owned(),
    }
}
