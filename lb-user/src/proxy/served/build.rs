//! From a snapshot to what requests are served with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use super::{BuildError, Served, Servers};
use crate::config::model::TcpService;
use crate::proxy::farm::{Farm, Greeting, MadeOf, StartFarmError};
use crate::proxy::guard::Guard;
use crate::proxy::idle::Idle;
use crate::proxy::listener::Door;
use crate::proxy::policy::{FarmNames, Policy};
use crate::proxy::protect::HashKey;
use crate::proxy::protect::proxies::TrustedProxies;
use crate::proxy::redirect::Redirects;
use crate::proxy::route::Routes;
use crate::proxy::seen::Seen;
use crate::proxy::snapshot::{self, Snapshot};
use crate::proxy::tcp::Published;
use crate::proxy::tls::{self, ServedSite, SiteConfigs, Staple, TicketSettings, TlsError};
use crate::wall::WallTime;

impl Served<Servers> {
    /// All that `snapshot` says. What `before` knows of servers that are in both goes on; it is none the worse if this fails.
    /// `changed` hears of every change of a server's health; `seen` is of this snapshot.
    pub fn build(
        snapshot: &Snapshot,
        before: Option<&Self>,
        seen: Seen,
        changed: &watch::Sender<()>,
    ) -> Result<Self, BuildError> {
        let keys = keys(snapshot)?;
        let farms = farms(snapshot, &keys, before.map_or(&[], |before| &before.farms), changed)?;
        let tcp = published(snapshot, before.map_or(&[], |before| &before.tcp), changed)?;
        let seen = Arc::new(seen);
        Ok(Self {
            dial: servers(snapshot, &keys, &farms)?,
            sites: policies(snapshot)?,
            limits: snapshot.limits.clone(),
            guard: guard(snapshot, before.map(|before| &before.guard), &seen)?,
            seen,
            proxies: TrustedProxies::new(&snapshot.trusted_proxies)?,
            clients: snapshot.protection.clients,
            drain_timeout: snapshot.drain_timeout,
            doors: doors(snapshot, &served(snapshot, &keys)?, &tcp)?,
            farms,
            idle: Idle::default(),
            tcp,
        })
    }
}

/// Whether `snapshot` can be served, as far as that can be known without its sockets.
pub fn check(snapshot: &Snapshot) -> Result<(), BuildError> {
    let (keys, changed) = (keys(snapshot)?, watch::Sender::new(()));
    let (farms, tcp) = (farms(snapshot, &keys, &[], &changed)?, published(snapshot, &[], &changed)?);
    servers(snapshot, &keys, &farms)?;
    policies(snapshot)?;
    TrustedProxies::new(&snapshot.trusted_proxies)?;
    doors(snapshot, &served(snapshot, &keys)?, &tcp).map(drop)
}

/// The guard, which goes on with what the one before knows of clients.
fn guard(snapshot: &Snapshot, before: Option<&Guard>, seen: &Arc<Seen>) -> Result<Guard, BuildError> {
    let sites = snapshot.sites.iter().map(|site| (first_name(site), site.service.rates));
    if let Some(before) = before {
        return Ok(before.renewed(&snapshot.protection, sites, Arc::clone(seen)));
    }
    let mut key = [0; 16];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| BuildError::Random)?;
    Ok(Guard::new(&snapshot.protection, sites, HashKey::new(&key), Arc::clone(seen)))
}

fn keys(snapshot: &Snapshot) -> Result<Arc<[Arc<CertifiedKey>]>, BuildError> {
    let key = |site: &snapshot::Site| {
        tls::certified_key(&site.certificate, site.key.pem()).map_err(|error| of(site, error))
    };
    snapshot.sites.iter().map(key).collect()
}

fn servers(
    snapshot: &Snapshot,
    keys: &[Arc<CertifiedKey>],
    farms: &[Arc<Farm>],
) -> Result<Servers, BuildError> {
    let of_site = |(site, key): (&snapshot::Site, &Arc<CertifiedKey>)| {
        let used: BTreeSet<usize> = site.service.farms().copied().collect();
        if let Some(farm) = used.iter().find(|farm| **farm >= farms.len()) {
            return Err(BuildError::NoFarm { farm: *farm });
        }
        let greeting = |(index, settings): (usize, &snapshot::Farm)| {
            if !used.contains(&index) {
                return Ok(None);
            }
            let name = tls::server_name(first_name(site));
            let greeting = name.and_then(|name| Greeting::new(&settings.verify, accepted(site, key), &name));
            greeting.map(Some).map_err(|error| of(site, error))
        };
        snapshot.farms.iter().enumerate().map(greeting).collect()
    };
    let greetings = snapshot.sites.iter().zip(keys).map(of_site).collect::<Result<_, _>>()?;
    Ok(Servers { farms: farms.to_vec(), greetings })
}

/// The sites as their clients meet them.
fn served(snapshot: &Snapshot, keys: &[Arc<CertifiedKey>]) -> Result<Vec<ServedSite>, BuildError> {
    let served = |(site, key): (&snapshot::Site, &Arc<CertifiedKey>)| {
        let leaf = key.cert.first().ok_or_else(|| of(site, TlsError::NoCertificate))?;
        let staple = site.staple.as_ref().map(|response| Staple::read(response, leaf)).transpose();
        Ok(ServedSite {
            id: first_name(site).to_owned(),
            key: Arc::clone(key),
            staple: staple
                .map_err(|source| BuildError::Staple { site: first_name(site).to_owned(), source })?,
            tls: site.tls.clone(),
        })
    };
    snapshot.sites.iter().zip(keys).map(served).collect()
}

