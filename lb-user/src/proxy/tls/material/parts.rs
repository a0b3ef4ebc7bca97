//! What a file is made of: certificates and at most one private key. Not which belongs to which (`chain`).

use memchr::memmem::find;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::private_key::PrivateKey;
use super::{File, LONGEST_FILE, MaterialError, pkcs12};

/// Certificates in the order of the file, none twice, and the key if there is one.
#[derive(Default)]
pub(super) struct Parts {
    /// The file that the latest part came from.
    file: String,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) key: Option<PrivateKey>,
}

impl Parts {
    /// The parts of one file, whatever its kind.
    pub(super) fn read(file: &File<'_>, password: &str) -> Result<Self, MaterialError> {
        if file.bytes.len() > LONGEST_FILE {
            return Err(MaterialError::TooLong { file: file.name.to_owned(), limit: LONGEST_FILE });
        }
        let mut parts = Self { file: file.name.to_owned(), ..Self::default() };
        if find(file.bytes, b"-----BEGIN ").is_some() {
            parts.read_pem(file.bytes)?;
        } else if X509Certificate::from_der(file.bytes).is_ok_and(|(rest, _)| rest.is_empty()) {
            parts.add_certificate(file.bytes.to_vec().into())?;
        } else {
            let archive = pkcs12::open(file, password)?;
            for der in archive.certificates {
                parts.add_certificate(der)?;
            }
            for der in archive.keys {
                parts.add_key(&der)?;
            }
        }
        Ok(parts)
    }

    /// Adds those of another file.
    pub(super) fn add(&mut self, other: Self) -> Result<(), MaterialError> {
        self.file = other.file;
        for certificate in other.certificates {
            self.add_certificate(certificate)?;
        }
        match other.key {
            Some(key) => self.set_key(key),
            None => Ok(()),
        }
    }

    fn read_pem(&mut self, bytes: &[u8]) -> Result<(), MaterialError> {
        // PKCS#8 and the older form of OpenSSL (RFC 1421 4.6.1.1).
        let encrypted: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];
        if encrypted.iter().any(|mark| find(bytes, mark).is_some()) {
            return Err(MaterialError::EncryptedKey { file: self.file.clone() });
        }
        // Windows' editors begin text with a byte order mark.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
            let (kind, der) = section.map_err(|_| self.damaged())?;
            // Other sections, as `EC PARAMETERS`, are no part of a site.
            if kind == SectionKind::Certificate {
                self.add_certificate(der.into())?;
            } else if kind == SectionKind::PrivateKey {
                self.add_key(&PrivateKeyDer::Pkcs8(der.into()))?;
            } else if kind == SectionKind::RsaPrivateKey {
                self.add_key(&PrivateKeyDer::Pkcs1(der.into()))?;
            } else if kind == SectionKind::EcPrivateKey {
                self.add_key(&PrivateKeyDer::Sec1(der.into()))?;
            }
        }
        Ok(())
    }

    fn add_certificate(&mut self, der: CertificateDer<'static>) -> Result<(), MaterialError> {
        if self.certificates.contains(&der) {
            return Ok(());
        }
        if self.certificates.len() == MOST_CERTIFICATES {
            return Err(MaterialError::TooMany { file: self.file.clone(), limit: MOST_CERTIFICATES });
        }
        let whole = X509Certificate::from_der(&der).is_ok_and(|(rest, _)| rest.is_empty());
        if !whole {
            return Err(self.damaged());
        }
        self.certificates.push(der);
        Ok(())
    }

    fn add_key(&mut self, der: &PrivateKeyDer<'_>) -> Result<(), MaterialError> {
        let key = PrivateKey::read(der);
        self.set_key(key.ok_or_else(|| MaterialError::UnusableKey { file: self.file.clone() })?)
    }

    fn set_key(&mut self, key: PrivateKey) -> Result<(), MaterialError> {
        match &self.key {
            Some(first) if first.public() != key.public() => {
                Err(MaterialError::TwoKeys { file: self.file.clone() })
            }
            Some(_) => Ok(()),
            None => {
                self.key = Some(key);
                Ok(())
            }
        }
    }

    fn damaged(&self) -> MaterialError {
        MaterialError::Damaged { file: self.file.clone() }
    }
}

/// Most certificates: chains have at most ten.
const MOST_CERTIFICATES: usize = 64;
