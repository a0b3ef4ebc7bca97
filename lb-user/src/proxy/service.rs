//! The proxy at work: built whole from a snapshot, told when to drain. In the worker, or in a test; knows neither the channel
//! to the agent nor the sandbox.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};

use rustls::sign::CertifiedKey;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::access::AccessLog;
use super::balance::Health;
use super::forward::{Farm, Shared, Site};
use super::health;
use super::listener::{self, Gate, Listener, Phase};
use super::route::Routes;
use super::snapshot::{self, Snapshot};
use super::tls::{self, TlsError};
use crate::clock::Time;

/// A proxy at work. Dropped, it accepts no more; open connections go on as long as the runtime.
pub struct Proxy {
    gate: Arc<Gate>,
    phase: watch::Sender<Phase>,
    health_changed: watch::Receiver<()>,
    listeners: JoinSet<()>,
    _tests: JoinSet<()>,
}

impl Proxy {
    /// Serves `snapshot` on `sockets`, which are in the order of `snapshot.listen`, for at most `limit` client connections at
    /// once. Within a Tokio runtime.
    pub fn start(
        snapshot: &Snapshot,
        sockets: Vec<StdListener>,
        log: AccessLog,
        limit: u32,
    ) -> Result<Self, StartError> {
        let keys = keys(snapshot)?;
        let (changed, health_changed) = watch::channel(());
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let shared = Shared {
            sites: sites(snapshot, &keys)?,
            farms: farms(snapshot, &keys, &changed)?,
            log,
            requests: Arc::default(),
            phase: phase_seen,
        };
        let listeners = listeners(snapshot, sockets, &keys)?;
        let gate = Arc::new(Gate::new(shared, snapshot.drain_timeout, limit));
        let accept = |listener| listener::accept(listener, Arc::clone(&gate));
        Ok(Self {
            listeners: listeners.into_iter().map(accept).collect(),
            _tests: tests(&gate.shared),
            gate,
            phase,
            health_changed,
        })
    }

    /// How much there is to do.
    pub fn load(&self) -> Load {
        Load {
            connections: Arc::clone(&self.gate.connections),
            requests: Arc::clone(&self.gate.shared.requests),
        }
    }

    /// Whether connections are accepted.
    pub fn accepting(&self) -> bool {
        !matches!(*self.phase.borrow(), Phase::Stopping { .. })
    }

    /// The health of every farm's servers.
    pub fn health(&self) -> Vec<Vec<Health>> {
        self.gate.shared.farms.iter().map(|farm| farm.health()).collect()
    }

    /// Changes whenever `health` may have.
    pub fn health_changed(&self) -> watch::Receiver<()> {
        self.health_changed.clone()
    }

    /// Lets connections end: each is served once more. Returns what resolves when those of before are gone.
    pub fn drain(&self) -> impl Future<Output = ()> + Send + use<> {
        self.phase.send_if_modified(|phase| match phase {
            Phase::Serving => {
                *phase = Phase::Draining { since: Time::now() };
                true
            }
            Phase::Draining { .. } | Phase::Stopping { .. } => false,
        });
        let mut generation = self.gate.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *generation, watch::Sender::new(()));
        async move { old.closed().await }
    }

    /// Serves as before `drain`. Connections that were told to end do.
    pub fn resume(&self) {
        self.phase.send_if_modified(|phase| match phase {
            Phase::Draining { .. } => {
                *phase = Phase::Serving;
                true
            }
            Phase::Serving | Phase::Stopping { .. } => false,
        });
    }

    /// Accepts no more and lets connections end; returns when all are gone, which the drain timeout bounds. With
    /// `serve_waiting`, those that wait to be accepted are served first; else they are left to who has the sockets now.
    pub async fn stop(&mut self, serve_waiting: bool) {
        self.phase.send_modify(|phase| {
            let since = phase.since().unwrap_or_else(Time::now);
            *phase = Phase::Stopping { since, serve_waiting };
        });
        while self.listeners.join_next().await.is_some() {}
        // All permits are back when no connection has one.
        drop(self.gate.slots.acquire_many(self.gate.limit).await);
    }
}

/// How much a proxy has to do; outlives it.
#[derive(Clone, Debug)]
pub struct Load {
    connections: Arc<AtomicU32>,
    requests: Arc<AtomicU32>,
}

impl Load {
    /// Open client connections.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests in flight.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn keys(snapshot: &Snapshot) -> Result<Arc<[Arc<CertifiedKey>]>, StartError> {
    let key = |site: &snapshot::Site| {
        tls::certified_key(&site.certificate, site.key.pem()).map_err(|error| of(site, error))
    };
    snapshot.sites.iter().map(key).collect()
}

