//! With the other nodes: they are asked before a change, told after it, and asked what they have whenever they are reached again.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use tracing::{debug, warn};

use super::state::{Missing, State};
use super::{Applier, Places, Readied, Refused, SharedConfig};
use crate::agent::events::Note;
use crate::clock::Time;
use crate::config::model::Config;
use crate::config::told;
use crate::etcd::Settings;
use crate::etcd::request::{Reply as StoreReply, Request};
use crate::shared::generation::{self, Content, Generation, GenerationId, MAX_BYTES, SignedHeader};
use crate::shared::history::Inventory;
use crate::shared::keys::VerifyingKey;
use crate::shared::message::{Question, Reply};
use crate::shared::record::SignedRecord;

/// The way to the other nodes.
pub(in crate::agent) trait Network: Send + Sync + 'static {
    /// What a node answers, or why it does not.
    fn call(
        &self,
        node: &str,
        question: Vec<u8>,
        within: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, String>> + Send;

    /// Lets so many strangers come in at once.
    fn admit(&self, strangers: u8);

    /// What the store that is no node answers, or why it does not.
    fn ask_store(
        &self,
        request: Request,
        within: Duration,
    ) -> impl Future<Output = Result<StoreReply, String>> + Send;

    /// This is the store from now on; `None`: there is none.
    fn follow_store(&self, settings: Option<Settings>);

    /// These are the nodes from now on, with the addresses and TLS keys that the configuration gives them.
    fn follow(&self, nodes: Vec<crate::peer::Node>);
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Asker {
    /// A node that the configuration lists.
    Node(String),
    /// Somebody with this TLS key.
    Stranger(VerifyingKey),
}

/// What the other nodes say to a change.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Those that could work with it.
    pub(super) sound: Vec<String>,
    /// Those that were not reached.
    pub(super) unreached: Vec<String>,
}

/// How long a node may take to look at a generation: its disk, its rules, its certificates.
const CHECK: Duration = Duration::from_secs(15);

/// How long it may take to answer anything else.
const ANSWER: Duration = Duration::from_secs(5);

/// How long it may take to put a generation in force.
const TAKE: Duration = Duration::from_secs(20);

/// How many generations are asked for at once: each is a message of its own size.
const AT_ONCE: usize = 8;

impl<A: Applier, N: Network> SharedConfig<A, N> {
    /// Asks every other node that stays whether it could work with this; an objection of any that answers is one of all.
    pub(super) async fn ask_all(&self, generation: &Generation) -> Result<Found, Refused> {
        let question = Question::Check(generation.encode()).encode();
        let roster = &generation.head.header().roster;
        let stay = self.others().await.into_iter().filter(|node| roster.contains_key(node));
        let answers = stay.map(|node| {
            let question = question.clone();
            async move {
                let answer = self.network.call(&node, question, CHECK).await;
                (node, answer)
            }
        });
        let (mut found, mut objections) = (Found::default(), Vec::new());
        for (node, answer) in join_all(answers).await {
            match answer.map(|bytes| Reply::decode(&bytes)) {
                Ok(Ok(Reply::Sound)) => found.sound.push(node),
                Ok(Ok(Reply::Refused(why))) => objections.push(format!("{node}: {why}")),
                Ok(Ok(_)) => objections.push(format!("{node}: it answers something else")),
                Ok(Err(error)) => objections.push(format!("{node}: {error}")),
                Err(why) => {
                    debug!(%node, %why, "a node was not asked about a change of the configuration");
                    found.unreached.push(node);
                }
            }
        }
        if objections.is_empty() {
            return Ok(found);
        }
        self.forget_all(generation.id(), &found.sound).await;
        Err(Refused::Objections(objections.join("; ")))
    }

    /// Tells those that found a generation sound that it does not come: they keep a place for it.
    pub(super) async fn forget_all(&self, id: GenerationId, nodes: &[String]) {
        let question = Question::Forget(id).encode();
        let told = nodes.iter().map(|node| self.network.call(node, question.clone(), ANSWER));
        // Who does not hear of it keeps the place for some seconds more.
        join_all(told).await;
    }

