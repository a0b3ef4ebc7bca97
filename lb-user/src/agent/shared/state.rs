//! What this node has of the shared configuration, and what it makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use tracing::warn;

use super::external::External;
use super::trial::Trial;
use super::{Refused, Told};
use crate::clock::Time;
use crate::cluster::wire::Generations;
use crate::config::model::Node;
use crate::config::{self, told};
use crate::control::api::GenerationEntry;
use crate::shared::draft::Draft;
use crate::shared::generation::{Generation, GenerationId, Header, Roster, Saying, SignedHeader};
use crate::shared::history::{self, Inventory};
use crate::shared::origin::{InForce, LoadError, Local};
use crate::shared::record::{Record, RecordId, SignedRecord, Word};
use crate::shared::store::Store;
use crate::wall::WallTime;

/// How many generations are kept whole, and of how many more the header.
pub(super) const KEPT: (usize, usize) = (64, 1024);

pub(super) struct State {
    pub(super) local: Local,
    /// The generation that this node works with.
    pub(super) applied: GenerationId,
    /// The one that should be in its place and cannot be used here, and why.
    pub(super) objection: Option<(GenerationId, String)>,
    /// What this node found sound for another, which may be about to put it in force: meanwhile nothing else may follow the same
    /// generation, or each of two changes at once would be told that it is the one.
    promise: Option<Promise>,
    /// What this node works with in place of the generation in force.
    pub(super) trial: Option<Trial>,
    /// What nodes have that cannot be taken in here, now or later.
    pub(super) past: Past,
    /// By node: what it has and this one cannot follow, because what lies between is nowhere any more.
    pub(super) behind: BTreeMap<String, Behind>,
    /// Until when the author of what this node works with is talked to, though it left itself out: it waits for an answer.
    pub(super) guest: Option<Time>,
    /// What there is to know of the store that is no node, if there is one.
    pub(super) store: Option<External>,
}

/// What a node has that this one was away for too long to follow.
pub(super) struct Behind {
    /// The highest of it.
    newest: GenerationId,
    /// All of it, and what is said of it, so that it is not asked for again.
    generations: BTreeSet<GenerationId>,
    records: BTreeSet<RecordId>,
}

struct Promise {
    parent: GenerationId,
    next: GenerationId,
    to: String,
    until: Time,
}

/// How long a node may take from the first answer that its change is sound until it is in force: the slowest node's look at it.
const PROMISED: Duration = Duration::from_secs(20);

/// What goes with a change.
pub(super) struct Words {
    pub(super) comment: String,
    pub(super) restores: Option<GenerationId>,
}

impl State {
    pub(super) fn new(local: Local, applied: GenerationId) -> Self {
        Self {
            local,
            applied,
            objection: None,
            promise: None,
            trial: None,
            guest: None,
            store: None,
            past: Past::default(),
            behind: BTreeMap::new(),
        }
    }

    /// The generation in force in the cluster, as far as is known here.
    pub(super) fn current(&self) -> GenerationId {
        self.local.history.current().map_or(self.applied, SignedHeader::id)
    }

    /// Whether no other node's change is under way that would follow the generation in force; else whose.
    pub(super) fn is_free(&self, now: Time) -> Result<(), String> {
        let current = self.current();
        match &self.promise {
            Some(promise) if promise.parent == current && now < promise.until => Err(promise.to.clone()),
            Some(_) | None => Ok(()),
        }
    }

    /// For whoever is to know.
    pub(super) fn told(&self) -> Told {
        let objection = self.objection.as_ref().map(|(id, why)| {
            format!(
                "generation {} of the configuration is in force, and this node cannot work with it: {why}",
                id.short()
            )
        });
        let objection = objection.or_else(|| self.left_behind());
        let confirm_by = self.trial.as_ref().map(|trial| trial.confirm_by);
        let tried = self.trial.as_ref().map(|trial| (trial.parent, trial.generation.id()));
        let (current, candidate) =
            tried.map_or((self.applied, None), |(parent, tried)| (parent, Some(tried)));
        let generations = Generations {
            current: current.beginning(),
            candidate: candidate.map_or(0, |tried| tried.beginning()),
        };
        let store = self.store.as_ref().map(External::told);
        Told { generation: self.applied.to_string(), generations, confirm_by, objection, store }
    }

    /// Why this node cannot follow the others, if it cannot.
    pub(super) fn left_behind(&self) -> Option<String> {
        let (node, Behind { newest, .. }) = self.behind.first_key_value()?;
        let (newest, applied, me) = (newest.short(), self.applied.short(), &self.local.file.name);
        Some(format!(
            "this node was away for too long: {node} is at generation {newest} of the configuration, and has not kept what lies between that and {applied}, which is at work here; hint: `rollcall remove {me}` on {node}, then here, with the agent stopped, `rollcall leave --forgotten`, and `rollcall join` with a token of {node}"
        ))
    }

