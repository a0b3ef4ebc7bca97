//! What `rollcall doctor` says of networks with a fault, and of one without.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use lb_user::config::model::PEER_PORT;
use lb_user::control::api::Status;
use rollcall_tests::lab::{Mode, Plan};
use rollcall_tests::node::{Cluster, Node, rollcall};
use serde_json::Value;

/// What the doctor said.
#[derive(Debug)]
struct Said {
    status: Option<i32>,
    findings: Vec<Value>,
}

impl Said {
    /// How that is.
    fn severity(&self, check: &str) -> &str {
        self.finding(check)["severity"].as_str().unwrap()
    }

    /// What was found of it.
    fn finding(&self, check: &str) -> &Value {
        let found = self.findings.iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("nothing of {check}: {self:#?}"))
    }

    /// Whether it is to be typed.
    fn types(&self, check: &str, line: &str) -> bool {
        let lines = self.finding(check)["lines"].as_array().unwrap();
        lines.iter().any(|known| known["text"] == line)
    }

    /// What is a problem.
    fn problems(&self) -> Vec<&str> {
        let problems = self.findings.iter().filter(|finding| finding["severity"] == "problem");
        problems.map(|finding| finding["check"].as_str().unwrap()).collect()
    }
}

/// `rollcall doctor` on a node, by its files.
fn doctor(node: &Node) -> Said {
    asked(node, &["--config", &node.config.to_string_lossy()])
}

