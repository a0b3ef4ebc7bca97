//! A network namespace of a test's own: it lives as long as a thread, and the host's interfaces are never touched.

use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use rustix::thread::UnshareFlags;

/// Runs `work` on a thread of its own in a network namespace of its own, whose loopback interface is up.
///
/// Programs that `work` starts with [`run`] are in that namespace too. It ends with the thread.
///
/// # Panics
/// Where `work` does, and without the privilege to make a namespace.
pub fn in_own_netns<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        if let Err(error) = enter() {
            panic!("this test needs root, for a network namespace of its own: {error:#}");
        }
        work()
    });
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn enter() -> Result<()> {
    #[expect(
        deprecated,
        reason = "unsafe in general because of shared file descriptors; for CLONE_NEWNET it is not"
    )]
    rustix::thread::unshare(UnshareFlags::NEWNET)?;
    run("ip link set dev lo up")
}

/// Runs a program, given as words separated by spaces, in the caller's network namespace.
///
/// # Errors
/// It is not there, or it failed; with what it wrote to standard error.
pub fn run(command: &str) -> Result<()> {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().context("an empty command")?)
        .args(words)
        .output()
        .with_context(|| format!("could not start `{command}`"))?;
    ensure!(
        output.status.success(),
        "`{command}` failed: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}
