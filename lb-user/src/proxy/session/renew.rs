//! A connection goes on under another configuration.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};

use super::servers::{Rested, Server};
use super::{Dial, Entry, Peer, Session, Shared};
use crate::proxy::link::Link;
use crate::proxy::listener::Door;
use crate::proxy::protect::proxies::{TrustedProxies, Via};
use crate::proxy::served::Served;

impl<S, D> Session<Link<S>, D>
where
    S: AsyncRead + AsyncWrite + Unpin,
    D: Dial,
{
    /// Takes up the configuration at work, between two requests. `false`: the server that somebody has logged on to is in it no
    /// more, and the connection is to end.
    pub(super) fn renew(&mut self) -> bool {
        renew(&self.shared, &mut self.served, &mut self.peer, &self.rested)
    }
}

/// Takes up the configuration at work. `false`: the server that somebody has logged on to is in it no more.
pub(super) fn renew<D: Dial>(
    shared: &Shared<D>,
    served: &mut Arc<Served<D>>,
    peer: &mut Arc<Peer>,
    rested: &Mutex<Rested<D>>,
) -> bool {
    let at_work = shared.served.load();
    if Arc::ptr_eq(&at_work, served) {
        return true;
    }
    served.clone_from(&at_work);
    let peer = Arc::make_mut(peer);
    peer.via = peer.trusted_by(&served.proxies);
    peer.entry.renew(served.doors.get(&peer.to));
    rested.lock().unwrap_or_else(PoisonError::into_inner).renew(served)
}

impl<D: Dial> Rested<D> {
    /// Goes over to another configuration; `false`: without a connection that somebody has logged on over.
    fn renew(&mut self, now: &Arc<Served<D>>) -> bool {
        let before = std::mem::replace(&mut self.of, Arc::clone(now));
        let moved = Moved { before: &before, now };
        let preferred = self.preferred.drain(..).filter_map(|(farm, server)| moved.server(farm, server));
        self.preferred = preferred.collect();
        let mut lost = false;
        self.servers.retain_mut(|server| {
            let stays = moved.take_along(server);
            lost |= server.pinned && !stays;
            stays
        });
        !lost
    }
}

impl Peer {
    /// How its requests tell their clients, where these proxies are trusted.
    pub(super) fn trusted_by(&self, proxies: &TrustedProxies) -> Via {
        match self.introduced_by {
            None => proxies.via(self.address, None),
            Some(from) => proxies.via(from, Some(self.address)),
        }
    }
}

impl Entry {
    /// As it is under another configuration, which has `door` at the same address.
    fn renew(&mut self, door: Option<&Door>) {
        match (self, door) {
            (Self::Tls { sni, routes }, Some(Door::Tls { routes: now, .. })) => {
                *routes = now.succeed(routes, sni.as_deref());
            }
            (Self::Plain(redirects), Some(Door::Plain(now))) => *redirects = Arc::clone(now),
            // Nothing is served that way any more: every name is unknown.
            (Self::Tls { routes, .. }, Some(Door::Plain(_) | Door::Tcp(_)) | None) => {
                *routes = Arc::default();
            }
            (Self::Plain(redirects), Some(Door::Tls { .. } | Door::Tcp(_)) | None) => {
                *redirects = Arc::default();
            }
        }
    }
}

/// Where farms and servers of one configuration are in the next.
struct Moved<'a, D: Dial> {
    before: &'a Served<D>,
    now: &'a Served<D>,
}

impl<D: Dial> Moved<'_, D> {
    /// A server's farm and index in the next; `None`: it is not there.
    fn server(&self, farm: usize, server: usize) -> Option<(usize, usize)> {
        let before = &self.before.farms[farm].group;
        let farm = self.now.farms.iter().position(|farm| farm.group.name == before.name)?;
        let server = self.now.farms[farm].group.index_of(&before.servers[server])?;
        Some((farm, server))
    }

    /// A site's index in the next, likewise.
    fn site(&self, site: usize) -> Option<usize> {
        let (before, now) = (self.before.seen.metrics.layout(), self.now.seen.metrics.layout());
        now.sites.iter().position(|now| now.name == before.sites[site].name)
    }

    /// Whether the connection to a server may be used on. Where it must prove itself otherwise than before, only by who has
    /// logged on over it.
    fn take_along<S>(&self, connection: &mut Server<S>) -> bool {
        let Some((farm, server)) = self.server(connection.farm, connection.slot.server()) else {
            return false;
        };
        let (before, now) = (&self.before.farms[connection.farm], &self.now.farms[farm]);
        if !connection.pinned && before.made_of().settings.verify != now.made_of().settings.verify {
            return false;
        }
        connection.farm = farm;
        connection.site = connection.site.and_then(|site| self.site(site));
        if !connection.pinned && connection.site.is_none() {
            return false;
        }
        connection.slot.follow(&now.group.balance, server);
        true
    }
}
