//! Upgrades in place, on a real kernel: another program goes on in the agent's process while new connections come at 2,000 a
//! second and others stay open, and nobody outside can tell. And what is refused changes nothing.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lb_user::clock::Time;
use lb_user::control::api::Status;
use lb_user::dataplane::OBJECT;
use rollcall_tests::caller::{Call, Caller, Callers};
use rollcall_tests::lab::{CLUSTER_IP, Plan};
use rollcall_tests::node::{Cluster, Held, Node, table_of};
use rollcall_tests::report::line;
use rollcall_tests::responder::{PORT, Responder};
use rollcall_tests::scenario::{Load, Scenario};
use rollcall_tests::sys::signal;
use rollcall_tests::traffic::{Browsers, Habit};
use rustix::process::Signal;

#[test]
fn two_agents_are_upgraded_one_after_the_other_and_nobody_can_tell() {
    upgrade_all(2);
}

#[test]
fn three_agents_are_upgraded_one_after_the_other_and_nobody_can_tell() {
    upgrade_all(3);
}

fn upgrade_all(nodes: u8) {
    let cluster = Cluster::start(nodes).unwrap();
    let mut scenario = Scenario::on(cluster, Load::LIGHT).unwrap();
    let names: Vec<_> = scenario.cluster.nodes.iter().map(|node| node.name().to_owned()).collect();
    let (begin, held) = (Time::now(), scenario.cluster.nodes[0].holds().unwrap());
    for name in &names {
        let before = statuses(&scenario.cluster);
        let copy = copy_of_the_program(scenario.cluster.node(name));
        let said = scenario.cluster.node(name).control(&["upgrade", "--binary", &copy]).unwrap();
        line(format!("{name}: {}", said.trim()));
        for (before, after) in before.iter().zip(statuses(&scenario.cluster)) {
            assert_unmoved(before, &after);
            let upgrade = after.upgrade.as_ref().map(|upgrade| (upgrade.count, upgrade.failed.clone()));
            if before.node == *name {
                assert_eq!(upgrade, Some((1, None)), "{name}");
                assert_runs(scenario.cluster.node(name), &copy);
            }
        }
    }
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("upgraded in place", begin, &held);
    outcome.assert_sound();
    for name in &names {
        outcome.assert_unbroken(name);
    }
    let failed = outcome.attempts.iter().filter(|attempt| attempt.answered.is_none()).count();
    assert_eq!(failed, 0, "of {} attempts", outcome.attempts.len());
}

/// Another program also brings another worker, beside which the old one finishes what it has.
#[test]
fn another_program_has_its_own_worker_and_nobody_can_tell() {
    let mut scenario = Scenario::on(Cluster::start(2).unwrap(), Load::LIGHT).unwrap();
    let browsers = Browsers::start(&scenario.cluster.https().unwrap(), 6, Habit::default());
    for name in ["arr1", "arr2"] {
        let node = scenario.cluster.node(name);
        let before = node.status().unwrap();
        let worker = before.proxy.as_ref().unwrap().pid;
        let other = other_program(node);
        node.control(&["upgrade", "--binary", &other]).unwrap();
        node.wait_until("its own worker serves", |status| {
            status.proxy.as_ref().is_some_and(|proxy| proxy.ready && proxy.pid != worker)
        })
        .unwrap();
        let after = node.status().unwrap();
        assert_eq!(after.upgrade.unwrap().failed, None, "{name}");
        assert_eq!((before.pid, before.epoch), (after.pid, after.epoch), "{name}");
        assert!(before.tables == after.tables, "{name}: buckets moved");
        assert_eq!(after.proxy.unwrap().restarts, 0, "{name}");
        assert_runs(node, &other);
    }
    let requests = browsers.finish().unwrap();
    let failed: Vec<_> = requests.iter().filter_map(|request| request.error.as_ref()).collect();
    assert!(failed.is_empty() && requests.len() > 20, "of {} requests: {failed:?}", requests.len());
    let outcome = scenario.finish(&[]).unwrap();
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
    let unanswered = outcome.attempts.iter().filter(|attempt| attempt.answered.is_none()).count();
    assert_eq!(unanswered, 0, "of {} attempts", outcome.attempts.len());
}

