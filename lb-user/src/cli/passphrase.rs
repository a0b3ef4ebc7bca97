//! The passphrase of a portable file: from a file, or from somebody at a terminal, which does not show it.

use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Stdin};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::output;
use crate::shared::portable::Passphrase;

/// Shortest passphrase that a file is written under, characters: what is sealed by it may be tried at leisure.
const SHORTEST: usize = 8;

/// Longest file with one, bytes.
const LONGEST: u64 = 4096;

/// What a new file is to be sealed by; typed twice where it is typed.
pub(super) fn chosen(file: Option<&Path>) -> anyhow::Result<Passphrase> {
    let text = match file {
        Some(file) => read(file)?,
        None => {
            let first = typed("passphrase for the file:")?;
            ensure!(
                first == typed("the same once more:")?,
                "what was typed is not the same twice; hint: try again"
            );
            first
        }
    };
    let length = text.chars().count();
    ensure!(
        length >= SHORTEST,
        "the passphrase has {length} characters, and {SHORTEST} are the least; hint: several words that have nothing to do with each other"
    );
    passphrase(text)
}

/// What a file was sealed by.
pub(super) fn known(file: Option<&Path>) -> anyhow::Result<Passphrase> {
    passphrase(match file {
        Some(file) => read(file)?,
        None => typed("passphrase of the file:")?,
    })
}

fn passphrase(text: String) -> anyhow::Result<Passphrase> {
    Passphrase::new(text).context("the passphrase is empty; hint: it is the first line of the file")
}

/// The first line of a file.
fn read(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read the passphrase from {}", path.display());
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
    read.with_context(cannot)?;
    ensure!(
        u64::try_from(bytes.len()).is_ok_and(|length| length <= LONGEST),
        "{} is longer than {LONGEST} bytes; hint: the passphrase stands alone in its first line",
        path.display()
    );
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        anyhow::anyhow!("the passphrase in {} is no text in UTF-8; hint: write it anew", path.display())
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What somebody types.
fn typed(prompt: &str) -> anyhow::Result<String> {
    let stdin = io::stdin();
    if !(stdin.is_terminal() && io::stderr().is_terminal()) {
        bail!("nobody can be asked for the passphrase here; hint: --passphrase-file FILE");
    }
    output::remark(prompt);
    let hidden = Hidden::begin(&stdin).context("cannot hide what is typed at this terminal")?;
    let mut line = String::new();
    let read = stdin.lock().take(LONGEST).read_line(&mut line);
    drop(hidden);
    read.context("cannot read the passphrase")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// While it is there, the terminal does not show what is typed.
struct Hidden<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn begin(terminal: &'a Stdin) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden.local_modes -= LocalModes::ECHO;
        tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
