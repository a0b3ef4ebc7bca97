//! What the agent's unprivileged children begin and end with, whatever they are for, and how the agent keeps one there.

use std::ffi::CStr;
use std::io::{self, Write as _};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use tokio::time::timeout;

use crate::proxy::child::Child;

/// The whole of a child: does its work under the name that `ps` shows, which is the subcommand's with `-` for the space.
///
/// It logs, and says why it failed, on standard error: where the agent's own log goes, too.
pub(crate) fn run<E>(name: &CStr, work: impl FnOnce() -> Result<(), E>) -> ExitCode
where
    E: std::error::Error + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        // Where the log cannot be written, as after the death of who read it, complaining of that there would panic.
        .log_internal_errors(false)
        .with_ansi(false)
        .init();
    // The program is started by a number, which nobody would know it by.
    let named = rustix::thread::set_name(name).map_err(|error| anyhow::Error::from(io::Error::from(error)));
    match named.and_then(|()| work().map_err(anyhow::Error::from)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let name = name.to_string_lossy().replace('-', " ");
            drop(writeln!(io::stderr(), "{name}: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A child that has not got all that it needs: nobody else would end it. Released, or ended.
#[derive(Debug)]
pub(crate) struct Ward(Option<Child>);

impl Ward {
    pub(crate) fn of(child: Child) -> Self {
        Self(Some(child))
    }

    /// It has all. `None` is never given.
    pub(crate) fn release(mut self) -> Option<Child> {
        self.0.take()
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            child.end();
        }
    }
}

/// How long a child whose channel was closed may take to be gone.
pub(crate) const EXIT_GRACE: Duration = Duration::from_secs(2);

/// Waits a moment for the end of a child whose channel is closed, then kills it: it is not yet waited for, so its id is its own. How it
/// ended by itself, if it did.
pub(crate) async fn see_out(child: &Child) -> Option<ExitStatus> {
    let Ok(ended) = timeout(EXIT_GRACE, child.wait()).await else {
        drop(child.kill().await);
        return None;
    };
    ended.ok()
}

/// Pauses before a dead child is replaced: each is twice the one before, up to the longest; after a child that lived longer than that they
/// begin anew.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Pauses {
    pub(crate) fn new() -> Self {
        Self(SHORTEST_PAUSE)
    }

    /// The pause after a child that lived so long.
    pub(crate) fn after(&mut self, lived: Duration) -> Duration {
        let pause = if lived > LONGEST_PAUSE { SHORTEST_PAUSE } else { self.0 };
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_child_that_lived() {
        let mut pauses = Pauses::new();
        let short = Duration::from_secs(1);
        let ms: Vec<u128> = (0..8).map(|_| pauses.after(short).as_millis()).collect();
        assert_eq!(ms, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pauses.after(LONGEST_PAUSE + short), SHORTEST_PAUSE);
        assert_eq!(pauses.after(short), SHORTEST_PAUSE * 2);
    }
}
