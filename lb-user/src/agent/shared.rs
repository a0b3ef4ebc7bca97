//! The shared configuration on a running node: what operators and other nodes bring is checked, kept, and put in force.
//!
//! ```text
//! apply FILE -> text and files -> checked here -> generation, signed -> checked by every node that is reached
//!                  refused             refused                              one objects: forgotten
//!            -> kept on disk -> record "in force", kept -> applied here -> told to the others, who do likewise
//! ```
//! A node that is not reached learns of it when it is again. Which generation is in force is for `shared::history` to say; this
//! follows. One change at a time is made on a node; of two nodes that make one at the same moment, the one whose name is smaller
//! goes first, and the other is told to look at it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Mutex, Notify, watch};
use tracing::{info, warn};

use super::canary::{Outcome, Probe};
use super::events::{EventLog, Note};
use super::reload::Refusal;
use crate::clock::Time;
use crate::cluster::wire::Generations;
use crate::config::model::{Config, Node};
use crate::config::{ConfigErrors, told};
use crate::control::api::{Answer, Applied, Configure, GenerationEntry, Shown, TRIAL, WATCH};
use crate::etcd::Settings;
use crate::shared::certificate::Unfit;
use crate::shared::draft::{self, Draft, DraftError};
use crate::shared::generation::{Generation, GenerationId};
use crate::shared::history::{Ambiguous, Standing};
use crate::shared::message::Work;
use crate::shared::origin::{InForce, LoadError, Local};
use crate::shared::record::SignedRecord;
use crate::shared::sealed::{SealError, Secrets};
use crate::shared::store::StoreError;
use crate::shared::token::TokenError;
use crate::wall::WallTime;

mod canary;
mod certificate;
mod external;
mod join;
mod nodes;
mod removal;
mod state;
mod trial;

pub(super) use self::external::StoreTold;
pub(super) use self::join::nodes_of;
use self::nodes::Found;
pub(super) use self::nodes::{Asker, Network};
use self::state::{State, Words};
use self::trial::{Attempt, Trial};

/// See the module.
pub(super) struct SharedConfig<A: Applier, N> {
    state: Mutex<State>,
    /// Held while a change is made here.
    turn: Mutex<()>,
    /// Held while a generation comes to work here.
    following: Mutex<()>,
    /// What this node found sound for another last.
    readied: Mutex<Option<Readied<A::Examined>>>,
    applier: A,
    network: N,
    events: Arc<EventLog>,
    /// Something is on trial now, or is no longer.
    trials: Notify,
    /// There is something here that a store may not have.
    fresh: Notify,
    /// What this node works with, for whoever is to know.
    told: watch::Sender<Told>,
}

/// How this node stands to what the nodes share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The generation that it works with, by its name.
    pub(super) generation: String,
    /// What heartbeats say of that.
    pub(super) generations: Generations,
    /// It is on trial until then.
    pub(super) confirm_by: Option<WallTime>,
    /// Why this node cannot work with the generation in force, if it cannot.
    pub(super) objection: Option<String>,
    /// The store that is no node, if there is one.
    pub(super) store: Option<StoreTold>,
}

/// By which a configuration comes to work on this node.
pub(super) trait Applier: Send + Sync + 'static {
    /// What could be applied.
    type Examined: Send;

    /// Whether it could be; changes nothing.
    fn examine(
        &self,
        config: Config,
    ) -> impl Future<Output = Result<(Self::Examined, Outlook), Refusal>> + Send;

    /// Applies it, but for what takes a restart.
    fn adopt(&self, examined: Self::Examined) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// What to ask of this node before and after it works with that.
    fn probes(&self, examined: &Self::Examined) -> Vec<Probe>;

    /// What comes of each.
    fn ask(&self, probes: &[Probe]) -> impl Future<Output = Vec<Outcome>> + Send;

    /// What its clients get; `None`: it publishes nothing.
    fn work(&self) -> impl Future<Output = Option<Work>> + Send;

    /// Whether one node answers for all: every rule for what is published is `single`.
    fn one_answers(&self) -> bool;

    /// This node is none of the cluster any more: hands its share over, and ends.
    fn dismiss(&self) -> impl Future<Output = ()> + Send;
}

