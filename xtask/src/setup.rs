//! `cargo xtask setup`: what a machine lacks is found by looking for programs, so that a complete one costs no time.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;
use xtask::bpf::{self, Toolchain};
use xtask::{capture, exec, find_program};

/// How much to set up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum For {
    /// What compiles the XDP program.
    Build,
    /// And what the lab and the tests run.
    Tests,
    /// And the benches' peers, and what compiles the fuzzer.
    Everything,
}

/// A program that some task runs, and the Debian package that brings it.
struct Need {
    program: &'static str,
    package: &'static str,
    wanted_for: For,
}

const NEEDS: [Need; 11] = [
    Need { program: "cc", package: "gcc", wanted_for: For::Build },
    Need { program: "cmake", package: "cmake", wanted_for: For::Build },
    Need { program: "ip", package: "iproute2", wanted_for: For::Tests },
    Need { program: "nsenter", package: "util-linux", wanted_for: For::Tests },
    Need { program: "nft", package: "nftables", wanted_for: For::Tests },
    Need { program: "nginx", package: "nginx-light", wanted_for: For::Tests },
    Need { program: "curl", package: "curl", wanted_for: For::Tests },
    Need { program: "c++", package: "g++", wanted_for: For::Everything },
    Need { program: "haproxy", package: "haproxy", wanted_for: For::Everything },
    Need { program: "keepalived", package: "keepalived", wanted_for: For::Everything },
    Need { program: "wrk", package: "wrk", wanted_for: For::Everything },
];

const BPF_LINKER: &str = "0.13.0";

pub(crate) fn run(wanted: For) -> Result<()> {
    install_programs(wanted)?;
    if Toolchain::find().is_err() {
        install_toolchain()?;
    }
    Toolchain::find()?;
    Ok(())
}

fn install_programs(wanted: For) -> Result<()> {
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| need.wanted_for <= wanted && find_program(need.program).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = missing.iter().map(|need| need.program).collect();
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if !can_apt() {
        bail!(
            "not on this machine: {}\nhint: on Debian as root: apt-get install {}\nhint: elsewhere the packages bear much the same names",
            programs.join(", "),
            packages.join(" ")
        );
    }
    apt_install(&packages)
}

fn install_toolchain() -> Result<()> {
    if !can_apt() {
        Toolchain::find()?;
    }
    if !bpf::has_nightly_source() && !bpf::has_debian_core() {
        apt_install(&["rustc-web", "libstd-rust-web-dev-bpf"])?;
    }
    if bpf::linker().is_some() {
        return Ok(());
    }
    let major = bpf::debian_llvm_major()?;
    apt_install(&[
        &format!("llvm-{major}-dev"),
        &format!("libpolly-{major}-dev"),
        "libzstd-dev",
        "zlib1g-dev",
    ])?;
    with_spinner(&format!("building bpf-linker {BPF_LINKER} against LLVM {major}"), || {
        let mut cargo = Command::new("cargo");
        cargo
            .args([
                "install",
                "--quiet",
                "bpf-linker",
                "--version",
                BPF_LINKER,
                "--locked",
                "--no-default-features",
            ])
            .arg(format!("--features=llvm-{major}"))
            .arg("--root")
            .arg(bpf::tools_root())
            .env("LLVM_PREFIX", format!("/usr/lib/llvm-{major}"));
        capture(&mut cargo).map(drop)
    })
}

fn can_apt() -> bool {
    find_program("apt-get").is_some() && capture(Command::new("id").arg("-u")).is_ok_and(|uid| uid == "0")
}

/// Installs Debian packages; the daemons among them are not started, since only the lab's own copies should run.
fn apt_install(packages: &[&str]) -> Result<()> {
    with_spinner(&format!("installing {}", packages.join(" ")), || {
        let _policy = NoDaemons::set()?;
        let install = || {
            let mut apt = Command::new("apt-get");
            apt.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
            capture(apt.env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
        };
        // A fresh machine has no package lists, or stale ones.
        install().or_else(|_| {
            capture(Command::new("apt-get").args(["update", "--quiet"]))?;
            install()
        })
    })
}

/// While it lives, Debian's package scripts start no daemon (invoke-rc.d asks policy-rc.d, and 101 means no).
struct NoDaemons(bool);

impl NoDaemons {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn set() -> Result<Self> {
        if Path::new(Self::POLICY).exists() {
            return Ok(Self(false));
        }
        fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n").context("could not write /usr/sbin/policy-rc.d")?;
        exec(Command::new("chmod").args(["755", Self::POLICY]))?;
        Ok(Self(true))
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.0
            && let Err(error) = fs::remove_file(Self::POLICY)
        {
            eprintln!("warning: could not remove {}: {error}", Self::POLICY);
        }
    }
}

fn with_spinner(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    if spinner.is_hidden() {
        eprintln!("{what}");
    }
    let done = work();
    spinner.finish_and_clear();
    done
}