    /// Tells the nodes that a generation leaves out that it does: its header, and that it is in force. Those that know of it then.
    pub(super) async fn dismiss_all(
        &self,
        generation: &Generation,
        record: &SignedRecord,
        nodes: &[String],
    ) -> Vec<String> {
        let (generations, records) = (vec![generation.head.encode()], vec![record.encode()]);
        let question = Question::Take { generations, records }.encode();
        let answers = nodes.iter().map(|node| {
            let question = question.clone();
            async move {
                let answer = self.network.call(node, question, ANSWER).await;
                let taken = answer.is_ok_and(|bytes| Reply::decode(&bytes) == Ok(Reply::Taken));
                taken.then(|| node.clone())
            }
        });
        join_all(answers).await.into_iter().flatten().collect()
    }

    /// Tells every other node of a generation, and waits until those that are reached work with it. The nodes that do not know of it then.
    pub(super) async fn tell_all(&self, generation: &Generation, record: &SignedRecord) -> Vec<String> {
        let question =
            Question::Take { generations: vec![generation.encode()], records: vec![record.encode()] }
                .encode();
        let me = self.state.lock().await.local.file.name.clone();
        let others = generation.head.header().roster.keys().filter(|node| **node != me).cloned();
        let answers = others.map(|node| {
            let question = question.clone();
            async move {
                let answer = self.network.call(&node, question, TAKE).await;
                let taken = answer.is_ok_and(|bytes| Reply::decode(&bytes) == Ok(Reply::Taken));
                (!taken).then_some(node)
            }
        });
        join_all(answers).await.into_iter().flatten().collect()
    }

    /// The generation in force in the cluster, as far as is known here.
    pub(in crate::agent) async fn current(&self) -> GenerationId {
        self.state.lock().await.current()
    }

    /// The other nodes of the generation in force, by name.
    async fn others(&self) -> Vec<String> {
        let state = self.state.lock().await;
        let me = &state.local.file.name;
        let roster = state.local.history.head(state.current()).map(|head| head.header().roster.clone());
        roster.unwrap_or_default().into_keys().filter(|node| node != me).collect()
    }

    /// The answer to another node, or to a stranger.
    pub(in crate::agent) async fn asked(&self, from: Asker, bytes: &[u8]) -> Vec<u8> {
        let reply = match Question::decode(bytes) {
            Ok(question) => self.reply(from, question).await,
            Err(error) => Reply::Refused(error.to_string()),
        };
        reply.encode()
    }

    async fn reply(&self, from: Asker, question: Question) -> Reply {
        let node = match (from, question) {
            (Asker::Stranger(key), Question::Join(application)) => {
                return self.join(key, application.newcomer, &application.proof).await;
            }
            (Asker::Stranger(_), _) => return Reply::Refused("join first".to_owned()),
            (Asker::Node(node), question) => (node, question),
        };
        let (asks, _) = &node;
        if !self.state.lock().await.lists(asks) {
            return Reply::Refused(format!("{asks} is no node of the cluster any more"));
        }
        match node {
            (_, Question::Join(_)) => Reply::Refused("this node belongs to the cluster already".to_owned()),
            (_, Question::Inventory) => Reply::Inventory(self.state.lock().await.local.history.inventory()),
            (_, Question::Generations(ids)) => self.pieces(&ids).await,
            (_, Question::Records(ids)) => {
                let state = self.state.lock().await;
                let records = state.local.history.records_among(&ids);
                Reply::Pieces(records.map(SignedRecord::encode).collect())
            }
            (node, Question::Check(bytes)) => match self.check(&node, &bytes).await {
                Ok(()) => Reply::Sound,
                Err(why) => Reply::Refused(why),
            },
            (_, Question::Forget(id)) => {
                self.state.lock().await.forget(id);
                self.readied.lock().await.take_if(|readied| readied.id == id);
                self.go_back(id).await;
                Reply::Taken
            }
            (node, Question::Try { generation, seconds }) => {
                match self.try_for(&node, &generation, seconds).await {
                    Ok(findings) => Reply::Tried(findings),
                    Err(why) => Reply::Refused(why),
                }
            }
            (node, Question::Work) => {
                self.heard_of(&node).await;
                let nothing = || Reply::Refused("nothing is published there".to_owned());
                self.applier.work().await.map_or_else(nothing, Reply::Work)
            }
            (node, Question::Take { generations, records }) => {
                match self.take(&node, &generations, &records).await {
                    Ok(()) => Reply::Taken,
                    Err(why) => Reply::Refused(why),
                }
            }
        }
    }

