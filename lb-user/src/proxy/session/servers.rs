//! The server connections that belong to a client connection.

use std::net::IpAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::{Dial, Dialled, Session};
use crate::clock::Time;
use crate::config::model::Reuse;
use crate::proxy::balance::farm::{Choice, Criteria, LiveOutcome};
use crate::proxy::balance::gate::{NoSlot, Slot};
use crate::proxy::balance::set::ServerSet;
use crate::proxy::cause::Cause;
use crate::proxy::client::Client;
use crate::proxy::farm::Farm;
use crate::proxy::http1::{Head, Known};
use crate::proxy::idle::Place;
use crate::proxy::link::Link;
use crate::proxy::pin::is_of_connections;
use crate::proxy::protect::credentials::spelled;
use crate::proxy::seen::Record;
use crate::proxy::served::Served;

/// What a request says of the server that it wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// What it is hashed by, if it is.
    pub(super) key: Option<u64>,
    /// The one that its affinity cookie names.
    pub(super) stay: Option<usize>,
    /// The connection has to be a fresh one, or this client's own: the request logs it on, one of those that are shared was not
    /// good, or the client is one of several behind a proxy.
    pub(super) unshared: bool,
    /// The farm's test that counts for it.
    pub(super) test: usize,
}

impl Wish {
    fn criteria(self) -> Criteria {
        let Self { key, stay, test, unshared: _ } = self;
        Criteria { test: Some(test), key, stay, near: None, tried: ServerSet::EMPTY }
    }

    /// The server that takes the request whatever connections there are: that of its cookie while it may, or of what it is hashed by.
    fn server(self, farm: &Farm) -> Option<usize> {
        let balance = &farm.group.balance;
        let keeps = |server: &usize| balance.view(Some(self.test)).keeps(*server);
        let hashed = || match balance.choose(&self.criteria(), Time::now()) {
            Choice::Server(server) => Some(server),
            Choice::Full | Choice::NoServer => None,
        };
        self.stay.filter(keeps).or_else(|| self.key.and_then(|_| hashed()))
    }
}

/// A connection to a server.
pub(super) struct Server<S> {
    /// The index of its farm.
    pub(super) farm: usize,
    /// That of the site for which the server was asked for its certificate; `None`: it is there no more.
    pub(super) site: Option<usize>,
    pub(super) link: Link<S>,
    /// Somebody has logged on over it.
    pub(super) pinned: bool,
    /// As whom, if the logon said so.
    pub(super) user: Option<Arc<[u8]>>,
    /// Where it goes once it rests, if it belongs to nobody.
    pub(super) shared: Option<Place>,
    /// It carried others' requests before.
    pub(super) reused: bool,
    pub(super) used: Instant,
    /// Its place among the server's connections.
    pub(super) slot: Slot,
}

