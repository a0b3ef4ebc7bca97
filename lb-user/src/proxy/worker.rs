//! The proxy child. A placeholder until it is there.

use std::process::ExitCode;

/// Runs the child.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
