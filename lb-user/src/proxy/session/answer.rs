//! Answers of the proxy's own.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;

use super::{Dial, GOODBYE, Next, Peer, Session};
use crate::proxy::cause::Cause;
use crate::proxy::client::Client;
use crate::proxy::edits::Edits;
use crate::proxy::exchange::NoResponse;
use crate::proxy::fields::{self, Own};
use crate::proxy::http1::{Head, Violation, request};
use crate::proxy::policy::{Facts, Reply};
use crate::proxy::seen::{CLIENT_LEFT, Record, Source};
use crate::proxy::upload::{Failure, Upload};

impl<C, D> Session<C, D>
where
    C: Client,
    D: Dial,
{
    /// A request whose head was read just now.
    pub(super) fn record<'a>(&self, head: &'a Head) -> Record<'a> {
        let Peer { to, tls, .. } = *self.peer;
        Record::new(Arc::clone(&self.served.seen), Source { client: self.from(), local: to, tls }, head)
    }

    /// Answers a request that no server answered; `ends`: its client's connection ends with it, because the body did not come to its end, or
    /// because the client had logged on over the server's connection.
    pub(super) async fn failed(
        &mut self,
        framing: request::Framing<'_>,
        failed: NoResponse,
        ends: bool,
        mut record: Record<'_>,
    ) -> Next {
        let (cause, status) = match failed {
            NoResponse::Timeout => (Cause::Timeout, 504),
            NoResponse::Closed(error) => {
                if let Some(error) = error {
                    tracing::debug!(%error, "a server connection failed");
                }
                (Cause::ServerClosed, 502)
            }
            NoResponse::Malformed(violation) => {
                let server = record.server_name();
                tracing::warn!(server, %violation, "a server's answer is no HTTP");
                (Cause::ServerClosed, 502)
            }
            NoResponse::Upload(Failure::Slow) => (Cause::ClientSlow, 408),
            NoResponse::Upload(Failure::TooLong) => (Cause::Limit, 413),
            NoResponse::Upload(Failure::Malformed(violation)) => {
                record.outcome.violation = Some(violation);
                (Cause::BadRequest, violation.status())
            }
            NoResponse::Upload(Failure::Client) => {
                record.outcome.status = CLIENT_LEFT;
                return Next::Drop;
            }
        };
        if ends {
            return self.answer_and_close(record, cause, status);
        }
        self.refuse_with(framing, record, cause, status).await
    }

    /// Refuses a request; the page says nothing but the status.
    pub(super) async fn refuse_with(
        &mut self,
        framing: request::Framing<'_>,
        mut record: Record<'_>,
        cause: Cause,
        status: u16,
    ) -> Next {
        record.outcome.cause = Some(cause);
        self.answer(framing, record, &refusal(status), None).await
    }

    /// Sends the client elsewhere.
    pub(super) async fn redirect(
        &mut self,
        framing: request::Framing<'_>,
        record: Record<'_>,
        status: u16,
        to: &str,
    ) -> Next {
        self.answer(framing, record, &Reply::plain(status, ""), Some(to)).await
    }

    /// An answer of the proxy's own. What the client still uploads is read, so that it gets to see the answer.
    pub(super) async fn answer(
        &mut self,
        framing: request::Framing<'_>,
        mut record: Record<'_>,
        reply: &Reply<'_>,
        location: Option<&str>,
    ) -> Next {
        // A client that waits for the word to send its body may send it or not: where its next request begins is not known.
        let keep_alive =
            !framing.expects_continue && framing.keep_alive && !self.shared.phase.borrow().is_ending();
        self.write_answer(&mut record, reply, location, keep_alive);
        if !keep_alive {
            return Next::Close;
        }
        let mut upload = Upload::unwanted(Instant::now(), UNWANTED_BYTES, self.served.limits.early_answer);
        let (client, timer) = (&mut self.client, &mut self.timer);
        poll_fn(|cx| {
            // Both at once: a client may read its answer only when all is sent, or the other way round.
            let flushed = client.poll_flush(cx);
            if let Poll::Ready(Err(_)) = flushed {
                return Poll::Ready(());
            }
            if upload.poll_to_nowhere(cx, client).is_ready() && flushed.is_ready() {
                return Poll::Ready(());
            }
            let deadline = upload.deadline().unwrap_or_else(|| upload.moved() + GOODBYE);
            timer.poll(cx, deadline)
        })
        .await;
        if upload.is_over() && upload.failure().is_none() { Next::Rest } else { Next::Close }
    }

    pub(super) fn answer_and_close(&mut self, mut record: Record<'_>, cause: Cause, status: u16) -> Next {
        record.outcome.cause = Some(cause);
        self.write_answer(&mut record, &refusal(status), None, false);
        Next::Close
    }

    fn write_answer(
        &mut self,
        record: &mut Record<'_>,
        reply: &Reply<'_>,
        location: Option<&str>,
        keep_alive: bool,
    ) {
        let Reply { status, content_type, retry_after, .. } = *reply;
        // Without TLS, and before the request is understood, there is no site, whose word this would be (RFC 6797, 7.2).
        let site = record.parties.site.map(|site| &self.served.sites[site]);
        let (host, target, port) = (record.host, record.target, self.peer.to.port());
        let facts = Facts { head: record.head, host, target, client: self.from(), port };
        let edits = site.map_or(Edits::NONE, |site| site.own_answer(facts, record.parties.route));
        let own = Own {
            status,
            reason: if reply.reason.is_empty() { reason(status) } else { &reply.reason },
            text: &reply.body,
            content_type,
            retry_after,
            to_head: record.head.method() == b"HEAD",
            location,
            hsts: site.and_then(|site| site.hsts.as_deref()),
            edits: &edits,
            request: record.id,
            keep_alive,
        };
        let content = fields::own(self.client.head(), own);
        self.client.put_text(content);
        let outcome = &mut record.outcome;
        let sent = u64::try_from(content.len()).unwrap_or_default();
        (outcome.sent, outcome.status, outcome.whole) = (sent, status, true);
    }

    /// Refuses what is no request, of which `head` is as much as was understood. Nothing after it can be understood either.
    pub(super) fn refuse(&mut self, head: &Head, violation: Violation) -> Next {
        tracing::debug!(client = %self.peer.address, %violation, "a request was refused");
        let mut record = self.record(head);
        record.outcome.violation = Some(violation);
        let cause = if violation.is_excess() { Cause::Limit } else { Cause::BadRequest };
        self.answer_and_close(record, cause, violation.status())
    }
}

/// What says nothing about the inside but the status.
pub(super) fn refusal(status: u16) -> Reply<'static> {
    Reply::plain(status, format!("{status} {}\n", reason(status)))
}

/// RFC 9110, section 15; empty for what is not there.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        205 => "Reset Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Bytes of a body that nobody wants which are read all the same.
const UNWANTED_BYTES: u64 = 128 << 20;
