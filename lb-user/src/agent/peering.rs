//! The shared configuration's way to the other nodes: `rollcall peer`, and who asks through it.
//!
//! A node asks every other what it has when it starts, when one is reached again, when its heartbeats say that it works with something
//! else, and every now and then; so what it missed while it was away, or what was told it while it could not take it, comes to it without
//! anybody's doing. Where there is an etcd that keeps the same,
//! it is asked likewise, through `rollcall store`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, warn};

use super::events::EventLog;
use super::reload::Reloader;
use super::shared::{Asker, Network, SEEN_OFF, SharedConfig, nodes_of};
use super::status;
use super::upgrade::own_program;
use crate::clock::Time;
use crate::cluster::driver::Handle;
use crate::cluster::peer::Standing;
use crate::config::model::Config;
use crate::etcd;
use crate::etcd::request::{Reply, Request};
use crate::peer::Node;
use crate::peer::supervisor::{self, Asked, CallError, Calls, Peer, PeerError, Reach, Spec};
use crate::shared::origin::Local;

/// The shared configuration of an agent that runs.
pub(super) type Shared = SharedConfig<Arc<Reloader>, Wire>;

/// How often every other node is asked what it has.
const EVERY: Duration = Duration::from_secs(10);

/// How often what heartbeats say is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long the listening socket of before may be open still.
const FREED: Duration = Duration::from_secs(2);

/// The children and what goes on around them.
pub(super) struct Peering {
    peer: Peer,
    store: etcd::supervisor::Supervisor,
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 4],
}

/// Questions go by the children.
pub(super) struct Wire {
    calls: Calls,
    store: etcd::supervisor::Store,
}

impl Network for Wire {
    async fn call(&self, node: &str, question: Vec<u8>, within: Duration) -> Result<Vec<u8>, String> {
        self.calls.call(node, question, within).await.map_err(|error| error.to_string())
    }

    fn admit(&self, strangers: u8) {
        self.calls.admit(strangers);
    }

    async fn ask_store(&self, request: Request, within: Duration) -> Result<Reply, String> {
        self.store.ask(&request, within).await
    }

    fn follow_store(&self, settings: Option<etcd::Settings>) {
        self.store.follow(settings);
    }

    fn follow(&self, nodes: Vec<Node>) {
        if let Err(error) = self.calls.set_nodes(nodes) {
            warn!(%error, "the nodes of this configuration cannot all be talked to");
        }
    }
}

impl Peering {
    /// Starts the child that talks to other nodes, and where there is an etcd the one that talks to it, and follows what the nodes share.
    pub(super) fn start(
        config: &Config,
        local: Local,
        reloader: Arc<Reloader>,
        cluster: Handle,
        events: Arc<EventLog>,
    ) -> Result<(Self, Arc<Shared>)> {
        let applied = local.in_force()?;
        let mut peer = Peer::start(Spec {
            program: own_program(),
            user: config.local.peer_user.clone(),
            me: config.local.name.clone(),
            seed: local.keys.transport(),
            listener: Some(tokio::task::block_in_place(|| listen(config.me().address))?),
            nodes: nodes_of(&config.cluster.nodes),
        })?;
        let user = config.local.peer_user.clone();
        let spec = etcd::supervisor::Spec { program: own_program(), user };
        let store = etcd::supervisor::Supervisor::start(&spec)?;
        let wire = Wire { calls: peer.calls(), store: store.store() };
        let beats = Beats { cluster, reloader: Arc::clone(&reloader) };
        let shared = SharedConfig::new(local, &applied, reloader, wire, events);
        let shared = Arc::new(shared);
        let asked = peer.asked();
        let answers = tokio::spawn(answer(Arc::clone(&shared), asked));
        let follows = tokio::spawn(follow(Arc::clone(&shared), peer.status(), beats));
        let minding = Arc::clone(&shared);
        let minds = tokio::spawn(async move { minding.mind_trials().await });
        let keeps = tokio::spawn(keep_outside(Arc::clone(&shared), store.store()));
        let tasks = [answers, follows, minds, keeps];
        Ok((Self { peer, store, shared: Arc::clone(&shared), tasks }, shared))
    }

