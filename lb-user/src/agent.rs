//! The agent: brings everything up in an order that fails safe, keeps it going, and takes it down again. The only place that
//! spawns long-lived tasks, threads and processes; what a request of an operator has to wait for is `operator.rs`'s.
//!
//! Up: the XDP program before the cluster IP, so that no packet for it ever meets a kernel without our verdict; then the
//! cluster thread, which starts with a table in which this node holds nothing. Down: first the others take the share, then
//! connections in flight end, then the lease, the address and the program go, in this order.

mod canary;
mod capture;
mod certificates;
mod checks;
mod connections;
pub(crate) mod events;
mod expiry;
mod explain;
mod facts;
mod holders;
mod metrics;
mod open;
mod operator;
mod orders;
mod peering;
mod reload;
mod restart;
mod servers;
mod serving;
mod shared;
mod status;
mod switch;
pub mod upgrade;
mod voice;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_common::table::BucketTable;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use self::certificates::Certificates;
use self::checks::Services;
use self::events::{Destinations, EventLog, Note};
use self::open::{Open, open_connections};
use self::operator::Shared;
use self::peering::Peering;
use self::reload::{Change, Ends, Published, Reloader};
use self::restart::Again;
pub use self::restart::End;
use self::servers::Servers;
use self::serving::Serving;
use self::upgrade::{Arrival, Departure, Preparing, Upgrade};
use self::voice::Voice;
use crate::clock::Time;
use crate::cluster::driver::{Cluster, DataPath, Handle, Input, Output};
use crate::cluster::node::{Event, Order, Settings};
use crate::cluster::operate::Mandate;
use crate::cluster::scan;
use crate::cluster::sets::BucketSet;
use crate::cluster::transport::{Gateway, Network, SecondPath};
use crate::cluster::wire::{Phase, Traffic};
use crate::config::model::{Config, Local, Timing};
use crate::config::secret::ClusterSecret;
use crate::control::api::{Count, UpgradeStatus};
use crate::control::server::Sockets;
use crate::dataplane::idle::Idle;
use crate::dataplane::link::{self, Interface, Link, Lock, RunDir};
use crate::dataplane::{self, Dataplane, Lease, OwnerTables, Plan};
use crate::doctor::responder;
use crate::proxy::snapshot::{MOST_PREVIOUS, Snapshot};
use crate::proxy::spawn::Account;
use crate::proxy::supervisor::{self, Supervisor};
use crate::shared::origin::{Local as SharedLocal, Origin};
use crate::sys::signals::{Signal, StopSignalStream, StopSignals};
use crate::{announce, control, hearing, preflight};

/// How long the others have to take this node's share when it stops.
const HAND_OVER: Duration = Duration::from_secs(3);

/// How long, at its end, connections are waited for that only close.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the agent until it is told to stop by SIGTERM or SIGINT; a second signal does not wait for connections in flight. Or until
/// another program is to take its place, or this one anew: then all that is needed for it is given. `arrival`: what a program before
/// this one in the same process left. On the main thread, which has started no other.
pub fn run(config: Config, files: Origin, arrival: Option<Result<Arrival>>) -> Result<End> {
    let signals = StopSignals::block().context("cannot block SIGTERM and SIGINT")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut agent = Agent::new(config, files, signals.stream()?)?;
        let up = match arrival {
            Some(arrival) => agent.go_on(arrival).await,
            None => agent.bring_up().await,
        };
        let served = match up {
            Ok(()) => agent.serve().await,
            Err(error) => Err(error),
        };
        if let Ok(Some(departure)) = served {
            return Ok(End::Upgrade(Box::new(departure)));
        }
        let down = agent.take_down().await;
        served.and(down)?;
        Ok(if agent.restart { End::Restart(Again::at(agent.program)) } else { End::Stopped })
    });
    if let Ok(End::Upgrade(_)) = &ended {
        // The others wait for two seconds: whoever still asks the kernel for connections is not waited for.
        runtime.shutdown_timeout(Duration::from_millis(100));
    }
    ended
}

