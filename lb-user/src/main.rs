//! The `rollcall` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("proxy") => lb_user::proxy::worker::main(),
        _ => ExitCode::from(2),
    }
}
