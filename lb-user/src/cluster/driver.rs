//! The cluster thread: a short loop that hands what arrives to the core (`node.rs`) and carries its commands out. Neither
//! TLS nor HTTP nor disk can delay it, because nothing of them runs here.

mod arrivals;
mod calm;
mod passage;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use lb_common::table::BucketTable;
use rustix::event::{EventfdFlags, eventfd};
use rustix::mm::{MlockAllFlags, mlockall};
use thiserror::Error;
use tokio::sync::mpsc::UnboundedSender;

use self::arrivals::{Clocks, Rate};
use self::calm::{Calm, is_routine};
use self::passage::Suspension;
use super::link::Link;
use super::node::{Command, Event, Node, Order, Settings, Snapshot, Unsent};
use super::operate::{Denied, Mandate, Wish};
use super::peer::Path;
use super::sets::BucketSet;
use super::transport::{Inbox, Network, Transport, Wanted};
use super::wire::{Generations, MAX_KNOWN, Message, Traffic};
use crate::clock::Time;
use crate::config::model::Priority;
use crate::config::secret::ClusterSecret;
use crate::sys::run_in_real_time;

/// What the cluster thread does to the data path.
pub trait DataPath: Send {
    /// Writes these owner tables and makes them active, all at once.
    fn apply(&mut self, tables: &[BucketTable]) -> io::Result<()>;
    /// Lets the lease end at `until`.
    fn renew_lease(&mut self, until: Time) -> io::Result<()>;
    /// Ends the lease now.
    fn end_lease(&mut self) -> io::Result<()>;
}

/// What the agent tells the cluster thread.
#[derive(Debug)]
pub enum Input {
    /// What the agent wants for its own end.
    Order(Order),
    /// What an operator wants of a node; answered by `Output::Wished`.
    Wish {
        /// Random, to know the answer by.
        id: u32,
        /// This node or another.
        to: Priority,
        /// What.
        wish: Wish,
    },
    /// By owner table, whether the service behind its rules works on this node.
    Ready(Vec<bool>),
    /// The answer to `Output::Scan`.
    Scan(Vec<BucketSet>),
    /// The answer to `Output::FindIdle`: per owner table the buckets that have been idle for at least its timeout. Tables
    /// that are not sticky do not count; what is not known is not idle.
    Idle(Vec<BucketSet>),
    /// When each peer's hearing test last arrived at this node's data path; once a second. Never: hearing is not judged.
    Heard(BTreeMap<Priority, Time>),
    /// What this node's data path has passed; as often as the others should know.
    Traffic(Traffic),
    /// What this node has of the configuration that the nodes share, whenever that changes.
    Generations(Generations),
    /// Cluster facts that were checked: the node is to be able to switch to them, and then to speak with these peers under this secret.
    Prepare(Box<Settings>, Box<Network>, ClusterSecret),
    /// Other nodes may come to seal with this secret, which this one takes up only at its next start.
    Expect(ClusterSecret),
    /// What was prepared is not to come into force.
    Withdraw,
    /// The cluster is to switch to the prepared facts with this digest.
    Switch(u64),
    /// Stop after one more round of heartbeats, and give all that is to go on later (`Handle::suspend`).
    Suspend(Sender<io::Result<Vec<u8>>>),
}

/// What the cluster thread tells the agent.
#[derive(Debug)]
pub enum Output {
    /// For the operator.
    Event(Event),
    /// Find the buckets in which this host has connections.
    Scan,
    /// Find the buckets of sticky tables that are idle.
    FindIdle,
    /// Keep what operators want of this node, for its next start.
    Keep(Mandate),
    /// The answer to `Input::Wish`.
    Wished {
        /// To which.
        id: u32,
        /// Why it was not done, if it was not.
        denied: Option<Denied>,
    },
    /// An operator wants this agent to end in good order and to start anew.
    Restart,
    /// The prepared facts with this digest are in force.
    Switched(u64),
    /// `Order::Prepare` is done.
    Prepared,
    /// Nobody needs this node for new connections any more.
    HandedOver,
    /// The thread cannot go on; the lease ends by itself.
    Failed(io::Error),
}

/// The agent's end of the cluster thread.
#[derive(Debug)]
pub struct Cluster {
    handle: Handle,
    thread: JoinHandle<()>,
    /// Why the thread has no real-time priority, if it has none.
    pub ordinary_priority: Option<String>,
}