/// What each site does with requests.
pub(crate) fn policies(snapshot: &Snapshot) -> Result<Vec<Policy>, BuildError> {
    let hosts = |farm: &snapshot::Farm| {
        let addresses = farm.servers.iter().map(|server| server.address.ip().to_string());
        farm.servers.iter().map(|server| server.name.to_ascii_lowercase()).chain(addresses).collect()
    };
    let tests = |farm: &snapshot::Farm| farm.tests.iter().map(|test| test.name.clone()).collect();
    let names =
        |farm: &snapshot::Farm| FarmNames { name: farm.name.clone(), hosts: hosts(farm), tests: tests(farm) };
    let names: Vec<FarmNames> = snapshot.farms.iter().map(names).collect();
    let policy = |site: &snapshot::Site| {
        Policy::compile(&site.service, names.clone())
            .map_err(|source| BuildError::Policy { site: first_name(site).to_owned(), source })
    };
    snapshot.sites.iter().map(policy).collect()
}

/// A farm's tests accept what any of its sites accepts, and greet servers by the name of the first.
fn farms(
    snapshot: &Snapshot,
    keys: &[Arc<CertifiedKey>],
    before: &[Arc<Farm>],
    changed: &watch::Sender<()>,
) -> Result<Vec<Arc<Farm>>, BuildError> {
    let farm = |(index, farm): (usize, &snapshot::Farm)| {
        let mut sites = snapshot.sites.iter().zip(keys).filter(|(site, _)| uses(site, index)).peekable();
        let (first, _) = sites.peek().ok_or(BuildError::UnusedFarm { farm: index })?;
        let name = tls::server_name(first_name(first)).map_err(|error| of(first, error))?;
        let first = *first;
        let made_of = MadeOf {
            settings: farm.clone(),
            leaves: sites.flat_map(|(site, key)| accepted(site, key)).collect(),
            name,
            seed: snapshot.seed,
            affinity: snapshot.affinity.clone(),
        };
        let before = before.iter().find(|before| before.group.name == farm.name);
        if let Some(before) = before.filter(|before| *before.made_of() == made_of) {
            return Ok(Arc::clone(before));
        }
        let farm = Farm::new(made_of, before.map(|before| &**before), changed.clone());
        farm.map(Arc::new).map_err(|source| match source {
            StartFarmError::Tls(source) => of(first, source),
            source @ (StartFarmError::Balance(_) | StartFarmError::Affinity(_)) => {
                BuildError::Farm { farm: snapshot.farms[index].name.clone(), source }
            }
        })
    };
    snapshot.farms.iter().enumerate().map(farm).collect()
}

/// The certificates that a server may present where it must present the site's: while that is replaced, the one of before, too.
fn accepted(site: &snapshot::Site, key: &CertifiedKey) -> Vec<CertificateDer<'static>> {
    let own = key.cert.first().map(|own| own.clone().into_owned());
    own.into_iter().chain(site.previous.iter().cloned().map(CertificateDer::from)).collect()
}

fn uses(site: &snapshot::Site, farm: usize) -> bool {
    site.service.farms().any(|used| *used == farm)
}

fn published(
    snapshot: &Snapshot,
    before: &[Arc<Published>],
    changed: &watch::Sender<()>,
) -> Result<Vec<Arc<Published>>, BuildError> {
    let published = |service: &TcpService| {
        let of = |source| BuildError::Tcp { service: service.name.clone(), source };
        let before = before.iter().find(|before| before.settings().name == service.name);
        if let Some(before) = before.filter(|before| before.settings() == service) {
            return Ok(Arc::clone(before));
        }
        Published::new(service, before.map(|before| &**before), changed).map(Arc::new).map_err(of)
    };
    snapshot.tcp.iter().map(published).collect()
}

/// What is behind each address.
fn doors(
    snapshot: &Snapshot,
    served: &[ServedSite],
    tcp: &[Arc<Published>],
) -> Result<BTreeMap<SocketAddr, Door>, BuildError> {
    let tickets = TicketSettings {
        secrets: snapshot.tickets.clone(),
        epoch: TICKET_EPOCH,
        clock: Arc::new(|| WallTime::now().unix_ms() / 1000),
    };
    let configs = tls::server_configs(served, &tickets).map_err(BuildError::Tls)?;
    let door = |address: &SocketAddr| {
        let greets = snapshot.sites.iter().any(|site| site.listen.contains(address));
        let passes = snapshot.tcp.iter().position(|service| service.listen.contains(address));
        let door = if let Some(service) = passes {
            Door::Tcp(Arc::clone(&tcp[service]))
        } else if greets {
            let routes = Arc::new(Routes::at(snapshot, *address));
            let tls = SiteConfigs::new(Arc::clone(&routes), served, Arc::clone(&configs));
            Door::Tls { tls: Arc::new(tls.map_err(BuildError::Tls)?), routes }
        } else {
            Door::Plain(Arc::new(Redirects::at(snapshot, *address)))
        };
        Ok((*address, door))
    };
    snapshot.listen.iter().map(door).collect()
}

fn first_name(site: &snapshot::Site) -> &str {
    site.names.first().map_or("", String::as_str)
}

fn of(site: &snapshot::Site, source: TlsError) -> BuildError {
    BuildError::Site { site: first_name(site).to_owned(), source }
}

/// How long a key seals session tickets, in seconds.
const TICKET_EPOCH: u32 = 12 * 3600;
