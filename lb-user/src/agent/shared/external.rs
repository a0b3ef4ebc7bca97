//! With a store that is no node: it is asked what it has, as another node is, and given what it lacks.
//!
//! ```text
//! what is there?  ->  headers that are not here, the oldest first, each with its content once its signature is known to be good
//!                 ->  records on what is here                        -> followed, as what another node told
//!                 ->  what is here and not there is put there, each generation's content, header, records in this order
//!                 ->  what is old is deleted there
//! ```
//! It decides nothing and is waited for by nobody. Who can write there can have no more believed than who stands between two nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::nodes::Whole;
use super::state::{KEPT, State};
use super::{Applier, Network, SharedConfig};
use crate::agent::events::Note;
use crate::config::told;
use crate::etcd::Settings;
use crate::etcd::request::{Reply, Request};
use crate::shared::exchange::{self, Ignored, Lacking, Listing, Verdict};
use crate::shared::generation::{self, GenerationId, SignedHeader};
use crate::shared::record::{RecordId, SignedRecord};
use crate::wall::WallTime;

/// What there is to know of a store.
#[derive(Debug)]
pub(super) struct External {
    settings: Settings,
    reached: Option<Result<WallTime, Lost>>,
    ignored: Ignored,
    /// Generations that were let go of here, and are there yet.
    let_go: BTreeSet<GenerationId>,
}

/// Since when it is away, and why.
#[derive(Clone, Debug)]
struct Lost {
    since: WallTime,
    why: String,
}

/// How the store does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::agent) struct StoreTold {
    /// Since when it has, or lacks, what this node has; `None`: it was not asked yet.
    pub(in crate::agent) since: Option<WallTime>,
    /// Why it is away, if it is.
    pub(in crate::agent) why: Option<String>,
}

impl External {
    fn new(settings: Settings) -> Self {
        Self { settings, reached: None, ignored: Ignored::default(), let_go: BTreeSet::new() }
    }

    pub(super) fn told(&self) -> StoreTold {
        match &self.reached {
            None => StoreTold::default(),
            Some(Ok(since)) => StoreTold { since: Some(*since), why: None },
            Some(Err(Lost { since, why })) => StoreTold { since: Some(*since), why: Some(why.clone()) },
        }
    }

    /// These are to be deleted there.
    pub(super) fn let_go_of(&mut self, generations: Vec<GenerationId>) {
        // What does not fit stays there, and costs its room.
        let room = MOST_LET_GO.saturating_sub(self.let_go.len());
        self.let_go.extend(generations.into_iter().take(room));
    }

    /// What came of asking it: the event that there is to tell, if any.
    fn heard(&mut self, outcome: Result<(), String>) -> Option<Note> {
        let now = WallTime::now();
        match (outcome, self.reached.take()) {
            (Ok(()), Some(Ok(since))) => {
                self.reached = Some(Ok(since));
                None
            }
            (Ok(()), before) => {
                self.reached = Some(Ok(now));
                before.map(|_| Note::new("store-back", false, "etcd is back, and has what this node has"))
            }
            (Err(why), Some(Err(Lost { since, .. }))) => {
                self.reached = Some(Err(Lost { since, why }));
                None
            }
            (Err(why), None | Some(Ok(_))) => {
                let text = format!("etcd is away, and the nodes go on without it: {why}");
                self.reached = Some(Err(Lost { since: now, why }));
                Some(Note::new("store-lost", true, text))
            }
        }
    }
}

impl State {
    /// This is the store from now on.
    pub(super) fn follow_store(&mut self, settings: Option<Settings>, network: &impl Network) {
        if self.store.as_ref().map(|store| &store.settings) == settings.as_ref() {
            return;
        }
        network.follow_store(settings.clone());
        self.store = settings.map(External::new);
    }

    pub(super) fn ignored(&self) -> Ignored {
        self.store.as_ref().map(|store| store.ignored.clone()).unwrap_or_default()
    }

    fn ignore(&mut self, id: GenerationId, why: &str) {
        warn!(generation = %id.short(), %why, "what etcd has under the name of a generation is not taken in; hint: delete it there, and the nodes put it there again");
        if let Some(store) = &mut self.store {
            store.ignored.generation(id);
        }
    }
}

impl<A: Applier, N: Network> SharedConfig<A, N> {
    /// Waits until there is something here that the store may not have.
    pub(in crate::agent) async fn fresh(&self) {
        self.fresh.notified().await;
    }

    /// Has this node and the store have the same, if there is one. To be called by one task alone.
    pub(in crate::agent) async fn sync_store(&self) {
        let Some(asked) = self.state.lock().await.store.as_ref().map(|store| store.settings.clone()) else {
            return;
        };
        let outcome = self.exchange().await;
        let mut state = self.state.lock().await;
        // It may be another one meanwhile, or none.
        let Some(store) = state.store.as_mut().filter(|store| store.settings == asked) else { return };
        let note = store.heard(outcome);
        self.tell(&state);
        if let Some(note) = note {
            if note.warning {
                warn!("{}", note.text);
            } else {
                info!("{}", note.text);
            }
            self.events.push(note);
        }
    }

