//! The certificates that a configuration's sites serve: what each is, for which sites, and which servers need the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName};

use super::check::EXCHANGE;
use super::files::material;
use super::model::{Cluster, Files, Site, Verify};
use crate::proxy::tls::Facts;

/// A certificate that sites serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServedCertificate {
    /// The sites' first names, in the order of the configuration.
    pub(crate) sites: Vec<String>,
    /// Its file.
    pub(crate) file: PathBuf,
    /// What it says of itself.
    pub(crate) facts: Facts,
    /// The farms whose servers have to present the same one, in the order of their names.
    pub(crate) same_on: Vec<String>,
}

/// Those of the sites of `cluster`, in the order of their files; what cannot be read is left out: who takes a configuration has
/// looked at that.
pub(crate) fn served(cluster: &Cluster, files: &Files) -> Vec<ServedCertificate> {
    let mut all: BTreeMap<(PathBuf, String), ServedCertificate> = BTreeMap::new();
    for site in &cluster.sites {
        let read = |path: &Path| files.read(path).map_err(drop);
        let Ok(material) = material(site, read, |_, _| ()) else { continue };
        let facts = material.facts();
        let entry = all.entry((site.certificate.clone(), facts.sha256.to_string()));
        let of = entry.or_insert_with(|| ServedCertificate {
            sites: Vec::new(),
            file: site.certificate.clone(),
            facts,
            same_on: Vec::new(),
        });
        of.sites.extend(site.names.first().cloned());
        of.same_on.extend(same_on(site, cluster));
        of.same_on.sort_unstable();
        of.same_on.dedup();
    }
    all.into_values().collect()
}

/// The farms of a site whose servers have to present its very certificate: where that is verified, and Exchange's, whose Extended
/// Protection binds a logon to the certificate that the client sees.
pub(crate) fn same_on(site: &Site, cluster: &Cluster) -> Vec<String> {
    let is_same = |name: &&String| {
        let farm = cluster.farms.iter().find(|farm| farm.name == **name);
        farm.is_some_and(|farm| farm.name == EXCHANGE || farm.verify == Verify::SameCertificate)
    };
    let farms: BTreeSet<&String> = site.service.farms().filter(is_same).collect();
    farms.into_iter().cloned().collect()
}

/// Those of `names` that clients would not take `certificate` for.
pub(crate) fn not_covered<'a>(names: &'a [String], certificate: &CertificateDer<'_>) -> Vec<&'a str> {
    let Ok(certificate) = ParsedCertificate::try_from(certificate) else {
        return names.iter().map(String::as_str).collect();
    };
    let covered = |name: &str| {
        // A wildcard covers a wildcard: any name that it stands for.
        let name = name.replacen('*', "any", 1);
        ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
    };
    names.iter().map(String::as_str).filter(|name| !covered(name)).collect()
}
