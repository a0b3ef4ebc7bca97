//! TLS sessions: a client that comes to the other node goes on with the session that it has.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use rollcall_tests::lab::Plan;
use rollcall_tests::node::Cluster;

use crate::shares;

#[test]
fn a_ticket_of_one_node_resumes_on_the_other() {
    let cluster = Cluster::start_on(&Plan::light(2)).unwrap();
    let (https, held) = (cluster.https().unwrap(), shares(&cluster, "443"));
    let mut seen = BTreeSet::new();
    for number in 0..16 {
        let mut connection = https.connect().unwrap();
        assert_eq!(connection.resumed(), number > 0, "connection {number}");
        let client = SocketAddr::new(https.source, connection.port);
        seen.insert(held.iter().position(|held| held.has_client(client, cluster.seed)).unwrap());
        // The tickets come with the first answer.
        assert_eq!(connection.get("/owa/").unwrap().status, 200);
    }
    assert_eq!(seen.len(), 2, "only one node was met");
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}