    async fn exchange(&self) -> Result<(), String> {
        let there = match self.network.ask_store(Request::List, ANSWER).await? {
            Reply::Listing(there) => there,
            Reply::Pieces(_) | Reply::Done => return Err(OTHERWISE.to_owned()),
        };
        let mut news = self.fetch_heads(&there).await?;
        news |= self.fetch_contents(&there).await?;
        let records = self.fetch_records(&there).await?;
        if !records.is_empty() {
            self.take_records(records).await?;
        } else if news {
            self.follow().await;
        }
        self.put(&there).await
    }

    /// Headers that are not here, with their contents. Whether any was taken in.
    async fn fetch_heads(&self, there: &Listing) -> Result<bool, String> {
        let ids = {
            let state = self.state.lock().await;
            exchange::heads(&state.local.history, there, &state.ignored())
        };
        let mut heads: Vec<SignedHeader> = Vec::new();
        let mut room = MOST_HEADERS;
        for ids in ids.chunks(HEADERS_AT_ONCE) {
            let pieces = self.pieces_of(Request::Heads(ids.to_vec())).await?;
            room = room.saturating_sub(pieces.iter().map(Vec::len).sum());
            heads.extend(self.headers_among(ids, &pieces).await);
            if room == 0 {
                debug!("etcd has more new generations than are looked at at once");
                break;
            }
        }
        heads.sort_by_key(|head| head.header().height);
        let mut news = false;
        for head in heads {
            news |= self.take_head(head, there).await?;
        }
        Ok(news)
    }

    /// Those of the pieces that are headers which were asked for; where one is not, all that did not come is not asked for again.
    async fn headers_among(&self, asked: &[GenerationId], pieces: &[Vec<u8>]) -> Vec<SignedHeader> {
        let header = |piece: &Vec<u8>| match generation::decode(piece) {
            Ok((head, None)) if asked.contains(&head.id()) => Some(head),
            Ok(_) | Err(_) => None,
        };
        let heads: Vec<SignedHeader> = pieces.iter().filter_map(header).collect();
        if heads.len() < pieces.len() {
            let mut state = self.state.lock().await;
            for id in asked.iter().filter(|id| heads.iter().all(|head| head.id() != **id)) {
                state.ignore(*id, "it is no header of that name");
            }
        }
        heads
    }

    /// Takes a generation in, if it is one that may be here. Whether it was new.
    async fn take_head(&self, head: SignedHeader, there: &Listing) -> Result<bool, String> {
        let id = head.id();
        let verdict = exchange::judge(&self.state.lock().await.local.history, &head);
        match verdict {
            Verdict::Fits => {}
            Verdict::Later => return Ok(false),
            Verdict::Old => {
                if let Some(store) = &mut self.state.lock().await.store {
                    store.ignored.generation(id);
                }
                return Ok(false);
            }
            Verdict::Refused(why) => {
                self.state.lock().await.ignore(id, &why.to_string());
                return Ok(false);
            }
        }
        if there.generations.get(&id) == Some(&true) {
            return self.fetch_content(head).await;
        }
        // It is so old that its content is nowhere.
        self.take_whole((head, None)).await
    }

    /// Contents of generations whose headers are here. Whether any was new.
    async fn fetch_contents(&self, there: &Listing) -> Result<bool, String> {
        let ids = {
            let state = self.state.lock().await;
            exchange::contents(&state.local.history, there, &state.ignored(), KEPT.0)
        };
        let mut news = false;
        for id in ids {
            let head = self.state.lock().await.local.history.head(id).cloned();
            if let Some(head) = head {
                news |= self.fetch_content(head).await?;
            }
        }
        Ok(news)
    }

    /// A generation with its content. Without that it is not taken in: a record could put in force what cannot be used.
    async fn fetch_content(&self, head: SignedHeader) -> Result<bool, String> {
        let id = head.id();
        // It may be gone by now.
        let Some(content) = self.pieces_of(Request::Content(id)).await?.pop() else { return Ok(false) };
        match generation::decode(&[head.encode(), content].concat()) {
            Ok(whole @ (_, Some(_))) => self.take_whole(whole).await,
            Ok((_, None)) => Ok(false),
            Err(error) => {
                self.state.lock().await.ignore(id, &error.to_string());
                Ok(false)
            }
        }
    }

    async fn take_whole(&self, whole: Whole) -> Result<bool, String> {
        let mut state = self.state.lock().await;
        let taken = tokio::task::block_in_place(|| state.take(vec![whole], Vec::new()));
        taken.map(|taken| taken.news).map_err(|error| told(&error))
    }

