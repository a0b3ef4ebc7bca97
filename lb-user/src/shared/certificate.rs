//! What replaces a site's certificate: looked at before, and put in place of what the generation holds. The text stays as it is, so
//! the files keep the names that it gives them, whatever the new ones are called; their contents are PEM from then on. Pure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::origin::held;
use super::sealed::{Bytes, Secrets};
use crate::config;
use crate::config::certificates::{ServedCertificate, not_covered, same_on};
use crate::config::model::{Cluster, Site};
use crate::control::api::CertificateEntry;
use crate::proxy::tls::material::{File, Material, MaterialError};
use crate::proxy::tls::{Facts, not_before};
use crate::wall::WallTime;

/// The new files, read.
#[derive(Debug)]
pub struct NewFiles {
    /// The certificate's, and what to call it.
    pub certificate: (PathBuf, Vec<u8>),
    /// The key's, where that is another.
    pub key: Option<(PathBuf, Vec<u8>)>,
    /// The password of a PKCS#12 file.
    pub password: String,
    /// An OCSP response about the certificate.
    pub ocsp: Option<Vec<u8>>,
}

/// What comes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// What is served before; of several files of a site, the first.
    pub old: Option<CertificateEntry>,
    /// What is served then.
    pub new: CertificateEntry,
    /// What the generation holds then: the same as before where the site had this certificate and key already.
    pub secrets: Secrets,
    /// What the operator should know, a sentence each.
    pub remarks: Vec<String>,
}

/// What `secrets`, which belong to `cluster`, become with these files for the site that has the name `site`.
pub fn replaced(
    cluster: &Cluster,
    secrets: &Secrets,
    site: &str,
    files: &NewFiles,
    now: WallTime,
) -> Result<Replacement, Unfit> {
    let material = read(files)?;
    let its = sites(cluster, site)?;
    let paths: BTreeSet<(&Path, &Path)> =
        its.iter().map(|site| (site.certificate.as_path(), site.key.as_path())).collect();
    // Others that have the same file get the new certificate, too.
    let all: Vec<&Site> =
        cluster.sites.iter().filter(|site| paths.iter().any(|(path, _)| *path == site.certificate)).collect();
    look(&all, &material, &files.certificate.0, now)?;
    let old = its.first().and_then(|site| old(site, cluster, secrets));
    let new = entry(&all, cluster, material.facts());
    let mut changed = secrets.clone();
    if !its.iter().all(|site| has(site, secrets, &material)) {
        paths.iter().for_each(|(certificate, key)| put(&mut changed, certificate, key, &material));
    }
    if let Some(response) = &files.ocsp {
        let path = its.iter().find_map(|site| site.tls.ocsp.as_ref()).ok_or(Unfit::NoStaple)?;
        changed.files.insert(name(path), Bytes(response.clone()));
    }
    let remarks = remarks(&material, old.as_ref(), &new, &all, site);
    Ok(Replacement {
        old: old.map(|old| CertificateEntry::of(&old, now)),
        new: CertificateEntry::of(&new, now),
        secrets: changed,
        remarks,
    })
}

fn read(files: &NewFiles) -> Result<Material, Unfit> {
    let parts: Vec<&(PathBuf, Vec<u8>)> = [&files.certificate].into_iter().chain(&files.key).collect();
    let names: Vec<String> = parts.iter().map(|(path, _)| path.display().to_string()).collect();
    let parts: Vec<File<'_>> =
        parts.iter().zip(&names).map(|((_, bytes), name)| File { name, bytes }).collect();
    Material::read(&parts, &files.password)
        .map_err(|error| Unfit::Material { file: files.certificate.0.clone(), error })
}

/// The sites that have this name, at whichever ports.
fn sites<'a>(cluster: &'a Cluster, name: &str) -> Result<Vec<&'a Site>, Unfit> {
    let lower = name.to_ascii_lowercase();
    let its: Vec<&Site> = cluster.sites.iter().filter(|site| site.names.contains(&lower)).collect();
    if its.is_empty() {
        let known: Vec<&str> =
            cluster.sites.iter().filter_map(|site| site.names.first()).map(String::as_str).collect();
        let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
        return Err(Unfit::NoSite { name: name.to_owned(), known });
    }
    Ok(its)
}

