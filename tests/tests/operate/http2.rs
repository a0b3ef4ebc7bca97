//! A site that speaks HTTP/2, whose clients have many requests at once over each connection: what a drain is to them.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rollcall_tests::backend::SLOW;
use rollcall_tests::lab::{PUBLIC, PUBLIC_NAME, Plan};
use rollcall_tests::node::{Cluster, Node};
use rollcall_tests::sys::find_program;
use serde::Deserialize;

/// A line of the access log, as far as it matters here.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Line {
    version: String,
    status: u16,
}

/// Clients at work, each of which opens one connection at a time.
struct Clients {
    stop: Arc<AtomicBool>,
    runs: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<Output>>>,
}

/// How many there are.
const CLIENTS: usize = 5;

/// What each asks for over a connection: some requests that take three seconds, and more that do not.
const SLOW_ONES: usize = 4;
const QUICK_ONES: usize = 100;

impl Clients {
    fn start(cluster: &Cluster, count: usize) -> Self {
        let (stop, runs) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let curl = find_program("curl").unwrap();
        let threads = (0..count).map(|_| {
            let mut curl = cluster.lab.client.command(&curl);
            curl.args([
                "--http2",
                "--parallel",
                "--parallel-max",
                "20",
                "--verbose",
                "--no-progress-meter",
                "--max-time",
                "20",
            ]);
            curl.args(["--connect-to", &format!("::{PUBLIC}:443"), "--cacert"])
                .arg(&cluster.certificates.certificate);
            curl.args(["--write-out", "%{http_version} %{http_code} %{exitcode}\\n"]);
            // At a MiB a second, of which the server sends the first at once.
            curl.args(["--range", "0-4000000"]);
            for (path, count) in [(SLOW, SLOW_ONES), ("/owa/", QUICK_ONES)] {
                curl.args(["--output", "/dev/null", &format!("https://{PUBLIC_NAME}{path}?[1-{count}]")]);
            }
            let (stop, runs) = (Arc::clone(&stop), Arc::clone(&runs));
            thread::spawn(move || {
                let mut all = Vec::new();
                while !stop.load(Ordering::Acquire) {
                    all.push(curl.output().unwrap());
                    runs.fetch_add(1, Ordering::Relaxed);
                }
                all
            })
        });
        let threads = threads.collect();
        Self { stop, runs, threads }
    }

    fn wait_for_more(&self, count: usize) {
        let wanted = self.runs.load(Ordering::Relaxed) + count;
        for _ in 0..3000 {
            if self.runs.load(Ordering::Relaxed) >= wanted {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the clients stand still");
    }

    fn finish(self) -> Vec<Output> {
        self.stop.store(true, Ordering::Release);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// Both nodes publish the servers as a site of its own, over HTTP/2 first.
fn start() -> Cluster {
    let rules = "[[rule]]\nports = 443\n".to_owned();
    let mut cluster = Cluster::raise(&Plan { rules, ..Plan::light(2) }).unwrap();
    cluster
        .rewrite("[exchange]\n", "[[site]]\nfarm = \"web\"\nprotocols = [\"h2\", \"http/1.1\"]\n")
        .unwrap();
    let farm = "[[farm]]\nname = \"web\"\nverify = \"none\"\nhealth = { path = \"/owa/healthcheck.htm\", body = \"\" }\nservers = [";
    cluster.rewrite("servers = [", farm).unwrap();
    cluster.serve().unwrap();
    cluster
}

#[test]
fn clients_of_http2_go_to_the_other_node_when_theirs_drains_and_lose_no_request() {
    let mut cluster = start();
    let clients = Clients::start(&cluster, CLIENTS);
    let drained = cluster.node("arr2");
    let connections = |node: &Node| node.status().unwrap().proxy.map_or(0, |proxy| proxy.connections);
    // Looked at from the first on: then one of them has only just come, and is there for seconds when the drain begins.
    drained
        .wait_until("it has clients", |status| {
            status.proxy.as_ref().is_some_and(|proxy| proxy.connections > 1)
        })
        .unwrap();
    drained.control(&["drain", "--wait", "--timeout", "20s"]).unwrap();
    assert_eq!(connections(drained), 0, "the drain did not wait");
    let before = cluster.nodes[0].requests::<Line>().unwrap().len();
    // More than were at work, so that one has begun since.
    clients.wait_for_more(CLIENTS + 1);
    assert!(cluster.nodes[0].requests::<Line>().unwrap().len() > before, "nobody came to the other node");
    assert_eq!(connections(cluster.node("arr2")), 0, "somebody came to the drained node");
    let outputs = clients.finish();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for output in &outputs {
        let answers = text(&output.stdout);
        let good = |line: &&str| ["2 200 0", "2 206 0"].contains(line);
        assert_eq!(
            answers.lines().filter(good).count(),
            SLOW_ONES + QUICK_ONES,
            "{answers}{}",
            text(&output.stderr)
        );
    }
    let told = outputs.iter().filter(|output| text(&output.stderr).contains("GOAWAY, error=0")).count();
    assert!(told > 0, "no client was told to go elsewhere");
    let asked = outputs.len() * (SLOW_ONES + QUICK_ONES);
    let lines = || -> Vec<Line> { cluster.nodes.iter().flat_map(|node| node.requests().unwrap()).collect() };
    // The last lines may be on their way.
    for _ in 0..500 {
        if lines().len() >= asked {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let lines = lines();
    assert_eq!(lines.len(), asked, "a line each");
    let other = lines.iter().find(|line| line.version != "HTTP/2" || ![200, 206].contains(&line.status));
    assert_eq!(other, None);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}
