//! What was measured, as a table with ratios and the targets. Pure.

use std::collections::BTreeMap;

use super::{Case, Profile};
use crate::bench::{Row, median};
use crate::report::table;

pub(super) const OURS: &str = "rollcall";
pub(super) const BESIDE: &str = "beside";
pub(super) const HAPROXY: &str = "haproxy";
pub(super) const NGINX: &str = "nginx";

/// A kind of figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Measure {
    /// Of a request or handshake.
    Cpu,
    /// Of a gibibyte.
    CpuOfBytes,
    Rate,
    P50,
    P99,
    Throughput,
    /// Of a connection.
    Memory,
    /// How many there were.
    Connections,
}

impl Measure {
    fn name_and_unit(self) -> (&'static str, &'static str) {
        match self {
            Self::Cpu => ("CPU", "us"),
            Self::CpuOfBytes => ("CPU", "s/GiB"),
            Self::Rate => ("rate", "1/s"),
            Self::P50 => ("p50", "ms"),
            Self::P99 => ("p99", "ms"),
            Self::Throughput => ("rate", "GiB/s"),
            Self::Memory => ("memory", "KiB"),
            Self::Connections => ("connections", ""),
        }
    }
}

/// The greatest ratio to haproxy that is good.
fn target(profile: Profile, case: Case, measure: Measure) -> Option<f64> {
    match (case, measure, profile) {
        (Case::Small, Measure::Cpu, Profile::Exchange) => Some(0.95),
        (Case::Small | Case::Http2, Measure::Cpu, Profile::Plain) => Some(1.0),
        (Case::Small | Case::Http2, Measure::P99, _) => Some(1.0),
        (Case::Mebibyte | Case::Gibibyte, Measure::CpuOfBytes, _) => Some(0.6),
        (Case::Rest, Measure::Memory, Profile::Exchange) => Some(1.2),
        _ => None,
    }
}

/// Of each case and measure, each subject's figures in the order of the rounds.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<(Case, Measure), BTreeMap<&'static str, Vec<f64>>>);

impl Figures {
    pub(super) fn add(&mut self, case: Case, subject: &'static str, measured: Vec<(Measure, f64)>) {
        for (measure, value) in measured {
            self.0.entry((case, measure)).or_default().entry(subject).or_default().push(value);
        }
    }

    /// For the file.
    pub(super) fn rows(&self, profile: Profile) -> Vec<Row> {
        let row = |case: Case, measure: Measure, subject: &str, values: &[f64]| {
            let (metric, unit) = measure.name_and_unit();
            Row {
                bench: "proxy",
                case: format!("{}: {}", profile.as_str(), case.as_str()),
                subject: subject.to_owned(),
                metric: metric.to_owned(),
                unit,
                value: median(values),
                runs: values.len(),
            }
        };
        let of = |(&(case, measure), found): (&(Case, Measure), &BTreeMap<&'static str, Vec<f64>>)| {
            found.iter().map(|(subject, values)| row(case, measure, subject, values)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// For people: within 80 columns.
    pub(super) fn table(&self, profile: Profile) -> String {
        let has = |subject: &str| self.0.values().any(|found| found.contains_key(subject));
        let subjects: Vec<&str> =
            [OURS, BESIDE, HAPROXY, NGINX].into_iter().filter(|subject| has(subject)).collect();
        let heading = format!("*{}*", profile.as_str());
        let mut headings = vec![heading.as_str()];
        headings.extend(&subjects);
        headings.extend(["ratio", "target"]);
        let rows: Vec<_> = self.0.iter().map(|(key, found)| cells(profile, *key, found, &subjects)).collect();
        table(&headings, &rows)
    }
}

fn cells(
    profile: Profile,
    (case, measure): (Case, Measure),
    found: &BTreeMap<&'static str, Vec<f64>>,
    subjects: &[&str],
) -> Vec<String> {
    let (name, unit) = measure.name_and_unit();
    let none = Vec::new();
    let of = |subject: &str| found.get(subject).unwrap_or(&none);
    let ratio = ratio(of(OURS), of(HAPROXY));
    let target = target(profile, case, measure).map_or(String::new(), |most| {
        format!("{most:.2} {}", if ratio.is_some_and(|ratio| ratio <= most) { "met" } else { "missed" })
    });
    let mut cells = vec![format!("{}: {name} {unit}", case.as_str())];
    cells.extend(subjects.iter().map(|subject| figure(median(of(subject)))));
    cells.extend([ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")), target]);
    cells
}

/// The median of the rounds' own ratios: what befell the machine in a round befell both.
fn ratio(ours: &[f64], other: &[f64]) -> Option<f64> {
    let ratios: Vec<_> = ours.iter().zip(other).map(|(ours, other)| ours / other).collect();
    (!ratios.is_empty()).then(|| median(&ratios))
}

fn figure(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_is_met_and_fits_a_terminal() {
        let mut figures = Figures::default();
        for (ours, haproxy) in [(19.0, 20.0), (30.0, 40.0), (28.0, 27.0)] {
            for (subject, value) in [(OURS, ours), (HAPROXY, haproxy), (NGINX, 123_456.7)] {
                figures.add(Case::Small, subject, vec![(Measure::Cpu, value)]);
                figures.add(Case::Resumed, subject, vec![(Measure::Rate, 12_345.6)]);
            }
        }
        let table = figures.table(Profile::Exchange);
        assert!(table.contains("small page: CPU us") && table.contains(" 0.95  0.95 met"), "{table}");
        assert!(figures.table(Profile::Plain).contains(" 0.95  1.00 met"));
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        assert_eq!(figures.rows(Profile::Plain).len(), 6);
        for (subject, value) in [(OURS, 1.6), (HAPROXY, 1.0)] {
            figures.add(Case::Http2, subject, vec![(Measure::Cpu, value), (Measure::P99, value)]);
        }
        assert_eq!(figures.table(Profile::Plain).matches(" 1.60  1.00 missed").count(), 2);
    }
}
