//! A record of the events log: what `rollcall events --json` prints, a line each, what `events.jsonl` holds, and what an `on_event`
//! command reads. The names of its fields stay as they are; later versions may add some.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wall::WallTime;

/// Something that an operator cares about, and when it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Counts this node's records from 1 on, over restarts of its agent.
    pub seq: u64,
    /// When, by the wall clock: RFC 3339 in UTC, as `2026-11-24T12:31:07.042Z`. Of several that were folded, the latest.
    pub time: WallTime,
    /// When, in milliseconds of the host's monotonic clock: differences are right though somebody sets the wall clock.
    pub monotonic_ms: u64,
    /// The node that noted it.
    pub node: String,
    /// What kind of event, as `suspect`, `dead` or `converged`.
    pub kind: String,
    /// Whether it could wake someone.
    pub warning: bool,
    /// The other node that it is about, if it is about one.
    #[serde(default)]
    pub about: Option<String>,
    /// The sentence for the operator.
    pub text: String,
    /// For how many equal events it stands: those that repeat within a minute are folded into one record.
    #[serde(default = "one")]
    pub count: u32,
    /// How many records before it are missing from the file, because they came too fast or the disk failed.
    #[serde(default)]
    pub missed: u64,
    /// More, by kind. `converged`: `epoch`, `nodes`, `moved` (buckets), `duration_ms`, `causes` (sentences).
    #[serde(default)]
    pub details: BTreeMap<String, Value>,
}

fn one() -> u32 {
    1
}

impl EventRecord {
    /// Its sentence, and how often it was true.
    pub fn sentence(&self) -> String {
        match self.count {
            0 | 1 => self.text.clone(),
            count => format!("{} ({count} times)", self.text),
        }
    }
}