/// What a configuration would change on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outlook {
    /// In words.
    pub(super) changed: Vec<String>,
    /// What the operator should know of it.
    pub(super) warnings: Vec<String>,
    /// What the agent takes up by beginning anew beside a proxy that goes on.
    pub(super) renewed: Vec<String>,
    /// What the agent takes up only at its next start.
    pub(super) restart: Vec<String>,
    /// Nodes have to agree on something of it: all switch to it at once.
    pub(super) together: bool,
}

/// Why nothing was changed.
#[derive(Debug, Error)]
pub(super) enum Refused {
    /// The text cannot be read or has errors.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// It has errors together with its files.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A generation cannot be read here.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It cannot be applied here.
    #[error(transparent)]
    Apply(#[from] Refusal),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A join token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It was made from another generation than the one in force.
    #[error(
        "it was made from generation {}, and {} is in force since{changed}; hint: bring that into the file (rollcall config diff {} {} shows more), then say that it is to follow it: --parent {}",
        made_from.short(), current.short(), made_from.short(), current.short(), current.short()
    )]
    Stale {
        /// What it was made from.
        made_from: GenerationId,
        /// What is in force.
        current: GenerationId,
        /// What of the text is another since, after a colon, a line each; nothing where that is not known.
        changed: String,
    },
    /// No generation is called so.
    #[error("there is no generation {0}; hint: rollcall config log lists them")]
    Unknown(String),
    /// Several are.
    #[error(transparent)]
    Ambiguous(#[from] Ambiguous),
    /// Nothing would change.
    #[error("it is what generation {} says already: nothing changes", .0.short())]
    Same(GenerationId),
    /// Nodes could not work with it.
    #[error("nothing was changed, because a node objects: {0}")]
    Objections(String),
    /// No node is called so.
    #[error("no node is called {node}; hint: the nodes are {nodes}")]
    NoNode {
        /// As asked for.
        node: String,
        /// Those that there are.
        nodes: String,
    },
    /// A node does not remove itself.
    #[error("that is this node; hint: `rollcall leave` takes it out of the cluster and clears this host")]
    Oneself,
    /// Nobody would be left.
    #[error(
        "this is the cluster's last node, and its configuration would be gone with it; hint: to end the cluster stop the agent and remove {folder}"
    )]
    LastNode {
        /// Where the configuration is kept.
        folder: String,
    },
    /// Nobody who stays has taken the change.
    #[error(
        "nothing was changed, because no node that stays has confirmed it (not reached: {unreached}); hint: `rollcall leave` again when one is reached, or stop this agent and `rollcall remove` this node there"
    )]
    Alone {
        /// Those that were not reached.
        unreached: String,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a cluster secret")]
    NoRandom,
    /// A change is being made already.
    #[error(
        "another change is being made on this node; hint: wait for it, and look at it: rollcall config log"
    )]
    Busy,
    /// Something is on trial.
    #[error(
        "generation {} is on trial on this node; hint: rollcall config confirm puts it in force, and in {left:?} it is gone by itself", .id.short()
    )]
    OnTrial {
        /// What is.
        id: GenerationId,
        /// For how long still.
        left: Duration,
    },
    /// Nothing is.
    #[error("nothing is on trial on this node; hint: rollcall config log shows what became of it")]
    NoTrial,
    /// All nodes have to switch at once.
    #[error(
        "{0}: all nodes switch to that at once, so one alone cannot try it; hint: apply it without --confirm-within"
    )]
    Together(String),
    /// The agent would have to be started anew.
    #[error(
        "the agent takes up {0} only when it is started anew, so it cannot be tried; hint: apply it without --confirm-within"
    )]
    Untried(String),
    /// It did not do well where it was tried.
    #[error(
        "nothing was changed: on {node}, which tried it, it did not do well: {why}; generation {} is failed, and stays so; hint: look at what it changes: rollcall config diff {}; what is meant so is applied by --no-canary",
        id.short(), id.short()
    )]
    Canary {
        /// Where.
        node: String,
        /// What is worse than before.
        why: String,
        /// What was tried.
        id: GenerationId,
    },
    /// It could not be tried.
    #[error(
        "nothing was changed: {node}, which was to try it, did not: {why}; hint: apply it again, or by --no-canary"
    )]
    Untested {
        /// Which node.
        node: String,
        /// What it says.
        why: String,
    },
    /// A certificate is not fit for the site.
    #[error(transparent)]
    Certificate(#[from] Unfit),
    /// A file that was named cannot be read.
    #[error("cannot read {path}; hint: the agent reads it as root, on the node where the command runs, and it has at most 1 MiB", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Who wants to join cannot be let in.
    #[error("{0}")]
    Join(String),
}

