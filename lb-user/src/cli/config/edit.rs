//! `rollcall config edit`: the configuration in an editor, and applied when that ends.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{Change, Tried, about, applied, editor, print, shown};
use crate::cli::output;
use crate::config::text_of;
use crate::control::api::Configure;

pub(super) fn run(run_dir: &Path, tried: Tried, change: Change) -> anyhow::Result<()> {
    let shown = shown(run_dir, None)?;
    let mut lines = about(&shown);
    lines.push(shown.text.clone());
    let before = lines.join("\n");
    let path = std::env::temp_dir().join(format!("rollcall-{}.toml", std::process::id()));
    write(&path, &before).with_context(|| format!("cannot write {}", path.display()))?;
    loop {
        let command = editor()?;
        let status =
            Command::new("sh").arg("-c").arg(format!("{command} \"$1\"")).arg("sh").arg(&path).status();
        let status = status.with_context(|| format!("cannot start {command}"))?;
        if !status.success() {
            bail!(
                "{command} ended with {status}: nothing was applied; hint: what you wrote is in {}",
                path.display()
            );
        }
        let text = text_of(&path)
            .with_context(|| format!("nothing was applied, and what you wrote is in {}", path.display()))?;
        if text == before {
            output::line("nothing was changed");
            return remove(&path);
        }
        let wanted = Configure::Apply {
            path: path.clone(),
            comment: change.comment.clone(),
            parent: None,
            dry_run: false,
            reread: false,
            confirm_within: None,
            canary: tried.seconds(),
        };
        tried.announce();
        match applied(run_dir, wanted) {
            Ok(applied) => {
                remove(&path)?;
                return print(applied, change.json);
            }
            Err(error) if again(&error) => {}
            Err(error) => {
                return Err(error
                    .context(format!("nothing was applied, and what you wrote is in {}", path.display())));
            }
        }
    }
}

/// Whether the user wants to mend what is wrong; nobody is asked where nobody looks.
fn again(error: &anyhow::Error) -> bool {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return false;
    }
    output::error(error);
    output::remark("edit it again? [Y/n]");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer).is_ok_and(|length| length > 0);
    read && !answer.trim().eq_ignore_ascii_case("n")
}

/// A file that nobody else can read.
fn write(path: &PathBuf, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}
