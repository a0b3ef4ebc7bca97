//! Tests of services: whoever fails one hands over what the test is of, and takes it again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;

use lb_user::clock::Time;
use rollcall_tests::backend::start_nginx;
use rollcall_tests::lab::{CLUSTER_IP, Plan, SERVERS};
use rollcall_tests::node::{Cluster, Node, table_of};
use rollcall_tests::responder::Responder;
use rollcall_tests::scenario::{Load, Scenario};
use rollcall_tests::sys::Process;

use crate::{shares, wait_until_it_holds};

/// A rule for each kind of test. `HERE` is the node's own folder.
const RULES: &str = r#"
[[rule]]
ports = 53
check = { tcp = true, interval = "100ms", failures = 2, successes = 2 }

[[rule]]
ports = 8080
check = { http = "/up", body = "fine", interval = "100ms", failures = 2, successes = 2 }

[[rule]]
ports = 7
check = { command = "/usr/bin/test -e HERE/fine", interval = "100ms", failures = 2, successes = 2 }
"#;

/// What the rules' ports are.
const PORTS: [&str; 3] = ["53", "8080", "7"];

/// What runs on a node for the sake of the tests.
struct Services {
    responder: Option<Responder>,
    _nginx: Process,
    folder: PathBuf,
}

impl Services {
    fn start(node: &Node) -> Self {
        let folder = node.config.parent().unwrap().to_owned();
        let http = format!("server {{ listen 8080; root {}; }}\n", folder.display());
        let nginx = start_nginx(&node.place.namespace, node.name(), &folder, &http).unwrap();
        let mut services = Self { responder: None, _nginx: nginx, folder };
        PORTS.iter().for_each(|port| services.mend(node, port));
        services
    }

    /// The service behind the port fails from now on.
    fn fail(&mut self, port: &str) {
        match port {
            "53" => self.responder = None,
            "8080" => fs::remove_file(self.folder.join("up")).unwrap(),
            _ => fs::remove_file(self.folder.join("fine")).unwrap(),
        }
    }

    /// It works.
    fn mend(&mut self, node: &Node, port: &str) {
        match port {
            "53" => {
                let namespace = &node.place.namespace;
                self.responder =
                    Some(Responder::start(namespace, node.name(), &[CLUSTER_IP.into()], 53).unwrap());
            }
            "8080" => fs::write(self.folder.join("up"), "all is fine\n").unwrap(),
            _ => drop(File::create(self.folder.join("fine")).unwrap()),
        }
    }
}

/// Two nodes that serve all the rules.
fn start(plan: Plan) -> (Cluster, BTreeMap<String, Services>) {
    let mut cluster = Cluster::raise(&Plan { rules: RULES.to_owned(), ..plan }).unwrap();
    let mut services = BTreeMap::new();
    for node in &cluster.nodes {
        let here = node.config.parent().unwrap().to_string_lossy();
        node.rewrite("cluster.toml", "HERE", &here).unwrap();
        services.insert(node.name().to_owned(), Services::start(node));
    }
    cluster.serve().unwrap();
    for node in &mut cluster.nodes {
        PORTS.iter().for_each(|port| wait_until_it_holds(node, port, |held| held == 2048));
    }
    (cluster, services)
}

#[test]
fn a_service_that_fails_moves_its_own_rules_share_alone_and_takes_it_again() {
    let (cluster, mut services) = start(Plan::nodes(2));
    let mut scenario = Scenario::on(cluster, Load::LIGHT).unwrap();
    let (held, begin) = scenario.before_fault("arr1").unwrap();
    for port in PORTS {
        let others: Vec<_> = PORTS.into_iter().chain(["443"]).filter(|other| *other != port).collect();
        let before: Vec<_> = others.iter().map(|other| shares(&scenario.cluster, other)).collect();
        services.get_mut("arr1").unwrap().fail(port);
        wait_until_it_holds(scenario.cluster.node("arr1"), port, |held| held == 0);
        wait_until_it_holds(scenario.cluster.node("arr2"), port, |held| held == 4096);
        assert_told(scenario.cluster.node("arr1"), port);
        let now: Vec<_> = others.iter().map(|other| shares(&scenario.cluster, other)).collect();
        assert!(before == now, "port {port} took others along");

        let node = scenario.cluster.node("arr1");
        services.get_mut("arr1").unwrap().mend(node, port);
        wait_until_it_holds(node, port, |held| held == 2048);
        wait_until_it_holds(scenario.cluster.node("arr2"), port, |held| held == 2048);
        let now: Vec<_> = others.iter().map(|other| shares(&scenario.cluster, other)).collect();
        assert!(before == now, "port {port} took others along on its way back");
    }
    let end = Time::now();
    let outcome = scenario.finish(&[]).unwrap();
    outcome.print_outage("other rules' services failed", begin, &held);
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
    outcome.assert_nearly_all_answered(begin, end);
}

/// The node says what does not work, and why.
fn assert_told(node: &mut Node, port: &str) {
    let of_rule = format!("the service of tcp {port} does not work on this node");
    node.wait_for_event(&of_rule, |event| event.kind == "service-fails" && event.text.starts_with(&of_rule))
        .unwrap();
    let status = node.status().unwrap();
    let service = table_of(&status, port).unwrap().service.clone().unwrap();
    assert_eq!(service.works, Some(false), "{service:?}");
    assert!(service.trouble.is_some(), "{service:?}");
}

#[test]
fn a_service_that_fails_on_every_node_leaves_each_its_share() {
    let (mut cluster, mut services) = start(Plan::light(2));
    for port in PORTS {
        for name in ["arr1", "arr2"] {
            services.get_mut(name).unwrap().fail(port);
        }
        for name in ["arr1", "arr2"] {
            cluster
                .node(name)
                .wait_until("its test fails", |status| {
                    let service = table_of(status, port).unwrap().service.as_ref();
                    service.is_some_and(|service| service.works == Some(false))
                })
                .unwrap();
        }
        for name in ["arr1", "arr2"] {
            wait_until_it_holds(cluster.node(name), port, |held| held == 2048);
        }
    }
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn a_node_that_reaches_fewer_servers_than_it_must_hands_the_sites_share_over() {
    let plan = Plan { rules: "[[rule]]\nports = 53\n".to_owned(), ..Plan::light(2) };
    let mut cluster = Cluster::raise(&plan).unwrap();
    cluster.rewrite("[exchange]\n", "[exchange]\nmin_servers = 2\n").unwrap();
    cluster.serve().unwrap();
    let other_rule = shares(&cluster, "53");
    let place = cluster.node("arr1").place.clone();
    let (server, address) = SERVERS[1];
    cluster.lab.block_server(&place, address).unwrap();
    wait_until_it_holds(cluster.node("arr1"), "443", |held| held == 0);
    wait_until_it_holds(cluster.node("arr2"), "443", |held| held == 4096);
    let status = cluster.node("arr1").status().unwrap();
    let reached: Vec<_> = status.proxy.unwrap().servers.into_iter().filter(|server| server.healthy).collect();
    assert!(reached.iter().all(|reached| reached.name != server), "{reached:?}");
    let says = "1 of 2 needed servers";
    let told = cluster
        .node("arr1")
        .wait_for_event(says, |event| event.kind == "service-fails" && event.text.contains(says));
    told.unwrap();
    assert!(shares(&cluster, "53") == other_rule, "another rule's share moved");

    cluster.lab.unblock_server(&place).unwrap();
    wait_until_it_holds(cluster.node("arr1"), "443", |held| held == 2048);
    wait_until_it_holds(cluster.node("arr2"), "443", |held| held == 2048);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}
