//! Another configuration for an agent that runs: read and checked whole, then given to the proxy, and only then in force. Where nodes
//! must agree on what changes it is prepared, and comes into force whole when the cluster switches to it (`cluster/node/facts.rs`).
//! What is more than that needs a restart (`facts.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256};
use lb_common::table::{Bucket, BucketState};
use thiserror::Error;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::canary::{self, Outcome, Probe};
use super::events::{EventLog, Note};
use super::facts::{Differences, differences, facts_of, switched};
use super::shared::{Applier, Outlook};
use super::status::name;
use crate::clock::Time;
use crate::cluster::driver::Handle;
use crate::cluster::wire::Phase;
use crate::config::model::{Config, Files, Filtering, PortRule};
use crate::config::secret::{ClusterSecret, SecretError};
use crate::config::{self, told};
use crate::control::api::{ConfigurationStatus, ProxyStatus, Reloaded};
use crate::dataplane::Plan;
use crate::dataplane::plan::tables_of;
use crate::preflight::{self, PreflightErrors};
use crate::proxy::served::{BuildError, check};
use crate::proxy::snapshot::Snapshot;
use crate::proxy::spawn::Account;
use crate::proxy::supervisor::{self, ApplyError, Changer, ReplaceError, SupervisorError, question};
use crate::shared::message::Work;
use crate::shared::origin::{LoadError, Origin};
use crate::wall::WallTime;

/// How long a proxy may take to apply a configuration before its answer is not waited for any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a switch is waited for that is under way.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// How long other nodes have to say that they have prepared the same.
const SAID: Duration = Duration::from_millis(300);

/// How many configurations may be prepared: as many as the cluster thread knows of.
const PENDING: usize = crate::cluster::wire::MAX_KNOWN;

/// What the agent is to do with a configuration.
#[derive(Debug)]
pub(super) enum Change {
    /// It is in force.
    Applied(Arc<Config>),
    /// The cluster is to switch to it, and to this secret, once all nodes have prepared it.
    Prepare(Arc<Config>, ClusterSecret),
    /// Nothing is to be switched to any more.
    Withdraw,
    /// Other nodes may come to seal with this secret, which this agent takes up when it is started anew.
    Expect(ClusterSecret),
    /// This node is none of the cluster any more: the agent is to end in good order.
    Dismiss,
    /// The agent is to begin anew in the same process, with what its store says by now, once no change is being made.
    Renew,
    /// None is.
    RenewNow,
}

/// The others that a reload works with.
pub(super) struct Ends {
    /// The agent, which works with what is in force.
    pub(super) agent: mpsc::Sender<Change>,
    /// The cluster thread.
    pub(super) cluster: Handle,
}

/// The proxy.
pub(super) struct Published {
    /// What it serves.
    pub(super) changer: Changer,
    /// How it does.
    pub(super) status: watch::Receiver<ProxyStatus>,
}

/// A configuration that is prepared.
struct Pending {
    facts: u64,
    config: Arc<Config>,
    secret: ClusterSecret,
    snapshot: Snapshot,
    replace_worker: bool,
}

/// What reloading needs.
pub(super) struct Reloader {
    files: Origin,
    /// That of what is in force.
    secret: ArcSwap<ClusterSecret>,
    in_force: Arc<ArcSwap<Config>>,
    /// `None`: nothing is published.
    proxy: Option<Published>,
    status: watch::Sender<ConfigurationStatus>,
    ends: Ends,
    /// The latest first; at most `PENDING`.
    pending: Mutex<Vec<Pending>>,
    events: Arc<EventLog>,
    /// Held while one is under way, or an upgrade, which must not come between a proxy and what it is asked.
    turn: Arc<Mutex<()>>,
    /// One waits for its turn.
    waits: AtomicBool,
}

