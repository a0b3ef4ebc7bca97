//! A request that was read: to a server, and its response back.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::servers::{Missing, Server, Wish};
use super::{Dial, Entry, Next, Session};
use crate::clock::Time;
use crate::config::model::Bounds;
use crate::proxy::balance::affinity::Claim;
use crate::proxy::balance::farm::LiveOutcome;
use crate::proxy::balance::load::InFlight;
use crate::proxy::cause::Cause;
use crate::proxy::client::Client;
use crate::proxy::edits::Edits;
use crate::proxy::exchange::{Ended, Exchange, NoResponse};
use crate::proxy::fields::{self, Delivery, Origin, Says};
use crate::proxy::guard::Ticket;
use crate::proxy::hold::Hold;
use crate::proxy::http1::{Head, Length, Version, request, response};
use crate::proxy::pace::Pace;
use crate::proxy::pin;
use crate::proxy::policy::{Decision, Facts, Forward};
use crate::proxy::seen::Record;
use crate::proxy::splice::{self, Bytes, Times, splice};
use crate::proxy::upload::{Failure, Upload};

/// A request and what it is served with.
pub(super) struct Turn<'a> {
    pub(super) head: &'a Head,
    pub(super) framing: request::Framing<'a>,
    pub(super) record: Record<'a>,
    /// Index of the site that serves it.
    site: usize,
    bounds: Bounds,
    /// What its affinity cookie says.
    claim: Option<Claim>,
    /// What it wants of its server.
    wish: Wish,
    /// It logs its server connection on.
    logs_on: bool,
    upload: Upload,
    /// What is changed of the response's header fields.
    edits: &'a Edits<'a>,
    /// With which it was admitted, until its answer is known.
    ticket: Option<Ticket>,
    /// By when all must be over.
    end_by: Option<Instant>,
}

