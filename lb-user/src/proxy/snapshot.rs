//! What the proxy serves, whole: all that the agent ever tells its child. Pure.
//!
//! It holds only the keys of the sites that the child serves; never a path, the cluster secret or the store.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access::LogSettings;
use super::protect::Protection;
use super::protect::limits::Limits;
use super::protect::proxies::TrustedProxy;
use super::tls::{Fingerprint, SiteTls, TicketSecret, leaf};
use crate::config::model::{Balance, DEFAULT_TEST, HealthTest, Reuse, Server, Service, TcpService};

/// The proxy's settings. Indices between its lists were checked by whoever built it; the child checks them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Where the child listens, in the order of the sockets that come along.
    pub listen: Vec<SocketAddr>,
    /// What it publishes.
    pub sites: Vec<Site>,
    /// The servers behind it.
    pub farms: Vec<Farm>,
    /// What it passes on as it comes.
    pub tcp: Vec<TcpService>,
    /// How long requests in flight may go on after `Drain` or `Stop`.
    pub drain_timeout: Duration,
    /// What clients are held to.
    pub limits: Limits,
    /// What keeps guessers and floods from the servers.
    pub protection: Protection,
    /// Who may say whom a request is from.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// What the keys of session tickets derive from, the same on all nodes: the first seals, all open.
    pub tickets: Vec<TicketSecret>,
    /// Under which affinity cookies are made, the same on all nodes: the first makes them, all are accepted.
    pub affinity: AffinityKeys,
    /// Under which requests' keys are hashed to servers, the same on all nodes.
    pub seed: [u64; 2],
    /// What is logged of requests.
    pub log: LogSettings,
}

impl Snapshot {
    /// Takes up, where a site of `before` has another certificate now, the one that its servers may still present.
    pub fn remember(&mut self, before: &Self) {
        for site in &mut self.sites {
            let Some(old) = before.sites.iter().find(|old| old.names.first() == site.names.first()) else {
                continue;
            };
            let own = |certificate: &str| leaf(certificate).map(|leaf| leaf.to_vec());
            let (was, is) = (own(&old.certificate), own(&site.certificate));
            let earlier = was.into_iter().chain(old.previous.iter().cloned());
            let mut previous: Vec<Vec<u8>> = Vec::new();
            for certificate in earlier {
                if Some(&certificate) != is.as_ref() && !previous.contains(&certificate) {
                    previous.push(certificate);
                }
            }
            previous.truncate(MOST_PREVIOUS);
            site.previous = previous;
        }
    }

    /// Forgets the certificates of before.
    pub fn forget(&mut self) {
        self.sites.iter_mut().for_each(|site| site.previous.clear());
    }

    /// All servers, in the order in which they are told of: those of the farms, then those of the TCP services' pools.
    pub fn server_groups(&self) -> impl Iterator<Item = ServerGroup<'_>> {
        let farms = self.farms.iter().map(|farm| ServerGroup {
            name: farm.name.clone(),
            servers: &farm.servers,
            tests: farm.tests.iter().map(|test| (test.name.clone(), test.path.clone())).collect(),
        });
        let pools = |service: &'_ TcpService| {
            let tests = vec![(DEFAULT_TEST.to_owned(), service.health.words())];
            move |(name, servers)| ServerGroup { name, servers, tests: tests.clone() }
        };
        farms.chain(self.tcp.iter().flat_map(move |service| service.pools().map(pools(service))))
    }

    /// The ports that whoever serves this connects to.
    pub fn ports(&self) -> BTreeSet<u16> {
        let servers = self.server_groups().flat_map(|group| group.servers);
        servers.map(|server| server.address.port()).chain(self.challenge_ports()).collect()
    }

    /// The ports of those who answer the challenges of certificate authorities.
    pub fn challenge_ports(&self) -> impl Iterator<Item = u16> {
        self.sites.iter().filter_map(|site| site.service.acme).map(|server| server.port())
    }
}