/// Why the configuration in force is what it was.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    /// The files have errors, or the store cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What the cluster, or this node's data path, works with is another.
    #[error(
        "{} cannot be changed while the agent runs: that needs a restart; hint: put the old text back and reload, or restart the nodes one after the other: rollcall rolling-restart",
        .0.join(", ")
    )]
    NeedsRestart(Vec<&'static str>),
    /// A file that the configuration names cannot be used.
    #[error(transparent)]
    Material(#[from] SupervisorError),
    /// This host, or its network, does not let it.
    #[error(transparent)]
    Preflight(#[from] PreflightErrors),
    /// What is published cannot be served.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The proxy does not take it.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// No other worker took over.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    /// The proxy gave no answer. It may still apply it.
    #[error("the proxy gave no answer for {PATIENCE:?}; hint: look at its log, then reload again")]
    Silent,
    /// The files were not read in time.
    #[error(
        "the files were not read within {PATIENCE:?}; hint: is one of them on a file system that hangs, or no regular file?"
    )]
    Unread,
    /// The cluster thread did not take it, or the cluster has switched to something else meanwhile.
    #[error("it could not be prepared; hint: look at the agent's log, then reload again")]
    Unprepared,
    /// Another is under way.
    #[error("{BUSY}")]
    Busy,
    /// The agent is ending.
    #[error("the agent is stopping")]
    Stopping,
}

impl Refusal {
    /// Whether what was to be applied is wrong, not the proxy, the host or the moment.
    pub(super) fn is_configuration(&self) -> bool {
        match self {
            Self::Load(error) => matches!(error, LoadError::Config(_)),
            Self::Preflight(errors) => errors.is_configuration(),
            Self::Material(error) => error.is_configuration(),
            Self::Secret(_) | Self::Build(_) => true,
            Self::NeedsRestart(_)
            | Self::Apply(_)
            | Self::Replace(_)
            | Self::Silent
            | Self::Unread
            | Self::Unprepared
            | Self::Busy
            | Self::Stopping => false,
        }
    }
}

/// Why neither a configuration nor an upgrade is begun while another of either is under way.
pub(super) const BUSY: &str =
    "a configuration is being applied, or an upgrade is under way; hint: wait for it";

impl Reloader {
    /// `config` is in force; `turn` is shared with upgrades.
    pub(super) fn new(
        files: Origin,
        secret: ClusterSecret,
        config: Arc<Config>,
        proxy: Option<Published>,
        ends: Ends,
        events: Arc<EventLog>,
        turn: Arc<Mutex<()>>,
    ) -> Self {
        let hash = served(proxy.as_ref().map(|proxy| &proxy.changer), &config, &secret)
            .map(|snapshot| hash_of(&config, &secret, &snapshot));
        let status = ConfigurationStatus {
            // Without a proxy nothing but the configuration is read, which could be a moment ago.
            hash: hash.unwrap_or_default(),
            applied: Some(WallTime::now()),
            ..ConfigurationStatus::default()
        };
        let in_force = Arc::new(ArcSwap::new(config));
        let status = watch::Sender::new(status);
        let pending = Mutex::default();
        let waits = AtomicBool::new(false);
        let secret = ArcSwap::from_pointee(secret);
        Self { files, secret, in_force, proxy, status, ends, pending, events, turn, waits }
    }

    /// The configuration in force.
    pub(super) fn in_force(&self) -> Arc<Config> {
        self.in_force.load_full()
    }

    /// The cluster secret in force.
    pub(super) fn secret(&self) -> Arc<ClusterSecret> {
        self.secret.load_full()
    }

    /// What is served; of a node that only observes, what would be.
    pub(super) fn served(&self) -> Result<Arc<Snapshot>, SupervisorError> {
        served(self.proxy.as_ref().map(|proxy| &proxy.changer), &self.in_force(), &self.secret())
    }

    /// Since when it is, and what became of the last reload.
    pub(super) fn status(&self) -> ConfigurationStatus {
        let waits_for = self.awaited(&self.in_force());
        ConfigurationStatus { waits_for, ..self.status.borrow().clone() }
    }