    /// What the nodes share.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Ends the children.
    pub(super) async fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        tokio::join!(self.peer.stop(), self.store.stop());
    }
}

/// The listening socket. The child of an agent that was killed, or replaced, may have it for a moment still.
fn listen(address: Ipv4Addr) -> Result<OwnedFd, PeerError> {
    let deadline = Time::now() + FREED;
    loop {
        match supervisor::listen(address) {
            Err(_) if Time::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            listening => return listening,
        }
    }
}

/// Answers other nodes, each question in a task of its own: one may wait for the proxy. How many there are at once the child
/// bounds.
async fn answer(shared: Arc<Shared>, asked: Option<mpsc::Receiver<Asked>>) {
    let Some(mut asked) = asked else { return };
    while let Some(Asked { from, bytes, answer }) = asked.recv().await {
        let from = match from {
            supervisor::Asker::Node(name) => Asker::Node(name),
            supervisor::Asker::Stranger { key, .. } => Asker::Stranger(key),
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            answer.give(shared.asked(from, &bytes).await);
            if shared.sees_off().await {
                sleep(SEEN_OFF).await;
                shared.see_off().await;
            }
        });
    }
}

/// What the heartbeats of the others say.
struct Beats {
    cluster: Handle,
    reloader: Arc<Reloader>,
}

impl Beats {
    /// By the names of the nodes that live and say so: the beginning of the generation that each works with.
    fn current(&self) -> BTreeMap<String, u64> {
        let (snapshot, config) = (self.cluster.snapshot(), self.reloader.in_force());
        let living = snapshot.peers.iter().filter(|peer| peer.standing == Standing::Alive);
        let telling = living.filter(|peer| peer.generations.current != 0);
        telling.map(|peer| (status::name(&config, peer.node), peer.generations.current)).collect()
    }
}

/// Who works with something else, by its heartbeats, and was not asked about that yet.
#[derive(Debug, Default)]
struct Unlike {
    /// Those of the look before.
    seen: BTreeMap<String, u64>,
    asked: BTreeMap<String, u64>,
}

impl Unlike {
    /// Those who say so for two looks running: a change that is being made reaches one node a moment after the other. Who does not give
    /// what it speaks of is not asked again for that.
    fn look(&mut self, own: u64, said: BTreeMap<String, u64>) -> Vec<String> {
        let lasts = |(node, current): &(&String, &u64)| {
            **current != own
                && self.seen.get(*node) == Some(*current)
                && self.asked.get(*node) != Some(*current)
        };
        let news: Vec<(String, u64)> =
            said.iter().filter(lasts).map(|(node, current)| (node.clone(), *current)).collect();
        self.seen = said.into_iter().filter(|(_, current)| *current != own).collect();
        self.asked.extend(news.iter().cloned());
        news.into_iter().map(|(node, _)| node).collect()
    }
}

async fn follow(
    shared: Arc<Shared>,
    mut status: tokio::sync::watch::Receiver<supervisor::PeerStatus>,
    beats: Beats,
) {
    let (mut every, mut look) = (interval(EVERY), interval(LOOK));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut reached, mut unlisted, mut unlike) = (BTreeSet::new(), BTreeSet::new(), Unlike::default());
    let mut other_keys = BTreeSet::new();
    loop {
        let asked = tokio::select! {
            _ = look.tick() => {
                let news = unlike.look(shared.current().await.beginning(), beats.current());
                if news.is_empty() {
                    continue;
                }
                news
            }
            _ = every.tick() => {
                shared.mind_the_door().await;
                shared.see_off().await;
                status.borrow().nodes.keys().cloned().collect()
            }
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
                let Stand { reached: now, refuse, others } = Stand::of(&status.borrow_and_update());
                let news: Vec<String> = now.difference(&reached).cloned().collect();
                reached = now;
                other_keys.retain(|node| !reached.contains(node));
                for (node, why) in others {
                    if other_keys.insert(node) {
                        shared.other_key(&why);
                    }
                }
                if reached.is_empty() && refuse.difference(&unlisted).next().is_some() {
                    shared.unlisted_by(&refuse.iter().cloned().collect::<Vec<_>>().join(", "));
                }
                unlisted.extend(refuse);
                news
            }
        };
        for node in asked {
            if let Err(why) = shared.sync(&node).await {
                debug!(%node, %why, "a node was not asked what it has of the configuration");
            }
        }
        // What could not be put to work before may be now.
        shared.follow().await;
    }
}