struct Agent {
    config: Arc<Config>,
    secret: ClusterSecret,
    plan: Arc<Plan>,
    files: Origin,
    signals: StopSignalStream,
    /// The file that this program came from.
    program: PathBuf,
    /// How many programs this process ran before this one.
    upgrades: u32,
    upgrade: Option<UpgradeStatus>,
    preparing: Option<Preparing>,
    /// Open once no other agent can be writing to the same file.
    events: Option<Arc<EventLog>>,
    outputs: Option<UnboundedReceiver<Output>>,
    dataplane: Option<Dataplane>,
    /// Whether the host's settings may have been changed.
    link: bool,
    cluster: Option<Cluster>,
    /// None while it only observes.
    voice: Option<Voice>,
    proxy: Option<Supervisor>,
    serving: Option<Serving>,
    control: Option<JoinHandle<()>>,
    /// Answers other nodes' doctors.
    responder: Option<JoinHandle<()>>,
    sockets: Option<Arc<Sockets>>,
    /// None where each node has its configuration in a file.
    peering: Option<Peering>,
    wanted_upgrades: (mpsc::Sender<Upgrade>, Option<mpsc::Receiver<Upgrade>>),
    reloader: Option<Arc<Reloader>>,
    /// Whose end is told.
    certificates: Option<Arc<Certificates>>,
    reloaded: (mpsc::Sender<Change>, mpsc::Receiver<Change>),
    /// Held to the end: one agent a run folder, and one an interface.
    run_dir: Option<RunDir>,
    lock: Option<Lock>,
    /// It ends to start anew.
    restart: bool,
    /// It ends because this node is none of the cluster any more.
    dismissed: bool,
    /// The others have all that they need of this node.
    handed_over: bool,
}

impl Agent {
    fn new(config: Config, files: Origin, signals: StopSignalStream) -> Result<Self> {
        let secret = config.secret()?;
        let plan = Arc::new(Plan::new(&config, secret.hash_seed()));
        let (upgrades, wanted_upgrades) = mpsc::channel(1);
        Ok(Self {
            config: Arc::new(config),
            secret,
            plan,
            files,
            signals,
            program: upgrade::program_file(),
            upgrades: 0,
            upgrade: None,
            preparing: None,
            events: None,
            outputs: None,
            dataplane: None,
            link: false,
            cluster: None,
            voice: None,
            proxy: None,
            serving: None,
            control: None,
            responder: None,
            sockets: None,
            peering: None,
            wanted_upgrades: (upgrades, Some(wanted_upgrades)),
            reloader: None,
            certificates: None,
            reloaded: mpsc::channel(1),
            run_dir: None,
            lock: None,
            restart: false,
            dismissed: false,
            handed_over: false,
        })
    }

    async fn bring_up(&mut self) -> Result<()> {
        let config = Arc::clone(&self.config);
        self.lock = Some(Lock::take(&Interface::inspect(config.local.beneath())?)?);
        self.run_dir = Some(RunDir::take(&config.local.run_dir)?);
        self.open_events()?;
        let pins = dataplane::pins_of(config.local.beneath())?;
        let publishes = self.publishes();
        let resumed = pins.exists() || supervisor::is_left(&config.local.run_dir)?;
        let mac = self.plan.config.cluster_mac;
        let checked = Arc::clone(&config);
        let nic = tokio::task::spawn_blocking(move || preflight::check(&checked, mac, resumed)).await??;
        let proxy = self.prepare_proxy(publishes)?;

        let (name, beneath) = (&config.local.interface, config.local.beneath());
        let dataplane = Dataplane::attach_beneath(&self.plan, name, beneath, config.local.xdp, &pins)?;
        let dataplane = self.dataplane.insert(dataplane);
        self.link = true;
        let link = Link::setup(&config, &nic, mac)?;
        for warning in link.warnings {
            warn!("{warning}");
        }
        dataplane.let_in_by(link.filter);
        if !config.cluster.observe {
            self.voice = Some(Voice::open(&config, &nic, mac, dataplane.hearing())?);
        }
        let Local { state_dir, .. } = &config.local;
        let rules = &config.cluster.rules;
        // An upgrade that became a restart is none of the operator's stops either.
        let again = restart::is_again() || self.upgrades > 0;
        let mandate = orders::keep::begin(state_dir, config.cluster.initial_state, again, rules);
        let known = Services::known_at_start(&config, &self.plan);
        let mut serving = Serving::begin(&config, &self.plan, mandate.intent, known);
        let (tables, lease) = self.dataplane.as_mut().context("there is no data path")?.writers();
        let cluster = self.start_cluster(&nic, mandate, Maps { tables, lease })?;
        if let Some(spec) = proxy {
            serving.follow(self.proxy.insert(Supervisor::start(spec)?));
            self.restore_servers();
        }
        self.serving = Some(serving);
        let sockets = Arc::new(Sockets::bind(&config.local.run_dir)?);
        self.sockets = Some(Arc::clone(&sockets));
        self.open_control(cluster, sockets)?;
        info!(node = %config.local.name, interface = %config.local.interface, "started");
        self.log(Note::new("agent-started", false, "the agent started"));
        Ok(())
    }

