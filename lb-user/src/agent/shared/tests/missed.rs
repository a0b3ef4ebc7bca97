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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_before_a_node_came_is_not_asked_for_each_time() {
    let mut world = World::new().await;
    for seconds in 1..=5 {
        world.change("arr1", seconds).await.unwrap();
    }
    let token = world.token("arr1").await;
    world.join("arr2", 2, &token, "arr1").await.unwrap();
    let local = Local::open(&world.node_file("arr2")).unwrap();
    let applied = local.in_force().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let wire = Wire { me: "arr2".to_owned(), net: world.net.clone() };
    let counting = Counting { wire, asked: Arc::clone(&asked) };
    let newcomer = SharedConfig::new(local, &applied, Played::default(), counting, events());
    newcomer.sync("arr1").await.unwrap();
    let once = asked.load(Ordering::Relaxed);
    newcomer.sync("arr1").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), once, "it cannot be taken in, now or later");
}
