//! Why TLS cannot be set up.

use thiserror::Error;

use super::material::MaterialError;
use super::staple::StapleError;

/// Why certificates cannot be used. Nothing was changed.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The PEM text has no certificate.
    #[error(
        "no certificate found; hint: a PEM file with -----BEGIN CERTIFICATE-----, the site's own certificate first"
    )]
    NoCertificate,
    /// The PEM text has no private key.
    #[error("no private key found; hint: an unencrypted PEM file with -----BEGIN PRIVATE KEY-----")]
    NoKey,
    /// Certificate and key are not a pair.
    #[error(
        "the private key does not belong to the certificate; hint: the site's own certificate must be the first of its file"
    )]
    Mismatch,
    /// A site's files.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// A site's OCSP response.
    #[error(transparent)]
    Staple(#[from] StapleError),
    /// rustls cannot work with it.
    #[error("unusable certificate or key")]
    Unusable(#[source] rustls::Error),
    /// No host name.
    #[error(
        "`{name}` is not a host name; hint: labels of letters, digits and hyphens, with dots between them"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// A listening address without a site, or a site without settings.
    #[error("no site is served at a listening address; hint: give a site this address in `listen`")]
    NoSite,
}
