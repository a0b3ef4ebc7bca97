//! Asking the child something. What it answers is hostile: bounded in bytes and time, and read strictly.

use std::io;
use std::path::Path;

use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::proxy::ask::{LONGEST_ANSWER, PATIENCE, Question};
use crate::proxy::metrics::Tally;
use crate::proxy::number::RequestId;
use crate::proxy::recent::Recalled;

/// What the child of the agent with this run folder has counted: OpenMetrics text, with its end.
pub async fn metrics(run_dir: &Path) -> Result<String, QuestionError> {
    let text =
        String::from_utf8(ask(run_dir, &Question::Metrics).await?).map_err(|_| QuestionError::Answer)?;
    let sound = text.ends_with("\n# EOF\n") && text.chars().all(|c| c == '\n' || !c.is_control());
    if sound { Ok(text) } else { Err(QuestionError::Answer) }
}

/// What became of all its requests.
pub async fn tally(run_dir: &Path) -> Result<Tally, QuestionError> {
    let answer = ask(run_dir, &Question::Tally).await?;
    serde_json::from_slice(&answer).map_err(|_| QuestionError::Answer)
}

/// What it remembers of a request.
pub async fn request(run_dir: &Path, id: RequestId) -> Result<Option<Recalled>, QuestionError> {
    let answer = ask(run_dir, &Question::Request { id: id.to_string() }).await?;
    serde_json::from_slice(&answer).map_err(|_| QuestionError::Answer)
}

async fn ask(run_dir: &Path, question: &Question) -> Result<Vec<u8>, QuestionError> {
    let asked = async {
        let mut stream = UnixStream::connect(run_dir.join(QUESTIONS)).await?;
        stream.write_all(&serde_json::to_vec(question)?).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.take(LONGEST_ANSWER + 1).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let asked = timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let answer = asked.map_err(QuestionError::NoAnswer)?;
    let fits = u64::try_from(answer.len()).is_ok_and(|length| length <= LONGEST_ANSWER);
    if fits && !answer.is_empty() { Ok(answer) } else { Err(QuestionError::Answer) }
}

/// Why the child did not answer.
#[derive(Debug, Error)]
pub enum QuestionError {
    /// It could not be asked, or gave no answer in time.
    #[error("the proxy gives no answer; hint: `rollcall status` says whether it runs")]
    NoAnswer(#[source] io::Error),
    /// It answered something else.
    #[error("the proxy gave an answer that is none")]
    Answer,
}

/// The questions' socket's name in the run folder.
pub(super) const QUESTIONS: &str = "questions.sock";
