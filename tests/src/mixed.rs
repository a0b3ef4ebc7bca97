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

/// Callers for each cluster IP that hang up as soon as they are answered.
const QUICK_CALLERS: usize = 12;

/// Callers for each cluster IP that hold on, so that there are always some in the middle of a call; and for how long.
const SLOW_CALLERS: (usize, Duration) = (12, Duration::from_millis(100));

/// A scenario under way.
#[derive(Debug)]
pub struct Mixed {
    /// The nodes; faults happen here, but what concerns a node's whole machine happens by [`Mixed::power_off`].
    pub cluster: Cluster,
    /// What is answered.
    pub capture: Capture,
    responders: BTreeMap<String, Responder>,
    callers: Vec<Callers>,
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
            callers: Vec::new(),
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
        self.call(callers, pause, most);
        Ok(())
    }

    /// Lets these callers in.
    pub fn call(&mut self, callers: Vec<Caller>, pause: Duration, most: usize) {
        self.callers.push(Callers::start(callers, pause, most));
    }

    /// How many calls have begun.
    pub fn called(&self) -> usize {
        self.callers.iter().map(Callers::begun).sum()
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
        self.respond(name)?;
        self.cluster.node(name).start()
    }

    /// Ends all of it.
    pub fn finish(self) -> Result<MixedOutcome> {
        let mut seen = MixedOutcome { gone: self.gone, ..MixedOutcome::default() };
        for callers in self.callers {
            seen.calls.extend(callers.finish()?);
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
        let caller = || Caller::new(&self.cluster.lab, SocketAddr::new(ip, PORT));
        let (count, hold) = SLOW_CALLERS;
        let quick = (0..QUICK_CALLERS).map(|_| caller());
        quick.chain((0..count).map(|_| Ok(caller()?.holding(hold)))).collect()
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
    /// with its node; the capture, which says so, missed nothing; the lab is gone without a trace.
    pub fn assert_sound(&self) {
        assert_none("flows were answered by two nodes", &self.flows.answered_twice(&self.gone));
        self.assert_sound_but_for_two_answers();
    }

    /// The same, but two nodes may have answered one flow.
    pub fn assert_sound_but_for_two_answers(&self) {
        line(format!(
            "{} calls, of which {} failed, {} questions, {} echo requests; {} flows answered",
            self.calls.len(),
            self.calls.iter().filter(|call| call.answer.is_err()).count(),
            self.questions.len(),
            self.pings.len(),
            self.flows.len()
        ));
        assert_none("questions were answered again", &self.flows.answered_again());
        let again = self.questions.iter().filter(|question| question.answers.len() > 1);
        assert_none("questions got more than one answer", &again.collect::<Vec<_>>());
        let again = self.pings.iter().filter(|ping| ping.replies > 1);
        assert_none("echo requests got more than one reply", &again.collect::<Vec<_>>());
        assert_none("frames came from a cluster MAC, of which the first", &self.sources.first);
        assert_none("calls were lost on living nodes", &self.lost_calls());
        assert_none("answered calls were missed by the capture", &self.missed_calls());
        assert_eq!(self.leftovers, Vec::<String>::new(), "left behind by the lab");
    }

    /// All that was asked between two moments was answered once, and there was something of each of these kinds, over each of
    /// `families` families of addresses.
    pub fn assert_served(&self, kinds: &[Kind], families: usize, from: Time, to: Time) {
        for kind in kinds {
            let asked = match kind {
                Kind::Tcp => self.calls_in(from, to),
                Kind::Udp => self.questions_in(from, to),
                Kind::Echo => self.pings_in(from, to),
            };
            let failed: Vec<_> = asked.iter().filter(|(_, answers)| *answers != 1).collect();
            assert_none(&format!("{kind:?} were not answered once (from where, how often)"), &failed);
            for v6 in [false, true].into_iter().take(families) {
                let count = asked.iter().filter(|(ip, _)| ip.is_ipv6() == v6).count();
                assert!(count > 20, "only {count} by {kind:?}, IPv6: {v6}");
            }
        }
    }

    /// Where calls came from that were begun and ended in that time, and how often each was answered.
    fn calls_in(&self, from: Time, to: Time) -> Vec<(IpAddr, usize)> {
        let calls = self.calls.iter().filter(|call| call.begun >= from && call.ended < to);
        calls.map(|call| (call.client.ip(), usize::from(call.answer.is_ok()))).collect()
    }

    /// Where questions came from whose answers were waited for within that time, and how often each was answered.
    fn questions_in(&self, from: Time, to: Time) -> Vec<(IpAddr, usize)> {
        let asked = self.questions.iter();
        let asked = asked.filter(|question| question.asked >= from && question.asked + asker::PATIENCE < to);
        asked.map(|question| (question.client.ip(), question.answers.len())).collect()
    }

    /// The same of echo requests.
    fn pings_in(&self, from: Time, to: Time) -> Vec<(IpAddr, usize)> {
        let sent = self.pings.iter().filter(|ping| ping.sent >= from && ping.sent + pinger::PATIENCE < to);
        sent.map(|ping| (ping.client, ping.replies as usize)).collect()
    }

    fn missed_calls(&self) -> Vec<&Call> {
        let missed = |call: &&Call| call.answer.is_ok() && self.flows.answered_by(flow(call)).is_none();
        self.calls.iter().filter(missed).collect()
    }

    /// Calls that failed though the node that had answered them did not lose its power meanwhile, or that nobody had answered
    /// at all.
    fn lost_calls(&self) -> Vec<&Call> {
        let died = |call: &Call, mac: [u8; 6]| {
            self.gone.iter().any(|gone| gone.mac == mac && call.begun < gone.by && gone.from < call.ended)
        };
        let excused = |call: &&Call| self.flows.answered_by(flow(call)).is_some_and(|mac| died(call, mac));
        self.calls.iter().filter(|call| call.answer.is_err() && !excused(call)).collect()
    }
}

fn flow(call: &Call) -> Flow {
    Flow { kind: Kind::Tcp, client: call.client, port: PORT }
}

fn assert_none(what: &str, found: &[impl std::fmt::Debug]) {
    let first = &found[..found.len().min(5)];
    assert!(found.is_empty(), "{} {what}: {first:#?}", found.len());
}
