//! `rollcall load`: the program alone on an interface, for who works on the data path. A placeholder.

use std::path::PathBuf;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The interface.
    interface: String,
    /// The cluster file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which node to be; the first, if none is named.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Drop and answer as on a live node; without it everything passes.
    #[arg(long)]
    enforce: bool,
}

/// Runs until ctrl-C.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("load is not part of this build: {args:?}")
}