/// Has the store that is no node have what this node has, and this node what it has.
async fn keep_outside(shared: Arc<Shared>, store: etcd::supervisor::Store) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = store.news() => {}
            () = shared.fresh() => {}
        }
        shared.sync_store().await;
    }
}

/// How the other nodes stand to this one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stand {
    reached: BTreeSet<String>,
    /// Those that do not list this one.
    refuse: BTreeSet<String>,
    /// Those in whose place somebody with another key answers, and what there is to say of that.
    others: BTreeMap<String, String>,
}

impl Stand {
    fn of(status: &supervisor::PeerStatus) -> Self {
        let mut stand = Self::default();
        for (node, reach) in &status.nodes {
            match reach {
                Reach::Yes => drop(stand.reached.insert(node.clone())),
                Reach::No(CallError::Unlisted { .. }) => drop(stand.refuse.insert(node.clone())),
                Reach::No(error @ CallError::OtherKey { .. }) => {
                    drop(stand.others.insert(node.clone(), error.to_string()));
                }
                Reach::Unknown
                | Reach::No(
                    CallError::NoSuchNode { .. }
                    | CallError::Unreachable { .. }
                    | CallError::Refused { .. }
                    | CallError::Busy { .. }
                    | CallError::TimedOut { .. }
                    | CallError::TooLong { .. }
                    | CallError::Stopped,
                ) => {}
            }
        }
        stand
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::keys::{NodeKeys, Seed};

    #[test]
    fn who_is_reached_who_refuses_and_who_has_another_key_are_told_apart() {
        let key = |seed: u8| NodeKeys::new(Seed([seed; 32]), Seed([seed; 32])).public().transport;
        let whom = || "arr4".to_owned();
        let nodes = [
            ("arr2", Reach::Yes),
            ("arr3", Reach::No(CallError::Unlisted { whom: whom(), ours: key(1) })),
            ("arr4", Reach::No(CallError::OtherKey { whom: whom(), presented: key(2), wanted: key(3) })),
            ("arr5", Reach::No(CallError::Busy { whom: whom() })),
            ("arr6", Reach::Unknown),
        ];
        let nodes = nodes.into_iter().map(|(node, reach)| (node.to_owned(), reach)).collect();
        let stand = Stand::of(&supervisor::PeerStatus { nodes, ..supervisor::PeerStatus::default() });
        assert_eq!(stand.reached, ["arr2".to_owned()].into());
        assert_eq!(stand.refuse, ["arr3".to_owned()].into());
        assert_eq!(stand.others.keys().collect::<Vec<_>>(), ["arr4"]);
        assert!(stand.others["arr4"].contains("is it another host"), "{stand:?}");
    }

    #[test]
    fn who_works_with_something_else_is_asked_once_about_it_and_not_for_the_moment_of_a_change() {
        let mut unlike = Unlike::default();
        for (own, said, asked, why) in [
            (1, [1, 1], &[][..], "all have the same"),
            (1, [1, 2], &[], "it may be under way"),
            (1, [1, 2], &["arr3"], "it lasts"),
            (1, [1, 2], &[], "it was asked about that"),
            (1, [3, 2], &[], "another's may be under way"),
            (3, [3, 2], &[], "it was"),
            (3, [3, 4], &[], "something else again"),
            (3, [3, 4], &["arr3"], "it lasts"),
            (4, [3, 4], &[], "now the other is behind, but for how long"),
            (4, [3, 4], &["arr2"], "it lasts"),
        ] {
            let said: BTreeMap<String, u64> =
                [("arr2".to_owned(), said[0]), ("arr3".to_owned(), said[1])].into();
            assert_eq!(unlike.look(own, said), asked, "{why}");
        }
    }
}