/// Servers of which any can stand in for another.
#[derive(Clone, Debug)]
pub struct ServerGroup<'a> {
    /// A farm's name, or that of a TCP service's pool.
    pub name: String,
    /// At least one.
    pub servers: &'a [Server],
    /// Each test's name, and what it asks for.
    pub tests: Vec<(String, String)>,
}
/// Most certificates of before that servers may still present.
pub const MOST_PREVIOUS: usize = 2;

/// Names that are served with one certificate by one farm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Host names, lower case; at least one.
    pub names: Vec<String>,
    /// Which of `Snapshot::listen` it is served at.
    pub listen: Vec<SocketAddr>,
    /// Which of `Snapshot::listen` takes requests without TLS and redirects them to it.
    pub redirect: Vec<SocketAddr>,
    /// PEM text: the certificate chain, the site's own first.
    pub certificate: String,
    /// Its private key.
    pub key: PrivateKey,
    /// Its own certificates of before (DER), the latest first, which servers that must present the same may still present. At most
    /// [`MOST_PREVIOUS`].
    pub previous: Vec<Vec<u8>>,
    /// Protocols and client authentication.
    pub tls: SiteTls,
    /// An OCSP response (DER) about the certificate.
    pub staple: Option<Vec<u8>>,
    /// What it does with requests; farms are indices into `Snapshot::farms`.
    pub service: Service<usize>,
}

/// A private key as PEM text; does not show itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKey(String);

impl PrivateKey {
    /// Wraps PEM text.
    pub fn new(pem: String) -> Self {
        Self(pem)
    }

    /// The PEM text.
    pub fn pem(&self) -> &str {
        &self.0
    }
}

/// Keys of affinity cookies; do not show themselves.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AffinityKeys(Vec<[u8; 32]>);

impl AffinityKeys {
    /// Wraps keys.
    pub fn new(keys: Vec<[u8; 32]>) -> Self {
        Self(keys)
    }

    /// The keys.
    pub fn keys(&self) -> &[[u8; 32]] {
        &self.0
    }
}

impl fmt::Debug for AffinityKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AffinityKeys(..)")
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// Servers that can stand in for one another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Farm {
    /// Its name, unique.
    pub name: String,
    /// At least one.
    pub servers: Vec<Server>,
    /// How requests are spread over them.
    pub balance: Balance,
    /// How a server proves who it is.
    pub verify: Verify,
    /// How a server proves that it works; at least one test, the farm's own first.
    pub tests: Vec<HealthTest>,
    /// Longest time to connect to a server, TLS included.
    pub connect_timeout: Duration,
    /// Whose the connections to its servers are.
    pub reuse: Reuse,
}

