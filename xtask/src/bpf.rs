//! The toolchain that compiles lb-ebpf: found here, installed by `cargo xtask setup`, used by lb-user/build.rs.
//!
//! Two ways, tried in this order: rustup's nightly with `rust-src`, which builds `core` itself; or Debian's rustc, which
//! ships a ready `core` for the BPF target. Either needs bpf-linker, built against an LLVM no older than that rustc's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{capture, exec, find_program, workspace_root};

/// Where bpf-linker writes the compiled objects, below the target folder.
const OBJECTS: &str = "bpfel-unknown-none/release";
const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// An object of lb-ebpf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The program that `rollcall` carries.
    Rollcall,
    /// What the lab and the benches attach beside it.
    Lab,
}

/// A way to compile for the BPF target that is complete on this machine.
#[derive(Debug)]
pub enum Toolchain {
    /// rustup's nightly with `rust-src`.
    Nightly {
        /// bpf-linker.
        linker: PathBuf,
    },
    /// Debian's rustc with a ready `core` for the BPF target.
    Debian {
        /// bpf-linker.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// The first way that is complete here, or a message that names what is missing and the commands that bring it.
    pub fn find() -> Result<Self> {
        let linker = linker();
        let nightly = has_nightly_source();
        let debian = has_debian_core();
        match (linker, nightly, debian) {
            (Some(linker), true, _) => Ok(Self::Nightly { linker }),
            (Some(linker), false, true) => Ok(Self::Debian { linker }),
            (linker, nightly, debian) => bail!(missing(linker.is_some(), nightly || debian)),
        }
    }

    /// Compiles lb-ebpf and gives the path of one of its objects.
    pub fn build(&self, object: Object) -> Result<PathBuf> {
        let target_dir = workspace_root().join("target/bpf");
        let mut cargo = self.cargo()?;
        cargo
            .current_dir(workspace_root())
            .args([
                "build",
                "--quiet",
                "--package",
                "lb-ebpf",
                "--release",
                "--target",
                TARGET,
                "--target-dir",
            ])
            .arg(&target_dir);
        exec(&mut cargo).context("could not compile the XDP program (lb-ebpf)")?;
        let name = match object {
            Object::Rollcall => "rollcall-xdp",
            Object::Lab => "rollcall-lab-xdp",
        };
        Ok(target_dir.join(OBJECTS).join(name))
    }

    fn cargo(&self) -> Result<Command> {
        let (mut cargo, linker) = match self {
            Self::Nightly { linker } => {
                let mut cargo = Command::new("rustup");
                cargo.args(["run", "nightly", "cargo"]).args(["-Z", "build-std=core"]);
                (cargo, linker)
            }
            Self::Debian { linker } => {
                let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
                (Command::new(cargo), linker)
            }
        };
        // What an outer cargo (a build script's, clippy's) has set for the host must not reach the BPF build.
        for name in [
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "CARGO_BUILD_TARGET",
        ] {
            cargo.env_remove(name);
        }
        if matches!(self, Self::Debian { .. }) {
            // This rustc is a stable one: the two crates that use unstable features are named, because proc-macro
            // crates would probe for and use others.
            cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "aya_ebpf,rollcall_xdp");
        }
        let flags = ["--cfg=bpf_target_arch=\"x86_64\"", "-Cdebuginfo=2", "-Clink-arg=--btf"];
        cargo
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .env("PATH", path_with(linker)?)
            // The 512-byte stack of a BPF program holds only what one code unit, optimised whole, needs.
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
            .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false");
        Ok(cargo)
    }
}

/// The work of a build script: compiles lb-ebpf, and puts one of its objects into `OUT_DIR` under the name `file`.
#[expect(clippy::print_stdout, reason = "it is how a build script speaks to cargo")]
pub fn embed(object: Object, file: &str) -> ExitCode {
    let root = workspace_root();
    for path in ["lb-ebpf", "lb-common/src", "lb-common/Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    let embedded = || -> Result<()> {
        let compiled = Toolchain::find()?.build(object)?;
        let out = PathBuf::from(std::env::var_os("OUT_DIR").context("cargo did not set OUT_DIR")?);
        std::fs::copy(compiled, out.join(file))?;
        Ok(())
    };
    match embedded() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in format!("{error:#}").lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The folder in which `cargo xtask setup` installs bpf-linker.
pub fn tools_root() -> PathBuf {
    workspace_root().join("target/tools")
}

/// The LLVM major version that Debian's rustc was built with, which bpf-linker has to match.
pub fn debian_llvm_major() -> Result<u32> {
    let version = capture(Command::new(DEBIAN_RUSTC).arg("-vV"))?;
    version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .and_then(|llvm| llvm.split('.').next())
        .and_then(|major| major.parse().ok())
        .with_context(|| format!("{DEBIAN_RUSTC} -vV names no LLVM version"))
}

/// Whether Debian's rustc and its `core` for the BPF target are there.
pub fn has_debian_core() -> bool {
    let libdir = capture(Command::new(DEBIAN_RUSTC).args(["--print", "target-libdir", "--target", TARGET]));
    libdir.is_ok_and(|folder| Path::new(&folder).is_dir())
}

/// Whether rustup's nightly is there with the source of `core`.
pub fn has_nightly_source() -> bool {
    if find_program("rustup").is_none() {
        return false;
    }
    let mut rustc = Command::new("rustup");
    rustc.args(["run", "nightly", "rustc", "--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN");
    let sysroot = capture(&mut rustc);
    sysroot.is_ok_and(|root| Path::new(&root).join("lib/rustlib/src/rust/library/core").is_dir())
}

/// bpf-linker: the one that set-up installed, or the one on PATH.
pub fn linker() -> Option<PathBuf> {
    let own = tools_root().join("bin/bpf-linker");
    if own.is_file() { Some(own) } else { find_program("bpf-linker") }
}

fn path_with(linker: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = linker.parent().map(Path::to_path_buf).into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("PATH cannot be extended")
}

fn missing(linker: bool, core: bool) -> String {
    let mut what = Vec::new();
    if !core {
        what.push("a Rust compiler with `core` for the target bpfel-unknown-none");
    }
    if !linker {
        what.push("bpf-linker");
    }
    format!(
        "the XDP program cannot be compiled here: {} missing\n\
         hint: as root on Debian:  cargo xtask setup\n\
         hint: with rustup:        rustup toolchain install nightly --component rust-src && cargo install bpf-linker\n\
         hint: on Fedora:          dnf install rustup llvm-devel && rustup-init, then as with rustup",
        what.join(" and ")
    )
}