impl<C, D> Session<C, D>
where
    C: Client,
    D: Dial,
{
    /// A connection to a server of the farm, for the site: this client's own while it is good, else one that is shared, if the farm
    /// shares them, else a new one; at most [`CONNECTS`] servers are tried. Nothing of the request was sent yet.
    pub(super) async fn connection(
        &mut self,
        site: usize,
        at: usize,
        wish: Wish,
        record: &mut Record<'_>,
    ) -> Result<Server<D::Stream>, Missing> {
        let farm = Arc::clone(&self.served.farms[at]);
        // What one client of a connection that its proxy shares has opened is not the next one's.
        let alone = !self.peer.via.shared;
        if alone && let Some(own) = self.own(site, at, &farm, wish, record).await? {
            return Ok(own);
        }
        if farm.group.servers.iter().any(|server| server.share.connections.is_some()) {
            self.make_way(at);
        }
        let near = self
            .rested_alike()
            .filter(|_| alone && wish.key.is_none())
            .and_then(|rested| rested.preferred(at));
        let mut criteria = Criteria { near, ..wish.criteria() };
        let mut cause = None;
        while criteria.tried.len() < CONNECTS {
            let slot = match farm.group.balance.slot(&criteria).await {
                Ok(slot) => slot,
                Err(none) => return Err(Missing::Cause(cause.unwrap_or(cause_of(none)))),
            };
            let server = slot.server();
            criteria.tried.insert(server);
            record.parties.server = Some(server);
            if cause.is_some() {
                record.retried();
            }
            let place = Place { farm: at, server, site };
            let shared = (farm.made_of().settings.reuse == Reuse::Shared).then_some(place);
            match self.linked(place, &farm, shared.filter(|_| !wish.unshared), record).await {
                Ok((link, reused)) => {
                    if let Some(mut rested) = self.rested_alike() {
                        rested.prefer(at, server);
                    }
                    let used = Instant::now();
                    let site = Some(site);
                    return Ok(Server {
                        farm: at,
                        site,
                        link,
                        pinned: false,
                        user: None,
                        shared,
                        reused,
                        used,
                        slot,
                    });
                }
                Err(failed) => {
                    record.cannot_connect(failed);
                    farm.group.balance.begin(server).failed();
                    farm.group.served(wish.test, server, LiveOutcome::NoConnection);
                    cause = Some(failed);
                }
            }
        }
        Err(Missing::Cause(cause.unwrap_or(Cause::NoHealthyServer)))
    }

    /// One of this client's own that rests and is good. What is not is closed.
    async fn own(
        &mut self,
        site: usize,
        at: usize,
        farm: &Farm,
        wish: Wish,
        record: &mut Record<'_>,
    ) -> Result<Option<Server<D::Stream>>, Missing> {
        let wanted = wish.server(farm);
        while let Some(mut own) = self.take(site, at, wanted) {
            if own.is_good(farm, wish.test).await {
                record.parties.server = Some(own.server());
                return Ok(Some(own));
            }
            if own.pinned {
                record.parties.server = Some(own.server());
                return Err(Missing::LoggedOn);
            }
        }
        Ok(None)
    }

    /// A shared connection from there, or else a new one; whether it was there before.
    async fn linked(
        &self,
        place: Place,
        farm: &Farm,
        shared: Option<Place>,
        record: &mut Record<'_>,
    ) -> Result<(Link<D::Stream>, bool), Cause> {
        let idle = &self.served.idle;
        if let Some(shared) = shared
            && let Some(link) = idle.take(shared).await
        {
            return Ok((link, true));
        }
        let Place { farm: at, server, site } = place;
        if farm.group.servers[server].share.connections.is_some() {
            // Those at rest count, too.
            idle.make_room(at, server);
        }
        let Dialled { stream, connect, greet } = self.dial(site, at, server, farm).await?;
        (record.outcome.connect, record.outcome.greet) = (Some(connect), Some(greet));
        Ok((Link::new(stream), false))
    }

    /// A connection over which a request and its response have gone whole.
    pub(super) fn put_back(&self, server: Server<D::Stream>) {
        let Some(mut rested) = self.rested_alike() else { return };
        if rested.servers.len() >= MOST_RESTED
            && let Some(oldest) = rested.servers.iter().position(|server| !server.pinned)
        {
            rested.servers.remove(oldest);
        }
        rested.servers.push(server);
    }

    /// Where a farm's connections are limited, a client has none at rest there that its next request does not take.
    fn make_way(&self, farm: usize) {
        if let Some(mut rested) = self.rested_alike() {
            rested.servers.retain(|server| server.farm != farm || server.pinned);
        }
    }

    /// The one over which this client logged on, whatever the site and the server; else one whose server proved itself to the very site,
    /// and is the one that is wanted, where one is.
    fn take(&self, site: usize, farm: usize, wanted: Option<usize>) -> Option<Server<D::Stream>> {
        let mut rested = self.rested_alike()?;
        let servers = &mut rested.servers;
        let of_farm = |server: &Server<_>| server.farm == farm;
        let logged_on = servers.iter().position(|server| of_farm(server) && server.pinned);
        let is_wanted = |server: &Server<_>| wanted.is_none_or(|wanted| wanted == server.server());
        let fits = |server: &Server<_>| of_farm(server) && server.site == Some(site) && is_wanted(server);
        let proven = || servers.iter().position(fits);
        let own = logged_on.or_else(proven)?;
        Some(servers.remove(own))
    }

    /// `None`: another stream has taken up another configuration, in which farms and servers have other indices.
    fn rested_alike(&self) -> Option<MutexGuard<'_, Rested<D>>> {
        Some(self.rested()).filter(|rested| Arc::ptr_eq(&rested.of, &self.served))
    }

    pub(super) fn rested(&self) -> MutexGuard<'_, Rested<D>> {
        self.rested.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dial(
        &self,
        site: usize,
        at: usize,
        server: usize,
        farm: &Farm,
    ) -> Result<Dialled<D::Stream>, Cause> {
        let dialled = timeout(farm.connect_timeout, self.served.dial.dial(site, at, server)).await;
        dialled.unwrap_or(Err(Cause::ConnectFailed))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Server<S> {
    /// Its server's index in the farm.
    pub(super) fn server(&self) -> usize {
        self.slot.server()
    }

    /// It has answered a request: as whom it is logged on from now on.
    pub(super) fn answered(&mut self, request: &Head, status: u16) {
        if !self.pinned {
            return;
        }
        let logon = request.values(Known::Authorization).find(|value| is_of_connections(value));
        match logon {
            // Whoever it was before is to log on again.
            _ if status == 401 => self.user = None,
            Some(value) => self.user = spelled(value).map(Arc::from),
            None => {}
        }
    }

    /// Whether it can carry one more request. A server that has spoken out of turn, or has ended, gets none.
    async fn is_good(&mut self, farm: &Farm, test: usize) -> bool {
        let rested = !self.pinned && self.used.elapsed() > SERVER_REST;
        // Where somebody has logged on, only the connection itself says that it is over, or an operator.
        let view = farm.group.balance.view(Some(test));
        let sick = !view.admitting.contains(self.server()) || (!self.pinned && !view.keeps(self.server()));
        !(rested || sick || self.link.stirs_now().await)
    }
}

/// The server connections of a client connection that carry no request, and where it was served last.
pub(super) struct Rested<D: Dial> {
    /// The configuration that farms and servers are indices of.
    pub(super) of: Arc<Served<D>>,
    /// The one that rests longest first; [`MOST_RESTED`] at most but for those over which somebody has logged on.
    pub(super) servers: Vec<Server<D::Stream>>,
    /// The server of each farm that this client was last served by: asked first when its connection has ended.
    pub(super) preferred: Vec<(usize, usize)>,
    /// The client of the latest request.
    pub(super) met: Option<IpAddr>,
}

impl<D: Dial> Rested<D> {
    pub(super) fn new(of: Arc<Served<D>>) -> Self {
        Self { of, servers: Vec::new(), preferred: Vec::new(), met: None }
    }

    pub(super) fn len(&self) -> usize {
        self.servers.len()
    }

    /// Ends them all.
    pub(super) fn clear(&mut self) {
        self.servers.clear();
    }

    pub(super) fn give_buffers_back(&mut self) {
        self.servers.iter_mut().for_each(|server| server.link.rest());
    }

    /// Looks whether a server has ended its connection. One over which nobody logged on is just forgotten.
    pub(super) fn poll_logged_on_server_gone(&mut self, cx: &mut Context<'_>) -> bool {
        let mut gone = false;
        self.servers.retain_mut(|server| {
            let stirs = server.link.poll_stirs(cx).is_ready();
            gone |= stirs && server.pinned;
            !stirs
        });
        gone
    }

    fn preferred(&self, farm: usize) -> Option<usize> {
        self.preferred.iter().find(|(other, _)| *other == farm).map(|(_, server)| *server)
    }

    fn prefer(&mut self, farm: usize, server: usize) {
        self.preferred.retain(|(other, _)| *other != farm);
        self.preferred.push((farm, server));
    }
}

/// Why there is no connection to a server.
pub(super) enum Missing {
    /// The connection that this client logged on over is gone: it has to begin anew.
    LoggedOn,
    Cause(Cause),
}

fn cause_of(none: NoSlot) -> Cause {
    match none {
        NoSlot::NoServer | NoSlot::QueueFull(_) | NoSlot::TimedOut => Cause::NoHealthyServer,
    }
}

/// Most servers that are connected to for one request.
const CONNECTS: usize = 3;

/// Server connections of a client connection that wait for its next requests: as many as browsers open by themselves.
const MOST_RESTED: usize = 6;

/// A server connection that rested longer is not used again.
const SERVER_REST: Duration = Duration::from_secs(100);
