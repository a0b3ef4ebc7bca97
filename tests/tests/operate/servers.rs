//! Servers that fail under load, and servers that an operator takes out: which requests fail, and why, as browsers saw it and as the
//! access log has it.

use std::fs;
use std::thread;
use std::time::Duration;

use lb_user::clock::Time;
use lb_user::control::api::{ServerStatus, Status};
use rollcall_tests::backend::Backend;
use rollcall_tests::lab::Plan;
use rollcall_tests::node::{Cluster, Node};
use rollcall_tests::sys::signal;
use rollcall_tests::traffic::{Browsers, Habit, Request};
use rustix::process::Signal;
use serde::Deserialize;

/// The server that fails, and the one that does not.
const FAILING: usize = 0;
const WORKING: &str = "sbex3";

/// A line of the access log, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Line {
    status: u16,
    #[serde(default)]
    cause: String,
    #[serde(default)]
    server: String,
}

/// One node before both servers, which go out of service and come back within a second.
fn start() -> Cluster {
    let mut cluster = Cluster::raise(&Plan::light(1)).unwrap();
    let exchange = "[exchange]\nresponse_timeout = \"4s\"\nconnect_timeout = \"1s\"\n\
        health = { path = \"/owa/healthcheck.htm\", interval = \"200ms\", timeout = \"2s\", live_failures = 3 }\n";
    cluster.rewrite("[exchange]\n", exchange).unwrap();
    cluster.serve().unwrap();
    wait_until_all_work(&mut cluster);
    cluster
}

fn servers(status: &Status) -> &[ServerStatus] {
    status.proxy.as_ref().map_or(&[], |proxy| &proxy.servers)
}

fn wait_until_all_work(cluster: &mut Cluster) {
    let all = |status: &Status| servers(status).iter().filter(|server| server.healthy).count() == 2;
    cluster.nodes[0].wait_until("both servers work", all).unwrap();
}

fn wait_until_one_fails(cluster: &mut Cluster) {
    let one = |status: &Status| servers(status).iter().any(|server| !server.healthy);
    cluster.nodes[0].wait_until("a server is found to fail", one).unwrap();
}

/// What became of requests while something befell a server.
struct Seen {
    requests: Vec<Request>,
    lines: Vec<Line>,
    /// When what was to follow of it had followed.
    settled: Time,
}

impl Seen {
    fn errors(&self) -> Vec<&str> {
        self.requests.iter().filter_map(|request| request.error.as_deref()).collect()
    }

    /// The lines of requests that did not succeed.
    fn failed(&self) -> Vec<&Line> {
        self.lines.iter().filter(|line| line.status != 200).collect()
    }

    /// What has settled costs nobody anything any more.
    fn assert_over(&self) {
        let late: Vec<&Request> = self
            .requests
            .iter()
            .filter(|request| request.begun > self.settled && request.error.is_some())
            .collect();
        assert!(late.is_empty(), "{late:#?}");
        assert!(self.requests.iter().any(|request| request.begun > self.settled), "nobody asked any more");
    }
}

