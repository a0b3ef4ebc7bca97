//! A change is tried on one node before the others work with it.

use super::*;

impl World {
    /// A cluster whose nodes publish something, of which so many have clients.
    async fn publishing(nodes: u8, with_clients: usize) -> Self {
        let world = Self::of(nodes).await;
        for (number, played) in world.served.values().enumerate() {
            let mut played = played.0.lock().unwrap();
            (played.clients, played.worked_with) = (Some(number < with_clients), Vec::new());
        }
        world
    }

    fn play(&self, node: &str) -> std::sync::MutexGuard<'_, Serving> {
        self.served[node].0.lock().unwrap()
    }

    /// What each node has worked with since it was started, by the change that was made.
    fn worked_with(&self, node: &str) -> Vec<u64> {
        self.play(node).worked_with.clone()
    }

    async fn standing_of_newest(&self, node: &str) -> String {
        self.node(node).log().await[0].standing.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_well_on_one_node_is_at_work_on_all() {
    let world = World::publishing(3, 3).await;
    let applied = world.change("arr2", 40).await.unwrap();
    let canary = applied.canary.unwrap();
    assert_eq!((canary.node.as_str(), canary.asked), ("arr2", 1));
    assert!(canary.clients.starts_with("its clients fared as the others'"), "{}", canary.clients);
    assert_eq!(world.served(), [40, 40, 40]);
    assert!(world.node("arr2").state.lock().await.trial.is_none());
    assert_eq!(world.standing_of_newest("arr3").await, "current");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_do_well_by_itself_never_reaches_another_node_and_is_failed_for_ever() {
    let mut world = World::publishing(3, 3).await;
    let before = world.served()[0];
    world.play("arr1").fails_with = Some(Duration::from_secs(40));
    let refused = world.change("arr1", 40).await.unwrap_err();
    assert!(refused.contains("server sbex1 of farm exchange: answered 403"), "{refused}");
    assert_eq!(world.served(), [before; 3]);
    assert_eq!(world.worked_with("arr1"), [40, before]);
    for node in ["arr2", "arr3"] {
        assert_eq!(
            (world.worked_with(node), world.standing_of_newest(node).await),
            (vec![], "failed".to_owned())
        );
    }
    // Nor does it come back with a node that was away.
    world.stop("arr3");
    let back = world.start("arr3");
    assert_eq!(back.log().await[0].standing, "failed");
    assert_eq!(world.served(), [before; 3]);
    // Another change is none the worse for it.
    world.change("arr1", 41).await.unwrap();
    assert_eq!(world.served(), [41; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_do_not_fare_well_with_goes_back() {
    let world = World::publishing(2, 2).await;
    let before = world.served()[0];
    world.play("arr1").fares_ill_with = Some(Duration::from_secs(40));
    let refused = world.change("arr1", 40).await.unwrap_err();
    assert!(refused.contains("requests were answered with 403 or 404"), "{refused}");
    assert_eq!((world.served(), world.worked_with("arr1")), (vec![before; 2], vec![40, before]));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_answers_for_all_another_tries_it_first_and_says_what_that_is_worth() {
    let world = World::publishing(2, 1).await;
    for node in ["arr1", "arr2"] {
        world.play(node).one_answers = true;
    }
    let canary = world.change("arr1", 40).await.unwrap().canary.unwrap();
    assert_eq!((canary.node.as_str(), canary.clients.starts_with("synthetic only")), ("arr2", true));
    assert_eq!((world.served(), world.worked_with("arr2")), (vec![40, 40], vec![40]));
    assert!(world.node("arr2").state.lock().await.trial.is_none(), "it is in force there, too");
    // One that does not do well costs the node with the clients nothing.
    world.play("arr2").fails_with = Some(Duration::from_secs(50));
    world.change("arr1", 50).await.unwrap_err();
    assert_eq!((world.worked_with("arr1"), world.worked_with("arr2")), (vec![40], vec![40, 50, 40]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_tries_for_one_that_dies_goes_back_by_itself_and_what_it_tried_is_nowhere() {
    let world = World::publishing(2, 2).await;
    let before = world.served()[0];
    let author = world.node("arr1");
    let text = author.show(None).await.map_err(|refused| told(&refused)).unwrap().text;
    let (generation, parent) = {
        let state = author.state.lock().await;
        let in_force = state.in_force().unwrap();
        let draft =
            Draft { text: with_timeout(&text, 40), secrets: in_force.secrets.clone(), kept: Vec::new() };
        let words = Words { comment: String::new(), restores: None };
        (state.make(&draft, draft::roster(&draft.text).unwrap(), words).unwrap(), in_force.id)
    };
    let question = Question::Try { generation: generation.encode(), seconds: 5 };
    let node = world.node("arr2");
    let answer =
        Reply::decode(&node.asked(Asker::Node("arr1".to_owned()), &question.encode()).await).unwrap();
    assert!(matches!(answer, Reply::Tried(_)), "{answer:?}");
    assert_eq!(world.served(), [before, 40]);
    // Its author says no more. The node's own clock ends it.
    let until = node.state.lock().await.trial.as_ref().map(|trial| (trial.parent, trial.until)).unwrap();
    assert_eq!(until.0, parent);
    node.end_trial(until.1).await;
    assert_eq!(world.served(), [before, before]);
    assert!(node.log().await.iter().all(|entry| entry.id != generation.id().to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_well_and_cannot_be_put_in_force_all_the_same_is_at_work_nowhere() {
    let world = World::publishing(2, 1).await;
    let before = world.served()[0];
    // Who tries it takes long enough for the other to find that it cannot work with it.
    for node in ["arr1", "arr2"] {
        world.play(node).one_answers = true;
    }
    world.play("arr1").objects_once_tried = Some(Duration::from_secs(40));
    let refused = world.change("arr1", 40).await.unwrap_err();
    assert_eq!((world.served(), world.worked_with("arr2")), (vec![before; 2], vec![40, before]), "{refused}");
    assert!(world.node("arr2").state.lock().await.trial.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_all_are_to_work_with_at_once_is_tried_nowhere() {
    let world = World::publishing(2, 2).await;
    world.play("arr1").fails_with = Some(Duration::from_secs(40));
    let shared = world.node("arr1");
    let text = shared.show(None).await.map_err(|refused| told(&refused)).unwrap().text;
    let path = world.folder.join("at-once.toml");
    fs::write(&path, with_timeout(&text, 40)).unwrap();
    let wanted = Configure::Apply {
        path,
        comment: String::new(),
        parent: None,
        dry_run: false,
        reread: false,
        confirm_within: None,
        canary: None,
    };
    assert_eq!(world.ask("arr1", wanted).await.unwrap().canary, None);
    assert_eq!(world.served(), [40, 40]);
}
