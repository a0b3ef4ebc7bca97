//! A site's certificate and private key, from the files that operators have: PEM and PKCS#12, in any order. Pure: reads no
//! file, asks no clock. Whether clients will like the certificate is not decided here.

mod chain;
mod error;
mod parts;
mod pkcs12;
mod private_key;

use std::fmt;

use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

pub use self::error::MaterialError;
use self::parts::Parts;
use super::facts::Facts;
use crate::proxy::snapshot;

/// A file's contents and what to call it in errors.
#[derive(Clone, Copy)]
pub struct File<'a> {
    /// Its path.
    pub name: &'a str,
    /// What it holds.
    pub bytes: &'a [u8],
}

/// A certificate chain and its private key in their normal form.
pub struct Material {
    /// The site's own certificate first, each followed by its issuer's; without a self-signed root, which clients have or do
    /// not trust. At least one.
    chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    key: PrivatePkcs8KeyDer<'static>,
    /// What was left out and should not have been there.
    warnings: Vec<MaterialWarning>,
}

impl Material {
    /// Finds the private key in `files`, the certificate that belongs to it and the certificates that lead from there to a
    /// root. Each file is PEM text with any number of certificates and keys, one DER certificate, or PKCS#12 under `password`.
    ///
    /// The same key or certificate may stand there more than once. Of several certificates for the key the one that ends last
    /// counts.
    pub fn read(files: &[File<'_>], password: &str) -> Result<Self, MaterialError> {
        let mut all = Parts::default();
        for file in files {
            all.add(Parts::read(file, password)?)?;
        }
        let key = all.key.ok_or(MaterialError::NoKey)?;
        let sorted = chain::sort(&all.certificates, key.public())?;
        ParsedCertificate::try_from(&sorted.chain[0]).map_err(|_| MaterialError::UnusableCertificate)?;
        let warnings =
            sorted.unrelated.iter().map(|der| MaterialWarning::Unrelated(Facts::of(der))).collect();
        Ok(Self { chain: sorted.chain, key: key.into_der(), warnings })
    }

    /// The chain as PEM text.
    pub fn chain_pem(&self) -> String {
        let encoded = |der: &CertificateDer<'_>| pem_text("CERTIFICATE", der);
        self.chain.iter().map(encoded).collect()
    }

    /// The key as PEM text.
    pub fn key_pem(&self) -> snapshot::PrivateKey {
        snapshot::PrivateKey::new(pem_text("PRIVATE KEY", self.key.secret_pkcs8_der()))
    }

    /// What the site's own certificate says of itself.
    pub fn facts(&self) -> Facts {
        Facts::of(&self.chain[0])
    }

    /// The chain, the site's own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// What was left out and should not have been there.
    pub fn warnings(&self) -> &[MaterialWarning] {
        &self.warnings
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("leaf", &self.facts()).finish_non_exhaustive()
    }
}

/// What is not quite right about a site's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaterialWarning {
    /// A certificate that neither belongs to the key nor leads from there to a root. It is not sent to clients.
    Unrelated(Facts),
}

impl fmt::Display for MaterialWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrelated(facts) => write!(
                f,
                "a certificate is not part of the site's chain and is left out: {facts}; hint: remove it from the file"
            ),
        }
    }
}

fn pem_text(tag: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), config)
}

/// Longest file in bytes. The longest chains have some 30,000.
pub const LONGEST_FILE: usize = 1 << 20;

#[cfg(test)]
mod tests;