/// Has browsers at work while `befall` happens and until it returns, and some time after.
fn under_load(cluster: &mut Cluster, befall: impl FnOnce(&mut Cluster)) -> Seen {
    let before = cluster.nodes[0].requests::<Line>().unwrap().len();
    let habit = Habit { pause: Duration::from_millis(10), per_connection: 5, most: 20_000 };
    let browsers = Browsers::start(&cluster.https().unwrap(), 6, habit);
    // Six browsers that began together are alike: each is in the middle of its third connection then, not between two.
    wait_for_more(&browsers, 75);
    befall(cluster);
    let settled = Time::now();
    wait_for_more(&browsers, 60);
    let requests = browsers.finish().unwrap();
    // The last lines may be on their way.
    let wanted = requests.iter().filter(|request| request.client.is_some()).count();
    let mut lines = Vec::new();
    for _ in 0..500 {
        lines = cluster.nodes[0].requests().unwrap().split_off(before);
        if lines.len() >= wanted {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(lines.len(), wanted, "a line each");
    Seen { requests, lines, settled }
}

fn wait_for_more(browsers: &Browsers, count: usize) {
    let wanted = browsers.done() + count;
    for _ in 0..3000 {
        if browsers.done() >= wanted {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("the browsers stand still");
}

#[test]
fn a_server_that_dies_costs_the_requests_that_it_had_and_no_others() {
    let mut cluster = start();
    let seen = under_load(&mut cluster, |cluster| {
        cluster.lab.servers[FAILING].2.kill_all();
        wait_until_one_fails(cluster);
    });
    seen.assert_over();
    let failed = seen.failed();
    assert_eq!(seen.errors().len(), failed.len(), "{:?} {failed:?}", seen.errors());
    assert!(
        failed.iter().all(|line| (line.status, line.cause.as_str()) == (502, "server_closed")),
        "{failed:?}"
    );
    assert!(failed.len() <= 6, "each browser has one request at a time: {failed:?}");
    cluster.backends.remove(FAILING);
    let (name, _, namespace) = cluster.lab.servers[FAILING].clone();
    let again = Backend::start(&cluster.lab, &namespace, name, &cluster.certificates).unwrap();
    cluster.backends.insert(FAILING, again);
    wait_until_all_work(&mut cluster);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn a_server_that_hangs_costs_the_requests_that_it_had_their_time_and_one_that_is_slow_none() {
    let mut cluster = start();
    let tell = |cluster: &Cluster, what: Signal| {
        cluster.lab.servers[FAILING].2.pids().into_iter().for_each(|pid| signal(pid, what));
    };
    let slow = under_load(&mut cluster, |cluster| {
        tell(cluster, Signal::STOP);
        thread::sleep(Duration::from_millis(700));
        tell(cluster, Signal::CONT);
        wait_until_all_work(cluster);
    });
    assert_eq!(slow.errors(), Vec::<&str>::new(), "{:?}", slow.failed());
    let hung = under_load(&mut cluster, |cluster| {
        tell(cluster, Signal::STOP);
        wait_until_one_fails(cluster);
        // What it was asked before has had its time, too.
        thread::sleep(Duration::from_secs(5));
    });
    hung.assert_over();
    let failed = hung.failed();
    assert_eq!(hung.errors().len(), failed.len(), "{:?} {failed:?}", hung.errors());
    assert!(!failed.is_empty() && failed.len() <= 12, "{failed:?}");
    assert!(failed.iter().all(|line| (line.status, line.cause.as_str()) == (504, "timeout")), "{failed:?}");
    tell(&cluster, Signal::CONT);
    wait_until_all_work(&mut cluster);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn a_server_that_answers_with_errors_is_left_and_its_errors_are_its_own() {
    let mut cluster = start();
    let broken = cluster.backends[FAILING].broken();
    let seen = under_load(&mut cluster, |cluster| {
        fs::write(&broken, "").unwrap();
        wait_until_one_fails(cluster);
    });
    seen.assert_over();
    let failed = seen.failed();
    assert!(
        !failed.is_empty() && seen.errors().iter().all(|error| *error == "status 500"),
        "{:?}",
        seen.errors()
    );
    let own = |line: &&Line| (line.status, line.cause.as_str(), line.server.as_str()) == (500, "", "sbex1");
    assert!(failed.iter().all(own), "{failed:?}");
    fs::remove_file(&broken).unwrap();
    wait_until_all_work(&mut cluster);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn a_server_that_an_operator_takes_out_costs_no_request_and_stays_out() {
    let mut cluster = start();
    let set = |node: &Node, state: &str| {
        let said = node.control(&["farm", "set", "exchange", "sbex1", state]).unwrap();
        assert!(said.contains(state), "{said}");
    };
    for state in ["drain", "disabled"] {
        let seen = under_load(&mut cluster, |cluster| set(&cluster.nodes[0], state));
        assert_eq!(seen.errors(), Vec::<&str>::new(), "{state}: {:?}", seen.failed());
        let came_later =
            |request: &&Request| request.connection_begun > seen.settled + Duration::from_secs(1);
        let mut others = seen.requests.iter().filter(came_later).filter(|request| request.server != WORKING);
        assert_eq!(others.next(), None, "{state}");
    }
    let is_out = |status: &Status| {
        servers(status)
            .iter()
            .any(|server| server.name == "sbex1" && server.state == "disabled" && server.healthy)
    };
    let node = &mut cluster.nodes[0];
    node.kill_proxy().unwrap();
    node.wait_until("another proxy knows it", is_out).unwrap();
    node.stop().unwrap();
    node.start().unwrap();
    let status = node.wait_until("another agent knows it", is_out).unwrap();
    let told = "server sbex1 of farm exchange is disabled instead of active";
    assert!(status.adjusted.iter().any(|sentence| sentence == told), "{:?}", status.adjusted);
    cluster.settle().unwrap();
    let seen = under_load(&mut cluster, |_| ());
    assert!(seen.requests.iter().all(|request| request.server == WORKING), "{:?}", seen.errors());
    set(&cluster.nodes[0], "active");
    let seen = under_load(&mut cluster, |_| ());
    assert!(seen.requests.iter().any(|request| request.server == "sbex1"));
    let explained = cluster.nodes[0].control(&["explain", "https://mail.example.test/owa/"]).unwrap();
    assert!(explained.starts_with("sbex1 or sbex3 of farm exchange gets GET /owa/"), "{explained}");
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}
