//! What every scenario has in common: a serving cluster, long-lived connections through each node, new connections at a high
//! rate, and a capture of all that is answered, from before the fault until all is settled again. A scenario adds the fault.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use lb_user::clock::Time;

use crate::capture::{Capture, Flows, Gone};
use crate::node::{Cluster, Held};
use crate::prober::{Attempt, Outage, Prober};
use crate::report::{line, millis};
use crate::traffic::{Pulse, PulseReport};

/// New connections, each a SYN of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// How many a second.
    pub rate: u32,
    /// For how long at most; a bound that no scenario should reach.
    pub longest: Duration,
}

impl Load {
    /// Enough to see that new connections are served, where the machine's time is for something else; and where not one attempt may
    /// stay without an answer: the queues on their way hold so few also while the machine stands still for a tenth of a second.
    pub const LIGHT: Self = Self { rate: 2_000, longest: Duration::from_secs(120) };
}

impl Default for Load {
    /// A little more than the 20,000 that are promised, for what a busy machine does not get sent; of that as many hundredths as
    /// `ROLLCALL_LOAD_PERCENT` says, which `cargo xtask test` sets for a machine that was too slow.
    fn default() -> Self {
        let part = std::env::var("ROLLCALL_LOAD_PERCENT").ok().and_then(|text| text.parse().ok());
        Self { rate: 205 * part.unwrap_or(100_u32).clamp(1, 100), longest: Duration::from_secs(60) }
    }
}

/// Long-lived connections in all, the same number through each node. More of them would cost the machine the rate.
const PULSES: usize = 48;

/// Time for every deadline of the cluster to pass: suspicion, lease, and the proof that a node is dead.
pub const SETTLE: Duration = Duration::from_secs(3);

/// A scenario under way.
#[derive(Debug)]
pub struct Scenario {
    /// The nodes; faults happen here.
    pub cluster: Cluster,
    pulses: Vec<(String, Pulse)>,
    capture: Capture,
    flood: Option<Prober>,
}

impl Scenario {
    /// `nodes` nodes that serve, with connections through each, and new ones coming in.
    pub fn start(nodes: u8) -> Result<Self> {
        Self::on(Cluster::start(nodes)?, Load::default())
    }

    /// The same on a cluster that serves, under that load. Nodes whose agent does not run have no part.
    pub fn on(cluster: Cluster, load: Load) -> Result<Self> {
        let capture = Capture::start(&cluster.lab)?;
        let pulses = pulses(&cluster)?;
        let flood = Prober::flood(&cluster.lab, load.rate, load.longest)?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self { cluster, pulses, capture, flood: Some(flood) })
    }

    /// What the node holds now, and now: for a fault that comes next.
    pub fn before_fault(&mut self, node: &str) -> Result<(Held, Time)> {
        Ok((self.cluster.node(node).holds()?, Time::now()))
    }

    /// Ends the new connections; those that are open go on.
    pub fn end_flood(&mut self) -> Result<Vec<Attempt>> {
        self.flood.take().map_or_else(|| Ok(Vec::new()), Prober::finish)
    }

    /// Ends all of it; `gone` names the nodes that the scenario took away.
    pub fn finish(mut self, gone: &[Gone]) -> Result<Outcome> {
        let attempts = self.end_flood()?;
        let pulses = self.pulses.into_iter();
        let pulses = pulses.map(|(node, pulse)| Ok((node, pulse.finish()?)));
        let pulses = pulses.collect::<Result<_>>()?;
        Ok(Outcome {
            attempts,
            pulses,
            flows: self.capture.finish()?,
            gone: gone.to_vec(),
            seed: self.cluster.seed,
            leftovers: self.cluster.tear_down(),
        })
    }
}

/// How many there were in each tenth of a second since then in which there were any.
fn by_tenths(attempts: &[&Attempt], since: Time) -> BTreeMap<u128, usize> {
    let mut tenths = BTreeMap::new();
    for attempt in attempts {
        *tenths.entry(attempt.sent.since(since).as_millis() / 100).or_default() += 1;
    }
    tenths
}

/// Opens connections until each node has its share.
fn pulses(cluster: &Cluster) -> Result<Vec<(String, Pulse)>> {
    let https = cluster.https()?;
    let mut held = Vec::new();
    for node in cluster.nodes.iter().filter(|node| node.agent.is_some()) {
        held.push((node.name().to_owned(), node.holds()?));
    }
    let each = PULSES / held.len().max(1);
    let mut pulses: Vec<(String, Pulse)> = Vec::new();
    for _ in 0..200 * held.len() {
        let pulse = Pulse::start(&https)?;
        let owner = held.iter().find(|(_, held)| held.has_client(pulse.client, cluster.seed));
        let Some((name, _)) = owner else {
            bail!("nobody holds the bucket of {}", pulse.client);
        };
        if pulses.iter().filter(|(node, _)| node == name).count() < each {
            pulses.push((name.clone(), pulse));
        }
        if pulses.len() == each * held.len() {
            return Ok(pulses);
        }
    }
    bail!("some node gets no connection; connections opened: {}", pulses.len())
}

