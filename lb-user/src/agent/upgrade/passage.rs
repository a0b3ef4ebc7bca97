//! The agent's part of an upgrade in place: how it stops without ending, and how it goes on where another program stopped.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Arrival, CONFIRM, Departure, LET_GO, Legacy, Upgrade};
use crate::agent::events::Note;
use crate::agent::serving::Serving;
use crate::agent::voice::Voice;
use crate::agent::{Agent, Maps};
use crate::clock::Time;
use crate::cluster::driver::{Cluster, Handle, Input};
use crate::cluster::node::Order;
use crate::control::api::UpgradeStatus;
use crate::dataplane::link::{Interface, Link};
use crate::dataplane::{self, Dataplane, writers_of};
use crate::proxy::child::Child;
use crate::proxy::supervisor::{Left, Supervisor};

/// An upgrade whose time has come when the other nodes have agreed.
#[derive(Debug)]
pub(in crate::agent) struct Preparing {
    upgrade: Upgrade,
    /// When they have not in time.
    until: Time,
}

impl Preparing {
    /// Returns when the others have not agreed in time; never where nothing is prepared.
    pub(in crate::agent) async fn too_late(preparing: Option<&Self>) {
        match preparing {
            Some(preparing) => tokio::time::sleep(preparing.until.since(Time::now())).await,
            None => std::future::pending().await,
        }
    }
}

impl Agent {
    /// Has the others asked to wait.
    pub(in crate::agent) fn prepare(&mut self, upgrade: Upgrade) {
        info!(program = %upgrade.candidate.path.display(), "an upgrade in place begins");
        self.tell(Input::Order(Order::Prepare));
        self.preparing = Some(Preparing { upgrade, until: Time::now() + CONFIRM });
    }

    /// All is as before.
    pub(in crate::agent) fn call_off(&mut self, why: &str) {
        let Some(preparing) = self.preparing.take() else { return };
        warn!("the upgrade is called off: {why}");
        self.tell(Input::Order(Order::Unprepare));
        // The operator may be gone.
        let _ =
            preparing.upgrade.refused.send(format!("the upgrade is called off: {why}; nothing was changed"));
    }

    /// The others wait: stops without ending. `None`: not after all.
    pub(in crate::agent) async fn depart(&mut self) -> Option<Departure> {
        // Else it was called off, and they agreed too late.
        self.preparing.as_ref()?;
        // While heartbeats still go out: a disk or a command of the operator may take seconds.
        if let Err(error) = self.close_events().await {
            warn!("{error:#}");
        }
        let (cluster, carrier_losses) = match self.suspend_cluster().await {
            Ok(suspended) => suspended,
            Err(error) => {
                self.call_off(&format!("{error:#}"));
                if let Err(error) = self.open_events() {
                    warn!("{error:#}");
                }
                return None;
            }
        };
        let upgrade = self.preparing.take()?.upgrade;
        let count = self.upgrades + 1;
        Some(Departure { cluster, carrier_losses, count, ..self.leave_all(upgrade).await? })
    }

    /// All but the cluster thread, which is suspended.
    pub(super) async fn leave_all(&mut self, upgrade: Upgrade) -> Option<Departure> {
        let suspended_at = Time::now();
        if let Some(serving) = &self.serving {
            // What a disk that hangs does not keep, the next program's cluster thread still knows.
            let _ = timeout(LET_GO, serving.settled()).await;
        }
        let left = match self.proxy.take() {
            Some(proxy) => timeout(LET_GO, proxy.leave()).await.ok().flatten(),
            None => None,
        };
        if let Some(peering) = self.peering.take() {
            // Its child ends with this program at the latest.
            let _ = timeout(LET_GO, peering.stop()).await;
        }
        Some(Departure {
            upgrade,
            cluster: Vec::new(),
            suspended_at,
            carrier_losses: 0,
            proxy: left,
            lock: self.lock.take()?,
            run_dir: self.run_dir.take()?,
            sockets: self.sockets.take()?,
            count: self.upgrades,
            reload: self.reloader.as_ref().is_some_and(|reloader| reloader.is_awaited()),
            renewed: false,
        })
    }

