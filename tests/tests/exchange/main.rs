//! Nobody is answered as somebody else, and what clients and servers say to each other arrives as it was said: real clients through the
//! real agent, at servers that log connections on by NTLM and by Kerberos, or speak Exchange's protocols. Each test has a lab of its own,
//! most with one node.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

mod clients;
mod extended_protection;
mod front;
mod identity;
mod kerberos;
mod long;
mod mapi;
mod ntlm;
mod pinned;
mod uploads;

use std::collections::BTreeMap;
use std::process::Command;

use rollcall_tests::exchange::User;
use rollcall_tests::lab::PUBLIC_NAME;
use serde::Deserialize;

/// What the program ntlm_clients.py tells of a user.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    user: String,
    answers: Vec<Answer>,
}

/// An answer to a user.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    status: u16,
    /// As whom the server knows the connection.
    user: String,
    /// The server's name for it.
    connection: String,
    /// Whether it is to this very request.
    own: bool,
}

/// Everybody was answered as themselves, over a server connection of their own.
fn assert_all_themselves(answered: &[Answered]) {
    let mut connections: BTreeMap<&str, &str> = BTreeMap::new();
    for Answered { user, answers } in answered {
        assert!(!answers.is_empty(), "{user} was not answered");
        for answer in answers {
            assert_eq!((answer.status, &answer.user, answer.own), (200, user, true), "{user}: {answers:#?}");
            let other = connections.insert(&answer.connection, user).filter(|other| other != user);
            assert_eq!(other, None, "{} is also {user}'s", answer.connection);
        }
        let first = &answers[0].connection;
        assert!(answers.iter().all(|answer| answer.connection == *first), "{user} moved: {answers:#?}");
    }
}

/// Has curl ask so many times over one connection, and print a line for each answer: of each request the last.
fn ask_often<'a>(curl: &'a mut Command, user: &User, times: usize) -> &'a mut Command {
    curl.args(["--header", &format!("X-Nonce: {}", user.name), "--output", "/dev/null", "--write-out"]);
    curl.arg("%{http_code} %header{x-connection} %header{x-nonce} %header{x-user}\n");
    curl.arg(format!("https://{PUBLIC_NAME}/EWS/echo?n=[1-{times}]"))
}

/// What those lines say.
fn answers_of(text: &str, user: &User) -> Answered {
    let answers = text.lines().map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        let [status, connection, nonce, name] = words[..] else { panic!("curl printed {text}") };
        Answer {
            status: status.parse().unwrap(),
            user: name.to_owned(),
            connection: connection.to_owned(),
            own: nonce == user.name,
        }
    });
    Answered { user: user.name.clone(), answers: answers.collect() }
}