/// How a server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// It presents the very certificate that the site serves.
    SameCertificate,
    /// Its certificate is good for the site's first name under this CA (PEM text).
    Ca(String),
    /// Its certificate, or that one's public key, has one of these fingerprints.
    Pins(Vec<Fingerprint>),
    /// Not at all.
    Nothing,
    /// Nor is it spoken to by TLS.
    Clear,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::model::{Bounds, ClientAddress, Share, TcpHealth};

    /// Everything to one farm, with an hour and five minutes of silence.
    pub(crate) fn to_farm(farm: usize) -> Service<usize> {
        let bounds = Bounds { silence: Duration::from_secs(65 * 60), ..Bounds::default() };
        Service::to_farm("", bounds).try_map(|_| Ok::<_, ()>(farm)).unwrap()
    }

    /// A TCP service of one server, and one more for a name.
    pub(crate) fn tcp_service() -> TcpService {
        let server = |name: &str| Server {
            name: name.to_owned(),
            address: "10.0.0.36:993".parse().expect("invariant: an address"),
            share: Share::default(),
        };
        TcpService {
            name: "imap".to_owned(),
            listen: Vec::new(),
            servers: vec![server("first")],
            sni: [("a.test".to_owned(), vec![server("second")])].into(),
            client_address: ClientAddress::Hidden,
            idle_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            max_connections: 10,
            max_connections_per_client: 10,
            allow: Vec::new(),
            deny: Vec::new(),
            health: TcpHealth {
                banner: None,
                interval: Duration::from_secs(5),
                timeout: Duration::from_secs(3),
                failures: 2,
            },
        }
    }

    #[test]
    fn a_replaced_certificate_is_remembered_and_one_that_returns_is_none_of_before() {
        let pem = |number: usize| {
            let names = [format!("mail{number}.example.test")];
            rcgen::generate_simple_self_signed(names).unwrap().cert.pem()
        };
        let certificates: Vec<String> = (0..4).map(pem).collect();
        let with = |number: usize| {
            let mut snapshot = one_site("192.168.50.8:443".parse().unwrap());
            snapshot.sites[0].certificate.clone_from(&certificates[number]);
            snapshot
        };
        let number = |der: &Vec<u8>| {
            certificates.iter().position(|pem| leaf(pem).unwrap().as_ref() == der.as_slice()).unwrap()
        };
        let mut now = with(0);
        for (next, previous) in
            [(0, vec![]), (1, vec![0]), (1, vec![0]), (2, vec![1, 0]), (3, vec![2, 1]), (2, vec![3, 1])]
        {
            let mut snapshot = with(next);
            snapshot.remember(&now);
            assert_eq!(snapshot.sites[0].previous.iter().map(number).collect::<Vec<_>>(), previous, "{next}");
            now = snapshot;
        }
        let mut elsewhere = with(0);
        elsewhere.sites[0].names = vec!["other.example.test".to_owned()];
        elsewhere.remember(&now);
        assert!(elsewhere.sites[0].previous.is_empty());
    }

    #[test]
    fn farms_come_before_the_pools_of_tcp_services() {
        let one_site = one_site("192.168.50.8:443".parse().unwrap());
        let snapshot = Snapshot { tcp: vec![tcp_service()], ..one_site };
        let groups = snapshot.server_groups();
        let names: Vec<(String, &str)> =
            groups.map(|group| (group.name, group.servers[0].name.as_str())).collect();
        let expected = [("exchange", "sbex1"), ("imap", "first"), ("imap/a.test", "second")];
        assert_eq!(names, expected.map(|(name, server)| (name.to_owned(), server)));
    }

    /// One site, `mail.example.test`, at `address`, with a farm of one server.
    pub(crate) fn one_site(address: SocketAddr) -> Snapshot {
        let site = Site {
            names: vec!["mail.example.test".to_owned()],
            listen: vec![address],
            certificate: String::new(),
            key: PrivateKey::new(String::new()),
            previous: Vec::new(),
            redirect: Vec::new(),
            tls: SiteTls::default(),
            staple: None,
            service: to_farm(0),
        };
        let farm = Farm {
            name: "exchange".to_owned(),
            servers: vec![Server {
                name: "sbex1".to_owned(),
                address: "10.0.0.36:443".parse().expect("invariant: an address"),
                share: Share::default(),
            }],
            balance: Balance::default(),
            verify: Verify::SameCertificate,
            tests: vec![crate::config::model::HealthTest::plain("mail.example.test")],
            connect_timeout: Duration::from_secs(5),
            reuse: Reuse::Own,
        };
        Snapshot {
            listen: vec![address],
            sites: vec![site],
            farms: vec![farm],
            tcp: Vec::new(),
            drain_timeout: Duration::from_secs(60),
            limits: Limits::default(),
            protection: Protection::default(),
            trusted_proxies: Vec::new(),
            tickets: vec![TicketSecret::new([7; 32])],
            affinity: AffinityKeys::new(vec![[3; 32]]),
            seed: [1, 2],
            log: LogSettings::default(),
        }
    }
}
