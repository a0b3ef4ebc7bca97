//! Differential framing: no HTTP/1 message that crosses the proxy has two interpretations, nor any that was HTTP/2 before (`http2`).
//!
//! What is malformed or ambiguous (`corpus`) is sent to the proxy, to nginx and to haproxy, each before a server that keeps every byte
//! (`lane`, `backend`). What crossed has to be strict (`strict`), and nginx, apache, node and h11 (`readers`) have to find the same
//! requests in it (`judge`). A relay that forwards everything is found out by the same means. Needs the programs that
//! `cargo xtask setup` installs, and nothing but loopback.

#![expect(clippy::unwrap_used, reason = "all of this is a test, and tests panic")]

mod backend;
#[path = "../proxy/client.rs"]
#[allow(dead_code, reason = "the proxy tests' own, of which this needs the TLS alone")]
mod client;
mod corpus;
#[path = "../../src/proxy/http2/tests/frames.rs"]
#[allow(dead_code, reason = "the proxy's own tests', of which this needs some")]
mod frames;
mod http2;
mod judge;
mod lane;
mod program;
mod readers;
#[path = "../proxy/setup.rs"]
#[allow(dead_code, reason = "the proxy tests' own, of which this needs some")]
mod setup;
mod strict;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use crate::corpus::responses::Answer;
use crate::corpus::{CANARY, Case, NAME, responses};
use crate::lane::{Seen, Subject};
use crate::readers::{Client, Reader};
use crate::strict::Request;
use crate::table::Row;