    async fn pieces(&self, ids: &[GenerationId]) -> Reply {
        let state = self.state.lock().await;
        let mut room = MAX_BYTES;
        let mut pieces = Vec::new();
        for id in ids {
            let Some(head) = state.local.history.head(*id) else { continue };
            let piece =
                state.local.history.generation(*id).map_or_else(|| head.encode(), |whole| whole.encode());
            let Some(left) = room.checked_sub(piece.len()) else { break };
            room = left;
            pieces.push(piece);
        }
        Reply::Pieces(pieces)
    }

    /// Whether this node could work with what another one is about to put in force.
    async fn check(&self, node: &str, bytes: &[u8]) -> Result<(), String> {
        let generation = Generation::decode(bytes).map_err(|error| error.to_string())?;
        let (read, over) = {
            let mut state = self.state.lock().await;
            // Of two that make a change at once, one has to give way, and both know which.
            if self.turn.try_lock().is_err() && *state.local.file.name < *node {
                return Err("a change is being made on it at this moment".to_owned());
            }
            if let Err(other) = state.is_free(Time::now())
                && other != node
            {
                return Err(format!("a change of {other} is under way"));
            }
            let read = state.follower(&generation)?;
            state.promise(node, generation.id(), Time::now());
            (read, state.applied)
        };
        let (id, places) = (generation.id(), Places::of(&read.config));
        match self.applier.examine(read.config).await {
            Ok((examined, _)) => {
                *self.readied.lock().await = Some(Readied { id, over, places, examined });
                Ok(())
            }
            Err(refusal) => {
                self.state.lock().await.forget(id);
                Err(told(&refusal))
            }
        }
    }

    async fn take(&self, node: &str, generations: &[Vec<u8>], records: &[Vec<u8>]) -> Result<(), String> {
        let generations: Vec<Whole> = generations
            .iter()
            .map(|bytes| generation::decode(bytes))
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let records: Vec<SignedRecord> = records
            .iter()
            .map(|bytes| SignedRecord::decode(bytes))
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let taken = self.take_in(generations, records).await?;
        if taken.orphans {
            self.sync(node).await?;
        }
        Ok(())
    }

    pub(super) async fn take_in(
        &self,
        generations: Vec<Whole>,
        records: Vec<SignedRecord>,
    ) -> Result<super::state::Taken, String> {
        let taken = {
            let mut state = self.state.lock().await;
            tokio::task::block_in_place(|| state.take(generations, records)).map_err(|error| told(&error))?
        };
        if taken.news {
            self.fresh.notify_one();
            self.follow().await;
        }
        Ok(taken)
    }

    /// Asks a node what it has, and takes in what is not here.
    pub(in crate::agent) async fn sync(&self, node: &str) -> Result<(), String> {
        let Reply::Inventory(theirs) = self.ask(node, &Question::Inventory).await? else {
            return Err(format!("{node} answers something else"));
        };
        let missing = {
            let mut state = self.state.lock().await;
            let missing = state.wanted(node, &theirs);
            self.tell(&state);
            missing
        };
        let mut generations = Vec::new();
        for ids in missing.generations.chunks(AT_ONCE) {
            let mut wanted: BTreeSet<GenerationId> = ids.iter().copied().collect();
            // What did not fit is asked for again; who gives nothing is not asked again.
            while !wanted.is_empty() {
                let question = Question::Generations(wanted.iter().copied().collect());
                let Reply::Pieces(pieces) = self.ask(node, &question).await? else { break };
                let got: Vec<Whole> =
                    pieces.iter().filter_map(|piece| generation::decode(piece).ok()).collect();
                let before = wanted.len();
                wanted.retain(|id| got.iter().all(|(head, _)| head.id() != *id));
                generations.extend(got);
                if wanted.len() == before {
                    break;
                }
            }
        }
        let mut records = Vec::new();
        for ids in missing.records.chunks(AT_ONCE * AT_ONCE) {
            if let Reply::Pieces(pieces) = self.ask(node, &Question::Records(ids.to_vec())).await? {
                records.extend(pieces.iter().filter_map(|piece| SignedRecord::decode(piece).ok()));
            }
        }
        let taken = self.take_in(generations, records).await?;
        match taken.beyond.filter(|_| !taken.news) {
            Some(newest) => self.fall_behind(node, newest, &theirs, missing).await,
            None if taken.news => self.state.lock().await.behind.clear(),
            None => {}
        }
        Ok(())
    }