    /// That node has what this one cannot follow, up to `newest`: of `missing` nothing could be taken in. Whether it is the first such node.
    pub(super) fn note_behind(&mut self, node: &str, newest: GenerationId, missing: Missing) -> bool {
        let is_first = self.behind.is_empty();
        let (mut generations, mut records) = (BTreeSet::new(), BTreeSet::new());
        if let Some(behind) = self.behind.remove(node) {
            (generations, records) = (behind.generations, behind.records);
        }
        let generations = generations.into_iter().chain(missing.generations).take(MOST_PAST).collect();
        let records = records.into_iter().chain(missing.records).take(MOST_PAST).collect();
        self.behind.insert(node.to_owned(), Behind { newest, generations, records });
        is_first
    }

    /// What that node has, which has just said so, and is to be asked for: not here, and not known to be of no use.
    pub(super) fn wanted(&mut self, node: &str, theirs: &Inventory) -> Missing {
        // It has what is in force here, or not any more what could not be followed: then there is a way.
        let current = self.current();
        let (history, is_here) = (&self.local.history, |id| theirs.generations.contains_key(&id));
        self.behind.retain(|other, behind| {
            let known = history.head(behind.newest).is_some();
            other != node || !is_here(current) && is_here(behind.newest) && !known
        });
        let mut missing = missing(&history.inventory(), theirs);
        let behind = self.behind.get(node);
        let useless = |id: &GenerationId| behind.is_some_and(|behind| behind.generations.contains(id));
        missing.generations.retain(|id| !self.past.generations.contains(id) && !useless(id));
        let useless = |id: &RecordId| behind.is_some_and(|behind| behind.records.contains(id));
        missing.records.retain(|id| !self.past.records.contains(id) && !useless(id));
        missing
    }

    /// Whether nothing is on trial here.
    pub(super) fn is_at_rest(&self, now: Time) -> Result<(), Refused> {
        let tried =
            |trial: &Trial| Refused::OnTrial { id: trial.generation.id(), left: trial.until.since(now) };
        self.trial.as_ref().map_or(Ok(()), |trial| Err(tried(trial)))
    }

    /// The generation that this node is to work with.
    pub(super) fn to_work_with(&self) -> GenerationId {
        let current = self.current();
        let failed = |trial: &&Trial| {
            self.local.history.standing(trial.generation.id()) == Some(history::Standing::Failed)
        };
        let tried = self.trial.as_ref().filter(|trial| trial.parent == current && !failed(trial));
        tried.map_or(current, |trial| trial.generation.id())
    }

    /// Whether what was made from `parent` may be put in force now.
    pub(super) fn may_follow(&self, parent: GenerationId) -> Result<(), Refused> {
        let current = self.current();
        if current != parent {
            return Err(Refused::Stale { made_from: parent, current, changed: String::new() });
        }
        self.is_free(Time::now())
            .map_err(|other| Refused::Objections(format!("a change of {other} is under way")))
    }

    /// What another node's generation says, if it follows the one in force and is signed as it must be.
    pub(super) fn follower(&self, generation: &Generation) -> Result<InForce, String> {
        if let Some(why) = self.left_behind() {
            return Err(why);
        }
        let current = self.current();
        if generation.head.header().parent != Some(current) {
            let current = current.short();
            return Err(format!(
                "generation {current} is in force there; hint: look at what changed: rollcall config log"
            ));
        }
        generation.head.check(self.local.history.head(current)).map_err(|error| error.to_string())?;
        self.local.read(generation).map_err(|error| told(&error))
    }

    /// Keeps the place behind the generation in force for what this node puts there.
    pub(super) fn promise(&mut self, to: &str, next: GenerationId, now: Time) {
        let parent = self.current();
        self.promise = Some(Promise { parent, next, to: to.to_owned(), until: now + PROMISED });
    }

    /// That one does not come after all.
    pub(super) fn forget(&mut self, next: GenerationId) {
        if self.promise.as_ref().is_some_and(|promise| promise.next == next) {
            self.promise = None;
        }
    }

    pub(super) fn find(&self, name: &str) -> Result<GenerationId, Refused> {
        self.local.history.find(name)?.ok_or_else(|| Refused::Unknown(name.to_owned()))
    }

    pub(super) fn generation(&self, id: GenerationId) -> Result<Generation, LoadError> {
        self.local.history.generation(id).ok_or(LoadError::Absent(id))
    }

