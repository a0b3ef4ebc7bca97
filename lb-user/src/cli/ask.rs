//! `rollcall drain` and `rollcall resume`: a request, and the agent's sentence on it.

use std::path::Path;

use super::output;
use crate::control::api::{Answer, Request};
use crate::control::client;

pub(super) fn run(run_dir: &Path, request: &Request) -> anyhow::Result<()> {
    match client::ask(run_dir, request)? {
        Answer::Done { text } => {
            output::line(&text);
            Ok(())
        }
        Answer::Error { text } => anyhow::bail!(text),
        Answer::Status(_) => {
            anyhow::bail!("the agent answered another question; hint: restart it after an update")
        }
    }
}
