//! A web server, with TLS unless told otherwise, whose behaviour is in the path; what it saw, it tells.

use std::convert::Infallible;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::setup::{Identity, Zeros, tokio_listener};

/// A running server.
pub(crate) struct Backend {
    /// Where it listens.
    pub(crate) address: SocketAddrV4,
    /// What it does and saw.
    pub(crate) state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

/// What a server does and saw.
pub(crate) struct State {
    name: &'static str,
    /// Whether its health test succeeds.
    pub(crate) healthy: AtomicBool,
    /// Whether no request but health tests is ever answered.
    pub(crate) hangs: AtomicBool,
    /// Connections so far, health tests included.
    pub(crate) connections: AtomicUsize,
    /// Requests to `/gate` that wait, and permits for them to go on.
    pub(crate) waiting: AtomicUsize,
    /// See `waiting`.
    pub(crate) gate: Semaphore,
}

impl Backend {
    pub(crate) async fn start(name: &'static str, identity: &Identity) -> Self {
        Self::with(name, Some(identity.acceptor())).await
    }

    /// Likewise without TLS.
    pub(crate) async fn start_in_clear(name: &'static str) -> Self {
        Self::with(name, None).await
    }

    async fn with(name: &'static str, tls: Option<TlsAcceptor>) -> Self {
        let (listener, address) = tokio_listener().await;
        let state = Arc::new(State {
            name,
            healthy: AtomicBool::new(true),
            hangs: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        });
        let task = tokio::spawn(run(listener, tls, Arc::clone(&state)));
        Self { address, state, task }
    }

    /// Stops listening; open connections live on.
    pub(crate) async fn refuse_connections(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

async fn run(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream, tls.clone(), Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let connection = state.connections.fetch_add(1, Ordering::SeqCst);
    match tls {
        None => speak(stream, state, connection).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                speak(stream, state, connection).await;
            }
        }
    }
}

async fn speak<S>(stream: S, state: Arc<State>, connection: usize)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { answer(request, &state, connection).await }
    });
    let http = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    drop(http.await);
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

async fn answer(request: Request<Incoming>, state: &State, connection: usize) -> Result<Answer, Infallible> {
    let mut response = match request.uri().path() {
        "/owa/healthcheck.htm" => health(state),
        "/ews/healthcheck.htm" => text("200 OK<br/>"),
        _ if state.hangs.load(Ordering::SeqCst) => std::future::pending().await,
        "/echo" => Response::new(request.into_body().boxed()),
        "/zeros" => zeros(&request),
        "/early" => {
            let mut response = text("log on first");
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
            response
        }
        "/hang" => std::future::pending().await,
        "/gate" => {
            state.waiting.fetch_add(1, Ordering::SeqCst);
            state.gate.acquire().await.unwrap().forget();
            text("through")
        }
        "/count" => text(&count(request.into_body()).await.to_string()),
        _ => text(&format!("{} {}\n{:?}", request.method(), request.uri(), request.headers())),
    };
    // As Outlook on the web does.
    response.headers_mut().insert("x-frame-options", HeaderValue::from_static("SAMEORIGIN"));
    response.headers_mut().insert("x-server", state.name.parse().unwrap());
    response.headers_mut().insert("x-connection", connection.to_string().parse().unwrap());
    Ok(response)
}

fn health(state: &State) -> Answer {
    let mut response = text("200 OK<br/>");
    if !state.healthy.load(Ordering::SeqCst) {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn zeros(request: &Request<Incoming>) -> Answer {
    let length = request.uri().query().unwrap().parse().unwrap();
    Response::new(Zeros::new(length).map_err(|never| match never {}).boxed())
}

fn text(text: &str) -> Answer {
    let body = Full::from(text.to_owned()).map_err(|never| match never {});
    Response::new(body.boxed())
}

/// Reads a body to its end, keeping nothing.
pub(crate) async fn count<B: Body<Data = Bytes> + Unpin>(mut body: B) -> u64
where
    B::Error: std::fmt::Debug,
{
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().data_ref().map_or(0, |data| data.len() as u64);
    }
    bytes
}
