//! The generations and records that a node has, and what they come to: which generation is in force. The pure core.
//!
//! A set that only grows, and a function of it, so that nodes that have the same agree in whatever order it came to them:
//! - a generation may be in force if a record says so, none says that it failed, and nobody made it who had been removed;
//! - of those the one with the greatest height is, and of siblings the one with the smaller name. Clocks have no say.
//!
//! *Removed*: a generation that leaves a node out removes it, once it was put in force. What that node made and the remover had not
//! seen is void, and whatever follows it: or a node that was removed could have its way from the other half of a split. Who has seen
//! the removal takes nothing more from that node. Only where both halves of a split remove nodes, and each had seen what the other
//! voids, does the order matter: each half then stands by its own removal, and an operator has to decide.
//!
//! What is old is let go of (`prune`): contents first, then headers and records. The oldest header that is kept is the *root*, which
//! is trusted without a look at who signed it: it was, when it came.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::generation::{Content, Generation, GenerationId, Roster, SignedHeader, Untrusted};
use super::record::{RecordId, SignedRecord, Unbelieved, Word};

/// What a node has. See the module.
#[derive(Clone, Debug)]
pub struct History {
    root: GenerationId,
    entries: BTreeMap<GenerationId, Entry>,
    /// By what they are about.
    records: BTreeMap<(GenerationId, RecordId), SignedRecord>,
    current: Option<GenerationId>,
}

#[derive(Clone, Debug)]
struct Entry {
    head: SignedHeader,
    content: Option<Content>,
}

/// A generation that was looked at, and is to be taken in: between the two it is brought to the disk.
#[derive(Debug)]
pub struct News(Entry);

impl News {
    /// Its header.
    pub fn head(&self) -> &SignedHeader {
        &self.0.head
    }

    /// Its content, where that came along.
    pub fn content(&self) -> Option<&Content> {
        self.0.content.as_ref()
    }
}

/// A record likewise.
#[derive(Debug)]
pub struct NewRecord(SignedRecord);

impl NewRecord {
    /// The record.
    pub fn record(&self) -> &SignedRecord {
        &self.0
    }
}

/// What became of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there, and nobody has put it in force.
    Stored,
    /// It is in force.
    Current,
    /// It was, or could have been: another is.
    Superseded,
    /// It is not to be used.
    Failed,
    /// It was made by a node that had been removed, or follows one that was.
    Void,
}

impl Standing {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Current => "current",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::Void => "void",
        }
    }
}

impl History {
    /// Only `root`, which is trusted: the cluster's first, or one that came over a connection whose other end a token vouches for.
    pub fn new(root: SignedHeader, content: Option<Content>) -> Self {
        let id = root.id();
        let entries = [(id, Entry { head: root, content })].into();
        Self { root: id, entries, records: BTreeMap::new(), current: None }
    }

    /// Takes a generation in if it follows one that is here and is signed as it must be. Whether anything was new.
    pub fn admit(&mut self, head: SignedHeader, content: Option<Content>) -> Result<bool, Refused> {
        let news = self.weigh(head, content)?;
        Ok(news.map(|news| self.insert(news)).is_some())
    }

    /// What [`History::admit`] would take in of this; `None`: nothing of it is new. Changes nothing.
    pub fn weigh(&self, head: SignedHeader, content: Option<Content>) -> Result<Option<News>, Refused> {
        let head = match self.entries.get(&head.id()) {
            Some(entry) if entry.content.is_some() || content.is_none() => return Ok(None),
            // Its signature was looked at; a name says nothing of that which came along now.
            Some(entry) => entry.head.clone(),
            None => {
                self.fits(&head)?;
                head
            }
        };
        Ok(Some(News(Entry { head, content })))
    }

    /// Takes in what was weighed, by this history as it is.
    pub fn insert(&mut self, News(entry): News) {
        // Contents decide nothing.
        if self.entries.insert(entry.head.id(), entry).is_none() {
            self.settle();
        }
    }

    /// Whether [`History::admit`] would take this header in. Changes nothing.
    pub fn fits(&self, head: &SignedHeader) -> Result<(), Refused> {
        if self.entries.contains_key(&head.id()) {
            return Ok(());
        }
        let parent =
            head.header().parent.and_then(|parent| self.entries.get(&parent)).ok_or(Refused::Orphan)?;
        head.check(Some(&parent.head))?;
        if self.may_write(head) { Ok(()) } else { Err(Refused::Removed(head.header().author.clone())) }
    }

