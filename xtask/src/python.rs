//! The Python environment of the tests: a venv below target/ with exactly the packages that tests/python/requirements.txt lists.
//! What is run in it, the tests decide.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use xtask::{capture, find_program, workspace_root};

use crate::setup::{apt_install, can_apt, with_spinner};

/// Makes the environment, unless it stands and has the packages of the list as it is now.
pub(crate) fn install() -> Result<()> {
    let list = workspace_root().join("tests/python/requirements.txt");
    let wanted = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let folder = folder();
    // Written last, so that it also says that what came before is whole.
    let installed = folder.join("installed.txt");
    if folder.join("bin/python").is_file() && fs::read_to_string(&installed).is_ok_and(|text| text == wanted)
    {
        return Ok(());
    }
    with_spinner("installing the tests' Python packages", |_| {
        make(&folder)?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary",
            ":all:",
            // All Python, and published as source alone.
            "--no-binary",
            "sslyze",
        ]);
        capture(pip.args(["--requirement".as_ref(), list.as_os_str()])).context(
            "cannot install the tests' Python packages; hint: they come from PyPI, or from what pip.conf names instead",
        )
    })?;
    fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))
}

fn folder() -> PathBuf {
    workspace_root().join("target/python")
}

/// A new, empty environment in place of what is there.
fn make(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let python = find_program("python3").context("python3 is not on PATH")?;
    // Debian has what makes environments in a package of its own.
    if capture(Command::new(&python).args(["-c", "import ensurepip, venv"])).is_err() {
        if !can_apt() {
            bail!("python3 has no venv module; hint: on Debian as root: apt-get install python3-venv");
        }
        apt_install(&["python3-venv"])?;
    }
    capture(Command::new(python).args(["-m", "venv"]).arg(folder)).map(drop)
}
