//! TLS between nodes: version 1.3, mutual, with raw public keys (RFC 7250) in place of certificates.
//!
//! A key is trusted because the configuration lists it, or a token names it, and for nothing else: there is no authority, no name and
//! no date that could be wrong. Sessions are never resumed, so each connection proves both keys anew.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_eddsa_type};
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName,
    Error, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};

use super::channel::{Trouble, Why};
use crate::shared::keys::{Seed, VerifyingKey};

/// What this node proves itself by.
#[derive(Clone, Debug)]
pub struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// With the key that comes from `seed`.
    pub fn new(seed: &Seed) -> Result<Self, Error> {
        let unusable = |_| Error::General("the transport key cannot be used".to_owned());
        let pkcs8 = seed.pair().to_pkcs8v1().map_err(unusable)?;
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_ref()))?;
        let spki = CertificateDer::from(spki_of(seed.public()));
        Ok(Self(Arc::new(CertifiedKey::new(vec![spki], key))))
    }

    /// For connections that come in: of whose key `may_enter` says yes. Whoever is refused is told so by an alert.
    pub fn server(
        &self,
        may_enter: impl Fn(VerifyingKey) -> bool + Send + Sync + 'static,
    ) -> Result<ServerConfig, Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(Check(Box::new(may_enter))))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&self.0))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }

    /// For one connection to whoever has the key `wanted`; what is presented there is put down in `presented`.
    pub fn client(
        &self,
        wanted: VerifyingKey,
        presented: Arc<OnceLock<VerifyingKey>>,
    ) -> Result<ClientConfig, Error> {
        let is_wanted = move |key| *presented.get_or_init(|| key) == wanted;
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Check(Box::new(is_wanted))))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.0))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// What both ends know of a connection whose handshake is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The key that the other end has proved.
    pub key: VerifyingKey,
    /// The channel binding `tls-exporter` (RFC 9266): the same at both ends, of this connection alone.
    pub binding: [u8; 32],
}

impl Proven {
    /// Of a connection; `None`: the other end is no node of this version. `export` is its exporter.
    pub fn of(
        connection: &CommonState,
        export: impl FnOnce([u8; 32], &[u8]) -> Result<[u8; 32], Error>,
    ) -> Option<Self> {
        if connection.alpn_protocol() != Some(ALPN) {
            return None;
        }
        let [spki] = connection.peer_certificates()? else { return None };
        let binding = export([0; 32], EXPORTER).ok()?;
        Some(Self { key: key_of(spki)?, binding })
    }
}

/// What a failure of a connection to another node means.
pub fn why_of(error: &io::Error) -> Why {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    match tls {
        Some(Error::AlertReceived(AlertDescription::AccessDenied)) => Why::Unlisted,
        Some(_) => Why::Unreachable(Trouble::NoPeer),
        None => Why::Unreachable(match (error.raw_os_error(), error.kind()) {
            (Some(errno), _) => Trouble::System(errno),
            (None, io::ErrorKind::TimedOut) => Trouble::Silent,
            (None, io::ErrorKind::InvalidData) => Trouble::Garbled,
            (None, _) => Trouble::Closed,
        }),
    }
}

/// Checks the other end's key, whichever end this is.
struct Check(Box<dyn Fn(VerifyingKey) -> bool + Send + Sync>);

impl Check {
    fn check(&self, spki: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let refused = |error: CertificateError| Error::InvalidCertificate(error);
        let key = key_of(spki).filter(|_| more.is_empty()).ok_or(refused(CertificateError::BadEncoding))?;
        if (self.0)(key) { Ok(()) } else { Err(refused(CertificateError::ApplicationVerificationFailure)) }
    }

    fn signature(
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        let spki = SubjectPublicKeyInfoDer::from(spki.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signed, &algorithms)
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check")
    }
}

fn only_tls13() -> Error {
    Error::General("only TLS 1.3 is spoken here".to_owned())
}

/// What both ends ask the same of.
macro_rules! with_raw_keys_of_tls13 {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(only_tls13())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Self::signature(message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    with_raw_keys_of_tls13!();
}

impl ClientCertVerifier for Check {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    with_raw_keys_of_tls13!();
}

/// A key as `SubjectPublicKeyInfo` in DER (RFC 8410, section 4).
fn spki_of(key: VerifyingKey) -> Vec<u8> {
    [&SPKI_HEAD[..], &key.0].concat()
}

/// The key that such DER spells, which has one spelling.
fn key_of(spki: &[u8]) -> Option<VerifyingKey> {
    spki.strip_prefix(&SPKI_HEAD)?.try_into().ok().map(VerifyingKey)
}

/// SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING of 32 bytes }, up to those.
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The protocol, with its version.
const ALPN: &[u8] = b"rollcall-peer/1";

/// RFC 9266, section 2; the context is empty.
const EXPORTER: &[u8] = b"EXPORTER-Channel-Binding";

#[cfg(test)]
mod tests;
