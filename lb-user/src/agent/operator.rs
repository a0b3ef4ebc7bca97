//! What the control socket asks of the agent, answered from snapshots, maps and the kernel's sockets: no request but an operator's
//! wish waits for the cluster thread, and none can delay it.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use lb_common::table::{Bucket, BucketState};
use lb_common::verdict::LocalSocket;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};

use super::certificates::{self, Certificates};
use super::events::EventLog;
use super::reload::{BUSY, Reloader};
use super::servers::Servers;
use super::shared::{StoreTold, Told};
use super::status::{Facts, status};
use super::upgrade::{Candidate, Upgrade};
use super::{capture, connections, explain, metrics, orders, peering};
use crate::clock::Time;
use crate::cluster::driver::Handle;
use crate::cluster::scan;
use crate::config::model::Config;
use crate::config::told;
use crate::control::api::{
    Action, Answer, Asked, ConfigurationStatus, Configure, InterfaceStatus, Nodes, Packet, Protocol,
    ProxyStatus, Request, ServiceStatus, Status, StoreStatus, UpgradeStatus,
};
use crate::control::server::{Lines, Reply};
use crate::dataplane::capture::Captures;
use crate::dataplane::{Counters, InForce, Plan};
use crate::proxy;
use crate::proxy::number::NoNumber;
use crate::proxy::served::policies;
use crate::proxy::supervisor::question;
use crate::shared::origin::Origin;

/// What answers need.
pub(super) struct Shared {
    /// Which has the configuration in force.
    pub(super) reloader: Arc<Reloader>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) plan: Arc<Plan>,
    pub(super) cluster: Handle,
    pub(super) counters: Counters,
    pub(super) in_force: InForce,
    pub(super) captures: Captures,
    pub(super) interface: InterfaceStatus,
    pub(super) proxy: Option<watch::Receiver<ProxyStatus>>,
    pub(super) events: Arc<EventLog>,
    /// By owner table, how this node's services are.
    pub(super) services: watch::Receiver<Vec<Option<ServiceStatus>>>,
    /// How many connections this host has.
    pub(super) connections: watch::Receiver<u32>,
    /// Who waits for what other nodes, or this one, say to an operator's wish.
    pub(super) answers: Arc<orders::Answers>,
    /// By which servers' states are changed.
    pub(super) servers: Servers,
    /// Held while connections are listed: whoever may only look cannot keep the kernel busy more than once at a time.
    pub(super) listing: Arc<Mutex<()>>,
    /// A place for each client that follows the events.
    pub(super) followers: Arc<Semaphore>,
    pub(super) upgrading: Upgrading,
    /// The configuration that the nodes share; `None`: each has it in a file.
    pub(super) shared: Option<Arc<peering::Shared>>,
}

const NOT_SHARED: &str = "this node has its configuration in a file, which operators copy; hint: change the file and `rollcall reload`, \
                          or have the nodes share it: `rollcall init`";

/// What an upgrade in place needs.
pub(super) struct Upgrading {
    pub(super) files: Origin,
    /// The file that this program came from.
    pub(super) program: PathBuf,
    /// The upgrade that this program came by.
    pub(super) latest: Option<UpgradeStatus>,
    /// Where upgrades that are possible go.
    pub(super) agent: mpsc::Sender<Upgrade>,
    /// Held while one is under way, or a configuration is being applied.
    pub(super) turn: Arc<Mutex<()>>,
}

/// How many answers of a capture may wait for a client that reads slowly; further samples are skipped and counted.
const LINES: usize = 1024;

/// How many clients may follow the events: fewer than a socket serves, so that they keep nobody else out.
pub(super) const FOLLOWERS: usize = 8;

