//! What is logged of requests.

use super::Problems;
use crate::config::raw::LogTable;
use crate::proxy::access::{Format, LogSettings, Query};

/// What `[log]` says.
pub(super) fn log(raw: &LogTable, problems: &mut Problems) -> Option<LogSettings> {
    let format = problems.choice("format", &raw.format, &[("json", Format::Json), ("w3c", Format::W3c)]);
    let query = problems.choice("query", &raw.query, &[("masked", Query::Masked), ("off", Query::Off)]);
    Some(LogSettings { format: format?, query: query? })
}