    fn open_events(&mut self) -> Result<()> {
        let Local { name, state_dir, syslog, on_event, .. } = &self.config.local;
        let to = Destinations::new(state_dir.clone(), *syslog, on_event.clone());
        self.events = Some(EventLog::open(name, to).context("cannot start the events log")?);
        Ok(())
    }

    async fn close_events(&mut self) -> Result<()> {
        let Some(events) = self.events.take() else { return Ok(()) };
        let closed = tokio::task::spawn_blocking(move || events.close());
        closed.await.context("the events log could not be waited for")
    }

    /// Whether there is to be a proxy.
    fn publishes(&self) -> bool {
        self.config.cluster.listens().next().is_some() && !self.config.cluster.observe
    }

    fn start_cluster(&mut self, nic: &Interface, mandate: Mandate, maps: Maps) -> Result<Handle> {
        let (sender, outputs) = unbounded_channel();
        self.outputs = Some(outputs);
        let (settings, network) =
            (self.settings(&self.config, &self.secret, nic, mandate)?, self.network(&self.config, nic));
        let cluster = Cluster::start(settings, network, self.secret.clone(), maps, nic.carrier, sender)?;
        if let Some(why) = &cluster.ordinary_priority {
            warn!(%why, "the cluster thread has no real-time priority: a busy host may delay heartbeats");
        }
        Ok(self.cluster.insert(cluster).handle())
    }

    fn open_control(&mut self, cluster: Handle, sockets: Arc<Sockets>) -> Result<()> {
        let events = Arc::clone(self.events.as_ref().context("the control socket needs the events log")?);
        let turn = Arc::default();
        let reloader = Arc::new(Reloader::new(
            self.files.clone(),
            self.secret.clone(),
            Arc::clone(&self.config),
            self.proxy.as_ref().map(|proxy| Published { changer: proxy.changer(), status: proxy.status() }),
            Ends { agent: self.reloaded.0.clone(), cluster: cluster.clone() },
            Arc::clone(&events),
            Arc::clone(&turn),
        ));
        self.reloader = Some(Arc::clone(&reloader));
        let certificates = Certificates::new(Arc::clone(&events));
        certificates.follow(Arc::clone(&self.config));
        self.certificates = Some(Arc::clone(&certificates));
        let shared = self.start_peering(&reloader, &cluster, &events)?;
        let dataplane = self.dataplane.as_ref().context("the control socket needs the data path")?;
        let serving = self.serving.as_ref().context("the control socket needs what serves")?;
        let shared = Arc::new(Shared {
            reloader,
            certificates,
            plan: Arc::clone(&self.plan),
            cluster,
            counters: dataplane.counters(),
            in_force: dataplane.in_force(),
            captures: dataplane.captures(),
            interface: dataplane.status(),
            proxy: self.proxy.as_ref().map(Supervisor::status),
            events,
            services: serving.service_status.subscribe(),
            connections: serving.connections.clone(),
            answers: Arc::clone(&serving.answers),
            servers: self.servers()?,
            listing: Arc::default(),
            followers: Arc::new(Semaphore::new(operator::FOLLOWERS)),
            shared,
            upgrading: operator::Upgrading {
                files: self.files.clone(),
                program: self.program.clone(),
                latest: self.upgrade.clone(),
                agent: self.wanted_upgrades.0.clone(),
                turn,
            },
        });
        self.control = Some(tokio::spawn(async move {
            let answer = move |request| Arc::clone(&shared).answer(request);
            control::server::serve(&sockets, answer).await;
        }));
        self.answer_doctors()
    }

