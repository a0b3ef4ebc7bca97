//! Asking the agent, and what to make of an answer that is none.

use std::path::Path;

use anyhow::Context as _;

use crate::control::api::{Answer, Request};
use crate::control::client;

/// What the agent answers to a request that it needs its time for.
pub(super) fn patiently(run_dir: &Path, request: &Request) -> anyhow::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut answers = Vec::new();
    runtime
        .block_on(client::follow(run_dir, request, std::future::pending(), |answer| answers.push(answer)))?;
    answers.pop().context("the agent gave no answer; hint: look at its log")
}

/// What `answer` says, if it is not what was asked for.
pub(super) fn unexpected(answer: Answer) -> anyhow::Error {
    match answer {
        Answer::Error { text } => anyhow::anyhow!(text),
        Answer::Invalid { text } => Invalid(text).into(),
        Answer::Status(_)
        | Answer::Shown(_)
        | Answer::Generations { .. }
        | Answer::Applied(_)
        | Answer::Certificates { .. }
        | Answer::CertificateSet(_)
        | Answer::Removed(_)
        | Answer::Token { .. }
        | Answer::Explanation(_)
        | Answer::RequestExplanation(_)
        | Answer::Connections(_)
        | Answer::Sample(_)
        | Answer::Skipped { .. }
        | Answer::Captured(_)
        | Answer::Events { .. }
        | Answer::Metrics { .. }
        | Answer::Recalled { .. }
        | Answer::Reloaded(_)
        | Answer::Operated { .. }
        | Answer::ServerSet { .. } => {
            anyhow::anyhow!("the agent answered another question; hint: restart it after an update")
        }
    }
}

/// What the agent found wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Invalid(String);
