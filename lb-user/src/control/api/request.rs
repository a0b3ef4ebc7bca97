//! What would become of an HTTP request, and why.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A request, as far as what becomes of it depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// `https://HOST/PATH?QUERY`, with a port if it is another.
    pub url: String,
    /// Its method.
    pub method: String,
    /// Its header fields beside `Host`, which may be among them.
    pub headers: Vec<(String, String)>,
    /// The client's address.
    pub from: IpAddr,
}

/// What would become of a request on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestExplanation {
    /// It in a sentence.
    pub summary: String,
    /// The site's first name, if a site serves it.
    pub site: Option<String>,
    /// Why that one, or none.
    pub site_why: String,
    /// What was looked at, in order.
    pub steps: Vec<Step>,
    /// Where a server would answer.
    pub farm: Option<FarmExplanation>,
    /// What is not looked at here.
    pub remarks: Vec<String>,
}

/// Something that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `networks`, `maintenance`, `path`, `mitigations`, `rule NAME` or `route N: PATH`.
    pub what: String,
    /// What came of it.
    pub result: String,
}

/// The farm that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FarmExplanation {
    /// Its name.
    pub name: String,
    /// Path and query for the server.
    pub target: String,
    /// The health test that counts.
    pub test: String,
    /// Longest silence, seconds.
    pub idle_seconds: u64,
    /// Longest time for all of it, seconds, if there is one.
    pub total_seconds: Option<u64>,
    /// Most bytes of its body.
    pub body_bytes: u64,
    /// Its servers.
    pub servers: Vec<ServerExplanation>,
}

/// A server, for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerExplanation {
    /// Its name.
    pub name: String,
    /// `active`, `drain` or `disabled`.
    pub state: String,
    /// `healthy`, `unhealthy` or `untested`, in the test that counts.
    pub health: String,
    /// What was found last.
    pub finding: Option<String>,
    /// When, in milliseconds since 1970 (UTC).
    pub tested_ms: Option<u64>,
    /// Whether a new client may get it.
    pub takes_new: bool,
    /// Whether a client that has it already may stay.
    pub keeps: bool,
}