    /// Has other nodes' doctors be told which of their frames arrive here.
    fn answer_doctors(&mut self) -> Result<()> {
        let nic = Interface::inspect(&self.config.local.interface)?;
        let place = responder::Place::of(&self.config, &nic, &self.secret);
        self.responder = Some(tokio::spawn(async move {
            if let Err(error) = responder::serve(place).await {
                warn!(%error, "other nodes' doctors are no longer answered");
            }
        }));
        Ok(())
    }

    /// The configuration that the nodes share, if they do.
    fn start_peering(
        &mut self,
        reloader: &Arc<Reloader>,
        cluster: &Handle,
        events: &Arc<EventLog>,
    ) -> Result<Option<Arc<peering::Shared>>> {
        let Origin::Store { node } = &self.files else { return Ok(None) };
        let local = SharedLocal::open(node)?;
        let (peering, shared) =
            Peering::start(&self.config, local, Arc::clone(reloader), cluster.clone(), Arc::clone(events))?;
        self.peering = Some(peering);
        if let Some(serving) = &mut self.serving {
            serving.heed(shared.told());
        }
        Ok(Some(shared))
    }

    /// Gives the proxy's servers the states that operators gave them before.
    fn restore_servers(&self) {
        if let Some(proxy) = &self.proxy {
            proxy.states().set(servers::kept(&self.config.local.state_dir));
        }
    }

    fn servers(&self) -> Result<Servers> {
        let events = Arc::clone(self.events.as_ref().context("what operators do needs the events log")?);
        let proxy = self.proxy.as_ref().map(|proxy| (proxy.states(), proxy.status()));
        Ok(Servers::new(self.config.local.state_dir.clone(), proxy, events))
    }

    /// All that can fail of the proxy before anything is changed on the host. Only where nothing fails is a proxy that was
    /// left behind told to finish; an agent without a proxy of its own ends it, or it would serve for ever.
    fn prepare_proxy(&self, publishes: bool) -> Result<Option<supervisor::Spec>> {
        if !publishes {
            if supervisor::end_left(&self.config.local.run_dir)? {
                warn!("ended the proxy that an earlier agent left: this one has none");
            }
            return Ok(None);
        }
        Account::find(&self.config.local.proxy_user)?;
        let mut snapshot = supervisor::snapshot(&self.config, &self.secret)?;
        self.remember_certificates(&mut snapshot)?;
        let listeners = supervisor::take_listeners(&self.config.local.run_dir, &snapshot.listen)?;
        Ok(Some(supervisor::Spec {
            program: upgrade::own_program(),
            user: self.config.local.proxy_user.clone(),
            snapshot,
            listeners,
            run_dir: self.config.local.run_dir.clone(),
            log: supervisor::open_log(self.config.local.access_log.as_deref())?,
        }))
    }

    /// Servers that do not have a site's new certificate yet are known by the one of before, also to an agent that was started since it
    /// was replaced: or a loss of power in between would have all servers refused.
    fn remember_certificates(&self, snapshot: &mut Snapshot) -> Result<()> {
        let Origin::Store { node } = &self.files else { return Ok(()) };
        let local = SharedLocal::open(node)?;
        let mut before: Option<Snapshot> = None;
        for older in local.with_other_files(&local.in_force()?, MOST_PREVIOUS).into_iter().rev() {
            let Ok(mut older) = supervisor::snapshot(&older.config, &self.secret) else { continue };
            before.iter().for_each(|before| older.remember(before));
            before = Some(older);
        }
        before.iter().for_each(|before| snapshot.remember(before));
        Ok(())
    }

    fn settings(
        &self,
        config: &Config,
        secret: &ClusterSecret,
        nic: &Interface,
        mandate: Mandate,
    ) -> Result<Settings> {
        let (me, plan) = (config.me(), Plan::new(config, self.plan.config.seed));
        let others = config.cluster.nodes.iter().filter(|node| node.priority != me.priority);
        let timing = config.cluster.timing;
        let mut incarnation = [0; 4];
        aws_lc_rs::rand::fill(&mut incarnation).context("the system gives no random bytes")?;
        Ok(Settings {
            me: me.priority,
            weight: me.weight,
            mac: nic.mac,
            peers: others.map(|node| node.priority).collect(),
            timing,
            tables: plan.tables.iter().map(|table| table.spread.clone()).collect(),
            lease_margin: lease_margin(&timing),
            facts: facts::facts_of(config, secret),
            gateway: gateway(config, nic).is_some(),
            second_path: me.second_address.is_some(),
            ready: Services::known_at_start(config, &plan),
            failback: config.cluster.failback,
            hold_down: config.cluster.hold_down,
            ramp: config.cluster.ramp,
            mandate,
            incarnation: u32::from_le_bytes(incarnation),
        })
    }