    /// Whether a header is from before the oldest that is kept here, so that what it follows will never be here.
    pub fn is_past(&self, head: &SignedHeader) -> bool {
        self.head(self.root).is_some_and(|root| head.header().height <= root.header().height)
    }

    /// Takes a record in if its generation is here and a node of it signed it. Whether it was new.
    pub fn admit_record(&mut self, record: SignedRecord) -> Result<bool, Refused> {
        let news = self.weigh_record(record)?;
        Ok(news.map(|news| self.insert_record(news)).is_some())
    }

    /// What [`History::admit_record`] would take in; `None`: it is here. Changes nothing.
    pub fn weigh_record(&self, record: SignedRecord) -> Result<Option<NewRecord>, Refused> {
        let about = record.record().generation;
        if self.records.contains_key(&(about, record.id())) {
            return Ok(None);
        }
        let of = self.entries.get(&about).ok_or(Refused::Orphan)?;
        let before = of.head.header().parent.and_then(|parent| self.entries.get(&parent));
        let rosters: Vec<&Roster> =
            [Some(of), before].into_iter().flatten().map(|entry| &entry.head.header().roster).collect();
        record.check(&rosters)?;
        if self.records_on(about).count() >= MOST_RECORDS_OF_ONE {
            return Err(Refused::TooMany);
        }
        Ok(Some(NewRecord(record)))
    }

    /// Takes in what was weighed, by this history as it is.
    pub fn insert_record(&mut self, NewRecord(record): NewRecord) {
        self.records.insert((record.record().generation, record.id()), record);
        self.settle();
    }

    /// The generation in force; `None`: none was put in force yet.
    pub fn current(&self) -> Option<&SignedHeader> {
        self.current.map(|id| &self.entries[&id].head)
    }

    /// The generation in force, whole; `None` also where its content is not here.
    pub fn current_whole(&self) -> Option<Generation> {
        self.generation(self.current?)
    }

    /// The generation in force and those before it, as far as they are here.
    pub fn line(&self) -> impl Iterator<Item = &SignedHeader> {
        let line = self.current.into_iter().flat_map(|id| self.ancestry(id));
        line.filter_map(|id| self.head(id))
    }

    /// A generation, whole.
    pub fn generation(&self, id: GenerationId) -> Option<Generation> {
        let entry = self.entries.get(&id)?;
        Some(Generation { head: entry.head.clone(), content: entry.content.clone()? })
    }

    /// A generation's header.
    pub fn head(&self, id: GenerationId) -> Option<&SignedHeader> {
        self.entries.get(&id).map(|entry| &entry.head)
    }