/// What was seen. The `assert_` functions panic with what they found.
#[derive(Debug)]
pub struct Outcome {
    /// The new connections, in the order in which they were tried.
    pub attempts: Vec<Attempt>,
    /// The long-lived connections, each with the node that it went through.
    pub pulses: Vec<(String, PulseReport)>,
    /// What the nodes answered.
    pub flows: Flows,
    gone: Vec<Gone>,
    seed: [u64; 2],
    leftovers: Vec<String>,
}

impl Outcome {
    /// No flow was answered by two nodes; the capture, which says so, missed nothing; and the lab is gone without a trace.
    pub fn assert_sound(&self) {
        self.assert_sound_but_for(|_| false);
    }

    /// As `assert_sound`, but for flows that a second node first answered at a moment of which `parted` says that the network
    /// itself was parted for the nodes.
    pub fn assert_sound_but_for(&self, parted: impl Fn(Time) -> bool) {
        let doubles = self.flows.answered_twice_but_for(&self.gone, parted);
        assert!(
            doubles.is_empty(),
            "{} of {} flows were answered by two nodes, the first:\n{}",
            doubles.len(),
            self.flows.len(),
            doubles[..doubles.len().min(5)].join("\n")
        );
        assert_eq!(self.flows.missed(&self.attempts), 0, "the capture missed flows that the client saw");
        assert_eq!(self.leftovers, Vec::<String>::new(), "left behind by the lab");
    }

    /// No connection through `node` broke.
    pub fn assert_unbroken(&self, node: &str) {
        for report in self.through(node) {
            assert_eq!(report.broken, None, "a connection through {node} broke");
            assert!(report.exchanges.len() > 5, "a connection through {node} saw no traffic");
        }
    }

    /// Not one new connection between these moments stayed without an answer.
    pub fn assert_all_answered(&self, from: Time, to: Time) {
        self.assert_answered_but_for(0.0, from, to);
    }

    /// No more than one in a hundred did: what a machine loses that is busy with something else, but not a node that stops
    /// serving for a moment, or moves its share.
    pub fn assert_nearly_all_answered(&self, from: Time, to: Time) {
        self.assert_answered_but_for(0.01, from, to);
    }

    fn assert_answered_but_for(&self, part: f64, from: Time, to: Time) {
        let tried = self.attempts.iter().filter(|attempt| attempt.sent >= from && attempt.sent < to);
        let (answered, missing): (Vec<&Attempt>, Vec<&Attempt>) =
            tried.partition(|attempt| attempt.answered.is_some());
        assert!(!answered.is_empty(), "nothing was tried");
        let tried = missing.len() + answered.len();
        assert!(
            missing.len() as f64 <= part * tried as f64,
            "{} of {tried} new connections were not answered; by tenths of a second from the first on: {:?}",
            missing.len(),
            by_tenths(&missing, from)
        );
    }

    /// Every connection through `node` carried data in each second between the two times.
    pub fn assert_data_in_every_second(&self, node: &str, from: Time, to: Time) {
        for report in self.through(node) {
            assert!(
                report.alive_in_every_second(from, to),
                "a connection through {node} was silent for {:?}: {:?}",
                report.longest_gap(),
                report.broken
            );
        }
    }

    /// Flows that two nodes answered.
    pub fn answered_twice(&self) -> Vec<String> {
        self.flows.answered_twice(&self.gone)
    }

    /// Prints what the fault cost: of the attempts in the time when nothing else happened.
    pub fn print_outage(&self, what: &str, fault: Time, held: &Held) {
        let attempts = self.attempts.iter();
        let undisturbed: Vec<_> = attempts.filter(|attempt| attempt.sent < fault + SETTLE).copied().collect();
        let outage = Outage::of(&undisturbed, fault, |attempt| held.holds(attempt, self.seed));
        let length = outage.length.map_or_else(|| "no end".to_owned(), millis);
        line(format!(
            "{what}: outage {length}, {} of {} attempts failed, {} in other buckets; {} flows captured, {:.0} attempts a second",
            outage.failed,
            outage.counted,
            outage.failed_elsewhere,
            self.flows.len(),
            self.rate()
        ));
    }

    /// How many new connections a second were really tried.
    pub fn rate(&self) -> f64 {
        let (Some(first), Some(last)) = (self.attempts.first(), self.attempts.last()) else {
            return 0.0;
        };
        self.attempts.len() as f64 / last.sent.since(first.sent).as_secs_f64().max(1e-9)
    }

    fn through<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a PulseReport> {
        let pulses = self.pulses.iter().filter(move |(name, _)| name == node);
        pulses.map(|(_, report)| report)
    }
}
