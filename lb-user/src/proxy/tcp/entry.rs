//! A TCP connection's line in the access log, written when the connection ends, however it does.

use std::net::SocketAddr;

use crate::clock::Time;
use crate::proxy::access::{Asked, Entry, Names, Outcome};
use crate::proxy::cause::Cause;
use crate::proxy::metrics::Parties;
use crate::proxy::seen::{Seen, is_drained};
use crate::proxy::splice::{Bytes, Ended};
use crate::wall::WallTime;

/// A connection while it lives. Dropped, it is logged; before `ended` is set, as one that was cut off.
pub(super) struct Record<'a> {
    seen: &'a Seen,
    service: &'a str,
    from: SocketAddr,
    to: SocketAddr,
    opened: Time,
    /// The server name in its ClientHello, where that was looked at.
    pub(super) name: Option<String>,
    /// The pool and server that it was connected to.
    pub(super) parties: Parties,
    /// What went both ways, the PROXY header apart.
    pub(super) bytes: Bytes,
    /// What became of it.
    pub(super) ended: Option<Result<Ended, Cause>>,
}

impl<'a> Record<'a> {
    /// A connection that was just accepted.
    pub(super) fn new(seen: &'a Seen, service: &'a str, from: SocketAddr, to: SocketAddr) -> Self {
        let (opened, parties, bytes) = (Time::now(), Parties::default(), Bytes::default());
        Self { seen, service, from, to, opened, name: None, parties, bytes, ended: None }
    }
}

impl Record<'_> {
    /// A pool was chosen.
    pub(super) fn chosen(&mut self, pool: &str) {
        self.parties.farm = self.seen.metrics.layout().farm(pool);
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let (cause, whole) = match self.ended {
            Some(Ok(Ended::Whole)) => (None, true),
            Some(Ok(Ended::ServerGone)) => (Some(Cause::ServerClosed), false),
            Some(Ok(Ended::Idle)) => (Some(Cause::Timeout), false),
            Some(Ok(Ended::ClientGone)) => (None, false),
            None => (is_drained().then_some(Cause::Drained), false),
            Some(Err(cause)) => (Some(cause), false),
        };
        let Bytes { up: received, down: sent } = self.bytes;
        let took = Time::now().since(self.opened);
        let outcome = Outcome { cause, whole, took, received, sent, ..Outcome::default() };
        let entry = Entry {
            time: WallTime::now(),
            client: self.from.ip(),
            local: self.to,
            tls: None,
            asked: Asked::Tcp { sni: self.name.as_deref().unwrap_or_default() },
            names: Names { site: self.service, ..self.seen.names(self.parties) },
            outcome,
            why: "",
        };
        self.seen.metrics.tcp_ended(self.service, &outcome);
        self.seen.log.write(&entry, self.seen.settings);
    }
}