    /// The texts of two generations, where both are here.
    pub(super) fn texts(&self, from: GenerationId, to: GenerationId) -> Option<[String; 2]> {
        let text = |id| self.generation(id).ok().map(|generation| generation.content.text);
        Some([text(from)?, text(to)?])
    }

    pub(super) fn in_force(&self) -> Result<InForce, Refused> {
        Ok(self.local.read(&self.generation(self.current())?)?)
    }

    pub(super) fn entry(&self, head: &SignedHeader) -> GenerationEntry {
        let standing = self.local.history.standing(head.id()).map_or("", |standing| standing.word());
        let header = head.header();
        GenerationEntry {
            id: head.id().to_string(),
            parent: header.parent.map(|parent| parent.to_string()),
            height: header.height,
            author: header.author.clone(),
            time: WallTime::from_unix_ms(header.time),
            comment: header.comment.clone(),
            restores: header.restores.map(|id| id.to_string()),
            standing: standing.to_owned(),
            at_work: head.id() == self.applied,
            whole: self.local.history.has_content(head.id()),
        }
    }

    /// The generation that follows the one in force with this content, signed by this node.
    pub(super) fn make(&self, draft: &Draft, roster: Roster, words: Words) -> Result<Generation, Refused> {
        let content = draft.seal(&roster)?;
        let saying = Saying {
            author: self.local.file.name.clone(),
            time: WallTime::now().unix_ms(),
            comment: words.comment,
            restores: words.restores,
            roster,
        };
        let parent = self.local.history.head(self.current());
        Ok(Generation::new(parent, saying, content, &self.local.keys))
    }

    /// Whether the generation in force lists a node of this name.
    pub(super) fn lists(&self, node: &str) -> bool {
        let now = self.local.history.head(self.current());
        now.is_some_and(|head| head.header().roster.contains_key(node))
    }

    /// The author of a generation that leaves itself out, as the one at work has it.
    pub(super) fn leaver(&self, generation: &Generation) -> Option<Node> {
        let Header { author, roster, .. } = generation.head.header();
        if roster.contains_key(author) {
            return None;
        }
        let text = self.generation(self.applied).ok()?.content.text;
        let cluster = config::cluster_of(text.as_bytes(), Path::new("the configuration")).ok()?;
        cluster.nodes.into_iter().find(|node| node.name == *author)
    }

    /// The other nodes of the generation in force that these are without.
    pub(super) fn left_out_by(&self, next: &Roster) -> Vec<String> {
        let now = self.local.history.head(self.current()).map(|head| &head.header().roster);
        let names = now.into_iter().flat_map(BTreeMap::keys);
        names.filter(|name| !next.contains_key(*name)).cloned().collect()
    }

    /// Why the last node does not go.
    pub(super) fn last_node(&self) -> Refused {
        Refused::LastNode { folder: Store::folder(&self.local.file.state_dir).display().to_string() }
    }

    /// Keeps a generation and the word that it is in force, in this order: what is not whole is never in force. Blocks.
    pub(super) fn commit(&mut self, generation: &Generation) -> Result<SignedRecord, Refused> {
        let record = self.word(generation.id(), Word::InForce, "");
        self.keep(generation, &record)?;
        Ok(record)
    }

    /// The same, of a word that was signed before. Blocks.
    pub(super) fn keep(&mut self, generation: &Generation, record: &SignedRecord) -> Result<(), Refused> {
        self.local.store.keep(&generation.head, Some(&generation.content))?;
        let admitted = self.local.history.admit(generation.head.clone(), Some(generation.content.clone()));
        self.own(admitted);
        self.keep_word(record)
    }

    /// It is not to be used, now or ever.
    pub(super) fn fail(&mut self, id: GenerationId, why: &str) -> Result<SignedRecord, Refused> {
        self.say(id, Word::Failed, why)
    }

    fn say(&mut self, generation: GenerationId, word: Word, why: &str) -> Result<SignedRecord, Refused> {
        let record = self.word(generation, word, why);
        self.keep_word(&record)?;
        Ok(record)
    }

    /// This node's word on a generation, which is nowhere yet.
    pub(super) fn word(&self, generation: GenerationId, word: Word, why: &str) -> SignedRecord {
        let (by, time) = (self.local.file.name.clone(), WallTime::now().unix_ms());
        let record = Record { generation, word, by, time, why: why.to_owned() };
        SignedRecord::new(record, &self.local.keys)
    }

    fn keep_word(&mut self, record: &SignedRecord) -> Result<(), Refused> {
        self.local.store.keep_record(record)?;
        let admitted = self.local.history.admit_record(record.clone());
        self.own(admitted);
        Ok(())
    }

