//! The proxy at work: serves what snapshots say, one after the other, told when to drain. In the worker, or in a test; knows neither
//! the channel to the agent nor the sandbox.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::access::AccessLog;
use super::ask::Teller;
use super::balance::Health;
use super::channel::ServerState;
use super::farm::Farm;
use super::group::Group;
use super::health;
use super::hold::Hold;
use super::listener::{self, Gate, Phase};
use super::metrics::{Place, Tally};
use super::number::RequestId;
use super::recent::Recalled;
use super::seen::Seen;
use super::served::{BuildError, Served, Servers};
use super::session::Shared;
use super::snapshot::Snapshot;
use super::tcp;
use super::tcp::pool::Pool;
use super::tls::Facts;
use crate::clock::Time;

/// A proxy at work. Dropped, it accepts no more; open connections go on as long as the runtime.
pub struct Proxy {
    gate: Arc<Gate>,
    phase: watch::Sender<Phase>,
    /// Woken whenever `health` may have changed.
    health: watch::Sender<()>,
    listeners: JoinSet<()>,
    /// The same by address.
    listening: BTreeMap<SocketAddr, AbortHandle>,
    tests: Tests,
    /// The states that operators gave servers.
    states: Vec<ServerState>,
}

impl Proxy {
    /// Serves `snapshot` on `sockets`, which are in the order of `snapshot.listen`, for at most `limit` client connections at
    /// once. Within a Tokio runtime.
    pub fn start(
        snapshot: &Snapshot,
        sockets: Vec<StdListener>,
        log: AccessLog,
        limit: u32,
    ) -> Result<Self, BuildError> {
        let health = watch::Sender::new(());
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let seen = Seen::new(snapshot, log, random()?);
        let served = Served::build(snapshot, None, seen, &health)?;
        let sockets = sockets_for(snapshot.listen.clone(), sockets)?;
        let shared = Shared { served: ArcSwap::from_pointee(served), phase: phase_seen };
        let mut proxy = Self {
            gate: Arc::new(Gate::new(shared, limit)),
            phase,
            health,
            listeners: JoinSet::new(),
            listening: BTreeMap::new(),
            tests: Tests::default(),
            states: Vec::new(),
        };
        proxy.tests.follow(&proxy.served());
        proxy.listen(sockets);
        Ok(proxy)
    }

    /// Serves `snapshot` from now on, with `sockets` for the addresses that were not listened at before, in the order of
    /// `snapshot.listen`. No connection ends by it: a request that has begun ends as it began, the next one of its connection sees
    /// the new configuration. After an error all is as before.
    pub fn apply(&mut self, snapshot: &Snapshot, sockets: Vec<StdListener>) -> Result<(), BuildError> {
        let before = self.served();
        let served = Served::build(snapshot, Some(&*before), before.seen.next(snapshot), &self.health)?;
        let fresh = |address: &&SocketAddr| !self.listening.contains_key(address);
        let sockets = sockets_for(snapshot.listen.iter().filter(fresh).copied().collect(), sockets)?;
        // Nothing is refused from here on.
        served.seen.log.set_format(snapshot.log.format);
        self.gate.shared.served.store(Arc::new(served));
        self.gate.enforce();
        self.impose_states();
        self.tests.follow(&self.served());
        self.listening.retain(|address, listener| {
            let stays = snapshot.listen.contains(address);
            if !stays {
                listener.abort();
            }
            stays
        });
        self.listen(sockets);
        // Connections at rest look what has become of their servers.
        self.phase.send_modify(|_same| {});
        self.health.send_replace(());
        Ok(())
    }

    /// These servers are in these states from now on, and all others as configured.
    pub fn set_states(&mut self, states: Vec<ServerState>) {
        self.states = states;
        self.impose_states();
    }

    fn impose_states(&self) {
        for group in self.served().groups() {
            for (index, server) in group.servers.iter().enumerate() {
                let is_it = |given: &&ServerState| given.farm == group.name && given.server == server.name;
                let given = self.states.iter().find(is_it).map(|given| given.state);
                group.set_state(index, given.unwrap_or(server.share.state));
            }
        }
    }

    fn listen(&mut self, sockets: Vec<(SocketAddr, TcpListener)>) {
        for (address, socket) in sockets {
            let accept = listener::accept(socket, address, Arc::clone(&self.gate));
            self.listening.insert(address, self.listeners.spawn(accept));
        }
    }

    /// The configuration at work.
    pub fn served(&self) -> Arc<Served<Servers>> {
        self.gate.shared.served.load_full()
    }

    /// Has so many fewer places for connections than it might have: they are needed elsewhere.
    pub fn leave_room(&self, elsewhere: u32) {
        self.gate.room.leave(elsewhere);
    }

    /// How much there is to do.
    pub fn load(&self) -> Load {
        Load {
            connections: Arc::clone(&self.gate.connections),
            requests: Arc::clone(&self.served().seen.requests),
        }
    }

    /// Who answers what the agent asks; outlives it.
    pub fn teller(&self) -> impl Teller + use<> {
        Tells(Arc::clone(&self.gate))
    }

