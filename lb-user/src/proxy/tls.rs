//! TLS on both sides: what clients are shown, and what servers must show. Not the name rules (`route`).
//!
//! TLS 1.2 and 1.3, `http/1.1` alone, no early data, no client certificates.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use thiserror::Error;

use super::route::Routes;
use super::snapshot::Verify;

/// A certificate chain and the private key that belongs to it, from PEM texts.
pub fn certified_key(certificate: &str, key: &str) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::NoKey)?;
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            TlsError::Mismatch
        } else {
            TlsError::Unusable(error)
        }
    })?;
    Ok(Arc::new(key))
}

/// What clients of one listening address are shown: the certificate of the site they name. `keys` is in the order of the
/// snapshot's sites.
pub fn server_config(
    routes: Arc<Routes>,
    keys: Arc<[Arc<CertifiedKey>]>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let mut config = builder
        .map_err(TlsError::Unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(BySite { routes, keys }));
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

/// What servers must show. `leaves` are the certificates that `Verify::SameCertificate` accepts.
pub fn client_config(
    verify: &Verify,
    leaves: Vec<CertificateDer<'static>>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier: Arc<dyn ServerCertVerifier> = match verify {
        Verify::SameCertificate => Arc::new(SameCertificate { leaves, provider: Arc::clone(&provider) }),
        Verify::Ca(pem) => by_ca(pem, &provider)?,
        Verify::Nothing => Arc::new(Nothing(Arc::clone(&provider))),
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .map_err(TlsError::Unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

/// A site's name as TLS clients say it.
pub fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name { name: name.to_owned() })
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) | Err(_) => Err(TlsError::NoCertificate),
    }
}

fn by_ca(pem: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(TlsError::Unusable)?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|_| TlsError::NoCertificate)
}

/// The cryptography, named explicitly: another crate in the build must not be able to change it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Picks the certificate by the name in the handshake.
struct BySite {
    routes: Arc<Routes>,
    keys: Arc<[Arc<CertifiedKey>]>,
}

impl ResolvesServerCert for BySite {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let site = self.routes.certificate(hello.server_name())?;
        self.keys.get(site).cloned()
    }
}

impl fmt::Debug for BySite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BySite")
    }
}

/// Accepts a server that presents the very certificate that the site serves, and proves that it has its key. Name, dates and
/// issuer are the site's own affair then.
#[derive(Debug)]
struct SameCertificate {
    leaves: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for SameCertificate {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.leaves.iter().any(|wanted| wanted == leaf) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::Other(OtherError(Arc::new(AnotherCertificate))).into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A server is not who it must be.
#[derive(Debug, Error)]
#[error(
    "the server presents another certificate than the site's; hint: give both the same, or set the farm's `verify`"
)]
struct AnotherCertificate;

/// Accepts any server, as the operator said.
#[derive(Debug)]
struct Nothing(Arc<CryptoProvider>);

impl ServerCertVerifier for Nothing {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

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
    /// rustls cannot work with it.
    #[error("unusable certificate or key")]
    Unusable(#[source] rustls::Error),
    /// No host name.
    #[error("`{name}` is not a host name")]
    Name {
        /// What was given.
        name: String,
    },
}

/// The only protocol: Windows authentication belongs to a connection, and HTTP/2 has no such thing.
const HTTP_1_1: &[u8] = b"http/1.1";

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let pair = rcgen::generate_simple_self_signed(["mail.example.test".to_owned()]).unwrap();
        (pair.cert.pem(), pair.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_goes_with_its_own_key_alone() {
        let (ours, key) = pair();
        let (theirs, _) = pair();
        assert!(certified_key(&ours, &key).is_ok());
        assert!(matches!(certified_key(&theirs, &key), Err(TlsError::Mismatch)));
        assert!(matches!(certified_key("", &key), Err(TlsError::NoCertificate)));
        assert!(matches!(certified_key(&ours, &ours), Err(TlsError::NoKey)));
    }
}
