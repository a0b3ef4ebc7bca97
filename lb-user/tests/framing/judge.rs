//! What may be seen, and what may not: two readings of the same bytes, and bytes that invite them.

use crate::corpus::{self, CANARY, SMUGGLED};
use crate::lane::{Seen, is_about};
use crate::readers::{Client, Reader, Reading};
use crate::strict::{self, End, Message, Request, requests, responses};

/// Whatever is wrong with a request's way through a proxy.
pub(crate) async fn request(case: &corpus::Case, seen: &Seen, readers: &[Reader]) -> Vec<String> {
    let mut faults = [forwarded(seen), counted(case, seen), logged(seen)].concat();
    for stream in &seen.server {
        faults.extend(read_alike(stream, readers).await);
    }
    faults
}

/// What reached the server has to be strict, and nothing that was smuggled.
pub(crate) fn forwarded(seen: &Seen) -> Vec<String> {
    let mut faults = Vec::new();
    for stream in &seen.server {
        let read = requests(stream);
        if let End::Fault(fault) = read.end {
            faults.push(format!("forwarded what is no HTTP: {fault}"));
        }
        faults.extend(
            read.messages.iter().flat_map(|message| &message.oddities).map(|odd| format!("forwarded {odd}")),
        );
        let smuggled = strict_first(SMUGGLED);
        faults.extend(
            read.messages
                .iter()
                .filter(|message| message.line[1] == smuggled.target)
                .map(|_| "a request was smuggled".to_owned()),
        );
    }
    faults
}

fn strict_first(text: &str) -> Request {
    requests(text.as_bytes()).messages[0].request()
}

/// The client has to get one answer to each request that the server read, in order, the canary's last.
fn counted(case: &corpus::Case, seen: &Seen) -> Vec<String> {
    let answers = responses(&seen.client, case.bytes.starts_with(b"HEAD "));
    let mut faults = Vec::new();
    if answers.end != End::Clean {
        faults.push(format!("the client got what is no HTTP: {:?}", answers.end));
    }
    faults.extend(
        answers
            .messages
            .iter()
            .flat_map(|message| &message.oddities)
            .map(|odd| format!("the client got {odd}")),
    );
    let told: Vec<Request> = answers.messages.iter().filter_map(Message::read).collect();
    let read: Vec<Request> = seen
        .server
        .iter()
        .flat_map(|stream| requests(stream).messages)
        .map(|message| message.request())
        .collect();
    if told != read {
        faults.push(format!("the client was told of {told:?}, the server read {read:?}"));
    }
    let canary = strict_first(CANARY);
    if told.iter().rev().skip(1).any(|request| *request == canary) {
        faults.push("something came after the canary".to_owned());
    }
    faults
}

/// Our log has a line for each request that was forwarded whole. Other proxies' logs are not looked at.
fn logged(seen: &Seen) -> Vec<String> {
    let forwarded = seen.server.iter().flat_map(|stream| requests(stream).messages);
    let unlogged = forwarded.filter(|message| {
        let id = message.value("x-request-id").unwrap_or("none");
        let [method, ..] = &message.line;
        let about = |line: &&String| is_about(line, id) && line.contains(&format!("\"method\":\"{method}\""));
        !seen.log.is_empty() && seen.log.iter().filter(about).count() != 1
    });
    unlogged.map(|message| format!("the log does not know of {}", message.request())).collect()
}

/// All readers have to find the same in a stream, which is what the strict reader finds.
pub(crate) async fn read_alike(stream: &[u8], readers: &[Reader]) -> Vec<String> {
    let mut stream = stream.to_vec();
    let whole = requests(&stream).end == End::Clean;
    if whole {
        // So that the end of the last one is seen, too.
        stream.extend_from_slice(CANARY.as_bytes());
    }
    let meant = requests(&stream).messages;
    let mut faults = Vec::new();
    for reader in readers {
        let served = meant.iter().take_while(|message| reader.serves(message));
        let wanted: Vec<Request> = served.map(|message| reader.takes(message.request())).collect();
        let reading = reader.read(&stream).await;
        let leaves = meant.iter().any(|message| reader.leaves_after(message));
        let alike = if wanted.len() < meant.len() || leaves {
            // It may have left the answers to earlier ones unsaid.
            wanted.starts_with(&reading.requests)
        } else {
            reading.requests == wanted && (reading.refused.is_none() || !whole)
        };
        if !alike {
            faults.push(format!("{} reads {reading:?} where {wanted:?} was meant", reader.name));
        }
    }
    faults
}

/// Whether two readers find different requests in the same stream; one that refuses sooner than another does not.
pub(crate) fn differ(readings: &[Reading]) -> bool {
    let differ = |a: &Reading, b: &Reading| a.requests.iter().zip(&b.requests).any(|(a, b)| a != b);
    readings.iter().any(|a| readings.iter().any(|b| differ(a, b)))
}