/// A way to tell the cluster thread something and to see how the node stands.
#[derive(Clone, Debug)]
pub struct Handle {
    inputs: Sender<Input>,
    wake: Arc<OwnedFd>,
    snapshot: Arc<ArcSwap<Snapshot>>,
}

/// Why there is no cluster thread. Nothing was changed.
#[derive(Debug, Error)]
pub enum StartError {
    /// A socket could not be opened.
    #[error("cannot open the sockets for heartbeats at {address}")]
    Sockets {
        /// This node's own address and port.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot start the cluster thread")]
    System(#[from] io::Error),
}

struct Driver<D> {
    node: Node,
    link: Link,
    transport: Transport,
    data_path: D,
    inputs: Receiver<Input>,
    outputs: UnboundedSender<Output>,
    wake: Arc<OwnedFd>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    published: Time,
    /// When every queue was last seen empty.
    drained: Time,
    calm: Calm,
    /// How many datagrams of strangers may be looked at.
    strangers: Rate,
    /// How many strangers may be answered.
    refusals: Rate,
    /// The first heartbeat of this round that was not sent.
    unsent: Option<Unsent>,
    /// Network and cluster secret of each of the facts that the node knows, by their digest, the latest first.
    prepared: Vec<(u64, Network, ClusterSecret)>,
    /// When to end, once the node has left.
    end: Option<Time>,
    /// The thread is to stop without leaving.
    suspension: Option<Suspension>,
}

impl Cluster {
    /// Starts the thread; `carrier`: whether the cluster NIC has one now.
    pub fn start<D: DataPath + 'static>(
        settings: Settings,
        network: Network,
        secret: ClusterSecret,
        data_path: D,
        carrier: bool,
        outputs: UnboundedSender<Output>,
    ) -> Result<Self, StartError> {
        let transport = open(network)?;
        let mut session = [0; 16];
        rand::fill(&mut session).map_err(io::Error::other)?;
        let now = Time::now();
        let link = Link::new(settings.me, settings.peers.iter().copied(), secret, session);
        let mut node = Node::new(settings, now);
        node.handle_carrier(carrier, now);
        Self::launch(node, link, transport, data_path, outputs)
    }

    fn launch<D: DataPath + 'static>(
        node: Node,
        link: Link,
        transport: Transport,
        data_path: D,
        outputs: UnboundedSender<Output>,
    ) -> Result<Self, StartError> {
        let now = Time::now();
        let wake =
            Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from)?);
        let snapshot = Arc::new(ArcSwap::from_pointee(node.snapshot(now)));
        let (sender, inputs) = channel();
        let (priority, told) = channel();
        transport.watch(wake.as_fd())?;
        let driver = Driver {
            node,
            link,
            transport,
            data_path,
            inputs,
            outputs,
            wake: Arc::clone(&wake),
            snapshot: Arc::clone(&snapshot),
            published: now,
            drained: now,
            calm: Calm::new(now),
            strangers: Rate::per_second(32, now),
            refusals: Rate::per_second(8, now),
            unsent: None,
            prepared: Vec::new(),
            end: None,
            suspension: None,
        };
        let thread = std::thread::Builder::new().name("cluster".to_owned()).spawn(move || {
            // The receiver waits for exactly this message.
            let _ = priority.send(take_precedence().err().map(|error| error.to_string()));
            driver.run();
        })?;
        let ordinary_priority = told.recv().unwrap_or_default();
        Ok(Self { handle: Handle { inputs: sender, wake, snapshot }, thread, ordinary_priority })
    }

    /// A handle that outlives no thread, but does no harm after it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Leaves the cluster and waits for the thread's end.
    pub fn leave(self) {
        self.handle.tell(Input::Order(Order::Leave));
        // A thread that panicked has ended, too; its lease ends by itself.
        let _ = self.thread.join();
    }
}

fn open(network: Network) -> Result<Transport, StartError> {
    let address = format!("{}:{}", network.own.0, crate::config::model::HEARTBEAT_PORT);
    Transport::open(network).map_err(|source| StartError::Sockets { address, source })
}

