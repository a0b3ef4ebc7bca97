//! A store that is no node: what nodes put there, what they take from it, and what they do without it.

use super::*;
use crate::shared::exchange::Listing;
use crate::shared::generation::tests::generation;
use crate::shared::generation::{Content, SignedHeader};
use crate::shared::record::tests::record;
use crate::shared::record::{RecordId, Word};

/// An etcd, as nodes see it.
#[derive(Default)]
pub(super) struct Kept {
    heads: BTreeMap<GenerationId, Vec<u8>>,
    contents: BTreeMap<GenerationId, Vec<u8>>,
    records: BTreeMap<(GenerationId, RecordId), Vec<u8>>,
    away: bool,
}

impl Kept {
    pub(super) fn answer(&mut self, request: Request) -> Result<StoreReply, String> {
        if self.away {
            return Err("connection refused".to_owned());
        }
        match request {
            Request::List => {
                let whole = |id: &GenerationId| (*id, self.contents.contains_key(id));
                let generations = self.heads.keys().map(whole).collect();
                let records = self.records.keys().copied().collect();
                return Ok(StoreReply::Listing(Listing { generations, records }));
            }
            Request::Put { id, head, content } => {
                if let Some(content) = content {
                    self.contents.entry(id).or_insert(content);
                }
                self.heads.entry(id).or_insert(head);
            }
            Request::PutRecord { about, id, bytes } => {
                self.records.entry((about, id)).or_insert(bytes);
            }
            Request::LetGo { contents, generations } => {
                self.contents.retain(|id, _| !contents.contains(id) && !generations.contains(id));
                self.heads.retain(|id, _| !generations.contains(id));
                self.records.retain(|(about, _), _| !generations.contains(about));
            }
            Request::Heads(ids) => {
                return Ok(self.pieces(ids.iter().filter_map(|id| self.heads.get(id)).cloned()));
            }
            Request::Content(id) => return Ok(self.pieces(self.contents.get(&id).cloned())),
            Request::Records(names) => {
                return Ok(self.pieces(names.iter().filter_map(|name| self.records.get(name)).cloned()));
            }
        }
        Ok(StoreReply::Done)
    }

    fn pieces(&self, pieces: impl IntoIterator<Item = Vec<u8>>) -> StoreReply {
        StoreReply::Pieces(pieces.into_iter().collect())
    }

    fn put(&mut self, head: &SignedHeader, content: Option<&Content>) {
        self.heads.insert(head.id(), head.encode());
        if let Some(content) = content {
            self.contents.insert(head.id(), content.encode());
        }
    }
}

/// So many nodes that keep their generations in a store, too, and have put there what they have.
async fn keeping(nodes: u8) -> World {
    let world = World::of(nodes).await;
    let text = world.node("arr1").show(None).await.unwrap().text;
    let path = world.folder.join("store.toml");
    let table = "[config]\nstore = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379\"]\n\n";
    fs::write(&path, text.replacen("[[node]]", &format!("{table}[[node]]"), 1)).unwrap();
    world.apply("arr1", &path, None).await.unwrap();
    world.sync_stores().await;
    world
}

impl World {
    /// Every node looks at the store, until all have seen what each has put there.
    async fn sync_stores(&self) {
        let nodes: Vec<Shared> = self.net.nodes.read().unwrap().values().cloned().collect();
        for _ in 0..2 {
            for node in &nodes {
                node.sync_store().await;
            }
        }
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.net.store.lock().unwrap()
    }

