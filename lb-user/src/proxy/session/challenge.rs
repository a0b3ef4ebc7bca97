//! A certificate authority's challenge, which comes without TLS and is answered by whoever asked for the certificate.
//!
//! Nothing of the request goes on but what is asked for: it belongs to nobody who is logged on, and there is no farm, and no test
//! of the server, which often listens for as long as it waits for the challenge and no longer.

use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Dial, Next, Session};
use crate::proxy::cause::Cause;
use crate::proxy::client::Client;
use crate::proxy::exchange::{Ended, Exchange};
use crate::proxy::fields::{self, Delivery, Says};
use crate::proxy::http1::{Head, Length, request};
use crate::proxy::link::Link;
use crate::proxy::seen::Record;
use crate::proxy::upload::Upload;

impl<C, D> Session<C, D>
where
    C: Client,
    D: Dial,
{
    /// Asks `server` for a GET's or HEAD's target. The connection ends with the answer.
    pub(super) async fn challenge(
        &mut self,
        head: &Head,
        framing: request::Framing<'_>,
        mut record: Record<'_>,
        server: SocketAddrV4,
    ) -> Next {
        if framing.body != Length::None {
            return self.refuse_with(framing, record, Cause::Refused, 403).await;
        }
        let dialled = timeout(CONNECT, self.served.dial.dial_in_clear(server)).await;
        let Ok(dialled) = dialled.unwrap_or(Err(Cause::ConnectFailed)) else {
            return self.answer_and_close(record, Cause::ConnectFailed, 502);
        };
        record.elsewhere = Some(server.to_string());
        record.outcome.connect = Some(dialled.connect);
        let mut link = Link::new(dialled.stream);
        let (method, client) = (String::from_utf8_lossy(head.method()), self.from());
        let asked = format!(
            "{method} {} HTTP/1.1\r\nHost: {}\r\nX-Forwarded-For: {client}\r\nX-Forwarded-Proto: http\r\nX-Request-Id: {}\r\n\
             Connection: close\r\n\r\n",
            framing.target, framing.host, record.id
        );
        link.head().extend_from_slice(asked.as_bytes());
        let (now, heads) = (Instant::now(), self.served.limits.of_heads());
        let mut upload = Upload::new(now, 0, None, self.served.limits.early_answer);
        let mut answer = std::mem::take(&mut self.answer);
        let mut exchange = Exchange {
            client: &mut self.client,
            server: &mut link,
            timer: &mut self.timer,
            upload: &mut upload,
            silence: ANSWER,
            end_by: Some(now + ANSWER),
            continue_at: None,
            interim: false,
            spoke: false,
        };
        let next = match exchange.response(&mut answer, head.method(), &heads).await {
            Ok(response) if response.status != 101 => {
                let body = super::serve::body_for(head.version(), response.body);
                let delivery = Delivery {
                    body,
                    version: head.version(),
                    keep_alive: false,
                    websocket: false,
                    shared: false,
                };
                fields::to_client(exchange.client.head(), &answer, delivery, Says::default());
                exchange.client.begin_body(body);
                let mut bytes = 0;
                let ended = exchange.deliver(response.body, &mut bytes).await;
                let outcome = &mut record.outcome;
                (outcome.status, outcome.sent, outcome.whole) =
                    (response.status, bytes, ended == Ended::Whole);
                if ended == Ended::Whole { Next::Close } else { Next::Drop }
            }
            Ok(_) => self.answer_and_close(record, Cause::ServerClosed, 502),
            Err(failed) => self.failed(framing, failed, true, record).await,
        };
        self.answer = answer;
        next
    }
}

/// Longest time to connect to the server.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest time for its answer: authorities wait for some ten seconds.
const ANSWER: Duration = Duration::from_secs(20);
