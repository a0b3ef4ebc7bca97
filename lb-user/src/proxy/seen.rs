//! What the operator gets to see of requests and connections: their lines in the log, what is counted of them, and the last of them.
//! One for each configuration; nothing in it belongs to a client.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::time::Instant;

use super::access::{AccessLog, Asked, Entry, LogSettings, Names, Outcome, TlsFacts, split_target};
use super::cause::Cause;
use super::http1::{Head, Known};
use super::metrics::{Layout, Metrics, Parties, Place};
use super::number::{Numbers, RequestId};
use super::protect::credentials::spelled;
use super::recent::{Recent, Remember};
use super::snapshot::Snapshot;
use crate::wall::WallTime;

/// See the module.
#[derive(Debug)]
pub struct Seen {
    /// Where lines go.
    pub log: AccessLog,
    /// What they are to say.
    pub settings: LogSettings,
    /// What is counted.
    pub metrics: Metrics,
    /// The last requests.
    pub recent: Arc<Recent>,
    /// Requests in flight.
    pub requests: Arc<AtomicU32>,
    /// Numbers the requests.
    pub numbers: Arc<Numbers>,
}

impl Seen {
    /// What is to be seen of a proxy that serves `snapshot`. `random`: of this worker alone.
    pub fn new(snapshot: &Snapshot, log: AccessLog, random: u64) -> Self {
        log.set_format(snapshot.log.format);
        Self {
            log,
            settings: snapshot.log,
            metrics: Metrics::new(Layout::of(snapshot)),
            recent: Arc::default(),
            requests: Arc::default(),
            numbers: Arc::new(Numbers::new(random)),
        }
    }

    /// What is to be seen under the next configuration, once it is in force: log, numbers and counts go on.
    #[must_use]
    pub fn next(&self, snapshot: &Snapshot) -> Self {
        Self {
            log: self.log.clone(),
            settings: snapshot.log,
            metrics: Metrics::following(Layout::of(snapshot), Some(&self.metrics)),
            recent: Arc::clone(&self.recent),
            requests: Arc::clone(&self.requests),
            numbers: Arc::clone(&self.numbers),
        }
    }

    /// Their names.
    pub fn names(&self, parties: Parties) -> Names<'_> {
        let layout = self.metrics.layout();
        let (site, route) = layout.site(parties.site, parties.route);
        let (farm, server) = layout.server(parties.farm, parties.server);
        Names { site, route, farm, server }
    }
}

/// Whence a request or connection came.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The client's address.
    pub client: IpAddr,
    /// The address and port that it connected to.
    pub local: SocketAddr,
    /// What its TLS handshake came to.
    pub tls: Option<TlsFacts>,
}

/// A request while it lives. Dropped, however that comes about, it is counted and logged.
pub struct Record<'a> {
    seen: Arc<Seen>,
    source: Source,
    /// Its head.
    pub head: &'a Head,
    /// Its number.
    pub id: RequestId,
    /// The name that it asks for, once that is understood.
    pub host: &'a str,
    /// Likewise, path and query.
    pub target: &'a str,
    /// Who deals with it.
    pub parties: Parties,
    /// The server that it was sent to, if that is of no farm.
    pub elsewhere: Option<String>,
    /// What comes of it. `took` is set at the end.
    pub outcome: Outcome,
    /// Which list, route, rule or mitigation refused it.
    pub why: Option<String>,
    /// The user that its server connection is logged on as, if one is known.
    pub user: Option<Arc<[u8]>>,
    /// When its head was read.
    pub started: Instant,
}

impl<'a> Record<'a> {
    /// A request whose head was read just now.
    pub fn new(seen: Arc<Seen>, source: Source, head: &'a Head) -> Self {
        seen.requests.fetch_add(1, Ordering::Relaxed);
        Self {
            source,
            head,
            id: seen.numbers.next(),
            host: "",
            target: "",
            parties: Parties::default(),
            elsewhere: None,
            outcome: Outcome { status: CLIENT_LEFT, ..Outcome::default() },
            why: None,
            user: None,
            started: Instant::now(),
            seen,
        }
    }

    /// The server that it was sent to.
    pub fn server_name(&self) -> &str {
        self.elsewhere.as_deref().unwrap_or_else(|| self.seen.names(self.parties).server)
    }

    /// It goes to another server of its farm.
    pub fn retried(&self) {
        if let Some(farm) = self.parties.farm {
            self.seen.metrics.retried(farm);
        }
    }

    /// The server that it was to go to could not be connected to.
    pub fn cannot_connect(&self, cause: Cause) {
        if let (Some(of), Some(part)) = (self.parties.farm, self.parties.server) {
            self.seen.metrics.server_failed(Place { of, part }, cause);
        }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let Self { seen, source, head, id, host, target: _, parties, elsewhere, outcome, why, user, started } =
            self;
        seen.requests.fetch_sub(1, Ordering::Relaxed);
        outcome.took = started.elapsed();
        if is_drained() && !outcome.whole && outcome.cause.is_none() {
            outcome.cause = Some(Cause::Drained);
            if outcome.status == CLIENT_LEFT {
                outcome.status = Cause::Drained.status().as_u16();
            }
        }
        seen.metrics.ended(*parties, outcome);
        // A name that the server refused is nobody's.
        let named = match head.values(Known::Authorization).next() {
            Some(value) if outcome.status != 401 => spelled(value),
            Some(_) | None => None,
        };
        let user = named.as_deref().or(user.as_deref()).unwrap_or_default();
        let names = seen.names(*parties);
        let names = Names { server: elsewhere.as_deref().unwrap_or(names.server), ..names };
        let ended = WallTime::now();
        seen.recent.remember(&Remember {
            id: *id,
            ended,
            client: source.client,
            method: head.method(),
            host,
            path: split_target(head).0,
            layout: seen.metrics.layout(),
            parties: *parties,
            outcome,
            why: why.as_deref(),
        });
        let entry = Entry {
            time: ended,
            client: source.client,
            local: source.local,
            tls: source.tls,
            asked: Asked::Request { id: *id, head, host, user },
            names,
            outcome: *outcome,
            why: why.as_deref().unwrap_or_default(),
        };
        seen.log.write(&entry, seen.settings);
    }
}

thread_local! {
    /// Whether what this thread drops now is cut off.
    static DRAINED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `cut`, which drops what is still served at the end of a drain timeout: records in it end as [`Cause::Drained`]. Dropped
/// otherwise, they end as if their clients had left, and nothing else tells one from the other.
pub fn drained(cut: impl FnOnce()) {
    let before = DRAINED.replace(true);
    cut();
    DRAINED.set(before);
}

/// Whether a record that is dropped now is cut off at the end of a drain timeout.
pub(super) fn is_drained() -> bool {
    DRAINED.get()
}

/// What the log shows of a request whose client left before there was an answer; as nginx has it.
pub const CLIENT_LEFT: u16 = 499;
