//! What the agent asks the proxy child beside its orders: one question over a connection to a Unix socket of the agent's, one answer, and
//! the end. The child answers one at a time, apart from all that serves clients.
//!
//! The agent takes an answer for hostile: it is bounded in bytes and time, and read strictly.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use super::metrics::Tally;
use super::number::RequestId;
use super::recent::Recalled;

/// A question: a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// All that is counted, as OpenMetrics text.
    Metrics,
    /// What became of all requests, in a few numbers. Answered by a `Tally` as JSON.
    Tally,
    /// One of the last requests. Answered by a JSON object or `null`.
    Request {
        /// Its number.
        id: String,
    },
}

/// Who knows the answers.
pub trait Teller: Send + Sync + 'static {
    /// What is counted.
    fn metrics(&self) -> String;
    /// The same, in a few numbers.
    fn tally(&self) -> Tally;
    /// What is remembered of a request.
    fn request(&self, id: RequestId) -> Option<Recalled>;
}

/// Answers for ever. `agent`: the user id that may ask, beside root.
pub async fn serve(socket: UnixListener, agent: u32, teller: impl Teller) {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => {
                if !matches!(timeout(PATIENCE, answer(stream, agent, &teller)).await, Ok(Ok(()))) {
                    tracing::debug!("a question of the agent's was not answered");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the agent cannot ask");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, agent: u32, teller: &impl Teller) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != 0 && uid != agent {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    let mut question = Vec::new();
    (&mut stream).take(LONGEST_QUESTION).read_to_end(&mut question).await?;
    let answer = match serde_json::from_slice(&question)? {
        Question::Metrics => teller.metrics(),
        Question::Tally => serde_json::to_string(&teller.tally())?,
        Question::Request { id } => {
            serde_json::to_string(&id.parse().ok().and_then(|id| teller.request(id)))?
        }
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Longest question in bytes.
const LONGEST_QUESTION: u64 = 1024;

/// Longest answer in bytes: the metrics of some 900 routes.
pub const LONGEST_ANSWER: u64 = 3 << 20;

/// Longest time for a question and its answer.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(250);