/// Whatever is wrong with a response's way through a proxy to a client that asks `next` after it.
pub(crate) fn response(case: &corpus::responses::Case, next: &Request, seen: &Seen) -> Vec<String> {
    let answers = responses(&seen.client, case.method == "HEAD");
    let last: Vec<&Message> = answers.messages.iter().filter(|message| !message.is_interim()).collect();
    let mut faults = forwarded(seen);
    let mut wrong = |is: bool, what: &str| {
        if is {
            faults.push(what.to_owned());
        }
    };
    wrong(matches!(answers.end, End::Fault(_)), "the client got what is no HTTP");
    wrong(
        answers.messages.iter().any(|message| !message.oddities.is_empty()),
        "the client got a length that is none",
    );
    wrong(last.len() > 2, "the client got more responses than it asked for");
    wrong(
        last.first().is_some_and(|first| first.read().as_ref() == Some(next)),
        "the first answer is the next one's",
    );
    let second = last.get(1).map(|second| (second.status(), second.read()));
    wrong(
        second.as_ref().is_some_and(|second| *second != ("200", Some(next.clone()))),
        "the second answer is not the next one's",
    );
    wrong(last.iter().any(|message| message.read().is_some_and(|read| read.target == "/poison")), "poisoned");
    wrong(second.is_some() && answers.end != End::Clean, "more came after the last answer");
    faults
}

/// A client has to read the same responses in a stream as the strict reader.
pub(crate) async fn read_by_client(method: &str, seen: &Seen, client: &Client) -> Option<String> {
    let answers = responses(&seen.client, method == "HEAD").messages;
    let last = answers.iter().filter(|message| !message.is_interim());
    let meant: Vec<_> = last.map(|message| format!("{} {}", message.status(), message.body)).collect();
    let read = client.read(method, &seen.client).await;
    (read != meant).then(|| format!("h11 reads {read:?} where {meant:?} was meant"))
}

/// A request's verdict, in a few words.
pub(crate) fn request_verdict(case: &corpus::Case, seen: &Seen) -> String {
    let answers = responses(&seen.client, case.bytes.starts_with(b"HEAD "));
    verdict(told(&answers, seen), seen)
}

/// What the client was told, and what the server read.
pub(crate) fn verdict(told: String, seen: &Seen) -> String {
    let streams: Vec<_> = seen.server.iter().map(|stream| requests(stream)).collect();
    let canary = strict_first(CANARY);
    let mut read = Vec::new();
    for stream in &streams {
        read.extend(stream.messages.iter().map(|message| {
            let request = message.request();
            let odd: String = message.oddities.iter().map(|odd| format!(" ({odd})")).collect();
            let name =
                if request == canary { "canary".to_owned() } else { corpus::shown(&request.to_string()) };
            format!("{name}{odd}")
        }));
        match &stream.end {
            End::Clean => {}
            End::Within(Some([method, ..])) => read.push(format!("a part of {method}")),
            End::Within(None) => read.push("a part of a head".to_owned()),
            End::Fault(fault) => read.push(format!("({fault})")),
        }
    }
    [told, counted_up(read).join(", ")]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

/// What a client was told: statuses, and why.
fn told(answers: &strict::Stream, seen: &Seen) -> String {
    let mut told: Vec<String> = answers
        .messages
        .iter()
        .map(|message| {
            let id = message.value("x-request-id");
            let line = id.and_then(|id| seen.log.iter().find(|line| is_about(line, id)));
            let line: Option<serde_json::Value> = line.and_then(|line| serde_json::from_str(line).ok());
            let word = |key: &str| Some(line.as_ref()?.get(key)?.as_str()?.to_owned());
            let why = word("violation").or_else(|| word("cause"));
            format!("{}{}", message.status(), why.map(|why| format!(" {why}")).unwrap_or_default())
        })
        .collect();
    match answers.end {
        End::Clean if told.is_empty() => told.push("closed".to_owned()),
        End::Clean => {}
        End::Within(_) => told.push("cut".to_owned()),
        End::Fault(_) => told.push("no HTTP".to_owned()),
    }
    counted_up(told).join(" ")
}

/// The same several times in a row as one.
fn counted_up(items: Vec<String>) -> Vec<String> {
    let runs = items.chunk_by(|a, b| a == b);
    runs.map(|run| if run.len() == 1 { run[0].clone() } else { format!("{} x {}", run.len(), run[0]) })
        .collect()
}

/// A response's verdict: what the client got, with bytes of content, and whether its next request was answered.
pub(crate) fn response_verdict(case: &corpus::responses::Case, next: &Request, seen: &Seen) -> String {
    let answers = responses(&seen.client, case.method == "HEAD");
    let of = |message: &Message| match message.read() {
        Some(read) if read == *next => "next".to_owned(),
        Some(_) | None => format!("{} with {}", message.status(), message.body),
    };
    let mut got: Vec<String> = answers.messages.iter().map(of).collect();
    match answers.end {
        End::Clean if got.is_empty() => got.push("closed".to_owned()),
        End::Clean => {}
        End::Within(_) => got.push("cut".to_owned()),
        End::Fault(_) => got.push("no HTTP".to_owned()),
    }
    counted_up(got).join(", ")
}
