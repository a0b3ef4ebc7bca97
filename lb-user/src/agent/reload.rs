//! Another configuration for an agent that runs: read and checked whole, then given to the proxy, and only then in force. What the
//! cluster must agree on is not changed so: that needs a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256};
use thiserror::Error;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use super::events::{EventLog, Note};
use super::facts::{differences, digest_of};
use super::upgrade::Files;
use crate::config::model::Config;
use crate::config::secret::{ClusterSecret, SecretError};
use crate::config::{self, ConfigErrors};
use crate::control::api::{ConfigurationStatus, Reloaded};
use crate::proxy::served::{BuildError, check};
use crate::proxy::snapshot::Snapshot;
use crate::proxy::supervisor::{self, ApplyError, Changer, ReplaceError, SupervisorError};
use crate::wall::WallTime;

/// How long a proxy may take to apply a configuration before its answer is not waited for any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// What reloading needs.
pub(super) struct Reloader {
    files: Files,
    secret: ClusterSecret,
    in_force: Arc<ArcSwap<Config>>,
    /// `None`: nothing is published.
    proxy: Option<Changer>,
    status: watch::Sender<ConfigurationStatus>,
    /// The agent, which works with what is in force.
    agent: mpsc::Sender<Arc<Config>>,
    events: Arc<EventLog>,
    /// Held while one is under way, or an upgrade, which must not come between a proxy and what it is asked.
    turn: Arc<Mutex<()>>,
    /// One waits for its turn.
    waits: AtomicBool,
}

/// Why the configuration in force is what it was.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    /// The files have errors.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
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
    /// Another is under way.
    #[error("{BUSY}")]
    Busy,
    /// The agent is ending.
    #[error("the agent is stopping")]
    Stopping,
}

/// Why neither a configuration nor an upgrade is begun while another of either is under way.
pub(super) const BUSY: &str =
    "a configuration is being applied, or an upgrade is under way; hint: wait for it";

impl Reloader {
    /// `config` is in force; `turn` is shared with upgrades.
    pub(super) fn new(
        files: Files,
        secret: ClusterSecret,
        config: Arc<Config>,
        proxy: Option<Changer>,
        agent: mpsc::Sender<Arc<Config>>,
        events: Arc<EventLog>,
        turn: Arc<Mutex<()>>,
    ) -> Self {
        let hash =
            served(proxy.as_ref(), &config, &secret).map(|snapshot| hash_of(&config, &secret, &snapshot));
        let status = ConfigurationStatus {
            // Without a proxy nothing but the configuration is read, which could be a moment ago.
            hash: hash.unwrap_or_default(),
            applied: Some(WallTime::now()),
            refused: None,
        };
        let in_force = Arc::new(ArcSwap::new(config));
        let status = watch::Sender::new(status);
        Self { files, secret, in_force, proxy, status, agent, events, turn, waits: AtomicBool::new(false) }
    }

    /// The configuration in force.
    pub(super) fn in_force(&self) -> Arc<Config> {
        self.in_force.load_full()
    }

    /// What is served; of a node that only observes, what would be.
    pub(super) fn served(&self) -> Result<Arc<Snapshot>, SupervisorError> {
        served(self.proxy.as_ref(), &self.in_force(), &self.secret)
    }