#[tokio::test(flavor = "multi_thread")]
async fn no_request_that_crosses_the_proxy_has_two_readings() {
    let (cases, readers) = (corpus::requests(), Reader::all().await);
    assert!(cases.len() >= 300, "{}", cases.len());
    let faults = faults(&Subject::ours(&BTreeMap::new()).await, &cases, &readers).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_forwards_everything_is_found_out() {
    let (cases, readers) = (corpus::requests(), Reader::all().await);
    let relay = Subject::relay(&BTreeMap::new()).await;
    let found = faults(&relay, &cases, &readers).await;
    for (kind, least) in
        [("forwarded what is no HTTP", 100), ("forwarded both lengths", 5), ("a request was smuggled", 5)]
    {
        let count = found.iter().filter(|fault| fault.contains(kind)).count();
        assert!(count >= least, "{kind}: {count}");
    }
    let mut differ = 0;
    for seen in send(&relay, &cases).await {
        for stream in &seen.server {
            let mut readings = Vec::new();
            for reader in &readers {
                readings.push(reader.read(stream).await);
            }
            differ += usize::from(judge::differ(&readings));
        }
    }
    assert!(differ >= 5, "only {differ} streams are read otherwise by one server than by another");
    let answers = responses::responses();
    let seen = ask(&Subject::relay(&script(&answers)).await, &answers).await;
    let found = response_faults(&answers, &seen);
    assert!(found.iter().any(|fault| fault.contains("poisoned")), "{}", found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_response_that_crosses_the_proxy_has_two_readings() {
    let cases = responses::responses();
    assert!(cases.len() >= 60, "{}", cases.len());
    let seen = ask(&Subject::ours(&script(&cases)).await, &cases).await;
    let mut faults = response_faults(&cases, &seen);
    let client = Client::start().await;
    for (case, seen) in cases.iter().zip(&seen) {
        let fault = judge::read_by_client(case.method, seen, &client).await;
        faults.extend(fault.map(|fault| described(case.family, &case.name, &fault, seen)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_http2_request_becomes_another_one_of_http1() {
    let (cases, readers) = (corpus::http2::cases(), Reader::all().await);
    assert!(cases.len() >= 80, "{}", cases.len());
    let mut faults = Vec::new();
    for (case, outcome) in cases.iter().zip(http2::Subject::ours().await.send_all(&cases).await) {
        let mut found = judge::forwarded(&outcome.seen);
        for stream in &outcome.seen.server {
            found.extend(judge::read_alike(stream, &readers).await);
        }
        if !outcome.canary && !outcome.ended {
            found.push("the canary was not answered".to_owned());
        }
        if case.family == "HTTP/2: plain requests" && outcome.told != "200" {
            found.push(format!("{} for a plain request", outcome.told));
        }
        faults.extend(found.iter().map(|fault| described(case.family, &case.name, fault, &outcome.seen)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_verdicts_is_up_to_date() {
    let rows = [request_rows().await, response_rows().await, http2_rows().await].concat();
    let names: BTreeSet<_> = rows.iter().map(|row| (row.family, &row.name)).collect();
    assert_eq!(names.len(), rows.len(), "every case has a name of its own");
    if std::env::var_os("ROLLCALL_WRITE_TABLE").is_some() {
        table::write(&rows);
    }
    let outdated = table::outdated(&rows);
    assert!(
        outdated.is_empty(),
        "docs/framing.md lacks these; hint: ROLLCALL_WRITE_TABLE=1 cargo test -p lb-user --test framing table\n{}",
        outdated.join("\n")
    );
}

async fn faults(subject: &Subject, cases: &[Case], readers: &[Reader]) -> Vec<String> {
    let mut faults = Vec::new();
    for (case, seen) in cases.iter().zip(send(subject, cases).await) {
        let found = judge::request(case, &seen, readers).await;
        faults.extend(found.iter().map(|fault| described(case.family, &case.name, fault, &seen)));
    }
    faults
}

fn response_faults(cases: &[responses::Case], seen: &[Seen]) -> Vec<String> {
    let faults = |(number, (case, seen)): (usize, (&responses::Case, &Seen))| {
        let faults = judge::response(case, &next(number), seen);
        faults.iter().map(|fault| described(case.family, &case.name, fault, seen)).collect::<Vec<_>>()
    };
    cases.iter().zip(seen).enumerate().flat_map(faults).collect()
}

fn described(family: &str, name: &str, fault: &str, seen: &Seen) -> String {
    let text = |bytes: &[u8]| corpus::shown(&String::from_utf8_lossy(bytes));
    let server: Vec<_> = seen.server.iter().map(|stream| text(stream)).collect();
    format!("{family}, {name}: {fault}\n    client: {}\n    server: {server:?}", text(&seen.client))
}

/// Each case, and the canary behind it.
async fn send(subject: &Subject, cases: &[Case]) -> Vec<Seen> {
    let with_canary = |case: &Case| [&case.bytes, CANARY.as_bytes()].concat();
    subject.send_all(cases.iter().map(with_canary).collect()).await
}

async fn request_rows() -> Vec<Row> {
    let (cases, script) = (corpus::requests(), BTreeMap::new());
    let subjects = tokio::join!(Subject::ours(&script), Subject::nginx(&script), Subject::haproxy(&script));
    let seen = tokio::join!(send(&subjects.0, &cases), send(&subjects.1, &cases), send(&subjects.2, &cases));
    let row = |(number, case): (usize, &Case)| Row {
        family: case.family,
        name: case.name.clone(),
        ours: judge::request_verdict(case, &seen.0[number]),
        nginx: judge::request_verdict(case, &seen.1[number]),
        haproxy: judge::request_verdict(case, &seen.2[number]),
    };
    cases.iter().enumerate().map(row).collect()
}

async fn response_rows() -> Vec<Row> {
    let cases = responses::responses();
    let script = script(&cases);
    let subjects = tokio::join!(Subject::ours(&script), Subject::nginx(&script), Subject::haproxy(&script));
    let seen = tokio::join!(ask(&subjects.0, &cases), ask(&subjects.1, &cases), ask(&subjects.2, &cases));
    let row = |(number, case): (usize, &responses::Case)| {
        let verdict = |seen: &[Seen]| judge::response_verdict(case, &next(number), &seen[number]);
        Row {
            family: case.family,
            name: case.name.clone(),
            ours: verdict(&seen.0),
            nginx: verdict(&seen.1),
            haproxy: verdict(&seen.2),
        }
    };
    cases.iter().enumerate().map(row).collect()
}

async fn http2_rows() -> Vec<Row> {
    let cases = corpus::http2::cases();
    let subjects = tokio::join!(http2::Subject::ours(), http2::Subject::nginx(), http2::Subject::haproxy());
    let seen =
        tokio::join!(subjects.0.send_all(&cases), subjects.1.send_all(&cases), subjects.2.send_all(&cases));
    let row = |(number, case): (usize, &corpus::http2::Case)| Row {
        family: case.family,
        name: case.name.clone(),
        ours: seen.0[number].verdict(),
        nginx: seen.1[number].verdict(),
        haproxy: seen.2[number].verdict(),
    };
    cases.iter().enumerate().map(row).collect()
}

/// What a server has to answer to the requests of [`ask`].
fn script(cases: &[responses::Case]) -> BTreeMap<String, Answer> {
    cases
        .iter()
        .enumerate()
        .map(|(number, case)| (format!("/answer/{number}"), case.answer.clone()))
        .collect()
}

/// Asks for each answer, and at once for the next one.
async fn ask(subject: &Subject, cases: &[responses::Case]) -> Vec<Seen> {
    let asked = |(number, case): (usize, &responses::Case)| {
        let (method, next) = (case.method, next(number));
        let first = format!("{method} /answer/{number} HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
        let next = format!("GET {} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n", next.target);
        (first + &next).into_bytes()
    };
    subject.send_all(cases.iter().enumerate().map(asked).collect()).await
}

fn next(number: usize) -> Request {
    Request { method: "GET".to_owned(), target: format!("/next/{number}"), body: 0 }
}
