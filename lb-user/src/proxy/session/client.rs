//! Whom a request is from.

use std::net::IpAddr;

use super::{Dial, Session};
use crate::proxy::client::Client;
use crate::proxy::http1::Head;
use crate::proxy::protect::proxies::Unreadable;

impl<C, D> Session<C, D>
where
    C: Client,
    D: Dial,
{
    /// The client of the request that is served.
    pub(super) fn from(&self) -> IpAddr {
        self.from.unwrap_or(self.peer.address)
    }

    /// Learns whom a request is from. Where another client's comes over a connection that was to be one client's, what that one has
    /// opened is closed first.
    pub(super) fn meet(&mut self, head: &Head) -> Result<(), Unreadable> {
        self.from = None;
        let client = self.served.proxies.client(self.peer.via, self.peer.address, head)?;
        self.from = Some(client);
        let mut rested = self.rested();
        let before = rested.met.replace(client);
        if before.is_some_and(|before| before != client) && !self.peer.via.shared {
            let proxy = self.peer.address;
            tracing::debug!(%proxy, %client, "a proxy that declares one client per connection has sent another's request");
            rested.clear();
            rested.preferred.clear();
        }
        Ok(())
    }
}
