//! What a node asks the others for, and what it does not ask for in vain.

use std::sync::atomic::AtomicUsize;

use super::*;

/// The network, with a count of how often a generation's content was asked for.
struct Counting {
    wire: Wire,
    asked: Arc<AtomicUsize>,
}

impl Network for Counting {
    fn call(
        &self,
        node: &str,
        question: Vec<u8>,
        within: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, String>> + Send {
        if let Ok(Question::Generations(ids)) = Question::decode(&question) {
            self.asked.fetch_add(ids.len(), Ordering::Relaxed);
        }
        self.wire.call(node, question, within)
    }

    fn admit(&self, _strangers: u8) {}

    async fn ask_store(&self, request: Request, within: Duration) -> Result<StoreReply, String> {
        self.wire.ask_store(request, within).await
    }

    fn follow_store(&self, _settings: Option<crate::etcd::Settings>) {}

    fn follow(&self, _nodes: Vec<crate::peer::Node>) {}
}

/// A node as it starts, and how many generations it has asked for since.
fn counting(world: &World, name: &str) -> (SharedConfig<Played, Counting>, Arc<AtomicUsize>) {
    let local = Local::open(&world.node_file(name)).unwrap();
    let applied = local.in_force().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let wire = Wire { me: name.to_owned(), net: world.net.clone() };
    let counting = Counting { wire, asked: Arc::clone(&asked) };
    (SharedConfig::new(local, &applied, Played::default(), counting, events()), asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_before_a_node_came_is_not_asked_for_each_time() {
    let mut world = World::new().await;
    for seconds in 1..=5 {
        world.change("arr1", seconds).await.unwrap();
    }
    let token = world.token("arr1").await;
    world.join("arr2", 2, &token, "arr1").await.unwrap();
    let (newcomer, asked) = counting(&world, "arr2");
    newcomer.sync("arr1").await.unwrap();
    let once = asked.load(Ordering::Relaxed);
    newcomer.sync("arr1").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), once, "it cannot be taken in, now or later");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_for_longer_than_anything_is_kept_says_so_and_does_not_ask_for_it_again() {
    let mut world = World::of(2).await;
    world.stop("arr2");
    for seconds in 1..=4 {
        world.change("arr1", seconds).await.unwrap();
    }
    world.node("arr1").state.lock().await.local.history.prune(1, 2);
    let (back, asked) = counting(&world, "arr2");
    back.sync("arr1").await.unwrap();
    let objection = back.told().borrow().objection.clone().unwrap();
    assert!(objection.contains("away for too long") && objection.contains("rollcall join"), "{objection}");
    let once = asked.load(Ordering::Relaxed);
    assert!(once > 0);
    back.sync("arr1").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), once, "it cannot be followed, now or later");
    assert!(back.told().borrow().objection.is_some());
    // Another that follows is known, and asked for.
    world.change("arr1", 5).await.unwrap();
    back.sync("arr1").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), once + 1);
    assert!(back.told().borrow().objection.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_failed_is_not_revived_by_a_node_that_was_away_when_it_did() {
    let mut world = World::of(3).await;
    world.change("arr1", 40).await.unwrap();
    world.change("arr1", 41).await.unwrap();
    world.stop("arr3");
    let author = world.node("arr1");
    {
        let mut state = author.state.lock().await;
        let id = state.current();
        state.fail(id, "it did harm").unwrap();
    }
    author.follow().await;
    world.sync().await;
    assert_eq!(world.served(), [40; 2]);
    world.start("arr3");
    assert_eq!(world.served(), [40, 40, 41], "it knows nothing of that yet");
    world.sync().await;
    assert_eq!(world.served(), [40; 3]);
    for node in ["arr1", "arr2", "arr3"] {
        let log = world.node(node).log().await;
        assert_eq!((log[0].standing.as_str(), log[1].standing.as_str()), ("failed", "current"), "{node}");
    }
}
