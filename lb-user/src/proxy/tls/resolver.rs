//! Which certificate and which rules a client meets: one rustls configuration a site, chosen by the name in its greeting
//! (SNI, RFC 6066 3).
//!
//! rustls resumes without asking for the client's certificate again, and a configuration's tickets, protocols and client
//! authentication are one: so each site has a configuration of its own, and the listener chooses it before the handshake
//! (`tokio_rustls::LazyConfigAcceptor`).

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::site::{Alpn, Policy, SiteTls};
use super::staple::Staple;
use super::tickets::{Clock, TicketSettings, Tickets};
use super::{TlsError, client_provider};
use crate::proxy::route::Routes;

/// A site as its clients meet it.
#[derive(Clone, Debug)]
pub struct ServedSite {
    /// What identifies it on every node, whatever its certificate: its first name.
    pub id: String,
    /// Its certificate chain and key.
    pub key: Arc<CertifiedKey>,
    /// An OCSP response about its certificate.
    pub staple: Option<Staple>,
    /// Protocols and client authentication.
    pub tls: SiteTls,
}

/// One configuration for each of `sites`, in their order. They are the same for every listening address.
pub fn server_configs(
    sites: &[ServedSite],
    tickets: &TicketSettings,
) -> Result<Arc<[Arc<ServerConfig>]>, TlsError> {
    let config = |site: &ServedSite| {
        let leaf = site.key.cert.first().ok_or(TlsError::NoCertificate)?;
        let policy = Policy::of(&site.id, &site.tls, leaf)?;
        let certificate = Certificate::of(site, Arc::clone(&tickets.clock));
        let mut config = base(site.tls.client_auth.verifier()?, Arc::new(certificate), &site.tls.alpn)?;
        config.ticketer = Arc::new(Tickets::new(tickets, policy));
        // A session that one node keeps in memory is of no use to the others.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    };
    sites.iter().map(config).collect()
}

/// A site's certificate, with its OCSP response while that is valid: with an expired one a client may refuse what it would accept
/// without.
struct Certificate {
    key: Arc<CertifiedKey>,
    stapled: Option<Stapled>,
    clock: Clock,
}

struct Stapled {
    key: Arc<CertifiedKey>,
    /// The second since 1970 from which the response is no more to be shown.
    until: Option<u64>,
}

impl Certificate {
    fn of(site: &ServedSite, clock: Clock) -> Self {
        let stapled = |staple: &Staple| Stapled {
            key: Arc::new(CertifiedKey {
                ocsp: Some(staple.der().to_vec()),
                ..CertifiedKey::clone(&site.key)
            }),
            until: staple.next_update(),
        };
        Self { key: Arc::clone(&site.key), stapled: site.staple.as_ref().map(stapled), clock }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let valid = |stapled: &&Stapled| stapled.until.is_none_or(|until| (self.clock)() < until);
        let key = self.stapled.as_ref().filter(valid).map_or(&self.key, |stapled| &stapled.key);
        Some(Arc::clone(key))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The configurations behind one listening address.
pub struct SiteConfigs {
    routes: Arc<Routes>,
    sites: Arc<[Arc<ServerConfig>]>,
    stranger: Arc<ServerConfig>,
}

impl SiteConfigs {
    /// `configs` are those of all sites, in the order that `routes` counts them in, and `sites` what they were made of.
    pub fn new(
        routes: Arc<Routes>,
        sites: &[ServedSite],
        configs: Arc<[Arc<ServerConfig>]>,
    ) -> Result<Self, TlsError> {
        let first = routes.first().and_then(|site| sites.get(site)).ok_or(TlsError::NoSite)?;
        if sites.len() != configs.len() || routes.sites().any(|site| site >= configs.len()) {
            return Err(TlsError::NoSite);
        }
        let certificate = Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&first.key)));
        let mut stranger = base(WebPkiClientVerifier::no_client_auth(), certificate, &first.tls.alpn)?;
        stranger.session_storage = Arc::new(NoServerSessionStorage {});
        stranger.send_tls13_tickets = 0;
        Ok(Self { routes, sites: configs, stranger: Arc::new(stranger) })
    }

    /// No certificate at all, for tests that shake no hands.
    #[cfg(test)]
    pub(crate) fn none(routes: Arc<Routes>) -> Self {
        let nobody = WebPkiClientVerifier::no_client_auth();
        let certificate = Arc::new(rustls::server::ResolvesServerCertUsingSni::new());
        Self { routes, sites: Arc::default(), stranger: Arc::new(base(nobody, certificate, &[]).unwrap()) }
    }

    /// The configuration for a client that greets with `hello`.
    ///
    /// Who names no site meets the first, with all that it asks. Who names one that is not here is shown the first one's
    /// certificate, is asked for none and gets no tickets: enough to be told 421, which is all that `Routes::site` leaves.
    pub fn choose(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let site = self.routes.greeted(hello.server_name()).and_then(|site| self.sites.get(site));
        Arc::clone(site.unwrap_or(&self.stranger))
    }
}

impl fmt::Debug for SiteConfigs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SiteConfigs").field("routes", &self.routes).finish_non_exhaustive()
    }
}

/// What all have in common. Of the cipher suites our order counts, AES before ChaCha20. All are good, so that Mozilla's intermediate profile would
/// leave the order to clients; but testssl.sh, which auditors run, calls a server without one a finding of high severity.
fn base(
    clients: Arc<dyn ClientCertVerifier>,
    certificate: Arc<dyn ResolvesServerCert>,
    alpn: &[Alpn],
) -> Result<ServerConfig, TlsError> {
    let builder =
        ServerConfig::builder_with_provider(client_provider()).with_safe_default_protocol_versions();
    let mut config = builder
        .map_err(TlsError::Unusable)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(certificate);
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.id().to_vec()).collect();
    config.ignore_client_order = true;
    config.max_early_data_size = 0;
    Ok(config)
}
