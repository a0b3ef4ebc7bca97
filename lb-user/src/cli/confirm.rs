//! A question before what cannot be taken back. Only a person at a terminal is asked: scripts go on as they always did.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::Context as _;

/// Whether to ask.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Consent {
    /// Do not ask, on a terminal either
    #[arg(long)]
    yes: bool,
}

impl Consent {
    /// Asks whether to go on with `what`, a sentence without its full stop. An error: the answer was another than yes.
    pub(super) fn ask(self, what: &str) -> anyhow::Result<()> {
        if self.yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(());
        }
        let what: String = what.chars().filter(|c| !c.is_control()).collect();
        write!(io::stderr(), "{what}. Go on? [y/N] ").context("cannot ask; hint: --yes answers yes")?;
        let mut answer = String::new();
        io::stdin()
            .lock()
            .read_line(&mut answer)
            .context("cannot read the answer; hint: --yes answers yes")?;
        anyhow::ensure!(agrees(&answer), "nothing was done; hint: answer y, or give --yes");
        Ok(())
    }
}

fn agrees(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (answer, yes) in
            [("y\n", true), ("Yes\r\n", true), ("", false), ("\n", false), ("n\n", false), ("yo\n", false)]
        {
            assert_eq!(agrees(answer), yes, "{answer:?}");
        }
    }
}
