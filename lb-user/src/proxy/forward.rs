//! From a client's request to a server's response.
//!
//! A [`Client`] is one client connection and the server connection that belongs to it. Windows authentication logs a
//! *connection* on, so a server connection is never shared: it is a field of its client connection, and ends with it. There
//! is no pool that it could get into.

use std::io;
use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::http::uri::{PathAndQuery, Uri};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::access::{AccessLog, Entry};
use super::activity::Activity;
use super::balance::{self, Health};
use super::body::{Download, Record, Upload};
use super::headers::{self, Refused};
use super::listener::Phase;
use super::pace::Pace;
use super::route::Routes;
use super::server_stream::ServerStream;
use crate::clock::Time;
use crate::config::model::{HealthTest, Server};

/// A farm at work.
pub struct Farm {
    /// Its name.
    pub name: String,
    /// Its servers, at least one.
    pub servers: Vec<Server>,
    /// How they are tested.
    pub health_test: HealthTest,
    /// TLS for the tests: any certificate that a site of this farm accepts.
    pub health_tls: TlsConnector,
    /// The name for the tests' TLS.
    pub health_name: ServerName<'static>,
    /// Longest time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Longest silence between request and response head.
    pub response_timeout: Duration,
    /// Each server's `Health`, as a number.
    health: Vec<AtomicU8>,
    /// Counts the picks.
    turn: AtomicUsize,
    /// Wakes who reports the servers' health.
    changed: watch::Sender<()>,
}

impl Farm {
    /// A farm whose servers are all untested; `changed` hears of every change.
    pub fn new(
        settings: &super::snapshot::Farm,
        health_tls: TlsConnector,
        health_name: ServerName<'static>,
        changed: watch::Sender<()>,
    ) -> Self {
        Self {
            name: settings.name.clone(),
            servers: settings.servers.clone(),
            health_test: settings.health.clone(),
            health_tls,
            health_name,
            connect_timeout: settings.connect_timeout,
            response_timeout: settings.response_timeout,
            health: settings.servers.iter().map(|_| AtomicU8::new(UNTESTED)).collect(),
            turn: AtomicUsize::new(0),
            changed,
        }
    }

    /// Each server's health.
    pub fn health(&self) -> Vec<Health> {
        let one = |health: &AtomicU8| match health.load(Ordering::Relaxed) {
            HEALTHY => Health::Healthy,
            UNHEALTHY => Health::Unhealthy,
            _ => Health::Untested,
        };
        self.health.iter().map(one).collect()
    }

    /// Sets a server's health; whether it was another before.
    pub fn set_health(&self, server: usize, health: Health) -> bool {
        let number = match health {
            Health::Untested => UNTESTED,
            Health::Healthy => HEALTHY,
            Health::Unhealthy => UNHEALTHY,
        };
        let changed = self.health[server].swap(number, Ordering::Relaxed) != number;
        if changed {
            self.changed.send_replace(());
        }
        changed
    }

    fn pick(&self, tried: &[usize]) -> Option<usize> {
        balance::pick(self.turn.fetch_add(1, Ordering::Relaxed), &self.health(), tried)
    }
}

/// A site at work.
pub struct Site {
    /// Index of its farm.
    pub farm: usize,
    /// TLS to its servers.
    pub tls: TlsConnector,
    /// The name for that TLS: the site's first.
    pub name: ServerName<'static>,
}

/// What all connections of a worker share. Nothing in it belongs to a client.
pub struct Shared {
    /// In the order of the snapshot.
    pub sites: Vec<Site>,
    /// In the order of the snapshot.
    pub farms: Vec<Arc<Farm>>,
    /// One line a request.
    pub log: AccessLog,
    /// Requests in flight.
    pub requests: Arc<AtomicU32>,
    /// Whether connections are to end.
    pub phase: watch::Receiver<Phase>,
}

/// Counts a request while it lives.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicU32>);