#[test]
fn an_upgraded_agent_is_an_agent_like_any_other() {
    let mut cluster = Cluster::start(2).unwrap();
    for count in 1..=3 {
        cluster.node("arr1").control(&["upgrade"]).unwrap();
        let status = cluster.node("arr1").status().unwrap();
        assert_eq!(status.upgrade.map(|upgrade| (upgrade.count, upgrade.failed)), Some((count, None)));
    }
    let node = cluster.node("arr1");
    let open = fs::read_dir(format!("/proc/{}/fd", node.status().unwrap().pid)).unwrap().flatten();
    let open: Vec<_> = open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    let states = open.iter().filter(|file| file.to_string_lossy().contains("rollcall-state"));
    assert_eq!(states.count(), 0, "{open:?}");
    node.kill_proxy().unwrap();
    node.wait_until("its proxy is started again", |status| {
        status.proxy.as_ref().is_some_and(|proxy| proxy.ready && proxy.restarts > 0)
    })
    .unwrap();
    cluster.converge().unwrap();
    let node = cluster.node("arr1");
    let ended = node.stop().unwrap();
    assert!(ended.success(), "the agent ended with {ended}\n{}", node.log_tail());
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// Whoever comes second is told to wait: an upgrade would take the proxy's answer from the program that asked.
#[test]
fn an_upgrade_and_a_reload_at_once_cost_the_proxys_worker_nothing() {
    let cluster = Cluster::start(2).unwrap();
    let node = &cluster.nodes[0];
    let worker = || node.status().unwrap().proxy.map(|proxy| (proxy.pid, proxy.restarts)).unwrap();
    let (before, mut reloaded) = (worker(), 0);
    for _ in 0..8 {
        let ended = AtomicBool::new(false);
        reloaded += thread::scope(|scope| {
            let reloads = scope.spawn(|| {
                let mut done = 0;
                while !ended.load(Ordering::Relaxed) {
                    done += u32::from(node.control(&["reload"]).is_ok());
                }
                done
            });
            let upgraded =
                std::iter::repeat_with(|| node.control(&["upgrade"])).take(100).find_map(Result::ok);
            ended.store(true, Ordering::Relaxed);
            assert!(upgraded.is_some(), "it was never its turn: {:?}", node.control(&["upgrade"]));
            reloads.join().unwrap()
        });
    }
    assert!(reloaded > 0, "no reload was ever let through");
    assert_eq!(worker(), before);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// A certificate's renewal asks for it by a signal, and has nobody to tell that it has to come again.
#[test]
fn a_signal_to_reload_is_obeyed_whenever_in_an_upgrade_it_comes() {
    let cluster = Cluster::start(2).unwrap();
    let node = &cluster.nodes[0];
    // Alike events are one with a count.
    let latest = || {
        let events = node.events().unwrap().into_iter().rev();
        events.filter(|event| event.kind == "reloaded").map(|event| (event.seq, event.count)).next()
    };
    for wait in [0, 30, 80, 150, 300] {
        let (before, pid) = (latest(), node.status().unwrap().pid);
        thread::scope(|scope| {
            // One that comes while the signal is being obeyed has to come again.
            let upgrade =
                || std::iter::repeat_with(|| node.control(&["upgrade"])).take(100).find_map(Result::ok);
            let upgraded = scope.spawn(upgrade);
            thread::sleep(Duration::from_millis(wait));
            signal(pid, Signal::HUP);
            assert!(upgraded.join().unwrap().is_some(), "it was never its turn");
        });
        let deadline = Time::now() + Duration::from_secs(20);
        while latest().is_none_or(|now| Some(now) == before) {
            assert!(Time::now() < deadline, "a signal {wait} ms into an upgrade was lost");
            thread::sleep(Duration::from_millis(50));
        }
    }
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// A drain waits for clients of a sticky rule, and so does whoever goes on with it.
#[test]
fn an_upgraded_agent_goes_on_draining_and_keeps_sticky_clients() {
    let rules = "[[rule]]\nports = 53\naffinity = \"single\"\nstickiness_timeout = \"20min\"\n".to_owned();
    let cluster = Cluster::start_on(&Plan { rules, ..Plan::nodes(2) }).unwrap();
    let mut scenario = Scenario::on(cluster, Load::default()).unwrap();
    let (callers, responders) = sticky_clients(&scenario.cluster);
    let (held, begin) = scenario.before_fault("arr2").unwrap();
    let node = scenario.cluster.node("arr2");
    node.drain().unwrap();
    node.wait_until("it holds no more than its sticky clients' buckets", |status| {
        let [site, sticky] = ["443", "53"].map(|port| table_of(status, port).unwrap());
        site.mine + site.arriving == 0 && sticky.mine == sticky.sticking && sticky.sticking < 100
    })
    .unwrap();
    let before = accepted(&scenario.cluster);
    assert!(before[3].count() > 0, "arr2 has no client: {before:?}");
    for name in ["arr2", "arr1"] {
        scenario.cluster.node(name).control(&["upgrade"]).unwrap();
        assert!(accepted(&scenario.cluster) == before, "buckets moved with the upgrade of {name}");
        let status = scenario.cluster.node("arr2").status().unwrap();
        assert_eq!(status.state, "draining", "after the upgrade of {name}");
    }
    let calls = callers.finish().unwrap();
    drop(responders);
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("drained, then both upgraded in place", begin, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
    assert_each_client_has_one_node(&calls);
}

#[test]
fn a_signal_to_stop_is_obeyed_whenever_in_an_upgrade_it_comes() {
    let mut cluster = Cluster::start(2).unwrap();
    for delay in [10, 40, 70, 100, 150, 250] {
        let node = cluster.node("arr1");
        let run_dir = node.run_dir.to_string_lossy().into_owned();
        let mut upgrade = node.place.namespace.command(program());
        upgrade.args(["upgrade", "--run-dir", &run_dir]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut upgrade = upgrade.spawn().unwrap();
        thread::sleep(Duration::from_millis(delay));
        let ended = node.stop().unwrap();
        assert!(ended.success(), "after {delay} ms the agent ended with {ended}\n{}", node.log_tail());
        // It may have been told of the upgrade, or not.
        upgrade.wait().unwrap();
        cluster.start_agents().unwrap();
        cluster.converge().unwrap();
    }
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn an_agent_that_cannot_take_up_what_was_left_starts_as_after_a_kill() {
    let mut cluster = Cluster::start(2).unwrap();
    let node = cluster.node("arr1");
    node.kill_agent();
    node.start_with(&[("ROLLCALL_RESUME", "99")]).unwrap();
    cluster.converge().unwrap();
    let status = cluster.node("arr1").status().unwrap();
    let failed = status.upgrade.and_then(|upgrade| upgrade.failed).unwrap();
    assert!(failed.contains("started as after a kill: its state is not open"), "{failed}");
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn what_cannot_go_on_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::start(2).unwrap();
    let before = statuses(&cluster);
    let node = cluster.node("arr1");
    let file = fs::read_to_string(&node.config).unwrap();
    let pinned = || fs::read_dir(&before[0].interface.pins).unwrap().count();
    let pinned_before = pinned();
    let spoilt = spoilt_copy_of_the_program(node);
    let slower = file.replace("[cluster]\n", "[cluster]\nprofile = \"vm\"\n");
    for (binary, config, wanted) in [
        ("/bin/false", file.as_str(), "/bin/false check ended with exit status: 1"),
        ("/bin/true", &file, "/bin/true takes over the state of format ``"),
        (&spoilt, &file, "could not load the XDP program"),
        ("/nonexistent/rollcall", &file, "cannot start /nonexistent/rollcall"),
        (&program(), &slower, "the cluster facts"),
        (&program(), &file.replace("gateway", "gatewya"), "gatewya"),
        (&program(), &file.replace("autodiscover", "autodetect"), "what the cluster file says beside"),
    ] {
        fs::write(&node.config, config).unwrap();
        let error = node.control(&["upgrade", "--binary", binary]).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    fs::write(&node.config, &file).unwrap();
    assert_eq!(pinned(), pinned_before, "pins");
    for (before, after) in before.iter().zip(statuses(&cluster)) {
        assert_unmoved(before, &after);
        assert_eq!(after.upgrade, None);
    }
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// Clients of the small service on both nodes, and the service.
fn sticky_clients(cluster: &Cluster) -> (Callers, Vec<Responder>) {
    let start =
        |node: &Node| Responder::start(&node.place.namespace, node.name(), &[CLUSTER_IP.into()], PORT);
    let responders = cluster.nodes.iter().map(|node| start(node).unwrap()).collect();
    let caller = |_| Caller::new(&cluster.lab, (CLUSTER_IP, PORT).into()).unwrap();
    let callers: Vec<_> = (0..24).map(caller).collect();
    (Callers::start(callers, Duration::from_millis(20), usize::MAX), responders)
}

/// Every call was answered, all of a client's by one node, and each node had clients.
fn assert_each_client_has_one_node(calls: &[Call]) {
    let mut nodes: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for call in calls {
        nodes.entry(call.client.ip()).or_default().insert(call.answer.clone().unwrap());
    }
    assert!(nodes.values().all(|nodes| nodes.len() == 1), "a client was sent elsewhere: {nodes:?}");
    let nodes: BTreeSet<_> = nodes.into_values().flatten().collect();
    assert_eq!(nodes.len(), 2, "one node had no clients");
}

/// What arr1 and arr2 accept of port 443, and then of port 53.
fn accepted(cluster: &Cluster) -> Vec<Held> {
    let of = |port| cluster.nodes.iter().map(move |node| node.holds_of(port).unwrap());
    of("443").chain(of("53")).collect()
}

/// Process, owner table, buckets and proxy are what they were, and nobody was suspected.
fn assert_unmoved(before: &Status, after: &Status) {
    let node = &before.node;
    assert_eq!((before.pid, before.epoch), (after.pid, after.epoch), "{node}");
    assert!(before.tables == after.tables, "{node}: buckets moved");
    assert!(after.lease, "{node} has no lease");
    let proxy = |status: &Status| status.proxy.as_ref().map(|proxy| (proxy.pid, proxy.ready, proxy.restarts));
    assert_eq!(proxy(before), proxy(after), "{node}");
    let states = |status: &Status| status.nodes.iter().map(|node| node.state.clone()).collect::<Vec<_>>();
    assert_eq!(states(before), states(after), "{node}");
    let news = after.events.iter().filter(|event| !before.events.contains(event));
    let news: Vec<_> = news.filter(|event| !event.starts_with("upgraded in place")).collect();
    assert!(news.is_empty(), "{node}: {news:?}");
}

fn statuses(cluster: &Cluster) -> Vec<Status> {
    cluster.nodes.iter().map(|node| node.status().unwrap()).collect()
}

/// The agent's process runs this file.
fn assert_runs(node: &mut Node, file: &str) {
    let pid = node.status().unwrap().pid;
    assert_eq!(fs::read_link(format!("/proc/{pid}/exe")).unwrap(), Path::new(file));
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim(), "rollcall");
}

/// Another file with the same program, as an update brings it.
fn copy_of_the_program(node: &Node) -> String {
    let copy = node.config.with_file_name("rollcall-new");
    fs::copy(program(), &copy).unwrap();
    copy.to_string_lossy().into_owned()
}

/// A program that does the same, and is another: what follows its last section is nobody's.
fn other_program(node: &Node) -> String {
    let other = copy_of_the_program(node);
    fs::OpenOptions::new().append(true).open(&other).unwrap().write_all(b"another").unwrap();
    other
}

/// The same with a packet program that no verifier takes: it never ends well, because each exit is an instruction that there is not.
fn spoilt_copy_of_the_program(node: &Node) -> String {
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
    let copy = node.config.with_file_name("rollcall-spoilt");
    let mut bytes = fs::read(program()).unwrap();
    let begin = bytes.windows(OBJECT.len()).position(|part| part == OBJECT).unwrap();
    for instruction in bytes[begin..begin + OBJECT.len()].chunks_exact_mut(8) {
        if instruction == EXIT {
            instruction[0] = 0xff;
        }
    }
    fs::write(&copy, bytes).unwrap();
    fs::set_permissions(&copy, fs::metadata(program()).unwrap().permissions()).unwrap();
    copy.to_string_lossy().into_owned()
}

fn program() -> String {
    rollcall_tests::node::rollcall().unwrap().to_string_lossy().into_owned()
}
