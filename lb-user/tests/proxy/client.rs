//! A client of the proxy: TLS to its address, then HTTP by hyper or by hand.

use std::net::SocketAddrV4;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lb_user::proxy::snapshot::Verify;
use lb_user::proxy::tls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::setup::NAME;

pub(crate) async fn tls(address: SocketAddrV4, name: &str) -> TlsStream<TcpStream> {
    greet(TcpStream::connect(address).await.unwrap(), name).await
}

async fn greet(stream: TcpStream, name: &str) -> TlsStream<TcpStream> {
    let connector = TlsConnector::from(tls::client_config(&Verify::Nothing, Vec::new()).unwrap());
    connector.connect(tls::server_name(name).unwrap(), stream).await.unwrap()
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A kept-alive connection.
pub(crate) struct Client {
    sender: SendRequest<BoxBody<Bytes, BoxError>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddrV4) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn over(stream: TcpStream) -> Self {
        let stream = greet(stream, NAME).await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    /// Whether the proxy has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response<Incoming> {
        self.send(request("GET", path, Empty::new())).await.unwrap()
    }

    /// The name of the server that answers.
    pub(crate) async fn who(&mut self, path: &str) -> String {
        header(&self.get(path).await, "x-server").to_owned()
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<BoxBody<Bytes, BoxError>>,
    ) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }
}

pub(crate) fn request<B>(method: &str, path: &str, body: B) -> Request<BoxBody<Bytes, BoxError>>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Sync + 'static,
{
    let body = http_body_util::BodyExt::map_err(body, Into::into).boxed();
    Request::builder().method(method).uri(path).header("host", NAME).body(body).unwrap()
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn header<'a>(response: &'a Response<Incoming>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Sends bytes as they are, and reads until the proxy closes.
pub(crate) async fn by_hand(address: SocketAddrV4, bytes: &[u8]) -> String {
    let mut stream = tls(address, NAME).await;
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // An end without close_notify is an end, too.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of the first response in `answer`.
pub(crate) fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}