impl Shared {
    /// The answer to a request whose sender may make it.
    pub(super) async fn answer(self: Arc<Self>, request: Request) -> Reply {
        match request {
            Request::Status => self.status().into(),
            Request::Operate { action, nodes, rule } => {
                self.operate(&action, &nodes, rule.as_deref()).await.into()
            }
            Request::SetServer { farm, server, state } => {
                self.servers.set(&farm, &server, state).await.into()
            }
            Request::Upgrade { binary } => Reply::Many(self.upgrade(binary)),
            Request::Configuration(asked) => Reply::Many(self.configure(asked)),
            Request::Certificates => {
                let config = self.config();
                let listed = tokio::task::spawn_blocking(move || certificates::list(&config));
                let failed = |error| Answer::Error { text: format!("the list was not finished: {error}") };
                let told = |certificates| Answer::Certificates { certificates };
                listed.await.map_or_else(failed, told).into()
            }
            Request::Reload { replace_worker } => Reply::Many(self.reload(replace_worker)),
            Request::Explain(packet) => self.explain(&packet).into(),
            Request::ExplainRequest(asked) => {
                // Rules are compiled.
                let explained = tokio::task::spawn_blocking(move || self.explain_request(&asked));
                let failed = |error| Answer::Error { text: format!("the explanation failed: {error}") };
                explained.await.unwrap_or_else(failed).into()
            }
            Request::Connections { bucket, node, limit } => {
                let turn = Arc::clone(&self.listing).lock_owned().await;
                let listed = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    self.connections(bucket, node.as_deref(), limit)
                });
                let failed = |error| Answer::Error { text: format!("the list was not finished: {error}") };
                listed.await.unwrap_or_else(failed).into()
            }
            Request::Capture { reasons, every, count, seconds } => {
                match capture::Wanted::read(&reasons, every, count, seconds) {
                    Ok(wanted) => Reply::Many(self.capture(wanted)),
                    Err(text) => Answer::Error { text }.into(),
                }
            }
            Request::Metrics => self.metrics().await.into(),
            Request::Recall { id } => self.recall(&id).await.into(),
            Request::Events { follow: false } => Answer::Events { records: self.events.records() }.into(),
            Request::Events { follow: true } => self.follow_events(),
        }
    }

    fn status(&self) -> Answer {
        let tally = match self.counters.tally() {
            Ok(tally) => tally,
            Err(error) => {
                return Answer::Error { text: format!("cannot read the counters: {error}") };
            }
        };
        let snapshot = self.cluster.snapshot();
        let config = self.config();
        let facts = Facts {
            config: &config,
            plan: &self.plan,
            snapshot: &snapshot,
            interface: self.interface.clone(),
            tally,
            proxy: self.proxy.as_ref().map(|proxy| proxy.borrow().clone()),
            services: &self.services.borrow(),
            connections: *self.connections.borrow(),
            certificates: self.certificates.ending(),
            events: self.events.sentences(),
            now: Time::now(),
            pid: std::process::id(),
        };
        let upgrade = self.upgrading.latest.clone();
        let configuration = self.configuration();
        Answer::Status(Box::new(Status { upgrade, configuration, ..status(facts) }))
    }

    fn configuration(&self) -> ConfigurationStatus {
        let at_work = self.reloader.status();
        let Some(shared) = &self.shared else { return at_work };
        let Told { generation, generations: _, confirm_by, objection, store } =
            shared.told().borrow().clone();
        let store = store.map(|StoreTold { since, why }| StoreStatus { kind: "etcd".to_owned(), since, why });
        ConfigurationStatus { generation: Some(generation), confirm_by, objection, store, ..at_work }
    }

    fn config(&self) -> Arc<Config> {
        self.reloader.in_force()
    }

    /// Has the configuration read again, in a task of its own: a proxy may take longer than a connection lives.
    fn reload(&self, replace_worker: bool) -> Lines {
        let (sender, answers) = mpsc::channel(1);
        let reloader = Arc::clone(&self.reloader);
        tokio::spawn(async move {
            let answer = match reloader.reload(replace_worker).await {
                Ok(reloaded) => Answer::Reloaded(reloaded),
                Err(refusal) if refusal.is_configuration() => Answer::Invalid { text: told(&refusal) },
                Err(refusal) => Answer::Error { text: told(&refusal) },
            };
            // Nobody may be left to tell.
            drop(sender.send(answer).await);
        });
        Lines { answers, enough: watch::Sender::new(false) }
    }

    /// Answers in a task of its own: other nodes may be asked, and a proxy may take its time.
    fn configure(self: Arc<Self>, asked: Configure) -> Lines {
        let (sender, answers) = mpsc::channel(1);
        tokio::spawn(async move {
            let answer = match &self.shared {
                Some(shared) => shared.answer(asked).await,
                None => Answer::Error { text: NOT_SHARED.to_owned() },
            };
            // Nobody may be left to tell.
            drop(sender.send(answer).await);
        });
        Lines { answers, enough: watch::Sender::new(false) }
    }

    /// What the packet path counts, and before it what the proxy does, if there is one.
    async fn metrics(&self) -> Answer {
        let tally = match self.counters.tally() {
            Ok(tally) => tally,
            Err(error) => return Answer::Error { text: format!("cannot read the counters: {error}") },
        };
        let proxy = match &self.proxy {
            Some(_) => question::metrics(&self.config().local.run_dir).await.map(Some),
            None => Ok(None),
        };
        match proxy {
            Ok(proxy) => Answer::Metrics { text: metrics::text(proxy.as_deref(), &tally.totals()) },
            Err(error) => Answer::Error { text: error.to_string() },
        }
    }

    async fn recall(&self, id: &str) -> Answer {
        let id = match id.parse() {
            Ok(id) => id,
            Err(error) => return Answer::Error { text: NoNumber::to_string(&error) },
        };
        match question::request(&self.config().local.run_dir, id).await {
            Ok(recalled) => Answer::Recalled { request: recalled.map(Box::new) },
            Err(error) => Answer::Error { text: error.to_string() },
        }
    }

    /// Begins an upgrade. An answer comes only if there will be none.
    fn upgrade(self: Arc<Self>, binary: Option<PathBuf>) -> Lines {
        let (sender, answers) = mpsc::channel(1);
        tokio::spawn(async move {
            let text = self.try_upgrade(binary).await;
            // Nobody may be left to tell.
            let _ = sender.send(Answer::Error { text }).await;
        });
        Lines { answers, enough: watch::Sender::new(false) }
    }

    /// Returns why not.
    async fn try_upgrade(&self, binary: Option<PathBuf>) -> String {
        let Upgrading { files, program, agent, turn, .. } = &self.upgrading;
        let Ok(_turn) = turn.try_lock() else {
            return BUSY.to_owned();
        };
        if self.captures.is_running() {
            return "a capture is running on this node; hint: end it first".to_owned();
        }
        let path = binary.as_deref().unwrap_or(program);
        let candidate = match Candidate::examine(path, files, &self.config(), &self.reloader.secret()).await {
            Ok(candidate) => candidate,
            Err(refusal) => return refusal.to_string(),
        };
        let (refused, why) = oneshot::channel();
        // Where the agent ends, so does this.
        if agent.send(Upgrade { candidate, refused }).await.is_err() {
            return "the agent is stopping".to_owned();
        }
        why.await.unwrap_or_else(|_| "the agent is stopping".to_owned())
    }

    fn explain(&self, packet: &Packet) -> Answer {
        if let Some(text) = explain::objection(packet) {
            return Answer::Error { text };
        }
        match self.try_explain(packet) {
            Ok(explanation) => Answer::Explanation(Box::new(explanation)),
            Err(error) => Answer::Error { text: format!("cannot ask the kernel: {error}") },
        }
    }

    fn explain_request(&self, asked: &Asked) -> Answer {
        let failed = |error: anyhow::Error| Answer::Error { text: format!("{error:#}") };
        let snapshot = match self.reloader.served() {
            Ok(snapshot) => snapshot,
            Err(error) => return failed(error.into()),
        };
        let policies = match policies(&snapshot) {
            Ok(policies) => policies,
            Err(error) => return failed(error.into()),
        };
        let proxy = self.proxy.as_ref().map(|proxy| proxy.borrow().clone());
        match proxy::explain::explain(asked, &snapshot, &policies, proxy.as_ref()) {
            Ok(explanation) => Answer::RequestExplanation(Box::new(explanation)),
            Err(text) => Answer::Error { text },
        }
    }

    fn try_explain(&self, packet: &Packet) -> io::Result<crate::control::api::Explanation> {
        let socket = match packet.protocol {
            Protocol::Tcp => scan::socket_of(packet.destination, packet.source)?,
            Protocol::Udp | Protocol::Icmp => LocalSocket::None,
        };
        let failed = RefCell::new(None);
        let state = |table: u8, bucket: Bucket| match self.in_force.bucket_state(table, bucket) {
            Ok(state) => state,
            Err(error) => {
                failed.replace(Some(error));
                BucketState::Other
            }
        };
        let config = self.config();
        let known = explain::Known {
            config: &config,
            plan: &self.plan,
            snapshot: &self.cluster.snapshot(),
            state: &state,
            lease: self.in_force.lease_lives(Time::now())?,
            socket,
        };
        let explanation = explain::explain(packet, &known);
        failed.into_inner().map_or(Ok(explanation), Err)
    }

    fn connections(&self, bucket: Option<u16>, node: Option<&str>, limit: usize) -> Answer {
        let config = self.config();
        let node = match node.map(|node| orders::node(&config, node)).transpose() {
            Ok(node) => node,
            Err(text) => return Answer::Error { text },
        };
        let bucket = match bucket.map(|number| Bucket::new(number).ok_or(number)).transpose() {
            Ok(bucket) => bucket,
            Err(number) => {
                return Answer::Error { text: format!("there is no bucket {number}; they are 0 to 4095") };
            }
        };
        let wanted = connections::Wanted { bucket, node, limit };
        match connections::list(&config, &self.plan, &self.cluster.snapshot(), wanted) {
            Ok(found) => Answer::Connections(found),
            Err(error) => {
                Answer::Error { text: format!("cannot ask the kernel for its connections: {error}") }
            }
        }
    }

    /// Begins a capture, on a thread of its own.
    fn capture(&self, wanted: capture::Wanted) -> Lines {
        let (sender, answers) = mpsc::channel(LINES);
        let (enough, told) = watch::channel(false);
        let rules = self.config().cluster.rules.iter().map(ToString::to_string).collect();
        let to = capture::Destination { answers: sender, enough: told, rules };
        let (captures, counters) = (self.captures.clone(), self.counters.clone());
        tokio::task::spawn_blocking(move || capture::run(&captures, &counters, &wanted, &to));
        Lines { answers, enough }
    }

    /// Sends events as they come, in a task of its own.
    fn follow_events(&self) -> Reply {
        let Ok(place) = Arc::clone(&self.followers).try_acquire_owned() else {
            let text = format!(
                "{FOLLOWERS} others follow the events; hint: ask without --follow, or end one of them"
            );
            return Answer::Error { text }.into();
        };
        let (sender, answers) = mpsc::channel(1);
        let (enough, told) = watch::channel(false);
        let events = Arc::clone(&self.events);
        tokio::spawn(async move {
            let _place = place;
            events.follow(&sender, told).await;
        });
        Reply::Many(Lines { answers, enough })
    }

    async fn operate(&self, action: &Action, nodes: &Nodes, rule: Option<&str>) -> Answer {
        let config = self.config();
        if config.cluster.observe {
            return Answer::Error { text: "this node only observes: it has no share".to_owned() };
        }
        match orders::Order::read(action, nodes, rule, &config, &self.cluster.snapshot()) {
            Ok(order) => {
                let nodes = order.carry_out(&self.cluster, &self.answers, &config).await;
                Answer::Operated { nodes }
            }
            Err(text) => Answer::Error { text },
        }
    }
}
