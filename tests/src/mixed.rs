//! A scenario with clients of every kind: TCP calls, questions by UDP and echo requests, over IPv4 and, where the plan has it,
//! IPv6, all the time, while nodes come and go; and a watch over all that is answered and over the switch. A test adds the
//! faults.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use lb_user::clock::Time;

use crate::asker::{self, Asker, Question};
use crate::caller::{Call, Caller, Callers};
use crate::capture::{Capture, Flow, Flows, Gone, Kind};
use crate::lab::Plan;
use crate::node::Cluster;
use crate::pinger::{self, Ping, Pinger};
use crate::report::line;
use crate::responder::{PORT, Responder};
use crate::watch::{Found, Watch};

/// The small service's port rule, for TCP and UDP.
pub const RULE: &str = "[[rule]]\nports = 53\nprotocol = \"both\"\n";

/// The same for TCP alone.
pub const TCP_RULE: &str = "[[rule]]\nports = 53\n";

/// Every kind of client.
pub const EVERY_KIND: &[Kind] = &[Kind::Tcp, Kind::Udp, Kind::Echo];

/// Callers for each cluster IP.
const CALLERS: usize = 4;

/// A scenario under way.
#[derive(Debug)]
pub struct Mixed {
    /// The nodes; faults happen here, but what concerns a node's whole machine happens by [`Mixed::power_off`].
    pub cluster: Cluster,
    /// What is answered.
    pub capture: Capture,
    responders: BTreeMap<String, Responder>,
    callers: Option<Callers>,
    askers: Vec<Asker>,
    pingers: Vec<Pinger>,
    sources: Watch,
    gone: Vec<Gone>,
}

impl Mixed {
    /// A serving cluster and clients of these kinds.
    pub fn start(plan: &Plan, kinds: &[Kind]) -> Result<Self> {
        let mut scenario = Self::prepare(plan)?;
        scenario.admit(kinds, Duration::from_millis(2), usize::MAX)?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(scenario)
    }

    /// A serving cluster with the small service, watched, without clients.
    pub fn prepare(plan: &Plan) -> Result<Self> {
        let cluster = Cluster::start_on(plan)?;
        let mut scenario = Self {
            capture: Capture::start(&cluster.lab)?,
            sources: Watch::for_cluster_mac_sources(&cluster.lab)?,
            cluster,
            responders: BTreeMap::new(),
            callers: None,
            askers: Vec::new(),
            pingers: Vec::new(),
            gone: Vec::new(),
        };
        let names: Vec<_> = scenario.cluster.nodes.iter().map(|node| node.name().to_owned()).collect();
        names.iter().try_for_each(|name| scenario.respond(name))?;
        Ok(scenario)
    }

    /// Lets clients of these kinds in; callers make a pause after each call, and together `most` calls.
    pub fn admit(&mut self, kinds: &[Kind], pause: Duration, most: usize) -> Result<()> {
        let mut callers = Vec::new();
        for ip in self.cluster.lab.cluster_ips() {
            for kind in kinds {
                match kind {
                    Kind::Tcp => callers.extend(self.callers_to(ip)?),
                    Kind::Udp => {
                        self.askers.push(Asker::start(&self.cluster.lab, SocketAddr::new(ip, PORT))?);
                    }
                    Kind::Echo => self.pingers.push(Pinger::start(&self.cluster.lab, ip)?),
                }
            }
        }
        if !callers.is_empty() {
            self.callers = Some(Callers::start(callers, pause, most));
        }
        Ok(())
    }

    /// How many calls have begun.
    pub fn called(&self) -> usize {
        self.callers.as_ref().map_or(0, Callers::begun)
    }

    /// Takes a node's power; what ran on it is gone.
    pub fn power_off(&mut self, name: &str) -> Result<()> {
        let gone = self.cluster.power_off(name)?;
        self.responders.remove(name);
        self.gone.push(gone);
        Ok(())
    }

    /// Gives it its power back, and starts the small service and the agent there.
    pub fn power_on(&mut self, name: &str) -> Result<()> {
        self.cluster.power_on(name)?;
        let mac = self.cluster.node(name).place.mac;
        for gone in self.gone.iter_mut().filter(|gone| gone.mac == mac && gone.until.is_none()) {
            gone.until = Some(Time::now());
        }
        self.respond(name)?;
        self.cluster.node(name).start()
    }

    /// Ends all of it.
    pub fn finish(self) -> Result<MixedOutcome> {
        let mut seen = MixedOutcome { gone: self.gone, ..MixedOutcome::default() };
        if let Some(callers) = self.callers {
            seen.calls = callers.finish()?;
        }
        for asker in self.askers {
            seen.questions.extend(asker.finish()?);
        }
        for pinger in self.pingers {
            seen.pings.extend(pinger.finish()?);
        }
        seen.flows = self.capture.finish()?;
        seen.sources = self.sources.finish()?;
        drop(self.responders);
        seen.leftovers = self.cluster.tear_down();
        Ok(seen)
    }

