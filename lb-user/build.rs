//! Compiles the XDP program and hands the object to the library, which embeds it (see `dataplane`).
#![forbid(unsafe_code)]

use std::process::ExitCode;

use xtask::bpf::{Object, embed};

fn main() -> ExitCode {
    embed(Object::Rollcall, "rollcall-xdp.o")
}
