//! One configuration at work: all that requests are served with, built whole from a snapshot and replaced whole by the next.

mod build;
mod error;

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

pub use self::build::check;
pub(crate) use self::build::policies;
pub use self::error::BuildError;
use super::cause::Cause;
use super::farm::{Farm, Greeting, connect};
use super::group::Group;
use super::guard::Guard;
use super::idle::Idle;
use super::listener::Door;
use super::policy::Policy;
use super::protect::client::ClientPrefixes;
use super::protect::limits::Limits;
use super::protect::proxies::TrustedProxies;
use super::seen::Seen;
use super::server_stream::ServerStream;
use super::session::{Dial, Dialled};
use super::tcp::Published;

/// See the module. What is counted and known of servers is not its own: the next one goes on with it.
pub struct Served<D: Dial> {
    /// How servers are reached.
    pub dial: D,
    /// What each site does with requests.
    pub sites: Vec<Policy>,
    /// All farms, in the order of the snapshot.
    pub farms: Vec<Arc<Farm>>,
    /// Server connections at rest that farms share.
    pub idle: Idle<D::Stream>,
    /// TCP services, in the order of the snapshot.
    pub tcp: Vec<Arc<Published>>,
    /// What the operator sees of what is served with it.
    pub seen: Arc<Seen>,
    /// What clients are held to.
    pub limits: Limits,
    /// Their rates and logons.
    pub guard: Guard,
    /// Who may say whom a request is from.
    pub proxies: TrustedProxies,
    /// Whom limits count as one client.
    pub clients: ClientPrefixes,
    /// How long a connection may go on once it is to end.
    pub drain_timeout: Duration,
    /// What is behind each listening address.
    pub doors: BTreeMap<SocketAddr, Door>,
}

impl<D: Dial> Served<D> {
    /// All groups of servers, as `Snapshot::server_groups` has them.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        let pools = self.tcp.iter().flat_map(|service| service.pools());
        self.farms.iter().map(|farm| &farm.group).chain(pools.map(|pool| &pool.group))
    }
}

/// How servers are reached.
pub struct Servers {
    farms: Vec<Arc<Farm>>,
    /// For each site, for each farm, how the site reaches it.
    greetings: Vec<Vec<Option<Greeting>>>,
}

impl Dial for Servers {
    type Stream = ServerStream;

    async fn dial(&self, site: usize, farm: usize, server: usize) -> Result<Dialled<Self::Stream>, Cause> {
        let greeting = self.greetings[site][farm].as_ref().ok_or(Cause::ConnectFailed)?;
        let farm = &self.farms[farm];
        farm.connect(server, greeting).await.map_err(|error| {
            let Group { name, servers, .. } = &farm.group;
            let server = &servers[server].name;
            tracing::debug!(farm = name, server, %error, "cannot connect to a server");
            if error.is_tls() { Cause::ServerTls } else { Cause::ConnectFailed }
        })
    }

    async fn dial_in_clear(&self, address: SocketAddrV4) -> Result<Dialled<Self::Stream>, Cause> {
        connect(address, &Greeting::Clear).await.map_err(|error| {
            tracing::debug!(%address, %error, "cannot connect to a server");
            Cause::ConnectFailed
        })
    }
}