    fn respond(&mut self, name: &str) -> Result<()> {
        let addresses = self.cluster.lab.cluster_ips();
        let namespace = self.cluster.node(name).place.namespace.clone();
        let responder = Responder::start(&namespace, name, &addresses, PORT)?;
        self.responders.insert(name.to_owned(), responder);
        Ok(())
    }

    fn callers_to(&self, ip: IpAddr) -> Result<Vec<Caller>> {
        let target = SocketAddr::new(ip, PORT);
        (0..CALLERS).map(|_| Caller::new(&self.cluster.lab, target)).collect()
    }
}

/// What was seen. The `assert_` functions panic with what they found.
#[derive(Debug, Default)]
pub struct MixedOutcome {
    /// TCP.
    pub calls: Vec<Call>,
    /// UDP.
    pub questions: Vec<Question>,
    /// Echo.
    pub pings: Vec<Ping>,
    /// What the nodes answered.
    pub flows: Flows,
    /// Frames with a cluster MAC as their source.
    pub sources: Found,
    gone: Vec<Gone>,
    leftovers: Vec<String>,
}

impl MixedOutcome {
    /// Nothing was answered by two nodes, or twice; no frame taught the switch where the cluster MAC is; no call was lost but
    /// with its node; the lab is gone without a trace.
    pub fn assert_sound(&self) {
        line(format!(
            "{} calls, {} questions, {} echo requests; {} flows answered",
            self.calls.len(),
            self.questions.len(),
            self.pings.len(),
            self.flows.len()
        ));
        assert_none("flows were answered by two nodes", &self.flows.answered_twice(&self.gone));
        assert_none("questions were answered again", &self.flows.answered_again());
        let again = self.questions.iter().filter(|question| question.answers.len() > 1);
        assert_none("questions got more than one answer", &again.collect::<Vec<_>>());
        let again = self.pings.iter().filter(|ping| ping.replies > 1);
        assert_none("echo requests got more than one reply", &again.collect::<Vec<_>>());
        assert_none("frames came from a cluster MAC, of which the first", &self.sources.first);
        assert_none("calls were lost on living nodes", &self.lost_calls());
        assert_eq!(self.leftovers, Vec::<String>::new(), "left behind by the lab");
    }

    /// Everything that was asked in that time was answered, and there was something of each of these kinds, over each of
    /// `families` families of addresses.
    pub fn assert_served(&self, kinds: &[Kind], families: usize, from: Time, to: Time) {
        let within = |at: Time, patience: Duration| at >= from && at + patience < to;
        for kind in kinds {
            let (asked, unanswered): (Vec<IpAddr>, Vec<String>) = match kind {
                Kind::Tcp => {
                    let calls = self.calls.iter().filter(|call| within(call.begun, Duration::ZERO));
                    let failed = calls.clone().filter(|call| call.answer.is_err());
                    (calls.clone().map(|call| call.client.ip()).collect(), failed.map(debug).collect())
                }
                Kind::Udp => {
                    let asked =
                        self.questions.iter().filter(|question| within(question.asked, asker::PATIENCE));
                    let failed = asked.clone().filter(|question| question.answers.len() != 1);
                    (
                        asked.clone().map(|question| question.client.ip()).collect(),
                        failed.map(debug).collect(),
                    )
                }
                Kind::Echo => {
                    let sent = self.pings.iter().filter(|ping| within(ping.sent, pinger::PATIENCE));
                    let failed = sent.clone().filter(|ping| ping.replies != 1);
                    (sent.clone().map(|ping| ping.client).collect(), failed.map(debug).collect())
                }
            };
            assert_none(&format!("{kind:?} was not answered just once"), &unanswered);
            for v6 in [false, true].into_iter().take(families) {
                let count = asked.iter().filter(|ip| ip.is_ipv6() == v6).count();
                assert!(count > 20, "only {count} by {kind:?}, IPv6: {v6}");
            }
        }
    }

    /// Calls that failed though the node that had answered them was not taken away, or that nobody had answered at all.
    fn lost_calls(&self) -> Vec<&Call> {
        let excused = |call: &Call| {
            let flow = Flow { kind: Kind::Tcp, client: call.client, port: PORT };
            let died = |mac: [u8; 6]| {
                let during = |gone: &&Gone| gone.mac == mac && gone.from < call.ended;
                self.gone
                    .iter()
                    .any(|gone| during(&gone) && gone.until.is_none_or(|until| call.begun < until))
            };
            self.flows.answered_by(flow).is_some_and(died)
        };
        self.calls.iter().filter(|call| call.answer.is_err() && !excused(call)).collect()
    }
}

fn debug(what: impl std::fmt::Debug) -> String {
    format!("{what:?}")
}

fn assert_none(what: &str, found: &[impl std::fmt::Debug]) {
    let first = &found[..found.len().min(5)];
    assert!(found.is_empty(), "{} {what}: {first:#?}", found.len());
}
