//! Health tests: whether a server of a farm works, asked over TLS at its interval, from each node once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::balance::Health;
use super::forward::{Farm, connect};
use crate::config::model::HealthTest;

/// Counts one server's tests. Pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    health: Health,
    failures: u8,
}

impl Default for Tally {
    fn default() -> Self {
        Self { health: Health::Untested, failures: 0 }
    }
}

impl Tally {
    /// What a test's outcome makes of the server: one success heals, `limit` failures in a row make unhealthy.
    pub fn record(&mut self, success: bool, limit: u8) -> Health {
        if success {
            *self = Self { health: Health::Healthy, failures: 0 };
        } else {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= limit {
                self.health = Health::Unhealthy;
            }
        }
        self.health
    }
}

/// Tests one server for ever, and tells `farm` what it finds.
pub async fn watch(farm: Arc<Farm>, server: usize) {
    let test = &farm.health_test;
    let mut tally = Tally::default();
    let mut ticks = interval(test.interval.max(SHORTEST_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = match timeout(test.timeout, ask(&farm, server)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Timeout),
        };
        let health = tally.record(outcome.is_ok(), test.failures);
        if farm.set_health(server, health) {
            report(&farm, server, health, outcome.err());
        }
    }
}

fn report(farm: &Farm, server: usize, health: Health, cause: Option<Failure>) {
    let name = &farm.servers[server].name;
    match health {
        Health::Healthy => tracing::info!(farm = farm.name, server = name, "server is healthy"),
        Health::Unhealthy | Health::Untested => {
            let cause = cause.map(|cause| cause.to_string()).unwrap_or_default();
            tracing::warn!(farm = farm.name, server = name, cause, "server is unhealthy");
        }
    }
}

/// One test, with a connection of its own.
async fn ask(farm: &Farm, server: usize) -> Result<(), Failure> {
    let test = &farm.health_test;
    let stream = connect(farm.servers[server].address, &farm.health_tls, &farm.health_name).await;
    let stream = stream.map_err(Failure::Connect)?;
    let connection = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, driver) = connection.map_err(Failure::Http)?;
    let exchange = async {
        let response = sender.send_request(request(test)?).await.map_err(Failure::Http)?;
        let status = response.status().as_u16();
        if status != test.status {
            return Err(Failure::Status { status });
        }
        if test.body.is_empty() {
            return Ok(());
        }
        let body = Limited::new(response.into_body(), LONGEST_BODY).collect().await;
        let body = body.map_err(|_| Failure::Body)?.to_bytes();
        if contains(&body, test.body.as_bytes()) { Ok(()) } else { Err(Failure::Body) }
    };
    // Why the connection ended shows in the exchange, which may still have to read what came before the end.
    let driver = async {
        drop(driver.await);
        std::future::pending().await
    };
    tokio::select! {
        outcome = exchange => outcome,
        never = driver => never,
    }
}

fn request(test: &HealthTest) -> Result<Request<Empty<Bytes>>, Failure> {
    Request::get(&test.path)
        .header(HOST, &test.host)
        .header(USER_AGENT, "rollcall-health")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(Failure::Request)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Why a test failed.
#[derive(Debug, Error)]
enum Failure {
    #[error("no answer in time")]
    Timeout,
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("the test's path or host cannot be sent: {0}")]
    Request(hyper::http::Error),
    #[error("{0}")]
    Http(hyper::Error),
    #[error("answered {status}")]
    Status {
        /// What it answered.
        status: u16,
    },
    #[error("the answer's body is not the expected one")]
    Body,
}

/// No server is asked more often.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

/// Most bytes of an answer that are looked at.
const LONGEST_BODY: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_make_unhealthy_and_one_success_heals() {
        let mut tally = Tally::default();
        for (step, (success, health)) in [
            (false, Health::Untested),
            (false, Health::Untested),
            (false, Health::Unhealthy),
            (true, Health::Healthy),
            (false, Health::Healthy),
            (false, Health::Healthy),
            (true, Health::Healthy),
            (false, Health::Healthy),
            (false, Health::Healthy),
            (false, Health::Unhealthy),
            (false, Health::Unhealthy),
            (true, Health::Healthy),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(tally.record(success, 3), health, "step {step}");
        }
    }

    #[test]
    fn a_body_is_searched_as_bytes() {
        assert!(contains(b"200 OK<br/>SBEX1", b"200 OK"));
        assert!(!contains(b"503", b"200 OK"));
        assert!(!contains(b"", b"200 OK"));
    }
}
