//! How long service is away when the node that gives it dies: Rollcall against keepalived (VRRP), in the same lab, with the same
//! instruments, one after the other in every round.
//!
//! The fault is the same for all: the victim's programs are killed and its cable is pulled. With keepalived all connections
//! are the victim's; with Rollcall its buckets are.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lb_user::clock::Time;

use super::{Row, median, publish};
use crate::client::Https;
use crate::lab::{CLUSTER_IP, Lab, NODE_DMZ, Place, Plan};
use crate::node::{Cluster, PATIENCE};
use crate::prober::{Attempt, Connects, Outage, Prober};
use crate::report::Progress;
use crate::sys::{Process, find_program};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Rollcall,
    /// With VRRP advertisements so many milliseconds apart.
    Keepalived(u32),
}

impl Subject {
    fn name(self) -> String {
        match self {
            Self::Rollcall => "rollcall".to_owned(),
            Self::Keepalived(millis) => format!("keepalived, advert {} s", f64::from(millis) / 1000.0),
        }
    }

    /// How long to go on after the fault: well past what it should take.
    fn watch(self) -> Duration {
        match self {
            Self::Rollcall => Duration::from_secs(3),
            Self::Keepalived(millis) => Duration::from_millis(2000 + 4 * u64::from(millis)),
        }
    }
}

/// Measures, prints and writes `target/bench/failover.json`.
pub fn run(quick: bool) -> Result<()> {
    let rounds = if quick { 1 } else { 5 };
    let subjects = [Subject::Rollcall, Subject::Keepalived(1000), Subject::Keepalived(100)];
    let progress = Progress::new();
    progress.step("raising the lab");
    let mut cluster = Cluster::raise(&Plan::nodes(2))?;
    let mut found = vec![Vec::new(); subjects.len()];
    for round in 1..=rounds {
        for (subject, found) in subjects.iter().zip(&mut found) {
            progress.step(format!("round {round} of {rounds}: {}", subject.name()));
            found.push(measure(&mut cluster, *subject)?);
        }
    }
    drop(progress);
    let rows: Vec<_> =
        subjects.iter().zip(&found).flat_map(|(subject, found)| rows(*subject, found)).collect();
    let left = cluster.tear_down();
    publish("failover", &rows)?;
    if !left.is_empty() {
        bail!("the lab left behind: {}", left.join(", "));
    }
    Ok(())
}

/// An outage in milliseconds, and the longest plain connect().
type Found = (f64, f64);

fn rows(subject: Subject, found: &[Found]) -> Vec<Row> {
    let outages: Vec<_> = found.iter().map(|found| found.0).collect();
    let connects: Vec<_> = found.iter().map(|found| found.1).collect();
    let largest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    [
        ("outage, median", median(&outages)),
        ("outage, maximum", largest(&outages)),
        ("longest connect(), median", median(&connects)),
        ("longest connect(), maximum", largest(&connects)),
    ]
    .map(|(metric, value)| Row {
        bench: "failover",
        case: "agent killed and link down".to_owned(),
        subject: subject.name(),
        metric: metric.to_owned(),
        unit: "ms",
        value,
        runs: found.len(),
    })
    .to_vec()
}

fn measure(cluster: &mut Cluster, subject: Subject) -> Result<Found> {
    // What the router believes of the cluster IP is the last subject's.
    cluster.lab.router.ip("neigh flush all")?;
    let https = cluster.https()?;
    match subject {
        Subject::Rollcall => rollcall(cluster, &https, subject),
        Subject::Keepalived(millis) => keepalived(&cluster.lab, &https, subject, millis),
    }
}

fn rollcall(cluster: &mut Cluster, https: &Https, subject: Subject) -> Result<Found> {
    cluster.start_agents()?;
    cluster.converge()?;
    let watch = Watch::start(&cluster.lab, https)?;
    let held = cluster.node("arr1").holds()?;
    let fault = Time::now();
    cluster.node("arr1").kill_agent();
    let mut gone = cluster.pull_cable("arr1")?;
    let seed = cluster.seed;
    let found = watch.end(fault, subject, |attempt| held.holds(attempt, seed))?;
    cluster.plug_cable("arr1", &mut gone)?;
    cluster.node("arr2").stop()?;
    cluster.node("arr1").cleanup()?;
    Ok(found)
}

fn keepalived(lab: &Lab, https: &Https, subject: Subject, advert: u32) -> Result<Found> {
    let listeners: Vec<_> = lab.places.iter().map(Listener::start).collect::<Result<_>>()?;
    let mut daemons: Vec<_> =
        lab.places.iter().map(|place| start_keepalived(lab, place, advert)).collect::<Result<_>>()?;
    wait_for_master(&lab.places[0], &daemons[0])?;
    let watch = Watch::start(lab, https)?;
    let fault = Time::now();
    kill_keepalived(&lab.places[0]);
    lab.pull_cable(&lab.places[0])?;
    let found = watch.end(fault, subject, |_| true)?;
    daemons.truncate(2);
    daemons[1].terminate(PATIENCE)?;
    // A killed daemon leaves the address where it was.
    let _ = lab.places[0].namespace.ip(&format!("addr del {CLUSTER_IP}/24 dev {NODE_DMZ}"));
    lab.plug_cable(&lab.places[0])?;
    drop(listeners);
    Ok(found)
}

