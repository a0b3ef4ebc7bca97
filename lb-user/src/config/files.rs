//! The files that a configuration names: can the certificates, keys, CAs and programs be used? Reads the disk, keeps nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::certificates::not_covered;
use super::model::{CheckKind, Clients, Config, Etcd, Files, PortRule, Site, Verify};
use super::problem::{ConfigError, Problem, Source, split_hint, told};
use crate::etcd::{Settings, tls};
use crate::proxy::tls::Staple;
use crate::proxy::tls::material::{File, Material, MaterialError};
use crate::wall::WallTime;

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
    let files = &config.files;
    for site in &config.cluster.sites {
        match material_of(site, files) {
            Ok(material) => {
                findings.warnings.extend(doubts(site, &material));
                match staple(site, &material, files) {
                    Ok(staple) => {
                        findings.warnings.extend(staple.and_then(|staple| old(site, &staple, now())))
                    }
                    Err(error) => findings.errors.push(error),
                }
            }
            Err(error) => findings.errors.push(error),
        }
        match &site.tls.clients {
            Clients::Optional(ca) | Clients::Required(ca) => {
                findings.errors.extend(certificates(ca, files).err())
            }
            Clients::Unasked => {}
        }
    }
    for farm in &config.cluster.farms {
        if let Verify::Ca(path) = &farm.verify {
            findings.errors.extend(certificates(path, files).err());
        }
    }
    findings.errors.extend(store(config));
    findings.warnings.extend(config.cluster.rules.iter().filter_map(hopeless));
    findings.errors.extend(config.local.on_event.as_deref().and_then(|path| {
        let hint = "give `on_event` the path of a program, and make it executable: chmod +x";
        unusable(path).map(|text| of(path, text, hint))
    }));
    findings
}