    /// Whether a generation's content is here.
    pub fn has_content(&self, id: GenerationId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.content.is_some())
    }

    /// The one generation whose name begins so; `Err`: several do.
    pub fn find(&self, begins: &str) -> Result<Option<GenerationId>, Ambiguous> {
        let mut fits = self.entries.keys().filter(|id| id.to_string().starts_with(begins));
        match (fits.next(), fits.next()) {
            (first, None) => Ok(first.copied()),
            (_, Some(_)) => Err(Ambiguous),
        }
    }

    /// All headers with their standing, the newest first.
    pub fn log(&self) -> Vec<(&SignedHeader, Standing)> {
        let void = self.void();
        let mut all: Vec<_> = self
            .entries
            .values()
            .map(|entry| (&entry.head, self.standing_among(entry.head.id(), &void)))
            .collect();
        all.sort_by_key(|(head, _)| (std::cmp::Reverse(head.header().height), head.id()));
        all
    }

    /// What became of a generation; `None`: it is not here.
    pub fn standing(&self, id: GenerationId) -> Option<Standing> {
        self.entries.contains_key(&id).then(|| self.standing_among(id, &self.void()))
    }

    /// The records on a generation.
    pub fn records_on(&self, id: GenerationId) -> impl Iterator<Item = &SignedRecord> {
        let all = (id, RecordId::from_bytes([0; 32]))..=(id, RecordId::from_bytes([0xff; 32]));
        self.records.range(all).map(|(_, record)| record)
    }

    /// All records, by what they are about.
    pub fn records(&self) -> impl Iterator<Item = ((GenerationId, RecordId), &SignedRecord)> {
        self.records.iter().map(|(name, record)| (*name, record))
    }

    /// The newest `count` generations, whatever is here of them, and the one in force.
    pub fn newest(&self, count: usize) -> BTreeSet<GenerationId> {
        let by_height = self.entries.values().map(|entry| (entry.head.header().height, entry.head.id()));
        let mut all: Vec<(u64, GenerationId)> = by_height.collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.into_iter().take(count).map(|(_, id)| id).chain(self.current).collect()
    }

    /// The names of all generations, with whether their content is here, and of all records.
    pub fn inventory(&self) -> Inventory {
        Inventory {
            generations: self
                .entries
                .values()
                .map(|entry| (entry.head.id(), entry.content.is_some()))
                .collect(),
            records: self.records.keys().map(|(_, record)| *record).collect(),
        }
    }

    /// Those of these records that are here.
    pub fn records_among(&self, ids: &[RecordId]) -> impl Iterator<Item = &SignedRecord> {
        let ids: BTreeSet<RecordId> = ids.iter().copied().collect();
        self.records.iter().filter(move |((_, record), _)| ids.contains(record)).map(|(_, record)| record)
    }

    /// The oldest header that is kept.
    pub fn root(&self) -> GenerationId {
        self.root
    }

    /// Lets go of contents beyond the newest `contents`, and of headers, with their records, beyond the newest `headers` of the line
    /// that leads to the one in force. What it let go of.
    pub fn prune(&mut self, contents: usize, headers: usize) -> Pruned {
        let mut pruned = Pruned::default();
        let mut newest: Vec<(u64, GenerationId)> = self
            .entries
            .values()
            .filter(|entry| entry.content.is_some())
            .map(|entry| (entry.head.header().height, entry.head.id()))
            .collect();
        newest.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in newest.into_iter().skip(contents.max(1)) {
            if Some(id) != self.current
                && let Some(entry) = self.entries.get_mut(&id)
            {
                entry.content = None;
                pruned.contents.push(id);
            }
        }
        self.advance_root(headers.max(1), &mut pruned);
        pruned
    }

    fn advance_root(&mut self, headers: usize, pruned: &mut Pruned) {
        let Some(current) = self.current else { return };
        let line: Vec<GenerationId> = self.ancestry(current).collect();
        let Some(root) = line.get(headers - 1).copied().filter(|root| *root != self.root) else { return };
        let floor = self.entries[&root].head.header().height;
        // Siblings of the root lead to nothing that could be in force.
        let old = |entry: &Entry| entry.head.header().height <= floor && entry.head.id() != root;
        let gone = self.entries.values().filter(|entry| old(entry)).map(|entry| entry.head.id()).collect();
        let gone = self.with_descendants(gone, root);
        self.root = root;
        for id in &gone {
            self.entries.remove(id);
        }
        let stray = self.records.extract_if(.., |(about, _), _| gone.contains(about));
        pruned.records.extend(stray.map(|((_, record), _)| record));
        pruned.generations.extend(gone);
    }

    /// These and all that follow them, but for what follows `root`.
    fn with_descendants(
        &self,
        mut all: BTreeSet<GenerationId>,
        root: GenerationId,
    ) -> BTreeSet<GenerationId> {
        for entry in self.by_height() {
            let follows = entry.head.header().parent.is_some_and(|parent| all.contains(&parent));
            if follows && entry.head.id() != root {
                all.insert(entry.head.id());
            }
        }
        all
    }

    /// Whether nobody has removed who made it. What a removed node made before it was is here already, with all that was seen of
    /// it.
    fn may_write(&self, head: &SignedHeader) -> bool {
        let author = self.author_keys(head);
        author.is_none_or(|keys| !self.removers().iter().any(|(_, removed)| removed.contains(&keys)))
    }

    fn settle(&mut self) {
        let void = self.void();
        let fit = self
            .entries
            .values()
            .filter(|entry| self.may_be_in_force(entry.head.id()) && !void.contains(&entry.head.id()));
        let best = fit.max_by_key(|entry| (entry.head.header().height, std::cmp::Reverse(entry.head.id())));
        self.current = best.map(|entry| entry.head.id());
    }

    fn may_be_in_force(&self, id: GenerationId) -> bool {
        self.is_said(id, Word::InForce) && !self.is_said(id, Word::Failed)
    }

    fn is_said(&self, id: GenerationId, word: Word) -> bool {
        self.records_on(id).any(|record| record.record().word == word)
    }

    fn standing_among(&self, id: GenerationId, void: &BTreeSet<GenerationId>) -> Standing {
        if self.current == Some(id) {
            Standing::Current
        } else if self.is_said(id, Word::Failed) {
            Standing::Failed
        } else if void.contains(&id) {
            Standing::Void
        } else if self.is_said(id, Word::InForce) {
            Standing::Superseded
        } else {
            Standing::Stored
        }
    }

    /// What nodes made that had been removed, and all that follows it.
    fn void(&self) -> BTreeSet<GenerationId> {
        let mut void = BTreeSet::new();
        for (remover, removed) in self.removers() {
            let seen: BTreeSet<GenerationId> = self.ancestry(remover).collect();
            let by_removed =
                |head: &SignedHeader| self.author_keys(head).is_some_and(|keys| removed.contains(&keys));
            let unseen =
                self.entries.values().map(|entry| &entry.head).filter(|head| !seen.contains(&head.id()));
            void.extend(unseen.filter(|head| by_removed(head)).map(SignedHeader::id));
        }
        if void.is_empty() { void } else { self.with_descendants(void, self.root) }
    }

    /// The generations that left nodes out and are, or were, in force, each with the keys of those nodes. A node that comes back has
    /// other keys.
    fn removers(&self) -> Vec<(GenerationId, BTreeSet<String>)> {
        let in_force =
            self.entries.values().map(|entry| &entry.head).filter(|head| self.may_be_in_force(head.id()));
        let removed = |head: &SignedHeader| -> BTreeSet<String> {
            let before = head.header().parent.and_then(|parent| self.entries.get(&parent));
            let before = before.map(|entry| &entry.head.header().roster).into_iter().flatten();
            let gone = before.filter(|(name, keys)| head.header().roster.get(*name) != Some(*keys));
            gone.map(|(_, keys)| keys.word()).collect()
        };
        in_force.map(|head| (head.id(), removed(head))).filter(|(_, removed)| !removed.is_empty()).collect()
    }

    /// The keys that a header's author had when it signed; of the root, which nobody asks, none.
    fn author_keys(&self, head: &SignedHeader) -> Option<String> {
        let parent = self.entries.get(&head.header().parent?)?;
        parent.head.header().roster.get(&head.header().author).map(|keys| keys.word())
    }

    /// A generation and those before it, as far as they are here.
    fn ancestry(&self, id: GenerationId) -> impl Iterator<Item = GenerationId> {
        std::iter::successors(Some(id), |id| self.entries.get(id)?.head.header().parent)
            .take_while(|id| self.entries.contains_key(id))
    }

    fn by_height(&self) -> Vec<&Entry> {
        let mut all: Vec<&Entry> = self.entries.values().collect();
        all.sort_by_key(|entry| entry.head.header().height);
        all
    }
}

/// Names of what a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Generations, and whether their content is there.
    pub generations: BTreeMap<GenerationId, bool>,
    /// Records.
    pub records: BTreeSet<RecordId>,
}

/// What was let go of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Generations of which only the header is kept.
    pub contents: Vec<GenerationId>,
    /// Generations of which nothing is kept.
    pub generations: Vec<GenerationId>,
    /// Records of those.
    pub records: Vec<RecordId>,
}

/// Why something is not taken in. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// What it follows, or is about, is not here.
    #[error("what it follows is not known here")]
    Orphan,
    /// Nobody who may has signed it.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// No node of the generation has signed it.
    #[error(transparent)]
    Unbelieved(#[from] Unbelieved),
    /// Its author was removed by a generation in force.
    #[error("its author {0} is no node of the cluster any more")]
    Removed(String),
    /// There are too many of its kind.
    #[error("there are too many records on that generation")]
    TooMany,
}

/// Several generations fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("several generations begin so; hint: give more of its name")]
pub struct Ambiguous;

/// Most records on one generation: two words of each of 64 nodes.
const MOST_RECORDS_OF_ONE: usize = 128;

#[cfg(test)]
mod tests;
