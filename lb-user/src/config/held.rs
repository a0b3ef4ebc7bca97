//! Where the files that a configuration names are read from: the disk, or the generation that holds them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::model::{Clients, Cluster, Verify};
use crate::proxy::tls::material::LONGEST_FILE;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Files {
    /// From this host's disk, by their paths.
    #[default]
    Disk,
    /// From a generation.
    Held(Arc<Held>),
}

/// What a generation holds beside its text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The text of the cluster secret's file.
    pub secret: String,
    /// By the path that the text gives it, each file.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Files {
    /// The content of a file, which must not be longer than [`LONGEST_FILE`].
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self {
            Self::Disk => {
                let mut bytes = Vec::new();
                File::open(path)?.take(LONGEST_FILE as u64 + 1).read_to_end(&mut bytes)?;
                if bytes.len() > LONGEST_FILE {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                Ok(bytes)
            }
            Self::Held(held) => {
                let absent = || io::Error::new(io::ErrorKind::NotFound, "this generation does not hold it");
                held.files.get(path).cloned().ok_or_else(absent)
            }
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.files.keys()).finish()
    }
}

/// The files that a configuration names and that are the same on every node, in the order of their paths: certificates, keys,
/// passwords, CAs, OCSP responses. Programs are each node's own.
pub fn named(cluster: &Cluster) -> Vec<&Path> {
    let of_sites = cluster.sites.iter().flat_map(|site| {
        let optional = [&site.tls.password, &site.tls.ocsp].into_iter().filter_map(Option::as_ref);
        [&site.certificate, &site.key].into_iter().chain(optional)
    });
    let of_store = cluster.store.iter().flat_map(|store| {
        let identity = store.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        identity.chain(store.user.iter().map(|(_, password)| password))
    });
    let own = of_sites.chain(of_store).map(PathBuf::as_path);
    let mut all: Vec<&Path> = own.chain(authorities(cluster)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Those of them that hold the CAs of clients, servers and the store.
pub(crate) fn authorities(cluster: &Cluster) -> Vec<&Path> {
    let of_sites = cluster.sites.iter().filter_map(|site| match &site.tls.clients {
        Clients::Optional(ca) | Clients::Required(ca) => Some(ca),
        Clients::Unasked => None,
    });
    let of_farms = cluster.farms.iter().filter_map(|farm| match &farm.verify {
        Verify::Ca(path) => Some(path),
        Verify::SameCertificate | Verify::Pins(_) | Verify::Nothing | Verify::Clear => None,
    });
    let of_store = cluster.store.iter().filter_map(|store| store.ca.as_ref());
    of_sites.chain(of_farms).chain(of_store).map(PathBuf::as_path).collect()
}
