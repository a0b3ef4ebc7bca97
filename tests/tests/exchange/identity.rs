//! 200 users at once, who ask singly, in parallel, pipelined and with bodies, and give up in the middle of answers: each is
//! answered as themselves, also while the configuration changes, and while servers, the proxy, its worker and the agent come and go. The same crowd finds out a proxy that shares its
//! server connections.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use lb_user::control::api::Status;
use rollcall_tests::exchange::Exchange;
use rollcall_tests::exchange::acceptor::{Acceptor, Demand};
use rollcall_tests::exchange::crowd::{Crowd, Tally};
use rollcall_tests::exchange::haproxy::{self, Reuse};
use rollcall_tests::lab::{PUBLIC_NAME, SERVERS};
use rollcall_tests::report::line;
use rollcall_tests::sys::{output, signal};
use rustix::process::Signal;

const USERS: usize = 200;

#[test]
fn every_answer_is_to_who_asked_over_a_server_connection_of_their_own() {
    let exchange = Exchange::start(USERS).unwrap();
    let tally = Crowd::start(&exchange, 2).unwrap().finish().unwrap();
    line(format!("through the node: {tally:?}"));
    assert_nobody_is_another(&tally);
    let troubles = [tally.challenged, tally.refused, tally.broken];
    assert_eq!(troubles, [0; 3], "challenged, refused, broken: {tally:#?}");
    assert_busy(&tally);
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

#[test]
fn a_reload_ends_no_connection_and_makes_nobody_another() {
    let mut exchange = Exchange::start(USERS).unwrap();
    let before = exchange.cluster.node("arr1").status().unwrap();
    let crowd = Crowd::start(&exchange, 1).unwrap();
    let limits = |fields: u32| format!("[limits]\nhead_fields = {fields}\n");
    exchange.cluster.rewrite("[cluster]\n", &format!("{}\n[cluster]\n", limits(150))).unwrap();
    let mut servers = SERVERS;
    for round in 0..8 {
        // Limits, and the servers in another order: nothing goes by a server's place there.
        exchange.cluster.rewrite(&limits(150 + round), &limits(151 + round)).unwrap();
        turn_servers(&exchange, servers);
        servers.reverse();
        let said = exchange.cluster.node("arr1").control(&["reload"]).unwrap();
        assert!(said.contains("changed: ") && !said.contains("nothing"), "{said}");
        thread::sleep(Duration::from_secs(1));
    }
    what_is_wrong_changes_nothing(&mut exchange);
    let tally = crowd.finish().unwrap();
    line(format!("while the configuration changes: {tally:?}"));
    assert_nobody_is_another(&tally);
    let troubles = [tally.challenged, tally.refused, tally.broken];
    assert_eq!(troubles, [0; 3], "challenged, refused, broken: {tally:#?}");
    assert_busy(&tally);
    let after = exchange.cluster.node("arr1").status().unwrap();
    let worker = |status: &Status| status.proxy.as_ref().map(|proxy| (proxy.pid, proxy.restarts));
    assert_eq!(worker(&before), worker(&after));
    assert_ne!(before.configuration.hash, after.configuration.hash);
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

/// Errors, and what needs a restart, are named and leave in force what is; a signal applies what is right again.
fn what_is_wrong_changes_nothing(exchange: &mut Exchange) {
    let before = exchange.cluster.node("arr1").status().unwrap().configuration;
    for (from, to, why) in [
        ("head_fields = 158", "head_fields = 1", "head_fields"),
        ("head_fields = 1\n", "head_fields = 158\n[[rule]]\nports = 8443\n", "needs a restart"),
    ] {
        exchange.cluster.rewrite(from, to).unwrap();
        let error = exchange.cluster.node("arr1").control(&["reload"]).unwrap_err();
        assert!(format!("{error:#}").contains(why), "{error:#}");
        let now = exchange.cluster.node("arr1").status().unwrap().configuration;
        assert_eq!((&now.hash, now.applied), (&before.hash, before.applied));
        assert!(now.refused.is_some_and(|refused| refused.contains(why)));
    }
    exchange.cluster.rewrite("head_fields = 158\n[[rule]]\nports = 8443\n", "head_fields = 159\n").unwrap();
    let node = exchange.cluster.node("arr1");
    signal(node.status().unwrap().pid, Signal::HUP);
    let applied =
        |status: &Status| status.configuration.hash != before.hash && status.configuration.refused.is_none();
    node.wait_until("the configuration is applied", applied).unwrap();
}

/// Has the servers, which stand in this order in the configuration, stand in the other.
fn turn_servers(exchange: &Exchange, servers: [(&str, Ipv4Addr); 2]) {
    let [first, second] =
        servers.map(|(name, address)| format!("{{ name = {name:?}, address = \"{address}\" }}"));
    exchange.cluster.rewrite(&format!("{first}, {second}"), &format!("{second}, {first}")).unwrap();
}

#[test]
fn nobody_becomes_another_while_servers_and_proxies_come_and_go() {
    let mut exchange = Exchange::start(USERS).unwrap();
    let crowd = Crowd::start(&exchange, 1).unwrap();
    for round in 0..2 {
        for (server, _) in SERVERS {
            thread::sleep(Duration::from_secs(2));
            restart_acceptor(&mut exchange, server, round);
        }
        thread::sleep(Duration::from_secs(2));
        exchange.cluster.node("arr1").control(&["upgrade"]).unwrap();
        thread::sleep(Duration::from_secs(2));
        exchange.cluster.node("arr1").control(&["reload", "--replace-worker"]).unwrap();
        thread::sleep(Duration::from_secs(2));
        exchange.cluster.node("arr1").kill_proxy().unwrap();
    }
    let tally = crowd.finish().unwrap();
    line(format!("while all comes and goes: {tally:?}"));
    assert_nobody_is_another(&tally);
    // A logon that is lost takes its client connection along: nobody goes on over another server connection.
    assert_eq!(tally.challenged, 0, "{tally:#?}");
    assert_busy(&tally);
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

#[test]
fn where_connections_are_shared_nobody_who_logs_on_becomes_another_either() {
    let mut exchange = Exchange::raise(USERS).unwrap();
    exchange.share_connections().unwrap();
    exchange.start_acceptors(Demand::Logon).unwrap();
    exchange.cluster.serve().unwrap();
    // What needs no logon goes over what the last one left: of six clients not each has a connection of its own.
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        let mut curl = exchange.curl().unwrap();
        curl.args(["--output", "/dev/null", "--write-out", "%{http_code} %header{x-connection}"]);
        curl.arg(format!("https://{PUBLIC_NAME}/owa/healthcheck.htm"));
        seen.insert(output(&mut curl, None).unwrap());
    }
    assert!(seen.iter().all(|answer| answer.starts_with("200 ")), "{seen:?}");
    assert!(seen.len() <= SERVERS.len(), "nothing is shared: {seen:?}");
    let tally = Crowd::start(&exchange, 2).unwrap().finish().unwrap();
    line(format!("through a node that shares: {tally:?}"));
    assert_nobody_is_another(&tally);
    let troubles = [tally.challenged, tally.refused, tally.broken];
    assert_eq!(troubles, [0; 3], "challenged, refused, broken: {tally:#?}");
    assert_busy(&tally);
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

#[test]
fn the_crowd_finds_out_a_proxy_that_shares_its_server_connections() {
    let shared = through_haproxy(Reuse::Always);
    line(format!("through haproxy that shares: {shared:?}"));
    assert!(shared.foreign > 0, "nobody was answered as somebody else: {shared:#?}");
    assert!(shared.of_many_users > 0, "no server connection was of two users: {shared:#?}");
}

#[test]
fn the_crowd_finds_nothing_at_a_proxy_that_does_not_share() {
    let own = through_haproxy(Reuse::Never);
    line(format!("through haproxy that does not share: {own:?}"));
    assert_nobody_is_another(&own);
    assert_busy(&own);
}

fn assert_nobody_is_another(tally: &Tally) {
    let found = [tally.foreign, tally.of_many_users, tally.of_many_clients];
    assert_eq!(found, [0; 3], "answers to others, connections of many users, of many clients: {tally:#?}");
}

/// The crowd did all that it is there for. How much of it chance decides, within bounds that no run comes near.
fn assert_busy(tally: &Tally) {
    let logons = 2 * USERS as u64;
    assert!(tally.ntlm + tally.tickets >= logons, "{tally:#?}");
    assert!(tally.answers > 2 * logons, "{tally:#?}");
    for done in [tally.ntlm, tally.tickets, tally.pipelined, tally.uploads] {
        assert!(done > logons / 4, "{tally:#?}");
    }
    assert!(tally.aborted > 0, "{tally:#?}");
}

/// The server falls, with the logons of its connections, and is back a moment later.
fn restart_acceptor(exchange: &mut Exchange, server: &str, round: usize) {
    exchange.acceptors.retain(|acceptor| acceptor.server != server);
    thread::sleep(Duration::from_secs(1));
    let certificates = exchange.cluster.certificates.clone();
    let called = format!("{server}.{round}");
    let acceptor = Acceptor::start(exchange, server, &called, &certificates, Demand::Logon).unwrap();
    exchange.acceptors.push(acceptor);
}

fn through_haproxy(reuse: Reuse) -> Tally {
    let mut exchange = Exchange::raise(USERS).unwrap();
    exchange.start_acceptors(Demand::Logon).unwrap();
    let haproxy = haproxy::start(&exchange, reuse).unwrap();
    let tally = Crowd::start(&exchange, 1).unwrap().finish().unwrap();
    drop(haproxy);
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
    tally
}