/// What is wrong with the files of the etcd that generations are kept in.
fn store(config: &Config) -> Vec<ConfigError> {
    let Some(Etcd { ca, identity, user, .. }) = &config.cluster.store else { return Vec::new() };
    let files = &config.files;
    let mut errors: Vec<ConfigError> = ca.iter().filter_map(|ca| certificates(ca, files).err()).collect();
    if let Some((certificate, key)) = identity {
        errors.extend(certificates(certificate, files).err());
        errors.extend(read(key, files).err());
    }
    if let Some((_, password)) = user {
        match read(password, files) {
            Ok(bytes) if first_line(&bytes).is_empty() => {
                errors.push(of(password, "its first line is empty".to_owned(), "it is the password"));
            }
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    if let (true, Some((_, key)), Ok(Some(settings))) = (errors.is_empty(), identity, Settings::of(config)) {
        let error = tls::client(&settings).err().map(|error| told(&error));
        errors.extend(error.map(|error| {
            let (text, hint) = split_hint(&error);
            of(key, text.to_owned(), hint.unwrap_or_default())
        }));
    }
    errors
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

/// The site's certificate chain with its key, from its files. `read` reads one, `wrong` tells what is wrong with one.
pub(crate) fn material<E>(
    site: &Site,
    read: impl Fn(&Path) -> Result<Vec<u8>, E>,
    wrong: impl Fn(&Path, MaterialError) -> E,
) -> Result<Material, E> {
    let (certificate, key) = (&site.certificate, &site.key);
    let password = match &site.tls.password {
        Some(path) => first_line(&read(path)?),
        None => String::new(),
    };
    let names = (certificate.display().to_string(), key.display().to_string());
    let mut files = vec![(&names.0, read(certificate)?)];
    if key != certificate {
        files.push((&names.1, read(key)?));
    }
    let files: Vec<_> = files.iter().map(|(name, bytes)| File { name, bytes }).collect();
    Material::read(&files, &password).map_err(|error| {
        let path = if error.is_about_key(&names.1) { key } else { certificate };
        wrong(path, error)
    })
}

/// The first line of a file that holds a password, without its end.
pub(crate) fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

fn material_of(site: &Site, files: &Files) -> Result<Material, ConfigError> {
    material(
        site,
        |path| read(path, files),
        |path, error| {
            let text = error.to_string();
            let (text, hint) = split_hint(&text);
            of(path, text.to_owned(), hint.unwrap_or(PEM))
        },
    )
}

fn certificates(path: &Path, files: &Files) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let pem = read(path, files)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| of(path, format!("damaged PEM: {error}"), PEM))?;
    let Some(first) = chain.first() else {
        return Err(of(path, "no certificate in this file".to_owned(), PEM));
    };
    ParsedCertificate::try_from(first)
        .map_err(|error| of(path, format!("the first certificate cannot be read: {error}"), PEM))?;
    Ok(chain)
}

/// The site's OCSP response, if it has one.
fn staple(site: &Site, material: &Material, files: &Files) -> Result<Option<Staple>, ConfigError> {
    let Some(path) = &site.tls.ocsp else {
        return Ok(None);
    };
    let staple = Staple::read(&read(path, files)?, &material.chain()[0]).map_err(|error| {
        let error = error.to_string();
        let (text, hint) = split_hint(&error);
        of(path, text.to_owned(), hint.unwrap_or_default())
    })?;
    Ok(Some(staple))
}

/// What is told of an OCSP response that has expired at `now`, in seconds since 1970, or does so within a day. Responders give
/// one for days, and what fetches them does so before: one that is this old is one that nothing fetches.
fn old(site: &Site, staple: &Staple, now: u64) -> Option<String> {
    let (path, end) = (site.tls.ocsp.as_ref()?.display(), staple.next_update()?);
    let says = match end.checked_sub(now) {
        None | Some(0) => "expired at",
        Some(left) if left < DAY => "expires at",
        Some(_) => return None,
    };
    let end = WallTime::from_unix_ms(end.saturating_mul(1000));
    Some(format!(
        "the OCSP response {path} {says} {end} and is not stapled from then on: ask the responder for a new one, put it in its \
         place and reload"
    ))
}

const PEM: &str = "a PEM file begins with -----BEGIN CERTIFICATE-----; \
                   openssl pkcs12 -in FILE.pfx -nokeys -out FILE.pem makes one of a .pfx";

fn read(path: &Path, files: &Files) -> Result<Vec<u8>, ConfigError> {
    files.read(path).map_err(|error| {
        let hint = match files {
            Files::Disk => "give the right path; the agent reads it as root",
            Files::Held(_) => "apply the configuration again on a node that has the file",
        };
        of(path, format!("cannot be read: {error}"), hint)
    })
}

fn of(path: &Path, text: String, hint: &str) -> ConfigError {
    Source { path, text: "" }.locate(Problem::of_file(text).hint(hint))
}

/// What clients will not like about the certificate. An expired one is no error: an agent that starts with it serves at
/// least those who put up with it.
fn doubts(site: &Site, material: &Material) -> Vec<String> {
    let path = site.certificate.display();
    let strange = material.warnings().iter().map(|warning| format!("{path}: {warning}"));
    let missing = not_covered(&site.names, &material.chain()[0]).into_iter();
    let missing =
        missing.map(|name| format!("the certificate {path} is not for {name}: clients will warn or refuse"));
    let end = material.facts().not_after.and_then(ending).map(|end| format!("the certificate {path} {end}"));
    strange.chain(missing).chain(end).collect()
}

/// How soon the second `end` since 1970 comes, if it is soon.
fn ending(end: u64) -> Option<String> {
    match end.checked_sub(now()) {
        None => Some("has expired: clients will warn or refuse".to_owned()),
        Some(left) if left < SOON => Some(format!("expires in {} days", left / DAY)),
        Some(_) => None,
    }
}

/// Seconds since 1970: a certificate's end is told by the wall clock, and only warnings hang on it.
fn now() -> u64 {
    WallTime::now().unix_ms() / 1000
}

/// How many seconds before a certificate's end the operator is told.
const SOON: u64 = 30 * DAY;

const DAY: u64 = 86_400;