    /// Since when it is, and what became of the last reload.
    pub(super) fn status(&self) -> ConfigurationStatus {
        self.status.borrow().clone()
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
        match &outcome {
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
        outcome
    }

    async fn try_reload(&self, replace_worker: bool) -> Result<Reloaded, Refusal> {
        let (before, files, secret) = (self.in_force(), self.files.clone(), self.secret.clone());
        let read = tokio::task::spawn_blocking(move || read(&files, &before, &secret));
        let read = timeout(PATIENCE, read).await.map_err(|_| Refusal::Unread)?;
        let (config, snapshot, warnings) = read.map_err(|_| Refusal::Stopping)??;
        let before = self.in_force();
        let hash = hash_of(&config, &self.secret, &snapshot);
        let changed = changed(&before, &config, hash != self.status().hash);
        if let Some(proxy) = &self.proxy {
            let applied = async {
                if replace_worker {
                    proxy.replace(Some(snapshot)).await.map_err(Refusal::from)
                } else {
                    proxy.apply(snapshot).await.map_err(Refusal::from)
                }
            };
            timeout(PATIENCE, applied).await.map_err(|_| Refusal::Silent)??;
        }
        let config = Arc::new(config);
        self.in_force.store(Arc::clone(&config));
        let applied = Some(WallTime::now());
        self.status.send_replace(ConfigurationStatus { hash: hash.clone(), applied, refused: None });
        self.agent.send(config).await.map_err(|_| Refusal::Stopping)?;
        Ok(Reloaded { hash, changed, warnings })
    }
}

/// An error and its causes as one text, without what stands in the text already.
pub(super) fn told(refusal: &Refusal) -> String {
    let mut text = refusal.to_string();
    let mut cause = std::error::Error::source(refusal);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Reads and checks all; blocks for as long as the disk takes.
fn read(
    files: &Files,
    before: &Config,
    secret: &ClusterSecret,
) -> Result<(Config, Snapshot, Vec<String>), Refusal> {
    let config = config::load(&files.cluster, files.node.as_deref())?;
    let mut needs_restart = differences(before, &config);
    if !ClusterSecret::read(&config.local.secret_file)?.is(secret) {
        needs_restart.push("the cluster secret");
    }
    let publishes = |config: &Config| config.cluster.listens().next().is_some();
    if publishes(before) != publishes(&config) {
        needs_restart.push("whether anything is published at all");
    }
    if !needs_restart.is_empty() {
        return Err(Refusal::NeedsRestart(needs_restart));
    }
    let snapshot = supervisor::snapshot(&config, secret)?;
    check(&snapshot)?;
    let warnings = config::warnings(&config);
    Ok((config, snapshot, warnings))
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
    context.update(&digest_of(&config.cluster, secret.hash_seed()).to_le_bytes());
    // Certificates of before depend on when a node was told of the new ones.
    let mut snapshot = snapshot.clone();
    snapshot.forget();
    // What is served has been written as JSON before.
    context.update(&serde_json::to_vec(&snapshot).unwrap_or_default());
    context.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What is not as before, in words; `material`: whether anything is.
fn changed(before: &Config, now: &Config, material: bool) -> Vec<String> {
    let (old, new) = (&before.cluster, &now.cluster);
    let parts = [
        ("sites", old.sites != new.sites),
        ("farms", old.farms != new.farms),
        ("TCP services", old.tcp != new.tcp),
        ("limits", old.limits != new.limits),
        ("log", old.log != new.log),
        ("protection", old.protection != new.protection),
        ("trusted proxies", old.trusted_proxies != new.trusted_proxies),
        ("drain timeout", old.drain_timeout != new.drain_timeout),
    ];
    let named: Vec<String> =
        parts.into_iter().filter(|(_, is)| *is).map(|(name, _)| name.to_owned()).collect();
    if named.is_empty() && material { vec!["certificates, keys or other files".to_owned()] } else { named }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::explain::tests::config;

    #[test]
    fn what_changed_is_named_and_files_are_where_nothing_else_is() {
        let before = config();
        let mut now = before.clone();
        now.cluster.drain_timeout = Duration::from_secs(1);
        now.cluster.limits.head_fields = 33;
        assert_eq!(changed(&before, &now, true), ["limits", "drain timeout"]);
        assert_eq!(changed(&before, &before, true), ["certificates, keys or other files"]);
        assert_eq!(changed(&before, &before, false), Vec::<String>::new());
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let before = config();
        assert_eq!(differences(&before, &before), Vec::<&str>::new());
        let mut now = before.clone();
        now.cluster.observe = !now.cluster.observe;
        now.cluster.nodes[0].weight += 1;
        now.local.syslog = !now.local.syslog;
        now.cluster.drain_timeout = Duration::ZERO;
        let names = differences(&before, &now);
        assert_eq!(names, ["the nodes ([[node]])", "`observe`", "this node's own file"]);
        let text = Refusal::NeedsRestart(names).to_string();
        assert!(
            text.starts_with("the nodes ([[node]]), `observe`, this node's own file cannot be changed"),
            "{text}"
        );
    }
}