    async fn fetch_records(&self, there: &Listing) -> Result<Vec<SignedRecord>, String> {
        let names = {
            let state = self.state.lock().await;
            exchange::records(&state.local.history, there, &state.ignored())
        };
        let mut records = Vec::new();
        for names in names.chunks(RECORDS_AT_ONCE) {
            let pieces = self.pieces_of(Request::Records(names.to_vec())).await?;
            let read = pieces.iter().filter_map(|piece| SignedRecord::decode(piece).ok());
            let asked = |record: &SignedRecord| names.contains(&(record.record().generation, record.id()));
            let read: Vec<SignedRecord> = read.filter(asked).collect();
            if read.len() < pieces.len() {
                self.ignore_all_but(&read, names).await;
            }
            records.extend(read);
        }
        Ok(records)
    }

    /// Takes records in, and works with what is in force by them; those that are not believed are not asked for again.
    async fn take_records(&self, records: Vec<SignedRecord>) -> Result<(), String> {
        let names: Vec<_> = records.iter().map(|record| (record.record().generation, record.id())).collect();
        self.take_in(Vec::new(), records).await?;
        let believed: Vec<SignedRecord> = {
            let state = self.state.lock().await;
            let ids: Vec<RecordId> = names.iter().map(|(_, id)| *id).collect();
            state.local.history.records_among(&ids).cloned().collect()
        };
        self.ignore_all_but(&believed, &names).await;
        Ok(())
    }

    async fn ignore_all_but(&self, good: &[SignedRecord], names: &[(GenerationId, RecordId)]) {
        let mut state = self.state.lock().await;
        let Some(store) = &mut state.store else { return };
        for (about, id) in names.iter().filter(|(_, id)| good.iter().all(|record| record.id() != *id)) {
            warn!(record = %id, "what etcd has under the name of a record is not taken in; hint: delete it there");
            store.ignored.record(*about, *id);
        }
    }

    /// Puts there what is here, and deletes what is old.
    async fn put(&self, there: &Listing) -> Result<(), String> {
        let Lacking { generations, records, old } = {
            let state = self.state.lock().await;
            exchange::lacking(&state.local.history, there, KEPT.0)
        };
        for (id, whole) in generations {
            let request = {
                let state = self.state.lock().await;
                let history = &state.local.history;
                // It may have been let go of meanwhile.
                let Some(head) = history.head(id).map(SignedHeader::encode) else { continue };
                let content = history.generation(id).filter(|_| whole).map(|whole| whole.content.encode());
                Request::Put { id, head, content }
            };
            self.done(request).await?;
        }
        for (about, id) in records {
            let bytes = {
                let state = self.state.lock().await;
                state.local.history.records_among(&[id]).next().map(SignedRecord::encode)
            };
            if let Some(bytes) = bytes {
                self.done(Request::PutRecord { about, id, bytes }).await?;
            }
        }
        self.let_go(there, old).await
    }

    async fn let_go(&self, there: &Listing, contents: Vec<GenerationId>) -> Result<(), String> {
        let let_go =
            self.state.lock().await.store.as_ref().map(|store| store.let_go.clone()).unwrap_or_default();
        let generations: Vec<GenerationId> =
            let_go.iter().filter(|id| there.generations.contains_key(*id)).copied().collect();
        if !contents.is_empty() || !generations.is_empty() {
            self.done(Request::LetGo { contents, generations }).await?;
        }
        if let Some(store) = &mut self.state.lock().await.store {
            store.let_go.retain(|id| !let_go.contains(id));
        }
        Ok(())
    }

    async fn pieces_of(&self, request: Request) -> Result<Vec<Vec<u8>>, String> {
        match self.network.ask_store(request, TRANSFER).await? {
            Reply::Pieces(pieces) => Ok(pieces),
            Reply::Listing(_) | Reply::Done => Err(OTHERWISE.to_owned()),
        }
    }

    async fn done(&self, request: Request) -> Result<(), String> {
        match self.network.ask_store(request, TRANSFER).await? {
            Reply::Done => Ok(()),
            Reply::Listing(_) | Reply::Pieces(_) => Err(OTHERWISE.to_owned()),
        }
    }
}

/// The child says something else than was asked.
const OTHERWISE: &str = "the child that talks to etcd answers something else";

/// How long it may take to say what it has.
const ANSWER: Duration = Duration::from_secs(20);

/// How long it may take to give or take the longest generation.
const TRANSFER: Duration = Duration::from_secs(120);

/// Headers that are asked for at once: at most 64 KiB each, and usually one.
const HEADERS_AT_ONCE: usize = 64;

/// Bytes of headers that are looked at at once: of a thousand generations of 64 nodes.
const MOST_HEADERS: usize = 64 << 20;

/// Records that are asked for at once.
const RECORDS_AT_ONCE: usize = 256;

/// Most generations that are remembered as to be deleted.
const MOST_LET_GO: usize = 4096;
