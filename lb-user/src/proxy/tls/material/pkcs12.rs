//! PKCS#12 (RFC 7292) as Windows exports it: RC2-40 with TripleDES, TripleDES-SHA1, AES256-SHA256. `p12_keystore` decodes it;
//! here is what it may cost, and what its errors mean.
//!
//! A file without a MAC is refused: with one, nothing but the MAC is computed (at most 1,000,000 rounds, about a second) for a
//! file whose maker does not know the password. A maker who knows it could still hide keys that are costly to derive among the
//! encrypted certificates; the length bounds that.

use memchr::memmem::{find, find_iter};
use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::asn1_rs::{Any, FromDer as _, Sequence};

use super::{File, MaterialError};

/// What a file holds, in its order.
pub(super) struct Archive {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) keys: Vec<PrivateKeyDer<'static>>,
}

/// Opens a file under `password`, which may be empty.
pub(super) fn open(file: &File<'_>, password: &str) -> Result<Archive, MaterialError> {
    let name = || file.name.to_owned();
    if file.bytes.len() > LONGEST {
        return Err(MaterialError::TooLong { file: name(), limit: LONGEST });
    }
    let has_mac = has_mac(file.bytes).ok_or_else(|| MaterialError::Damaged { file: name() })?;
    if !has_mac {
        return Err(MaterialError::NoMac { file: name() });
    }
    if COSTLY.iter().any(|algorithm| find(file.bytes, algorithm).is_some()) {
        return Err(MaterialError::TooSlow { file: name() });
    }
    if find_iter(file.bytes, ENCRYPTED_KEY).count() > 1 {
        return Err(MaterialError::TwoKeys { file: name() });
    }
    let archive =
        Pkcs12Archive::from_pkcs12(file.bytes, password).map_err(|error| meaning(&error, name()))?;
    let certificates = archive.certs.iter().map(|bag| bag.cert.as_der().to_vec().into()).collect();
    let keys =
        archive.keys.iter().map(|bag| PrivateKeyDer::Pkcs8(bag.key.as_der().to_vec().into())).collect();
    Ok(Archive { certificates, keys })
}

/// Whether a file has a MAC; `None`: it is no PKCS#12. `PFX ::= SEQUENCE { version, authSafe, macData OPTIONAL }`.
fn has_mac(bytes: &[u8]) -> Option<bool> {
    let (_, pfx) = Sequence::from_der(bytes).ok()?;
    let (rest, version) = Any::from_der(&pfx.content).ok()?;
    let (rest, _) = Sequence::from_der(rest).ok()?;
    (version.as_u32() == Ok(3)).then_some(!rest.is_empty())
}

fn meaning(error: &Error, file: String) -> MaterialError {
    match error {
        Error::MacError(_) => MaterialError::WrongPassword { file },
        Error::InvalidParameters => MaterialError::TooSlow { file },
        Error::UnsupportedContentType
        | Error::UnsupportedCertificateType
        | Error::UnsupportedEncryptionScheme
        | Error::UnsupportedMacAlgorithm => MaterialError::Unsupported { file },
        Error::IoError(_)
        | Error::DerError(_)
        | Error::InvalidVersion
        | Error::X509Error(_)
        | Error::InvalidLength
        | Error::UnpadError
        | Error::InvalidData
        | Error::Pkcs5Error(_)
        | Error::InvalidPrivateKey => MaterialError::Damaged { file },
    }
}

/// Longest PKCS#12 file in bytes. A 4096-bit RSA key with a chain of five has some 15,000.
const LONGEST: usize = 64 << 10;

/// `pkcs8ShroudedKeyBag`, DER contents of 1.2.840.113549.1.12.10.1.2. Each costs a key derivation; a site has one.
const ENCRYPTED_KEY: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x02";

/// What no export of a certificate has: `secretBag` (1.2.840.113549.1.12.10.1.5), tried one by one even if damaged, and scrypt
/// (1.3.6.1.4.1.11591.4.11), which takes up to 1 GiB.
const COSTLY: [&[u8]; 2] =
    [b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x05", b"\x2b\x06\x01\x04\x01\xda\x47\x04\x0b"];
