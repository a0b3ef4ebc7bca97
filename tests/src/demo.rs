//! The demo: the main job on the lab, with its figures. Two nodes share an address; one is killed in the middle of traffic; it
//! comes back; the other drains.
//!
//! What is counted: every HTTPS request that a browser made counts once, and nothing is tried again behind its back. A request
//! that was on its way over the killed node's connections fails, and counts in `failed`; a person would press reload.
//! `failed_after_failover` counts requests over connections begun after the failover, and connection attempts in buckets that
//! the killed node did not hold.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_user::clock::Time;
use serde::Serialize;

use crate::capture::{Capture, Flow, Flows, Gone};
use crate::client::Https;
use crate::lab::{CLUSTER_IP, Lab, PUBLIC};
use crate::node::Cluster;
use crate::prober::{Attempt, Connects, Outage, Prober};
use crate::report::{Progress, bad, good, line, millis, table};
use crate::traffic::{Browsers, Habit, Request};

/// What the first version promises after link loss.
const FAILOVER_AT_MOST: Duration = Duration::from_millis(500);
/// New connections a second while ownership changes.
const FLOOD: u32 = 10_000;
const BROWSERS: usize = 8;

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Leave the lab standing.
    pub keep: bool,
    /// End with one line of JSON.
    pub json: bool,
}

/// The results; `--json` prints them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// HTTPS requests that browsers made.
    pub requests: usize,
    /// How many of them were not answered well.
    pub failed: usize,
    /// Requests answered, by node.
    pub by_node: BTreeMap<String, usize>,
    /// Requests answered, by server.
    pub by_server: BTreeMap<String, usize>,
    /// From the kill to the first attempt after which none failed.
    pub failover_ms: f64,
    /// See the head of this file.
    pub failed_after_failover: usize,
    /// Requests that failed from the drain's beginning on.
    pub failed_during_drain: usize,
    /// Flows in which two nodes spoke.
    pub flows_answered_twice: usize,
    /// What the lab left on this machine.
    pub leftovers: Vec<String>,
    /// New connections at a high rate, to hold the capture against.
    #[serde(skip)]
    attempts: Vec<Attempt>,
}

impl Summary {
    fn kept_all_promises(&self) -> bool {
        self.failover_ms <= FAILOVER_AT_MOST.as_secs_f64() * 1000.0
            && self.failed_after_failover == 0
            && self.failed_during_drain == 0
            && self.flows_answered_twice == 0
            && self.leftovers.is_empty()
    }
}

/// Runs the demo; the status is a failure if a promise was broken.
pub fn run(options: Options) -> Result<ExitCode> {
    let progress = Progress::new();
    progress.step("raising the lab: client, router, DMZ with two nodes, LAN with two servers");
    let mut cluster = Cluster::start(2)?;
    let mut https = cluster.https()?;
    https.patience = Duration::from_secs(5);
    let mut summary = Summary::default();
    spread(&cluster, &https, &progress, &mut summary)?;
    let capture = Capture::start(&cluster.lab)?;
    let mut gone = kill(&mut cluster, &https, &progress, &mut summary, &capture)?;
    bring_back(&mut cluster, &mut gone, &progress)?;
    drain(&mut cluster, &https, &progress, &mut summary)?;
    progress.step("looking for flows that two nodes answered");
    let flows = capture.finish()?;
    // A capture that lost frames would find no doubles either.
    let missed = flows.missed(&summary.attempts);
    ensure!(
        missed == 0,
        "the capture missed {missed} flows that the client saw answered: this machine is too busy to tell"
    );
    answered_twice(&flows, &gone, &progress, &mut summary);
    if options.keep {
        cluster.node("arr2").resume()?;
        cluster.keep()?;
        drop(progress);
        how_to_enter(&cluster.lab);
    } else {
        progress.step("tearing the lab down");
        summary.leftovers = cluster.tear_down();
        drop(progress);
    }
    conclude(&summary, options)
}

