//! Kerberos for real: the ticket comes with a connection's first request, so that no 401 ever warns a proxy that the connection is
//! about to become somebody's. Apache binds the logon to the connection, as IIS does.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use rollcall_tests::exchange::haproxy::{self, Reuse};
use rollcall_tests::exchange::kerberos::Realm;
use rollcall_tests::exchange::{Exchange, User};
use rollcall_tests::sys::output;

use crate::{Answered, answers_of, ask_often, assert_all_themselves};

const USERS: usize = 12;
/// Of each user, over one connection.
const REQUESTS: usize = 30;

#[test]
fn who_sends_a_ticket_with_the_first_request_stays_who_they_are() {
    let mut exchange = Exchange::raise(USERS).unwrap();
    let realm = Realm::start(&exchange).unwrap();
    let servers = realm.start_servers(&exchange).unwrap();
    exchange.cluster.serve().unwrap();
    assert_all_themselves(&ask_all(&exchange, &realm));
    exchange.users.iter().for_each(|user| assert_logged_on_unasked(&exchange, user));
    // Theirs were the connections, and are nobody's after them.
    let stranger = ask_without_ticket(&exchange);
    let refused = stranger.answers.iter().all(|answer| answer.status == 401 && answer.user.is_empty());
    assert!(refused, "{stranger:#?}");
    drop((servers, realm));
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

#[test]
fn a_proxy_that_shares_its_server_connections_gives_a_users_ticket_to_who_has_none() {
    let exchange = Exchange::raise(USERS).unwrap();
    let realm = Realm::start(&exchange).unwrap();
    let servers = realm.start_servers(&exchange).unwrap();
    let haproxy = haproxy::start(&exchange, Reuse::Always).unwrap();
    ask_all(&exchange, &realm);
    let stranger = ask_without_ticket(&exchange);
    let leaked = stranger.answers.iter().any(|answer| answer.status == 200 && !answer.user.is_empty());
    assert!(leaked, "who has no ticket was answered as nobody: {stranger:#?}");
    drop((haproxy, servers, realm));
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

/// All users ask at the same time.
fn ask_all(exchange: &Exchange, realm: &Realm) -> Vec<Answered> {
    let asking: Vec<_> = exchange.users.iter().map(|user| (user, ask(exchange, realm, user))).collect();
    let answered = asking.into_iter().map(|(user, curl)| {
        let output = curl.wait_with_output().unwrap();
        let answered = answers_of(&String::from_utf8(output.stdout).unwrap(), user);
        assert_eq!(answered.answers.len(), REQUESTS, "{}", String::from_utf8_lossy(&output.stderr));
        answered
    });
    answered.collect()
}

fn ask(exchange: &Exchange, realm: &Realm, user: &User) -> Child {
    let mut curl = realm.curl(exchange, user).unwrap();
    curl.arg("--dump-header").arg(heads(exchange, user));
    let curl = ask_often(&mut curl, user, REQUESTS).stdin(Stdio::null());
    curl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// By somebody who is not of the realm, after the others.
fn ask_without_ticket(exchange: &Exchange) -> Answered {
    let stranger = User { name: "stranger".to_owned(), password: String::new() };
    let mut curl = exchange.curl().unwrap();
    let answered = answers_of(&output(ask_often(&mut curl, &stranger, REQUESTS), None).unwrap(), &stranger);
    assert_eq!(answered.answers.len(), REQUESTS, "{answered:#?}");
    answered
}

/// The file of all the responses' heads.
fn heads(exchange: &Exchange, user: &User) -> PathBuf {
    exchange.cluster.lab.folder().join(format!("heads-{}", user.name))
}

/// The first request brought the ticket, nobody had asked for it, and no later one brought any.
fn assert_logged_on_unasked(exchange: &Exchange, user: &User) {
    let text = fs::read_to_string(heads(exchange, user)).unwrap().to_lowercase();
    assert!(!text.contains(" 401 "), "{text}");
    let heads: Vec<_> = text.trim_end().split("\r\n\r\n").collect();
    assert_eq!(heads.len(), REQUESTS, "{text}");
    let with_ticket: Vec<_> =
        heads.iter().map(|head| head.contains("x-carried-authorization: yes")).collect();
    assert_eq!(with_ticket.iter().position(|with| *with), Some(0), "{text}");
    assert_eq!(with_ticket.iter().filter(|with| **with).count(), 1, "{text}");
}
