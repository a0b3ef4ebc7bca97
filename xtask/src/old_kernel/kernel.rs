//! Debian's kernel: fetched by apt, which checks where it comes from, and unpacked without being installed.
//!
//! The `cloud` flavour has the same source and the same BPF, and drivers for virtual machines only: a third of the download.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use xtask::capture;

use crate::setup;

/// Which packages will do, as a regular expression for apt.
const PACKAGES: &str = r"^linux-image-6\.1\.[0-9.-]+-cloud-amd64$";
const PREFIX: &str = "linux-image-";

/// A kernel and its veth driver, in a folder named after the package.
pub(super) struct Kernel {
    folder: PathBuf,
}

impl Kernel {
    /// The kernel that an earlier run left below `cache`, or the newest 6.1 that apt knows.
    pub(super) fn find_or_fetch(cache: &Path) -> Result<Self> {
        let entries = fs::read_dir(cache).with_context(|| format!("could not read {}", cache.display()))?;
        let kernels = entries.flatten().map(|entry| Self { folder: entry.path() });
        let cached = kernels.filter(Self::is_complete).max_by_key(|kernel| version(&kernel.package()));
        if let Some(kernel) = cached {
            return Ok(kernel);
        }
        let package = newest_package()?;
        setup::with_spinner(&format!("fetching {package}"), |_| Self::fetch(cache, &package))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The bootable image.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The driver that the kernel has as a module, uncompressed and without dependencies.
    pub(super) fn veth(&self) -> PathBuf {
        self.folder.join("veth.ko")
    }

    /// As which the kernel ought to introduce itself.
    pub(super) fn release(&self) -> String {
        format!("Linux {}", self.package().trim_start_matches(PREFIX))
    }

    fn package(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn is_complete(&self) -> bool {
        self.package().starts_with(PREFIX) && self.image().is_file() && self.veth().is_file()
    }

    fn fetch(cache: &Path, package: &str) -> Result<Self> {
        let work = WorkFolder::new(cache.join("unpacking"))?;
        let download = || capture(Command::new("apt-get").args(["download", package]).current_dir(&work.0));
        // Lists that are older than the last security update name a version that is no longer there.
        download().or_else(|error| if update_lists() { download() } else { Err(error) })?;
        let deb = only_file(&work.0)?;
        capture(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&work.0))?;

        let release = package.trim_start_matches(PREFIX);
        let kernel = Self { folder: cache.join(package) };
        fs::create_dir_all(&kernel.folder)
            .with_context(|| format!("could not create {}", kernel.folder.display()))?;
        let veth = format!("lib/modules/{release}/kernel/drivers/net/veth.ko");
        for (from, to) in [(veth, kernel.veth()), (format!("boot/vmlinuz-{release}"), kernel.image())] {
            fs::rename(work.0.join(&from), to).with_context(|| {
                format!(
                    "{package} has no {from}; hint: Debian's package has changed, see xtask/src/old_kernel"
                )
            })?;
        }
        Ok(kernel)
    }
}

/// Holds the package and all of its files, and takes them away again.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn new(path: PathBuf) -> Result<Self> {
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).with_context(|| format!("could not create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: could not remove {}: {error}", self.0.display());
        }
    }
}

fn newest_package() -> Result<String> {
    let mut packages = known_packages()?;
    if packages.is_empty() && update_lists() {
        packages = known_packages()?;
    }
    let Some(newest) = packages.into_iter().max_by_key(|package| version(package)) else {
        bail!(
            "apt knows no package of Linux 6.1 (linux-image-6.1.*-cloud-amd64)\n\
             hint: as root: apt-get update\n\
             hint: this is Debian 12's kernel; on a later Debian, add bookworm to apt's sources first"
        );
    };
    Ok(newest)
}

fn known_packages() -> Result<Vec<String>> {
    let found = capture(Command::new("apt-cache").args(["--names-only", "search", PACKAGES]))?;
    Ok(found.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// The numbers in a package's name, which order its versions.
fn version(package: &str) -> Vec<u32> {
    package.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Whether apt has fresh lists now.
fn update_lists() -> bool {
    setup::can_apt() && capture(Command::new("apt-get").args(["update", "--quiet"])).is_ok()
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    let entry = entries.next().context("apt-get download has left no file")??;
    Ok(entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(
            version("linux-image-6.1.0-100-cloud-amd64") > version("linux-image-6.1.0-56-cloud-amd64"),
            "100 comes after 56"
        );
    }
}
