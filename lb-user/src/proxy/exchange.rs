//! One request and its response, between a client and a server's link.
//!
//! Both directions move at once and by themselves: nothing is kept but what one read brought, each side waits for the other,
//! and what has come leaves before more is waited for.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::client::Client;
use super::http1::{Head, HeadLimits, Length, Violation, response};
use super::link::{Link, LinkError};
use super::timer::Timer;
use super::upload::{Failure, Upload};

/// See the module. The request's head waits to be written to `server`.
pub struct Exchange<'a, C, S> {
    /// Where the request comes from.
    pub client: &'a mut C,
    /// Where it goes.
    pub server: &'a mut Link<S>,
    /// The connection's.
    pub timer: &'a mut Timer,
    /// The request's body.
    pub upload: &'a mut Upload,
    /// Longest silence of both sides.
    pub silence: Duration,
    /// By when all must be over, if ever.
    pub end_by: Option<Instant>,
    /// By when the client, which waits for it, is told to send the body.
    pub continue_at: Option<Instant>,
    /// Whether the client knows of interim responses.
    pub interim: bool,
    /// Whether an interim response came.
    pub spoke: bool,
}

/// Why there is no response head.
#[derive(Debug)]
pub enum NoResponse {
    /// Nothing moved for too long.
    Timeout,
    /// The server ended the connection.
    Closed(Option<io::Error>),
    /// The server's answer is no HTTP.
    Malformed(Violation),
    /// The request's body did not come.
    Upload(Failure),
}

/// How a response's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Whole.
    Whole,
    /// The server, or the time, cut it off.
    ServerCut,
    /// Nothing moved for too long.
    Timeout,
    /// The client is gone.
    ClientGone,
}

impl<C, S> Exchange<'_, C, S>
where
    C: Client,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Sends the request, and waits for the head of the final response, which `head` then is.
    pub async fn response(
        &mut self,
        head: &mut Head,
        method: &[u8],
        limits: &HeadLimits,
    ) -> Result<response::Framing, NoResponse> {
        loop {
            poll_fn(|cx| self.poll_response(cx, head, limits)).await?;
            let framing = response::framing(head, method).map_err(NoResponse::Malformed)?;
            if !framing.is_interim() {
                return Ok(framing);
            }
            self.spoke = true;
            if framing.status == 100 {
                self.tell_to_continue();
            } else if self.interim {
                let delivery = super::fields::Delivery::interim();
                super::fields::to_client(self.client.head(), head, delivery, super::fields::Says::default());
            }
        }
    }

    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut Head,
        limits: &HeadLimits,
    ) -> Poll<Result<(), NoResponse>> {
        // What the server said before it stopped reading is read below.
        let sent = self.upload.poll(cx, self.client, self.server);
        if let Some(failure) = self.upload.failure() {
            return Poll::Ready(Err(NoResponse::Upload(failure)));
        }
        // What waits for the client leaves first: without end, interim responses would fill the memory.
        let flushed = self.client.poll_flush(cx);
        if let Poll::Ready(Err(_)) = flushed {
            return Poll::Ready(Err(NoResponse::Upload(Failure::Client)));
        }
        if flushed.is_ready()
            && let Poll::Ready(read) =
                self.server.poll_head(cx, limits, &mut |bytes| head.read_response(bytes, limits))
        {
            return Poll::Ready(match read {
                Ok(Some(())) => Ok(()),
                Ok(None) => Err(NoResponse::Closed(None)),
                Err(LinkError::Violation(violation)) => Err(NoResponse::Malformed(violation)),
                Err(LinkError::Cut) => Err(NoResponse::Closed(None)),
                Err(LinkError::Io(error)) => Err(NoResponse::Closed(Some(error))),
            });
        }
        // While a client waits for its answer, only its end is of interest.
        if sent.is_ready() && self.client.poll_gone(cx) {
            return Poll::Ready(Err(NoResponse::Upload(Failure::Client)));
        }
        if self.continue_at.is_some_and(|at| self.timer.poll(cx, at).is_ready()) {
            self.tell_to_continue();
        }
        if let Poll::Ready(Err(_)) = self.client.poll_flush(cx) {
            return Poll::Ready(Err(NoResponse::Upload(Failure::Client)));
        }
        self.poll_time(cx, self.upload.moved()).map(|()| {
            let failure = self.upload.failure();
            Err(failure.map_or(NoResponse::Timeout, NoResponse::Upload))
        })
    }

    /// The client is told once, by whom ever first.
    fn tell_to_continue(&mut self) {
        if self.continue_at.take().is_some() {
            self.client.head().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Sends the response on, whose head waits to be written to `client`; `bytes` counts its content.
    pub async fn deliver(&mut self, body: Length, bytes: &mut u64) -> Ended {
        self.server.expect_body(body);
        let mut moved = Instant::now();
        poll_fn(|cx| {
            let _until_over = self.upload.poll(cx, self.client, self.server);
            let before = *bytes;
            if let Poll::Ready(ended) = self.poll_download(cx, bytes) {
                return Poll::Ready(ended);
            }
            if *bytes != before {
                moved = Instant::now();
            }
            self.poll_time(cx, moved.max(self.upload.moved())).map(|()| Ended::Timeout)
        })
        .await
    }

    fn poll_download(&mut self, cx: &mut Context<'_>, bytes: &mut u64) -> Poll<Ended> {
        loop {
            let content = match self.server.poll_content(cx) {
                Poll::Ready(Ok([])) => break,
                Poll::Ready(Ok(content)) => content,
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a response did not come to its end");
                    // What did come is the client's.
                    return self.client.poll_flush(cx).map(|_| Ended::ServerCut);
                }
                Poll::Pending => match self.client.poll_flush(cx) {
                    Poll::Ready(Err(_)) => return Poll::Ready(Ended::ClientGone),
                    Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
                },
            };
            match self.client.poll_write(cx, content) {
                Poll::Ready(Ok(length)) => {
                    self.server.consume_content(length);
                    *bytes += u64::try_from(length).unwrap_or(u64::MAX);
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return Poll::Ready(Ended::ServerCut);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Ended::ClientGone),
                Poll::Pending => return Poll::Pending,
            }
        }
        if !self.client.finish_body(self.server.trailers()) {
            return Poll::Ready(Ended::ServerCut);
        }
        self.client
            .poll_flush(cx)
            .map(|flushed| if flushed.is_ok() { Ended::Whole } else { Ended::ClientGone })
    }

    /// Lets the request's body, which was answered early, come to its end.
    pub async fn finish_upload(&mut self) {
        poll_fn(|cx| {
            loop {
                if self.upload.poll(cx, self.client, self.server).is_ready() {
                    return Poll::Ready(());
                }
                match self.upload.is_left_at() {
                    None => return self.poll_time(cx, self.upload.moved()),
                    Some(at) if self.timer.poll(cx, at).is_pending() => return Poll::Pending,
                    Some(_) => self.upload.sink(Instant::now()),
                }
            }
        })
        .await;
    }

    /// Ready when time is up. A body that is too slow has failed by then.
    fn poll_time(&mut self, cx: &mut Context<'_>, moved: Instant) -> Poll<()> {
        let silent = moved + self.silence;
        let all = [Some(silent), self.end_by, self.upload.deadline()];
        let deadline = all.into_iter().flatten().fold(silent, Instant::min);
        self.timer.poll(cx, deadline).map(|()| self.upload.expire(Instant::now()))
    }
}
