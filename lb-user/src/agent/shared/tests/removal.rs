//! Nodes that go, and what the cluster secret is then.

use super::*;
use crate::control::api::Removed;
use crate::shared::sealed::OpenError;

impl World {
    async fn remove(&self, by: &str, node: &str) -> Result<Removed, String> {
        let wanted = Configure::Remove { node: node.to_owned(), comment: String::new() };
        removed(self.node(by).answer(wanted).await)
    }

    async fn leave(&self, node: &str) -> Result<Removed, String> {
        removed(self.node(node).answer(Configure::Leave { comment: String::new() }).await)
    }

    async fn rotate(&self, by: &str) -> Result<Applied, String> {
        let answer = self.node(by).answer(Configure::RotateSecret { comment: String::new() }).await;
        if let Answer::Error { text } | Answer::Invalid { text } = answer {
            return Err(text);
        }
        let Answer::Applied(applied) = answer else { panic!("{answer:?}") };
        Ok(*applied)
    }

    /// What is sealed in the generation in force, as a node reads it.
    async fn secrets(&self, node: &str) -> Secrets {
        self.node(node).state.lock().await.in_force().unwrap().secrets
    }

    fn is_dismissed(&self, node: &str) -> bool {
        self.served[node].0.lock().unwrap().dismissed
    }

    /// Why a node does not start, if it does not.
    fn obstacle(&self, node: &str) -> Option<String> {
        Local::open(&self.node_file(node)).unwrap().in_force().err().map(|error| told(&error))
    }
}

fn removed(answer: Answer) -> Result<Removed, String> {
    if let Answer::Error { text } | Answer::Invalid { text } = answer {
        return Err(text);
    }
    let Answer::Removed(removed) = answer else { panic!("{answer:?}") };
    Ok(*removed)
}