fn sites(snapshot: &Snapshot, keys: &[Arc<CertifiedKey>]) -> Result<Vec<Site>, StartError> {
    let site = |(site, key): (&snapshot::Site, &Arc<CertifiedKey>)| {
        let farm = snapshot.farms.get(site.farm).ok_or(StartError::NoFarm { farm: site.farm })?;
        let config = tls::client_config(&farm.verify, vec![key.cert[0].clone().into_owned()]);
        Ok(Site {
            farm: site.farm,
            tls: TlsConnector::from(config.map_err(|error| of(site, error))?),
            name: tls::server_name(first_name(site)).map_err(|error| of(site, error))?,
        })
    };
    snapshot.sites.iter().zip(keys).map(site).collect()
}

/// A farm's tests accept what any of its sites accepts, and greet servers by the name of the first.
fn farms(
    snapshot: &Snapshot,
    keys: &[Arc<CertifiedKey>],
    changed: &watch::Sender<()>,
) -> Result<Vec<Arc<Farm>>, StartError> {
    let farm = |(index, farm): (usize, &snapshot::Farm)| {
        let mut sites = snapshot.sites.iter().zip(keys).filter(|(site, _)| site.farm == index).peekable();
        let (first, _) = sites.peek().ok_or(StartError::UnusedFarm { farm: index })?;
        let name = tls::server_name(first_name(first)).map_err(|error| of(first, error))?;
        let first = *first;
        let leaves = sites.map(|(_, key)| key.cert[0].clone().into_owned()).collect();
        let config = tls::client_config(&farm.verify, leaves).map_err(|error| of(first, error))?;
        Ok(Arc::new(Farm::new(farm, TlsConnector::from(config), name, changed.clone())))
    };
    snapshot.farms.iter().enumerate().map(farm).collect()
}

fn tests(shared: &Shared) -> JoinSet<()> {
    let servers =
        shared.farms.iter().flat_map(|farm| (0..farm.servers.len()).map(move |server| (farm, server)));
    servers.map(|(farm, server)| health::watch(Arc::clone(farm), server)).collect()
}

fn listeners(
    snapshot: &Snapshot,
    sockets: Vec<StdListener>,
    keys: &Arc<[Arc<CertifiedKey>]>,
) -> Result<Vec<Listener>, StartError> {
    if sockets.len() != snapshot.listen.len() {
        return Err(StartError::Sockets { sockets: sockets.len(), addresses: snapshot.listen.len() });
    }
    let listener = |(address, socket): (&SocketAddr, StdListener)| {
        let routes = Arc::new(Routes::at(snapshot, *address));
        let config = tls::server_config(Arc::clone(&routes), Arc::clone(keys)).map_err(StartError::Tls)?;
        socket.set_nonblocking(true).map_err(StartError::Socket)?;
        Ok(Listener {
            socket: TcpListener::from_std(socket).map_err(StartError::Socket)?,
            tls: TlsAcceptor::from(config),
            routes,
        })
    };
    snapshot.listen.iter().zip(sockets).map(listener).collect()
}

fn first_name(site: &snapshot::Site) -> &str {
    site.names.first().map_or("", String::as_str)
}

fn of(site: &snapshot::Site, source: TlsError) -> StartError {
    StartError::Site { site: first_name(site).to_owned(), source }
}

/// Why a snapshot cannot be served. Nothing is.
#[derive(Debug, Error)]
pub enum StartError {
    /// A site's certificate, key or name.
    #[error("cannot serve the site `{site}`")]
    Site {
        /// The site's first name.
        site: String,
        /// Why.
        source: TlsError,
    },
    /// TLS cannot be set up at all.
    #[error("cannot set up TLS")]
    Tls(#[source] TlsError),
    /// A site names a farm that is not there.
    #[error("a site names farm {farm}, which is not there")]
    NoFarm {
        /// The index.
        farm: usize,
    },
    /// No site names a farm.
    #[error("no site names farm {farm}")]
    UnusedFarm {
        /// The index.
        farm: usize,
    },
    /// Not one socket for each address.
    #[error("{sockets} listening sockets came for {addresses} addresses")]
    Sockets {
        /// How many came.
        sockets: usize,
        /// How many there should be.
        addresses: usize,
    },
    /// A listening socket cannot be used.
    #[error("cannot use a listening socket")]
    Socket(#[source] std::io::Error),
}
