//! What the tasks and lb-user's build script share: running commands, and the toolchain for the BPF target.
#![forbid(unsafe_code)]

pub mod bpf;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// The workspace's top folder.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Runs `command` with its output on this terminal; the error names the whole command line.
pub fn exec(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("could not start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// Runs `command` and gives its standard output; the error carries what it wrote to standard error.
pub fn capture(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("could not start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}\n{}", String::from_utf8_lossy(&stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&stdout).trim_end().to_owned())
}

/// Runs `command` and hands every line of its standard output to `take`; gives whether it succeeded.
pub fn lines(mut command: Command, mut take: impl FnMut(&str)) -> Result<bool> {
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("could not start {command:?}"))?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            take(&line.context("could not read what a command prints")?);
        }
    }
    Ok(child.wait().context("could not wait for a command")?.success())
}

/// Where `program` lies on PATH or in the folders an ordinary user's PATH lacks.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
