//! TLS on both sides. Not the name rules (`route`), no files, no sockets.
//!
//! Towards clients: `material` makes a certificate and its key of what operators have, `staple` an OCSP response, `site` says
//! how a site does TLS, `tickets` lets it be resumed on every node, and `resolver` puts that together to one `ServerConfig` a
//! site, chosen by the name in the greeting. Towards servers: `verify` says what they must show, `failure` what they showed
//! instead.
//!
//! TLS 1.2 and 1.3 with ECDHE and AEAD alone, which is all that rustls has and what Mozilla's intermediate profile asks
//! (<https://wiki.mozilla.org/Security/Server_Side_TLS>); no early data, no renegotiation.

mod error;
mod facts;
mod failure;
pub mod material;
mod resolver;
mod site;
mod staple;
pub mod stream;
mod tickets;
mod verify;

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

pub use self::error::TlsError;
pub use self::facts::{Facts, Fingerprint, MalformedFingerprint, not_before};
pub use self::failure::{LastPresented, Reason, ServerTlsFailure};
pub use self::resolver::{ServedSite, SiteConfigs, server_configs};
pub use self::site::{Alpn, ClientAuth, Policy, SiteTls};
pub use self::staple::{Staple, StapleError};
pub use self::tickets::{Clock, TicketSecret, TicketSettings};
pub use self::verify::{Trust, client_config, server_trust_config};

/// A certificate chain and the private key that belongs to it, from PEM texts in the normal form of `material::Material`.
pub fn certified_key(certificate: &str, key: &str) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::NoKey)?;
    let key = CertifiedKey::from_der(chain, key, &client_provider()).map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            TlsError::Mismatch
        } else {
            TlsError::Unusable(error)
        }
    })?;
    Ok(Arc::new(key))
}

/// A site's own certificate: the first of its chain (PEM text).
pub fn leaf(certificate: &str) -> Option<CertificateDer<'static>> {
    certificates(certificate).ok()?.into_iter().next()
}

/// A site's name as TLS clients say it.
pub fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name { name: name.to_owned() })
}

/// The certificates of a PEM text, in its order; at least one.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) | Err(_) => Err(TlsError::NoCertificate),
    }
}

/// The certificates of a PEM text as CAs.
pub(crate) fn roots(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(TlsError::Unusable)?;
    }
    Ok(roots)
}

/// The cryptography towards clients, named explicitly: another crate in the build must not be able to change it.
fn client_provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

/// The cryptography towards servers. A post-quantum key share makes the greeting longer than a packet, which old Schannel
/// stacks and the boxes before them do not all take.
fn server_provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![X25519, SECP256R1, SECP384R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

#[cfg(test)]
mod tests;
