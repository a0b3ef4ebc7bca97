//! What to make of an answer that is none.

use crate::control::api::Answer;

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
        | Answer::Operated { .. } => {
            anyhow::anyhow!("the agent answered another question; hint: restart it after an update")
        }
    }
}
