//! Nodes that share a configuration, in memory: real stores on disk, the network and what serves are played.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex as StdMutex, OnceLock, RwLock};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::*;
use crate::agent::events::Destinations;
use crate::config::model::Files;
use crate::etcd::request::{Reply as StoreReply, Request};
use crate::proxy::metrics::Tally;
use crate::shared::founding::{Founding, NewNode, found};
use crate::shared::keys::{NodeKeys, Seed};
use crate::shared::message::{Application, Question, Reply};
use crate::shared::origin::Local;
use crate::shared::store::Store;
use crate::shared::token::{Newcomer, Token};

mod canary;
mod certificate;
mod missed;

type Shared = Arc<SharedConfig<Played, Wire>>;

/// What serves: it remembers what it works with, and refuses what it is told to.
#[derive(Clone, Default)]
struct Played(Arc<StdMutex<Serving>>);

#[derive(Default)]
struct Serving {
    drain_timeout: Option<Duration>,
    objects_to: Option<Duration>,
    /// It finds this sound, and then cannot take it up.
    cannot_adopt: Option<Duration>,
    /// It objects to this from the second look on.
    objects_once_tried: Option<Duration>,
    /// The cluster has gone on without it.
    dismissed: bool,
    /// What it publishes does not do well with this.
    fails_with: Option<Duration>,
    /// Its clients do not fare well with this.
    fares_ill_with: Option<Duration>,
    /// It has clients; `None`: it publishes nothing, and nothing is tried.
    clients: Option<bool>,
    /// One node answers for all.
    one_answers: bool,
    /// What its clients got.
    tally: Tally,
    /// All that it has worked with.
    worked_with: Vec<u64>,
}

impl Applier for Played {
    type Examined = Duration;

    async fn examine(&self, config: Config) -> Result<(Duration, Outlook), Refusal> {
        let wanted = config.cluster.drain_timeout;
        if self.0.lock().unwrap().objects_to == Some(wanted) {
            return Err(Refusal::Unread);
        }
        assert!(matches!(config.files, Files::Held(_)), "nothing is read from a disk");
        let mut serving = self.0.lock().unwrap();
        if serving.objects_once_tried == Some(wanted) {
            serving.objects_to = Some(wanted);
        }
        let changes = serving.clients.is_some() && serving.drain_timeout != Some(wanted);
        let changed = changes.then(|| "drain timeout".to_owned()).into_iter().collect();
        Ok((wanted, Outlook { changed, ..Outlook::default() }))
    }

    async fn adopt(&self, examined: Duration) -> Result<(), Refusal> {
        let mut serving = self.0.lock().unwrap();
        if serving.cannot_adopt == Some(examined) {
            return Err(Refusal::Silent);
        }
        serving.drain_timeout = Some(examined);
        serving.worked_with.push(examined.as_secs());
        Ok(())
    }

    fn probes(&self, _examined: &Duration) -> Vec<Probe> {
        vec![Probe::Server { farm: "exchange".to_owned(), server: "sbex1".to_owned() }]
    }

    async fn ask(&self, probes: &[Probe]) -> Vec<Outcome> {
        let serving = self.0.lock().unwrap();
        let well = serving.fails_with.is_none() || serving.fails_with != serving.drain_timeout;
        probes.iter().map(|_| if well { Ok(()) } else { Err("answered 403".to_owned()) }).collect()
    }

    async fn work(&self) -> Option<Work> {
        let mut serving = self.0.lock().unwrap();
        let answers = serving.clients?;
        let ill = serving.fares_ill_with.is_some() && serving.fares_ill_with == serving.drain_timeout;
        serving.tally.ended += 1000;
        serving.tally.denied += if ill { 500 } else { 5 };
        Some(Work { answers, tally: serving.tally })
    }

    fn one_answers(&self) -> bool {
        self.0.lock().unwrap().one_answers
    }

    async fn dismiss(&self) {
        self.0.lock().unwrap().dismissed = true;
    }
}

/// The network: who is there, and who does not hear whom.
#[derive(Clone, Default)]
struct Net {
    nodes: Arc<RwLock<BTreeMap<String, Shared>>>,
    cut: Arc<StdMutex<BTreeSet<(String, String)>>>,
    store: Arc<StdMutex<external::Kept>>,
}

