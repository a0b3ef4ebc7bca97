//! `rollcall metrics`: all that is counted on this node, for Prometheus and others.

use std::path::Path;

use super::ask::unexpected;
use super::output;
use crate::control::api::{Answer, Request};
use crate::control::client;

pub(super) fn run(run_dir: &Path) -> anyhow::Result<()> {
    let answer = client::ask(run_dir, &Request::Metrics)?;
    let Answer::Metrics { text } = answer else {
        return Err(unexpected(answer));
    };
    output::line(text.trim_end());
    Ok(())
}