/// Names and dates.
fn look(sites: &[&Site], material: &Material, file: &Path, now: WallTime) -> Result<(), Unfit> {
    let leaf = &material.chain()[0];
    let missing: BTreeSet<&str> = sites.iter().flat_map(|site| not_covered(&site.names, leaf)).collect();
    let (file, facts) = (file.to_owned(), material.facts());
    if !missing.is_empty() {
        let missing: Vec<&str> = missing.into_iter().collect();
        return Err(Unfit::Names { file, missing: missing.join(", "), names: facts.names.join(", ") });
    }
    let time = |seconds: u64| WallTime::from_unix_ms(seconds.saturating_mul(1000));
    if let Some(end) = facts.not_after.map(time).filter(|end| *end < now) {
        return Err(Unfit::Expired { file, end });
    }
    match not_before(leaf).map(time).filter(|begins| *begins > now) {
        Some(begins) => Err(Unfit::NotYet { file, begins }),
        None => Ok(()),
    }
}

fn old(site: &Site, cluster: &Cluster, secrets: &Secrets) -> Option<ServedCertificate> {
    let all = config::certificates::served(cluster, &held(secrets));
    all.into_iter().find(|of| of.file == site.certificate)
}

fn entry(sites: &[&Site], cluster: &Cluster, facts: Facts) -> ServedCertificate {
    let mut farms: Vec<String> = sites.iter().flat_map(|site| same_on(site, cluster)).collect();
    farms.sort_unstable();
    farms.dedup();
    ServedCertificate {
        sites: sites.iter().filter_map(|site| site.names.first().cloned()).collect(),
        file: sites.first().map(|site| site.certificate.clone()).unwrap_or_default(),
        facts,
        same_on: farms,
    }
}

/// Whether the site has this very chain and key already.
fn has(site: &Site, secrets: &Secrets, new: &Material) -> bool {
    let files = held(secrets);
    let old = config::material(site, |path| files.read(path).map_err(drop), |_, _| ());
    old.is_ok_and(|old| old.chain() == new.chain() && old.key_pem() == new.key_pem())
}

fn put(secrets: &mut Secrets, certificate: &Path, key: &Path, material: &Material) {
    let (mut chain, pem) = (material.chain_pem(), material.key_pem());
    if key == certificate {
        chain.push_str(pem.pem());
    } else {
        secrets.files.insert(name(key), Bytes(pem.pem().as_bytes().to_vec()));
    }
    secrets.files.insert(name(certificate), Bytes(chain.into_bytes()));
}

/// What a generation calls a file.
fn name(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn remarks(
    material: &Material,
    old: Option<&ServedCertificate>,
    new: &ServedCertificate,
    sites: &[&Site],
    site: &str,
) -> Vec<String> {
    let others: Vec<&str> = sites
        .iter()
        .filter(|other| !other.names.iter().any(|name| name.eq_ignore_ascii_case(site)))
        .filter_map(|other| other.names.first())
        .map(String::as_str)
        .collect();
    let others =
        (!others.is_empty()).then(|| format!("{} has the same file and serves it, too", others.join(", ")));
    let sooner = old
        .is_some_and(|old| new.facts.not_after < old.facts.not_after)
        .then(|| "it ends before the one that it replaces".to_owned());
    let same = (!new.same_on.is_empty()).then(|| {
        format!(
            "the servers of {} need the same certificate (same-certificate): import it there, too, or Extended Protection ends \
             logons of clients that use it",
            new.same_on.join(", ")
        )
    });
    let strange = material.warnings().iter().map(ToString::to_string);
    strange.chain([others, sooner, same].into_iter().flatten()).collect()
}

/// Why a site's certificate is not replaced. Nothing was changed.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// No site has the name.
    #[error("no site has the name {name}; hint: the sites are: {known}")]
    NoSite {
        /// What was looked for.
        name: String,
        /// The sites' first names.
        known: String,
    },
    /// The files are no certificate with its key.
    #[error("{file}: {error}", file = file.display())]
    Material {
        /// The certificate's file.
        file: PathBuf,
        /// Why.
        error: MaterialError,
    },
    /// It is for other names.
    #[error("the certificate in {file} is not for {missing}, which the site serves; hint: it is for {names}; have one issued for all of the site's names", file = file.display())]
    Names {
        /// Its file.
        file: PathBuf,
        /// The site's names that it is not for.
        missing: String,
        /// What it is for.
        names: String,
    },
    /// It has expired.
    #[error("the certificate in {file} expired at {end}; hint: is it the new one, and is this host's clock right?", file = file.display())]
    Expired {
        /// Its file.
        file: PathBuf,
        /// When it did.
        end: WallTime,
    },
    /// It is not valid yet.
    #[error("the certificate in {file} is valid from {begins} on; hint: wait until then, or is this host's clock behind?", file = file.display())]
    NotYet {
        /// Its file.
        file: PathBuf,
        /// When it will be.
        begins: WallTime,
    },
    /// The site has no OCSP response that another could replace.
    #[error(
        "the site staples no OCSP response; hint: leave --ocsp out, or give the site `ocsp` first: rollcall config edit"
    )]
    NoStaple,
}

#[cfg(test)]
mod tests;
