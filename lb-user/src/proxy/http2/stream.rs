//! One stream: the client of one request.
//!
//! What is written is the library's at once, within the window that the client gave and [`super::SEND_BUFFER`]; its connection
//! sends it (`connection`). What comes is given back to the client's window only as it is used.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::HeaderMap;
use tokio::io::Empty;

use super::head;
use crate::proxy::client::Client;
use crate::proxy::http1::{Head, HeadLimits, Length, Scanner, Trailers};
use crate::proxy::link::LinkError;
use crate::proxy::splice::Side;

/// See the module.
pub struct Stream {
    body: RecvStream,
    /// What came of the body and was not used yet.
    content: Bytes,
    trailers: Option<Trailers>,
    body_ended: bool,
    respond: SendResponse<Bytes>,
    /// The response, once it has begun.
    response: Option<SendStream<Bytes>>,
    /// All of the response is the library's.
    whole: bool,
    /// Heads to be sent, in the form of HTTP/1.
    heads: Vec<u8>,
    /// Interim responses that may still be sent.
    interim: u32,
    /// Content that the response still owes, if its length was said.
    owed: Option<u64>,
    /// The content of an answer of ours.
    text: Bytes,
    /// The response has ended with these trailers.
    end: Option<HeaderMap>,
}

impl Stream {
    /// The client of a request that was just accepted.
    pub fn new(body: RecvStream, respond: SendResponse<Bytes>) -> Self {
        Self {
            body_ended: body.is_end_stream(),
            body,
            content: Bytes::new(),
            trailers: None,
            respond,
            response: None,
            whole: false,
            heads: Vec::new(),
            interim: MOST_INTERIM,
            owed: None,
            text: Bytes::new(),
            end: None,
        }
    }

    /// Whether nothing of a body is to come, or none was announced.
    pub fn body_has_ended(&self) -> bool {
        self.body_ended
    }

    /// Breaks the stream off.
    pub fn reset(&mut self, reason: Reason) {
        match &mut self.response {
            None => self.respond.send_reset(reason),
            Some(response) => response.send_reset(reason),
        }
    }

    /// Ready once the client has broken it off, or its connection has ended.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.response {
            None => self.respond.poll_reset(cx).map(drop),
            Some(response) => response.poll_reset(cx).map(drop),
        }
    }

    /// Reads more of the body, or its end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        match ready!(self.body.poll_data(cx)) {
            Some(more) => {
                let more = more.map_err(broken)?;
                let before = std::mem::take(&mut self.content);
                self.content = if before.is_empty() { more } else { [before, more].concat().into() };
            }
            None => {
                let trailers = ready!(self.body.poll_trailers(cx)).map_err(broken)?;
                self.trailers = trailers.as_ref().map(head::read_trailers).transpose()?;
                self.body_ended = true;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn send_heads(&mut self) -> io::Result<()> {
        let heads = std::mem::take(&mut self.heads);
        let limits = HeadLimits { bytes: usize::MAX, target: 0, fields: usize::MAX };
        let mut rest = heads.as_slice();
        while !rest.is_empty() {
            let length = Scanner::default().scan(rest, &limits).map_err(io::Error::other)?;
            let length = length.ok_or(io::ErrorKind::InvalidData)?;
            let mut head = Head::default();
            head.read_response(&rest[..length], &limits).map_err(io::Error::other)?;
            self.send_head(&head)?;
            rest = &rest[length..];
        }
        Ok(())
    }

    fn send_head(&mut self, head: &Head) -> io::Result<()> {
        let response = head::response(head).ok_or(io::ErrorKind::InvalidData)?;
        if response.status().is_informational() {
            // No window holds them back: without end they would fill the memory.
            if let Some(left) = self.interim.checked_sub(1) {
                self.interim = left;
                self.respond.send_informational(response).map_err(broken)?;
            }
            return Ok(());
        }
        self.whole = self.owed == Some(0);
        self.response = Some(self.respond.send_response(response, self.whole).map_err(broken)?);
        Ok(())
    }

    fn poll_text(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.text.is_empty() {
            let text = self.text.clone();
            let sent = ready!(self.poll_data(cx, &text))?;
            self.text.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Sends content that the client has a window for; how much.
    fn poll_data(&mut self, cx: &mut Context<'_>, content: &[u8]) -> Poll<io::Result<usize>> {
        let Some(response) = &mut self.response else {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        };
        response.reserve_capacity(content.len());
        while response.capacity() == 0 {
            match ready!(response.poll_capacity(cx)) {
                Some(granted) => drop(granted.map_err(broken)?),
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let sent = response.capacity().min(content.len());
        let owed = self.owed.map(|owed| owed.saturating_sub(u64::try_from(sent).unwrap_or(u64::MAX)));
        self.whole = owed == Some(0);
        response.send_data(Bytes::copy_from_slice(&content[..sent]), self.whole).map_err(broken)?;
        self.owed = owed;
        Poll::Ready(Ok(sent))
    }

    fn send_end(&mut self) -> io::Result<()> {
        let (Some(trailers), Some(response)) = (self.end.take(), &mut self.response) else {
            return Ok(());
        };
        self.whole = true;
        let sent = if trailers.is_empty() {
            response.send_data(Bytes::new(), true)
        } else {
            response.send_trailers(trailers)
        };
        sent.map_err(broken)
    }
}

impl Client for Stream {
    type Stream = Empty;

    /// It ends by itself, and the library holds it to its length.
    fn expect_body(&mut self, _length: Length) {}

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], LinkError>> {
        while self.content.is_empty() && !self.body_ended {
            ready!(self.poll_more(cx))?;
        }
        Poll::Ready(Ok(&self.content))
    }

    fn poll_peek(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<Result<Option<&[u8]>, LinkError>> {
        while self.content.len() < length && !self.body_ended {
            ready!(self.poll_more(cx))?;
        }
        Poll::Ready(Ok(self.content.get(..length)))
    }

    fn consume_content(&mut self, length: usize) {
        let length = length.min(self.content.len());
        self.content.advance(length);
        // Fails when more is given back than came.
        self.body.flow_control().release_capacity(length).ok();
    }

    fn trailers(&self) -> Option<&Trailers> {
        self.trailers.as_ref()
    }

    fn head(&mut self) -> &mut Vec<u8> {
        &mut self.heads
    }

    fn put_text(&mut self, text: &str) {
        self.text = Bytes::copy_from_slice(text.as_bytes());
        self.owed = u64::try_from(text.len()).ok();
    }

    fn begin_body(&mut self, length: Length) {
        self.owed = match length {
            Length::None => Some(0),
            Length::Exact(length) => Some(length),
            Length::Chunked | Length::UntilClose => None,
        };
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, content: &[u8]) -> Poll<io::Result<usize>> {
        self.send_heads()?;
        ready!(self.poll_text(cx))?;
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        if self.owed.is_some_and(|owed| owed < length) {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        self.poll_data(cx, content)
    }

    fn finish_body(&mut self, trailers: Option<&Trailers>) -> bool {
        match self.owed {
            // Its last frame says so.
            Some(owed) => owed == 0,
            None => {
                self.end = Some(trailers.and_then(head::trailers).unwrap_or_default());
                true
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send_heads()?;
        ready!(self.poll_text(cx))?;
        self.send_end()?;
        if !self.whole && self.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_reset(cx).is_ready()
    }

    fn side(&mut self) -> Option<Side<'_, Empty>> {
        None
    }
}

fn broken(error: h2::Error) -> io::Error {
    error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}

/// Interim responses that a client gets, beside which a server that sends more is not listened to.
const MOST_INTERIM: u32 = 16;
