//! What operators see of the data path, on a real kernel: `explain`, `connections`, `capture` and the counters of `status` agree
//! with what becomes of real packets.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use aya::EbpfLoader;
use aya::maps::{Map, MapData, MapInfo, PerCpuArray};
use aya::util::nr_cpus;
use lb_common::table::{BUCKETS, CAPTURE_BYTES, Counter, counter};
use lb_common::verdict::Reason;
use lb_user::config::model::XdpChoice;
use lb_user::control::api::{Answer, Connections, Explanation, NodeExplanation, RuleStatus, Sample};
use lb_user::dataplane::{self, Dataplane, OBJECT};
use rollcall_tests::lab::{CLIENT, CLUSTER_IP, NODE_DMZ, Plan};
use rollcall_tests::netns::{in_own_netns, run};
use rollcall_tests::node::{Cluster, Node};

#[test]
fn what_explain_says_of_a_connection_is_what_becomes_of_it() {
    let mut cluster = serving();
    let before = cluster.nodes.iter().map(tcp_443).collect::<Vec<_>>();
    let mut connection = cluster.https().unwrap().connect().unwrap();
    assert_eq!(connection.get("/owa/").unwrap().status, 200);
    let port = connection.port;

    let told: Vec<_> = cluster.nodes.iter().map(|node| explain(node, port, "ack")).collect();
    assert_eq!(told[0].bucket, told[1].bucket, "{told:#?}");
    let passing: Vec<usize> = (0..2).filter(|&node| this(&told[node]).action == "passes").collect();
    let [owner] = passing[..] else { panic!("one node passes it: {told:#?}") };
    let other = 1 - owner;
    assert_eq!(this(&told[owner]).reason, "mine");
    assert_eq!(this(&told[other]).reason, "other");
    let name = cluster.nodes[owner].name().to_owned();
    let bucket = told[owner].bucket.unwrap();
    assert!(
        told[other].summary.ends_with(&format!("; {name} holds bucket {bucket}")),
        "{}",
        told[other].summary
    );
    // Each knows the other's verdict, too.
    for told in &told {
        let actions: Vec<_> = told.nodes.iter().map(|node| node.action.as_str()).collect();
        assert_eq!(actions[owner], "passes", "{told:#?}");
        assert_eq!(actions[other], "drops", "{told:#?}");
    }

    let after: Vec<_> = cluster.nodes.iter().map(tcp_443).collect();
    assert!(after[owner].accepted.packets >= before[owner].accepted.packets + 5, "{after:#?}");
    assert!(after[other].left_to_others.packets >= before[other].left_to_others.packets + 5, "{after:#?}");
    assert_eq!(after[other].accepted, before[other].accepted);

    cluster.nodes[other]
        .wait_until("it is told what the owner passed", |status| {
            let owner = status.nodes.iter().find(|node| node.name == name);
            owner.is_some_and(|owner| owner.passed.is_some_and(|passed| passed.packets >= 5))
        })
        .unwrap();
    let held = connections(&cluster.nodes[owner], &[]);
    let found: Vec<_> = held.connections.iter().filter(|found| found.client.port() == port).collect();
    let [found] = found[..] else { panic!("it is listed once: {held:#?}") };
    assert_eq!((found.bucket, found.state.as_str()), (bucket, "established"));
    assert_eq!((found.bucket_state.as_str(), found.holder.as_deref()), ("mine", Some(name.as_str())));
    assert_eq!(connections(&cluster.nodes[owner], &["--bucket", &bucket.to_string()]).total, 1);
    assert_eq!(connections(&cluster.nodes[other], &[]).total, 0);

    drained(&mut cluster, owner, port);
    without_a_cable(&mut cluster, other, port);
    drop(connection);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// The connection stays where it is while its bucket goes.
fn drained(cluster: &mut Cluster, owner: usize, port: u16) {
    let other = cluster.nodes[1 - owner].name().to_owned();
    cluster.nodes[owner].drain().unwrap();
    cluster.nodes[owner]
        .wait_until("the other has its share", |status| {
            status.nodes.iter().any(|node| node.name == other && node.holds as usize == BUCKETS)
        })
        .unwrap();
    let told = explain(&cluster.nodes[owner], port, "ack");
    let this = this(&told);
    assert_eq!((this.action.as_str(), this.reason.as_str()), ("passes", "local-open"), "{told:#?}");
    assert_eq!((this.state.as_deref(), this.socket.as_deref()), (Some("departing"), Some("open")));
    let syn = explain(&cluster.nodes[owner], port, "syn");
    let said = format!(
        "new-departing, because its bucket leaves the node, and it opens a connection; {other} holds"
    );
    assert!(syn.summary.contains(&said), "{}", syn.summary);
    let gone = connections(&cluster.nodes[owner], &["--node", &other]);
    assert!(gone.connections.iter().any(|found| found.client.port() == port), "{gone:#?}");
}

/// A node that does not serve can be asked as well.
fn without_a_cable(cluster: &mut Cluster, node: usize, port: u16) {
    let name = cluster.nodes[node].name().to_owned();
    cluster.pull_cable(&name).unwrap();
    cluster.nodes[node].wait_until("it does not serve", |status| !status.lease).unwrap();
    let told = explain(&cluster.nodes[node], port, "syn");
    let this = this(&told);
    assert_eq!((this.action.as_str(), this.lease), ("drops", false), "{told:#?}");
}

#[test]
fn a_capture_shows_real_packets_and_leaves_the_usual_program() {
    let mut cluster = serving();
    let https = cluster.https().unwrap();
    let usual = program(&cluster.nodes[0]);
    let clean = cluster.nodes[0].footprint().unwrap();
    let node = &cluster.nodes[0];
    let args = ["capture", "--reason", "new-mine", "--count", "2", "--seconds", "20", "--json"];
    let text = thread::scope(|scope| {
        let capture = scope.spawn(|| node.control(&args).unwrap());
        // Until two of them fall to this node.
        while !capture.is_finished() {
            drop(https.connect_tcp().unwrap());
            thread::sleep(Duration::from_millis(20));
        }
        capture.join().unwrap()
    });
    let answers: Vec<Answer> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [Answer::Sample(first), Answer::Sample(second), Answer::Captured(end)] = &answers[..] else {
        panic!("two samples and the end: {text}");
    };
    for sample in [first, second] {
        assert_is_syn(sample);
        assert_eq!(this(&explain(node, sample.source_port, "syn")).action, "passes");
    }
    assert_eq!((end.shown, end.skipped), (2, 0));
    assert!(end.matched >= 2, "{end:?}");
    assert_eq!(program(node), usual, "the usual program is back");
    assert_eq!(cluster.nodes[0].footprint().unwrap(), clean, "nothing else is left");

    let refused = node.control(&["capture", "--reason", "mien"]).unwrap_err().to_string();
    assert!(refused.contains("there is no reason \"mien\""), "{refused}");
    one_at_a_time(&mut cluster);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// A second is refused; the first ends with its client or the agent, whose stop takes no longer for it.
fn one_at_a_time(cluster: &mut Cluster) {
    let usual = program(&cluster.nodes[0]);
    let begin = |cluster: &Cluster| {
        let node = &cluster.nodes[0];
        let mut command = node.place.namespace.command(rollcall_tests::node::rollcall().unwrap());
        command.args(["capture", "--run-dir"]).arg(&node.run_dir);
        let capture = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("the capture begins", || program(node) != usual);
        capture
    };
    let mut capture = begin(cluster);
    let refused = cluster.nodes[0].control(&["capture"]).unwrap_err().to_string();
    assert!(refused.contains("a capture is running on this node already"), "{refused}");
    capture.kill().unwrap();
    capture.wait().unwrap();
    wait_until("it ends with its client", || program(&cluster.nodes[0]) == usual);
    let mut capture = begin(cluster);
    assert!(cluster.nodes[0].stop().unwrap().success());
    assert!(!capture.wait().unwrap().success());
}

#[test]
fn counters_of_rules_begin_anew_when_other_ports_have_rules() {
    in_own_netns(|| {
        run("ip link add v0 type veth peer name v1").unwrap();
        run("ip link set v0 up").unwrap();
        let pins = dataplane::pins_of("v0").unwrap();
        let attach = |ports| Dataplane::attach(&plan(ports), "v0", XdpChoice::Generic, &pins).unwrap();
        let counted = |ports, replaces: bool| {
            let dataplane = attach(ports);
            if !replaces {
                count_one(&pins, 0);
                count_one(&pins, 1);
            }
            let tally = dataplane.counters().tally().unwrap();
            [0, 1].map(|rule| tally.of_rule(rule).map(|(_, count)| count.packets).sum::<u64>())
        };
        assert_eq!(counted("443", false), [1, 1]);
        assert_eq!(counted("443", true), [1, 1]);
        assert_eq!(counted("8443", true), [1, 0]);

        // A map of another version is not used.
        let mut other = EbpfLoader::new().map_max_entries("CAPTURE", 1 << 20).load(OBJECT).unwrap();
        std::fs::remove_file(pins.join("CAPTURE")).unwrap();
        other.map_mut("CAPTURE").unwrap().pin(pins.join("CAPTURE")).unwrap();
        let dataplane = attach("443");
        let pinned = MapInfo::from_pin(pins.join("CAPTURE")).unwrap();
        assert_eq!(pinned.max_entries() as usize, CAPTURE_BYTES);
        drop(dataplane.captures().begin(&[Reason::Mine], 1, || ()).unwrap());
        dataplane.detach().unwrap();
        assert!(!pins.exists());
    });
}

/// The plan of a cluster with one rule.
fn plan(ports: &str) -> dataplane::Plan {
    let file = std::env::temp_dir().join(format!("rollcall-view-{}-{ports}", std::process::id()));
    let text = format!(
        "[cluster]\nip = \"192.168.50.8/24\"\nmode = \"multicast\"\n[[node]]\nname = \"arr1\"\naddress = \"192.168.50.6\"\n\
         priority = 1\n[[rule]]\nports = {ports}\n"
    );
    std::fs::write(&file, text).unwrap();
    let config = lb_user::config::load_for(&file, None).unwrap();
    std::fs::remove_file(&file).unwrap();
    dataplane::Plan::new(&config, [0; 2])
}

/// As the program does, on the first CPU.
fn count_one(pins: &Path, rule: u8) {
    let map = Map::PerCpuArray(MapData::from_pin(pins.join("COUNTERS")).unwrap());
    let mut map: PerCpuArray<_, Counter> = PerCpuArray::try_from(map).unwrap();
    let mut counts = vec![Counter::default(); nr_cpus().unwrap()];
    counts[0] = Counter { packets: 1, bytes: 60 };
    map.set(counter(rule, Reason::Other as u8), counts.try_into().unwrap(), 0).unwrap();
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("ten seconds are over until {what}");
}

fn assert_is_syn(sample: &Sample) {
    assert_eq!((sample.protocol.as_str(), sample.flags.as_str()), ("tcp", "S"), "{sample:?}");
    assert_eq!(sample.source, Some(IpAddr::from(CLIENT)));
    assert_eq!((sample.destination, sample.destination_port), (Some(IpAddr::from(CLUSTER_IP)), 443));
    assert_eq!((sample.rule.as_deref(), sample.reason.as_str()), (Some("tcp 443"), "new-mine"));
    assert!((54..100).contains(&sample.length), "{sample:?}");
}

/// Two nodes that each hold half of the port's buckets, with nothing on its way.
fn serving() -> Cluster {
    let mut cluster = Cluster::raise(&Plan::light(2)).unwrap();
    cluster.start_agents().unwrap();
    for node in &mut cluster.nodes {
        node.wait_until("it serves its half", |status| {
            let mut shared = status.tables.iter().filter(|table| table.filtering == "multiple");
            let ready = status.proxy.as_ref().is_some_and(|proxy| proxy.ready);
            status.lease && ready && shared.any(|table| table.mine as usize == BUCKETS / 2)
        })
        .unwrap();
    }
    cluster
}

fn explain(node: &Node, port: u16, flags: &str) -> Explanation {
    let (client, service) = (format!("{CLIENT}:{port}"), format!("{CLUSTER_IP}:443"));
    let text = node.control(&["explain", &client, &service, "--flags", flags, "--json"]).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn this(told: &Explanation) -> &NodeExplanation {
    told.nodes.iter().find(|node| node.this).unwrap()
}

fn connections(node: &Node, more: &[&str]) -> Connections {
    let text = node.control(&[&["connections", "--json"], more].concat()).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn tcp_443(node: &Node) -> RuleStatus {
    let status = node.status().unwrap();
    status.rules.into_iter().find(|rule| rule.rule == "tcp 443").unwrap()
}

/// The number of the XDP program on a node's cluster interface.
fn program(node: &Node) -> u64 {
    let mut ip = node.place.namespace.command("ip");
    let output = ip.args(["-json", "link", "show", "dev", NODE_DMZ]).output().unwrap();
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    links[0]["xdp"]["prog"]["id"].as_u64().unwrap()
}
