//! Health tests of farms as the file could have them.

use std::fmt;

use super::{quoted, time};
use crate::config::model::{DEFAULT_TEST, HealthTest};
use crate::proxy::balance::monitor::{Expectation, LiveTraffic};

pub(super) struct HealthTable<'a>(pub(super) &'a HealthTest);

impl fmt::Display for HealthTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HealthTest { name, path, method, host, expect, interval, timeout, thresholds, live_traffic } =
            self.0;
        match name.as_str() {
            DEFAULT_TEST => writeln!(f, "[farm.health]")?,
            name => writeln!(f, "[farm.tests.{name}]")?,
        }
        writeln!(f, "path = {}\nmethod = {}\nhost = {}", quoted(path), quoted(method), quoted(host))?;
        let Expectation { statuses, body } = expect;
        writeln!(f, "status = {}\nbody = {}", quoted(&statuses.to_string()), quoted(body))?;
        writeln!(f, "interval = {}\ntimeout = {}", time(*interval), time(*timeout))?;
        writeln!(f, "failures = {}\nsuccesses = {}", thresholds.failures, thresholds.successes)?;
        let Some(LiveTraffic { failures, period, statuses }) = live_traffic else {
            return writeln!(f, "live_failures = 0");
        };
        writeln!(f, "live_failures = {failures}\nlive_period = {}", time(*period))?;
        match statuses {
            Some(statuses) => writeln!(f, "live_status = {}", quoted(&statuses.to_string())),
            None => Ok(()),
        }
    }
}
