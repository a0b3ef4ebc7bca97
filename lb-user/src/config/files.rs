//! The files that a configuration names: can the certificates, keys, CAs and programs be used? Reads the disk, keeps nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::model::{CheckKind, Config, PortRule, Site, Verify};
use super::problem::{ConfigError, Problem, Source};
use super::validity::not_after;

/// What the files are like.
#[derive(Default)]
pub(crate) struct Findings {
    /// The configuration cannot be used.
    pub(crate) errors: Vec<ConfigError>,
    /// It can, but clients may complain.
    pub(crate) warnings: Vec<String>,
}

/// Looks at every file that `config` names, the cluster secret apart.
pub(crate) fn examine(config: &Config) -> Findings {
    let mut findings = Findings::default();
    for site in &config.cluster.sites {
        match pair(site) {
            Ok(key) => findings.warnings.extend(doubts(site, &key)),
            Err(error) => findings.errors.push(error),
        }
    }
    for farm in &config.cluster.farms {
        if let Verify::Ca(path) = &farm.verify {
            findings.errors.extend(certificates(path).err());
        }
    }
    findings.warnings.extend(config.cluster.rules.iter().filter_map(hopeless));
    findings.errors.extend(config.local.on_event.as_deref().and_then(|path| {
        let hint = "give `on_event` the path of a program, and make it executable: chmod +x";
        unusable(path).map(|text| of(path, text, hint))
    }));
    findings
}

/// What is told of a rule whose check cannot succeed here. No error: the node can still serve the others.
fn hopeless(rule: &PortRule) -> Option<String> {
    let CheckKind::Command { program, .. } = &rule.check.as_ref()?.kind else {
        return None;
    };
    let why = unusable(program)?;
    Some(format!("the check of {rule} will fail here: {}: {why}", program.display()))
}

/// Why the program cannot be run, if so.
fn unusable(program: &Path) -> Option<String> {
    match std::fs::metadata(program) {
        Err(error) => Some(format!("cannot be read: {error}")),
        Ok(file) if !file.is_file() => Some("is not a file".to_owned()),
        Ok(file) if file.permissions().mode() & 0o111 == 0 => Some("is not executable".to_owned()),
        Ok(_) => None,
    }
}

/// The site's certificate chain with its key.
fn pair(site: &Site) -> Result<CertifiedKey, ConfigError> {
    let chain = certificates(&site.certificate)?;
    let key = private_key(&site.key)?;
    let key = any_supported_type(&key).map_err(|error| {
        of(
            &site.key,
            format!("the private key cannot be used: {error}"),
            "an RSA, ECDSA or Ed25519 key is needed",
        )
    })?;
    let pair = CertifiedKey::new(chain, key);
    pair.keys_match().map_err(|_| {
        let text =
            format!("the private key does not belong to the certificate {}", site.certificate.display());
        of(
            &site.key,
            text,
            "name the key that the certificate was requested with; the site's own certificate comes first",
        )
    })?;
    Ok(pair)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let pem = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| of(path, format!("damaged PEM: {error}"), PEM))?;
    let Some(first) = chain.first() else {
        return Err(of(path, "no certificate in this file".to_owned(), PEM));
    };
    ParsedCertificate::try_from(first)
        .map_err(|error| of(path, format!("the first certificate cannot be read: {error}"), PEM))?;
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| of(path, "no usable private key in this file".to_owned(), KEY))
}

const PEM: &str = "a PEM file begins with -----BEGIN CERTIFICATE-----; \
                   openssl pkcs12 -in FILE.pfx -nokeys -out FILE.pem makes one of a .pfx";

const KEY: &str = "a PEM file without password is needed: \
                   openssl pkcs12 -in FILE.pfx -nocerts -noenc -out FILE.key makes one of a .pfx";

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    super::read(path).map_err(|error| {
        of(path, format!("cannot be read: {error}"), "give the right path; the agent reads it as root")
    })
}

fn of(path: &Path, text: String, hint: &str) -> ConfigError {
    Source { path, text: "" }.locate(Problem::of_file(text).hint(hint))
}

/// What clients will not like about the certificate. An expired one is no error: an agent that starts with it serves at
/// least those who put up with it.
fn doubts(site: &Site, pair: &CertifiedKey) -> Vec<String> {
    let Ok(der) = pair.end_entity_cert() else {
        return Vec::new();
    };
    let Ok(certificate) = ParsedCertificate::try_from(der) else {
        return Vec::new();
    };
    let covered = |name: &str| {
        ServerName::try_from(name).is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
    };
    let path = site.certificate.display();
    let missing = site.names.iter().filter(|name| !covered(name));
    let missing =
        missing.map(|name| format!("the certificate {path} is not for {name}: clients will warn or refuse"));
    let end = not_after(der).and_then(ending).map(|end| format!("the certificate {path} {end}"));
    missing.chain(end).collect()
}

/// How soon the second `end` since 1970 comes, if it is soon.
fn ending(end: u64) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a certificate's end is told by the wall clock; only a warning hangs on it"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    match end.checked_sub(now) {
        None => Some("has expired: clients will warn or refuse".to_owned()),
        Some(left) if left < SOON.as_secs() => Some(format!("expires in {} days", left / 86_400)),
        Some(_) => None,
    }
}

/// How long before a certificate's end the operator is told.
const SOON: Duration = Duration::from_secs(21 * 86_400);