fn seed(secrets: &Secrets) -> [u64; 2] {
    crate::config::secret::ClusterSecret::parse(&secrets.cluster).unwrap().hash_seed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_removed_is_told_so_and_knows_nothing_of_what_follows() {
    let world = World::of(3).await;
    let before = world.secrets("arr1").await;
    let gone = world.remove("arr1", "arr3").await.unwrap();
    assert_eq!((gone.node.as_str(), gone.told), ("arr3", true));
    assert_eq!((gone.applied.on, gone.applied.unreached), (vec!["arr2".to_owned()], Vec::new()));
    assert!(world.is_dismissed("arr3") && !world.is_dismissed("arr2"));
    let now = world.secrets("arr2").await;
    assert_eq!((now.epoch, seed(&now)), (before.epoch + 1, seed(&before)));
    assert_ne!(now.cluster, before.cluster);
    assert_eq!(now, world.secrets("arr1").await);
    // What it was told is that it is out, and no more.
    let shown = world.node("arr1").show(None).await.unwrap();
    assert!(!shown.text.contains("arr3") && shown.entry.comment == "arr3 is removed", "{shown:?}");
    let whole = world.node("arr1").state.lock().await.local.history.current_whole().unwrap();
    let arr3 = world.node("arr3");
    {
        let state = arr3.state.lock().await;
        assert!(!state.local.history.has_content(whole.id()));
        assert_eq!(Secrets::open(&whole.content.sealed, &state.local.keys), Err(OpenError::NotForUs));
    }
    world.change("arr1", 20).await.unwrap();
    let refused = arr3.sync("arr1").await.unwrap_err();
    assert_eq!(refused, "arr1: arr3 is no node of the cluster any more");
    assert_eq!(arr3.state.lock().await.current(), whole.id(), "what came after it is not told");
    let said = world.change("arr3", 30).await.unwrap_err();
    assert!(said.contains("the content of generation") || said.contains("no node of the cluster"), "{said}");
    let obstacle = world.obstacle("arr3").unwrap();
    assert!(obstacle.contains("arr3 is no node of the cluster any more"), "{obstacle}");
    assert!(obstacle.contains("by arr1") && obstacle.contains("hint: `rollcall leave`"), "{obstacle}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_off_when_it_was_removed_has_no_say_and_gets_nothing() {
    let mut world = World::of(3).await;
    world.stop("arr3");
    let gone = world.remove("arr2", "arr3").await.unwrap();
    assert!(!gone.told && gone.applied.unreached.is_empty(), "{gone:?}");
    world.start("arr3");
    let arr3 = world.node("arr3");
    let before = arr3.log().await.len();
    for node in ["arr1", "arr2"] {
        assert!(arr3.sync(node).await.is_err(), "{node}");
    }
    assert_eq!(arr3.log().await.len(), before);
    let said = world.change("arr3", 30).await.unwrap_err();
    assert!(said.contains("arr1: arr3 is no node of the cluster any more"), "{said}");
    assert_eq!(world.served(), [300; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_removed_and_what_to_do_instead_is_said() {
    let world = World::new().await;
    for (node, words) in [("arr1", "this is the cluster's last node"), ("arr2", "the nodes are arr1")] {
        let refused = world.remove("arr1", node).await.unwrap_err();
        assert!(refused.contains(words) && refused.contains("hint: "), "{refused}");
    }
    let refused = world.leave("arr1").await.unwrap_err();
    assert!(refused.contains("this is the cluster's last node"), "{refused}");
    let world = World::of(2).await;
    let refused = world.remove("arr2", "arr2").await.unwrap_err();
    assert!(refused.contains("that is this node; hint: `rollcall leave`"), "{refused}");
    assert_eq!(world.currents().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_leaves_a_node_out_changes_the_secret() {
    let world = World::of(3).await;
    let before = world.secrets("arr1").await;
    let shown = world.node("arr2").show(None).await.unwrap();
    let path = world.folder.join("without.toml");
    fs::write(&path, crate::shared::founding::without_node(&shown.text, "arr3").unwrap()).unwrap();
    let applied = world.apply("arr2", &path, None).await.unwrap();
    assert_eq!(applied.on, ["arr1"]);
    assert!(world.is_dismissed("arr3"));
    assert_eq!(world.secrets("arr1").await.epoch, before.epoch + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_changes_alone_and_neither_a_rollback_nor_a_token_minds() {
    let mut world = World::of(2).await;
    let (before, old) = (world.secrets("arr1").await, world.node("arr1").show(None).await.unwrap());
    let token = world.token("arr1").await;
    world.stop("arr2");
    assert_eq!(world.rotate("arr1").await.unwrap().unreached, ["arr2"]);
    world.start("arr2");
    world.sync().await;
    let now = world.secrets("arr2").await;
    assert_eq!((now.epoch, seed(&now)), (before.epoch + 1, seed(&before)));
    assert_eq!(now, world.secrets("arr1").await);
    assert_eq!(world.node("arr2").show(None).await.unwrap().text, old.text);
    // A token of before is good, and what was before comes back without its secret.
    world.join("arr3", 3, &token, "arr1").await.unwrap();
    world.change("arr3", 20).await.unwrap();
    let wanted = Configure::RollBack { generation: old.entry.id.clone(), comment: String::new() };
    let answer = world.node("arr1").answer(wanted).await;
    assert!(matches!(answer, Answer::Applied(_)), "{answer:?}");
    assert_eq!(world.secrets("arr3").await.cluster, now.cluster);
    assert_eq!(world.rotate("arr3").await.unwrap().on.len(), 2);
    assert_eq!(world.secrets("arr2").await.epoch, before.epoch + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_leaves_once_another_has_confirmed_it_and_not_before() {
    let mut world = World::of(3).await;
    let before = world.secrets("arr1").await;
    world.split(&["arr3"], &["arr1", "arr2"]);
    let refused = world.leave("arr3").await.unwrap_err();
    assert!(refused.contains("no node that stays has confirmed it (not reached: arr1, arr2)"), "{refused}");
    assert!(!world.is_dismissed("arr3") && world.obstacle("arr3").is_none(), "nothing was changed");
    world.heal().await;
    assert_eq!(world.secrets("arr1").await, before);
    world.stop("arr2");
    let gone = world.leave("arr3").await.unwrap();
    assert_eq!((gone.applied.on, gone.applied.unreached), (vec!["arr1".to_owned()], vec!["arr2".to_owned()]));
    assert!(world.is_dismissed("arr3"));
    let obstacle = world.obstacle("arr3").unwrap();
    assert!(obstacle.contains("by arr3, leaves it out"), "{obstacle}");
    world.stop("arr3");
    world.start("arr2");
    world.sync().await;
    assert_eq!(world.secrets("arr2").await.epoch, before.epoch + 1);
    assert_eq!(world.currents().await.len(), 1);
    // The same host comes back as a new node.
    fs::remove_dir_all(world.folder.join("arr3")).unwrap();
    let token = world.token("arr2").await;
    world.join("arr3", 3, &token, "arr2").await.unwrap();
    world.change("arr3", 40).await.unwrap();
    assert_eq!(world.served(), [40; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_in_one_half_of_a_split_holds_in_both_and_voids_what_the_removed_node_made() {
    let world = World::of(3).await;
    world.split(&["arr3"], &["arr1", "arr2"]);
    world.remove("arr1", "arr3").await.unwrap();
    for seconds in 60..65 {
        world.change("arr3", seconds).await.unwrap();
    }
    world.net.cut.lock().unwrap().clear();
    // Whatever it can be asked for, and whoever has it.
    for (node, other) in [("arr1", "arr3"), ("arr2", "arr1"), ("arr2", "arr3")] {
        world.node(node).sync(other).await.unwrap();
    }
    assert_eq!(world.served()[..2], [300; 2]);
    assert!(!world.node("arr1").show(None).await.unwrap().text.contains("arr3"));
}
