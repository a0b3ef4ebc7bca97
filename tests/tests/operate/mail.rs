//! Mail published to an edge host, which decides by the sender's address: what it learns of it is what the configuration says.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use lb_user::clock::Time;
use lb_user::control::api::ServerStatus;
use rollcall_tests::lab::{CLIENT, CLUSTER_IP, PUBLIC, Plan};
use rollcall_tests::node::{Cluster, PATIENCE};
use rollcall_tests::postfix::{EDGE, Postfix, Upstream};
use rollcall_tests::sys::Namespace;

#[test]
fn an_edge_host_logs_the_senders_own_address_and_does_not_relay_for_the_internet() {
    let (cluster, postfix) = start("proxy-protocol", Upstream::ProxyProtocol);
    let answers = try_to_relay(&cluster.lab.client);
    assert!(answers[3].contains("Relay access denied"), "{answers:?}");
    wait_for(&format!("connect from unknown[{CLIENT}]"), || postfix.log().unwrap());
    // Whom the node asks for its tests is told apart from clients.
    let node = &cluster.nodes[0];
    wait_for(&format!("connect from unknown[{}]", node.place.address), || postfix.log().unwrap());
    wait_for(&format!("\"client\":\"{CLIENT}\""), || node.log_tail());
    wait_for("\"tcp\":\"smtp\",\"farm\":\"smtp\",\"server\":\"edge1\"", || node.log_tail());
    let counted = "rollcall_proxy_tcp_connections_total{service=\"smtp\",cause=\"\"} 1";
    wait_for(counted, || node.control(&["metrics"]).unwrap());
    drop(postfix);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

#[test]
fn an_edge_host_that_sees_the_nodes_address_relays_for_the_internet() {
    let (cluster, postfix) = start("hidden", Upstream::Nobody);
    let answers = try_to_relay(&cluster.lab.client);
    assert!(answers[3].starts_with("250 "), "this is what the refusal of a default warns of: {answers:?}");
    assert!(!postfix.log().unwrap().contains(&CLIENT.to_string()));
    drop(postfix);
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// One node that publishes port 25 of the edge host.
fn start(client_address: &str, upstream: Upstream) -> (Cluster, Postfix) {
    let service = format!(
        "[[rule]]\nports = 25\n[[tcp]]\nname = \"smtp\"\nport = 25\nclient_address = \"{client_address}\"\n\
         servers = [{{ name = \"edge1\", address = \"{EDGE}\" }}]\nhealth = {{ banner = \"220 \", interval = \"500ms\" }}\n"
    );
    let plan = Plan { ports: vec![(25, CLUSTER_IP)], rules: service, ..Plan::light(1) };
    let mut cluster = Cluster::raise(&plan).unwrap();
    let postfix = Postfix::start(&cluster.lab, upstream).unwrap();
    cluster.serve().unwrap();
    let healthy = |server: &ServerStatus| server.name == "edge1" && server.healthy;
    let node = cluster.nodes.first_mut().unwrap();
    node.wait_until("the edge host is healthy", |status| {
        status.proxy.as_ref().is_some_and(|proxy| proxy.servers.iter().any(healthy))
    })
    .unwrap();
    (cluster, postfix)
}

/// As somebody on the internet, asks for mail to be sent elsewhere; the answers to the banner, EHLO, MAIL and RCPT.
fn try_to_relay(client: &Namespace) -> Vec<String> {
    let mut stream = client.enter(|| TcpStream::connect((PUBLIC, 25)).unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
    let mut answer = || answers.find(|line| line.as_bytes().get(3) == Some(&b' ')).unwrap();
    let mut heard = vec![answer()];
    for said in ["EHLO sender.test", "MAIL FROM:<a@sender.test>", "RCPT TO:<b@elsewhere.test>", "QUIT"] {
        stream.write_all(format!("{said}\r\n").as_bytes()).unwrap();
        heard.push(answer());
    }
    heard
}

/// Logs are written by others, who may lag behind.
fn wait_for(part: &str, log: impl Fn() -> String) {
    let deadline = Time::now() + PATIENCE;
    while !log().contains(part) {
        assert!(Time::now() < deadline, "{part:?} was never logged: {}", log());
        thread::sleep(Duration::from_millis(20));
    }
}
