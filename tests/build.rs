//! Compiles what the lab attaches beside the XDP program, and hands the object to the library, which embeds it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use xtask::bpf::{Object, embed};

fn main() -> ExitCode {
    embed(Object::Lab, "rollcall-lab-xdp.o")
}
