//! What a client is told of the server connection that its logon belongs to: when it ends, and what the server thinks of an upload
//! before any of it was sent.

use rollcall_tests::exchange::{Exchange, told};
use serde::Deserialize;

use crate::uploads::{BYTES, Leg};

/// As the program idle.py tells.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Idle {
    /// The status of the request that logged on.
    logon: u16,
    /// Whether the client's connection ended with the server's.
    closed: bool,
    /// The status of the next request, if it did not.
    next: u16,
}

#[test]
fn a_server_connection_that_ends_idle_ends_its_client_connection() {
    let exchange = Exchange::start(1).unwrap();
    let idle: Idle = told(&mut exchange.client("idle.py").unwrap()).unwrap();
    assert_eq!(idle, Idle { logon: 200, closed: true, next: 0 });
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

#[test]
fn expect_is_the_servers_to_answer() {
    let exchange = Exchange::start(1).unwrap();
    let firsts = || {
        let mut upload = exchange.client("upload.py").unwrap();
        let legs: Vec<Leg> = told(upload.args(["--bytes", &BYTES.to_string(), "--expect"])).unwrap();
        legs.iter().map(|leg| leg.first).collect::<Vec<_>>()
    };
    // Where a busy server thinks for more than a second, the proxy has told the client to go on.
    let tries: Vec<_> = (0..3).map(|_| firsts()).collect();
    assert!(tries.contains(&vec![401, 401, 100, 100]), "{tries:?}");
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}
