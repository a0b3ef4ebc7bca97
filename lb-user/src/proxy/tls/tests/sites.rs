//! Clients against `SiteConfigs`: certificates, protocols, client authentication, and which sessions are resumed where.

use std::sync::atomic::{AtomicU64, Ordering};

use rustls::server::Acceptor;
use rustls::{ClientConfig, SupportedProtocolVersion, version};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::super::verify::ServerVerifier;
use super::*;
use crate::proxy::route::{NamedSite, Routes};

const EPOCH: u64 = 43_200;

/// What the nodes of a cluster have in common: two sites, a secret, a clock.
struct Cluster {
    mail: Identity,
    www: Identity,
    mail_tls: SiteTls,
    now: Arc<AtomicU64>,
    secret: u8,
}

impl Cluster {
    fn new() -> Self {
        Self {
            mail: Identity::new(&["mail.example.test"]),
            www: Identity::new(&["*.example.test"]),
            mail_tls: SiteTls::default(),
            now: Arc::new(AtomicU64::new(40_000 * EPOCH)),
            secret: 1,
        }
    }

    /// A node, built by itself.
    fn node(&self) -> SiteConfigs {
        let clock = Arc::clone(&self.now);
        let tickets = TicketSettings {
            secrets: vec![TicketSecret::new([self.secret; 32])],
            epoch: u32::try_from(EPOCH).unwrap(),
            clock: Arc::new(move || clock.load(Ordering::Relaxed)),
        };
        let site = |id: &str, identity: &Identity, tls: &SiteTls| ServedSite {
            id: id.to_owned(),
            key: identity.certified(),
            staple: None,
            tls: tls.clone(),
        };
        let sites = [site("mail", &self.mail, &self.mail_tls), site("www", &self.www, &SiteTls::default())];
        let names = [vec!["mail.example.test".to_owned()], vec!["*.example.test".to_owned()]];
        let routes = Routes::new(sites.iter().zip(&names).enumerate().map(|(index, (site, names))| {
            NamedSite { site: index, names, certificate: &site.id, tls: &site.tls }
        }));
        let configs = server_configs(&sites, &tickets).unwrap();
        SiteConfigs::new(Arc::new(routes), &sites, configs).unwrap()
    }

    /// A client that trusts both sites' certificates.
    fn client(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        self.client_with(version, None)
    }