impl Refused {
    /// Whether what was brought is wrong, not this node, another or the moment.
    fn is_configuration(&self) -> bool {
        match self {
            Self::Draft(_) | Self::Config(_) | Self::Certificate(_) | Self::File { .. } => true,
            Self::Load(error) => matches!(error, LoadError::Config(_)),
            Self::Apply(refusal) => refusal.is_configuration(),
            Self::Seal(_)
            | Self::Store(_)
            | Self::Token(_)
            | Self::Stale { .. }
            | Self::Unknown(_)
            | Self::Ambiguous(_)
            | Self::Same(_)
            | Self::Objections(_)
            | Self::NoNode { .. }
            | Self::Oneself
            | Self::LastNode { .. }
            | Self::Alone { .. }
            | Self::NoRandom
            | Self::Busy
            | Self::OnTrial { .. }
            | Self::NoTrial
            | Self::Together(_)
            | Self::Untried(_)
            | Self::Canary { .. }
            | Self::Untested { .. }
            | Self::Join(_) => false,
        }
    }
}

/// What became of a draft.
struct Brought {
    applied: Applied,
    /// The nodes that it leaves out and that know of it.
    dismissed: Vec<String>,
}

/// A generation that comes to be.
#[derive(Clone, Copy)]
struct Change<'a> {
    generation: &'a Generation,
    /// Whom this node is to talk to with it.
    places: &'a Places,
    /// Those that it leaves out.
    removed: &'a [String],
}

/// Whom a node talks to with a configuration.
#[derive(Clone, Debug)]
struct Places {
    nodes: Vec<Node>,
    /// An etcd.
    store: Option<Settings>,
}

impl Places {
    /// Those of a configuration that was checked.
    fn of(config: &Config) -> Self {
        let store = Settings::of(config).unwrap_or_else(|error| {
            warn!(%error, "a file for etcd cannot be read");
            None
        });
        Self { nodes: config.cluster.nodes.clone(), store }
    }
}

/// What was looked at, so that it need not be once more when it comes into force a moment later.
struct Readied<E> {
    id: GenerationId,
    /// What this node worked with then.
    over: GenerationId,
    places: Places,
    examined: E,
}

/// How long a node that has left is talked to, so that it hears that this one knows.
pub(super) const SEEN_OFF: Duration = Duration::from_secs(2);

/// What an operator wants applied.
#[derive(Clone, Debug)]
struct Wanted {
    path: PathBuf,
    comment: String,
    parent: Option<String>,
    how: How,
    reread: bool,
}

/// How far a change is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It is looked at, and nothing is changed.
    Look,
    /// This node alone works with it, until it is confirmed or the time is over.
    Try(Duration),
    /// All nodes work with it; where there is a time, once one has tried it for so long.
    InForce(Option<Duration>),
}

/// All nodes work with it at once: what undoes a change, or what nobody could try.
const AT_ONCE: How = How::InForce(None);

/// For how long a change may be watched where it is tried.
fn watched(seconds: Option<u64>) -> How {
    let (least, most) = WATCH.into_inner();
    How::InForce(seconds.map(|seconds| Duration::from_secs(seconds).clamp(least, most)))
}

