//! One HTTP/1.1 request over a connection of its own, as those who test something make it.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// A request without a body, the connection's last.
pub(crate) fn request(
    method: &str,
    path: &str,
    host: &str,
    agent: &'static str,
) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .header(USER_AGENT, agent)
        .header(CONNECTION, "close")
        .body(Empty::new())
}

/// Has `exchange` ask over `stream`, and gives what comes of it. An error: the stream is of no use.
pub(crate) async fn over<S, F>(
    stream: S,
    exchange: impl FnOnce(SendRequest<Empty<Bytes>>) -> F,
) -> Result<F::Output, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future,
{
    let (sender, driver) = handshake(TokioIo::new(stream)).await?;
    // Why the connection ended shows in the exchange, which may still have to read what came before the end.
    let driver = async {
        drop(driver.await);
        std::future::pending().await
    };
    tokio::select! {
        outcome = exchange(sender) => Ok(outcome),
        never = driver => never,
    }
}