    /// Whether connections are accepted.
    pub fn accepting(&self) -> bool {
        !matches!(*self.phase.borrow(), Phase::Stopping { .. })
    }

    /// The health of all servers in all tests, as `Snapshot::server_groups` has them: by group, server and test.
    pub fn health(&self) -> Vec<Vec<Vec<Health>>> {
        self.served().groups().map(Group::health).collect()
    }

    /// What each server of each farm presented last, as `Snapshot::farms` has them.
    pub fn presented(&self) -> Vec<Vec<Option<Facts>>> {
        let of_farm = |farm: &Arc<Farm>| farm.presented.iter().map(|last| last.facts()).collect();
        self.served().farms.iter().map(of_farm).collect()
    }

    /// What was cut off at the end of the drain timeout since this was asked last.
    pub fn take_cut(&self) -> Vec<(Hold, u32)> {
        let taken = Hold::ALL.into_iter().zip(&self.gate.cut);
        let taken = taken.map(|(hold, count)| (hold, count.swap(0, Ordering::Relaxed)));
        taken.filter(|(_, count)| *count > 0).collect()
    }

    /// How many requests of each farm wait for a server below its limit of connections.
    pub fn waiting(&self) -> Vec<usize> {
        self.served().farms.iter().map(|farm| farm.group.balance.waiting()).collect()
    }

    /// Changes whenever `health` may have.
    pub fn health_changed(&self) -> watch::Receiver<()> {
        self.health.subscribe()
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
        self.gate.all.closed().await;
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

/// What the agent may ask of a proxy.
struct Tells(Arc<Gate>);

impl Teller for Tells {
    fn tally(&self) -> Tally {
        self.0.shared.served.load().seen.metrics.tally()
    }

    fn metrics(&self) -> String {
        let served = self.0.shared.served.load();
        let metrics = &served.seen.metrics;
        metrics.connections_open(self.0.connections.load(Ordering::Relaxed));
        metrics.requests_in_flight(served.seen.requests.load(Ordering::Relaxed));
        metrics.log_lost(served.seen.log.lost());
        let farms = served.farms.iter().map(|farm| &farm.group);
        let pools = served.tcp.iter().flat_map(|service| service.pools()).map(|pool| &pool.group);
        for (of, group) in farms.chain(pools).enumerate() {
            metrics.waiting(of, group.balance.waiting());
            for (part, health) in group.health().into_iter().enumerate() {
                metrics.server_healthy(Place { of, part }, health.contains(&Health::Healthy));
            }
        }
        metrics.text()
    }

    fn request(&self, id: RequestId) -> Option<Recalled> {
        self.0.shared.served.load().seen.recent.recall(id)
    }
}

fn random() -> Result<u64, BuildError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| BuildError::Random)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The tests of the servers, by whom they tell what they find. They end when dropped.
#[derive(Default)]
struct Tests {
    farms: Vec<(Arc<Farm>, JoinSet<()>)>,
    pools: Vec<(Arc<Pool>, JoinSet<()>)>,
}

impl Tests {
    /// Tests the servers of this configuration from now on, going on with those of before that are in it.
    fn follow(&mut self, served: &Served<Servers>) {
        let pools = served.tcp.iter().flat_map(|service| service.pools());
        go_on(&mut self.farms, &served.farms, |farm, tests| {
            for test in 0..farm.tests.len() {
                (0..farm.group.servers.len())
                    .for_each(|server| drop(tests.spawn(health::watch(Arc::clone(farm), test, server))));
            }
        });
        go_on(&mut self.pools, pools, |pool, tests| {
            (0..pool.group.servers.len())
                .for_each(|server| drop(tests.spawn(tcp::health::watch(Arc::clone(pool), server))));
        });
    }
}

fn go_on<'a, T: 'a>(
    tested: &mut Vec<(Arc<T>, JoinSet<()>)>,
    now: impl IntoIterator<Item = &'a Arc<T>>,
    begin: impl Fn(&Arc<T>, &mut JoinSet<()>),
) {
    let mut before = std::mem::take(tested);
    for group in now {
        let known = before.iter().position(|(known, _)| Arc::ptr_eq(known, group));
        tested.push(known.map(|known| before.swap_remove(known)).unwrap_or_else(|| {
            let mut tests = JoinSet::new();
            begin(group, &mut tests);
            (Arc::clone(group), tests)
        }));
    }
}

/// One socket for each address.
fn sockets_for(
    addresses: Vec<SocketAddr>,
    sockets: Vec<StdListener>,
) -> Result<Vec<(SocketAddr, TcpListener)>, BuildError> {
    if sockets.len() != addresses.len() {
        return Err(BuildError::Sockets { sockets: sockets.len(), addresses: addresses.len() });
    }
    let socket = |(address, socket): (SocketAddr, StdListener)| {
        socket.set_nonblocking(true)?;
        Ok((address, TcpListener::from_std(socket)?))
    };
    addresses.into_iter().zip(sockets).map(socket).collect::<Result<_, _>>().map_err(BuildError::Socket)
}