impl<A: Applier, N: Network> SharedConfig<A, N> {
    /// With what is on this host's disk, of which `applied` is at work.
    pub(super) fn new(
        local: Local,
        applied: &InForce,
        applier: A,
        network: N,
        events: Arc<EventLog>,
    ) -> Self {
        local.store.sweep();
        for damage in &local.damage {
            let path = damage.path.display();
            let text = format!("a file of the configuration's store is damaged: {path}: {}", damage.why);
            warn!("{text}");
            events.push(Note::new("configuration-damaged", true, text));
        }
        if let Some(why) = &applied.instead_of {
            let text =
                format!("generation {} is used in place of one that cannot be: {why}", applied.id.short());
            warn!("{text}");
            events.push(Note::new("configuration-unusable", true, text));
        }
        let mut state = State::new(local, applied.id);
        state.follow_store(Places::of(&applied.config).store, &network);
        let told = watch::Sender::new(state.told());
        Self {
            state: Mutex::new(state),
            turn: Mutex::new(()),
            following: Mutex::new(()),
            readied: Mutex::new(None),
            applier,
            network,
            events,
            trials: Notify::new(),
            fresh: Notify::new(),
            told,
        }
    }

    /// The answer to an operator.
    pub(super) async fn answer(&self, asked: Configure) -> Answer {
        let applied = |applied: Applied| Answer::Applied(Box::new(applied));
        let answered = match asked {
            Configure::Show { generation } => {
                self.show(generation.as_deref()).await.map(|shown| Answer::Shown(Box::new(shown)))
            }
            Configure::Log => Ok(Answer::Generations { generations: self.log().await }),
            Configure::Apply { path, comment, parent, dry_run, reread, confirm_within, canary } => {
                let tried = confirm_within.map(|seconds| {
                    let (least, most) = TRIAL.into_inner();
                    How::Try(Duration::from_secs(seconds).clamp(least, most))
                });
                let how = if dry_run { How::Look } else { tried.unwrap_or(watched(canary)) };
                let wanted = Wanted { path, comment, parent, how, reread };
                self.apply(wanted).await.map(applied)
            }
            Configure::Confirm => self.confirm().await.map(applied),
            Configure::Remove { node, comment } => {
                self.remove(&node, comment).await.map(|removed| Answer::Removed(Box::new(removed)))
            }
            Configure::Leave { comment } => {
                self.leave(comment).await.map(|removed| Answer::Removed(Box::new(removed)))
            }
            Configure::RotateSecret { comment } => self.rotate_secret(comment).await.map(applied),
            Configure::RollBack { generation, comment } => {
                self.roll_back(&generation, comment).await.map(applied)
            }
            Configure::SetCertificate {
                site,
                certificate,
                key,
                password_file,
                ocsp,
                comment,
                dry_run,
                canary,
            } => {
                let how = if dry_run { How::Look } else { watched(canary) };
                let wanted =
                    certificate::Wanted { site, certificate, key, password_file, ocsp, comment, how };
                let set = self.set_certificate(wanted).await;
                set.map(|set| Answer::CertificateSet(Box::new(set)))
            }
            Configure::Token { seconds } => {
                self.token(seconds).await.map(|(token, address)| Answer::Token { token, address })
            }
        };
        answered.unwrap_or_else(|refused| {
            let text = told(&refused);
            if refused.is_configuration() { Answer::Invalid { text } } else { Answer::Error { text } }
        })
    }

    /// A generation, with what is sealed in it named but not told; `None`: the one in force.
    async fn show(&self, generation: Option<&str>) -> Result<Shown, Refused> {
        let state = self.state.lock().await;
        let id = match generation {
            Some(name) => state.find(name)?,
            None => state.current(),
        };
        let generation = state.generation(id)?;
        let files = match Secrets::open(&generation.content.sealed, &state.local.keys) {
            Ok(secrets) => draft::facts(&generation.content.text, &secrets),
            // It was made before this node came.
            Err(_) => Vec::new(),
        };
        Ok(Shown { entry: state.entry(&generation.head), text: generation.content.text, files })
    }

    /// All generations that are known, the newest first.
    async fn log(&self) -> Vec<GenerationEntry> {
        let state = self.state.lock().await;
        let tried = state.trial.iter().map(Trial::entry);
        let known = state.local.history.log().into_iter().map(|(head, _)| state.entry(head));
        tried.chain(known).collect()
    }

