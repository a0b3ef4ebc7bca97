//! `[log]` as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::nowhere;
use crate::config::spanned::Spanned;

/// `[log]`: what the proxy logs of each request. Where it goes is each node's own `access_log`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogTable {
    /// `"json"` (default: an object a line) or `"w3c"` (W3C extended, as IIS writes it).
    #[schemars(extend("enum" = ["json", "w3c"]))]
    pub(crate) format: Spanned<String>,
    /// Of a request's query `"masked"` (default: all but values that may be secrets) or `"off"` (nothing).
    #[schemars(extend("enum" = ["masked", "off"]))]
    pub(crate) query: Spanned<String>,
}

impl Default for LogTable {
    fn default() -> Self {
        Self { format: nowhere("json".to_owned()), query: nowhere("masked".to_owned()) }
    }
}