/// Says how to look around in a lab and how to remove it.
pub fn how_to_enter(lab: &Lab) {
    eprintln!("the lab {} stands; enter a machine of it with", lab.name());
    for (machine, what) in [
        ("client", format!("the internet; the service is at {PUBLIC}")),
        ("router", "NAT to the cluster IP".to_owned()),
        ("arr1", format!("a node; the others alike; cluster IP {CLUSTER_IP}")),
        ("sbex1", "a server; sbex3 alike".to_owned()),
    ] {
        eprintln!("  nsenter --net=/run/netns/{}-{machine:<8}  # {what}", lab.name());
    }
    eprintln!("its files and logs: {}", lab.folder().display());
    eprintln!("remove it with: target/release/rollcall-lab clean (once its owner has ended)");
}

fn spread(cluster: &Cluster, https: &Https, progress: &Progress, summary: &mut Summary) -> Result<()> {
    progress.step("asking for pages of Exchange, 3 seconds");
    let capture = Capture::start(&cluster.lab)?;
    let browsers = Browsers::start(https, BROWSERS, Habit::default());
    thread::sleep(Duration::from_secs(3));
    let requests = browsers.finish()?;
    let flows = capture.finish()?;
    let mut cells = BTreeMap::new();
    for request in requests.iter().filter(|request| request.error.is_none()) {
        let node = node_of(&cluster.lab, &flows, request);
        *cells.entry((node, request.server.clone())).or_insert(0) += 1;
    }
    let rows: Vec<_> = cells
        .iter()
        .map(|((node, server), count): (_, &usize)| vec![node.clone(), server.clone(), count.to_string()])
        .collect();
    progress.say(format!(
        "Requests to {PUBLIC}, by the node that owned the flow and the server that answered:\n\n{}\n",
        table(&["node", "server", "requests"], &rows)
    ));
    count(&cluster.lab, &flows, &requests, summary);
    Ok(())
}

fn kill(
    cluster: &mut Cluster,
    https: &Https,
    progress: &Progress,
    summary: &mut Summary,
    capture: &Capture,
) -> Result<Gone> {
    let victim = "arr1";
    progress.step(format!("killing {victim} in the middle of traffic"));
    let browsers = Browsers::start(https, BROWSERS, Habit::default());
    let connects = Connects::start(https);
    let prober = Prober::start(&cluster.lab)?;
    let flood = Prober::flood(&cluster.lab, FLOOD, Duration::from_secs(4))?;
    thread::sleep(Duration::from_secs(1));
    let held = cluster.node(victim).holds()?;
    let fault = Time::now();
    cluster.node(victim).kill_agent();
    let gone = Gone { from: fault, ..cluster.pull_cable(victim)? };
    thread::sleep(Duration::from_secs(4));
    let attempts = prober.finish()?;
    summary.attempts.extend(flood.finish()?);
    let longest = connects.finish();
    let requests = browsers.finish()?;
    let outage = Outage::of(&attempts, fault, |attempt| held.holds(attempt, cluster.seed));
    let length = outage.length.with_context(|| format!("service did not come back: {outage:?}"))?;
    summary.failover_ms = length.as_secs_f64() * 1000.0;
    let over = fault + length;
    let late = requests.iter().filter(|request| request.connection_begun >= over);
    let (late, late_failed) =
        late.fold((0, 0), |(all, failed), request| (all + 1, failed + usize::from(request.error.is_some())));
    summary.failed_after_failover = late_failed + outage.failed_elsewhere;
    let verdict = verdict(length <= FAILOVER_AT_MOST, &millis(length));
    progress.say(format!(
        "{victim} killed (agent SIGKILLed, link down): outage {verdict} for its {} buckets ({} of {} attempts failed);\n\
         buckets of the other node: {} attempts failed; longest connect(): {}\n\
         after it: {} of {late} requests over new connections failed\n",
        held.count(),
        outage.failed,
        outage.counted,
        outage.failed_elsewhere,
        millis(longest),
        verdict_zero(late_failed),
    ));
    count(&cluster.lab, &capture.so_far(), &requests, summary);
    Ok(gone)
}

