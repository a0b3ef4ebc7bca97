//! What a node asks the others for, and what it does not ask for in vain.

use std::sync::atomic::AtomicUsize;

use super::*;

/// The network, with a count of how many generations and records were asked for.
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
        let asked = Question::decode(&question);
        if let Ok(Question::Generations(ids)) = &asked {
            self.asked.fetch_add(ids.len(), Ordering::Relaxed);
        }
        if let Ok(Question::Records(ids)) = &asked {
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
    // Another that follows is known, and asked for; and what others want this node objects to with the reason.
    world.change("arr1", 5).await.unwrap();
    back.sync("arr1").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), once + 2, "a generation and its record");
    assert!(back.told().borrow().objection.is_some());
    let author = world.node("arr1");
    let next = author.state.lock().await.local.history.current_whole().unwrap();
    let answer = back.asked(Asker::Node("arr1".to_owned()), &Question::Check(next.encode()).encode()).await;
    let Ok(Reply::Refused(why)) = Reply::decode(&answer) else { panic!("{answer:?}") };
    assert!(why.contains("away for too long"), "{why}");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_came_to_nothing_makes_no_newcomer_say_that_it_was_away() {
    let mut world = World::of(3).await;
    // A half of the network goes on with arr3, which is removed by the other half meanwhile.
    world.split(&["arr1"], &["arr2", "arr3"]);
    for seconds in 61..=66 {
        world.change("arr3", seconds).await.unwrap();
    }
    let removal = Configure::Remove { node: "arr3".to_owned(), comment: String::new() };
    let Answer::Removed(_) = world.node("arr1").answer(removal).await else { panic!("arr3 stays") };
    world.stop("arr3");
    world.heal().await;
    // What arr3 made is void, higher than what is in force, and lies below and above what the newcomer begins with.
    let token = world.token("arr1").await;
    world.join("arr4", 4, &token, "arr1").await.unwrap();
    let newcomer = world.node("arr4");
    let void = world.node("arr2").state.lock().await.local.history.inventory().generations.len();
    let known = newcomer.state.lock().await.local.history.inventory().generations.len();
    assert!(void > known + 6, "arr2 has what the newcomer has not: {void} and {known}");
    for _ in 0..3 {
        newcomer.sync("arr2").await.unwrap();
        newcomer.sync("arr1").await.unwrap();
        assert_eq!(newcomer.told().borrow().objection, None);
    }
}