    /// That node has what this one cannot follow; unless it has what is in force here, and so the way from there.
    async fn fall_behind(&self, node: &str, newest: GenerationId, theirs: &Inventory, missing: Missing) {
        let mut state = self.state.lock().await;
        if theirs.generations.contains_key(&state.current()) {
            return;
        }
        let is_first = state.note_behind(node, newest, missing);
        self.tell(&state);
        if let Some(text) = state.left_behind().filter(|_| is_first) {
            warn!("{text}");
            self.events.push(Note::new("configuration-missed", true, text));
        }
    }

    async fn ask(&self, node: &str, question: &Question) -> Result<Reply, String> {
        let bytes = self.network.call(node, question.encode(), ANSWER).await?;
        match Reply::decode(&bytes).map_err(|error| error.to_string())? {
            Reply::Refused(why) => Err(format!("{node}: {why}")),
            reply @ (Reply::Inventory(_)
            | Reply::Pieces(_)
            | Reply::Sound
            | Reply::Tried(_)
            | Reply::Work(_)
            | Reply::Taken
            | Reply::Welcome { .. }) => Ok(reply),
        }
    }

    /// Works with the generation that is in force by what is known now. One that cannot be used here is told of, and the one before
    /// stays at work.
    pub(in crate::agent) async fn follow(&self) {
        let _one_at_a_time = self.following.lock().await;
        if self.heed_removal().await {
            return;
        }
        let readied = self.readied.lock().await.take();
        let (id, read, at_work) = {
            let mut state = self.state.lock().await;
            let id = state.to_work_with();
            let at_work = id == state.applied;
            // What was on trial here is in force.
            let promoted = state.trial.as_ref().is_some_and(|trial| trial.generation.id() == state.current());
            if at_work && !promoted {
                // What it could not work with is no longer in force.
                self.object(&mut state, None);
                return;
            }
            let readied = readied.filter(|readied| readied.id == id && readied.over == state.applied);
            let read = state.generation(id).and_then(|generation| match readied {
                Some(readied) => Ok((generation, Looked::Readied(Box::new(readied)))),
                None => {
                    state.local.read(&generation).map(|read| (generation, Looked::At(Box::new(read.config))))
                }
            });
            (id, read, at_work)
        };
        let outcome = match read {
            Ok((generation, looked)) if at_work => {
                self.at_work(&generation, &looked.places()).await;
                return;
            }
            Ok((generation, looked)) => self.put_to_work(&generation, looked).await,
            Err(error) => Err(told(&error)),
        };
        let mut state = self.state.lock().await;
        self.object(&mut state, outcome.err().map(|why| (id, why)));
    }

    /// Which generation in force this node cannot work with, and why. Until it can its share goes to nodes that do.
    fn object(&self, state: &mut State, objection: Option<(GenerationId, String)>) {
        if state.objection == objection {
            return;
        }
        state.objection = objection;
        self.tell(state);
        if let Some(text) = state.told().objection.filter(|_| state.objection.is_some()) {
            warn!("{text}");
            self.events.push(Note::new("configuration-refused", true, text));
        }
    }

    async fn put_to_work(&self, generation: &Generation, looked: Looked<A::Examined>) -> Result<(), String> {
        let places = looked.places();
        let examined = match looked {
            Looked::Readied(readied) => readied.examined,
            Looked::At(config) => self.applier.examine(*config).await.map_err(|refusal| told(&refusal))?.0,
        };
        self.applier.adopt(examined).await.map_err(|refusal| told(&refusal))?;
        self.at_work(generation, &places).await;
        Ok(())
    }
}

/// What is to come to work here.
enum Looked<E> {
    /// It could be read.
    At(Box<Config>),
    /// It was found sound a moment ago.
    Readied(Box<Readied<E>>),
}

impl<E> Looked<E> {
    fn places(&self) -> Places {
        match self {
            Self::At(config) => Places::of(config),
            Self::Readied(readied) => readied.places.clone(),
        }
    }
}

pub(super) type Whole = (SignedHeader, Option<Content>);