    fn network(&self, config: &Config, nic: &Interface) -> Network {
        let cluster = &config.cluster;
        let me = config.me();
        let others = cluster.nodes.iter().filter(|node| node.priority != me.priority);
        let peers = others.clone().map(|node| (node.priority, node.address)).collect();
        let second = me.second_address.map(|own| SecondPath {
            own,
            peers: others.filter_map(|node| Some((node.priority, node.second_address?))).collect(),
        });
        Network {
            ifindex: nic.index,
            own: (me.address, nic.mac),
            cluster_ips: cluster.v4_addresses().collect(),
            cluster_mac: self.plan.config.cluster_mac,
            peers,
            gateway: gateway(config, nic),
            second,
        }
    }

    /// Goes on until a signal comes, the cluster thread fails, or another program is to go on.
    async fn serve(&mut self) -> Result<Option<Departure>> {
        let mut outputs = self.outputs.take().context("the cluster thread was not started")?;
        let mut upgrades = self.wanted_upgrades.1.take().context("the agent serves once")?;
        let mut second = tokio::time::interval(hearing::EVERY);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let served = loop {
            if self.dismissed {
                break Ok(());
            }
            tokio::select! {
                signal = self.signals.next() => match signal {
                    Ok(Signal::Reload) => self.reload(),
                    Ok(Signal::Stop) | Err(_) => break Ok(()),
                },
                output = outputs.recv() => match output {
                    Some(Output::Restart) if self.can_start_anew() => {
                        self.restart = true;
                        break Ok(());
                    }
                    Some(Output::Failed(error)) => break Err(error).context("the cluster thread failed"),
                    Some(Output::Prepared) => if let Some(departure) = self.depart().await {
                        return Ok(Some(departure));
                    },
                    Some(output) => self.handle_output(output),
                    None => break Err(anyhow::anyhow!("the cluster thread ended unexpectedly")),
                },
                news = Serving::next(&mut self.serving) => self.handle_news(news),
                Some(upgrade) = upgrades.recv() => self.prepare(upgrade),
                Some(change) = self.reloaded.1.recv() => if let Some(departure) = self.change(change).await {
                    return Ok(Some(departure));
                },
                () = Preparing::too_late(self.preparing.as_ref()) => {
                    self.call_off("not every node has confirmed that it waits");
                }
                _ = second.tick() => {
                    self.report_hearing();
                    self.tell_traffic();
                    if let Some(certificates) = &self.certificates {
                        certificates.look();
                    }
                    if let Some(events) = &self.events {
                        events.settle();
                    }
                }
            }
        };
        if served.is_ok() {
            self.hand_over(&mut outputs).await;
        }
        served.map(|()| None)
    }

    /// Reads the configuration again, as SIGHUP asks for, once it is its turn; what comes of it is logged.
    fn reload(&self) {
        if let Some(reloader) = self.reloader.clone() {
            tokio::spawn(async move { reloader.reload_in_turn().await });
        }
    }

    /// The cluster goes by other facts: what else their configuration says follows.
    fn switched(&self, facts: u64) {
        if let Some(reloader) = self.reloader.clone() {
            tokio::spawn(async move { reloader.switched(facts).await });
        }
    }

    fn tell(&self, input: Input) {
        if let Some(cluster) = &self.cluster {
            cluster.handle().tell(input);
        }
    }

    /// Sends a hearing test if this node serves, and tells the cluster thread whose tests arrived.
    fn report_hearing(&self) {
        let (Some(voice), Some(cluster)) = (&self.voice, &self.cluster) else { return };
        if cluster.handle().snapshot().phase == Phase::Serving {
            // An interface that is down sends nothing; that it is down is told elsewhere.
            let _ = voice.test();
        }
        match voice.hearing() {
            Ok(heard) => self.tell(Input::Heard(heard)),
            // Without readings nobody is judged.
            Err(error) => warn!(%error, "cannot read whose hearing tests arrived"),
        }
    }

