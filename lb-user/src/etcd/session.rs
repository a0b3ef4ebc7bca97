//! A connection to a member of an etcd, one question at a time, and an end to every patience.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Settings;
use super::json::{self, Garbled};
use crate::config::model::Endpoint;

/// See the module. Dropped, the connection ends.
#[derive(Debug)]
pub struct Session {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
    endpoint: Endpoint,
    token: Option<String>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Connects to a member, and proves who the nodes are.
    pub async fn open(
        endpoint: Endpoint,
        settings: &Settings,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Self, Trouble> {
        let mut session =
            timeout(CONNECT, Self::connect(endpoint, tls)).await.unwrap_or(Err(Trouble::Silent))?;
        if let Some((user, password)) = &settings.user {
            session.token = match session.ask(json::AUTHENTICATE, &json::authenticate(user, password)).await {
                Ok(answer) => Some(json::read_token(&answer)?),
                // It has no users (yet), and etcd's own clients go on, too.
                Err(Trouble::Refused { status: StatusCode::PRECONDITION_FAILED, .. }) => None,
                Err(trouble) => return Err(trouble),
            };
        }
        Ok(session)
    }

    /// Another connection to the same member, as the same user.
    pub async fn second(&self, tls: Option<&Arc<ClientConfig>>) -> Result<Self, Trouble> {
        let connected = timeout(CONNECT, Self::connect(self.endpoint, tls)).await;
        let mut second = connected.unwrap_or(Err(Trouble::Silent))?;
        second.token.clone_from(&self.token);
        Ok(second)
    }

    async fn connect(endpoint: Endpoint, tls: Option<&Arc<ClientConfig>>) -> Result<Self, Trouble> {
        let stream = TcpStream::connect(endpoint.address).await.map_err(Trouble::System)?;
        drop(stream.set_nodelay(true));
        if !endpoint.tls {
            return Self::over(endpoint, stream).await;
        }
        let tls = tls.ok_or(Trouble::NoCa)?;
        let name = ServerName::IpAddress((*endpoint.address.ip()).into());
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(Trouble::Tls)?;
        Self::over(endpoint, stream).await
    }

    async fn over<S>(endpoint: Endpoint, stream: S) -> Result<Self, Trouble>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(Trouble::of)?;
        // Why it ended shows in the question that was under way.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { sender, driver, endpoint, token: None })
    }

    /// Asks something, and gives the whole answer. Not cancel safe: a session whose question was given up is of no more use.
    pub async fn ask(&mut self, path: &str, question: &Value) -> Result<Vec<u8>, Trouble> {
        let asked = async {
            let response = self.send(path, question).await?;
            let status = response.status();
            let bytes = whole(response.into_body()).await?;
            if status.is_success() { Ok(bytes) } else { Err(refusal(status, &bytes)) }
        };
        timeout(ANSWER, asked).await.unwrap_or(Err(Trouble::Silent))
    }

    /// Asks something whose answer has no end.
    pub async fn listen(&mut self, path: &str, question: &Value) -> Result<Incoming, Trouble> {
        let asked = async {
            let response = self.send(path, question).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response.into_body());
            }
            Err(refusal(status, &whole(response.into_body()).await?))
        };
        timeout(ANSWER, asked).await.unwrap_or(Err(Trouble::Silent))
    }

    async fn send(&mut self, path: &str, question: &Value) -> Result<Response<Incoming>, Trouble> {
        let body = Full::new(Bytes::from(question.to_string()));
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, self.endpoint.address.to_string())
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(body).map_err(|_| Trouble::Garbled(Garbled))?;
        self.sender.ready().await.map_err(Trouble::of)?;
        self.sender.send_request(request).await.map_err(Trouble::of)
    }
}

/// A body of at most [`LONGEST`] bytes.
async fn whole(mut body: Incoming) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Trouble::of)?.into_data() else { continue };
        if bytes.len() + data.len() > LONGEST {
            return Err(Trouble::TooLong);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn refusal(status: StatusCode, bytes: &[u8]) -> Trouble {
    let text = json::read_error(bytes);
    if status == StatusCode::NOT_FOUND {
        return Trouble::NoGateway;
    }
    // Its gateway would speak for the nodes under its own name, so it takes nobody who has one.
    if text.contains("CommonName of client") { Trouble::Named } else { Trouble::Refused { status, text } }
}

/// Why a question has no answer.
#[derive(Debug, Error)]
pub enum Trouble {
    /// There is no connection, or it broke.
    #[error("{0}")]
    System(#[source] io::Error),
    /// Its certificate is not taken, or it does not take ours.
    #[error(
        "TLS failed: {0}; hint: its certificate must be for its IP address and of the CA that `ca` names, and it may want `certificate` and `key`"
    )]
    Tls(#[source] io::Error),
    /// No CA is known.
    #[error("no CA is known for it")]
    NoCa,
    /// Nothing came for too long.
    #[error("it is silent; hint: is the member up, and its port open to the nodes?")]
    Silent,
    /// The other end closed it.
    #[error("it closed the connection")]
    Closed,
    /// It does not speak HTTP, or stopped doing so.
    #[error("{0}")]
    Http(#[source] hyper::Error),
    /// The answer is no answer.
    #[error(transparent)]
    Garbled(#[from] Garbled),
    /// The answer is over the limit.
    #[error("its answer has more than {LONGEST} bytes")]
    TooLong,
    /// It refused.
    #[error("it refuses: {text} ({status})")]
    Refused {
        /// By this status of HTTP.
        status: StatusCode,
        /// In its words.
        text: String,
    },
    /// It does not know what is asked.
    #[error(
        "it has no JSON gateway; hint: etcd 3.4 that is started with a file of its own needs enable-grpc-gateway: true there"
    )]
    NoGateway,
    /// It has users, and the certificate has a name.
    #[error(
        "an etcd that has users refuses a `certificate` with a common name; hint: issue one without, and give `user` and `password_file`"
    )]
    Named,
    /// It does not tell of changes any more.
    #[error("it does not tell of changes: {0}")]
    Deaf(String),
    /// There is more than may be.
    #[error(
        "more than {} keys begin with `prefix`; hint: give the cluster a prefix of its own, and delete what is not its",
        super::key::MOST_KEYS
    )]
    TooMany,
}

impl Trouble {
    /// Why HTTP ended.
    pub fn of(error: hyper::Error) -> Self {
        let mut cause = error.source();
        while let Some(of) = cause {
            // What rustls says of an end without a farewell is for programmers.
            if of.downcast_ref::<io::Error>().map(io::Error::kind) == Some(io::ErrorKind::UnexpectedEof) {
                return Self::Closed;
            }
            cause = of.source();
        }
        Self::Http(error)
    }

    /// Whether the connection is of no use any more, rather than the question.
    pub fn is_final(&self) -> bool {
        match self {
            // A token that has not been used for five minutes, or is from before etcd was started anew; a member that has lost the
            // others.
            Self::Refused { status, .. } => *status == StatusCode::UNAUTHORIZED || status.is_server_error(),
            Self::System(_)
            | Self::Tls(_)
            | Self::NoCa
            | Self::Silent
            | Self::Closed
            | Self::Http(_)
            | Self::Garbled(_)
            | Self::TooLong
            | Self::Deaf(_) => true,
            Self::NoGateway | Self::Named | Self::TooMany => false,
        }
    }
}

/// How long a member may take until it can be asked.
const CONNECT: Duration = Duration::from_secs(5);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Longest answer, bytes: a part in base64, or the names of 4,096 keys.
const LONGEST: usize = 4 << 20;
