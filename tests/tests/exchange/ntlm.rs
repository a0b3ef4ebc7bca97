//! NTLM by the clients that there are: curl, requests-ntlm, httpx-ntlm. Each logs on once a connection, and stays who it is.

use std::thread;
use std::time::Duration;

use lb_user::clock::Time;
use rollcall_tests::exchange::acceptor::Demand;
use rollcall_tests::exchange::{DOMAIN, Exchange, User, told};
use rollcall_tests::sys::output;
use serde::Deserialize;

use crate::{Answered, answers_of, ask_often, assert_all_themselves};

const USERS: usize = 8;
/// Of each user, over one connection.
const REQUESTS: usize = 6;

#[test]
fn clients_log_on_once_a_connection_and_stay_who_they_are() {
    let exchange = Exchange::start(USERS).unwrap();
    for library in ["requests-ntlm", "httpx-ntlm"] {
        let mut clients = exchange.client("ntlm_clients.py").unwrap();
        let answered: Vec<Answered> = told(clients.args(["--library", library])).unwrap();
        assert_eq!(answered.len(), USERS, "{library}");
        assert_all_themselves(&answered);
    }
    let by_curl: Vec<_> = exchange.users.iter().map(|user| ask_by_curl(&exchange, user)).collect();
    assert_all_themselves(&by_curl);
    assert_logged(&exchange);
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

#[test]
fn a_wrong_password_is_refused_by_the_server_and_leaves_the_connection_nobodys() {
    let exchange = Exchange::start(1).unwrap();
    let wrong = User { password: "another".to_owned(), ..exchange.users[0].clone() };
    let Answered { answers, .. } = ask_by_curl(&exchange, &wrong);
    for answer in answers {
        assert_eq!((answer.status, answer.user.as_str()), (401, ""));
    }
    let logged = logged(&exchange, 401, REQUESTS);
    assert!(logged.iter().all(|line| line.status == 401 && line.user.is_empty()), "{logged:?}");
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

/// It is the user from that client who is refused: neither the user from elsewhere, nor others from there.
#[test]
fn who_guesses_a_password_is_refused_and_nobody_else() {
    let mut exchange = Exchange::raise(2).unwrap();
    let protection = "[protection.logons]\nenabled = true\nslow_after = 2\nfirst_delay = \"100ms\"\n\
                      longest_delay = \"100ms\"\nrefuse_after = 4\n[exchange]\n";
    exchange.cluster.rewrite("[exchange]\n", protection).unwrap();
    exchange.start_acceptors(Demand::Logon).unwrap();
    exchange.cluster.serve().unwrap();
    let [user, other] = [0, 1].map(|number| exchange.users[number].clone());
    let wrong = User { password: "another".to_owned(), ..user.clone() };
    let statuses = |answered: Answered| -> Vec<u16> {
        answered.answers.into_iter().map(|answer| answer.status).collect()
    };
    assert_eq!(statuses(ask_by_curl(&exchange, &wrong)), [401, 401, 401, 401, 429, 429]);
    assert_eq!(statuses(ask_by_curl(&exchange, &user)), [429; REQUESTS], "the right password comes too late");
    assert_eq!(statuses(ask_by_curl(&exchange, &other)), [200; REQUESTS]);
    let told = |text: &str| text.starts_with("logons from 203.0.113.") && text.contains("a user from there");
    let deadline = Time::now() + Duration::from_secs(10);
    loop {
        let events = exchange.cluster.node("arr1").events().unwrap();
        if events.iter().any(|event| event.kind == "logons-refused" && told(&event.text)) {
            break;
        }
        assert!(Time::now() < deadline, "nobody was told: {events:#?}");
        thread::sleep(Duration::from_millis(50));
    }
    let elsewhere = exchange.cluster.lab.client_address().unwrap().to_string();
    assert_eq!(statuses(ask_by_curl_from(&exchange, &user, &["--interface", &elsewhere])), [200; REQUESTS]);
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

/// A line of the access log, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Logged {
    status: u16,
    #[serde(default)]
    user: String,
}

/// Whatever was answered has its user in the log, though only a connection's first requests say who that is.
fn assert_logged(exchange: &Exchange) {
    let wanted = 3 * REQUESTS * exchange.users.len();
    let logged = logged(exchange, 200, wanted);
    for user in &exchange.users {
        let name = format!("{DOMAIN}\\{}", user.name);
        let answered = logged.iter().filter(|line| line.status == 200 && line.user == name).count();
        assert_eq!(answered, 3 * REQUESTS, "requests of {name} in the log: {logged:?}");
    }
    let nameless = logged.iter().filter(|line| line.status == 200 && line.user.is_empty());
    assert_eq!(nameless.count(), 0, "{logged:?}");
}

/// The log, once it has so many requests with that status.
fn logged(exchange: &Exchange, status: u16, requests: usize) -> Vec<Logged> {
    let deadline = Time::now() + Duration::from_secs(10);
    loop {
        let logged: Vec<Logged> = exchange.cluster.nodes[0].requests().unwrap();
        if logged.iter().filter(|line| line.status == status).count() >= requests {
            return logged;
        }
        assert!(Time::now() < deadline, "only these requests were logged: {logged:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn ask_by_curl(exchange: &Exchange, user: &User) -> Answered {
    ask_by_curl_from(exchange, user, &[])
}

fn ask_by_curl_from(exchange: &Exchange, user: &User, from: &[&str]) -> Answered {
    let mut curl = exchange.curl().unwrap();
    curl.args(from);
    curl.args(["--ntlm", "--user", &format!("{DOMAIN}\\{}:{}", user.name, user.password)]);
    let text = output(ask_often(&mut curl, user, REQUESTS), None).unwrap();
    let answered = answers_of(&text, user);
    assert_eq!(answered.answers.len(), REQUESTS, "{text}");
    answered
}
