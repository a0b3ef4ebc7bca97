//! The tasks that build something and then run it. What needs root runs under sudo where this user is not root.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use xtask::{capture, exec, find_program, workspace_root};

/// Builds target/release/rollcall.
pub(crate) fn build() -> Result<()> {
    exec(cargo().args(["build", "--release", "--package", "lb-user"]))
}

/// Builds the agent and the lab's programs, then runs the demo.
pub(crate) fn demo(args: &[String]) -> Result<ExitCode> {
    build_for_tests()?;
    lab("demo", args)
}

/// Builds the agent, as it is shipped, and the lab's programs, then runs a bench.
pub(crate) fn bench(args: &[String]) -> Result<ExitCode> {
    exec(cargo().args(RELEASE))?;
    lab("bench", args)
}

/// Builds the agent and the lab's programs, then runs a soak.
pub(crate) fn soak(args: &[String]) -> Result<ExitCode> {
    build_for_tests()?;
    lab("soak", args)
}

/// The agent and the lab's programs.
const RELEASE: [&str; 6] = ["build", "--release", "--package", "lb-user", "--package", "rollcall-tests"];

/// Builds the agent and the lab's programs as they are shipped, but for the optimisation at link time, which takes as long as all the
/// rest of the build, and is for speed alone.
pub(crate) fn build_for_tests() -> Result<()> {
    exec(cargo().args(RELEASE).env("CARGO_PROFILE_RELEASE_LTO", "off"))
}

/// Attaches the XDP program alone; `rollcall load` does the work.
pub(crate) fn load(args: &[String]) -> Result<ExitCode> {
    build()?;
    status(as_root(release("rollcall"))?.arg("load").args(args))
}

/// Builds the program that is all of the old kernel's user space, and gives its path.
pub(crate) fn build_guest() -> Result<PathBuf> {
    let guest = "rollcall-guest";
    exec(cargo().args(["build", "--release", "--package", "rollcall-tests", "--bin", guest]))?;
    Ok(release(guest))
}

fn lab(command: &str, args: &[String]) -> Result<ExitCode> {
    status(as_root(release("rollcall-lab"))?.arg(command).args(args))
}

pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(workspace_root());
    command
}

fn release(program: &str) -> PathBuf {
    workspace_root().join("target/release").join(program)
}

/// `program` as root: itself, or under sudo with this user's PATH and toolchain folders.
pub(crate) fn as_root(program: PathBuf) -> Result<Command> {
    if capture(Command::new("id").arg("-u"))? == "0" {
        return Ok(Command::new(program));
    }
    let sudo = find_program("sudo")
        .context("network namespaces and XDP need root: run this as root, or install sudo")?;
    let mut command = Command::new(sudo);
    command.arg("--preserve-env=PATH,CARGO_HOME,RUSTUP_HOME,HOME,CI,TERM,ROLLCALL_LOAD_PERCENT").arg(program);
    Ok(command)
}

fn status(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().with_context(|| format!("could not start {command:?}"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
