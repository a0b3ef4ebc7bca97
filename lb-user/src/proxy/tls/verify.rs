//! What servers must show, and the configuration that asks for it. What they showed instead is `failure`.
//!
//! rustls verifies nothing when it resumes a session. So each policy has a configuration, and each configuration a session
//! store of its own: a session that was opened under another policy is never resumed under this one.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::failure::{Reason, ServerTlsFailure};
use super::site::Alpn;
use super::{Facts, Fingerprint, TlsError, roots, server_provider};
use crate::proxy::snapshot::Verify;

/// How a server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Its certificate is good for the name it is greeted with under one of these CAs (PEM text).
    Ca(String),
    /// SHA-256 of its certificate, or of the certificate's public key (`SubjectPublicKeyInfo`, which stays when a certificate
    /// is renewed for the same key), is one of these. Name, dates and issuer do not count.
    Pins(Vec<Fingerprint>),
    /// It presents one of these very certificates: the site's, and while that is replaced the old and the new one. Extended
    /// Protection asks for this: it binds a client's authentication to the certificate that the client saw (RFC 5929 4), and
    /// the server compares it with its own.
    Leaves(Vec<CertificateDer<'static>>),
    /// Not at all.
    Nothing,
}

/// The configuration towards servers that `trust` describes, with a session store of its own.
pub fn server_trust_config(trust: Trust) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = server_provider();
    let verifier = ServerVerifier::new(trust, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .map_err(TlsError::Unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![Alpn::Http11.id().to_vec()];
    config.resumption = Resumption::in_memory_sessions(MOST_NAMES);
    Ok(Arc::new(config))
}

/// As `server_trust_config`, for a farm's `verify`, which is not `Verify::Clear`. `leaves` are the certificates that `Verify::SameCertificate` accepts.
pub fn client_config(
    verify: &Verify,
    leaves: Vec<CertificateDer<'static>>,
) -> Result<Arc<ClientConfig>, TlsError> {
    server_trust_config(match verify {
        Verify::SameCertificate => Trust::Leaves(leaves),
        Verify::Ca(pem) => Trust::Ca(pem.clone()),
        Verify::Pins(pins) => Trust::Pins(pins.clone()),
        Verify::Nothing | Verify::Clear => Trust::Nothing,
    })
}

/// Applies a `Trust` in handshakes.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    test: Test,
    provider: Arc<CryptoProvider>,
}

/// `Trust`, ready to be applied.
#[derive(Debug)]
enum Test {
    Ca(Arc<WebPkiServerVerifier>),
    Pins(Vec<Fingerprint>),
    Leaves(Vec<CertificateDer<'static>>),
    Nothing,
}

impl ServerVerifier {
    pub(super) fn new(trust: Trust, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let test = match trust {
            Trust::Ca(pem) => {
                let roots = Arc::new(roots(&pem)?);
                let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                Test::Ca(builder.build().map_err(|_| TlsError::NoCertificate)?)
            }
            Trust::Pins(pins) => Test::Pins(pins),
            Trust::Leaves(leaves) => Test::Leaves(leaves),
            Trust::Nothing => Test::Nothing,
        };
        Ok(Self { test, provider })
    }

    /// Whether a server has to prove that it has the key of the certificate that it presents.
    fn proves_key(&self) -> bool {
        match &self.test {
            Test::Ca(_) | Test::Pins(_) | Test::Leaves(_) => true,
            Test::Nothing => false,
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refused = match &self.test {
            Test::Ca(ca) => {
                ca.verify_server_cert(leaf, intermediates, name, ocsp, now).err().map(Reason::Untrusted)
            }
            Test::Pins(pins) => (!is_pinned(leaf, pins)).then_some(Reason::NotPinned),
            Test::Leaves(leaves) => (!leaves.contains(leaf)).then_some(Reason::AnotherCertificate),
            Test::Nothing => None,
        };
        let Some(reason) = refused else {
            return Ok(ServerCertVerified::assertion());
        };
        let failure = ServerTlsFailure { reason, presented: Facts::of(leaf) };
        Err(CertificateError::Other(OtherError(Arc::new(failure))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !self.proves_key() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !self.proves_key() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn is_pinned(leaf: &CertificateDer<'_>, pins: &[Fingerprint]) -> bool {
    let key =
        X509Certificate::from_der(leaf).ok().map(|(_, parsed)| Fingerprint::of(parsed.public_key().raw));
    pins.contains(&Fingerprint::of(leaf)) || key.is_some_and(|key| pins.contains(&key))
}

/// Sessions of so many names are kept. A farm's servers are greeted with one name a site.
const MOST_NAMES: usize = 64;
