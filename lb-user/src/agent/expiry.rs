//! Certificates that come to their end: told 30, 14 and 3 days before, and once they have expired. Pure; `certificates.rs` reads the
//! files and the wall clock.
//!
//! ```text
//! certificates, wall time -> the latest stage that each has reached -> not told of it yet? -> a notice
//! ```
//! Each stage of a certificate is told once, whatever the clock does: one that is a day off tells a day too soon or too late, and
//! nothing again once it is set right; one that was far ahead has told a stage too soon, and keeps quiet about no other for that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::events::Note;
use crate::config::certificates::ServedCertificate;
use crate::control::api::{CertificateEntry, EventRecord};
use crate::proxy::tls::Fingerprint;
use crate::wall::WallTime;

/// The kind of the event.
const KIND: &str = "certificate-expires";

const DAY: u64 = 86_400;

/// How near its end a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Within 30 days.
    Month,
    /// Within 14 days.
    Fortnight,
    /// Within 3 days.
    Days,
    /// It has expired.
    Over,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Month, Self::Fortnight, Self::Days, Self::Over];

    /// How many days before the end it begins.
    const fn days(self) -> u64 {
        match self {
            Self::Month => 30,
            Self::Fortnight => 14,
            Self::Days => 3,
            Self::Over => 0,
        }
    }

    /// When it begins for a certificate that is valid up to and at `end`.
    fn begins(self, end: WallTime) -> WallTime {
        match self {
            Self::Month | Self::Fortnight | Self::Days => end.before(Duration::from_secs(self.days() * DAY)),
            Self::Over => WallTime::from_unix_ms(end.unix_ms().saturating_add(1)),
        }
    }

    fn of_days(days: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.days() == days)
    }
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) stage: Stage,
    pub(super) certificate: CertificateEntry,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Expiry {
    certificates: Vec<ServedCertificate>,
    told: BTreeSet<(Fingerprint, Stage)>,
    looked: WallTime,
    next: Option<WallTime>,
}

impl Expiry {
    /// With what was told already.
    pub(super) fn new(told: BTreeSet<(Fingerprint, Stage)>) -> Self {
        Self { certificates: Vec::new(), told, looked: WallTime::default(), next: None }
    }

    /// These are served from now on.
    pub(super) fn handle_certificates(
        &mut self,
        certificates: Vec<ServedCertificate>,
        now: WallTime,
    ) -> Vec<Notice> {
        self.certificates = certificates;
        if self.told.len() > MOST_TOLD {
            let served: BTreeSet<Fingerprint> = self.certificates.iter().map(|of| of.facts.sha256).collect();
            self.told.retain(|(fingerprint, _)| served.contains(fingerprint));
        }
        self.look(now)
    }

    /// It is `now`. Nothing is done before the moment of `poll_timeout`, unless the clock was set back.
    pub(super) fn handle_timeout(&mut self, now: WallTime) -> Vec<Notice> {
        let due = self.poll_timeout().is_some_and(|next| next <= now);
        if due || now < self.looked { self.look(now) } else { Vec::new() }
    }

    /// When the next stage of a certificate begins; `None`: none does.
    pub(super) fn poll_timeout(&self) -> Option<WallTime> {
        self.next
    }

    /// Those that have expired or do so within 30 days, the first to end first.
    pub(super) fn ending(&self, now: WallTime) -> Vec<CertificateEntry> {
        let soon = self.certificates.iter().filter(|of| stage(of, now).is_some());
        let mut ending: Vec<_> = soon.map(|of| CertificateEntry::of(of, now)).collect();
        ending.sort_by_key(|of| of.not_after);
        ending
    }

    fn look(&mut self, now: WallTime) -> Vec<Notice> {
        self.looked = now;
        let ends = self.certificates.iter().filter_map(end);
        let begins = ends.flat_map(|end| Stage::ALL.map(|stage| stage.begins(end)));
        self.next = begins.filter(|begins| *begins > now).min();
        let mut notices = Vec::new();
        for of in &self.certificates {
            let Some(stage) = stage(of, now) else { continue };
            if self.told.insert((of.facts.sha256, stage)) {
                notices.push(Notice { stage, certificate: CertificateEntry::of(of, now) });
            }
        }
        notices
    }
}

fn end(of: &ServedCertificate) -> Option<WallTime> {
    of.facts.not_after.map(|end| WallTime::from_unix_ms(end.saturating_mul(1000)))
}

/// The latest stage that has begun.
fn stage(of: &ServedCertificate, now: WallTime) -> Option<Stage> {
    let end = end(of)?;
    Stage::ALL.into_iter().rev().find(|stage| stage.begins(end) <= now)
}

/// What these records say was told.
pub(super) fn told(records: &[EventRecord]) -> BTreeSet<(Fingerprint, Stage)> {
    let of = |record: &EventRecord| {
        let fingerprint = record.details.get("fingerprint")?.as_str()?.parse().ok()?;
        let stage = Stage::of_days(record.details.get("days")?.as_u64()?)?;
        Some((fingerprint, stage))
    };
    records.iter().filter(|record| record.kind == KIND).filter_map(of).collect()
}

impl Notice {
    /// As an event. `shared`: the nodes share their configuration, and one command replaces the certificate on all.
    pub(super) fn note(&self, shared: bool) -> Note {
        let text = format!("{}; {}", sentence(&self.certificate), cure(&self.certificate, shared));
        let CertificateEntry { sites, not_after, fingerprint, same_on, .. } = &self.certificate;
        let details = [
            ("sites", Value::from(sites.clone())),
            ("not_after", not_after.map_or(Value::Null, |end| Value::from(end.to_string()))),
            ("fingerprint", Value::from(fingerprint.clone())),
            ("days", Value::from(self.stage.days())),
            ("same_on", Value::from(same_on.clone())),
        ];
        let details: BTreeMap<String, Value> =
            details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Note { details, ..Note::new(KIND, true, text) }
    }
}

/// When a certificate ends, or ended, as a sentence.
pub(super) fn sentence(certificate: &CertificateEntry) -> String {
    let CertificateEntry { sites, not_after, days_left, fingerprint, .. } = certificate;
    let sites = sites.join(", ");
    let end = not_after.map_or_else(|| "?".to_owned(), |end| end.to_string());
    let when = match days_left {
        None => "ends at".to_owned(),
        Some(days) if *days < 0 => "has expired: clients warn or refuse since".to_owned(),
        Some(0) => "expires in less than a day, at".to_owned(),
        Some(1) => "expires in 1 day, at".to_owned(),
        Some(days) => format!("expires in {days} days, at"),
    };
    format!("the certificate of {sites} ({fingerprint:.19}..) {when} {end}")
}

/// What to do about it.
fn cure(certificate: &CertificateEntry, shared: bool) -> String {
    let CertificateEntry { sites, file, same_on, .. } = certificate;
    let replace = match sites.first().filter(|_| shared) {
        Some(site) => format!("replace it on all nodes: rollcall certificate set {site} FILE"),
        None => format!("put a new one in place of {file} on every node, then rollcall reload"),
    };
    if same_on.is_empty() { replace } else { format!("{replace}; {}", same(same_on)) }
}

/// What is said of servers that need a site's certificate.
fn same(farms: &[String]) -> String {
    format!(
        "the servers of {} need the same one, or Extended Protection (same-certificate) ends logons there",
        farms.join(", ")
    )
}

/// How many stages may have been told before those of certificates that are not served any more are forgotten.
const MOST_TOLD: usize = 4096;

#[cfg(test)]
mod tests;
