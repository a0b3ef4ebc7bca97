//! NTLM by the clients that there are: curl, requests-ntlm, httpx-ntlm. Each logs on once a connection, and stays who it is.

use rollcall_tests::exchange::{DOMAIN, Exchange, User, told};
use rollcall_tests::sys::output;

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
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

fn ask_by_curl(exchange: &Exchange, user: &User) -> Answered {
    let mut curl = exchange.curl().unwrap();
    curl.args(["--ntlm", "--user", &format!("{DOMAIN}\\{}:{}", user.name, user.password)]);
    let text = output(ask_often(&mut curl, user, REQUESTS), None).unwrap();
    let answered = answers_of(&text, user);
    assert_eq!(answered.answers.len(), REQUESTS, "{text}");
    answered
}