#[derive(Clone)]
struct Wire {
    me: String,
    net: Net,
}

impl Network for Wire {
    fn call(
        &self,
        node: &str,
        question: Vec<u8>,
        _within: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, String>> + Send {
        let pair = (self.me.clone(), node.to_owned());
        let cut = self.net.cut.lock().unwrap().contains(&pair);
        let to = self.net.nodes.read().unwrap().get(node).cloned().filter(|_| !cut);
        let answer: BoxFuture<'static, Result<Vec<u8>, String>> = Box::pin(async move {
            let to = to.ok_or("not there")?;
            Ok(to.asked(Asker::Node(pair.0), &question).await)
        });
        answer
    }

    fn admit(&self, _strangers: u8) {}

    async fn ask_store(&self, request: Request, _within: Duration) -> Result<StoreReply, String> {
        self.net.store.lock().unwrap().answer(request)
    }

    fn follow_store(&self, _settings: Option<Settings>) {}

    fn follow(&self, _nodes: Vec<crate::peer::Node>) {}
}

/// A cluster in a folder that goes with it.
struct World {
    folder: PathBuf,
    net: Net,
    served: BTreeMap<String, Played>,
}

impl World {
    /// Of one node, arr1.
    async fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("rollcall-shared-{}-{number}", std::process::id()));
        let mut world = Self { folder, net: Net::default(), served: BTreeMap::new() };
        let keys = world.host("arr1", 1);
        let node = NewNode { name: "arr1".to_owned(), address: Ipv4Addr::new(192, 168, 50, 1), priority: 1 };
        let founding =
            Founding { ip: "192.168.50.8/24".to_owned(), mode: "unicast".to_owned(), node, exchange: None };
        let text = founding.text(&keys.public());
        // Another in each world.
        let secret = [u8::try_from(number % 200).unwrap(); 32];
        let (first, record) = found(text, "arr1", &secret, &keys, 1).unwrap();
        Store::create(&world.state_dir("arr1"), &first, &[record]).unwrap();
        world.start("arr1");
        world
    }

    /// Of so many nodes, which joined one after the other.
    async fn of(nodes: u8) -> Self {
        let mut world = Self::new().await;
        for number in 2..=nodes {
            let token = world.token("arr1").await;
            world.join(&format!("arr{number}"), number, &token, "arr1").await.unwrap();
        }
        world
    }

    /// A host with keys and a file of its own, and nothing else.
    fn host(&self, name: &str, number: u8) -> NodeKeys {
        let dir = self.folder.join(name);
        fs::create_dir_all(&dir).unwrap();
        let keys = NodeKeys::new(Seed([number; 32]), Seed([number + 100; 32]));
        let key_file = dir.join("node.key");
        fs::write(&key_file, keys.text()).unwrap();
        fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let text = format!(
            "name = \"{name}\"\ninterface = \"eth0\"\nkey_file = {key_file:?}\nstate_dir = {:?}\nrun_dir = {dir:?}\n",
            self.state_dir(name)
        );
        fs::write(self.node_file(name), text).unwrap();
        keys
    }

    fn state_dir(&self, name: &str) -> PathBuf {
        self.folder.join(name).join("state")
    }

    fn node_file(&self, name: &str) -> PathBuf {
        self.folder.join(name).join("node.toml")
    }

    /// Starts a node, as its host does after it was off.
    fn start(&mut self, name: &str) -> Shared {
        let local = Local::open(&self.node_file(name)).unwrap();
        let applied = local.in_force().unwrap();
        let played = self.served.entry(name.to_owned()).or_default().clone();
        played.0.lock().unwrap().drain_timeout = Some(applied.config.cluster.drain_timeout);
        let wire = Wire { me: name.to_owned(), net: self.net.clone() };
        let shared = Arc::new(SharedConfig::new(local, &applied, played, wire, events()));
        self.net.nodes.write().unwrap().insert(name.to_owned(), Arc::clone(&shared));
        shared
    }

    fn stop(&mut self, name: &str) {
        self.net.nodes.write().unwrap().remove(name);
    }

    fn node(&self, name: &str) -> Shared {
        Arc::clone(&self.net.nodes.read().unwrap()[name])
    }

    /// Between these two groups nothing gets through.
    fn split(&self, one: &[&str], other: &[&str]) {
        let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b)));
        let both = pairs.flat_map(|(a, b)| [(a.to_owned(), b.to_owned()), (b.to_owned(), a.to_owned())]);
        self.net.cut.lock().unwrap().extend(both);
    }

    async fn heal(&self) {
        self.net.cut.lock().unwrap().clear();
        self.sync().await;
    }

    /// Every node asks every other what it has, as it does now and then.
    async fn sync(&self) {
        let nodes: Vec<(String, Shared)> = self
            .net
            .nodes
            .read()
            .unwrap()
            .iter()
            .map(|(name, node)| (name.clone(), Arc::clone(node)))
            .collect();
        for (name, node) in &nodes {
            for (other, _) in nodes.iter().filter(|(other, _)| other != name) {
                node.sync(other).await.unwrap();
            }
        }
    }

    async fn token(&self, node: &str) -> Token {
        let answer = self.node(node).answer(Configure::Token { seconds: 60 }).await;
        let Answer::Token { token, .. } = answer else { panic!("{answer:?}") };
        token.parse().unwrap()
    }

    async fn join(&mut self, name: &str, number: u8, token: &Token, by: &str) -> Result<(), String> {
        let keys = self.host(name, number);
        let newcomer = Newcomer {
            name: name.to_owned(),
            address: Ipv4Addr::new(192, 168, 50, number),
            priority: None,
            keys: keys.public(),
        };
        let proof = token.prove(&newcomer);
        let question = Question::Join(Box::new(Application { newcomer, proof }));
        let from = Asker::Stranger(keys.public().transport);
        let reply = Reply::decode(&self.node(by).asked(from, &question.encode()).await).unwrap();
        if let Reply::Refused(why) = reply {
            return Err(why);
        }
        let Reply::Welcome { generation, record } = reply else { panic!("{reply:?}") };
        let generation = Generation::decode(&generation).unwrap();
        let record = crate::shared::record::SignedRecord::decode(&record).unwrap();
        Store::create(&self.state_dir(name), &generation, &[record]).unwrap();
        self.start(name);
        self.sync().await;
        Ok(())
    }

    /// Has a node set the drain timeout to so many seconds.
    async fn change(&self, node: &str, seconds: u32) -> Result<Applied, String> {
        let shared = self.node(node);
        let text = shared.show(None).await.map_err(|refused| told(&refused))?.text;
        let path = self.folder.join(format!("{node}-{seconds}.toml"));
        fs::write(&path, with_timeout(&text, seconds)).unwrap();
        self.apply(node, &path, None).await
    }

    async fn apply(&self, node: &str, path: &Path, parent: Option<String>) -> Result<Applied, String> {
        let wanted = Configure::Apply {
            path: path.to_owned(),
            comment: "a change".to_owned(),
            parent,
            dry_run: false,
            reread: false,
            confirm_within: None,
            canary: Some(1),
        };
        self.ask(node, wanted).await
    }

    /// Has a node alone try such a drain timeout, for a minute.
    async fn try_out(&self, node: &str, seconds: u32) -> Result<Applied, String> {
        let shared = self.node(node);
        let text = shared.show(None).await.map_err(|refused| told(&refused))?.text;
        let path = self.folder.join(format!("{node}-{seconds}-tried.toml"));
        fs::write(&path, with_timeout(&text, seconds)).unwrap();
        let (comment, confirm_within) = ("to be seen".to_owned(), Some(60));
        let wanted = Configure::Apply {
            path,
            comment,
            parent: None,
            dry_run: false,
            reread: false,
            confirm_within,
            canary: None,
        };
        self.ask(node, wanted).await
    }

    async fn ask(&self, node: &str, wanted: Configure) -> Result<Applied, String> {
        let answer = self.node(node).answer(wanted).await;
        if let Answer::Error { text } | Answer::Invalid { text } = answer {
            return Err(text);
        }
        let Answer::Applied(applied) = answer else { panic!("{answer:?}") };
        Ok(*applied)
    }

    /// What each node that runs works with, in seconds.
    fn served(&self) -> Vec<u64> {
        let running = self.net.nodes.read().unwrap();
        running
            .keys()
            .map(|name| self.served[name].0.lock().unwrap().drain_timeout.unwrap().as_secs())
            .collect()
    }

    async fn currents(&self) -> BTreeSet<GenerationId> {
        let nodes: Vec<Shared> = self.net.nodes.read().unwrap().values().cloned().collect();
        let mut all = BTreeSet::new();
        for node in nodes {
            all.insert(node.state.lock().await.current());
        }
        all
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn with_timeout(text: &str, seconds: u32) -> String {
    let kept: String = text
        .lines()
        .filter(|line| !line.starts_with("drain_timeout"))
        .flat_map(|line| [line, "\n"])
        .collect();
    kept.replacen("[cluster]\n", &format!("[cluster]\ndrain_timeout = \"{seconds}s\"\n"), 1)
}

/// One log for all tests: what is in it is not looked at here.
fn events() -> Arc<EventLog> {
    static EVENTS: OnceLock<Arc<EventLog>> = OnceLock::new();
    let open = || {
        let folder = std::env::temp_dir().join(format!("rollcall-shared-events-{}", std::process::id()));
        EventLog::open("arr1", Destinations::new(folder, false, None)).unwrap()
    };
    Arc::clone(EVENTS.get_or_init(open))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_on_any_node_is_at_work_on_all_when_its_answer_comes() {
    let world = World::of(3).await;
    for (node, seconds) in [("arr1", 11), ("arr2", 12), ("arr3", 13)] {
        let applied = world.change(node, seconds).await.unwrap();
        assert_eq!(applied.on.len(), 2, "{applied:?}");
        assert_eq!(applied.unreached, [] as [String; 0]);
        assert_eq!(world.served(), [u64::from(seconds); 3]);
    }
    assert_eq!(world.currents().await.len(), 1);
    assert_eq!(world.node("arr2").log().await.len(), 5, "since it came in");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_objects_to_is_nobodys() {
    let world = World::of(3).await;
    world.served["arr3"].0.lock().unwrap().objects_to = Some(Duration::from_secs(20));
    let refused = world.change("arr1", 20).await.unwrap_err();
    assert!(refused.contains("arr3: "), "{refused}");
    assert_eq!(world.served(), [300; 3]);
    world.change("arr1", 21).await.unwrap();
    assert_eq!(world.served(), [21; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_off_during_ten_changes_catches_up_and_keeps_it() {
    let mut world = World::of(3).await;
    world.stop("arr2");
    for seconds in 1..=10 {
        let applied = world.change(if seconds % 2 == 0 { "arr1" } else { "arr3" }, seconds).await.unwrap();
        assert_eq!(applied.unreached, ["arr2"]);
    }
    world.start("arr2");
    assert_eq!(world.served(), [10, 300, 10]);
    world.sync().await;
    assert_eq!(world.served(), [10; 3]);
    // And after a power cut of all at once.
    for node in ["arr1", "arr2", "arr3"] {
        world.stop(node);
    }
    for node in ["arr1", "arr2", "arr3"] {
        world.start(node);
    }
    assert_eq!(world.served(), [10; 3]);
    assert_eq!(world.currents().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_a_partition_end_the_same_on_every_node_and_both_are_in_the_log() {
    let world = World::of(3).await;
    world.split(&["arr1"], &["arr2", "arr3"]);
    world.change("arr1", 50).await.unwrap();
    world.change("arr2", 60).await.unwrap();
    world.change("arr3", 61).await.unwrap();
    assert_eq!(world.served(), [50, 61, 61]);
    world.heal().await;
    assert_eq!(world.served(), [61; 3], "the longer line");
    for node in ["arr1", "arr2", "arr3"] {
        let log = world.node(node).log().await;
        assert_eq!(log.iter().filter(|entry| entry.standing == "superseded").count(), log.len() - 1);
        assert_eq!(
            log.iter().filter(|entry| entry.height == log[0].height - 1).count(),
            2,
            "the sibling is kept"
        );
    }
    // And on goes the life.
    world.change("arr1", 70).await.unwrap();
    assert_eq!(world.served(), [70; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_made_from_an_older_generation_is_refused_until_it_says_otherwise() {
    let world = World::of(2).await;
    let shown = world.node("arr1").show(None).await.unwrap();
    let path = world.folder.join("old.toml");
    let text = format!("#: generation {}\n#: more of it\n{}", shown.entry.id, with_timeout(&shown.text, 30));
    fs::write(&path, text).unwrap();
    world.change("arr2", 31).await.unwrap();
    let refused = world.apply("arr1", &path, None).await.unwrap_err();
    assert!(
        refused.contains("is in force since") && refused.contains("+drain_timeout = \"31s\""),
        "{refused}"
    );
    assert_eq!(world.served(), [31; 2]);
    let now = world.node("arr1").show(None).await.unwrap().entry.id;
    world.apply("arr1", &path, Some(now)).await.unwrap();
    assert_eq!(world.served(), [30; 2]);
    assert!(
        !world.node("arr2").show(None).await.unwrap().text.contains("#:"),
        "what was printed is not applied"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_is_a_new_generation_with_the_old_content_and_the_nodes_of_now() {
    let mut world = World::of(2).await;
    world.change("arr1", 40).await.unwrap();
    let old = world.node("arr1").show(None).await.unwrap().entry;
    world.change("arr1", 41).await.unwrap();
    let token = world.token("arr1").await;
    world.join("arr3", 3, &token, "arr1").await.unwrap();
    let wanted = Configure::RollBack { generation: old.id[..10].to_owned(), comment: String::new() };
    let Answer::Applied(applied) = world.node("arr2").answer(wanted).await else { panic!() };
    assert_eq!(world.served(), [40; 3]);
    let now = world.node("arr3").show(None).await.unwrap();
    assert_eq!((now.entry.id, now.entry.restores.as_deref()), (applied.generation, Some(old.id.as_str())));
    assert!(now.entry.height > old.height && now.text.contains("arr3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_one_token_one_comes_in_and_each_refusal_says_why() {
    let mut world = World::of(2).await;
    let token = world.token("arr1").await;
    let at_another = world.join("arr3", 3, &token, "arr2").await.unwrap_err();
    assert!(at_another.contains("this node did not issue that token"), "{at_another}");
    let name = world.join("arr2", 9, &token, "arr1").await.unwrap_err();
    assert!(name.contains("a node is called arr2 already"), "{name}");
    let address = world.join("arr9", 1, &token, "arr1").await.unwrap_err();
    assert!(address.contains("arr1 has the address 192.168.50.1 already"), "{address}");
    world.stop("arr1");
    world.start("arr1");
    world.join("arr3", 3, &token, "arr1").await.unwrap();
    let second = world.join("arr4", 4, &token, "arr1").await.unwrap_err();
    assert!(second.contains("or it was used"), "{second}");
    let other = World::new().await;
    let elsewhere = world.join("arr4", 4, &other.token("arr1").await, "arr1").await.unwrap_err();
    assert!(elsewhere.contains("that token is another cluster's"), "{elsewhere}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_change_at_once_do_not_both_have_their_way() {
    let world = World::of(2).await;
    for seconds in (80..120).step_by(2) {
        let (one, other) = tokio::join!(world.change("arr1", seconds), world.change("arr2", seconds + 1));
        assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
        // Siblings come of a split network alone: who was told that its change is in force was told the truth.
        let log = world.node("arr1").log().await;
        let in_force = log.iter().filter(|entry| entry.standing != "stored" && entry.standing != "failed");
        let heights: Vec<u64> = in_force.map(|entry| entry.height).collect();
        let distinct: BTreeSet<u64> = heights.iter().copied().collect();
        assert_eq!(heights.len(), distinct.len(), "{one:?} {other:?}");
        assert_eq!(world.currents().await.len(), 1, "{one:?} {other:?}");
    }
    world.change("arr2", 200).await.unwrap();
    assert_eq!(world.served(), [200; 2]);
    world.sync().await;
    assert_eq!(world.currents().await.len(), 1);
    let served = world.served();
    assert_eq!(served[0], served[1]);
}

/// The time until which something is to be confirmed on a node, is over.
async fn let_lapse(node: &Shared) {
    let until = node.state.lock().await.trial.as_ref().map(|trial| trial.until);
    node.end_trial(until.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_trial_is_at_work_on_one_node_and_on_all_once_it_is_confirmed() {
    let world = World::of(3).await;
    let tried = world.try_out("arr2", 44).await.unwrap();
    assert_eq!((tried.confirm_within, tried.on.len()), (Some(60), 2), "{tried:?}");
    assert_eq!(world.served(), [300, 44, 300]);
    let log = world.node("arr2").log().await;
    assert_eq!((log[0].standing.as_str(), log[0].at_work, log[1].at_work), ("candidate", true, false));
    assert!(world.node("arr2").told().borrow().confirm_by.is_some());
    // It follows what is in force, which is what it knows already.
    world.sync().await;
    assert_eq!(world.served(), [300, 44, 300]);
    let second = world.change("arr2", 45).await.unwrap_err();
    assert!(second.contains("is on trial") && second.contains("config confirm"), "{second}");
    let confirmed = world.ask("arr2", Configure::Confirm).await.unwrap();
    assert_eq!((confirmed.generation, confirmed.on.len()), (tried.generation, 2));
    assert_eq!(world.served(), [44; 3]);
    assert_eq!(world.currents().await.len(), 1);
    assert_eq!(world.node("arr2").told().borrow().confirm_by, None);
    let again = world.ask("arr2", Configure::Confirm).await.unwrap_err();
    assert!(again.contains("nothing is on trial"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_confirms_is_gone_and_was_nowhere_else() {
    let mut world = World::of(2).await;
    world.try_out("arr1", 46).await.unwrap();
    let_lapse(&world.node("arr1")).await;
    assert_eq!(world.served(), [300; 2]);
    assert!(world.ask("arr1", Configure::Confirm).await.is_err());
    // And with the agent that tried it.
    world.try_out("arr1", 47).await.unwrap();
    assert_eq!(world.served(), [47, 300]);
    world.stop("arr1");
    world.start("arr1");
    assert_eq!(world.served(), [300; 2]);
    assert!(world.node("arr1").log().await.iter().all(|entry| entry.standing != "candidate"));
    world.change("arr1", 48).await.unwrap();
    assert_eq!(world.served(), [48; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_ends_by_itself_in_time() {
    let world = World::of(1).await;
    let node = world.node("arr1");
    let minding = Arc::clone(&node);
    let minds = tokio::spawn(async move { minding.mind_trials().await });
    let text = node.show(None).await.unwrap().text;
    let path = world.folder.join("short.toml");
    fs::write(&path, with_timeout(&text, 49)).unwrap();
    let how = How::Try(Duration::from_millis(30));
    let wanted = Wanted { path, comment: String::new(), parent: None, how, reread: false };
    node.apply(wanted).await.unwrap();
    let mut told = node.told();
    told.wait_for(|told| told.confirm_by.is_none()).await.unwrap();
    assert_eq!(world.served(), [300]);
    minds.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_up_when_it_is_confirmed_is_failed_and_at_work_nowhere() {
    let world = World::of(2).await;
    world.try_out("arr1", 51).await.unwrap();
    world.served["arr1"].0.lock().unwrap().cannot_adopt = Some(Duration::from_secs(51));
    world.ask("arr1", Configure::Confirm).await.unwrap_err();
    assert_eq!(world.served(), [300; 2]);
    let again = world.ask("arr1", Configure::Confirm).await.unwrap_err();
    assert!(again.contains("nothing is on trial"), "{again}");
    let log = world.node("arr1").log().await;
    assert_eq!((log[0].standing.as_str(), log[1].standing.as_str()), ("failed", "current"));
    assert!(log[1].at_work);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_nodes_change_ends_a_trial() {
    let world = World::of(2).await;
    world.try_out("arr1", 51).await.unwrap();
    world.change("arr2", 52).await.unwrap();
    assert_eq!(world.served(), [52; 2]);
    let late = world.ask("arr1", Configure::Confirm).await.unwrap_err();
    assert!(late.contains("nothing is on trial"), "{late}");
    assert_eq!(world.currents().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_work_with_what_is_in_force_says_so_until_it_can() {
    let mut world = World::of(2).await;
    world.stop("arr2");
    world.change("arr1", 53).await.unwrap();
    world.served["arr2"].0.lock().unwrap().objects_to = Some(Duration::from_secs(53));
    let node = world.start("arr2");
    node.sync("arr1").await.unwrap();
    assert_eq!(world.served(), [53, 300]);
    let objection = node.told().borrow().objection.clone();
    assert!(objection.as_ref().is_some_and(|why| why.contains("cannot work with it")), "{objection:?}");
    world.change("arr1", 54).await.unwrap();
    assert_eq!(world.served(), [54; 2]);
    assert_eq!(node.told().borrow().objection, None);
}

mod external;
mod removal;