fn asked(node: &Node, origin: &[&str]) -> Said {
    let output = node.rollcall(&[&["doctor", "--json"], origin].concat()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    Said { status: output.status.code(), findings: said["findings"].as_array().unwrap().clone() }
}

/// `rollcall doctor --listen` on a node, until it is dropped.
struct Listener(Child);

impl Listener {
    fn start(node: &Node) -> Self {
        let mut command = node.place.namespace.command(rollcall().unwrap());
        command.arg("doctor").arg("--listen").arg("--config").arg(&node.config);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Who calls is called three times; this is no measurement.
        thread::sleep(Duration::from_millis(500));
        Self(child)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const ECHO: &str = "echo from cluster IP";

#[test]
fn where_all_is_well_nothing_is_a_problem_whether_agents_run_or_not() {
    for mode in [Mode::Multicast, Mode::Unicast] {
        let mut cluster = Cluster::raise(&Plan { mode, ..Plan::light(2) }).unwrap();
        let listener = Listener::start(&cluster.nodes[1]);
        let said = doctor(&cluster.nodes[0]);
        assert_eq!((said.problems(), said.status), (vec![], Some(0)), "{said:#?}");
        for check in [ECHO, "gateway", "frames to arr2"] {
            assert_eq!(said.severity(check), "ok", "{mode:?}: {said:#?}");
        }
        assert_eq!(said.finding("other modes")["severity"], "ok");
        drop(listener);

        cluster.serve().unwrap();
        let said = doctor(&cluster.nodes[0]);
        assert_eq!((said.problems(), said.status), (vec![], Some(0)), "{said:#?}");
        for check in [ECHO, "frames to arr2", "heartbeats of arr2", "server exchange sbex1"] {
            assert_eq!(said.severity(check), "ok", "{mode:?}: {said:#?}");
        }
        // A check of the file says the same of the network, if it is asked to.
        let file = cluster.nodes[0].config.to_string_lossy().into_owned();
        let checked = |more: &[&str]| -> Value {
            let output = cluster.nodes[0].rollcall(&[&["check", "--json"], more, &[&file]].concat()).unwrap();
            serde_json::from_slice(&output.stdout).unwrap()
        };
        let network = &checked(&["--network"])["network"];
        assert_eq!((&network["node"], &network["problems"]), (&"arr1".into(), &0.into()), "{network}");
        let echo = network["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == ECHO);
        assert_eq!(echo.unwrap()["severity"], "ok", "{network}");
        assert_eq!(checked(&[])["network"], Value::Null);
    }
}

#[test]
fn a_router_that_refuses_a_multicast_mac_is_found_with_and_without_agents() {
    let mut cluster = Cluster::raise(&Plan::light(2)).unwrap();
    cluster.lab.refuse_multicast_arp().unwrap();
    let refused = |said: &Said| {
        assert_eq!((said.problems(), said.status), (vec![ECHO], Some(1)), "{said:#?}");
        assert!(said.types(ECHO, "sysctl net.link.ether.inet.allow_multicast=1"), "{said:#?}");
        assert!(said.types(ECHO, "arp 192.168.50.8 03bf.c0a8.3208 ARPA"), "{said:#?}");
    };
    let said = doctor(&cluster.nodes[0]);
    refused(&said);
    assert!(said.finding(ECHO)["cure"].as_str().unwrap().ends_with("unicast"), "{said:#?}");
    cluster.serve().unwrap();
    // What the stand-in told the router of mode unicast is forgotten as its entry would be.
    cluster.lab.router.ip("neigh flush dev dmz").unwrap();
    refused(&doctor(&cluster.nodes[0]));
}

#[test]
fn a_switch_that_snoops_is_found_by_what_comes_back_and_by_what_arrives_at_others() {
    let cluster = Cluster::raise(&Plan { snooping: true, ..Plan::light(2) }).unwrap();
    let listener = Listener::start(&cluster.nodes[1]);
    cluster.lab.places.iter().for_each(|place| cluster.lab.snoop_on(place).unwrap());
    // A new querier floods for as long as its groups may take to answer.
    thread::sleep(Duration::from_millis(1500));
    let said = doctor(&cluster.nodes[0]);
    assert_eq!((said.problems(), said.status), (vec![ECHO, "frames to arr2"], Some(1)), "{said:#?}");
    for check in [ECHO, "frames to arr2"] {
        assert!(said.types(check, "ip link set PORT type bridge_slave mcast_router 2"), "{said:#?}");
        assert!(said.finding(check)["cure"].as_str().unwrap().ends_with("works here: unicast"), "{said:#?}");
    }
    drop(listener);
}

#[test]
fn a_firewall_that_drops_heartbeats_is_named_on_its_host() {
    let mut cluster = Cluster::start_on(&Plan::light(2)).unwrap();
    cluster.lab.filter_heartbeats(&cluster.nodes[0].place).unwrap();
    let node = cluster.node("arr1");
    let silent = |status: &Status| status.nodes.iter().any(|node| node.silent_ms.is_some_and(|ms| ms > 3000));
    node.wait_until("arr2 is missed", silent).unwrap();
    let said = doctor(node);
    assert_eq!(said.problems(), ["firewall: udp 7644", "heartbeats of arr2"], "{said:#?}");
    assert_eq!(said.status, Some(1));
    let line = "nft insert rule inet fault heartbeats ip saddr 192.168.50.7 udp dport 7644 accept";
    assert!(said.types("firewall: udp 7644", line), "{said:#?}");
    assert_eq!(said.severity("frames to arr2"), "ok", "{said:#?}");
}

#[test]
fn a_blocked_peer_port_and_a_blocked_server_are_problems_where_they_are_used() {
    let mut cluster = Cluster::raise(&Plan::light(2)).unwrap();
    cluster.share().unwrap();
    cluster.lab.block_port(&cluster.nodes[1].place, PEER_PORT).unwrap();
    let (server, address, _) = cluster.lab.servers[0].clone();
    cluster.lab.block_server(&cluster.nodes[0].place, address).unwrap();
    let node = &cluster.nodes[0];
    let said = asked(node, &["--node-file", &node.own_folder().join("node.toml").to_string_lossy()]);
    let server = format!("server exchange {server}");
    assert_eq!(said.problems(), ["peer port of arr2", server.as_str()], "{said:#?}");
    assert_eq!(said.status, Some(1));
}

#[test]
fn without_the_network_nothing_is_sent_and_that_is_said() {
    let cluster = Cluster::raise(&Plan::light(2)).unwrap();
    let node = &cluster.nodes[0];
    let said = asked(node, &["--no-network", "--config", &node.config.to_string_lossy()]);
    for check in ["gateway", "frames to nodes", "servers", "ports of nodes"] {
        assert_eq!(said.severity(check), "not-tested", "{said:#?}");
    }
    assert_eq!(said.status, Some(0), "{said:#?}");
}
