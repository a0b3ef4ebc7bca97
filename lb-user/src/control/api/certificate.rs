//! The certificates that sites serve, as they are listed, replaced, and told of when they end.

use serde::{Deserialize, Serialize};

use super::Applied;
use crate::config::certificates::ServedCertificate;
use crate::wall::WallTime;

/// A certificate that sites serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateEntry {
    /// The sites' first names.
    pub sites: Vec<String>,
    /// The names that it is for.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
    /// When it ends; `None` where that cannot be read.
    pub not_after: Option<WallTime>,
    /// Whole days until then by the node's clock, rounded down: below 0 it has expired.
    pub days_left: Option<i64>,
    /// SHA-256 of it, `sha256:` and 64 hexadecimal digits.
    pub fingerprint: String,
    /// The path that the configuration gives its file.
    pub file: String,
    /// The farms whose servers have to present the same one: Extended Protection binds a client's logon to it.
    pub same_on: Vec<String>,
}

impl CertificateEntry {
    /// What is told of a certificate at this moment.
    pub(crate) fn of(served: &ServedCertificate, now: WallTime) -> Self {
        let facts = &served.facts;
        let not_after = facts.not_after.map(|end| WallTime::from_unix_ms(end.saturating_mul(1000)));
        Self {
            sites: served.sites.clone(),
            names: facts.names.clone(),
            issuer: facts.issuer.clone(),
            not_after,
            days_left: not_after.map(|end| days_left(end, now)),
            fingerprint: facts.sha256.to_string(),
            file: served.file.display().to_string(),
            same_on: served.same_on.clone(),
        }
    }
}

/// Whole days from `now` until `end`, rounded down.
fn days_left(end: WallTime, now: WallTime) -> i64 {
    let ms = |time: WallTime| i64::try_from(time.unix_ms()).unwrap_or(i64::MAX);
    (ms(end) - ms(now)).div_euclid(86_400_000)
}

/// What became of the wish to replace a site's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSet {
    /// What was served before; of several files of a site, the first.
    pub old: Option<CertificateEntry>,
    /// What is served now, or would be.
    pub new: CertificateEntry,
    /// What the operator should know all the same, a sentence each.
    pub remarks: Vec<String>,
    /// What became of the change; `None`: the site had this certificate and key already, and nothing was changed.
    pub applied: Option<Applied>,
}
