//! What befalls disks, clocks, keys and the network of nodes that share their configuration: nothing that was confirmed is lost, nothing is
//! half done, all nodes end with the same, and clients notice nothing. `cargo xtask soak kills` is the whole of what begins here.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use lb_user::clock::Time;
use lb_user::control::api::{EventRecord, Status};
use lb_user::peer;
use lb_user::peer::supervisor::{CallError, Peer, Reach, Spec, listen};
use lb_user::shared::generation::{Generation, Saying};
use lb_user::shared::keys::{NodeKeys, Seed};
use lb_user::shared::origin::Local;
use lb_user::shared::record::{Record, SignedRecord, Word};
use lb_user::shared::store::Store;
use rollcall_tests::lab::{PUBLIC_NAME, Plan};
use rollcall_tests::node::{Cluster, Node, PATIENCE, rollcall};
use rollcall_tests::shared::agreed;
use rollcall_tests::soak;
use rollcall_tests::traffic::{Browsers, Habit, Request};

use crate::{apply, at_work, log, sharing};

#[test]
fn agents_that_are_killed_while_they_change_something_lose_nothing_and_leave_nothing_half_done() {
    soak::kills::run(10, soak::kills::SEED).unwrap();
}

#[test]
fn a_node_whose_disk_is_full_says_so_serves_on_and_catches_up_when_there_is_room() {
    let mut cluster = Cluster::raise(&Plan::light(3)).unwrap();
    let state = cluster.nodes[2].state_folder();
    cluster.lab.disk(&state, 512 << 10).unwrap();
    cluster.share().unwrap();
    let browsers = load(&cluster);
    let filler = fill(&state);
    let before = at_work(&cluster.nodes[0]);
    // What it cannot keep it does not put in force.
    let refused = apply(&cluster.nodes[2], |text| with_limit(&text, 120)).unwrap_err();
    assert!(refused.contains(&*Store::folder(&state).to_string_lossy()), "{refused}");
    assert!(refused.contains("is the disk full"), "{refused}");
    assert_eq!(cluster.nodes.iter().map(at_work).collect::<Vec<_>>(), [&before[..]; 3]);
    // Others go on without it, and say so.
    let applied = apply(&cluster.nodes[0], |text| with_limit(&text, 121)).unwrap();
    assert_eq!(applied["unreached"], serde_json::json!(["arr3"]), "{applied}");
    cluster.converge().unwrap();
    assert_eq!(at_work(&cluster.nodes[2]), before, "it works with what its disk has");
    fs::remove_file(filler).unwrap();
    let now = agreed(&cluster.nodes.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(applied["generation"], now.as_str());
    // Its disk has it, too.
    assert!(cluster.node("arr3").stop().unwrap().success());
    let opened = Store::open(&state).unwrap();
    assert_eq!(opened.history.current().map(|head| head.id().to_string()), Some(now));
    all_was_served(browsers);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn what_is_damaged_on_a_disk_is_named_left_out_and_had_from_the_others() {
    let mut cluster = sharing(3);
    for limit in [120, 121, 122] {
        apply(&cluster.nodes[0], |text| with_limit(&text, limit)).unwrap();
    }
    let ids: Vec<String> =
        log(&cluster.nodes[0]).iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    let browsers = load(&cluster);
    assert!(cluster.node("arr2").stop().unwrap().success());
    let store = Store::folder(&cluster.nodes[1].state_folder());
    let newest = store.join(format!("{}.generation", ids[0]));
    let (one_before, its_record) = (store.join(format!("{}.generation", ids[1])), record_of(&store, &ids[1]));
    let sound: Vec<Vec<u8>> = [&newest, &its_record].iter().map(|path| fs::read(path).unwrap()).collect();
    flip_a_bit(&newest, sound[0].len() - 7);
    fs::write(&its_record, &sound[1][..sound[1].len() / 2]).unwrap();
    fs::write(store.join("notes.txt"), "whose is this?").unwrap();
    assert!(one_before.exists());
    // Alone, it works with the newest that is whole and was put in force.
    cluster.lab.split_off(&[&cluster.nodes[1].place.clone()]).unwrap();
    cluster.node("arr2").start().unwrap();
    cluster.node("arr2").wait_until("it answers", |_| true).unwrap();
    assert_eq!(at_work(&cluster.nodes[1]), ids[2]);
    for path in [&newest, &its_record, &store.join("notes.txt")] {
        let names = |event: &EventRecord| {
            event.kind == "configuration-damaged" && event.sentence().contains(&*path.to_string_lossy())
        };
        cluster.node("arr2").wait_for_event("which names the file", names).unwrap();
    }
    // The others have all of it.
    cluster.lab.rejoin(&[&cluster.nodes[1].place.clone()]).unwrap();
    assert_eq!(agreed(&cluster.nodes.iter().collect::<Vec<_>>()).unwrap(), ids[0]);
    // Not until nothing is on its way: a call that both parts answered as they met stays half open on one for a minute.
    cluster.converge().unwrap();
    let mended: Vec<Vec<u8>> = [&newest, &its_record].iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(mended == sound, "what came back is what was there");
    all_was_served(browsers);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn clocks_that_are_a_day_off_decide_nothing() {
    let mut cluster = sharing(3);
    for (name, off) in [("arr2", "+1d"), ("arr3", "-1d")] {
        assert!(cluster.node(name).stop().unwrap().success());
        start_with_clock(cluster.node(name), off);
    }
    cluster.settle().unwrap();
    let browsers = load(&cluster);
    for (number, limit) in [(1, 120), (2, 121), (0, 122), (1, 123), (2, 124)] {
        let applied = apply(&cluster.nodes[number], |text| with_limit(&text, limit)).unwrap();
        assert_eq!(applied["on"].as_array().map(Vec::len), Some(2), "{applied}");
        let all = cluster.nodes.iter().map(at_work).collect::<Vec<_>>();
        assert!(all.iter().all(|id| applied["generation"] == id.as_str()), "{applied}: {all:?}");
    }
    // Their clocks are off indeed, and the one that is behind had the last word.
    let newest = &log(&cluster.nodes[0])[..3];
    let authors: Vec<&str> = newest.iter().map(|entry| entry["author"].as_str().unwrap()).collect();
    assert_eq!(authors, ["arr3", "arr2", "arr1"]);
    let times: Vec<&str> = newest.iter().map(|entry| entry["time"].as_str().unwrap()).collect();
    assert!(times[0] < times[2] && times[2] < times[1], "{times:?}");
    cluster.settle().unwrap();
    all_was_served(browsers);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn what_was_written_to_a_disk_by_hand_is_refused_with_the_reason() {
    let mut cluster = sharing(3);
    let first = at_work(&cluster.nodes[0]);
    let second = apply(&cluster.nodes[0], |text| with_limit(&text, 120)).unwrap();
    let second = second["generation"].as_str().unwrap().to_owned();
    let browsers = load(&cluster);
    assert!(cluster.node("arr2").stop().unwrap().success());
    let store = Store::folder(&cluster.nodes[1].state_folder());
    let edited = store.join(format!("{second}.generation"));
    replace(&edited, b"head_fields = 120", b"head_fields = 199");
    let (forged, path) = forge(&cluster.nodes[1], &store);
    cluster.lab.split_off(&[&cluster.nodes[1].place.clone()]).unwrap();
    cluster.node("arr2").start().unwrap();
    cluster.node("arr2").wait_until("it answers", |_| true).unwrap();
    assert_eq!(at_work(&cluster.nodes[1]), first);
    for (path, why) in [(&edited, "digest"), (&path, "signature")] {
        let refused = |event: &EventRecord| {
            let said = event.sentence();
            event.kind == "configuration-damaged"
                && said.contains(&*path.to_string_lossy())
                && said.contains(why)
        };
        cluster.node("arr2").wait_for_event(&format!("which says {why} of {path:?}"), refused).unwrap();
    }
    cluster.lab.rejoin(&[&cluster.nodes[1].place.clone()]).unwrap();
    assert_eq!(agreed(&cluster.nodes.iter().collect::<Vec<_>>()).unwrap(), second);
    for node in &cluster.nodes {
        assert!(log(node).iter().all(|entry| entry["id"] != forged.as_str()), "{}", node.name());
    }
    // As above.
    cluster.converge().unwrap();
    all_was_served(browsers);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn a_node_with_another_key_than_is_listed_is_refused_and_harms_nobody() {
    let mut cluster = sharing(3);
    assert!(cluster.node("arr3").stop().unwrap().success());
    cluster.settle().unwrap();
    let browsers = load(&cluster);
    let key = cluster.nodes[2].own_folder().join("node.key");
    let own = fs::read_to_string(&key).unwrap();
    let another_s = fs::read_to_string(cluster.nodes[1].own_folder().join("node.key")).unwrap();
    let fresh = NodeKeys::new(Seed([7; 32]), Seed([8; 32])).text();
    // Nothing of the configuration is in reach of it.
    for (wrong, why) in [(&fresh, "cannot open what is sealed"), (&another_s, "lists other keys for arr3")] {
        write_key(&key, wrong);
        cluster.node("arr3").start().unwrap();
        assert_eq!(cluster.node("arr3").end().unwrap().code(), Some(2), "{}", cluster.nodes[2].log_tail());
        let said = cluster.nodes[2].log_tail();
        assert!(said.contains(why), "{said}");
    }
    // Who gets around that is not let in by the others, which say so.
    let refused = call_with(&cluster, Seed([8; 32]));
    assert!(matches!(refused, Reach::No(CallError::Unlisted { .. })), "{refused:?}");
    let said = fs::read_to_string(cluster.nodes[0].log()).unwrap();
    assert!(said.contains("its key is not listed"), "{}", cluster.nodes[0].log_tail());
    // They go on, and with its own key it is one of them again.
    apply(&cluster.nodes[0], |text| with_limit(&text, 120)).unwrap();
    write_key(&key, &own);
    cluster.node("arr3").start().unwrap();
    cluster.settle().unwrap();
    agreed(&cluster.nodes.iter().collect::<Vec<_>>()).unwrap();
    all_was_served(browsers);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn changes_on_both_sides_of_a_split_end_the_same_on_every_node_and_both_are_known() {
    let mut cluster = sharing(3);
    cluster.settle().unwrap();
    let alone = cluster.nodes[2].place.clone();
    // It starts in a part of its own, so that nobody waits for the answers of connections that were there before.
    assert!(cluster.node("arr3").stop().unwrap().success());
    cluster.lab.split_off(&[&alone]).unwrap();
    cluster.node("arr3").start().unwrap();
    cluster.node("arr3").wait_until("it answers", |_| true).unwrap();
    let change = |node: usize, limit| apply(&cluster.nodes[node], |text| with_limit(&text, limit)).unwrap();
    let (theirs, ours) = thread::scope(|scope| {
        let ours = scope.spawn(|| change(0, 120));
        (change(2, 121), ours.join().unwrap())
    });
    assert_eq!(ours["unreached"], serde_json::json!(["arr3"]));
    assert_eq!(theirs["unreached"], serde_json::json!(["arr1", "arr2"]));
    cluster.lab.rejoin(&[&alone]).unwrap();
    let now = agreed(&cluster.nodes.iter().collect::<Vec<_>>()).unwrap();
    let both = [&ours, &theirs].map(|applied| applied["generation"].as_str().unwrap().to_owned());
    // Siblings: the smaller name, on every node.
    assert_eq!(Some(&now), both.iter().min());
    for node in &cluster.nodes {
        let log = log(node);
        let standing =
            |id: &String| log.iter().find(|entry| entry["id"] == id.as_str()).map(|entry| &entry["standing"]);
        let lost = both.iter().max().unwrap();
        assert_eq!((standing(&now), standing(lost)), (Some(&"current".into()), Some(&"superseded".into())));
    }
    cluster.settle().unwrap();
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn servers_with_the_certificate_of_before_are_accepted_by_an_agent_that_was_started_since() {
    let mut cluster = sharing(2);
    let renewed = cluster.certificates.renewed(&cluster.lab.folder().join("renewed")).unwrap();
    let (certificate, key) = (renewed.certificate.to_string_lossy(), renewed.key.to_string_lossy());
    let set = ["certificate", "set", PUBLIC_NAME, &certificate, "--key", &key];
    cluster.nodes[0].control(&set).unwrap();
    // An operator imports it on the servers later, and meanwhile the power goes.
    cluster.settle().unwrap();
    for name in ["arr1", "arr2"] {
        cluster.power_off(name).unwrap();
        cluster.power_on(name).unwrap();
    }
    cluster.start_agents().unwrap();
    for name in ["arr1", "arr2"] {
        let all = |status: &Status| {
            status
                .proxy
                .as_ref()
                .is_some_and(|proxy| proxy.ready && proxy.servers.iter().all(|server| server.healthy))
        };
        cluster.node(name).wait_until("its servers are healthy", all).unwrap();
    }
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// A few clients, each with a connection that lasts for some requests.
fn load(cluster: &Cluster) -> Browsers {
    Browsers::start(&cluster.https().unwrap(), 3, Habit::default())
}

/// Waits until there was something to serve, and looks whether all of it was.
fn all_was_served(browsers: Browsers) {
    let deadline = Time::now() + PATIENCE;
    while browsers.done() < 100 && Time::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let requests = browsers.finish().unwrap();
    let failed: Vec<&Request> = requests.iter().filter(|request| request.error.is_some()).collect();
    assert!(failed.is_empty(), "{} of {} requests: {failed:#?}", failed.len(), requests.len());
    assert!(requests.len() >= 100, "only {} requests", requests.len());
}

/// A change that no client notices.
fn with_limit(text: &str, fields: usize) -> String {
    let line = format!("head_fields = {fields}");
    match text.lines().find(|line| line.starts_with("head_fields = ")) {
        Some(before) => text.replace(before, &line),
        None => text.replace("[exchange]\n", &format!("[limits]\n{line}\n\n[exchange]\n")),
    }
}

/// Fills a disk to its last byte; the file that does.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    path
}

fn flip_a_bit(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x04;
    fs::write(path, bytes).unwrap();
}

fn replace(path: &Path, from: &[u8], to: &[u8]) {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    fs::write(path, [&bytes[..at], to, &bytes[at + from.len()..]].concat()).unwrap();
}

/// The file of the record that put a generation in force.
fn record_of(store: &Path, generation: &str) -> PathBuf {
    let files = fs::read_dir(store).unwrap().map(|file| file.unwrap().path());
    let mut records = files.filter(|path| path.extension().is_some_and(|kind| kind == "record"));
    records
        .find(|path| {
            let record = SignedRecord::decode(&fs::read(path).unwrap()).unwrap();
            record.record().generation.to_string() == generation
        })
        .unwrap()
}

/// Puts a generation into a node's store, with the word that it is in force, that looks right but for who signed it.
fn forge(node: &Node, store: &Path) -> (String, PathBuf) {
    let local = Local::open(&node.own_folder().join("node.toml")).unwrap();
    let current = local.history.current_whole().unwrap();
    let header = current.head.header();
    let saying = Saying {
        author: header.author.clone(),
        time: header.time,
        comment: String::new(),
        restores: None,
        roster: header.roster.clone(),
    };
    let keys = NodeKeys::new(Seed([1; 32]), Seed([2; 32]));
    let forged = Generation::new(Some(&current.head), saying, current.content, &keys);
    let (generation, by) = (forged.id(), header.author.clone());
    let record = Record { generation, word: Word::InForce, by, time: header.time, why: String::new() };
    let record = SignedRecord::new(record, &keys);
    let path = store.join(format!("{generation}.generation"));
    fs::write(&path, forged.encode()).unwrap();
    fs::write(store.join(format!("{}.record", record.id())), record.encode()).unwrap();
    (generation.to_string(), path)
}

fn write_key(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// How a node's wall clock is: its own libc tells it another day, and the monotonic clock is as it was.
fn start_with_clock(node: &mut Node, off: &str) {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let library = libraries.find(|path| path.exists()).expect("cargo xtask setup installs faketime");
    let library = library.to_string_lossy();
    let environment = [
        ("LD_PRELOAD", &*library),
        ("FAKETIME", off),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DISABLE_SHM", "1"),
    ];
    node.start_with(&environment).unwrap();
}

/// What comes of it when somebody on arr3's machine talks to arr1 with that key.
fn call_with(cluster: &Cluster, seed: Seed) -> Reach {
    let local = Local::open(&cluster.nodes[0].own_folder().join("node.toml")).unwrap();
    let key = local.history.current().unwrap().header().roster["arr1"].transport;
    let node = peer::Node { name: "arr1".to_owned(), address: cluster.nodes[0].place.address, key };
    let call = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let spec = Spec {
                program: rollcall().unwrap(),
                user: "64751".to_owned(),
                me: "arr3".to_owned(),
                seed,
                listener: Some(listen(cluster.nodes[2].place.address).unwrap()),
                nodes: vec![node],
            };
            let peer = Peer::start(spec).unwrap();
            let mut status = peer.status();
            let refused = status.wait_for(|status| {
                let unlisted = |reach: &Reach| matches!(reach, Reach::No(CallError::Unlisted { .. }));
                status.nodes.get("arr1").is_some_and(unlisted)
            });
            let reach = tokio::time::timeout(PATIENCE, refused).await.unwrap().unwrap().nodes["arr1"].clone();
            // Nor do the others take it for arr3 where they ask it.
            let deadline = Time::now() + PATIENCE;
            let noted =
                |node: &Node| node.events().unwrap().iter().any(|event| event.kind == "node-other-key");
            while !cluster.nodes[..2].iter().all(noted) {
                assert!(Time::now() < deadline, "nobody tells of the other key");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            peer.stop().await;
            reach
        })
    };
    cluster.nodes[2].place.namespace.enter(call).unwrap()
}
