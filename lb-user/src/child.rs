//! What the agent's unprivileged children begin and end with, whatever they are for.

use std::ffi::CStr;
use std::io::{self, Write as _};
use std::process::ExitCode;

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