    /// What this node makes follows what is in force, and is signed by a node of it: it is taken in.
    fn own(&self, admitted: Result<bool, history::Refused>) {
        if let Err(error) = admitted {
            warn!(node = %self.local.file.name, %error, "what this node made itself was not taken in");
        }
    }

    /// Takes in what another node has, as far as it can be checked, the oldest first; what it is orphaned of is asked for another
    /// time. What the disk does not take is not known here either, so that it is asked for again. Whether anything was new. Blocks.
    pub(super) fn take(
        &mut self,
        mut generations: Vec<(SignedHeader, Option<crate::shared::generation::Content>)>,
        records: Vec<SignedRecord>,
    ) -> Result<Taken, Refused> {
        generations.sort_by_key(|(head, _)| head.header().height);
        let Self { local: Local { history, store, .. }, past, .. } = self;
        let mut taken = Taken::default();
        for (head, content) in generations {
            let (id, is_past) = (head.id(), history.is_past(&head));
            let Header { parent, height, .. } = *head.header();
            let current = history.current().map_or(0, |head| head.header().height);
            match history.weigh(head, content) {
                Ok(Some(news)) => {
                    store.keep(news.head(), news.content())?;
                    history.insert(news);
                    taken.news = true;
                }
                Ok(None) => {}
                Err(refused) => {
                    let orphan = refused == history::Refused::Orphan;
                    // What follows that will never be here either.
                    let of_the_past = parent.is_some_and(|parent| past.generations.contains(&parent));
                    if orphan && (is_past || of_the_past) {
                        past.note(id);
                    } else if orphan && height > current {
                        taken.beyond = Some(id);
                    }
                    taken.note(id.short(), &refused);
                }
            }
        }
        for record in records {
            let (about, id) = (record.record().generation, record.id());
            match history.weigh_record(record) {
                Ok(Some(news)) => {
                    store.keep_record(news.record())?;
                    history.insert_record(news);
                    taken.news = true;
                }
                Ok(None) => {}
                Err(refused) => {
                    past.note_record(about, id);
                    taken.note(about.short(), &refused);
                }
            }
        }
        Ok(taken)
    }

    /// Lets go of what is old. Blocks.
    pub(super) fn prune(&mut self) {
        let Local { store, history, .. } = &mut self.local;
        let pruned = history.prune(KEPT.0, KEPT.1);
        if let Err(error) = store.let_go(&pruned, history) {
            warn!("cannot let go of old generations: {}", told(&error));
        }
        if let Some(external) = &mut self.store {
            external.let_go_of(pruned.generations);
        }
    }
}

/// What is from before the oldest generation that is kept here: before this node came, or let go of. So that it is not asked for again and again.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) generations: BTreeSet<GenerationId>,
    pub(super) records: BTreeSet<RecordId>,
}

/// Who makes up old generations is not to fill the memory.
const MOST_PAST: usize = 4096;

impl Past {
    fn note(&mut self, id: GenerationId) {
        if self.generations.len() >= MOST_PAST {
            *self = Self::default();
        }
        self.generations.insert(id);
    }

    /// A record counts as its generation does.
    fn note_record(&mut self, about: GenerationId, id: RecordId) {
        if self.records.len() >= MOST_PAST {
            *self = Self::default();
        }
        if self.generations.contains(&about) {
            self.records.insert(id);
        }
    }
}

/// What became of what another node has.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Something was new.
    pub(super) news: bool,
    /// Something follows what is not here.
    pub(super) orphans: bool,
    /// The highest that follows what is not here and is higher than what is in force here.
    pub(super) beyond: Option<GenerationId>,
}

impl Taken {
    fn note(&mut self, of: String, refused: &history::Refused) {
        match refused {
            history::Refused::Orphan => self.orphans = true,
            history::Refused::Untrusted(_)
            | history::Refused::Unbelieved(_)
            | history::Refused::Removed(_)
            | history::Refused::TooMany => {
                warn!(generation = %of, why = %refused, "what another node has of the configuration is not taken in");
            }
        }
    }
}

/// What is there and not here.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) generations: Vec<GenerationId>,
    pub(super) records: Vec<RecordId>,
}

fn missing(mine: &Inventory, theirs: &Inventory) -> Missing {
    let unknown = |(id, whole): (&GenerationId, &bool)| match mine.generations.get(id) {
        None => Some(*id),
        // Its content was never here, or was damaged: what is old is let go of again.
        Some(false) if *whole => Some(*id),
        Some(_) => None,
    };
    Missing {
        generations: theirs.generations.iter().filter_map(unknown).collect(),
        records: theirs.records.difference(&mine.records).copied().collect(),
    }
}
