//! What operators configure and command beyond the usual, on real nodes: a second path, tests of services, orders for nodes and rules,
//! how nodes come back, how nodes are added and removed, what is published beside the site, clients of HTTP/2, servers that fail or are taken out; and who is kept out. What carries the service runs under load with a capture; what only has to be told or
//! refused does not.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

mod back;
mod checks;
mod http2;
mod mail;
mod newcomers;
mod orders;
mod paths;
mod servers;
mod slow;
mod squatters;
mod switch;
mod tickets;

use rollcall_tests::node::{Cluster, Held, Node, table_of};

/// What every node holds of a port, in the order of priorities.
fn shares(cluster: &Cluster, port: &str) -> Vec<Held> {
    cluster.nodes.iter().map(|node| node.holds_of(port).unwrap()).collect()
}

/// Waits until the node holds so many buckets of a port.
fn wait_until_it_holds(node: &mut Node, port: &str, wanted: impl Fn(u32) -> bool) {
    let what = format!("it holds another share of port {port}");
    node.wait_until(&what, |status| {
        let table = table_of(status, port).unwrap();
        wanted(table.mine + table.arriving)
    })
    .unwrap();
}

/// What `rollcall` says where it does not do what it is told.
fn refusal(node: &Node, order: &[&str]) -> String {
    let run_dir = node.run_dir.to_string_lossy();
    let output = node.rollcall(&[order, &["--run-dir", &run_dir]].concat()).unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert_eq!(output.status.code(), Some(1), "{order:?} on {}: {said}", node.name());
    said
}
