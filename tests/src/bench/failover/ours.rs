//! Rollcall: faults in both profiles, what an operator does in the default one.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_user::clock::Time;

use super::{Finding, Findings, PROFILES, Watch, millis};
use crate::node::{Cluster, Held};
use crate::prober::{Prober, longest_gap};
use crate::traffic::{Browsers, Habit};

/// How long to go on after a fault: well past what it should take.
const WATCH: Duration = Duration::from_secs(2);

/// New connections a second while an operator works: four in each millisecond.
const RATE: u32 = 4_000;

/// The longest that an operator's work may take.
const LONGEST: Duration = Duration::from_secs(60);

/// People at work meanwhile.
const BROWSERS: usize = 6;

/// Every case, one after the other, in a cluster of two whose agents do not run yet.
pub(super) fn measure(
    cluster: &mut Cluster,
    profile: &str,
    say: &dyn Fn(&str),
    findings: &mut Findings,
) -> Result<()> {
    let subject = format!("rollcall, {profile}");
    cluster.start_agents()?;
    cluster.converge()?;
    say(&format!("{subject}: link down"));
    findings.add("link down", &subject, link_loss(cluster)?);
    say(&format!("{subject}: agent killed"));
    findings.add("agent killed", &subject, agent_killed(cluster)?);
    if profile == PROFILES[0] {
        for (case, work) in PLANNED {
            say(&format!("{subject}: {case}"));
            findings.add(case, &subject, planned(cluster, work)?);
        }
    }
    Ok(())
}

fn link_loss(cluster: &mut Cluster) -> Result<Finding> {
    let (watch, held) = begin(cluster)?;
    let mut gone = cluster.pull_cable("arr1")?;
    let found = end(cluster, watch, gone.from, &held)?;
    cluster.plug_cable("arr1", &mut gone)?;
    cluster.converge()?;
    Ok(found)
}

fn agent_killed(cluster: &mut Cluster) -> Result<Finding> {
    let (watch, held) = begin(cluster)?;
    let fault = Time::now();
    cluster.node("arr1").kill_agent();
    let found = end(cluster, watch, fault, &held)?;
    cluster.start_agents()?;
    cluster.converge()?;
    Ok(found)
}

fn begin(cluster: &mut Cluster) -> Result<(Watch, Held)> {
    let watch = Watch::start(&cluster.lab, &cluster.https()?)?;
    Ok((watch, cluster.node("arr1").holds()?))
}

fn end(cluster: &Cluster, watch: Watch, fault: Time, held: &Held) -> Result<Finding> {
    thread::sleep(WATCH);
    let seed = cluster.seed;
    watch.end(fault, |attempt| held.holds(attempt, seed))
}

/// What an operator does.
type Work = fn(&mut Cluster) -> Result<()>;

const PLANNED: [(&str, Work); 4] =
    [("drain", drain), ("stop", stop), ("join", join), ("rolling restart", rolling_restart)];

fn drain(cluster: &mut Cluster) -> Result<()> {
    cluster.node("arr2").control(&["drain", "--wait"]).map(drop)
}

/// Of the agent, by SIGTERM, as a service manager does it.
fn stop(cluster: &mut Cluster) -> Result<()> {
    let node = cluster.node("arr2");
    node.resume()?;
    cluster.converge()?;
    let status = cluster.node("arr2").stop()?;
    ensure!(status.success(), "the agent of arr2 ended with {status}");
    Ok(())
}

fn join(cluster: &mut Cluster) -> Result<()> {
    cluster.node("arr2").start()?;
    cluster.converge()
}

fn rolling_restart(cluster: &mut Cluster) -> Result<()> {
    cluster.node("arr1").control(&["rolling-restart"])?;
    cluster.converge()
}

/// Does some work under load. Any attempt counts, whoever held its bucket.
fn planned(cluster: &mut Cluster, work: Work) -> Result<Finding> {
    let browsers = Browsers::start(&cluster.https()?, BROWSERS, Habit::default());
    let prober = Prober::flood(&cluster.lab, RATE, LONGEST)?;
    thread::sleep(Duration::from_secs(1));
    let begin = Time::now();
    work(cluster)?;
    let took = Time::now().since(begin);
    thread::sleep(WATCH);
    let attempts = prober.finish()?;
    let requests = browsers.finish()?;
    let failed = requests.iter().filter(|request| request.error.is_some()).count();
    Ok(vec![
        ("failed requests", "requests", failed as f64),
        ("requests made", "requests", requests.len() as f64),
        ("longest gap", "ms", millis(longest_gap(&attempts))),
        ("time it took", "ms", millis(took)),
    ])
}
