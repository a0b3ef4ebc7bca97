//! Runs one test for ever. What its outcomes mean is `checks.rs`'s.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::SendRequest;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Outcome, command};
use crate::config::model::{Check, CheckKind};
use crate::once;

/// Most bytes of an answer that are looked at.
const LONGEST_BODY: usize = 64 << 10;

/// Tests, and sends each outcome with `number`, until nobody wants it. Cancel safe: a command that runs is killed. `user`: whom a
/// command runs as that is not root's alone.
pub(in crate::agent) async fn watch(
    number: usize,
    check: Check,
    user: String,
    outcomes: mpsc::Sender<(usize, Outcome)>,
) {
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = test(&check, &user).await;
        if outcomes.send((number, outcome)).await.is_err() {
            return;
        }
    }
}

async fn test(check: &Check, user: &str) -> Outcome {
    let late = |_| format!("no answer within {:?}", check.timeout);
    match &check.kind {
        CheckKind::Tcp { address } => {
            let connected = timeout(check.timeout, TcpStream::connect(address)).await.map_err(late)?;
            connected.map(drop).map_err(|error| cannot_connect(&error))
        }
        CheckKind::Http { address, path, host, status, body } => {
            let page = Page { path, host, status: *status, body };
            timeout(check.timeout, page.fetch(*address)).await.map_err(late)?
        }
        // It has to be ended, too, when its time is over.
        CheckKind::Command { program, arguments } => {
            command::run(program, arguments, user, check.timeout).await
        }
    }
}

fn cannot_connect(error: &io::Error) -> String {
    format!("cannot connect: {error}")
}

/// What is asked for, and what a good answer is.
struct Page<'a> {
    path: &'a str,
    host: &'a str,
    status: u16,
    body: &'a str,
}

impl Page<'_> {
    /// With a connection of its own.
    async fn fetch(&self, address: SocketAddr) -> Outcome {
        let stream = TcpStream::connect(address).await.map_err(|error| cannot_connect(&error))?;
        let asked = once::over(stream, |sender| self.exchange(sender)).await;
        asked.map_err(|error| error.to_string())?
    }

    async fn exchange(&self, mut sender: SendRequest<Empty<Bytes>>) -> Outcome {
        let request = once::request("GET", self.path, self.host, "rollcall-check")
            .map_err(|error| format!("the path or host cannot be sent: {error}"))?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        if status != self.status {
            return Err(format!("answered {status}"));
        }
        if self.body.is_empty() {
            return Ok(());
        }
        let wrong = || "the answer's body is not the expected one".to_owned();
        let body = Limited::new(response.into_body(), LONGEST_BODY).collect().await;
        let body = body.map_err(|_| wrong())?.to_bytes();
        let wanted = self.body.as_bytes();
        if body.windows(wanted.len()).any(|window| window == wanted) { Ok(()) } else { Err(wrong()) }
    }
}
