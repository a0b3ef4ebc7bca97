//! A farm at work: its servers, their health, and how they are connected to.

use std::fmt;
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::balance::affinity::{Affinity, AffinityError};
use super::balance::settings::{FarmError, TestSettings};
use super::group::Group;
use super::server_stream::ServerStream;
use super::session::Dialled;
use super::snapshot::{self, AffinityKeys, Verify};
use super::socket::keepalive;
use super::tls::stream::Records;
use super::tls::{LastPresented, ServerTlsFailure, TlsError, client_config};
use crate::config::model::{HealthTest, Server};

/// See the module.
pub struct Farm {
    /// Its servers.
    pub group: Group,
    /// How they are tested.
    pub tests: Vec<HealthTest>,
    /// For the tests: with TLS, any certificate that a site of this farm accepts.
    pub health_greeting: Greeting,
    /// Longest time to connect, TLS included.
    pub connect_timeout: Duration,
    /// The certificate that each server presented last.
    pub presented: Vec<Arc<LastPresented>>,
    /// The cookies that bring clients back, if there are any.
    pub affinity: Option<Affinity>,
    made_of: MadeOf,
}

/// All that makes a farm what it is: another with the same is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeOf {
    /// What is configured.
    pub settings: snapshot::Farm,
    /// The certificates of its sites.
    pub leaves: Vec<CertificateDer<'static>>,
    /// The name that tests greet its servers by.
    pub name: ServerName<'static>,
    /// Under which requests' keys are hashed to servers; the same on all nodes.
    pub seed: [u64; 2],
    /// Under which affinity cookies are made; the same on all nodes.
    pub affinity: AffinityKeys,
}

impl Farm {
    /// A farm whose servers are all untested, but for those that `before`, a farm of the same name, has too; `changed` hears of
    /// every change.
    pub fn new(
        made_of: MadeOf,
        before: Option<&Self>,
        changed: watch::Sender<()>,
    ) -> Result<Self, StartFarmError> {
        let MadeOf { settings, leaves, name, seed, affinity: keys } = &made_of;
        let health_greeting = Greeting::new(&settings.verify, leaves.clone(), name)?;
        let names = settings.servers.iter().map(|server| server.name.as_str());
        let affinity = settings.balance.affinity_cookie.as_deref();
        let affinity = affinity.map(|name| Affinity::new(name, &settings.name, names, keys.keys()));
        let tests = settings.tests.iter().map(TestSettings::from).collect();
        let (balance, known) = (settings.balance.clone(), before.map(|before| &before.group));
        let presented = |server: &Server| {
            let known = before.and_then(|before| before.presented_by(server));
            known.map_or_else(Arc::default, Arc::clone)
        };
        Ok(Self {
            affinity: affinity.transpose()?,
            group: Group::new(&settings.name, &settings.servers, balance, tests, *seed, known, changed)?,
            tests: settings.tests.clone(),
            health_greeting,
            connect_timeout: settings.connect_timeout,
            presented: settings.servers.iter().map(presented).collect(),
            made_of,
        })
    }

    /// What it was made of.
    pub fn made_of(&self) -> &MadeOf {
        &self.made_of
    }

    fn presented_by(&self, server: &Server) -> Option<&Arc<LastPresented>> {
        self.group.index_of(server).map(|index| &self.presented[index])
    }

    /// A farm whose servers are tested by nobody, and healthy.
    #[cfg(test)]
    pub(crate) fn in_memory(settings: &snapshot::Farm, before: Option<&Self>) -> Self {
        use super::balance::finding::Finding;

        let made_of = MadeOf {
            settings: settings.clone(),
            leaves: Vec::new(),
            name: ServerName::try_from("mail.example.test").unwrap(),
            seed: [1, 2],
            affinity: AffinityKeys::new(vec![[3; 32]]),
        };
        let farm = Self::new(made_of, before, watch::Sender::new(())).unwrap();
        for server in 0..farm.group.servers.len() {
            for test in 0..farm.tests.len() {
                farm.group.tested(test, server, Ok(Finding::Status(200)));
            }
        }
        farm
    }

    /// Connects to a server and greets it, and notes the certificate that it presents.
    pub async fn connect(
        &self,
        server: usize,
        greeting: &Greeting,
    ) -> Result<Dialled<ServerStream>, ConnectError> {
        let (farm, at, presented) = (&self.group.name, &self.group.servers[server], &self.presented[server]);
        let connected = connect(at.address, greeting).await;
        match &connected {
            Ok(Dialled { stream: ServerStream::Clear(_), .. }) => {}
            Ok(Dialled { stream: ServerStream::Tls(stream), .. }) => {
                let leaf = stream.session().peer_certificates().and_then(<[_]>::first);
                if leaf.is_some_and(|leaf| presented.note(leaf)) {
                    tracing::info!(farm, server = at.name, certificate = ?presented.facts(), "a server presents another certificate");
                }
            }
            Err(error) => {
                if let Some(failure) = ServerTlsFailure::find(error)
                    && presented.note_failure(failure)
                {
                    tracing::warn!(farm, server = at.name, %failure, "a server is not who it must be");
                }
            }
        }
        connected.map_err(ConnectError)
    }
}

/// How a server is spoken to.
#[derive(Clone)]
pub enum Greeting {
    /// By TLS.
    Tls {
        /// What the server must show.
        tls: TlsConnector,
        /// The name that is asked for.
        name: ServerName<'static>,
    },
    /// In clear.
    Clear,
}

impl Greeting {
    /// As `verify` has it. `leaves` are the certificates that `Verify::SameCertificate` accepts.
    pub fn new(
        verify: &Verify,
        leaves: Vec<CertificateDer<'static>>,
        name: &ServerName<'static>,
    ) -> Result<Self, TlsError> {
        if *verify == Verify::Clear {
            return Ok(Self::Clear);
        }
        let tls = TlsConnector::from(client_config(verify, leaves)?);
        Ok(Self::Tls { tls, name: name.clone() })
    }
}

/// Why a farm cannot be used. It is the configuration's fault, which checks the same.
#[derive(Debug, Error)]
pub enum StartFarmError {
    /// How it spreads its requests.
    #[error(transparent)]
    Balance(#[from] FarmError),
    /// Its cookie.
    #[error(transparent)]
    Affinity(#[from] AffinityError),
    /// How its servers prove who they are.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why there is no connection to a server.
#[derive(Debug, Error)]
pub struct ConnectError(#[source] io::Error);

impl ConnectError {
    /// Whether the server is there, but not who it must be, or speaks no TLS that we speak.
    pub fn is_tls(&self) -> bool {
        // rustls says what it objects to in an error of this kind.
        self.0.kind() == io::ErrorKind::InvalidData
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ServerTlsFailure::find(&self.0) {
            Some(failure) => failure.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

/// Connects to a server and greets it. Whoever calls sets the time limit.
pub async fn connect(address: SocketAddrV4, greeting: &Greeting) -> io::Result<Dialled<ServerStream>> {
    let began = Instant::now();
    let stream = TcpStream::connect(address).await?;
    let connected = Instant::now();
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
    let stream = match greeting {
        Greeting::Clear => ServerStream::Clear(stream),
        Greeting::Tls { tls, name } => {
            let greeted = tls.connect(name.clone(), stream).await?;
            ServerStream::Tls(Box::new(Records::new(greeted.into_inner())))
        }
    };
    Ok(Dialled { stream, connect: connected - began, greet: connected.elapsed() })
}
