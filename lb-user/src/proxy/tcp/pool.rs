//! Servers that can stand in for one another: their health, which of them is next, and the way to them.

use std::io;
use std::net::SocketAddrV4;
use std::num::NonZeroU8;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::proxy_protocol::local_header;
use crate::config::model::{Balance, ClientAddress, Server, TcpHealth, TcpService};
use crate::proxy::balance::farm::Criteria;
use crate::proxy::balance::gate::{NoSlot, Slot};
use crate::proxy::balance::monitor::Thresholds;
use crate::proxy::balance::set::ServerSet;
use crate::proxy::balance::settings::{FarmError, TestSettings};
use crate::proxy::cause::Cause;
use crate::proxy::group::Group;
use crate::proxy::socket::prepare;

/// See the module.
pub struct Pool {
    /// Its servers.
    pub group: Group,
    /// How they are tested.
    pub test: TcpHealth,
    /// What a server hears first from a connection that is no client's; may be empty.
    pub greeting: Vec<u8>,
}

impl Pool {
    /// A pool whose servers are all untested, but for those that `before`, a pool of the same name, has too; `changed` hears of
    /// every change.
    pub fn new(
        name: String,
        servers: &[Server],
        service: &TcpService,
        before: Option<&Self>,
        changed: &watch::Sender<()>,
    ) -> Result<Self, FarmError> {
        let greeting = match service.client_address {
            ClientAddress::Hidden => Vec::new(),
            ClientAddress::Header(version) => local_header(version),
        };
        let failures = NonZeroU8::new(service.health.failures).unwrap_or(NonZeroU8::MIN);
        let test = TestSettings {
            name: service.health.words(),
            thresholds: Thresholds { failures, successes: NonZeroU8::MIN },
            live_traffic: None,
        };
        // In turn, by weight; nothing of a connection is hashed.
        let known = before.map(|before| &before.group);
        let group =
            Group::new(&name, servers, Balance::default(), vec![test], [0; 2], known, changed.clone())?;
        Ok(Self { group, test: service.health.clone(), greeting })
    }

    /// Connects to the next server, or, nothing having been sent, to another; each may take `limit`. The connection counts as
    /// the server's while the slot lives.
    pub async fn connect(&self, limit: Duration) -> Result<(Slot, TcpStream), Cause> {
        let mut criteria = Criteria { test: Some(TEST), ..Criteria::default() };
        while criteria.tried.len() < CONNECTS {
            let slot = match self.group.balance.slot(&criteria).await {
                Ok(slot) => slot,
                Err(NoSlot::NoServer) if criteria.tried != ServerSet::EMPTY => break,
                Err(NoSlot::NoServer | NoSlot::QueueFull(_) | NoSlot::TimedOut) => {
                    return Err(Cause::NoHealthyServer);
                }
            };
            let server = &self.group.servers[slot.server()];
            let connected = timeout(limit, connect(server.address)).await;
            match connected.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => return Ok((slot, stream)),
                Err(error) => {
                    let pool = &self.group.name;
                    tracing::debug!(pool, server = server.name, %error, "cannot connect to a server");
                }
            }
            criteria.tried.insert(slot.server());
        }
        Err(Cause::ConnectFailed)
    }
}

/// Connects to a server; whoever calls sets the time limit.
pub(super) async fn connect(address: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    prepare(&stream)?;
    Ok(stream)
}

/// The index of a pool's only test.
pub(super) const TEST: usize = 0;

/// Most servers that are connected to for one client.
const CONNECTS: usize = 3;