/// The instruments, running.
struct Watch {
    prober: Prober,
    connects: Connects,
}

impl Watch {
    fn start(lab: &Lab, https: &Https) -> Result<Self> {
        let watch = Self { prober: Prober::start(lab)?, connects: Connects::start(https) };
        // Between one and two seconds: the fault must not always come at the same moment between two heartbeats.
        let micros = Time::now().as_nanos() / 1000;
        thread::sleep(Duration::from_secs(1) + Duration::from_micros(micros % 1_000_000));
        Ok(watch)
    }

    fn end(self, fault: Time, subject: Subject, held: impl Fn(&Attempt) -> bool) -> Result<Found> {
        thread::sleep(subject.watch());
        let attempts = self.prober.finish()?;
        let longest = self.connects.finish();
        let early = attempts.iter().filter(|attempt| attempt.sent < fault);
        let early_failures = early.filter(|attempt| !attempt.succeeded()).count();
        if early_failures > 0 {
            bail!(
                "{}: {early_failures} attempts failed before the fault; is this machine too busy to measure on?",
                subject.name()
            );
        }
        let outage = Outage::of(&attempts, fault, held);
        let length =
            outage.length.with_context(|| format!("{} did not come back: {outage:?}", subject.name()))?;
        Ok((length.as_secs_f64() * 1000.0, longest.as_secs_f64() * 1000.0))
    }
}

/// Something that accepts connections on port 443 of a node, for as long as it lives.
struct Listener {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Listener {
    fn start(place: &Place) -> Result<Self> {
        let listener = place
            .namespace
            .enter(|| TcpListener::bind("0.0.0.0:443"))?
            .with_context(|| format!("port 443 of {}", place.name))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                match listener.accept() {
                    // Read to the client's end, so that the client closes first.
                    Ok((mut stream, _)) => drop(stream.read(&mut [0; 1])),
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn start_keepalived(lab: &Lab, place: &Place, advert: u32) -> Result<Process> {
    let folder = lab.folder().join(format!("keepalived-{}", place.name));
    fs::create_dir_all(&folder).context("cannot make keepalived's folder")?;
    // Version 2, the default, knows only whole seconds.
    let text = format!(
        "global_defs {{\n  router_id {name}\n  vrrp_version 3\n}}\n\
         vrrp_instance cluster {{\n  state BACKUP\n  interface {NODE_DMZ}\n  virtual_router_id 51\n  priority {priority}\n  \
         advert_int {advert}\n  virtual_ipaddress {{ {CLUSTER_IP}/24 }}\n}}\n",
        name = place.name,
        priority = 150 - place.number,
        advert = f64::from(advert) / 1000.0,
    );
    let file = folder.join("keepalived.conf");
    fs::write(&file, text).context("cannot write keepalived.conf")?;
    let mut command = Command::new(find_program("keepalived")?);
    let in_folder = |name: &str| folder.join(name);
    command.args(["--dont-fork", "--log-console", "--vrrp"]);
    command.arg("--use-file").arg(&file);
    command.arg("--pid").arg(in_folder("pid"));
    command.arg("--vrrp_pid").arg(in_folder("vrrp.pid"));
    let what = format!("keepalived on {}", place.name);
    Process::start(&what, &place.namespace, &mut command, &in_folder("log"))
}

/// Kills its processes by SIGKILL, children first: a child that loses its parent would say good-bye to its peers.
fn kill_keepalived(place: &Place) {
    let mut pids = place.namespace.pids();
    pids.sort_unstable_by(|a, b| b.cmp(a));
    for pid in pids {
        let name = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"));
        if name.is_ok_and(|name| name.trim().starts_with("keepalived")) {
            crate::sys::signal(pid, rustix::process::Signal::KILL);
        }
    }
}

fn wait_for_master(place: &Place, daemon: &Process) -> Result<()> {
    let deadline = Time::now() + PATIENCE;
    while Time::now() < deadline {
        let addresses = place.namespace.ip("addr show")?;
        if addresses.contains(&format!("{CLUSTER_IP}/")) {
            // Its announcements reach the router a moment later.
            thread::sleep(Duration::from_millis(500));
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("keepalived on {} did not become master\n{}", place.name, daemon.log_tail())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Certificates;

    #[test]
    fn keepalived_fails_over_in_the_lab() {
        let lab = Lab::raise(&Plan::nodes(2)).unwrap();
        let certificates = Certificates::make(&lab.folder()).unwrap();
        let https = Https::new(&lab, certificates.client().unwrap());
        for round in 1..=2 {
            let found = keepalived(&lab, &https, Subject::Keepalived(100), 100).unwrap();
            println!("round {round}: outage {} ms, longest connect() {} ms", found.0, found.1);
        }
        assert_eq!(lab.tear_down(), Vec::<String>::new());
    }
}
