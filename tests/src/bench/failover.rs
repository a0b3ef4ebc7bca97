//! How long service is away when a node dies or is taken out: Rollcall against keepalived (VRRP), in the same lab, with the same
//! instruments, one after the other in every round.
//!
//! The fault that both have is the loss of a link: the victim's cable is pulled out of the switch. With keepalived all
//! connections are the victim's; with Rollcall its buckets are.

pub mod idle;
mod ours;
mod peers;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use lb_user::clock::Time;

use super::{Row, median, publish};
use crate::client::Https;
use crate::lab::{Lab, Plan};
use crate::node::Cluster;
use crate::prober::{Attempt, Connects, Outage, Prober};
use crate::report::{Progress, bad, good, line};

/// Keepalived's times between advertisements, in milliseconds; the first is its default.
const ADVERTS: [u32; 4] = [1000, 100, 20, 10];

/// Rollcall's profiles; the first is its default.
const PROFILES: [&str; 2] = ["default", "fast"];

/// What was promised: subject, case, metric, and the most that it may be.
const TARGETS: [(&str, &str, &str, f64); 13] = [
    ("rollcall, default", "link down", "outage", 120.0),
    ("rollcall, fast", "link down", "outage", 30.0),
    ("rollcall, default", "agent killed", "outage", 120.0),
    ("rollcall, fast", "agent killed", "outage", 30.0),
    ("rollcall, default", "drain", "failed requests", 0.0),
    ("rollcall, default", "drain", "longest gap", 20.0),
    ("rollcall, default", "stop", "failed requests", 0.0),
    ("rollcall, default", "stop", "longest gap", 20.0),
    ("rollcall, default", "rolling restart", "failed requests", 0.0),
    ("rollcall, default", "rolling restart", "longest gap", 20.0),
    ("rollcall, default", "join", "failed requests", 0.0),
    ("rollcall, default", "idle, 8 nodes", "processor of an agent, median", 1.0),
    ("rollcall, default", "idle, 8 nodes", "processor of an agent, maximum", 1.0),
];

/// The figures of one run of one case: metric, unit, value.
type Finding = Vec<(&'static str, &'static str, f64)>;

/// Every figure that was found, by case, subject, metric and unit, in the order in which they came first.
#[derive(Default)]
struct Findings {
    order: Vec<(String, String, &'static str, &'static str)>,
    values: BTreeMap<(String, String, &'static str, &'static str), Vec<f64>>,
}

impl Findings {
    fn add(&mut self, case: &str, subject: &str, found: Finding) {
        for (metric, unit, value) in found {
            let key = (case.to_owned(), subject.to_owned(), metric, unit);
            if !self.values.contains_key(&key) {
                self.order.push(key.clone());
            }
            self.values.entry(key).or_default().push(value);
        }
    }

    /// Medians; where there was more than one run, the largest too.
    fn rows(&self) -> Vec<Row> {
        let rows = self.order.iter().flat_map(|key| {
            let values = &self.values[key];
            let largest = values.iter().copied().fold(f64::MIN, f64::max);
            let row = |metric: String, value| Row {
                bench: "failover",
                case: key.0.clone(),
                subject: key.1.clone(),
                metric,
                unit: key.3,
                value,
                runs: values.len(),
            };
            let largest = (values.len() > 1).then(|| row(format!("{}, maximum", key.2), largest));
            [row(key.2.to_owned(), median(values))].into_iter().chain(largest)
        });
        rows.collect()
    }
}

/// Measures, prints and writes `target/bench/failover.json`.
pub fn run(quick: bool, json: bool) -> Result<()> {
    let rounds = if quick { 1 } else { 7 };
    let progress = Progress::new();
    let mut findings = Findings::default();
    for round in 1..=rounds {
        let say = |what: &str| progress.step(format!("round {round} of {rounds}: {what}"));
        for profile in PROFILES {
            let mut cluster = Cluster::raise(&Plan { profile, ..Plan::nodes(2) })?;
            ours::measure(&mut cluster, profile, &say, &mut findings)?;
            gone_without_a_trace(cluster)?;
        }
        let cluster = Cluster::raise(&Plan::nodes(2))?;
        let https = cluster.https()?;
        for advert in ADVERTS {
            let subject = format!("keepalived, advert {} s", f64::from(advert) / 1000.0);
            say(&subject);
            findings.add("link down", &subject, peers::link_loss(&cluster.lab, &https, advert)?);
        }
        gone_without_a_trace(cluster)?;
    }
    progress.step("eight nodes at rest");
    let time = Duration::from_secs(if quick { 5 } else { 20 });
    idle::measure(None, time, &mut findings)?;
    drop(progress);
    let rows = findings.rows();
    publish("failover", &rows, json)?;
    if !json {
        say_what_was_kept(&rows);
    }
    Ok(())
}

fn gone_without_a_trace(cluster: Cluster) -> Result<()> {
    let left = cluster.tear_down();
    ensure!(left.is_empty(), "the lab left behind: {}", left.join(", "));
    Ok(())
}

fn say_what_was_kept(rows: &[Row]) {
    for (subject, case, metric, most) in TARGETS {
        let found =
            rows.iter().find(|row| row.subject == subject && row.case == case && row.metric == metric);
        let Some(row) = found else {
            line(format!("{subject}, {case}: {metric}: {}", bad("NOT MEASURED")));
            continue;
        };
        let verdict = if row.value <= most { good("kept") } else { bad("MISSED") };
        let (value, unit) = (row.value, row.unit);
        line(format!("{subject}, {case}: {metric} {value:.2} {unit}, at most {most} promised: {verdict}"));
    }
}

/// The instruments of a fault, running.
struct Watch {
    prober: Prober,
    connects: Connects,
}

impl Watch {
    fn start(lab: &Lab, https: &Https) -> Result<Self> {
        let watch = Self { prober: Prober::start(lab)?, connects: Connects::start(https) };
        // Between one and two seconds: the fault must not always come at the same moment between two heartbeats.
        let micros = Time::now().as_nanos() / 1000;
        thread::sleep(Duration::from_secs(1) + Duration::from_micros(micros % 1_000_000));
        Ok(watch)
    }

    fn end(self, fault: Time, held: impl Fn(&Attempt) -> bool) -> Result<Finding> {
        let attempts = self.prober.finish()?;
        let longest = self.connects.finish();
        let early = attempts.iter().filter(|attempt| attempt.sent < fault);
        let early_failures = early.filter(|attempt| !attempt.succeeded()).count();
        if early_failures > 0 {
            bail!(
                "{early_failures} attempts failed before the fault; is this machine too busy to measure on?"
            );
        }
        let outage = Outage::of(&attempts, fault, held);
        let Some(length) = outage.length else { bail!("service did not come back: {outage:?}") };
        Ok(vec![("outage", "ms", millis(length)), ("longest connect()", "ms", millis(longest))])
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_median_of_its_runs_and_a_second_one_the_largest() {
        let mut findings = Findings::default();
        for value in [3.0, 1.0, 9.0] {
            findings.add("case", "subject", vec![("outage", "ms", value)]);
        }
        let rows: Vec<_> = findings.rows().into_iter().map(|row| (row.metric, row.value)).collect();
        assert_eq!(rows, [("outage".to_owned(), 3.0), ("outage, maximum".to_owned(), 9.0)]);
    }
}