    /// What the cluster thread leaves, and how often the cluster NIC had lost its carrier before that stopped.
    pub(super) async fn suspend_cluster(&self) -> Result<(Vec<u8>, u32)> {
        let losses = Interface::inspect(&self.config.local.interface)?.carrier_losses;
        let handle = self.cluster.as_ref().context("there is no cluster thread")?.handle();
        let suspended = tokio::task::spawn_blocking(move || handle.suspend()).await?;
        Ok((suspended.context("the cluster thread did not stop")?, losses))
    }

    /// Goes on with what the program before this one left, or starts over what is pinned.
    pub(in crate::agent) async fn go_on(&mut self, arrival: Result<Arrival>) -> Result<()> {
        let mut child = None;
        let why = match arrival {
            Ok(arrival) => {
                child = arrival.child();
                arrival.program().clone_into(&mut self.program);
                self.upgrades = arrival.count();
                match self.take_up(arrival).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        let why = format!("{why:#}");
        warn!("cannot go on where the program before this one stopped: {why}; starting as after a kill");
        self.let_go().await;
        // The proxy goes on until this agent has its sockets. That it has ended is to be noticed, as of any child.
        if let Some(child) = child.and_then(|pid| Child::of(pid).ok()) {
            tokio::spawn(async move { child.wait().await });
        }
        self.upgrade = Some(UpgradeStatus {
            count: self.upgrades,
            program: self.program.display().to_string(),
            failed: Some(format!("the new program could not go on and started as after a kill: {why}")),
            ..UpgradeStatus::default()
        });
        self.bring_up().await?;
        self.log(Note::new("upgrade-failed", true, format!("the upgrade became a restart: {why}")));
        Ok(())
    }

    /// First the heartbeats, then what they do not need.
    async fn take_up(&mut self, arrival: Arrival) -> Result<()> {
        let config = Arc::clone(&self.config);
        let nic = Interface::inspect(&config.local.interface)?;
        let beneath = Interface::inspect(config.local.beneath())?;
        let Legacy {
            lock,
            run_dir,
            sockets,
            proxy,
            cluster,
            upgrade,
            suspended_at,
            carrier_losses,
            reload,
            renewed,
        } = arrival.unpack(&config.local.run_dir, &beneath)?;
        (self.lock, self.run_dir) = (Some(lock), Some(run_dir));
        let sockets = Arc::clone(self.sockets.insert(Arc::new(sockets)));

        let pins = dataplane::pins_of(config.local.beneath())?;
        if renewed {
            return self.begin_anew(&nic, &pins, proxy, sockets).await;
        }
        // A cable that was pulled and plugged again while no agent looked has ended what the node held all the same.
        let lost = (nic.carrier_losses != carrier_losses).then_some(false);
        let carrier = lost.into_iter().chain([nic.carrier]);
        let handle = self.resume_cluster(&cluster, carrier, &nic, &pins)?;
        let silent_ms = u64::try_from(Time::now().since(suspended_at).as_millis()).unwrap_or(u64::MAX);
        self.open_events()?;
        self.take_up_serving(&handle);
        self.replace_program(&nic, &pins)?;
        self.take_up_proxy(proxy)?;
        self.upgrade = Some(UpgradeStatus { silent_ms, ..upgrade });
        self.open_control(handle, sockets)?;
        self.tell_of_upgrade();
        if reload {
            self.reload();
        }
        Ok(())
    }

    fn resume_cluster(
        &mut self,
        saved: &str,
        carrier: impl Iterator<Item = bool>,
        nic: &Interface,
        pins: &Path,
    ) -> Result<Handle> {
        let (tables, lease) = writers_of(pins)?;
        let (sender, outputs) = unbounded_channel();
        self.outputs = Some(outputs);
        let (maps, network) = (Maps { tables, lease }, self.network(&self.config, nic));
        let (me, secret) = (self.config.me().priority, self.secret.clone());
        let cluster = Cluster::resume(saved.as_bytes(), me, network, secret, maps, carrier, sender)?;
        if let Some(why) = &cluster.ordinary_priority {
            warn!(%why, "the cluster thread has no real-time priority: a busy host may delay heartbeats");
        }
        Ok(self.cluster.insert(cluster).handle())
    }

    pub(super) fn replace_program(&mut self, nic: &Interface, pins: &Path) -> Result<()> {
        let (config, mac) = (Arc::clone(&self.config), self.plan.config.cluster_mac);
        let (name, beneath) = (&config.local.interface, config.local.beneath());
        let dataplane = Dataplane::replace_beneath(&self.plan, name, beneath, config.local.xdp, pins)?;
        let dataplane = self.dataplane.insert(dataplane);
        self.link = true;
        dataplane.let_in_by(Link::setup(&config, nic, mac)?.filter);
        if !config.cluster.observe {
            self.voice = Some(Voice::open(&config, nic, mac, dataplane.hearing())?);
        }
        Ok(())
    }

    /// The supervisor of a proxy that the program before this one had.
    pub(super) fn resume_proxy(&self, left: Left) -> Result<Supervisor> {
        let local = &self.config.local;
        let log = crate::proxy::supervisor::open_log(local.access_log.as_deref())?;
        Ok(Supervisor::resume_from(left, &super::own_program(), &local.proxy_user, log)?)
    }

    pub(super) fn take_up_proxy(&mut self, left: Option<Left>) -> Result<()> {
        let mut supervisor = match left {
            Some(left) => self.resume_proxy(left)?,
            None => match self.prepare_proxy(self.publishes())? {
                Some(spec) => Supervisor::start(spec)?,
                None => return Ok(()),
            },
        };
        if let Some(serving) = &mut self.serving {
            serving.follow(&mut supervisor);
        }
        self.proxy = Some(supervisor);
        self.restore_servers();
        Ok(())
    }

    /// The cluster thread goes on with what it was told: what is not found out anew yet moves nothing.
    fn take_up_serving(&mut self, cluster: &Handle) {
        let snapshot = cluster.snapshot();
        let told = snapshot.wants.iter().map(|want| want.ready).collect();
        let intent = snapshot.mandate.intent;
        self.serving = Some(Serving::begin(&self.config, &self.plan, intent, told));
    }

    fn tell_of_upgrade(&self) {
        let Some(upgrade) = &self.upgrade else { return };
        let version = env!("CARGO_PKG_VERSION");
        let note = match &upgrade.failed {
            None => {
                let (from, silent) = (&upgrade.from, upgrade.silent_ms);
                let text = format!(
                    "upgraded in place from version {from} to {version}: no heartbeat for {silent} ms, nothing moved"
                );
                info!("{text}");
                Note::new("upgraded", false, text)
            }
            Some(why) => {
                let text = format!("not upgraded: {why}; this program goes on");
                warn!("{text}");
                Note::new("upgrade-failed", true, text)
            }
        };
        self.log(note);
    }

    /// Lets go of what was taken up of another program, as if this one had been killed.
    async fn let_go(&mut self) {
        if let Some(control) = self.control.take() {
            control.abort();
            let _ = control.await;
        }
        if let Some(cluster) = self.cluster.take() {
            // It has ended in any case.
            let _ = tokio::task::spawn_blocking(move || cluster.leave()).await;
        }
        // Its threads end before the next log is opened; after an error they are left to themselves.
        let _ = self.close_events().await;
        (self.proxy, self.voice, self.dataplane, self.outputs) = (None, None, None, None);
        self.serving = None;
        (self.sockets, self.run_dir, self.lock) = (None, None, None);
    }
}
