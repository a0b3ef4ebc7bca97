//! A node asks itself what its clients would: over the loopback interface, by the cluster IP that its proxy listens at. What comes is
//! the proxy's, and is taken for hostile: a status is all that is read of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::Empty;
use hyper::client::conn::http1::SendRequest;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Outcome, Probe};
use crate::clock::Time;
use crate::config::told;
use crate::control::api::ProxyStatus;
use crate::once;
use crate::proxy::snapshot::Verify;
use crate::proxy::tls::{Fingerprint, client_config, server_name};

/// Longest time for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest time for all of them: what is not known by then counts as no answer.
const IN_ALL: Duration = Duration::from_secs(15);

/// How long servers may take until their tests have said that they work: two rounds of a usual test.
const TESTED: Duration = Duration::from_secs(6);

/// How many are asked for at once.
const AT_ONCE: usize = 8;

/// What comes of each, in their order.
pub(in crate::agent) async fn ask(
    probes: &[Probe],
    proxy: Option<&watch::Receiver<ProxyStatus>>,
) -> Vec<Outcome> {
    let servers = probes.iter().any(|probe| matches!(probe, Probe::Server { .. }));
    let status = match proxy {
        Some(proxy) if servers => tested(proxy.clone()).await,
        Some(_) | None => ProxyStatus::default(),
    };
    let (status, until) = (Arc::new(status), Time::now() + IN_ALL);
    let outcomes = stream::iter(probes.to_vec()).map(|probe| one(probe, Arc::clone(&status), until));
    outcomes.buffered(AT_ONCE).collect().await
}

async fn one(probe: Probe, status: Arc<ProxyStatus>, until: Time) -> Outcome {
    let late = |_| Err("no answer in time".to_owned());
    let patience = PATIENCE.min(until.since(Time::now()));
    match &probe {
        Probe::Certificate { at, host, fingerprint } => {
            timeout(patience, greet(*at, host, Some(*fingerprint))).await.map_or_else(late, |it| it.map(drop))
        }
        Probe::Page { at, host, path } => timeout(patience, page(*at, host, path)).await.unwrap_or_else(late),
        Probe::Server { farm, server } => {
            let found = status.servers.iter().find(|it| it.farm == *farm && it.name == *server);
            match found {
                Some(known) if known.healthy => Ok(()),
                Some(known) => {
                    let finding = known.tests.iter().find_map(|test| test.finding.as_deref());
                    Err(format!("not healthy ({})", finding.unwrap_or("not tested yet")))
                }
                None => Err("not known yet".to_owned()),
            }
        }
    }
}

/// How the proxy does once all its servers are healthy, or their time for that is over.
async fn tested(mut proxy: watch::Receiver<ProxyStatus>) -> ProxyStatus {
    let well = |status: &ProxyStatus| {
        !status.servers.is_empty() && status.servers.iter().all(|server| server.healthy)
    };
    if let Ok(Ok(status)) = timeout(TESTED, proxy.wait_for(well)).await {
        return status.clone();
    }
    proxy.borrow().clone()
}

/// Shakes hands; with a fingerprint, only with who has that certificate and its key.
async fn greet(
    at: SocketAddr,
    host: &str,
    certificate: Option<Fingerprint>,
) -> Result<TlsStream<TcpStream>, String> {
    let verify = certificate.map_or(Verify::Nothing, |fingerprint| Verify::Pins(vec![fingerprint]));
    let config: Arc<ClientConfig> = client_config(&verify, Vec::new()).map_err(|error| told(&error))?;
    let name = server_name(host).map_err(|error| told(&error))?;
    let stream = TcpStream::connect(at).await.map_err(|error| format!("cannot connect: {error}"))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| error.to_string())
}

async fn page(at: SocketAddr, host: &str, path: &str) -> Outcome {
    let stream = greet(at, host, None).await?;
    let asked = once::over(stream, |sender| exchange(sender, host, path)).await;
    asked.map_err(|error| error.to_string())?
}

async fn exchange(mut sender: SendRequest<Empty<Bytes>>, host: &str, path: &str) -> Outcome {
    let request = once::request("GET", path, host, "rollcall-canary")
        .map_err(|error| format!("the path or host cannot be sent: {error}"))?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    match response.status().as_u16() {
        status @ (403 | 404 | 421 | 500..) => Err(format!("answered {status}")),
        _ => Ok(()),
    }
}
