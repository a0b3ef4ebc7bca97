//! How one site does TLS: its protocols, its clients' certificates, and the digest that a session has to agree with to be resumed
//! ([`Policy`]). Not where its own certificate comes from (`material`).

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use serde::{Deserialize, Serialize};

use super::{Fingerprint, TlsError, certificates, client_provider, roots};

/// How a site does TLS. Two sites that differ here never share a connection or a session ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteTls {
    /// The protocols offered by ALPN (RFC 7301), the preferred first; at least one.
    pub alpn: Vec<Alpn>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
}

impl Default for SiteTls {
    /// What Exchange needs: Windows authentication belongs to a connection, and HTTP/2 has no such thing.
    fn default() -> Self {
        Self { alpn: vec![Alpn::Http11], client_auth: ClientAuth::Off }
    }
}

/// A protocol as ALPN names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Alpn {
    /// HTTP/1.1.
    #[serde(rename = "http/1.1")]
    Http11,
    /// HTTP/2 over TLS.
    #[serde(rename = "h2")]
    H2,
}

impl Alpn {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http11 => "http/1.1",
            Self::H2 => "h2",
        }
    }

    /// Its identification sequence (RFC 7301 6, RFC 9113 3.2).
    pub fn id(self) -> &'static [u8] {
        self.name().as_bytes()
    }
}

/// Whether a site's clients show certificates (mutual TLS).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// They are not asked.
    Off,
    /// They may; one that does must show a good one.
    Optional {
        /// PEM text: the CAs of clients.
        ca: String,
    },
    /// They must.
    Required {
        /// PEM text: the CAs of clients.
        ca: String,
    },
}

impl ClientAuth {
    /// What verifies clients' certificates.
    pub(super) fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let builder = |ca: &str| -> Result<_, TlsError> {
            let roots = Arc::new(roots(ca)?);
            Ok(WebPkiClientVerifier::builder_with_provider(roots, client_provider()))
        };
        let built = match self {
            Self::Off => return Ok(WebPkiClientVerifier::no_client_auth()),
            Self::Optional { ca } => builder(ca)?.allow_unauthenticated().build(),
            Self::Required { ca } => builder(ca)?.build(),
        };
        built.map(|verifier| verifier as Arc<dyn ClientCertVerifier>).map_err(|_| TlsError::NoCertificate)
    }

    /// How strictly clients are asked, and the CAs' fingerprints in ascending order.
    fn policy(&self) -> Result<(u8, Vec<Fingerprint>), TlsError> {
        let fingerprints = |ca: &str| -> Result<Vec<Fingerprint>, TlsError> {
            let mut fingerprints: Vec<_> =
                certificates(ca)?.iter().map(|certificate| Fingerprint::of(certificate)).collect();
            fingerprints.sort_unstable();
            fingerprints.dedup();
            Ok(fingerprints)
        };
        match self {
            Self::Off => Ok((0, Vec::new())),
            Self::Optional { ca } => Ok((1, fingerprints(ca)?)),
            Self::Required { ca } => Ok((2, fingerprints(ca)?)),
        }
    }
}

/// A digest of all that a resumed session takes over from the full handshake before it: rustls asks no client for a
/// certificate again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Policy([u8; 32]);

impl Policy {
    /// The digest of `site`, an identifier, its settings, and its own certificate: a client that resumes is shown none, and binds
    /// its authentication to the one of the session before (Extended Protection, RFC 5929 4), so that one must be the same.
    pub fn of(site: &str, tls: &SiteTls, leaf: &[u8]) -> Result<Self, TlsError> {
        let (mode, cas) = tls.client_auth.policy()?;
        let mut digest = Context::new(&SHA256);
        // Lengths go first, so that no two lists of parts run together to the same bytes.
        let mut add = |part: &[u8]| {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        };
        add(site.as_bytes());
        add(&Fingerprint::of(leaf).0);
        add(&[mode]);
        add(&(cas.len() as u64).to_be_bytes());
        cas.iter().for_each(|ca| add(&ca.0));
        tls.alpn.iter().for_each(|alpn| add(alpn.id()));
        let mut policy = [0; 32];
        policy.copy_from_slice(digest.finish().as_ref());
        Ok(Self(policy))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_a_resumed_session_takes_over_makes_another_policy() {
        let ca = |names: &[&str]| -> String {
            names
                .iter()
                .map(|name| {
                    std::fs::read_to_string(format!("{}/testdata/tls/{name}.crt", env!("CARGO_MANIFEST_DIR")))
                        .unwrap()
                })
                .collect()
        };
        let tls = |alpn: &[Alpn], client_auth| SiteTls { alpn: alpn.to_vec(), client_auth };
        let both = || ca(&["root", "unrelated"]);
        let mut policies: Vec<Policy> = [
            ("mail", SiteTls::default()),
            ("www", SiteTls::default()),
            ("mail", tls(&[Alpn::H2], ClientAuth::Off)),
            ("mail", tls(&[Alpn::H2, Alpn::Http11], ClientAuth::Off)),
            ("mail", tls(&[Alpn::Http11], ClientAuth::Optional { ca: ca(&["root"]) })),
            ("mail", tls(&[Alpn::Http11], ClientAuth::Required { ca: ca(&["root"]) })),
            ("mail", tls(&[Alpn::Http11], ClientAuth::Required { ca: ca(&["unrelated"]) })),
            ("mail", tls(&[Alpn::Http11], ClientAuth::Required { ca: both() })),
        ]
        .iter()
        .map(|(site, tls)| Policy::of(site, tls, b"leaf").unwrap())
        .chain([Policy::of("mail", &SiteTls::default(), b"another leaf").unwrap()])
        .collect();
        let made = policies.len();
        policies.sort_unstable();
        policies.dedup();
        assert_eq!(policies.len(), made);
        let required = |ca| tls(&[Alpn::Http11], ClientAuth::Required { ca });
        let other_order = required(ca(&["unrelated", "root", "root"]));
        let of = |tls: &SiteTls| Policy::of("mail", tls, b"leaf").unwrap();
        assert_eq!(of(&required(both())), of(&other_order));
    }

    #[test]
    fn clients_cannot_be_verified_without_a_ca() {
        for ca in [String::new(), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_owned()] {
            let required = ClientAuth::Required { ca };
            assert!(matches!(required.verifier(), Err(TlsError::NoCertificate)));
            assert!(matches!(required.policy(), Err(TlsError::NoCertificate)));
        }
    }
}
