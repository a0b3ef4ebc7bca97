//! A proxy in front of the node, whom it trusts to say whom it speaks for: what one of its clients has opened is not the next one's.

use rollcall_tests::exchange::Exchange;
use rollcall_tests::exchange::acceptor::Demand;
use rollcall_tests::exchange::crowd::{Crowd, Tally};
use rollcall_tests::exchange::front::{self, Introduces};
use rollcall_tests::exchange::haproxy::Reuse;
use rollcall_tests::lab::CLIENT;
use rollcall_tests::report::line;

const USERS: usize = 200;

#[test]
fn clients_of_a_proxy_that_shares_its_connections_are_nobody_but_themselves() {
    let tally = crowd(&["--basic"], "", Reuse::Always, Introduces::InFields);
    line(format!("through a proxy that shares its connections: {tally:?}"));
    assert_eq!((tally.foreign, tally.of_many_users), (0, 0), "{tally:#?}");
    assert!(tally.answers > 2 * USERS as u64 && tally.strangers > USERS as u64, "{tally:#?}");
    assert_eq!(tally.broken, 0, "{tally:#?}");
}

#[test]
fn a_proxy_that_shares_and_says_that_it_does_not_is_found_out() {
    let says = "one_client_per_connection = true";
    let tally = crowd(&["--basic"], says, Reuse::Always, Introduces::InFields);
    line(format!("through a proxy that shares and denies it: {tally:?}"));
    assert!(tally.foreign > 0 && tally.of_many_users > 0, "{tally:#?}");
}

#[test]
fn behind_a_proxy_with_one_client_per_connection_users_log_their_connections_on() {
    let says = "one_client_per_connection = true\nclient_address = \"proxy-protocol\"";
    let tally = crowd(&[], says, Reuse::Never, Introduces::ByHeader);
    line(format!("through a proxy with one client per connection: {tally:?}"));
    let found = [tally.foreign, tally.of_many_users, tally.of_many_clients];
    assert_eq!(found, [0; 3], "{tally:#?}");
    assert!(tally.ntlm + tally.tickets >= USERS as u64 && tally.answers > 2 * USERS as u64, "{tally:#?}");
    assert_eq!([tally.challenged, tally.refused, tally.broken], [0; 3], "{tally:#?}");
}

/// What a crowd sees through haproxy in front, of which the node is told this more.
fn crowd(arguments: &[&str], says: &str, reuse: Reuse, introduces: Introduces) -> Tally {
    let mut exchange = Exchange::raise(USERS).unwrap();
    let proxy = format!("[[trusted_proxy]]\nnetworks = [\"{CLIENT}\"]\n{says}\n[exchange]\n");
    exchange.cluster.rewrite("[exchange]\n", &proxy).unwrap();
    exchange.start_acceptors(Demand::Logon).unwrap();
    exchange.cluster.serve().unwrap();
    let haproxy = front::start(&exchange, reuse, introduces).unwrap();
    let (address, port) = (front::ADDRESS.to_string(), front::PORT.to_string());
    let arguments = [&["--address", &address, "--port", &port], arguments].concat();
    let tally = Crowd::start_with(&exchange, 1, &arguments).unwrap().finish().unwrap();
    drop(haproxy);
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
    tally
}