impl<C, D> Session<C, D>
where
    C: Client,
    D: Dial,
{
    /// Serves the request whose head was read.
    pub(super) async fn serve(&mut self) -> Next {
        let head = std::mem::take(&mut self.head);
        let next = match request::framing(&head) {
            Ok(framing) => self.serve_framed(&head, framing).await,
            Err(violation) => self.refuse(&head, violation),
        };
        self.head = head;
        self.held = None;
        next
    }

    async fn serve_framed<'a>(&mut self, head: &'a Head, framing: request::Framing<'a>) -> Next {
        let met = self.meet(head);
        let mut record = self.record(head);
        (record.host, record.target) = (framing.host, framing.target);
        self.client.expect_body(framing.body);
        if let Err(why) = met {
            tracing::debug!(proxy = %self.peer.address, %why, "a request was refused");
            record.why = Some(why.to_string());
            return self.refuse_with(framing, record, Cause::BadRequest, 400).await;
        }
        let site = match &self.peer.entry {
            Entry::Tls { sni, routes } => routes.site(sni.as_deref(), framing.host),
            Entry::Plain(redirects) => {
                let asks = matches!(head.method(), b"GET" | b"HEAD");
                if let Some(server) = redirects.challenge(framing.host, framing.target).filter(|_| asks) {
                    return self.challenge(head, framing, record, server).await;
                }
                let location = redirects.location(framing.host, framing.target);
                return self.send_away(head, framing, record, location).await;
            }
        };
        let Some(site) = site else {
            return self.refuse_with(framing, record, Cause::UnknownHost, 421).await;
        };
        record.parties.site = Some(site);
        let served = Arc::clone(&self.served);
        let (client, port) = (self.from(), self.peer.to.port());
        match served.sites[site].decide(Facts {
            head,
            host: framing.host,
            target: framing.target,
            client,
            port,
        }) {
            Decision::Forward(forward) => self.forward(head, framing, site, forward, record).await,
            Decision::Redirect { status, to, route } => {
                record.parties.route = route;
                self.redirect(framing, record, status, &to).await
            }
            Decision::Respond { reply, route } => {
                record.parties.route = route;
                self.answer(framing, record, &reply, None).await
            }
            Decision::Refuse { cause, status, why, route } => {
                record.parties.route = route;
                tracing::debug!(%client, host = framing.host, %why, "a request was refused");
                record.why = Some(why.to_string());
                self.refuse_with(framing, record, cause, status).await
            }
            Decision::Abort { rule } => {
                tracing::debug!(%client, rule, "a rule closed a connection");
                record.why = Some(format!("rule {rule:?}: abort"));
                record.outcome.cause = Some(Cause::Refused);
                Next::Drop
            }
        }
    }

    /// A request without TLS. What is not just asked for, but sent, is not: it went over the line already.
    async fn send_away(
        &mut self,
        head: &Head,
        framing: request::Framing<'_>,
        record: Record<'_>,
        location: Option<String>,
    ) -> Next {
        match location {
            None => self.refuse_with(framing, record, Cause::UnknownHost, 421).await,
            Some(to) if matches!(head.method(), b"GET" | b"HEAD") => {
                self.redirect(framing, record, 302, &to).await
            }
            Some(_) => self.refuse_with(framing, record, Cause::Refused, 403).await,
        }
    }

    async fn forward<'a>(
        &mut self,
        head: &'a Head,
        framing: request::Framing<'a>,
        site: usize,
        forward: Forward<'_>,
        mut record: Record<'a>,
    ) -> Next {
        (record.parties.route, record.parties.farm) = (forward.route, Some(forward.farm));
        if matches!(framing.body, Length::Exact(length) if length > forward.bounds.body) {
            return self.refuse_with(framing, record, Cause::Limit, 413).await;
        }
        let pins = pin::request_pins(head);
        if self.peer.via.shared && pins {
            return self.refuse_with(framing, record, Cause::SharedConnection, 403).await;
        }
        if head.version() == Version::Http2 && pins {
            return http11_required(record);
        }
        let ticket = match self.admit(head, framing, site, &forward.target).await {
            Ok(ticket) => ticket,
            Err(refused) => return self.not_admitted(framing, record, refused).await,
        };
        let farm = &self.served.farms[forward.farm];
        let key = farm.group.balance.key(&forward.target, head, self.from());
        let claim = farm.affinity.as_ref().and_then(|cookies| cookies.claim(head));
        let logs_on = pins || pin::edits_pin(&forward.edits);
        let unshared = logs_on || self.peer.via.shared;
        let wish = Wish { key, stay: claim.map(|claim| claim.server), unshared, test: forward.test };
        let server = match self.connection(site, forward.farm, wish, &mut record).await {
            Ok(server) => server,
            Err(missing) => {
                ticket.unanswered();
                return self.without_server(framing, record, missing).await;
            }
        };
        self.held = Some(Hold::of(head));
        let bounds = forward.bounds;
        let upload = self.upload(head, bounds);
        let end_by = bounds.total.map(|total| Instant::now() + total);
        let (edits, ticket) = (&forward.answer, Some(ticket));
        let turn =
            Turn { head, framing, record, site, bounds, claim, wish, logs_on, upload, edits, ticket, end_by };
        self.send(turn, &forward, server).await
    }

    /// Sends the request to the server.
    async fn send(
        &mut self,
        mut turn: Turn<'_>,
        forward: &Forward<'_>,
        mut server: Server<D::Stream>,
    ) -> Next {
        let (head, framing) = (turn.head, turn.framing);
        let farm = &self.served.farms[server.farm];
        let in_flight = farm.group.balance.begin(server.server());
        let sent = Instant::now();
        if turn.logs_on {
            // From here on it is this client's own.
            (server.pinned, server.shared) = (true, None);
        }
        turn.record.outcome.pinned = server.pinned;
        let origin = Origin { client: self.from(), request: turn.record.id, edits: &forward.edits };
        let to = server.link.head();
        fields::to_server(to, head, &forward.target, framing.body, framing.websocket, origin);
        server.link.begin_body(framing.body);
        let heads = self.served.limits.of_heads();
        let continue_at = framing.expects_continue.then(|| Instant::now() + CONTINUE_AFTER);
        let mut answer = std::mem::take(&mut self.answer);
        let mut exchange = self.exchange(&mut turn, &mut server);
        exchange.continue_at = continue_at;
        exchange.interim = head.version() != Version::Http10;
        let told = exchange.response(&mut answer, head.method(), &heads).await;
        let untouched = !exchange.spoke && !server.link.has_input();
        if server.reused
            && untouched
            && matches!(told, Err(NoResponse::Closed(_)))
            && may_be_repeated(&framing, head)
        {
            // It ended as the request was on its way; whether the server failed is not known from that.
            drop((in_flight, server));
            self.answer = answer;
            return Box::pin(self.send_again(turn, forward)).await;
        }
        turn.record.outcome.received = turn.upload.bytes();
        if let Ok(response) = &told {
            turn.record.outcome.first_byte = Some(turn.record.started.elapsed());
            server.answered(head, response.status);
            turn.record.user.clone_from(&server.user);
        }
        self.note_outcome(&told, forward.test, &server, (&in_flight, sent));
        if let Some(ticket) = turn.ticket.take() {
            match &told {
                Ok(_) => ticket.answered(&answer),
                Err(NoResponse::Upload(Failure::Client)) => drop(ticket),
                Err(_) => ticket.unanswered(),
            }
        }
        let next = match told {
            Ok(response) if response.status == 101 => self.switch(turn, &answer, server, in_flight).await,
            Ok(response) => self.respond(turn, &answer, response, server, in_flight).await,
            Err(failed) => {
                // A client that was logged on is not any more, and must not believe so.
                let ends = turn.upload.failure().is_some() || server.pinned && server.shared.is_none();
                drop(server);
                self.failed(framing, failed, ends, turn.record).await
            }
        };
        self.answer = answer;
        next
    }

    /// What a request's outcome tells of its server: how it answers, and whether it does. `sent`: when the request was, which is counted
    /// by the guard.
    fn note_outcome(
        &self,
        told: &Result<response::Framing, NoResponse>,
        test: usize,
        server: &Server<D::Stream>,
        (in_flight, sent): (&InFlight, Instant),
    ) {
        let status = match told {
            Ok(response) => {
                in_flight.responded(sent.elapsed(), Time::now());
                response.status
            }
            // Its client's doing.
            Err(NoResponse::Upload(_)) => return,
            Err(failed @ (NoResponse::Timeout | NoResponse::Closed(_) | NoResponse::Malformed(_))) => {
                in_flight.failed();
                if matches!(failed, NoResponse::Timeout) { 504 } else { 502 }
            }
        };
        let group = &self.served.farms[server.farm].group;
        group.served(test, server.server(), LiveOutcome::Status(status));
    }

    /// Sends a request that a shared connection took to its end, over a connection that nobody had before.
    async fn send_again(&mut self, mut turn: Turn<'_>, forward: &Forward<'_>) -> Next {
        let wish = Wish { unshared: true, ..turn.wish };
        match self.connection(turn.site, forward.farm, wish, &mut turn.record).await {
            Ok(server) => {
                turn.upload = self.upload(turn.head, turn.bounds);
                self.send(turn, forward, server).await
            }
            Err(missing) => {
                turn.ticket.take().into_iter().for_each(Ticket::unanswered);
                self.without_server(turn.framing, turn.record, missing).await
            }
        }
    }

    /// A request's body, of which nothing has moved yet.
    fn upload(&self, head: &Head, bounds: Bounds) -> Upload {
        let limits = &self.served.limits;
        Upload::new(Instant::now(), bounds.body, Pace::of(head.method(), limits), limits.early_answer)
    }

    /// Answers a request for which there is no connection to a server.
    async fn without_server(
        &mut self,
        framing: request::Framing<'_>,
        mut record: Record<'_>,
        missing: Missing,
    ) -> Next {
        match missing {
            Missing::LoggedOn => {
                record.outcome.cause = Some(Cause::ServerClosed);
                Next::Drop
            }
            Missing::Cause(cause) => self.refuse_with(framing, record, cause, cause.status().as_u16()).await,
        }
    }

    fn exchange<'a>(
        &'a mut self,
        turn: &'a mut Turn<'_>,
        server: &'a mut Server<D::Stream>,
    ) -> Exchange<'a, C, D::Stream> {
        Exchange {
            client: &mut self.client,
            server: &mut server.link,
            timer: &mut self.timer,
            upload: &mut turn.upload,
            silence: turn.bounds.silence,
            end_by: turn.end_by,
            continue_at: None,
            interim: false,
            spoke: false,
        }
    }

    /// Sends the response on.
    async fn respond(
        &mut self,
        mut turn: Turn<'_>,
        answer: &Head,
        response: response::Framing,
        mut server: Server<D::Stream>,
        in_flight: InFlight,
    ) -> Next {
        let shared = self.peer.via.shared;
        server.pinned |= !shared && pin::response_pins(answer);
        if turn.head.version() == Version::Http2 && pin::asks_for_connection(answer) {
            return http11_required(turn.record);
        }
        let outcome = &mut turn.record.outcome;
        (outcome.pinned, outcome.status) = (server.pinned, response.status);
        let version = turn.head.version();
        let body = body_for(version, response.body);
        // A shared connection that speaks of logons is nobody's, and goes to nobody else: who logs on does so over another.
        let logged_on = server.pinned && server.shared.is_none();
        let farm = &self.served.farms[server.farm];
        let stays = response.keep_alive && farm.group.balance.view(None).admitting.contains(server.server());
        // Where a logged-on server leaves, its client must not believe itself logged on.
        let keep_alive = turn.framing.keep_alive
            && body != Length::UntilClose
            && !self.shared.phase.borrow().is_ending()
            && (stays || !logged_on);
        let delivery = Delivery { body, version, keep_alive, websocket: false, shared };
        let (site, farm) = (&self.served.sites[turn.site], &self.served.farms[server.farm]);
        let location = site.location(answer, turn.framing.host);
        let affinity = farm.affinity.as_ref();
        let says = Says {
            hsts: site.hsts.as_deref(),
            location: location.as_deref(),
            cookie: affinity.and_then(|cookies| cookies.answer(server.server(), turn.claim, answer)),
            edits: Some(turn.edits),
        };
        fields::to_client(self.client.head(), answer, delivery, says);
        self.client.begin_body(body);
        if !response.keep_alive && !turn.upload.is_over() {
            // A server that says goodbye reads no more.
            turn.upload.sink(Instant::now());
        }
        let mut bytes = 0;
        let mut exchange = self.exchange(&mut turn, &mut server);
        let ended = exchange.deliver(response.body, &mut bytes).await;
        if ended == Ended::Whole && !exchange.upload.is_over() {
            exchange.finish_upload().await;
        }
        let outcome = &mut turn.record.outcome;
        (outcome.sent, outcome.received, outcome.whole) = (bytes, turn.upload.bytes(), ended == Ended::Whole);
        in_flight.downloaded(bytes);
        in_flight.uploaded(turn.upload.bytes());
        drop(in_flight);
        if ended != Ended::Whole {
            return Next::Drop;
        }
        let upload = &turn.upload;
        let reusable = !shared && response.keep_alive && upload.is_whole() && !server.link.has_input();
        let over = upload.is_over() && upload.failure().is_none();
        if reusable {
            self.keep(server, version);
        }
        if keep_alive && over && (reusable || !logged_on) { Next::Rest } else { Next::Close }
    }

    /// Keeps a connection for this client's next request, or for anybody's.
    fn keep(&mut self, mut server: Server<D::Stream>, version: Version) {
        match server.shared {
            // Streams have their server connections in common: what was only asked to log one on is not for another.
            None if server.pinned && version == Version::Http2 => {}
            None => {
                server.used = Instant::now();
                self.put_back(server);
            }
            Some(_) if server.pinned || self.shared.phase.borrow().is_ending() => {}
            Some(place) => self.served.idle.put(place, server.link),
        }
    }

    /// The connection becomes another protocol's.
    async fn switch(
        &mut self,
        mut turn: Turn<'_>,
        answer: &Head,
        mut server: Server<D::Stream>,
        in_flight: InFlight,
    ) -> Next {
        if !turn.framing.websocket {
            let server = turn.record.server_name();
            tracing::warn!(server, "a server switched protocols unasked");
            return self.answer_and_close(turn.record, Cause::ServerClosed, 502);
        }
        turn.record.outcome.status = 101;
        self.held = Some(Hold::WebSocket);
        let delivery = Delivery { websocket: true, ..Delivery::interim() };
        fields::to_client(self.client.head(), answer, delivery, Says::default());
        let idle = turn.bounds.silence;
        if !matches!(timeout(idle, poll_fn(|cx| self.client.poll_flush(cx))).await, Ok(Ok(()))) {
            return Next::Drop;
        }
        let (mut bytes, times) = (Bytes::default(), Times { idle, end_by: turn.end_by });
        let Some(client) = self.client.side() else {
            return Next::Drop;
        };
        let ended = splice(client, server.link.side(), times, &mut bytes).await;
        let outcome = &mut turn.record.outcome;
        (outcome.sent, outcome.received) = (bytes.down, bytes.up);
        outcome.whole = ended == splice::Ended::Whole;
        in_flight.downloaded(bytes.down);
        Next::Drop
    }
}

