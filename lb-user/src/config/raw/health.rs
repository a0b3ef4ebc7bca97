//! Health tests of farms as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{Statuses, Time};
use crate::config::spanned::Spanned;

/// `[farm.health]`, `[exchange.health]`, `[farm.tests.NAME]`, `[exchange.tests.NAME]`. Defaults are in `check/health.rs`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HealthTable {
    /// The path that is asked for. Default `/owa/healthcheck.htm`, which Exchange answers while Managed Availability holds
    /// OWA for working.
    pub(crate) path: Option<Spanned<String>>,
    /// The request's method: `"GET"` (default), `"HEAD"` or `"OPTIONS"`.
    #[schemars(extend("enum" = ["GET", "HEAD", "OPTIONS"]))]
    pub(crate) method: Option<Spanned<String>>,
    /// The request's Host. Default: the site's first name.
    pub(crate) host: Option<Spanned<String>>,
    /// The status of a good answer, such as `200` (default) or `"200-399,401"`.
    pub(crate) status: Option<Spanned<Statuses>>,
    /// What a good answer's body contains, with case. Default `200 OK`, as Exchange writes; `""`: anything. Up to 1 KiB.
    pub(crate) body: Option<Spanned<String>>,
    /// Time from one test to the next. Default `"5s"`; 100 ms to 1 h.
    pub(crate) interval: Option<Spanned<Time>>,
    /// Longest time for one test. Default `"3s"`; 10 ms to 5 min.
    pub(crate) timeout: Option<Spanned<Time>>,
    /// Failures in a row that make a server unhealthy. Default 2; 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) failures: Option<Spanned<u8>>,
    /// Successes in a row that make it healthy again. Default 1; 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) successes: Option<Spanned<u8>>,
    /// Failures of clients' requests that make it unhealthy, until its test succeeds; ARR's *live traffic test*. Default 3; 0 (they
    /// do not) to 1000.
    #[schemars(range(min = 0, max = 1000))]
    pub(crate) live_failures: Option<Spanned<u16>>,
    /// Within how long so many. Default `"10s"`; 1 s to 1 h.
    pub(crate) live_period: Option<Spanned<Time>>,
    /// Which answers are failures, such as `"500-"`; a request that the server does not answer counts as 502 or 504. Default: none;
    /// only connections that cannot be made are, for clients can bring about all others.
    pub(crate) live_status: Option<Spanned<Statuses>>,
}
