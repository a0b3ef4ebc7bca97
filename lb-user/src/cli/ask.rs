//! What to make of an answer that is none.

use crate::control::api::Answer;

/// What `answer` says, if it is not what was asked for.
pub(super) fn unexpected(answer: Answer) -> anyhow::Error {
    match answer {
        Answer::Error { text } => anyhow::anyhow!(text),
        Answer::Status(_)
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