    /// As `reload`, but waits for its turn: nobody is there to be told that it has not come. One that waits already reads the files
    /// after this.
    pub(super) async fn reload_in_turn(&self) {
        if self.waits.swap(true, Ordering::AcqRel) {
            return;
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        self.waits.store(false, Ordering::Release);
        // It is logged.
        self.reload_with(turn, false).await.ok();
    }

    /// Whether one waits for its turn.
    pub(super) fn is_awaited(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// Reads the files again and has what they say of the service applied; with `replace_worker` by another worker, which takes
    /// over. Whatever is refused changes nothing.
    pub(super) async fn reload(&self, replace_worker: bool) -> Result<Reloaded, Refusal> {
        let turn = Arc::clone(&self.turn).try_lock_owned().map_err(|_| Refusal::Busy)?;
        self.reload_with(turn, replace_worker).await
    }

    async fn reload_with(
        &self,
        _turn: OwnedMutexGuard<()>,
        replace_worker: bool,
    ) -> Result<Reloaded, Refusal> {
        let outcome = self.try_reload(replace_worker).await;
        self.report(&outcome);
        outcome
    }

    fn report(&self, outcome: &Result<Reloaded, Refusal>) {
        match outcome {
            Ok(Reloaded { hash, waits_for: Some(nodes), .. }) => {
                let text = format!("a configuration is prepared ({hash}); waits for: {}", nodes.join(", "));
                info!("{text}");
                self.events.push(Note::new("prepared", false, text));
            }
            Ok(Reloaded { hash, changed, .. }) => {
                let what = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
                let text = format!("the configuration was applied ({hash}); changed: {what}");
                info!("{text}");
                self.events.push(Note::new("reloaded", false, text));
            }
            Err(refusal) => {
                let text = format!("the configuration was not applied: {}", told(refusal));
                warn!("{text}");
                self.status.send_modify(|status| status.refused = Some(told(refusal)));
                self.events.push(Note::new("reload-refused", true, text));
            }
        }
    }

    async fn try_reload(&self, replace_worker: bool) -> Result<Reloaded, Refusal> {
        let files = self.files.clone();
        let examined = self.examine_what(move || Ok(files.load()?)).await?;
        let Differences { renewed, restart } = &examined.differences;
        if !renewed.is_empty() || !restart.is_empty() {
            return Err(Refusal::NeedsRestart(renewed.iter().chain(restart).copied().collect()));
        }
        self.put_in_force(examined, replace_worker).await
    }

    async fn examine_what(
        &self,
        load: impl FnOnce() -> Result<Config, Refusal> + Send + 'static,
    ) -> Result<Examined, Refusal> {
        let (before, old) = (self.in_force(), self.secret());
        let read = tokio::task::spawn_blocking(move || read(load()?, &before, &old));
        let read = timeout(PATIENCE, read).await.map_err(|_| Refusal::Unread)?;
        let Read { config, secret, snapshot, warnings, differences } =
            read.map_err(|_| Refusal::Stopping)??;
        let hash = hash_of(&config, &secret, &snapshot);
        let mut changed = changed(&self.in_force(), &config);
        if !secret.is(&self.secret()) {
            changed.push("the cluster secret".to_owned());
        }
        if changed.is_empty() && hash != self.status().hash {
            changed.push("certificates, keys or other files".to_owned());
        }
        Ok(Examined { config, secret, snapshot, hash, changed, warnings, differences })
    }

    async fn put_in_force(&self, examined: Examined, replace_worker: bool) -> Result<Reloaded, Refusal> {
        let Examined { config, secret, snapshot, hash, changed, warnings, differences: _ } = examined;
        let before = self.in_force();
        let (facts, config) = (facts_of(&config, &secret), Arc::new(config));
        let pending =
            Pending { facts, config: Arc::clone(&config), secret: secret.clone(), snapshot, replace_worker };
        if facts != facts_of(&before, &self.secret()) {
            let waits_for = self.prepare(pending).await?;
            return Ok(Reloaded { hash, changed, warnings, waits_for });
        }
        // What nodes need not have in common the cluster thread takes at once.
        self.pending.lock().await.clear();
        let change = if switched(&before, &config).is_empty() {
            Change::Withdraw
        } else {
            Change::Prepare(config, secret)
        };
        self.tell(change).await?;
        self.apply(pending).await?;
        Ok(Reloaded { hash, changed, warnings, waits_for: None })
    }

    async fn tell(&self, change: Change) -> Result<(), Refusal> {
        self.ends.agent.send(change).await.map_err(|_| Refusal::Stopping)
    }

    /// Has the proxy apply a configuration, which then is in force.
    async fn apply(&self, pending: Pending) -> Result<(), Refusal> {
        let Pending { config, secret, snapshot, replace_worker, .. } = pending;
        let hash = hash_of(&config, &secret, &snapshot);
        if let Some(Published { changer: proxy, .. }) = &self.proxy {
            let applied = async {
                if replace_worker {
                    proxy.replace(Some(snapshot)).await.map_err(Refusal::from)
                } else {
                    proxy.apply(snapshot).await.map_err(Refusal::from)
                }
            };
            timeout(PATIENCE, applied).await.map_err(|_| Refusal::Silent)??;
        }
        self.is_in_force(config, secret, hash).await
    }

    async fn is_in_force(
        &self,
        config: Arc<Config>,
        secret: ClusterSecret,
        hash: String,
    ) -> Result<(), Refusal> {
        self.secret.store(Arc::new(secret));
        self.in_force.store(Arc::clone(&config));
        let applied = Some(WallTime::now());
        self.status.send_replace(ConfigurationStatus { hash, applied, ..ConfigurationStatus::default() });
        self.tell(Change::Applied(config)).await
    }

    /// Prepares what nodes must agree on, and waits for a switch that is under way. For whom it waits; `None`: it is in force.
    async fn prepare(&self, next: Pending) -> Result<Option<Vec<String>>, Refusal> {
        let (facts, config, secret) = (next.facts, Arc::clone(&next.config), next.secret.clone());
        {
            let mut pending = self.pending.lock().await;
            pending.retain(|known| known.facts != facts);
            pending.insert(0, next);
            pending.truncate(PENDING);
        }
        self.tell(Change::Prepare(Arc::clone(&config), secret)).await?;
        let began = Time::now();
        loop {
            sleep(Duration::from_millis(20)).await;
            if self.ends.cluster.snapshot().facts == facts {
                self.take_up(facts).await?;
                return Ok(None);
            }
            let waited = Time::now().since(began);
            let awaited = self.awaited(&config);
            let others = awaited.as_ref().is_some_and(|nodes| !nodes.is_empty());
            let known = self.ends.cluster.snapshot().preparation.as_ref().is_some_and(|it| it.facts == facts);
            if waited >= UNDER_WAY && !known {
                return Err(Refusal::Unprepared);
            }
            if waited >= UNDER_WAY || others && waited >= SAID {
                return Ok(Some(awaited.unwrap_or_default()));
            }
        }
    }

    /// For whom the cluster thread waits with a switch, by the names in `config` or in what is in force; `None`: for nothing.
    fn awaited(&self, config: &Config) -> Option<Vec<String>> {
        let preparation = self.ends.cluster.snapshot().preparation.clone()?;
        let nodes = preparation.awaited.iter().chain(&preparation.leaving);
        let known = |config: &Config, node| config.cluster.nodes.iter().any(|other| other.priority == node);
        let in_force = self.in_force();
        let config = |node| if known(config, node) { config } else { &*in_force };
        Some(nodes.map(|node| name(config(*node), *node)).collect())
    }

    /// The cluster has switched to facts that were prepared: the rest of their configuration comes into force, too.
    pub(super) async fn switched(&self, facts: u64) {
        let _turn = Arc::clone(&self.turn).lock_owned().await;
        if let Err(refusal) = self.take_up(facts).await {
            let text = format!("the cluster has switched, but what is published stays: {}", told(&refusal));
            warn!("{text}");
            self.status.send_modify(|status| status.refused = Some(text.clone()));
            self.events.push(Note::new("reload-refused", true, text));
        }
    }

    /// Nothing is left to do if a reload has done it.
    async fn take_up(&self, facts: u64) -> Result<(), Refusal> {
        let next = {
            let mut pending = self.pending.lock().await;
            let place = pending.iter().position(|known| known.facts == facts);
            place.map(|place| pending.remove(place))
        };
        let Some(next) = next else { return Ok(()) };
        let (config, secret) = (Arc::clone(&next.config), next.secret.clone());
        let old = self.status.borrow().hash.clone();
        let applied = self.apply(next).await;
        if applied.is_err() {
            // The cluster goes by it, whatever the proxy says.
            self.is_in_force(config, secret, old).await?;
        }
        applied
    }
}

/// A configuration that could be applied.
pub(super) struct Examined {
    config: Config,
    secret: ClusterSecret,
    snapshot: Snapshot,
    hash: String,
    changed: Vec<String>,
    warnings: Vec<String>,
    /// Where there are any, nothing of it is applied at once.
    differences: Differences,
}

impl Applier for Arc<Reloader> {
    type Examined = Examined;

    async fn examine(&self, config: Config) -> Result<(Examined, Outlook), Refusal> {
        let examined = self.examine_what(move || Ok(config)).await?;
        let (changed, warnings) = (examined.changed.clone(), examined.warnings.clone());
        let names = |names: &[&str]| names.iter().map(|what| (*what).to_owned()).collect();
        let (renewed, restart) = (names(&examined.differences.renewed), names(&examined.differences.restart));
        let at_work = facts_of(&self.in_force(), &self.secret());
        let together = facts_of(&examined.config, &examined.secret) != at_work;
        Ok((examined, Outlook { changed, warnings, renewed, restart, together }))
    }

    async fn adopt(&self, examined: Examined) -> Result<(), Refusal> {
        let Differences { renewed, restart } = &examined.differences;
        if !restart.is_empty() {
            let what = restart.iter().chain(renewed).copied().collect::<Vec<_>>().join(", ");
            let text = format!(
                "the configuration was changed, and this agent takes up {what} when it is started anew"
            );
            warn!("{text}");
            self.events.push(Note::new("restart-needed", true, text));
            // Who is started anew before this one seals with it.
            return self.tell(Change::Expect(examined.secret)).await;
        }
        if !renewed.is_empty() {
            info!("this agent begins anew with other {}", renewed.join(", "));
            return self.tell(Change::Renew).await;
        }
        let _turn = Arc::clone(&self.turn).lock_owned().await;
        let outcome = self.put_in_force(examined, false).await;
        self.report(&outcome);
        outcome.map(drop)
    }

    fn probes(&self, examined: &Examined) -> Vec<Probe> {
        if self.proxy.is_some() { canary::probes(&examined.snapshot) } else { Vec::new() }
    }

    async fn ask(&self, probes: &[Probe]) -> Vec<Outcome> {
        canary::probe::ask(probes, self.proxy.as_ref().map(|proxy| &proxy.status)).await
    }

    async fn work(&self) -> Option<Work> {
        self.proxy.as_ref()?;
        let tally = question::tally(&self.in_force().local.run_dir).await.ok()?;
        Some(Work { answers: self.answers(), tally })
    }

    fn one_answers(&self) -> bool {
        let config = self.in_force();
        let mut spreads = published(&config).map(|(_, rule)| rule.spread.filtering).peekable();
        spreads.peek().is_some() && spreads.all(|filtering| filtering == Filtering::Single)
    }

    async fn dismiss(&self) {
        // An agent that ends already does what is wanted.
        drop(self.tell(Change::Dismiss).await);
    }
}

impl Reloader {
    /// Whether any connection to what is published could come to this node now.
    fn answers(&self) -> bool {
        let (config, snapshot) = (self.in_force(), self.ends.cluster.snapshot());
        let serves = matches!(snapshot.phase, Phase::Serving | Phase::Stopping) && snapshot.lease.is_some();
        let tables = tables_of(&config.cluster.rules);
        let mut tables = published(&config).filter_map(|(rule, _)| tables.get(rule).copied().flatten());
        serves
            && tables.any(|table| {
                snapshot.tables.get(table).is_some_and(|table| {
                    Bucket::all().any(|bucket| {
                        matches!(table.state(bucket), BucketState::Mine | BucketState::Arriving)
                    })
                })
            })
    }
}

/// The port rules, and their places, that what is published is reached by; redirects to it apart.
fn published(config: &Config) -> impl Iterator<Item = (usize, &PortRule)> {
    let cluster = &config.cluster;
    let sites = || cluster.sites.iter().flat_map(|site| &site.listen);
    let listens = move || sites().chain(cluster.tcp.iter().flat_map(|service| &service.listen));
    cluster.rules.iter().enumerate().filter(move |(_, rule)| {
        listens().any(|at| {
            let ips = cluster.cluster_ips.iter().map(|ip| ip.address);
            let mut ips = ips.filter(|ip| at.ip().is_unspecified() || *ip == at.ip());
            ips.any(|ip| rule.covers_tcp(ip, at.port()))
        })
    })
}

/// A configuration with all that was found out about it.
struct Read {
    config: Config,
    secret: ClusterSecret,
    snapshot: Snapshot,
    warnings: Vec<String>,
    differences: Differences,
}

/// Checks all, and reads the files that it names; blocks for as long as the disk takes.
fn read(config: Config, before: &Config, old: &ClusterSecret) -> Result<Read, Refusal> {
    let mut differences = differences(before, &config);
    let secret = config.secret()?;
    match config.files {
        // All nodes switch to it at once.
        Files::Held(_) => {}
        Files::Disk if secret.is(old) => {}
        Files::Disk => differences.restart.push("the cluster secret"),
    }
    let publishes = |config: &Config| config.cluster.listens().next().is_some();
    if publishes(before) != publishes(&config) {
        let what = "whether anything is published at all";
        match config.files {
            Files::Held(_) => differences.renewed.push(what),
            Files::Disk => differences.restart.push(what),
        }
        if publishes(&config) {
            Account::find(&config.local.proxy_user).map_err(SupervisorError::from)?;
        }
    }
    let snapshot = supervisor::snapshot(&config, &secret)?;
    check(&snapshot)?;
    if let (Files::Held(_), false) = (&config.files, differences.renewed.is_empty()) {
        let mac = Plan::new(&config, secret.hash_seed()).config.cluster_mac;
        preflight::check_added(before, &config, mac)?;
    }
    let warnings = config::warnings(&config);
    Ok(Read { config, secret, snapshot, warnings, differences })
}

fn served(
    proxy: Option<&Changer>,
    config: &Config,
    secret: &ClusterSecret,
) -> Result<Arc<Snapshot>, SupervisorError> {
    proxy.map_or_else(|| supervisor::snapshot(config, secret).map(Arc::new), |proxy| Ok(proxy.served()))
}

/// What is served and the cluster facts, as one short text: the same on all nodes where they are the same.
fn hash_of(config: &Config, secret: &ClusterSecret, snapshot: &Snapshot) -> String {
    let mut context = Context::new(&SHA256);
    context.update(&facts_of(config, secret).to_le_bytes());
    // Certificates of before depend on when a node was told of the new ones.
    let mut snapshot = snapshot.clone();
    snapshot.forget();
    // What is served has been written as JSON before.
    context.update(&serde_json::to_vec(&snapshot).unwrap_or_default());
    context.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What the text says otherwise than before, in words.
fn changed(before: &Config, now: &Config) -> Vec<String> {
    let (old, new) = (&before.cluster, &now.cluster);
    let parts = [
        ("sites", old.sites != new.sites),
        ("farms", old.farms != new.farms),
        ("TCP services", old.tcp != new.tcp),
        ("limits", old.limits != new.limits),
        ("log", old.log != new.log),
        ("protection", old.protection != new.protection),
        ("trusted proxies", old.trusted_proxies != new.trusted_proxies),
        ("where generations are kept", old.store != new.store),
        ("drain timeout", old.drain_timeout != new.drain_timeout),
    ];
    let parts = parts.into_iter().filter(|(_, is)| *is).map(|(name, _)| name);
    parts.chain(switched(before, now)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::explain::tests::config;

    #[test]
    fn what_changed_is_named() {
        let before = config();
        let mut now = before.clone();
        now.cluster.drain_timeout = Duration::from_secs(1);
        now.cluster.limits.head_fields = 33;
        assert_eq!(changed(&before, &now), ["limits", "drain timeout"]);
        assert_eq!(changed(&before, &before), Vec::<String>::new());
    }

    #[test]
    fn what_the_cluster_switches_to_needs_no_restart_and_is_named() {
        let before = config();
        let mut now = before.clone();
        let mut other = now.cluster.nodes[0].clone();
        (other.name, other.priority) = ("arr9".to_owned(), crate::config::model::Priority::new(9).unwrap());
        now.cluster.nodes.push(other);
        now.cluster.timing.multiplier += 1;
        now.cluster.ramp += Duration::from_secs(1);
        assert_eq!(differences(&before, &now), Differences::default());
        assert_eq!(changed(&before, &now), ["nodes", "heartbeats", "ramp"]);
    }

    #[test]
    fn what_an_agent_begins_anew_for_is_named() {
        let before = config();
        let mut now = before.clone();
        now.cluster.mode = crate::config::model::Mode::Unicast;
        now.cluster.rules.truncate(1);
        now.cluster.cluster_ips.truncate(1);
        let Differences { renewed, restart } = differences(&before, &now);
        assert_eq!(restart, Vec::<&str>::new());
        assert!(renewed.contains(&"`mode`") && renewed.iter().any(|name| name.contains("port rules")));
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let before = config();
        assert_eq!(differences(&before, &before), Differences::default());
        let mut now = before.clone();
        now.cluster.observe = !now.cluster.observe;
        now.cluster.nodes[0].address = std::net::Ipv4Addr::LOCALHOST;
        now.local.syslog = !now.local.syslog;
        now.cluster.drain_timeout = Duration::ZERO;
        let Differences { renewed, restart: names } = differences(&before, &now);
        assert_eq!(renewed, Vec::<&str>::new());
        assert_eq!(names, ["this node's own entry ([[node]])", "`observe`", "this node's own file"]);
        let text = Refusal::NeedsRestart(names).to_string();
        assert!(
            text.starts_with(
                "this node's own entry ([[node]]), `observe`, this node's own file cannot be changed"
            ),
            "{text}"
        );
    }
}
