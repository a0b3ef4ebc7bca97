//! The program that is to come: whether it can go on where this one is. Nothing is changed by looking.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::state::FORMAT;
use super::{own_program, program_file};
use crate::agent::facts::facts_of;
use crate::config::model::Config;
use crate::config::secret::{ClusterSecret, SecretError};
use crate::shared::origin::{LoadError, Origin};
use crate::sys::signals::unblock_in;

/// A program that may take this one's place. It is open: what was examined is what will run, whatever becomes of the file.
#[derive(Debug)]
pub(in crate::agent) struct Candidate {
    pub(super) path: PathBuf,
    program: File,
}

/// Why a program may not, each in one text for the operator. Nothing was changed.
#[derive(Debug, Error)]
pub(in crate::agent) enum Refusal {
    /// It cannot be opened or started.
    #[error("cannot start {path}: {why}; hint: name the new program with --binary, or put it where the agent was started from", path = path.display())]
    Start {
        /// Its path.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// It did not come to an end.
    #[error("{path} {what} did not end within {TIMEOUT:?}; hint: run it by hand", path = path.display())]
    Slow {
        /// Its path.
        path: PathBuf,
        /// What it was asked.
        what: &'static str,
    },
    /// It says no.
    #[error("{path} {what} ended with {status}{said}; hint: run it by hand; nothing was changed", path = path.display())]
    Failed {
        /// Its path.
        path: PathBuf,
        /// What it was asked.
        what: &'static str,
        /// How.
        status: ExitStatus,
        /// What it said, after a colon.
        said: String,
    },
    /// It keeps its state otherwise, or is another program.
    #[error(
        "{path} takes over the state of format {found}, this agent has format {FORMAT}; hint: stop the agent and start the new one instead: a planned hand-over",
        path = path.display()
    )]
    Format {
        /// Its path.
        path: PathBuf,
        /// What it printed.
        found: String,
    },
    /// The configuration cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The configuration is not what the agent runs with.
    #[error(
        "{0} is not what the agent works with; hint: an upgrade changes the program alone: put the old configuration back, or stop the agent and start the new one: a planned hand-over"
    )]
    Changed(&'static str),
}

impl Candidate {
    /// This very program, which needs no look.
    pub(super) fn own() -> io::Result<Self> {
        Ok(Self { path: program_file(), program: File::open(own_program())? })
    }

    /// Examines the program at `path`, to run with the configuration in `files`, which must be the one in force.
    pub(in crate::agent) async fn examine(
        path: &Path,
        files: &Origin,
        config: &Config,
        secret: &ClusterSecret,
    ) -> Result<Self, Refusal> {
        unchanged(files, config, secret)?;
        let program = File::open(path).map_err(|why| Refusal::Start { path: path.to_owned(), why })?;
        let candidate = Self { path: path.to_owned(), program };
        let (named, optional) = arguments(files);
        let mut check = candidate.command();
        check.arg("check").args(named).args(&optional);
        candidate.ask("check", check).await?;
        let mut format = candidate.command();
        format.arg(SUBCOMMAND);
        if let Some(named) = named {
            format.arg("--config").arg(named);
        }
        format.args(optional);
        let found = candidate.ask(SUBCOMMAND, format).await?;
        if found.trim() != FORMAT.to_string() {
            let found = format!("`{}`", found.trim().escape_debug());
            return Err(Refusal::Format { path: candidate.path, found });
        }
        Ok(candidate)
    }

    /// To be started through its descriptor, as long as that is open.
    fn command(&self) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        command.arg0("rollcall").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        unblock_in(command.as_std_mut());
        command.kill_on_drop(true);
        command
    }

    /// Runs it to its end, for what it prints.
    async fn ask(&self, what: &'static str, mut command: Command) -> Result<String, Refusal> {
        let path = || self.path.clone();
        let failed = |why| Refusal::Start { path: path(), why };
        let mut child = command.spawn().map_err(failed)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let answer = async { tokio::join!(text(out), text(err), child.wait()) };
        let Ok((out, err, status)) = tokio::time::timeout(TIMEOUT, answer).await else {
            return Err(Refusal::Slow { path: path(), what });
        };
        let status = status.map_err(failed)?;
        if status.success() {
            return Ok(out);
        }
        let said = if err.trim().is_empty() { String::new() } else { format!(": {}", err.trim()) };
        Err(Refusal::Failed { path: path(), what, status, said })
    }
}

impl AsFd for Candidate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

/// All that a program prints, but for what nobody will read; it is read to the end, so that the program comes to its own.
async fn text(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut bytes = Vec::new();
    // What could not be read is missing in a message.
    let _ = (&mut stream).take(LONGEST_TEXT).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The cluster file, where there is one, and what else says where the configuration is.
fn arguments(files: &Origin) -> (Option<&Path>, Vec<&OsStr>) {
    let (cluster, node) = match files {
        Origin::Files { cluster, node } => (Some(cluster.as_path()), node.as_ref()),
        Origin::Store { node } => (None, Some(node)),
    };
    let node = node.into_iter().flat_map(|node| [OsStr::new("--node-file"), node.as_os_str()]);
    (cluster, node.collect())
}

/// The configuration on disk is the one in force. Certificates may be others: the proxy goes on with those that it has.
fn unchanged(files: &Origin, config: &Config, secret: &ClusterSecret) -> Result<(), Refusal> {
    let found = files.load()?;
    if !found.secret()?.is(secret) {
        return Err(Refusal::Changed("the cluster secret"));
    }
    if facts_of(&found, secret) != facts_of(config, secret) {
        return Err(Refusal::Changed("the cluster facts (cluster IPs, mode, nodes, rules, periods)"));
    }
    if found.cluster != config.cluster {
        return Err(Refusal::Changed("what the cluster file says beside the cluster facts"));
    }
    if found.local != config.local {
        return Err(Refusal::Changed("this node's own file"));
    }
    Ok(())
}

/// The hidden subcommand by which a program tells its format, and has the kernel look at its packet programs.
pub(super) const SUBCOMMAND: &str = "upgrade-check";

/// How long a program may take to look at a configuration.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much of what it prints is kept, bytes.
const LONGEST_TEXT: u64 = 4096;
