//! Where the log goes: standard error, for the service manager to keep. What is logged is decided where it happens.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// The variable that says what is logged, as `RUST_LOG` elsewhere: `debug`, `info,lb_user::cluster=trace`. Default `info`.
pub const VARIABLE: &str = "ROLLCALL_LOG";

/// Starts logging; once in a process. Directives that make no sense are left out, with a line that says so.
///
/// Under systemd the journal stamps each line, so no time is printed there.
pub fn init() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var(VARIABLE)
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        // It would tell standard error, and panic, once nobody reads that any more; the agent has to go on without its log.
        .log_internal_errors(false)
        .with_ansi(colours(&stderr()))
        .with_target(false);
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    // A second call is a test's; the first one's settings stay.
    let _ = if journal { log.without_time().try_init() } else { log.try_init() };
}

/// Whether what is written there may have colours: on a terminal whose user has not set `NO_COLOR` (no-color.org).
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