impl InFlight {
    fn begin(requests: &Arc<AtomicU32>) -> Self {
        requests.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(requests))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One client connection and the server connection that belongs to it.
pub struct Client {
    /// The worker's.
    pub shared: Arc<Shared>,
    /// Names at the address that the client connected to.
    pub routes: Arc<Routes>,
    /// The name in its TLS handshake.
    pub sni: Option<String>,
    /// Its address.
    pub address: IpAddr,
    /// Its timers.
    pub activity: Arc<Activity>,
    /// Its server connection. hyper hands requests over one after the other, so nobody waits for the lock.
    pub own: Mutex<Own>,
}

/// What a client connection has of a farm.
#[derive(Default)]
pub struct Own {
    /// Its server connection, between requests.
    connection: Option<ServerConnection>,
    /// The server that it was connected to last, which is asked first when that connection has ended.
    server: Option<usize>,
}

impl Client {
    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Download> {
        let mut record = self.record(&request);
        let outcome = match headers::host(&request) {
            Ok(host) => {
                host.clone_into(&mut record.entry.host);
                match self.routes.site(self.sni.as_deref(), host) {
                    Some(site) => self.forward(&self.shared.sites[site], request).await,
                    None => Err(self.refuse(request, Answer::Misdirected)),
                }
            }
            Err(Refused::Ambiguous) => Err(self.refuse(request, Answer::Ambiguous)),
            Err(Refused::Unsupported) => Err(self.refuse(request, Answer::Unsupported)),
        };
        let mut response = match outcome {
            Ok((response, server)) => {
                record.entry.server = Some(server);
                record.entry.status = response.status().as_u16();
                response.map(|body| Download::from_server(body, record))
            }
            Err(answer) => answer.response(record),
        };
        if self.shared.phase.borrow().is_ending() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn record(&self, request: &Request<Incoming>) -> Record {
        let entry = Entry {
            client: self.address,
            method: request.method().as_str().to_owned(),
            host: String::new(),
            path: request.uri().path().to_owned(),
            status: CLIENT_LEFT,
            bytes: 0,
            server: None,
            took: Duration::ZERO,
            whole: false,
        };
        Record {
            entry,
            started: Time::now(),
            log: self.shared.log.clone(),
            busy: self.activity.begin(),
            in_flight: InFlight::begin(&self.shared.requests),
        }
    }

    /// An answer without a server. What the client still uploads is read, so that it gets to see the answer.
    fn refuse(&self, request: Request<Incoming>, answer: Answer) -> Answer {
        drop(Upload::new(request.into_body(), self.activity.begin(), None));
        answer
    }

    /// Sends the request to a server of the site's farm: over this client's own server connection while that is good, else over
    /// a new one; at most [`CONNECTS`] servers are tried, and none after any of the request was sent.
    async fn forward(
        &self,
        site: &Site,
        request: Request<Incoming>,
    ) -> Result<(Response<Incoming>, String), Answer> {
        let farm = &self.shared.farms[site.farm];
        let mut request = self.to_server(request);
        let mut own = self.own.lock().await;
        let mut tried = Vec::new();
        loop {
            let mut connection = match reusable(own.connection.take(), farm).await {
                Some(connection) => connection,
                None => connect_to_one(site, farm, own.server, &mut tried).await?,
            };
            own.server = Some(connection.server);
            match connection.send(request, farm.response_timeout).await {
                Sent::Response(mut response) => {
                    let name = farm.servers[connection.server].name.clone();
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        return Err(Answer::ServerClosed);
                    }
                    headers::to_client(response.headers_mut());
                    *response.version_mut() = Version::HTTP_11;
                    own.connection = Some(connection);
                    return Ok((response, name));
                }
                Sent::Nothing(unsent) => request = unsent,
                Sent::Closed => return Err(Answer::ServerClosed),
                Sent::TimedOut => return Err(Answer::ServerSilent),
                Sent::TooSlowly => return Err(Answer::ClientSlow),
            }
        }
    }

    fn to_server(&self, request: Request<Incoming>) -> Request<Upload> {
        let pace = Pace::of(request.method());
        let mut request = request.map(|body| Upload::new(body, self.activity.begin(), pace));
        headers::to_server(request.headers_mut(), self.address);
        *request.version_mut() = Version::HTTP_11;
        let target = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
        request
    }
}

/// A connection to a server that was not tried yet: the preferred one if it is healthy, else whose turn it is.
async fn connect_to_one(
    site: &Site,
    farm: &Farm,
    preferred: Option<usize>,
    tried: &mut Vec<usize>,
) -> Result<ServerConnection, Answer> {
    while tried.len() < CONNECTS {
        let good = |server: &usize| !tried.contains(server) && farm.health()[*server] == Health::Healthy;
        let Some(server) = preferred.filter(good).or_else(|| farm.pick(tried)) else {
            break;
        };
        tried.push(server);
        match ServerConnection::open(site, farm, server).await {
            Ok(connection) => return Ok(connection),
            Err(error) => {
                let (farm, server) = (&farm.name, &farm.servers[server].name);
                tracing::debug!(farm, server, %error, "cannot connect to a server");
            }
        }
    }
    let none = if tried.is_empty() { Answer::NoServer } else { Answer::CannotConnect };
    Err(none)
}

/// The client's own connection, if it can carry one more request.
async fn reusable(own: Option<ServerConnection>, farm: &Farm) -> Option<ServerConnection> {
    let mut connection = own?;
    let rested = Time::now().since(connection.used);
    let broken = connection.broken.load(Ordering::Acquire);
    if broken || rested > SERVER_REST || farm.health()[connection.server] == Health::Unhealthy {
        return None;
    }
    // The last response was whole before this request was read; what is left is the driver's bookkeeping.
    match timeout(READY_WITHIN, connection.sender.ready()).await {
        Ok(Ok(())) => Some(connection),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// A connection to a server. Ends when dropped.
pub struct ServerConnection {
    server: usize,
    sender: SendRequest<Upload>,
    driver: JoinHandle<()>,
    /// A write has failed: what was answered can be read, and then it is over.
    broken: Arc<AtomicBool>,
    used: Time,
}

/// What came of a request.
enum Sent {
    /// A response head.
    Response(Response<Incoming>),
    /// The connection was closed before anything was sent.
    Nothing(Request<Upload>),
    /// The connection ended in the middle.
    Closed,
    /// The server said nothing for too long.
    TimedOut,
    /// The client was too slow with the body.
    TooSlowly,
}

impl ServerConnection {
    async fn open(site: &Site, farm: &Farm, server: usize) -> io::Result<Self> {
        let opening = async {
            let stream = connect(farm.servers[server].address, &site.tls, &site.name).await?;
            let (stream, broken) = ServerStream::new(stream);
            let handshake = http1::Builder::new()
                .preserve_header_case(true)
                .max_buf_size(BUFFER)
                .handshake(TokioIo::new(stream));
            let (sender, driver) = handshake.await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((sender, driver, broken))
        };
        let (sender, driver, broken) = timeout(farm.connect_timeout, opening).await??;
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a server connection ended");
            }
        });
        Ok(Self { server, sender, driver, broken, used: Time::now() })
    }

