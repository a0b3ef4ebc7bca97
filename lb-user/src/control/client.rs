//! The command line's end of the control socket; blocking, but for answers of many lines.

use std::future::Future;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

use super::api::{Answer, Permission, Request};
use super::{CONTROL_SOCKET, VIEW_SOCKET};

/// The longest answer, bytes: some 100 times the usual one.
const MAX_ANSWER: u64 = 4 << 20;

/// How long the agent may be silent: longer than it lets a connection live.
const MAX_SILENCE: Duration = Duration::from_secs(10);

/// Asks the agent with this run folder, and waits for its answer.
pub fn ask(run_dir: &Path, request: &Request) -> Result<Answer, AskError> {
    let mut stream = connect(run_dir, request.needs())?;
    let failed = |source| AskError::Broken { run_dir: run_dir.to_owned(), source };
    let line = serde_json::to_string(request).map_err(|error| failed(error.into()))?;
    stream.set_read_timeout(Some(MAX_SILENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(MAX_SILENCE)).map_err(failed)?;
    writeln!(stream, "{line}").map_err(failed)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut answer).map_err(failed)?;
    if answer.is_empty() {
        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&answer).map_err(|error| failed(error.into()))
}

/// Asks the agent with this run folder, and gives every line that it answers to `see`, until it has said all. Once `enough` is
/// ready the agent is told to come to its end; an agent that does not is left after some seconds.
pub async fn follow(
    run_dir: &Path,
    request: &Request,
    enough: impl Future<Output = ()>,
    mut see: impl FnMut(Answer),
) -> Result<(), AskError> {
    let failed = |source| AskError::Broken { run_dir: run_dir.to_owned(), source };
    let stream = connect(run_dir, request.needs())?;
    stream.set_nonblocking(true).map_err(failed)?;
    let (reader, mut writer) = tokio::net::UnixStream::from_std(stream).map_err(failed)?.into_split();
    let line = serde_json::to_string(request).map_err(|error| failed(error.into()))? + "\n";
    writer.write_all(line.as_bytes()).await.map_err(failed)?;
    let mut reader = tokio::io::BufReader::new(reader);
    let mut enough = std::pin::pin!(enough);
    let mut ending = false;
    let mut line = Vec::new();
    loop {
        // What was read of a line stays in `line` if the other branch is first.
        let mut limited = (&mut reader).take(MAX_ANSWER);
        tokio::select! {
            read = limited.read_until(b'\n', &mut line) => {
                if read.map_err(failed)? == 0 {
                    return Ok(());
                }
                see(serde_json::from_slice(&line).map_err(|error| failed(error.into()))?);
                line.clear();
            }
            () = &mut enough, if !ending => {
                ending = true;
                writer.shutdown().await.map_err(failed)?;
            }
            () = tokio::time::sleep(MAX_SILENCE), if ending => return Ok(()),
        }
    }
}

/// Whether an agent listens in this run folder.
pub fn answers(run_dir: &Path) -> bool {
    UnixStream::connect(run_dir.join(CONTROL_SOCKET)).is_ok()
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no agent is running for {run_dir}; hint: start it: rollcall run --config FILE, or name another folder with --run-dir", run_dir = run_dir.display())]
    NoAgent {
        /// The run folder.
        run_dir: PathBuf,
    },
    /// The caller may not.
    #[error("{run_dir} is closed to you; hint: root and members of the group rollcall may use it, members of rollcall-view may look", run_dir = run_dir.display())]
    Forbidden {
        /// The run folder.
        run_dir: PathBuf,
    },
    /// The agent was reached, but no answer came. A change may have been made.
    #[error("the agent of {run_dir} gave no answer; hint: if it stays so, look at its log", run_dir = run_dir.display())]
    Broken {
        /// The run folder.
        run_dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Who only wants to look, and may not use the one socket, uses the other.
fn connect(run_dir: &Path, permission: Permission) -> Result<UnixStream, AskError> {
    let control = UnixStream::connect(run_dir.join(CONTROL_SOCKET));
    let stream = match (control, permission) {
        (Err(error), Permission::View) if error.kind() == io::ErrorKind::PermissionDenied => {
            let view = UnixStream::connect(run_dir.join(VIEW_SOCKET));
            view.map_err(|_| error)
        }
        (control, Permission::View | Permission::Change) => control,
    };
    let run_dir = run_dir.to_owned();
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    stream.map_err(|source| {
        if absent.contains(&source.kind()) {
            return AskError::NoAgent { run_dir };
        }
        if source.kind() == io::ErrorKind::PermissionDenied {
            return AskError::Forbidden { run_dir };
        }
        AskError::Broken { run_dir, source }
    })
}
