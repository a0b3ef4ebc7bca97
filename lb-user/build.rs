//! Compiles the XDP program and hands the object to the library, which embeds it (see `dataplane`).
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context as _, Result};
use xtask::bpf::{Object, Toolchain};

fn main() -> ExitCode {
    let root = xtask::workspace_root();
    for path in ["lb-ebpf", "lb-common/src", "lb-common/Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in format!("{error:#}").lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<()> {
    let object = Toolchain::find()?.build(Object::Rollcall)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").context("cargo did not set OUT_DIR")?);
    fs::copy(object, out.join("rollcall-xdp.o"))?;
    Ok(())
}
