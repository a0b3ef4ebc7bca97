//! Why files do not make a site's certificate and key.

use thiserror::Error;

/// Why files do not make a site's certificate and key. Nothing was changed.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum MaterialError {
    /// No file has a certificate.
    #[error(
        "no certificate found; hint: name a PEM file with -----BEGIN CERTIFICATE-----, or the .pfx that Windows exports"
    )]
    NoCertificate,
    /// No file has a private key.
    #[error(
        "no private key found; hint: in Windows' export wizard choose `Yes, export the private key`, or name the PEM file with -----BEGIN PRIVATE KEY----- as `key`"
    )]
    NoKey,
    /// Two different private keys.
    #[error("a second, different private key; hint: leave only the site's own in {file}")]
    TwoKeys {
        /// The file with the second one.
        file: String,
    },
    /// A PEM key under a password.
    #[error(
        "the private key is encrypted; hint: `openssl pkey -in {file} -out NEW` writes it without a password; keep NEW readable by root alone"
    )]
    EncryptedKey {
        /// The file.
        file: String,
    },
    /// A key of an algorithm or size that rustls does not have.
    #[error(
        "the private key cannot be used; hint: {file} needs an RSA key of 2048 to 8192 bits, an ECDSA key on P-256, P-384 or P-521, or an Ed25519 key"
    )]
    UnusableKey {
        /// The file.
        file: String,
    },
    /// No certificate is the key's.
    #[error(
        "the private key belongs to none of the certificates; hint: name the key that the certificate was requested with"
    )]
    Mismatch,
    /// The site's certificate is one that rustls cannot read.
    #[error(
        "the site's certificate cannot be used; hint: issue it as X.509 version 3, as all public CAs and AD CS templates from version 2 on do"
    )]
    UnusableCertificate,
    /// PKCS#12 under another password.
    #[error("the password is wrong; hint: it is the one that was typed when {file} was exported")]
    WrongPassword {
        /// The file.
        file: String,
    },
    /// PKCS#12 without an integrity check: whoever made it, it costs time before it is known to be good.
    #[error(
        "no integrity check; hint: export {file} anew with a MAC, as Windows and openssl do by themselves"
    )]
    NoMac {
        /// The file.
        file: String,
    },
    /// PKCS#12 that asks for too much work.
    #[error(
        "it asks for more work than any export does, or its parameters are damaged; hint: export {file} anew, with at most 1,000,000 rounds and without scrypt"
    )]
    TooSlow {
        /// The file.
        file: String,
    },
    /// PKCS#12 with an algorithm that is not supported.
    #[error("an algorithm that is not supported; hint: export {file} with AES256-SHA256 or TripleDES-SHA1")]
    Unsupported {
        /// The file.
        file: String,
    },
    /// A file is something else.
    #[error(
        "damaged, or neither PEM nor PKCS#12; hint: `openssl pkcs12 -info -noout -in {file}` and `openssl x509 -noout -text -in {file}` tell what is in it"
    )]
    Damaged {
        /// The file.
        file: String,
    },
    /// A file is too long.
    #[error("longer than {limit} bytes; hint: {file} may have this one site's certificates and key only")]
    TooLong {
        /// The file.
        file: String,
        /// How long it may be, in bytes.
        limit: usize,
    },
    /// Too many certificates.
    #[error("more than {limit} certificates; hint: {file} needs the site's own chain, not a bundle of CAs")]
    TooMany {
        /// The file.
        file: String,
        /// How many there may be.
        limit: usize,
    },
}

impl MaterialError {
    /// Whether it is about the file that was named as the key's, `key`, rather than the certificate's.
    pub fn is_about_key(&self, key: &str) -> bool {
        *self == Self::NoKey || self.file() == Some(key)
    }

    /// The file that it is about; `None`: all of them together.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::NoCertificate | Self::NoKey | Self::Mismatch | Self::UnusableCertificate => None,
            Self::TwoKeys { file }
            | Self::EncryptedKey { file }
            | Self::UnusableKey { file }
            | Self::WrongPassword { file }
            | Self::NoMac { file }
            | Self::TooSlow { file }
            | Self::Unsupported { file }
            | Self::Damaged { file }
            | Self::TooLong { file, .. }
            | Self::TooMany { file, .. } => Some(file),
        }
    }
}