/// Whether a request may be sent once more that a server perhaps got already: it does the same twice as once (RFC 9110, 9.2.2), and
/// nothing of it is gone.
fn may_be_repeated(framing: &request::Framing<'_>, head: &Head) -> bool {
    let idempotent = matches!(head.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE");
    idempotent && framing.body == Length::None && !framing.websocket
}

/// Windows authentication logs a connection on, and an HTTP/2 connection is many requests' at once: the client is told to come
/// with HTTP/1.1 (RFC 9113, 7), as IIS does.
fn http11_required(mut record: Record<'_>) -> Next {
    let cause = Cause::Http11Required;
    (record.outcome.cause, record.outcome.status) = (Some(cause), cause.status().as_u16());
    Next::Http11Required
}

/// How a response's body is framed for a client.
pub(super) fn body_for(version: Version, body: Length) -> Length {
    match (version, body) {
        (Version::Http10, Length::Chunked | Length::UntilClose) => Length::UntilClose,
        (Version::Http11 | Version::Http2, Length::UntilClose) => Length::Chunked,
        (_, Length::None | Length::Exact(_) | Length::Chunked) => body,
    }
}

/// How long a client that asked to be told waits for the word of its server before it gets ours.
const CONTINUE_AFTER: Duration = Duration::from_secs(1);
