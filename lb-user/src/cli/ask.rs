//! `rollcall drain` and `rollcall resume`: a request, and the agent's sentence on it. And what to make of an answer that is none.

use std::path::Path;

use super::output;
use crate::control::api::{Answer, Request};
use crate::control::client;

pub(super) fn run(run_dir: &Path, request: &Request) -> anyhow::Result<()> {
    let answer = client::ask(run_dir, request)?;
    let Answer::Done { text } = answer else {
        return Err(unexpected(answer));
    };
    output::line(&text);
    Ok(())
}

/// What `answer` says, if it is not what was asked for.
pub(super) fn unexpected(answer: Answer) -> anyhow::Error {
    match answer {
        Answer::Error { text } => anyhow::anyhow!(text),
        Answer::Status(_)
        | Answer::Explanation(_)
        | Answer::Connections(_)
        | Answer::Sample(_)
        | Answer::Skipped { .. }
        | Answer::Captured(_)
        | Answer::Events { .. }
        | Answer::Done { .. } => {
            anyhow::anyhow!("the agent answered another question; hint: restart it after an update")
        }
    }
}