impl Handle {
    /// Tells the thread something. Nothing happens if it has ended.
    pub fn tell(&self, input: Input) {
        if self.inputs.send(input).is_ok() {
            // A full counter wakes the thread as well.
            let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        }
    }

    /// How the node stands, at most 100 ms old.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

/// No ordinary load, and no page fault, delays a heartbeat.
fn take_precedence() -> io::Result<()> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?;
    run_in_real_time(20)
}

impl<D: DataPath> Driver<D> {
    fn run(mut self) {
        let mut inbox = Inbox::default();
        loop {
            match self.turn(&mut inbox) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // The agent ends with its receiver; there is nobody else to tell.
                    let _ = self.outputs.send(Output::Failed(error));
                    return;
                }
            }
        }
    }

    /// One turn: wait, read, act. The whole queue is read before anyone is judged, so that an agent that was itself paused does not
    /// take its own pause for the others' death.
    fn turn(&mut self, inbox: &mut Inbox) -> io::Result<bool> {
        let began = Time::now();
        let strangers = self.strangers.is_left(began);
        let next_look = self.calm.next_look(began);
        let timeout = next_look.into_iter().fold(self.node.poll_timeout(), Time::min).since(began);
        let woken = self.transport.wait(timeout, Wanted { nodes: next_look.is_none(), strangers })?;
        let clocks = Clocks::read();
        let now = clocks.now;
        self.link.handle_timeout(now);
        let all = self.receive(inbox, clocks)?;
        if woken {
            self.take_inputs(now)?;
        }
        if self.node.poll_timeout() <= now || next_look.is_some_and(|look| look <= now) {
            if self.look_again(inbox, strangers, clocks)? && all {
                self.drained = now;
            }
            if self.node.poll_timeout() <= now {
                self.node.handle_timeout(now);
                self.carry_out()?;
            }
        }
        if now.since(self.published) >= Duration::from_millis(100) {
            self.publish(now);
        }
        Ok(!self.suspend() && self.end.is_none_or(|end| now < end))
    }

    /// Reads every queue once more, after the clock was read: whatever had arrived by then is read before anyone is judged by it. False if
    /// there is more.
    fn look_again(&mut self, inbox: &mut Inbox, strangers: bool, clocks: Clocks) -> io::Result<bool> {
        let woken = self.transport.wait(Duration::ZERO, Wanted { nodes: true, strangers })?;
        let all = self.receive(inbox, clocks)?;
        self.calm.look(clocks.now);
        if woken {
            self.take_inputs(clocks.now)?;
        }
        Ok(all)
    }

    fn take_inputs(&mut self, now: Time) -> io::Result<()> {
        // The counter only wakes; what there is to do is in the channel.
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        while let Ok(input) = self.inputs.try_recv() {
            if !matches!(input, Input::Heard(_) | Input::Traffic(_)) {
                self.calm.stir(now);
            }
            match input {
                Input::Order(order) => {
                    self.node.handle_order(order, now);
                    if order == Order::Leave {
                        // Time for three rounds of farewells.
                        self.end = Some(now + Duration::from_millis(50));
                    }
                }
                Input::Wish { id, to, wish } => self.node.handle_wish(id, to, wish, now),
                Input::Ready(ready) => self.node.handle_ready(&ready, now),
                Input::Scan(live) => self.node.handle_scan(&live, now),
                Input::Idle(idle) => self.node.handle_idle(&idle, now),
                Input::Heard(heard) => self.node.handle_heard(heard, now),
                Input::Traffic(traffic) => self.node.handle_traffic(traffic, now),
                Input::Generations(generations) => self.node.handle_generations(generations, now),
                Input::Prepare(settings, network, secret) => {
                    self.prepare(*settings, *network, secret, now)?
                }
                Input::Expect(secret) => self.link.expect(secret),
                Input::Withdraw => self.node.handle_withdraw(now),
                Input::Switch(facts) => drop(self.node.handle_switch(facts, now)),
                Input::Suspend(saved) => self.begin_to_suspend(saved, now),
            }
            self.carry_out()?;
        }
        Ok(())
    }

    /// Does what the core wants, in its order: datagrams leave together, but before anything that was wanted after them is done.
    fn carry_out(&mut self) -> io::Result<()> {
        while let Some(command) = self.node.next_command() {
            if !matches!(command, Command::Send { .. }) {
                self.send();
            }
            if !is_routine(&command) {
                self.calm.stir(Time::now());
            }
            match command {
                Command::Apply(tables) => {
                    self.data_path.apply(&tables)?;
                    self.publish(Time::now());
                }
                Command::Send { to, message } => self.add(to, &message),
                Command::EndRound { lease } => self.end_round(lease)?,
                Command::EndLease => self.data_path.end_lease()?,
                // An unanswered probe and one that could not be sent mean the same: we cannot tell.
                Command::Ask { node, probe } => drop(self.transport.ask(node, probe)),
                Command::AskGateway => drop(self.transport.ask_gateway()),
                Command::AskAddresses => drop(self.transport.ask_addresses()),
                Command::Scan => drop(self.outputs.send(Output::Scan)),
                Command::FindIdle => drop(self.outputs.send(Output::FindIdle)),
                Command::Report(event) => drop(self.outputs.send(Output::Event(event))),
                Command::Keep(mandate) => drop(self.outputs.send(Output::Keep(mandate))),
                Command::Wished { id, denied } => drop(self.outputs.send(Output::Wished { id, denied })),
                Command::Restart => drop(self.outputs.send(Output::Restart)),
                Command::Switched(facts) => self.follow(facts, Time::now())?,
                Command::Prepared => drop(self.outputs.send(Output::Prepared)),
                Command::HandedOver => drop(self.outputs.send(Output::HandedOver)),
            }
        }
        self.send();
        Ok(())
    }

    fn prepare(
        &mut self,
        settings: Settings,
        network: Network,
        secret: ClusterSecret,
        now: Time,
    ) -> io::Result<()> {
        let facts = settings.facts;
        if facts == self.node.in_force() {
            self.transport.follow(network)?;
            // The agent refuses what does not fit.
            let _ = self.node.handle_prepare(settings, now);
            return Ok(());
        }
        // Before the node knows: it may switch at once, where others have. And what others seal once this one has said that it is
        // prepared is to be opened.
        self.link.expect(secret.clone());
        self.prepared.retain(|(known, _, _)| *known != facts);
        self.prepared.insert(0, (facts, network, secret));
        self.prepared.truncate(MAX_KNOWN);
        if self.node.handle_prepare(settings, now).is_err() {
            self.prepared.retain(|(known, _, _)| *known != facts);
        }
        Ok(())
    }

    /// Speaks with the peers of the facts in force, under their secret.
    fn follow(&mut self, facts: u64, now: Time) -> io::Result<()> {
        if let Some(place) = self.prepared.iter().position(|(known, _, _)| *known == facts) {
            let (_, network, secret) = self.prepared.remove(place);
            self.link.switch(secret, now);
            let peers: Vec<Priority> = network.peers.keys().copied().collect();
            self.link.set_peers(&peers);
            self.transport.follow(network)?;
        }
        drop(self.outputs.send(Output::Switched(facts)));
        Ok(())
    }

    /// Seals a message for every path.
    fn add(&mut self, to: Priority, message: &Message) {
        let beats = matches!(message, Message::Heartbeat(_));
        if let Message::Heartbeat(heartbeat) = message {
            self.calm.beat(heartbeat);
        }
        for path in Path::ALL {
            if let Some(buffer) = self.transport.add(to, path, beats) {
                self.link.seal_into(to, message, buffer);
            }
        }
        if self.transport.is_full() {
            self.send();
        }
    }

    /// Sends what was sealed. The lease hangs on heartbeats alone.
    fn send(&mut self) {
        if let Some((node, error)) = self.transport.send() {
            self.unsent.get_or_insert(Unsent { node, reason: error.to_string() });
        }
    }

    fn end_round(&mut self, lease: Option<Time>) -> io::Result<()> {
        let unsent = self.unsent.take();
        self.calm.end_round(Time::now());
        if let (Some(until), None) = (lease, &unsent) {
            self.data_path.renew_lease(until)?;
        }
        self.node.handle_round(lease, unsent);
        if let Some(suspension) = &mut self.suspension {
            suspension.beaten = true;
        }
        Ok(())
    }

    fn publish(&mut self, now: Time) {
        self.published = now;
        self.snapshot.store(Arc::new(self.node.snapshot(now)));
    }
}
