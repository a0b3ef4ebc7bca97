//! Health tests: whether a server of a farm works, asked over TLS at its interval, from each node once, whatever the number of
//! sites and routes that one counts for.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use thiserror::Error;

use super::balance::finding::Finding;
use super::balance::monitor::Mismatch;
use super::farm::{ConnectError, Farm};
use super::group;
use crate::config::model::HealthTest;
use crate::once;

/// Makes one of a farm's tests with one server for ever, and tells `farm` what it finds.
pub async fn watch(farm: Arc<Farm>, test: usize, server: usize) {
    let farm = &*farm;
    let HealthTest { interval, timeout, .. } = farm.tests[test];
    let every = interval.max(SHORTEST_INTERVAL);
    let ask = || ask(farm, &farm.tests[test], server);
    farm.group.watch((test, server), every, timeout, || Failure::Timeout, ask).await;
}

/// One test, with a connection of its own.
async fn ask(farm: &Farm, test: &HealthTest, server: usize) -> Result<Finding, Failure> {
    let dialled = farm.connect(server, &farm.health_greeting).await;
    let dialled = dialled.map_err(Failure::Connect)?;
    let asked = once::over(dialled.stream, move |mut sender| async move {
        let request = once::request(&test.method, &test.path, &test.host, "rollcall-health");
        let request = request.map_err(Failure::Request)?;
        let response = sender.send_request(request).await.map_err(Failure::Http)?;
        let status = response.status().as_u16();
        // Most answers have said enough by their status.
        let is_good = test.expect.check(status, &[]);
        if !matches!(is_good, Err(Mismatch::Body)) {
            return is_good.map(|()| Finding::Status(status)).map_err(Failure::Mismatch);
        }
        let body = Limited::new(response.into_body(), LONGEST_BODY).collect().await;
        let body = body.map_err(|_| Failure::Mismatch(Mismatch::Body))?.to_bytes();
        test.expect.check(status, &body).map_err(Failure::Mismatch)?;
        Ok(Finding::Status(status))
    });
    asked.await.map_err(Failure::Http)?
}

/// Why a test failed.
#[derive(Debug, Error)]
enum Failure {
    #[error("no answer in time")]
    Timeout,
    #[error("cannot connect: {0}")]
    Connect(ConnectError),
    #[error("the test's path or host cannot be sent: {0}")]
    Request(hyper::http::Error),
    #[error("{0}")]
    Http(hyper::Error),
    #[error(transparent)]
    Mismatch(Mismatch),
}

impl group::Failure for Failure {
    fn finding(&self) -> Finding {
        match self {
            Self::Timeout => Finding::Timeout,
            Self::Connect(error) if error.is_tls() => Finding::Tls,
            Self::Connect(_) => Finding::NoConnection,
            Self::Request(_) | Self::Http(_) => Finding::Malformed,
            Self::Mismatch(Mismatch::Status { status }) => Finding::Status(*status),
            Self::Mismatch(Mismatch::Body) => Finding::Body,
        }
    }
}

/// No server is asked more often.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

/// Most bytes of an answer that are looked at.
const LONGEST_BODY: usize = 64 << 10;