    /// Tells the link where the cluster IPs are, unless another node that serves has done so.
    fn announce(&self) {
        let (Some(voice), Some(cluster)) = (&self.voice, &self.cluster) else { return };
        let (announcer, handle, me) = (voice.announcer(), cluster.handle(), self.config.me().priority);
        tokio::spawn(async move {
            tokio::time::sleep(announce::SETTLED).await;
            if !announce::is_due(me, &handle.snapshot()) {
                return;
            }
            let announced = async { announcer?.announce().await };
            if let Err(error) = announced.await {
                warn!(%error, "could not announce the cluster IPs: a router may keep what it knew of them");
            }
        });
    }

    /// Adds again what the interface lost by having been down.
    fn refresh_link(&self) {
        if let Err(error) = link::refresh(&self.config.local.run_dir) {
            warn!(%error, "could not set the interface up again");
        }
    }

    /// What the other nodes are to know of this one's packets.
    fn tell_traffic(&self) {
        let passed = self.dataplane.as_ref().map(|dataplane| dataplane.counters().passed());
        // Where they cannot be read, `rollcall status` says so.
        if let Some(Ok(Count { packets, bytes })) = passed {
            let connections = self.serving.as_ref().map_or(0, Serving::open);
            self.tell(Input::Traffic(Traffic { packets, bytes, connections }));
        }
    }

    fn handle_output(&mut self, output: Output) {
        match output {
            Output::Event(event) => self.note(&event),
            Output::Scan => self.scan(),
            Output::FindIdle => self.find_idle(),
            Output::Keep(mandate) => self.keep(mandate),
            Output::Wished { id, denied } => {
                if let Some(serving) = &self.serving {
                    serving.answers.wished(id, denied);
                }
            }
            Output::HandedOver => self.handed_over = true,
            // They end `serve`.
            Output::Failed(_) | Output::Restart => {}
            Output::Prepared => {}
            Output::Switched(facts) => self.switched(facts),
        }
    }

    fn log(&self, note: Note) {
        if let Some(events) = &self.events {
            events.push(note);
        }
    }

    fn note(&mut self, event: &Event) {
        let note = events::note_of(event, |node| status::name(&self.config, node));
        let note = self.service_note(event, note);
        if note.warning {
            warn!("{}", note.text);
        } else {
            info!("{}", note.text);
        }
        self.log(note);
        if matches!(event, Event::Serving) {
            self.announce();
        }
        if matches!(event, Event::CarrierFound) {
            self.refresh_link();
        }
        if let Event::Operated(intent) = event {
            self.operated(*intent);
        }
        self.heed_removal(event);
    }

    /// Looks for connections off the cluster thread, and off this one.
    fn scan(&self) {
        let Some(cluster) = &self.cluster else { return };
        let (handle, plan) = (cluster.handle(), Arc::clone(&self.plan));
        tokio::task::spawn_blocking(move || {
            let tables = plan.tables.len();
            let live = scan::connections(tables, |local, remote| plan.locate(local, remote)).unwrap_or_else(
                |error| {
                    warn!(%error, "cannot ask the kernel for its connections: nothing counts as empty");
                    vec![BucketSet::FULL; tables]
                },
            );
            handle.tell(Input::Scan(live));
        });
    }

    /// Looks for idle buckets off the cluster thread. No answer means that none is known to be idle.
    fn find_idle(&self) {
        let Some(cluster) = &self.cluster else { return };
        let (handle, plan) = (cluster.handle(), Arc::clone(&self.plan));
        let beneath = self.config.local.beneath().to_owned();
        tokio::task::spawn_blocking(move || {
            let find = || -> Result<Vec<BucketSet>> {
                let idle = Idle::open(&dataplane::pins_of(&beneath)?)?;
                Ok(idle.find(plan.tables.iter().map(|table| &table.spread))?)
            };
            match find() {
                Ok(idle) => handle.tell(Input::Idle(idle)),
                Err(error) => warn!("cannot tell which buckets are idle: {error:#}"),
            }
        });
    }

