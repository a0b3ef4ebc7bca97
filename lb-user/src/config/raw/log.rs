//! `[log]` as it is written.

use serde::Deserialize;
use toml::Spanned;

use super::nowhere;

/// `[log]`: what the proxy logs of each request. Where it goes is each node's own `access_log`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogTable {
    /// `"json"` (default: an object a line) or `"w3c"` (W3C extended, as IIS writes it).
    pub(crate) format: Spanned<String>,
    /// Of a request's query `"masked"` (default: all but values that may be secrets) or `"off"` (nothing).
    pub(crate) query: Spanned<String>,
}

impl Default for LogTable {
    fn default() -> Self {
        Self { format: nowhere("json".to_owned()), query: nowhere("masked".to_owned()) }
    }
}