    /// What this node works with, whenever that changes.
    pub(super) fn told(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    fn tell(&self, state: &State) {
        let told = state.told();
        self.told.send_if_modified(|known| std::mem::replace(known, told) != *known);
    }

    /// Checks a file and makes it the cluster's configuration.
    async fn apply(&self, wanted: Wanted) -> Result<Applied, Refused> {
        let _turn = self.turn.try_lock().map_err(|_| Refused::Busy)?;
        let (text, named) = draft::read(&wanted.path)?;
        let (before, draft) = {
            let state = self.state.lock().await;
            let current = state.current();
            let made_from = match wanted.parent.as_deref() {
                Some(name) => Some(state.find(name)?),
                None => named.filter(|id| state.local.history.head(*id).is_some()),
            };
            if let Some(made_from) = made_from.filter(|made_from| *made_from != current) {
                let texts = state.texts(made_from, current);
                drop(state);
                let changed = texts.map_or(String::new(), |[old, new]| draft::changed(&old, &new));
                return Err(Refused::Stale { made_from, current, changed });
            }
            let before = state.in_force()?;
            let draft = Draft::new(text, &wanted.path, &before.secrets, wanted.reread)?;
            (before, draft)
        };
        let words = Words { comment: wanted.comment, restores: None };
        Ok(self.bring_in(&before, draft, words, wanted.how).await?.applied)
    }

    /// Makes an older generation's content the cluster's configuration again, as a new generation. The nodes stay those of now, and
    /// so does the cluster secret: it may have been changed because somebody knew it.
    async fn roll_back(&self, to: &str, comment: String) -> Result<Applied, Refused> {
        let _turn = self.turn.try_lock().map_err(|_| Refused::Busy)?;
        let (before, draft, words) = {
            let state = self.state.lock().await;
            let id = state.find(to)?;
            let generation = state.generation(id)?;
            let old = Secrets::open(&generation.content.sealed, &state.local.keys)
                .map_err(|source| LoadError::Sealed { id, source })?;
            let before = state.in_force()?;
            let now = state.generation(before.id)?.content.text;
            let text = draft::with_nodes_of(&generation.content.text, &now)?;
            let secrets = Secrets { files: old.files, ..before.secrets.clone() };
            let comment =
                if comment.is_empty() { format!("back to generation {}", id.short()) } else { comment };
            (before, Draft { text, secrets, kept: Vec::new() }, Words { comment, restores: Some(id) })
        };
        Ok(self.bring_in(&before, draft, words, AT_ONCE).await?.applied)
    }

    /// Makes a draft the configuration of all nodes. One that leaves nodes out gets another cluster secret. Whoever calls holds the turn.
    async fn bring_in(
        &self,
        before: &InForce,
        mut draft: Draft,
        words: Words,
        how: How,
    ) -> Result<Brought, Refused> {
        let (generation, read, removed) = {
            let state = self.state.lock().await;
            state.is_at_rest(Time::now())?;
            if draft.text == state.generation(before.id)?.content.text && draft.secrets == before.secrets {
                return Err(Refused::Same(before.id));
            }
            // Before another node is asked to keep a place for this.
            state.may_follow(before.id)?;
            let roster = draft::roster(&draft.text)?;
            let removed = state.left_out_by(&roster);
            if !removed.is_empty() {
                draft = draft.with_next_secret(&removal::random()?)?;
            }
            let generation = state.make(&draft, roster, words)?;
            let read = state.local.read(&generation)?;
            (generation, read, removed)
        };
        let places = Places::of(&read.config);
        let (examined, outlook) = self.applier.examine(read.config).await?;
        if let How::Try(_) = how {
            Self::may_be_tried(&outlook)?;
        }
        let found = self.ask_all(&generation).await?;
        match how {
            How::Look => {
                self.forget_all(generation.id(), &found.sound).await;
                let applied = Applied { dry_run: true, ..account(before.id, outlook, found, draft.kept) };
                Ok(Brought { applied, dismissed: Vec::new() })
            }
            How::Try(within) => {
                // Meanwhile others may change what they like: it is confirmed, or it is not.
                self.forget_all(generation.id(), &found.sound).await;
                let attempt =
                    Attempt { parent: before.id, generation: &generation, places, within, author: None };
                self.try_out(attempt, examined).await?;
                let account = account(generation.id(), outlook, found, draft.kept);
                let applied = Applied { confirm_within: Some(within.as_secs()), ..account };
                Ok(Brought { applied, dismissed: Vec::new() })
            }
            How::InForce(canary) => {
                let change = Change { generation: &generation, places: &places, removed: &removed };
                let examined = (examined, outlook);
                match canary.filter(|_| Self::can_be_tried(&examined.1, &removed)) {
                    None => self.bring_all(before.id, change, examined, found, draft.kept).await,
                    Some(watch) => {
                        self.bring_tried(before.id, change, examined, found, draft.kept, watch).await
                    }
                }
            }
        }
    }

    /// Puts in force what every node that was reached found sound. Whoever calls holds the turn.
    async fn bring_all(
        &self,
        parent: GenerationId,
        change: Change<'_>,
        (examined, outlook): (A::Examined, Outlook),
        found: Found,
        kept: Vec<String>,
    ) -> Result<Brought, Refused> {
        let generation = change.generation;
        let (late, dismissed) = match self.put_in_force(parent, change, examined).await {
            Ok((record, dismissed)) => (self.tell_all(generation, &record).await, dismissed),
            Err(refused) => {
                let id = generation.id();
                // What this node cannot take up after all it does not try either.
                if self.state.lock().await.local.history.standing(id) == Some(Standing::Failed) {
                    self.go_back(id).await;
                }
                self.forget_all(id, &found.sound).await;
                return Err(refused);
            }
        };
        let mut applied = account(generation.id(), outlook, found, kept);
        applied.on.retain(|node| !late.contains(node));
        applied.unreached = late;
        Ok(Brought { applied, dismissed })
    }

    /// Keeps a generation that all nodes found sound, and has this one work with it; unless another has come between. Also gives which of
    /// the nodes that it leaves out know of it.
    async fn put_in_force(
        &self,
        parent: GenerationId,
        change: Change<'_>,
        examined: A::Examined,
    ) -> Result<(SignedRecord, Vec<String>), Refused> {
        let Change { generation, places, removed } = change;
        let _one_at_a_time = self.following.lock().await;
        let record = {
            let mut state = self.state.lock().await;
            state.may_follow(parent)?;
            tokio::task::block_in_place(|| state.commit(generation))?
        };
        // At the same time, because who is left out is not talked to afterwards.
        let (dismissed, adopted) =
            tokio::join!(self.dismiss_all(generation, &record, removed), self.applier.adopt(examined));
        if let Err(refusal) = adopted {
            let mut state = self.state.lock().await;
            tokio::task::block_in_place(|| state.fail(generation.id(), &told(&refusal)))?;
            self.fresh.notify_one();
            return Err(refusal.into());
        }
        self.at_work(generation, places).await;
        Ok((record, dismissed))
    }

    /// This node works with it.
    async fn at_work(&self, generation: &Generation, places: &Places) {
        let header = generation.head.header();
        let (id, author) = (generation.id().short(), &header.author);
        let text =
            format!("generation {id} of the configuration, by {author}, is in force: {}", header.comment);
        info!("{text}");
        self.events.push(Note::new("configuration-changed", false, text));
        let mut state = self.state.lock().await;
        let leaver = state.leaver(generation);
        state.guest = leaver.is_some().then(|| Time::now() + SEEN_OFF);
        let nodes: Vec<Node> = places.nodes.iter().cloned().chain(leaver).collect();
        self.network.follow(join::nodes_of(&nodes));
        state.follow_store(places.store.clone(), &self.network);
        state.applied = generation.id();
        // Confirmed, or another came before it was.
        if state.trial.take().is_some() {
            self.trials.notify_one();
        }
        state.objection = None;
        state.behind.clear();
        self.tell(&state);
        tokio::task::block_in_place(|| state.prune());
        self.fresh.notify_one();
    }
}

/// What an operator is told of a change.
fn account(generation: GenerationId, outlook: Outlook, found: Found, kept: Vec<String>) -> Applied {
    let Outlook { changed, warnings, renewed, restart, together: _ } = outlook;
    Applied {
        generation: generation.to_string(),
        changed,
        warnings,
        renewed,
        restart,
        kept,
        on: found.sound,
        unreached: found.unreached,
        dry_run: false,
        confirm_within: None,
        canary: None,
    }
}

#[cfg(test)]
mod tests;