    async fn store_told(&self, node: &str) -> StoreTold {
        self.node(node).state.lock().await.told().store.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_gets_all_that_the_nodes_have_and_each_thing_once() {
    let world = keeping(2).await;
    world.change("arr2", 20).await.unwrap();
    world.sync_stores().await;
    let log = world.node("arr2").log().await;
    // What was before arr2 came arr1 has.
    assert!(log.len() < world.node("arr1").log().await.len());
    let ids: Vec<String> = world.node("arr1").log().await.into_iter().map(|entry| entry.id).collect();
    let store = world.store();
    let kept: BTreeSet<String> = store.heads.keys().map(ToString::to_string).collect();
    assert_eq!(kept, ids.into_iter().collect());
    assert_eq!(store.contents.len(), store.heads.len());
    assert_eq!(store.records.len(), store.heads.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_do_not_reach_each_other_come_to_the_same_through_the_store() {
    let world = keeping(3).await;
    world.split(&["arr1"], &["arr2", "arr3"]);
    world.split(&["arr2"], &["arr3"]);
    let applied = world.change("arr1", 30).await.unwrap();
    assert_eq!(applied.on, [] as [String; 0]);
    assert_eq!(world.served(), [30, 300, 300]);
    world.sync_stores().await;
    assert_eq!(world.served(), [30; 3]);
    // Two changes at once: all end at the same one.
    world.change("arr2", 31).await.unwrap();
    world.change("arr3", 32).await.unwrap();
    world.sync_stores().await;
    assert_eq!(world.currents().await.len(), 1);
    let served: BTreeSet<u64> = world.served().into_iter().collect();
    assert_eq!(served.len(), 1, "{served:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_all_goes_on_and_it_gets_what_it_missed_when_it_is_back() {
    let mut world = keeping(2).await;
    assert_eq!(world.store_told("arr1").await.why, None);
    world.store().away = true;
    world.sync_stores().await;
    assert_eq!(world.store_told("arr2").await.why.as_deref(), Some("connection refused"));
    world.change("arr1", 40).await.unwrap();
    world.stop("arr2");
    world.start("arr2");
    world.sync_stores().await;
    assert_eq!(world.served(), [40; 2]);
    let before = world.store().heads.len();
    world.store().away = false;
    world.sync_stores().await;
    assert_eq!(world.store().heads.len(), before + 1);
    assert_eq!(world.store_told("arr2").await.why, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_there_is_put_there_again() {
    let world = keeping(2).await;
    let before = world.store().heads.clone();
    *world.store() = Kept::default();
    world.sync_stores().await;
    assert_eq!(world.store().heads, before);
    let store = world.store();
    assert_eq!((store.contents.len(), store.records.len()), (before.len(), before.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_of_the_cluster_signed_is_not_taken_in_and_not_fetched_twice() {
    let world = keeping(2).await;
    let before = world.currents().await;
    let now = {
        let node = world.node("arr1");
        let state = node.state.lock().await;
        state.generation(state.current()).unwrap()
    };
    let forged = generation(Some(&now.head), 9, &[9], "x");
    let orphan = generation(Some(&forged.head), 9, &[9], "y");
    let on_forged = record(forged.id(), Word::InForce, 9);
    let on_current = record(now.id(), Word::Failed, 9);
    {
        let mut store = world.store();
        store.put(&forged.head, Some(&forged.content));
        store.put(&orphan.head, None);
        // Under another name, and no header at all.
        store.heads.insert(GenerationId::from_bytes([3; 32]), now.head.encode());
        store.heads.insert(GenerationId::from_bytes([4; 32]), b"rubbish".to_vec());
        store.records.insert((forged.id(), on_forged.id()), on_forged.encode());
        store.records.insert((now.id(), on_current.id()), on_current.encode());
        store.records.insert((now.id(), RecordId::from_bytes([5; 32])), vec![0xff; 5000]);
    }
    world.sync_stores().await;
    assert_eq!(world.currents().await, before);
    assert_eq!(world.store_told("arr1").await.why, None);
    let node = world.node("arr1");
    let state = node.state.lock().await;
    let store = world.store();
    let there = Listing {
        generations: store.heads.keys().map(|id| (*id, true)).collect(),
        records: store.records.keys().copied().collect(),
    };
    let ignored = state.ignored();
    // What it follows could come yet.
    let asked_again = crate::shared::exchange::heads(&state.local.history, &there, &ignored);
    assert!(asked_again.is_empty() || asked_again == [orphan.id()], "{asked_again:?}");
    assert_eq!(crate::shared::exchange::records(&state.local.history, &there, &ignored), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_content_puts_nothing_in_force_and_costs_no_other_generation() {
    let world = keeping(2).await;
    world.split(&["arr1"], &["arr2"]);
    world.change("arr1", 50).await.unwrap();
    world.node("arr1").sync_store().await;
    let current = world.node("arr1").state.lock().await.current();
    let sound = world.store().contents.insert(current, b"1\nx".to_vec()).unwrap();
    world.node("arr2").sync_store().await;
    assert_eq!(world.served(), [50, 300]);
    assert_eq!(world.node("arr2").state.lock().await.objection, None);
    // It is put there anew once it was deleted, and taken in by who is told to look again.
    world.store().contents.remove(&current);
    world.node("arr1").sync_store().await;
    assert_eq!(world.store().contents[&current], sound);
    world.heal().await;
    assert_eq!(world.served(), [50; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_let_go_of_is_deleted_there_too() {
    let world = keeping(1).await;
    for seconds in 1..=70 {
        world.change("arr1", seconds).await.unwrap();
    }
    world.sync_stores().await;
    assert_eq!(world.store().contents.len(), 64);
    let kept: BTreeSet<GenerationId> = {
        let node = world.node("arr1");
        let mut state = node.state.lock().await;
        let pruned = state.local.history.prune(64, 30);
        assert_eq!(pruned.generations.len(), 42);
        state.store.as_mut().unwrap().let_go_of(pruned.generations);
        state.local.history.log().into_iter().map(|(head, _)| head.id()).collect()
    };
    world.sync_stores().await;
    let store = world.store();
    assert_eq!(store.heads.keys().copied().collect::<BTreeSet<_>>(), kept);
    assert_eq!(store.contents.keys().copied().collect::<BTreeSet<_>>(), kept);
    assert_eq!(store.records.keys().map(|(about, _)| *about).collect::<BTreeSet<_>>(), kept);
}
