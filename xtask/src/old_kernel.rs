//! `cargo xtask old-kernel`: shows that the XDP program loads, attaches and runs on the oldest kernel supported.
//!
//! Debian's kernel package is fetched, not installed, and booted in qemu with an initramfs in which tests' `rollcall-guest`
//! is the only process. What that one does to the kernel is its business; here are the machine around it and the judgement of
//! its report. Nothing but target/old-kernel is written.

mod initramfs;
mod kernel;
mod machine;
mod report;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use xtask::{capture, find_program, workspace_root};

use self::kernel::Kernel;
use self::machine::Machine;
use crate::run;

/// The kernel that has to load the program: of the long-term ones, the oldest that a supported Debian ships.
const OLDEST: &str = "6.1";

/// Boots the kernel, prints what became of each step, and succeeds if all went well on a kernel of the right version.
pub(crate) fn run() -> Result<ExitCode> {
    let folder = workspace_root().join("target/old-kernel");
    fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
    let kernel = Kernel::find_or_fetch(&folder)?;
    let guest = run::build_guest()?;
    let initrd = folder.join("initramfs.cpio");
    pack(&kernel, &guest, &initrd)?;
    let machine = Machine { kernel: &kernel, initrd: &initrd, console: folder.join("console.log") };
    let report = machine.boot()?;
    write!(io::stdout(), "{}", report.table()).context("could not write to standard output")?;
    report.verdict(OLDEST)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the guest's file system: its program, `ip`, the libraries of both, and the driver that Debian has as a module.
fn pack(kernel: &Kernel, guest: &Path, initrd: &Path) -> Result<()> {
    let ip = find_program("ip").context("`ip` is not on PATH; hint: cargo xtask setup")?;
    let mut archive = initramfs::Archive::default();
    // The console for the kernel's first process, and the port for its report.
    archive.character_device("dev/console", 5, 1);
    archive.character_device("dev/null", 1, 3);
    archive.character_device("dev/ttyS1", 4, 65);
    archive.program("init", guest)?;
    archive.program("bin/ip", &ip)?;
    for library in libraries(guest)?.into_iter().chain(libraries(&ip)?) {
        archive.program(library.trim_start_matches('/'), Path::new(&library))?;
    }
    archive.program("veth.ko", &kernel.veth())?;
    for mount_point in ["proc", "sys"] {
        archive.folder(mount_point);
    }
    fs::write(initrd, archive.finish()).with_context(|| format!("could not write {}", initrd.display()))
}

/// The shared libraries of `program` and their loader, as absolute paths.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let listed = capture(Command::new("ldd").arg(program))?;
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(str::to_owned).collect())
}
