//! How a farm's servers prove that they work. The proxy works with the same types.

use std::num::NonZeroU8;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proxy::balance::monitor::{Expectation, LiveTraffic, Thresholds};
use crate::proxy::balance::settings::TestSettings;
use crate::proxy::balance::status::StatusSet;

/// The name of a farm's own test, which counts for all routes that name no other.
pub const DEFAULT_TEST: &str = "default";

/// A request that a working server answers well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthTest {
    /// What routes and status call it, unique in its farm.
    pub name: String,
    /// The path that is asked for, such as `/owa/healthcheck.htm`.
    pub path: String,
    /// The request's method.
    pub method: String,
    /// The request's Host.
    pub host: String,
    /// What a good answer is.
    pub expect: Expectation,
    /// Time from one test to the next.
    pub interval: Duration,
    /// Longest time for one test.
    pub timeout: Duration,
    /// How many outcomes decide.
    pub thresholds: Thresholds,
    /// What clients' requests themselves tell of a server; `None`: nothing.
    pub live_traffic: Option<LiveTraffic>,
}

impl HealthTest {
    /// A farm's own test where nothing is said of it. By default only connections that cannot be made count as failures of live
    /// traffic: who can ask servers out of service would do it.
    pub fn plain(host: &str) -> Self {
        Self {
            name: DEFAULT_TEST.to_owned(),
            path: "/owa/healthcheck.htm".to_owned(),
            method: "GET".to_owned(),
            host: host.to_owned(),
            expect: Expectation { statuses: StatusSet::one(200), body: "200 OK".to_owned() },
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
            thresholds: Thresholds { failures: NonZeroU8::MIN.saturating_add(1), successes: NonZeroU8::MIN },
            live_traffic: Some(LiveTraffic::plain()),
        }
    }
}

impl From<&HealthTest> for TestSettings {
    fn from(test: &HealthTest) -> Self {
        Self { name: test.name.clone(), thresholds: test.thresholds, live_traffic: test.live_traffic.clone() }
    }
}