    /// Sends a request and waits for the response head. A server is silent while neither it nor the upload moves.
    async fn send(&mut self, request: Request<Upload>, silence: Duration) -> Sent {
        let progress = request.body().progress();
        let response = self.sender.try_send_request(request);
        tokio::pin!(response);
        loop {
            let quiet = Time::now().since(progress.last());
            let Some(left) = silence.checked_sub(quiet) else {
                return Sent::TimedOut;
            };
            tokio::select! {
                biased;
                outcome = &mut response => {
                    self.used = Time::now();
                    return match outcome {
                        Ok(response) => Sent::Response(response),
                        Err(_) if progress.too_slow() => Sent::TooSlowly,
                        Err(mut error) => error.take_message().map_or(Sent::Closed, Sent::Nothing),
                    };
                }
                () = sleep_until(Instant::now() + left) => {}
            }
        }
    }
}

impl Drop for ServerConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects to a server and greets it; whoever calls sets the time limit.
pub async fn connect(
    address: SocketAddrV4,
    tls: &TlsConnector,
    name: &ServerName<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
    tls.connect(name.clone(), stream).await
}

/// Finds peers that are gone; more seldom than a phone's radio would mind.
pub fn keepalive() -> socket2::TcpKeepalive {
    socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(75))
        .with_interval(Duration::from_secs(15))
        .with_retries(4)
}

/// An answer of the proxy's own. The text says nothing about the inside.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// The request contradicts itself.
    Ambiguous,
    /// A tunnel or another protocol.
    Unsupported,
    /// No site of that name here.
    Misdirected,
    /// No server is healthy.
    NoServer,
    /// No server could be reached.
    CannotConnect,
    /// The server went away before it answered.
    ServerClosed,
    /// The server did not answer in time.
    ServerSilent,
    /// The client did not send its body in time.
    ClientSlow,
}

impl Answer {
    fn response(self, mut record: Record) -> Response<Download> {
        let (status, text) = match self {
            Self::Ambiguous => (StatusCode::BAD_REQUEST, "400 bad request\n"),
            Self::Unsupported => (StatusCode::NOT_IMPLEMENTED, "501 not implemented\n"),
            Self::ClientSlow => (StatusCode::REQUEST_TIMEOUT, "408 request timeout\n"),
            Self::Misdirected => (StatusCode::MISDIRECTED_REQUEST, "421 misdirected request\n"),
            Self::NoServer => (StatusCode::SERVICE_UNAVAILABLE, "503 service unavailable\n"),
            Self::CannotConnect | Self::ServerClosed => (StatusCode::BAD_GATEWAY, "502 bad gateway\n"),
            Self::ServerSilent => (StatusCode::GATEWAY_TIMEOUT, "504 gateway timeout\n"),
        };
        record.entry.status = status.as_u16();
        let mut response = Response::new(Download::own(text, record));
        *response.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    }
}

/// What the log shows of a request whose client left before there was an answer; as nginx has it.
const CLIENT_LEFT: u16 = 499;

/// Most servers that are connected to for one request.
const CONNECTS: usize = 2;

/// A server connection that rested longer is not used again: http.sys closes its end after 120 s.
const SERVER_REST: Duration = Duration::from_secs(100);

/// How long the bookkeeping after a response may take.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// Most bytes buffered for a connection in each direction.
pub const BUFFER: usize = 128 << 10;

const UNTESTED: u8 = 0;
const HEALTHY: u8 = 1;
const UNHEALTHY: u8 = 2;