    fn client_with(
        &self,
        version: &'static SupportedProtocolVersion,
        certificate: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> ClientConfig {
        let trusted = self.mail.certificate.clone() + &self.www.certificate;
        let builder = ClientConfig::builder_with_provider(client_provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots(&trusted).unwrap());
        match certificate {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        }
    }
}

/// A CA and a client's certificate under it.
struct Clients {
    ca: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Clients {
    fn new() -> Self {
        let (ca_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let mut ca = rcgen::CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let client = rcgen::CertificateParams::new(["phone.example.test".to_owned()]).unwrap();
        let client = client.signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key)).unwrap();
        Self {
            ca: ca.self_signed(&ca_key).unwrap().pem(),
            certificate: client.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    fn certificate(&self) -> Option<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        Some((self.certificate.clone(), self.key.clone_key()))
    }

    fn required(&self) -> SiteTls {
        SiteTls { client_auth: ClientAuth::Required { ca: self.ca.clone() }, ..SiteTls::default() }
    }

    fn optional(&self) -> SiteTls {
        SiteTls { client_auth: ClientAuth::Optional { ca: self.ca.clone() }, ..SiteTls::default() }
    }
}

/// A handshake as the listener does it: the greeting first, then the configuration for it.
pub(super) fn handshake(
    client: &Arc<ClientConfig>,
    node: &SiteConfigs,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let mut client = ClientConnection::new(Arc::clone(client), server_name(name).unwrap()).unwrap();
    let mut greeting = Vec::new();
    client.write_tls(&mut greeting).unwrap();
    let mut acceptor = Acceptor::default();
    let mut unread = greeting.as_slice();
    let accepted = loop {
        acceptor.read_tls(&mut unread).unwrap();
        if let Some(accepted) = acceptor.accept().map_err(|(error, _)| error)? {
            break accepted;
        }
    };
    let config = node.choose(&accepted.client_hello());
    let mut server = accepted.into_connection(config).map_err(|(error, _)| error)?;
    converse(&mut client, &mut server)?;
    Ok((client, server))
}

fn kind(client: &Arc<ClientConfig>, node: &SiteConfigs, name: &str) -> HandshakeKind {
    let (client, server) = handshake(client, node, name).unwrap();
    assert_eq!(client.handshake_kind(), server.handshake_kind());
    client.handshake_kind().unwrap()
}

pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

#[test]
fn a_ticket_of_one_node_resumes_on_another() {
    for version in VERSIONS {
        let cluster = Cluster::new();
        let client = Arc::new(cluster.client(version));
        assert_eq!(kind(&client, &cluster.node(), "mail.example.test"), HandshakeKind::Full);
        assert_eq!(
            kind(&client, &cluster.node(), "mail.example.test"),
            HandshakeKind::Resumed,
            "{version:?}"
        );
        // A name of its own, so no ticket is offered.
        assert_eq!(kind(&client, &cluster.node(), "www.example.test"), HandshakeKind::Full);
        assert_eq!(kind(&client, &cluster.node(), "www.example.test"), HandshakeKind::Resumed);
    }
}

#[test]
fn a_ticket_is_good_through_one_rotation_and_not_through_two() {
    for (version, epochs, expected) in VERSIONS
        .into_iter()
        .flat_map(|version| [(version, 1, HandshakeKind::Resumed), (version, 2, HandshakeKind::Full)])
    {
        let cluster = Cluster::new();
        let client = Arc::new(cluster.client(version));
        let node = cluster.node();
        assert_eq!(kind(&client, &node, "mail.example.test"), HandshakeKind::Full);
        cluster.now.fetch_add(epochs * EPOCH, Ordering::Relaxed);
        assert_eq!(kind(&client, &node, "mail.example.test"), expected, "{version:?} {epochs}");
    }
}

#[test]
fn a_ticket_from_before_another_policy_is_worth_nothing() {
    let clients = Clients::new();
    type Change = fn(&mut Cluster, &Clients);
    let changes: [(&str, Change); 4] = [
        ("client certificates optional", |cluster, clients| cluster.mail_tls = clients.optional()),
        ("client certificates required", |cluster, clients| cluster.mail_tls = clients.required()),
        ("another protocol", |cluster, _| cluster.mail_tls.alpn = vec![Alpn::H2, Alpn::Http11]),
        ("another secret", |cluster, _| cluster.secret = 2),
    ];
    for (version, (what, change)) in
        VERSIONS.into_iter().flat_map(|version| changes.map(|change| (version, change)))
    {
        let mut cluster = Cluster::new();
        let client = Arc::new(cluster.client_with(version, clients.certificate()));
        assert_eq!(kind(&client, &cluster.node(), "mail.example.test"), HandshakeKind::Full);
        change(&mut cluster, &clients);
        let node = cluster.node();
        assert_eq!(kind(&client, &node, "mail.example.test"), HandshakeKind::Full, "{version:?}: {what}");
        assert_eq!(kind(&client, &node, "mail.example.test"), HandshakeKind::Resumed, "{version:?}: {what}");
    }
}

#[test]
fn a_session_is_resumed_under_its_very_certificate_alone() {
    let mut cluster = Cluster::new();
    let client = Arc::new(cluster.client(&version::TLS13));
    assert_eq!(kind(&client, &cluster.node(), "mail.example.test"), HandshakeKind::Full);
    assert_eq!(kind(&client, &cluster.node(), "mail.example.test"), HandshakeKind::Resumed);
    let old = std::mem::replace(&mut cluster.mail, Identity::new(&["mail.example.test"]));
    // The client knows the old one alone, so that what is not resumed fails.
    assert!(handshake(&client, &cluster.node(), "mail.example.test").is_err());
    cluster.mail = old;
    kind(&client, &cluster.node(), "mail.example.test");
}

#[test]
fn clients_certificates_are_asked_for_as_the_site_says() {
    let (clients, strangers) = (Clients::new(), Clients::new());
    for version in VERSIONS {
        for (tls, certificate, accepted) in [
            (clients.required(), clients.certificate(), true),
            (clients.required(), None, false),
            (clients.required(), strangers.certificate(), false),
            (clients.optional(), clients.certificate(), true),
            (clients.optional(), None, true),
            (clients.optional(), strangers.certificate(), false),
            (SiteTls::default(), None, true),
        ] {
            let mut cluster = Cluster::new();
            cluster.mail_tls = tls.clone();
            let shows = certificate.is_some();
            let client = Arc::new(cluster.client_with(version, certificate));
            let made = handshake(&client, &cluster.node(), "mail.example.test");
            assert_eq!(made.is_ok(), accepted, "{version:?} {:?} {shows}", tls.client_auth);
            if let Ok((_, server)) = made {
                assert_eq!(server.peer_certificates().is_some(), shows, "{version:?}");
            }
            // Other sites ask for none.
            let bare = Arc::new(cluster.client(version));
            assert!(handshake(&bare, &cluster.node(), "www.example.test").is_ok());
        }
    }
}

#[test]
fn who_names_no_site_meets_the_first_and_who_names_a_strange_one_only_its_certificate() {
    let clients = Clients::new();
    for version in VERSIONS {
        let mut cluster = Cluster::new();
        cluster.mail_tls = clients.required();
        let node = cluster.node();
        let nameless = |certificate| {
            let mut client = cluster.client_with(version, certificate);
            client.enable_sni = false;
            handshake(&Arc::new(client), &node, "mail.example.test")
        };
        assert!(nameless(None).is_err(), "{version:?}");
        assert!(nameless(clients.certificate()).is_ok(), "{version:?}");
        // The certificate is not for that name; this client does not mind.
        let mut client = cluster.client(version);
        let anyone = ServerVerifier::new(Trust::Nothing, client_provider()).unwrap();
        client.dangerous().set_certificate_verifier(Arc::new(anyone));
        let client = Arc::new(client);
        for _ in 0..2 {
            let (shown, server) = handshake(&client, &node, "unknown.test").unwrap();
            assert_eq!(shown.peer_certificates().unwrap(), [cluster.mail.leaf()]);
            assert_eq!(server.server_name(), Some("unknown.test"));
            assert_eq!(shown.handshake_kind(), Some(HandshakeKind::Full), "no ticket was given");
        }
    }
}

#[test]
fn the_certificate_and_the_protocol_are_the_sites() {
    let mut cluster = Cluster::new();
    cluster.mail_tls.alpn = vec![Alpn::H2, Alpn::Http11];
    let node = cluster.node();
    let mut client = cluster.client(&version::TLS13);
    client.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let client = Arc::new(client);
    for (name, leaf, protocol) in [
        ("mail.example.test", cluster.mail.leaf(), &b"h2"[..]),
        ("MAIL.example.test", cluster.mail.leaf(), b"h2"),
        ("www.example.test", cluster.www.leaf(), b"http/1.1"),
    ] {
        let (client, _) = handshake(&client, &node, name).unwrap();
        assert_eq!(client.peer_certificates().unwrap(), [leaf], "{name}");
        assert_eq!(client.alpn_protocol(), Some(protocol), "{name}");
    }
}
