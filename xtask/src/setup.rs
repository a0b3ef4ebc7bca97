//! `cargo xtask setup`: what a machine lacks is found by looking for programs, so that a complete one costs no time.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;
use xtask::bpf::{self, Toolchain};
use xtask::{capture, exec, find_program};

use crate::python;

/// How much to set up.
#[derive(Clone, Copy)]
pub(crate) enum For {
    /// What compiles the XDP program.
    Build,
    /// And what the lab and the tests run, Python's packages among it.
    Tests,
    /// And the benches' peers.
    Everything,
    /// What compiles the XDP program, and what shows it to an older kernel. No other task needs an emulator.
    OldKernel,
    /// What compiles the XDP program, and what compiles the fuzzer.
    Fuzz,
}

impl For {
    fn needs(self) -> impl Iterator<Item = &'static Need> {
        let sets: &[&[Need]] = match self {
            Self::Build => &[&BUILD],
            Self::Tests => &[&BUILD, &TESTS],
            Self::Everything => &[&BUILD, &TESTS, &PEERS],
            Self::OldKernel => &[&BUILD, &OLD_KERNEL],
            Self::Fuzz => &[&BUILD, &FUZZER],
        };
        sets.iter().copied().flatten()
    }

    fn runs_python(self) -> bool {
        match self {
            Self::Tests | Self::Everything => true,
            Self::Build | Self::OldKernel | Self::Fuzz => false,
        }
    }
}

/// What some task runs, and the Debian package that brings it.
struct Need {
    /// A program's name, or a file with its whole path, such as a module of one.
    program: &'static str,
    package: &'static str,
}

const BUILD: [Need; 2] =
    [Need { program: "cc", package: "gcc" }, Need { program: "cmake", package: "cmake" }];

const TESTS: [Need; 23] = [
    Need { program: "ip", package: "iproute2" },
    Need { program: "nsenter", package: "util-linux" },
    Need { program: "nft", package: "nftables" },
    Need { program: "nginx", package: "nginx-light" },
    Need { program: "curl", package: "curl" },
    Need { program: "openssl", package: "openssl" },
    Need { program: "faketime", package: "faketime" },
    Need { program: "stress-ng", package: "stress-ng" },
    Need { program: "slowhttptest", package: "slowhttptest" },
    Need { program: "haproxy", package: "haproxy" },
    // The bare server: the package `apache2` would add a service to this machine.
    Need { program: "apache2", package: "apache2-bin" },
    Need { program: "/usr/lib/apache2/modules/mod_auth_gssapi.so", package: "libapache2-mod-auth-gssapi" },
    Need { program: "postfix", package: "postfix" },
    Need { program: "etcd", package: "etcd-server" },
    Need { program: "etcdctl", package: "etcd-client" },
    Need { program: "krb5kdc", package: "krb5-kdc" },
    Need { program: "kadmin.local", package: "krb5-admin-server" },
    Need { program: "kinit", package: "krb5-user" },
    Need { program: "python3", package: "python3" },
    Need { program: "node", package: "nodejs" },
    Need { program: "h2load", package: "nghttp2-client" },
    Need { program: "testssl", package: "testssl.sh" },
    // A browser without what draws windows.
    Need { program: "chromium-headless-shell", package: "chromium-headless-shell" },
];

const PEERS: [Need; 3] = [
    Need { program: "iptables-legacy", package: "iptables" },
    Need { program: "keepalived", package: "keepalived" },
    Need { program: "wrk", package: "wrk" },
];

const OLD_KERNEL: [Need; 5] = [
    Need { program: "qemu-system-x86_64", package: "qemu-system-x86" },
    Need { program: "ip", package: "iproute2" },
    Need { program: "dpkg-deb", package: "dpkg" },
    Need { program: "ldd", package: "libc-bin" },
    Need { program: "timeout", package: "coreutils" },
];

const FUZZER: [Need; 1] = [Need { program: "c++", package: "g++" }];

const BPF_LINKER: &str = "0.13.0";

pub(crate) fn run(wanted: For) -> Result<()> {
    install_programs(wanted)?;
    if wanted.runs_python() {
        python::install()?;
    }
    if Toolchain::find().is_err() {
        install_toolchain()?;
    }
    Toolchain::find()?;
    Ok(())
}

fn install_programs(wanted: For) -> Result<()> {
    let missing: Vec<&Need> = wanted.needs().filter(|need| find_program(need.program).is_none()).collect();
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
    with_spinner(&format!("building bpf-linker {BPF_LINKER} against LLVM {major}"), |_| {
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

/// Whether this is Debian, and this user may install packages.
pub(crate) fn can_apt() -> bool {
    find_program("apt-get").is_some() && capture(Command::new("id").arg("-u")).is_ok_and(|uid| uid == "0")
}

/// Installs Debian packages; the daemons among them are not started, since only the lab's own copies should run.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    with_spinner(&format!("installing {}", packages.join(" ")), |_| {
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

/// Does `work` under a spinner, whose message it may change; where there is no terminal, a line says what is being done.
pub(crate) fn with_spinner<T>(what: &str, work: impl FnOnce(&ProgressBar) -> Result<T>) -> Result<T> {
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    if spinner.is_hidden() {
        eprintln!("{what}");
    }
    let done = work(&spinner);
    spinner.finish_and_clear();
    done
}
