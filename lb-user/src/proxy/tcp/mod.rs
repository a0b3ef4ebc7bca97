//! TCP published as it comes: mail, or TLS that the servers end themselves. Bytes go both ways and nothing in them is read but,
//! where servers are chosen by it, the name in a TLS ClientHello.
//!
//! ```text
//! accepted -> networks, limits -> (ClientHello) -> connect -> (PROXY header) -> splice
//! ```
//!
//! A drain cannot ask such a connection to end: it lives on until the drain timeout cuts it off.

pub mod entry;
pub mod health;
pub mod pool;
pub mod proxy_protocol;
pub mod sni;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use self::entry::Record;
use self::pool::Pool;
use self::sni::{Hello, LONGEST_HELLO};
use super::balance::settings::FarmError;
use super::buffer::Buffer;
use super::cause::Cause;
use super::protect::client::ClientPrefixes;
use super::protect::connections::{ConnectionLimits, Connections};
use super::protect::networks::{Access, AccessList, NetworkError};
use super::seen::Seen;
use super::splice::{Ended, Side, Times, splice};
use crate::config::model::{ClientAddress, TcpService};

/// A published service at work.
pub struct Published {
    settings: TcpService,
    networks: AccessList,
    connections: Arc<Connections>,
    pools: Vec<Arc<Pool>>,
    /// The pool for connections without a name.
    without_name: Option<usize>,
    /// The pool for each name, in lower case; empty: names are not looked for.
    by_name: BTreeMap<String, usize>,
}

impl Published {
    /// The service, with all its servers untested but for those that `before`, a service of the same name, has too; `changed`
    /// hears of every change of their health. It counts the connections of `before`; its own limits hold from `enforce` on.
    pub fn new(
        settings: &TcpService,
        before: Option<&Self>,
        changed: &watch::Sender<()>,
    ) -> Result<Self, PublishError> {
        let pool = |(name, servers): (String, &[_])| {
            let mut known = before.iter().flat_map(|before| &before.pools);
            let known = known.find(|pool| pool.group.name == name);
            Pool::new(name, servers, settings, known.map(|pool| &**pool), changed).map(Arc::new)
        };
        let before_names = usize::from(!settings.servers.is_empty());
        let connections = match before {
            Some(before) => Arc::clone(&before.connections),
            None => Connections::new(limits(settings), ClientPrefixes::default()),
        };
        Ok(Self {
            networks: AccessList::new(&settings.allow, &settings.deny)?,
            connections,
            pools: settings.pools().map(pool).collect::<Result<_, _>>()?,
            without_name: (before_names == 1).then_some(0),
            by_name: settings.sni.keys().cloned().zip(before_names..).collect(),
            settings: settings.clone(),
        })
    }

    /// What is configured.
    pub fn settings(&self) -> &TcpService {
        &self.settings
    }

    /// Holds clients to its limits from now on.
    pub fn enforce(&self) {
        self.connections.set_limits(limits(&self.settings));
    }

    /// Its pools, in the order of `TcpService::pools`.
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// One client connection, from its first byte to its end; dropped, it is cut off. Either way a line is logged.
    /// `from`: whose it is.
    pub async fn serve(&self, client: TcpStream, from: SocketAddr, seen: &Seen) {
        let Ok(to) = client.local_addr() else {
            tracing::debug!(service = self.settings.name, "a client left before it was served");
            return;
        };
        let mut record = Record::new(seen, &self.settings.name, from, to);
        record.ended = Some(self.relay(client, from, to, &mut record).await);
    }

    async fn relay(
        &self,
        mut client: TcpStream,
        from: SocketAddr,
        to: SocketAddr,
        record: &mut Record<'_>,
    ) -> Result<Ended, Cause> {
        if self.networks.access(from.ip()) == Access::Deny {
            return Err(Cause::Refused);
        }
        let _counted = self.connections.open(from.ip()).map_err(|_| Cause::Limit)?;
        let mut came = Buffer::default();
        let pool = self.pool(&mut client, &mut came, record).await?;
        record.chosen(&pool.group.name);
        let (slot, mut server) = pool.connect(self.settings.connect_timeout).await?;
        record.parties.server = Some(slot.server());
        if let ClientAddress::Header(version) = self.settings.client_address {
            let header = proxy_protocol::header(version, from, to);
            let sent = timeout(self.settings.connect_timeout, server.write_all(&header)).await;
            sent.map_err(|_| Cause::Timeout)?.map_err(|_| Cause::ServerClosed)?;
        }
        let client = Side { stream: &mut client, came };
        let server = Side { stream: &mut server, came: Buffer::default() };
        let times = Times { idle: self.settings.idle_timeout, end_by: None };
        Ok(splice(client, server, times, &mut record.bytes).await)
    }

    /// The servers for a connection, by its name if names are looked for. What was read stays in `came`.
    async fn pool(
        &self,
        client: &mut TcpStream,
        came: &mut Buffer,
        record: &mut Record<'_>,
    ) -> Result<&Pool, Cause> {
        let mut pool = self.without_name;
        if !self.by_name.is_empty() {
            let name = timeout(HELLO_TIMEOUT, server_name(client, came)).await;
            if let Some(name) = name.map_err(|_| Cause::ClientSlow)?? {
                pool = self.by_name.get(&name).copied();
                record.name = Some(name);
            }
        }
        pool.map(|pool| &*self.pools[pool]).ok_or(Cause::UnknownHost)
    }
}

fn limits(settings: &TcpService) -> ConnectionLimits {
    ConnectionLimits { per_client: settings.max_connections_per_client, in_all: settings.max_connections }
}

/// Reads until the client's ClientHello is whole; its server name.
async fn server_name(client: &mut TcpStream, came: &mut Buffer) -> Result<Option<String>, Cause> {
    loop {
        let read = poll_fn(|cx| came.poll_read(client, cx, LONGEST_HELLO)).await;
        if !read.is_ok_and(|length| length > 0) {
            return Err(Cause::BadRequest);
        }
        match sni::read(came.bytes()) {
            Ok(Hello::Incomplete) => {}
            Ok(Hello::Whole(name)) => return Ok(name),
            Err(error) => {
                tracing::debug!(%error, "a connection has no server name");
                return Err(Cause::BadRequest);
            }
        }
    }
}

/// Why a service cannot be published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Its networks contradict each other.
    #[error(transparent)]
    Networks(#[from] NetworkError),
    /// Its servers cannot be a pool.
    #[error(transparent)]
    Pool(#[from] FarmError),
}

/// Longest time for a ClientHello: that of a TLS handshake.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
