//! Extended Protection: a client's logon is bound to the certificate that it was shown (tls-server-end-point, RFC 5929), and the server
//! accepts it where that is its own. So it works through a proxy exactly where both present the same certificate.

use std::fs;

use lb_user::control::api::Status;
use rollcall_tests::backend::Certificates;
use rollcall_tests::exchange::acceptor::{Acceptor, Demand};
use rollcall_tests::exchange::{Exchange, told};
use rollcall_tests::lab::SERVERS;

use crate::{Answered, assert_all_themselves};

#[test]
fn bindings_hold_where_the_site_presents_the_servers_certificate() {
    let mut exchange = Exchange::raise(4).unwrap();
    exchange.start_acceptors(Demand::Bindings).unwrap();
    exchange.cluster.serve().unwrap();
    assert_all_themselves(&log_on(&exchange, &["requests-ntlm"]));
    // A resumed session shows no certificate, and is bound to that of the session before.
    assert_all_themselves(&log_on(&exchange, &["resumption"]));
    // The servers do look: who sends no bindings is refused.
    assert_all_refused(&log_on(&exchange, &["requests-ntlm", "--no-bindings"]));
    assert_all_refused(&log_on(&exchange, &["httpx-ntlm"]));
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

#[test]
fn bindings_to_another_certificate_than_the_servers_are_refused() {
    let mut exchange = Exchange::raise(4).unwrap();
    let folder = exchange.cluster.lab.folder().join("another");
    fs::create_dir(&folder).unwrap();
    let another = Certificates::make(&folder).unwrap();
    for (server, _) in SERVERS {
        let acceptor = Acceptor::start(&exchange, server, server, &another, Demand::Bindings).unwrap();
        exchange.acceptors.push(acceptor);
    }
    exchange.cluster.rewrite("[exchange]\n", "[exchange]\nverify = \"none\"\n").unwrap();
    exchange.cluster.serve().unwrap();
    assert_all_refused(&log_on(&exchange, &["requests-ntlm"]));
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

#[test]
fn bindings_hold_after_a_live_replacement_of_the_certificate() {
    let mut exchange = Exchange::raise(4).unwrap();
    exchange.start_acceptors(Demand::Bindings).unwrap();
    exchange.cluster.serve().unwrap();
    assert_all_themselves(&log_on(&exchange, &["requests-ntlm"]));
    let (old, renewed) = (keep_old(&exchange), renew(&exchange));
    exchange.cluster.node("arr1").control(&["reload"]).unwrap();
    // The servers still have the old one, and are accepted with it; clients are bound to the new one.
    presents(&mut exchange, "the site's before");
    assert_all_refused(&log_on(&exchange, &["requests-ntlm"]));
    start_with(&mut exchange, "renewed", &renewed);
    presents(&mut exchange, "the site's");
    assert_all_themselves(&log_on(&exchange, &["requests-ntlm"]));
    assert_all_themselves(&log_on(&exchange, &["resumption"]));
    // Now that all servers have the new one, the old one is accepted no more.
    start_with(&mut exchange, "returned", &old);
    let node = exchange.cluster.node("arr1");
    let refused = node.wait_until("the servers are refused", |status| {
        status.proxy.as_ref().is_some_and(|proxy| proxy.servers.iter().all(|server| !server.healthy))
    });
    refused.unwrap();
    presents(&mut exchange, "the site's before");
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

/// Waits until every server presents the certificate of this description.
fn presents(exchange: &mut Exchange, whose: &str) {
    let node = exchange.cluster.node("arr1");
    let all = |status: &Status| {
        let servers = status.proxy.iter().flat_map(|proxy| &proxy.servers);
        let mut presented =
            servers.map(|server| server.presents.as_ref().map(|presents| presents.whose.as_str()));
        presented.all(|found| found == Some(whose))
    };
    node.wait_until(&format!("every server presents {whose}"), all).unwrap();
}

/// Puts a new certificate in the place of the site's; gives it as the servers may have it.
fn renew(exchange: &Exchange) -> Certificates {
    let folder = exchange.cluster.lab.folder().join("renewed");
    fs::create_dir(&folder).unwrap();
    let renewed = Certificates::make(&folder).unwrap();
    let site = &exchange.cluster.certificates;
    fs::copy(&renewed.certificate, &site.certificate).unwrap();
    fs::copy(&renewed.key, &site.key).unwrap();
    renewed
}

/// The site's certificate in files of their own.
fn keep_old(exchange: &Exchange) -> Certificates {
    let folder = exchange.cluster.lab.folder().join("old");
    fs::create_dir(&folder).unwrap();
    exchange.cluster.certificates.copy_to(&folder).unwrap()
}

/// Has every server present this certificate.
fn start_with(exchange: &mut Exchange, what: &str, certificates: &Certificates) {
    exchange.acceptors.clear();
    for (server, _) in SERVERS {
        let called = format!("{server}.{what}");
        let acceptor = Acceptor::start(exchange, server, &called, certificates, Demand::Bindings).unwrap();
        exchange.acceptors.push(acceptor);
    }
}

fn log_on(exchange: &Exchange, library: &[&str]) -> Vec<Answered> {
    let mut clients = exchange.client("ntlm_clients.py").unwrap();
    told(clients.arg("--library").args(library)).unwrap()
}

/// By the servers, and not by what is before them.
fn assert_all_refused(answered: &[Answered]) {
    assert!(!answered.is_empty());
    for Answered { user, answers } in answered {
        assert!(!answers.is_empty(), "{user} was not answered");
        let refused = answers.iter().all(|answer| answer.status == 401 && answer.user.is_empty());
        assert!(refused, "{user}: {answers:#?}");
    }
}