fn bring_back(cluster: &mut Cluster, gone: &mut Gone, progress: &Progress) -> Result<()> {
    let name = cluster.lab.node_of_mac(gone.mac).map(|place| place.name.clone());
    let name = name.context("the node that was killed has no place")?;
    progress.step(format!("bringing {name} back"));
    cluster.plug_cable(&name, gone)?;
    let start = Time::now();
    cluster.node(&name).start()?;
    cluster.converge()?;
    progress
        .say(format!("{name} is back and has its share again after {}\n", millis(Time::now().since(start))));
    Ok(())
}

fn drain(cluster: &mut Cluster, https: &Https, progress: &Progress, summary: &mut Summary) -> Result<()> {
    progress.step("draining arr2 in the middle of traffic");
    let capture = Capture::start(&cluster.lab)?;
    let browsers = Browsers::start(https, BROWSERS, Habit::default());
    let flood = Prober::flood(&cluster.lab, FLOOD, Duration::from_secs(4))?;
    thread::sleep(Duration::from_secs(1));
    let begin = Time::now();
    let node = cluster.node("arr2");
    node.drain()?;
    node.wait_until("it holds nothing", |status| {
        status.tables.iter().all(|table| table.mine + table.arriving == 0)
    })?;
    let took = Time::now().since(begin);
    thread::sleep(Duration::from_secs(2));
    let requests = browsers.finish()?;
    summary.attempts.extend(flood.finish()?);
    let during = requests.iter().filter(|request| request.ended >= begin);
    let failures: Vec<_> = during.clone().filter_map(|request| request.error.as_ref()).collect();
    summary.failed_during_drain = failures.len();
    progress.say(format!(
        "arr2 drained: its share was handed over in {}; {} of {} requests failed{}\n",
        millis(took),
        verdict_zero(failures.len()),
        during.count(),
        failures.first().map(|error| format!(", the first: {error}")).unwrap_or_default(),
    ));
    count(&cluster.lab, &capture.finish()?, &requests, summary);
    Ok(())
}

fn answered_twice(flows: &Flows, gone: &Gone, progress: &Progress, summary: &mut Summary) {
    let doubles = flows.answered_twice(&[*gone]);
    summary.flows_answered_twice = doubles.len();
    progress.say(format!(
        "{} of {} flows captured through failover, return and drain were answered by two nodes; \
         {} connections that the killed node left were reset by its heir{}\n",
        verdict_zero(doubles.len()),
        flows.len(),
        flows.orphans_reset(&[*gone]),
        doubles.first().map(|double| format!(", the first: {double}")).unwrap_or_default()
    ));
}

fn count(lab: &Lab, flows: &Flows, requests: &[Request], summary: &mut Summary) {
    for request in requests {
        summary.requests += 1;
        if request.error.is_some() {
            summary.failed += 1;
            continue;
        }
        *summary.by_node.entry(node_of(lab, flows, request)).or_default() += 1;
        *summary.by_server.entry(request.server.clone()).or_default() += 1;
    }
}

fn node_of(lab: &Lab, flows: &Flows, request: &Request) -> String {
    let mac = request.client.and_then(|client| flows.answered_by(Flow::https(client)));
    let place = mac.and_then(|mac| lab.node_of_mac(mac));
    place.map_or_else(|| "unknown".to_owned(), |place| place.name.clone())
}

fn conclude(summary: &Summary, options: Options) -> Result<ExitCode> {
    let by = |counts: &BTreeMap<String, usize>| {
        let counts = counts.iter().map(|(name, count)| format!("{name} {count}"));
        counts.collect::<Vec<_>>().join(", ")
    };
    line(format!(
        "{} requests, {} failed; by node: {}; by server: {}; leftovers: {}",
        summary.requests,
        summary.failed,
        by(&summary.by_node),
        by(&summary.by_server),
        verdict_zero(summary.leftovers.len()),
    ));
    for leftover in &summary.leftovers {
        line(format!("  {leftover}"));
    }
    if options.json {
        line(serde_json::to_string(summary)?);
    }
    Ok(if summary.kept_all_promises() {
        ExitCode::SUCCESS
    } else {
        eprintln!("error: the demo did not go as promised; see the figures above");
        ExitCode::FAILURE
    })
}

fn verdict(kept: bool, text: &str) -> String {
    if kept { good(text) } else { bad(text) }
}

fn verdict_zero(count: usize) -> String {
    verdict(count == 0, &count.to_string())
}
