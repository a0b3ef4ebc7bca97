//! Whether a configuration that one node tries does well there: what its own listeners answer, beside what they did before, and what its
//! clients get, beside those of the other nodes over the same time. Pure; what is asked, `probe.rs` asks.
//!
//! ```text
//! what is served -> probes -> asked before -.
//!                          -> asked on trial -+-> findings: what is worse than before
//! tallies before and after, here and elsewhere -> whether clients fare worse here
//! ```

pub(super) mod probe;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use crate::config::model::Action;
use crate::proxy::metrics::Tally;
use crate::proxy::snapshot::{Site, Snapshot};
use crate::proxy::tls::{Fingerprint, leaf};
use crate::shared::message::Findings;

/// What a node is asked by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Probe {
    /// A handshake must bring this certificate.
    Certificate {
        /// Where the site listens.
        at: SocketAddr,
        /// One of its names.
        host: String,
        /// Whose.
        fingerprint: Fingerprint,
    },
    /// A page must be answered, by whichever server.
    Page {
        /// Where the site listens.
        at: SocketAddr,
        /// One of its names.
        host: String,
        /// The path by which a server proves that it works.
        path: String,
    },
    /// A server must pass its health tests.
    Server {
        /// Its farm, or its pool of a TCP service.
        farm: String,
        /// Its name there.
        server: String,
    },
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { at, host, .. } => write!(f, "a handshake with {host} at {at}"),
            Self::Page { host, path, .. } => write!(f, "https://{host}{path}"),
            Self::Server { farm, server } => write!(f, "server {server} of farm {farm}"),
        }
    }
}

/// What came of a probe: it is well, or what is wrong.
pub(super) type Outcome = Result<(), String>;

/// Most pages that are asked for: a node asks itself, beside its clients.
const MOST_PAGES: usize = 256;

/// What to ask of a node that serves this.
pub(super) fn probes(snapshot: &Snapshot) -> Vec<Probe> {
    let certificates = snapshot.sites.iter().flat_map(certificates);
    let pages: BTreeSet<Probe> = snapshot.sites.iter().flat_map(|site| pages(site, snapshot)).collect();
    let servers = snapshot.server_groups().flat_map(|group| {
        let farm = group.name;
        let server = move |name: &str| Probe::Server { farm: farm.clone(), server: name.to_owned() };
        group.servers.iter().map(move |known| server(&known.name))
    });
    certificates.chain(pages.into_iter().take(MOST_PAGES)).chain(servers).collect()
}

fn certificates(site: &Site) -> impl Iterator<Item = Probe> {
    let fingerprint = leaf(&site.certificate).map(|leaf| Fingerprint::of(&leaf));
    let host = host(site);
    let each = move |at: &SocketAddr| {
        Some(Probe::Certificate { at: *at, host: host.clone()?, fingerprint: fingerprint? })
    };
    site.listen.iter().filter_map(each)
}

/// The health path of each route that leads to a farm. What is not for all hosts is asked of one that it is for.
fn pages<'a>(site: &'a Site, snapshot: &'a Snapshot) -> impl Iterator<Item = Probe> + 'a {
    site.service.routes.iter().filter_map(move |route| {
        let Action::Farm(farm) = &route.action else { return None };
        let tests = &snapshot.farms.get(*farm)?.tests;
        let named = |name: &String| tests.iter().find(|test| test.name == *name);
        let test = route.test.as_ref().and_then(named).or_else(|| tests.first())?;
        let host = route.hosts.first().cloned().or_else(|| host(site))?;
        Some(Probe::Page { at: *site.listen.first()?, host, path: test.path.clone() })
    })
}

/// A name that the site answers for.
fn host(site: &Site) -> Option<String> {
    site.names.first().map(|name| name.replacen('*', "rollcall-canary", 1))
}

/// Most findings that are told one by one.
const MOST_TOLD: usize = 8;

/// What the probes found, by what came of each before and on trial. A certificate is well if it is the one that is configured; all else must
/// only be no worse than it was: a path that nobody may ask for from this host says nothing.
pub(super) fn findings(probes: &[Probe], before: &[Outcome], now: &[Outcome]) -> Findings {
    let asked = u32::try_from(probes.len()).unwrap_or(u32::MAX);
    let mut findings = Findings { asked, ..Findings::default() };
    for ((probe, before), now) in probes.iter().zip(before).zip(now) {
        let Err(why) = now else { continue };
        let told = format!("{probe}: {why}");
        match probe {
            Probe::Certificate { .. } => findings.worse.push(told),
            Probe::Page { .. } | Probe::Server { .. } if before.is_ok() => findings.worse.push(told),
            Probe::Page { .. } | Probe::Server { .. } => findings.remarks.push(told),
        }
    }
    shorten(&mut findings.worse);
    shorten(&mut findings.remarks);
    findings
}

fn shorten(told: &mut Vec<String>) {
    let more = told.len().saturating_sub(MOST_TOLD);
    if more > 0 {
        told.truncate(MOST_TOLD);
        told.push(format!("and {more} more"));
    }
}

/// Fewest requests on either side that can be told apart: with all of eleven bad here and none of eleven there, chance is out of the question.
pub(super) const FEWEST: u64 = 11;

/// Fewest bad ones: of so few that a rate is little more than their number, the test below makes too much.
const FEWEST_BAD: u64 = 8;

/// How many standard errors apart two rates have to be: by chance alone, one look in 300,000.
const APART: f64 = 4.5;

/// Less than this difference is not worth a night's work.
const LEAST: f64 = 0.01;

/// How clients fare on a node, beside those of others over the same time.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Comparison {
    /// There were too few requests on one of the sides.
    TooFew,
    /// No worse.
    Alike,
    /// Worse, and in what.
    Worse(Vec<String>),
}

/// By the rates of 5xx, of 403 and 404, and of answers that broke off: by a test of two proportions.
pub(super) fn compare(here: Tally, elsewhere: Tally) -> Comparison {
    if here.ended < FEWEST || elsewhere.ended < FEWEST {
        return Comparison::TooFew;
    }
    let kinds = [
        ("were answered with 5xx", here.server_errors, elsewhere.server_errors),
        ("were answered with 403 or 404", here.denied, elsewhere.denied),
        ("broke off", here.broken, elsewhere.broken),
    ];
    let worse =
        kinds.into_iter().filter(|(_, bad, usual)| exceeds((*bad, here.ended), (*usual, elsewhere.ended)));
    let told = worse.map(|(what, bad, usual)| {
        format!("{bad} of {} requests {what}, and {usual} of {} elsewhere", here.ended, elsewhere.ended)
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() { Comparison::Alike } else { Comparison::Worse(told) }
}

/// Whether the first share is above the second by more than chance and by more than a trifle.
#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn exceeds((bad, of): (u64, u64), (usual, of_usual): (u64, u64)) -> bool {
    let [bad_here, of_here, bad_there, of_there] = [bad, of, usual, of_usual].map(|count| count as f64);
    let (here, there) = (bad_here / of_here, bad_there / of_there);
    let all = (bad_here + bad_there) / (of_here + of_there);
    let error = (all * (1.0 - all) * (1.0 / of_here + 1.0 / of_there)).sqrt();
    // Where everything is bad on both sides there is no error, and no difference.
    bad >= FEWEST_BAD && here - there >= LEAST && here - there >= APART * error
}
