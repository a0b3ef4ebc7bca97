//! The peer: keepalived (VRRP), with something behind it that accepts connections.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lb_user::clock::Time;

use super::{Finding, Watch};
use crate::client::Https;
use crate::lab::{CLUSTER_IP, Lab, NODE_DMZ, Place};
use crate::node::PATIENCE;
use crate::sys::{Process, find_program};

/// What keepalived costs when the cable of its master is pulled, with advertisements so many milliseconds apart.
pub(super) fn link_loss(lab: &Lab, https: &Https, advert: u32) -> Result<Finding> {
    // What the router believes of the cluster IP is the last subject's.
    lab.router.ip("neigh flush all")?;
    let listeners: Vec<_> = lab.places.iter().map(Listener::start).collect::<Result<_>>()?;
    let mut daemons: Vec<_> =
        lab.places.iter().map(|place| start_keepalived(lab, place, advert)).collect::<Result<_>>()?;
    wait_for_master(&lab.places[0], &daemons[0])?;
    let watch = Watch::start(lab, https)?;
    let fault = Time::now();
    lab.pull_cable(&lab.places[0])?;
    thread::sleep(Duration::from_millis(2000 + 4 * u64::from(advert)));
    let found = watch.end(fault, |_| true)?;
    for daemon in &mut daemons {
        daemon.terminate(PATIENCE)?;
    }
    lab.plug_cable(&lab.places[0])?;
    drop(listeners);
    Ok(found)
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
    use crate::lab::Plan;

    #[test]
    fn keepalived_fails_over_in_the_lab() {
        let lab = Lab::raise(&Plan::nodes(2)).unwrap();
        let certificates = Certificates::make(&lab.folder()).unwrap();
        let https = Https::new(&lab, certificates.client().unwrap());
        for round in 1..=2 {
            let found = link_loss(&lab, &https, 100).unwrap();
            println!("round {round}: {found:?}");
        }
        assert_eq!(lab.tear_down(), Vec::<String>::new());
    }
}
