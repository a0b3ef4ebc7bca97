//! Why the proxy answers by itself: names that logs, counters and the operator's questions share, and that stay as they are.
//! The client learns the status and nothing else.

use std::fmt;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// The cause of an answer that no server gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No server of the farm is healthy, or none may be asked.
    NoHealthyServer,
    /// No connection to the server came about, or not in time.
    ConnectFailed,
    /// The server did not prove who it is, or speaks no TLS that we speak.
    ServerTls,
    /// The server closed the connection without an answer, or with one that is not HTTP.
    ServerClosed,
    /// The server did not answer in time.
    Timeout,
    /// The client asks more, or more often, than it may.
    Limit,
    /// The client, or what it asks for, is not let in.
    Refused,
    /// No site here has this name, or another one than the TLS handshake was for.
    UnknownHost,
    /// The request contradicts itself, or is none.
    BadRequest,
    /// The client did not send its request in time.
    ClientSlow,
    /// The request logs its connection on, which a proxy shares between its clients.
    SharedConnection,
    /// The request, or its answer, is about a logon that belongs to a connection, and came over HTTP/2.
    #[serde(rename = "http_1_1_required")]
    Http11Required,
    /// It was not over at the end of the drain timeout, and was cut off; no failure of anybody's.
    Drained,
    /// A pattern of a rule, or the text that it makes, went beyond its limit, so that what the rule would have done is not known.
    RuleLimit,
}

impl Cause {
    /// All of them, in the order of their values.
    pub const ALL: [Self; 14] = [
        Self::NoHealthyServer,
        Self::ConnectFailed,
        Self::ServerTls,
        Self::ServerClosed,
        Self::Timeout,
        Self::Limit,
        Self::Refused,
        Self::UnknownHost,
        Self::BadRequest,
        Self::ClientSlow,
        Self::SharedConnection,
        Self::Http11Required,
        Self::Drained,
        Self::RuleLimit,
    ];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoHealthyServer => "no_healthy_server",
            Self::ConnectFailed => "connect_failed",
            Self::ServerTls => "server_tls",
            Self::ServerClosed => "server_closed",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::Refused => "refused",
            Self::UnknownHost => "unknown_host",
            Self::BadRequest => "bad_request",
            Self::ClientSlow => "client_slow",
            Self::SharedConnection => "shared_connection",
            Self::Http11Required => "http_1_1_required",
            Self::Drained => "drained",
            Self::RuleLimit => "rule_limit",
        }
    }

    /// The status of the answer. A part of the proxy that knows a more exact one of the same class (413, 414 and 431 for a
    /// limit) may give that.
    pub const fn status(self) -> StatusCode {
        match self {
            // A request that is cut off is told nothing; this one stands in the log.
            Self::NoHealthyServer | Self::Drained => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectFailed | Self::ServerTls | Self::ServerClosed => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Limit => StatusCode::TOO_MANY_REQUESTS,
            Self::Refused | Self::SharedConnection | Self::RuleLimit => StatusCode::FORBIDDEN,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::ClientSlow => StatusCode::REQUEST_TIMEOUT,
            // Said as a stream's error code, which has no status; this one stands in the log.
            Self::Http11Required => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_statuses_are_what_operators_were_told() {
        let told = Cause::ALL.map(|cause| (cause.as_str(), cause.status().as_u16()));
        assert_eq!(
            told,
            [
                ("no_healthy_server", 503),
                ("connect_failed", 502),
                ("server_tls", 502),
                ("server_closed", 502),
                ("timeout", 504),
                ("limit", 429),
                ("refused", 403),
                ("unknown_host", 421),
                ("bad_request", 400),
                ("client_slow", 408),
                ("shared_connection", 403),
                ("http_1_1_required", 505),
                ("drained", 503),
                ("rule_limit", 403),
            ]
        );
    }

    #[test]
    fn the_access_log_s_document_has_every_cause_in_order() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/access-log.md");
        let document = std::fs::read_to_string(path).unwrap();
        let (_, causes) = document.split_once("## Causes").unwrap();
        let (_, table) = causes.split_once("|---|---|---|").unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
        let told: Vec<_> = rows.map(|row| row.split(" | ").take(2).collect::<Vec<_>>().join(" ")).collect();
        let wanted = Cause::ALL.map(|cause| format!("{cause}` {}", cause.status().as_u16()));
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_cause_is_written_by_its_name_and_stands_at_its_place() {
        for (place, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, place);
            assert_eq!(serde_json::to_string(&cause).unwrap(), format!("\"{cause}\""));
        }
    }
}
