//! TLS towards the members of an etcd: TLS 1.2 or 1.3, under the operator's own CA.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use thiserror::Error;

use super::Settings;
use crate::proxy::tls::{certificates, roots};

/// How members are greeted; `None`: none speaks TLS.
pub fn client(settings: &Settings) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    if !settings.endpoints.iter().any(|endpoint| endpoint.tls) {
        return Ok(None);
    }
    let roots = roots(&settings.ca).map_err(|_| TlsError::Ca)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?
        .with_root_certificates(roots);
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate).map_err(|_| TlsError::Certificate)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::Key)?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Identity)?
        }
    };
    // etcd tells its gateway from gRPC by the version of HTTP.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

/// Why no member can be greeted.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The CA's file holds something else.
    #[error("the CA of etcd's members cannot be read; hint: {PEM}")]
    Ca,
    /// So does that of the nodes' certificate.
    #[error("the certificate for etcd cannot be read; hint: {PEM}")]
    Certificate,
    /// So does that of its key.
    #[error(
        "the key for etcd cannot be read; hint: a PEM file with -----BEGIN PRIVATE KEY-----, without a passphrase"
    )]
    Key,
    /// Certificate and key do not belong together, or cannot be used.
    #[error("certificate and key for etcd cannot be used; hint: do they belong together?")]
    Identity(#[source] rustls::Error),
    /// The library cannot do it.
    #[error("TLS towards etcd cannot be set up")]
    Unusable(#[source] rustls::Error),
}

const PEM: &str = "a PEM file begins with -----BEGIN CERTIFICATE-----";