    /// Lets the others take the share, then lets connections in flight end.
    async fn hand_over(&mut self, outputs: &mut UnboundedReceiver<Output>) {
        info!("stopping: handing this node's share over");
        self.log(Note::new("agent-stopping", false, "the agent stops: it hands this node's share over"));
        self.tell(Input::Order(Order::Stop));
        let handed_over = async {
            while !self.handed_over
                && let Some(output) = outputs.recv().await
            {
                self.handle_output(output);
            }
        };
        if tokio::time::timeout(HAND_OVER, handed_over).await.is_err() {
            warn!("the others have not taken all of this node's share in {HAND_OVER:?}");
        }
        let until = Time::now() + self.config.cluster.drain_timeout;
        if let Some(proxy) = self.proxy.take() {
            let killer = proxy.killer();
            let mut stop = std::pin::pin!(proxy.stop());
            loop {
                tokio::select! {
                    () = &mut stop => break,
                    // The cluster thread still wants its scans while connections end.
                    Some(output) = outputs.recv() => self.handle_output(output),
                    () = self.signals.stop() => {
                        warn!("not waiting for connections in flight");
                        killer.kill();
                        return;
                    }
                }
            }
        }
        self.outlast_connections(until, outputs).await;
    }

    /// Waits until other services, too, have no connection to a cluster IP: without the XDP program another node would answer what
    /// their clients send, with a reset.
    async fn outlast_connections(&mut self, until: Time, outputs: &mut UnboundedReceiver<Output>) {
        const EVERY: Duration = Duration::from_millis(100);
        let mut closing_until = None;
        while Time::now() < until {
            match open_connections(&self.plan) {
                Ok(Open { established: 0, closing: 0 }) => return,
                Ok(Open { established: 0, closing: _ }) => {
                    let end = *closing_until.get_or_insert(Time::now() + LAST_WORDS);
                    if Time::now() >= end {
                        return;
                    }
                }
                Ok(_) => closing_until = None,
                Err(error) => {
                    warn!(%error, "cannot ask the kernel for its connections: not waiting for any");
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                Some(output) = outputs.recv() => self.handle_output(output),
                () = self.signals.stop() => {
                    warn!("not waiting for connections of other services");
                    return;
                }
            }
        }
        warn!("connections of other services are still open: they end now");
    }

    /// Undoes whatever was brought up, in the reverse order; goes on after an error and gives the first.
    async fn take_down(&mut self) -> Result<()> {
        if let Some(control) = self.control.take() {
            control.abort();
            let _ = control.await;
        }
        if let Some(responder) = self.responder.take() {
            responder.abort();
            let _ = responder.await;
        }
        self.sockets = None;
        if let Some(peering) = self.peering.take() {
            peering.stop().await;
        }
        if let Some(proxy) = self.proxy.take() {
            proxy.killer().kill();
            proxy.stop().await;
        }
        if let Some(cluster) = self.cluster.take() {
            let left = tokio::task::spawn_blocking(move || cluster.leave());
            left.await.context("the cluster thread could not be waited for")?;
        }
        let link = match std::mem::take(&mut self.link) {
            true => link::teardown(&self.config.local.run_dir).context("could not undo the host's settings"),
            false => Ok(()),
        };
        let dataplane = match self.dataplane.take() {
            Some(dataplane) => dataplane.detach().context("could not detach the XDP program"),
            None => Ok(()),
        };
        if let Some(serving) = self.serving.take() {
            serving.settled().await;
        }
        self.close_events().await?;
        link.and(dataplane)
    }
}

fn gateway(config: &Config, nic: &Interface) -> Option<Gateway> {
    Some(match config.cluster.gateway.or(nic.gateway)? {
        IpAddr::V4(address) => Gateway::V4(address),
        IpAddr::V6(address) => Gateway::V6 { address, own: nic.asks_from()? },
    })
}

/// How much sooner the lease has to end than others suspect this node: clocks of sound hosts differ by far less than a
/// hundredth, two of them leave as much again; and where the data path goes by the kernel's tick, it may see one too few.
fn lease_margin(timing: &Timing) -> Duration {
    let tick = if timing.needs_precise_lease() { Duration::ZERO } else { Time::coarse_tick() };
    tick + timing.suspect() / 50
}

/// The maps, as the cluster thread writes them.
struct Maps {
    tables: OwnerTables,
    lease: Lease,
}

impl DataPath for Maps {
    fn apply(&mut self, tables: &[BucketTable]) -> io::Result<()> {
        self.tables.apply(tables)
    }

    fn renew_lease(&mut self, until: Time) -> io::Result<()> {
        self.lease.renew(until)
    }

    fn end_lease(&mut self) -> io::Result<()> {
        self.lease.end()
    }
}

#[cfg(test)]
mod tests;
