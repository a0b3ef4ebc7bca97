//! What changes the meaning of buckets, or where they are asked for: cluster IPs and port rules, on nodes that serve.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use lb_user::clock::Time;
use rollcall_tests::lab::CLUSTER_IP;
use rollcall_tests::node::{Cluster, Node, PATIENCE};
use rollcall_tests::traffic::{Browsers, Habit, Request};

use crate::{apply, apply_with, at_work, sharing};

/// The agents' and the proxies' processes.
fn processes(cluster: &Cluster) -> Vec<(u32, Option<u32>)> {
    let of = |node: &Node| {
        let status = node.status().unwrap();
        (status.pid, status.proxy.and_then(|proxy| proxy.pid))
    };
    cluster.nodes.iter().map(of).collect()
}

/// Waits until every node has begun anew so many times, and each new connection has one node that takes it. Older ones may live elsewhere: their
/// buckets stay on their way.
fn all_have_begun_anew(cluster: &mut Cluster, times: usize) {
    begin_anew(cluster, times);
    cluster.converge().unwrap();
}

/// Waits until every node has begun anew so many times.
fn begin_anew(cluster: &Cluster, times: usize) {
    let deadline = Time::now() + PATIENCE;
    for node in &cluster.nodes {
        let renewed = || {
            let events = node.events().unwrap_or_default();
            events.iter().filter(|event| event.kind == "configuration-renewed").count()
        };
        while renewed() < times {
            assert!(Time::now() < deadline, "{} has not begun anew\n{}", node.name(), node.log_tail());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What cannot be taken up as it is is said before, and nothing is done.
fn is_said_before(cluster: &Cluster, rules: &str) {
    let works = || cluster.nodes.iter().map(at_work).collect::<Vec<_>>();
    let before = works();
    let looked =
        apply_with(&cluster.nodes[1], &["--dry-run"], |text| text.replace("[exchange]\n", rules)).unwrap();
    assert_eq!(looked["dry_run"], true);
    assert!(looked["renewed"][0].as_str().unwrap().contains("port rules"), "{looked}");
    assert_eq!(works(), before);
}

#[test]
fn other_port_rules_and_cluster_ips_are_taken_up_by_nodes_that_serve_and_no_connection_ends() {
    let mut cluster = sharing(3);
    cluster.settle().unwrap();
    let before = processes(&cluster);
    // Connections that outlast all of it, beside ones that are made anew again and again.
    let long = Habit { per_connection: 100_000, pause: Duration::from_millis(50), most: 100_000 };
    let short = Habit { most: 100_000, ..Habit::default() };
    let https = cluster.https().unwrap();
    let browsers = [Browsers::start(&https, 12, long), Browsers::start(&https, 4, short)];
    while browsers.iter().any(|browsers| browsers.done() < 50) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let rules = "[[rule]]\nports = 80\n\n[[rule]]\nports = 443\naffinity = \"single\"\n\n[exchange]\n";
    is_said_before(&cluster, rules);
    let applied = apply(&cluster.nodes[1], |text| text.replace("[exchange]\n", rules)).unwrap();
    assert_eq!(applied["on"].as_array().unwrap().len(), 2, "{applied}");
    assert!(applied["renewed"][0].as_str().unwrap().contains("port rules"), "{applied}");
    all_have_begun_anew(&mut cluster, 1);
    // All of one client's go to one node now.
    let here = cluster.nodes.iter().map(|node| node.status().unwrap().rules[1].rule.clone());
    assert_eq!(here.collect::<BTreeSet<_>>(), ["tcp 443".to_owned()].into());
    let another = "192.168.50.20";
    let applied = apply(&cluster.nodes[0], |text| {
        text.replace(
            &format!("ip = \"{CLUSTER_IP}/24\""),
            &format!("ips = [\"{CLUSTER_IP}/24\", \"{another}/24\"]"),
        )
    });
    let applied = applied.unwrap();
    all_have_begun_anew(&mut cluster, 2);
    let generation = applied["generation"].as_str().unwrap();
    for node in &cluster.nodes {
        assert_eq!(at_work(node), generation, "{}", node.name());
    }
    assert_eq!(processes(&cluster), before, "neither agents nor proxies are others");
    let [long, short] = browsers.map(|browsers| browsers.finish().unwrap());
    for (requests, least) in [(&long, 500), (&short, 200)] {
        let lost: Vec<&Request> = requests.iter().filter(|request| request.error.is_some()).collect();
        assert!(lost.is_empty() && requests.len() > least, "{} of {}: {lost:#?}", lost.len(), requests.len());
    }
    let clients: BTreeSet<_> = long.iter().filter_map(|request| request.client).collect();
    assert_eq!(clients.len(), 12, "each kept its one connection");
    // The new address answers, too.
    let mut there = cluster.https().unwrap();
    there.target = (another.parse::<Ipv4Addr>().unwrap(), 443).into();
    assert_eq!(there.connect().unwrap().get("/owa/").unwrap().status, 200);
    // And back: nothing of it is left on any host.
    apply(&cluster.nodes[2], |text| {
        text.replace(
            &format!("ips = [\"{CLUSTER_IP}/24\", \"{another}/24\"]"),
            &format!("ip = \"{CLUSTER_IP}/24\""),
        )
    })
    .unwrap();
    all_have_begun_anew(&mut cluster, 3);
    for node in &cluster.nodes {
        let left = node.footprint().unwrap();
        assert!(!left.iter().any(|line| line.contains(another)), "{}: {left:#?}", node.name());
    }
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn another_mode_is_taken_up_by_nodes_that_serve_and_no_connection_ends() {
    let mut cluster = sharing(2);
    cluster.settle().unwrap();
    let before = processes(&cluster);
    let long = Habit { per_connection: 100_000, pause: Duration::from_millis(50), most: 100_000 };
    let browsers = Browsers::start(&cluster.https().unwrap(), 8, long);
    while browsers.done() < 50 {
        std::thread::sleep(Duration::from_millis(20));
    }
    for (times, from, to) in [(1, "multicast", "unicast"), (2, "unicast", "multicast")] {
        let (from, to) = (format!("mode = {from:?}"), format!("mode = {to:?}"));
        let applied = apply(&cluster.nodes[0], |text| text.replace(&from, &to)).unwrap();
        assert!(applied["renewed"][0].as_str().unwrap().contains("mode"), "{applied}");
        all_have_begun_anew(&mut cluster, times);
        assert_eq!(cluster.https().unwrap().connect().unwrap().get("/owa/").unwrap().status, 200, "{to}");
    }
    assert_eq!(processes(&cluster), before, "neither agents nor proxies are others");
    let requests = browsers.finish().unwrap();
    let lost: Vec<&Request> = requests.iter().filter(|request| request.error.is_some()).collect();
    assert!(lost.is_empty() && requests.len() > 100, "{} of {}: {lost:#?}", lost.len(), requests.len());
    let longest = requests.iter().map(|request| request.ended.since(request.begun)).max();
    println!("another mode, twice: the longest of {} requests took {longest:?}", requests.len());
    let clients: BTreeSet<_> = requests.iter().filter_map(|request| request.client).collect();
    assert_eq!(clients.len(), 8, "each kept its one connection");
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn what_is_published_for_the_first_time_and_not_at_all_any_more_needs_no_restart() {
    let mut cluster = sharing(2);
    let agents =
        |cluster: &Cluster| processes(cluster).into_iter().map(|(agent, _)| agent).collect::<Vec<_>>();
    let before = agents(&cluster);
    let text = cluster.nodes[0].control(&["config", "show"]).unwrap();
    let (nothing, exchange) = text.split_once("[exchange]").unwrap();
    let applied = apply(&cluster.nodes[0], |_| nothing.to_owned()).unwrap();
    let renewed: Vec<&str> =
        applied["renewed"].as_array().unwrap().iter().map(|what| what.as_str().unwrap()).collect();
    assert!(renewed.contains(&"whether anything is published at all"), "{applied}");
    begin_anew(&cluster, 1);
    for node in &mut cluster.nodes {
        node.wait_until("it has no proxy", |status| status.proxy.is_none()).unwrap();
    }
    assert!(cluster.https().unwrap().connect().is_err());
    let nothing = cluster.nodes[1].control(&["config", "show"]).unwrap();
    apply(&cluster.nodes[1], |_| format!("{nothing}\n[exchange]{exchange}")).unwrap();
    all_have_begun_anew(&mut cluster, 2);
    for node in &mut cluster.nodes {
        node.wait_until("its proxy serves", |status| status.proxy.as_ref().is_some_and(|proxy| proxy.ready))
            .unwrap();
    }
    cluster.settle().unwrap();
    for _ in 0..8 {
        assert_eq!(cluster.https().unwrap().connect().unwrap().get("/owa/").unwrap().status, 200);
    }
    assert_eq!(agents(&cluster), before);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}
