//! The last requests of a worker, for an operator who asks what became of one. Bounded: the oldest goes when another comes.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access::Outcome;
use super::metrics::{Layout, Parties};
use super::number::RequestId;
use crate::wall::WallTime;

/// See the module. One for the life of a worker.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    kept: Vec<Kept>,
    /// Where the next one goes, once all places are taken.
    next: usize,
}

/// A request as it is kept: nothing on the heap but what all of a configuration share, and why it was refused.
#[derive(Clone, Debug)]
struct Kept {
    id: RequestId,
    ended: WallTime,
    client: IpAddr,
    method: Short<16>,
    host: Short<64>,
    path: Short<128>,
    layout: Arc<Layout>,
    parties: Parties,
    outcome: Outcome,
    why: Option<Box<str>>,
}

/// The beginning of a text.
#[derive(Clone, Copy, Debug)]
struct Short<const MOST: usize> {
    bytes: [u8; MOST],
    length: u8,
}

impl<const MOST: usize> Short<MOST> {
    fn of(text: &[u8]) -> Self {
        let text = &text[..text.len().min(MOST)];
        let mut bytes = [0; MOST];
        bytes[..text.len()].copy_from_slice(text);
        Self { bytes, length: u8::try_from(text.len()).unwrap_or(u8::MAX) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..usize::from(self.length)]).into_owned()
    }
}

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Remember<'a> {
    /// Its number.
    pub id: RequestId,
    /// When it ended.
    pub ended: WallTime,
    /// Who sent it.
    pub client: IpAddr,
    /// Its method.
    pub method: &'a [u8],
    /// The name that it asked for.
    pub host: &'a str,
    /// Its path, without the query.
    pub path: &'a [u8],
    /// The names that `parties` are indices of.
    pub layout: &'a Arc<Layout>,
    /// Who dealt with it.
    pub parties: Parties,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// Why it was refused.
    pub why: Option<&'a str>,
}

/// What is remembered of a request. Texts are cut; none: empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recalled {
    /// Its number.
    pub id: String,
    /// When it ended, in milliseconds since 1970 (UTC).
    pub ended_ms: u64,
    /// The client's address.
    pub client: String,
    /// Its method.
    pub method: String,
    /// The name that it asked for.
    pub host: String,
    /// Its path, without the query.
    pub path: String,
    /// The site.
    pub site: String,
    /// The route.
    pub route: String,
    /// The farm.
    pub farm: String,
    /// The server that it was sent to, or that was tried last.
    pub server: String,
    /// The response's status.
    pub status: u16,
    /// Why the proxy itself answered.
    pub cause: String,
    /// What was wrong with the request.
    pub violation: String,
    /// Which list, route, rule or mitigation refused it.
    pub why: String,
    /// Whether somebody has logged on over the connection to the server.
    pub pinned: bool,
    /// Whether the response came to its end.
    pub whole: bool,
    /// Microseconds to connect to the server; `None`: there was a connection.
    pub connect_us: Option<u64>,
    /// Microseconds of the TLS handshake with it.
    pub tls_us: Option<u64>,
    /// Microseconds to the head of its response.
    pub first_byte_us: Option<u64>,
    /// Microseconds to the end.
    pub total_us: u64,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the response's body.
    pub sent: u64,
}

impl Recent {
    /// Keeps a request, and forgets the oldest beyond [`KEPT`].
    pub fn remember(&self, request: &Remember<'_>) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Ring { kept, next } = &mut *ring;
        if kept.len() < KEPT {
            kept.push(Kept::of(request));
            return;
        }
        kept[*next] = Kept::of(request);
        *next = (*next + 1) % KEPT;
    }

    /// What is remembered of a request.
    pub fn recall(&self, id: RequestId) -> Option<Recalled> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.kept.iter().find(|kept| kept.id == id).map(Kept::recalled)
    }
}

impl Kept {
    fn of(request: &Remember<'_>) -> Self {
        let &Remember { id, ended, client, method, host, path, layout, parties, outcome, why } = request;
        Self {
            id,
            ended,
            client,
            method: Short::of(method),
            host: Short::of(host.as_bytes()),
            path: Short::of(path),
            layout: Arc::clone(layout),
            parties,
            outcome: *outcome,
            why: why.map(Box::from),
        }
    }

    fn recalled(&self) -> Recalled {
        let (parties, outcome) = (self.parties, &self.outcome);
        let (site, route) = self.layout.site(parties.site, parties.route);
        let (farm, server) = self.layout.server(parties.farm, parties.server);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Recalled {
            id: self.id.to_string(),
            ended_ms: self.ended.unix_ms(),
            client: self.client.to_string(),
            method: self.method.text(),
            host: self.host.text(),
            path: self.path.text(),
            site: site.to_owned(),
            route: route.to_owned(),
            farm: farm.to_owned(),
            server: server.to_owned(),
            status: outcome.status,
            cause: outcome.cause.map_or("", |cause| cause.as_str()).to_owned(),
            violation: outcome.violation.map_or("", |violation| violation.name()).to_owned(),
            why: self.why.as_deref().unwrap_or_default().to_owned(),
            pinned: outcome.pinned,
            whole: outcome.whole,
            connect_us: outcome.connect.map(micros),
            tls_us: outcome.greet.map(micros),
            first_byte_us: outcome.first_byte.map(micros),
            total_us: micros(outcome.took),
            received: outcome.received,
            sent: outcome.sent,
        }
    }
}

/// How many requests are kept: some 600 kB.
const KEPT: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::cause::Cause;

    #[test]
    fn the_last_requests_are_remembered_and_older_ones_are_not() {
        let layout = Arc::new(Layout::default());
        let recent = Recent::default();
        let outcome = Outcome { status: 403, cause: Some(Cause::Refused), ..Outcome::default() };
        let path = [b'a'; 500];
        for count in 0..KEPT as u64 + 5 {
            recent.remember(&Remember {
                id: RequestId::new(7, count),
                ended: WallTime::from_unix_ms(count),
                client: "203.0.113.5".parse().unwrap(),
                method: b"GET",
                host: "mail.example.test",
                path: &path,
                layout: &layout,
                parties: Parties::default(),
                outcome: &outcome,
                why: Some("a rule"),
            });
        }
        let recall = |count| recent.recall(RequestId::new(7, count));
        assert_eq!(recall(4), None);
        for count in [5, 500, KEPT as u64 + 4] {
            let recalled = recall(count).unwrap();
            assert_eq!((recalled.ended_ms, recalled.status), (count, 403));
            assert_eq!((recalled.cause.as_str(), recalled.why.as_str()), ("refused", "a rule"));
            assert_eq!((recalled.path.len(), recalled.host.as_str()), (128, "mail.example.test"));
        }
        assert_eq!(recent.recall(RequestId::new(8, 5)), None);
    }
}
