//! What the proxy counts, all of it, a documented function each; and its text for Prometheus and others (OpenMetrics 1.0).
//!
//! Labels come from the configuration alone: sites by their first name, routes, farms and servers as it names them. Nothing that a
//! client sends becomes a label, so their number is known when the configuration is. Under a new configuration what has the same
//! name is counted on; what began under the old one is counted there, which is the same place.

mod atoms;
mod layout;
mod tally;
pub(crate) mod text;
mod write;

use std::sync::Arc;
use std::time::Duration;

use self::atoms::{Counter, Gauge, Histogram};
pub use self::layout::{Layout, Named, Parties};
pub use self::tally::Tally;
use super::access::Outcome as Ended;
use super::cause::Cause;
use super::protect::connections::ConnectionRefused;
use super::protect::logon::{Outcome, Refused};
use super::protect::rate::Class;

/// A route of a site, or a server of a farm, by indices into the [`Layout`]. What is not in it is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The site or farm.
    pub of: usize,
    /// The route or server.
    pub part: usize,
}

/// A request, when all is over.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// What the client was answered; 499 if it left before, 503 if it was cut off before.
    pub status: u16,
    /// From the request's first byte to the response's last.
    pub took: Duration,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the response's body.
    pub sent: u64,
}

/// How a logon was judged before it went to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// At once.
    Passed,
    /// It waited, and passed then.
    Delayed,
    /// It went to no server.
    Refused(Refused),
    /// Likewise, since too many waited already.
    Crowded,
}

/// Everything that is counted. Shared by all threads.
#[derive(Debug)]
pub struct Metrics {
    layout: Arc<Layout>,
    /// What has no name in the configuration.
    all: Arc<All>,
    /// By site, and behind them those of no site.
    sites: Box<[Site]>,
    farms: Box<[Farm]>,
    services: Box<[Arc<Service>]>,
}

#[derive(Debug, Default)]
struct All {
    open: Gauge,
    in_flight: Gauge,
    accepted: Counter,
    connections_refused: [Counter; 2],
    handshakes: [Histogram; 2],
    handshakes_failed: [Counter; HandshakeFailed::ALL.len()],
    denied: Counter,
    broken: Counter,
    log_lost: Gauge,
    judged: [Counter; 5],
    outcomes: [Counter; 3],
}

#[derive(Debug, Default)]
struct Site {
    own: Arc<OfSite>,
    routes: Box<[Arc<Route>]>,
}

#[derive(Debug, Default)]
struct OfSite {
    own_answers: [Counter; Cause::ALL.len()],
    rate_refused: [Counter; 2],
}

#[derive(Debug, Default)]
struct Farm {
    own: Arc<OfFarm>,
    servers: Box<[Arc<Server>]>,
}

#[derive(Debug, Default)]
struct OfFarm {
    waiting: Gauge,
    retries: Counter,
}

/// A TCP service.
#[derive(Debug, Default)]
struct Service {
    /// By cause, and behind them those that ended by themselves.
    connections: [Counter; Cause::ALL.len() + 1],
    took: Histogram,
    received: Counter,
    sent: Counter,
}

#[derive(Debug, Default)]
struct Route {
    requests: [Counter; CODES.len()],
    took: Histogram,
    received: Counter,
    sent: Counter,
}

#[derive(Debug, Default)]
struct Server {
    healthy: Gauge,
    connect: Histogram,
    first_byte: Histogram,
    responses: [Counter; CODES.len()],
    failures: [Counter; Cause::ALL.len()],
}

/// Why a TLS handshake with a client came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailed {
    /// It took too long.
    Timeout,
    /// The client went away.
    ClientGone,
    /// Client and proxy did not come to terms: no TLS, no common version or cipher, no certificate where one is required.
    Tls,
}

impl HandshakeFailed {
    const ALL: [Self; 3] = [Self::Timeout, Self::ClientGone, Self::Tls];

    fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::ClientGone => "client_gone",
            Self::Tls => "tls",
        }
    }
}

impl Metrics {
    /// Nothing has happened yet.
    pub fn new(layout: Layout) -> Self {
        Self::following(layout, None)
    }

    /// What has the same name as in `before` is the very same.
    pub fn following(layout: Layout, before: Option<&Self>) -> Self {
        let sites =
            layout.sites.iter().map(|site| Site::new(site, before.and_then(|it| it.site(&site.name))));
        let no_site = before.and_then(|before| before.sites.last());
        let no_site = no_site.map_or_else(|| Site::new(&Named::default(), None), Site::again);
        let farms =
            layout.farms.iter().map(|farm| Farm::new(farm, before.and_then(|it| it.farm(&farm.name))));
        let service =
            |name: &String| before.and_then(|before| before.service(name)).cloned().unwrap_or_default();
        Self {
            all: before.map(|before| Arc::clone(&before.all)).unwrap_or_default(),
            sites: sites.chain([no_site]).collect(),
            farms: farms.collect(),
            services: layout.services.iter().map(service).collect(),
            layout: Arc::new(layout),
        }
    }

    fn site(&self, name: &str) -> Option<(&Named, &Site)> {
        self.layout.sites.iter().zip(&self.sites).find(|(named, _)| named.name == name)
    }

    fn farm(&self, name: &str) -> Option<(&Named, &Farm)> {
        self.layout.farms.iter().zip(&self.farms).find(|(named, _)| named.name == name)
    }

    fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.layout.services.iter().position(|known| known == name).and_then(|at| self.services.get(at))
    }

    /// The names.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Client connections that are open now: `rollcall_proxy_connections`.
    pub fn connections_open(&self, now: u32) {
        self.all.open.set(now.into());
    }

    /// A client's connection was accepted: `rollcall_proxy_accepted_connections_total`.
    pub fn connection_accepted(&self) {
        self.all.accepted.add(1);
    }

    /// A client's connection was closed at once, for a limit: `rollcall_proxy_refused_connections_total{reason}`, reason `client` or
    /// `all`.
    pub fn connection_refused(&self, refused: ConnectionRefused) {
        let reason = match refused {
            ConnectionRefused::PerClient { .. } => 0,
            ConnectionRefused::InAll { .. } => 1,
        };
        self.all.connections_refused[reason].add(1);
    }

    /// A TLS handshake with a client took so long: `rollcall_proxy_handshake_seconds{resumed}`.
    pub fn handshake(&self, took: Duration, resumed: bool) {
        self.all.handshakes[usize::from(resumed)].observe(took);
    }

    /// A TLS handshake with a client came to nothing: `rollcall_proxy_failed_handshakes_total{reason}`, reason `timeout`,
    /// `client_gone` or `tls`.
    pub fn handshake_failed(&self, why: HandshakeFailed) {
        self.all.handshakes_failed[why as usize].add(1);
    }

    /// Requests that are in flight now: `rollcall_proxy_requests_in_flight`.
    pub fn requests_in_flight(&self, now: u32) {
        self.all.in_flight.set(now.into());
    }

    /// Lines of the access log that were lost so far: `rollcall_proxy_log_lost_lines_total`.
    pub fn log_lost(&self, lines: u64) {
        self.all.log_lost.set(lines);
    }

    /// A request is over: counts it at its site and route, by its cause if it has one, and at its server.
    pub fn ended(&self, parties: Parties, ended: &Ended) {
        let no_site = self.layout.sites.len();
        let of = parties.site.unwrap_or(no_site);
        let no_route = self.layout.sites.get(of).map_or(0, |site| site.parts.len());
        let place = Place { of, part: parties.route.unwrap_or(no_route) };
        let &Ended { status, cause, connect, greet, first_byte, took, received, sent, .. } = ended;
        self.request(place, Finished { status, took, received, sent });
        if matches!(status, 403 | 404) {
            self.all.denied.add(1);
        }
        if status < 500 && cause.is_some_and(|cause| FAILURES.contains(&cause)) {
            self.all.broken.add(1);
        }
        if let Some(cause) = cause {
            self.own_answer(parties.site, cause);
        }
        let (Some(of), Some(part)) = (parties.farm, parties.server) else {
            return;
        };
        let server = Place { of, part };
        if let Some(connect) = connect {
            self.server_connected(server, connect + greet.unwrap_or_default());
        }
        match (first_byte, cause) {
            (Some(after), None | Some(Cause::Drained)) => self.server_answered(server, status, after),
            // Who cannot be connected to is counted at each try.
            (_, Some(cause @ (Cause::ServerClosed | Cause::Timeout))) => self.server_failed(server, cause),
            (_, Some(_) | None) => {}
        }
    }

    /// A request at a route is over: `rollcall_proxy_requests_total{site,route,code}`, `rollcall_proxy_request_seconds{site,route}`,
    /// `rollcall_proxy_received_bytes_total{site,route}` and `rollcall_proxy_sent_bytes_total{site,route}`. Behind a site's routes, and behind
    /// the sites, is a place for what met none; its label is empty.
    pub fn request(&self, route: Place, finished: Finished) {
        if let Some(route) = self.sites.get(route.of).and_then(|site| site.routes.get(route.part)) {
            route.requests[code(finished.status)].add(1);
            route.took.observe(finished.took);
            route.received.add(finished.received);
            route.sent.add(finished.sent);
        }
    }

    /// The proxy answered by itself: `rollcall_proxy_own_answers_total{site,cause}`. `None`: for no site, whose label is empty.
    pub fn own_answer(&self, site: Option<usize>, cause: Cause) {
        if let Some(site) = self.sites.get(site.unwrap_or(self.layout.sites.len())) {
            site.own.own_answers[cause as usize].add(1);
        }
    }

    /// A request came too soon: `rollcall_proxy_rate_refused_total{site,class}`.
    pub fn rate_refused(&self, site: usize, class: Class) {
        if let Some(site) = self.sites.get(site) {
            site.own.rate_refused[class as usize].add(1);
        }
    }

    /// A logon was judged: `rollcall_proxy_logons_total{verdict}`, verdict `passed`, `delayed`, `refused_pair`, `refused_network`
    /// or `refused_crowd`.
    pub fn logon_judged(&self, judged: Judged) {
        let verdict = match judged {
            Judged::Passed => 0,
            Judged::Delayed => 1,
            Judged::Refused(Refused::Pair) => 2,
            Judged::Refused(Refused::Network) => 3,
            Judged::Crowded => 4,
        };
        self.all.judged[verdict].add(1);
    }

    /// A logon that passed is over: `rollcall_proxy_logon_outcomes_total{outcome}`, outcome `failed`, `succeeded`, or `unknown` where no
    /// server answered, or its answer does not tell.
    pub fn logon_ended(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Failed => 0,
            Outcome::Succeeded => 1,
            Outcome::Unknown => 2,
        };
        self.all.outcomes[outcome].add(1);
    }

    /// Whether a server is healthy now, 1 or 0: `rollcall_proxy_server_healthy{farm,server}`.
    pub fn server_healthy(&self, server: Place, healthy: bool) {
        self.at(server, |server| server.healthy.set(healthy.into()));
    }

    /// A connection to a server took so long, TLS included: `rollcall_proxy_server_connect_seconds{farm,server}`.
    pub fn server_connected(&self, server: Place, took: Duration) {
        self.at(server, |server| server.connect.observe(took));
    }

    /// A server answered, so long after the request's head went to it: `rollcall_proxy_server_responses_total{farm,server,code}` and
    /// `rollcall_proxy_server_first_byte_seconds{farm,server}`.
    pub fn server_answered(&self, server: Place, status: u16, after: Duration) {
        self.at(server, |server| {
            server.responses[code(status)].add(1);
            server.first_byte.observe(after);
        });
    }

    /// A server failed a request: `rollcall_proxy_server_failures_total{farm,server,cause}`.
    pub fn server_failed(&self, server: Place, cause: Cause) {
        self.at(server, |server| server.failures[cause as usize].add(1));
    }

    /// Requests that wait for a server of a farm: `rollcall_proxy_farm_waiting{farm}`.
    pub fn waiting(&self, farm: usize, now: usize) {
        if let Some(farm) = self.farms.get(farm) {
            farm.own.waiting.set(u64::try_from(now).unwrap_or(u64::MAX));
        }
    }

    /// A request, nothing of which was sent yet, goes to another server of its farm: `rollcall_proxy_retries_total{farm}`.
    pub fn retried(&self, farm: usize) {
        if let Some(farm) = self.farms.get(farm) {
            farm.own.retries.add(1);
        }
    }

    /// A connection of a TCP service is over: `rollcall_proxy_tcp_connections_total{service,cause}`, its cause empty if it ended by
    /// itself, `rollcall_proxy_tcp_connection_seconds{service}`, and `rollcall_proxy_tcp_received_bytes_total{service}` and
    /// `rollcall_proxy_tcp_sent_bytes_total{service}`.
    pub fn tcp_ended(&self, service: &str, ended: &Ended) {
        if let Some(service) = self.service(service) {
            service.connections[ended.cause.map_or(Cause::ALL.len(), |cause| cause as usize)].add(1);
            service.took.observe(ended.took);
            service.received.add(ended.received);
            service.sent.add(ended.sent);
        }
    }

    /// What became of all requests and of the TCP services' connections, in four numbers: by these a configuration that one node tries is
    /// held against that of the others. What is not among the text's families already is `rollcall_proxy_denied_requests_total` and
    /// `rollcall_proxy_broken_responses_total`.
    pub fn tally(&self) -> Tally {
        let routes = || self.sites.iter().flat_map(|site| &site.routes);
        let sum = |counters: &mut dyn Iterator<Item = &Counter>| counters.map(Counter::value).sum::<u64>();
        let ended = sum(&mut routes().flat_map(|route| &route.requests));
        let tcp = sum(&mut self.services.iter().flat_map(|service| &service.connections));
        let failed = |service: &Arc<Service>| {
            FAILURES.map(|cause| service.connections[cause as usize].value()).iter().sum::<u64>()
        };
        let handshakes = self.all.handshakes_failed[HandshakeFailed::Tls as usize].value();
        Tally {
            ended: ended + tcp + handshakes,
            server_errors: sum(&mut routes().map(|route| &route.requests[CODES.len() - 1])),
            denied: self.all.denied.value(),
            broken: self.all.broken.value() + handshakes + self.services.iter().map(failed).sum::<u64>(),
        }
    }

    fn at(&self, place: Place, count: impl FnOnce(&Server)) {
        if let Some(server) = self.farms.get(place.of).and_then(|farm| farm.servers.get(place.part)) {
            count(server);
        }
    }
}

impl Site {
    fn new(named: &Named, before: Option<(&Named, &Self)>) -> Self {
        let route = |name: &String| {
            let known = before.and_then(|(named, site)| {
                named.parts.iter().position(|known| known == name).and_then(|at| site.routes.get(at))
            });
            known.cloned().unwrap_or_default()
        };
        // Behind the routes, what met none of them.
        let no_route = before.and_then(|(_, site)| site.routes.last()).cloned().unwrap_or_default();
        Self {
            own: before.map(|(_, site)| Arc::clone(&site.own)).unwrap_or_default(),
            routes: named.parts.iter().map(route).chain([no_route]).collect(),
        }
    }

    fn again(&self) -> Self {
        Self { own: Arc::clone(&self.own), routes: self.routes.clone() }
    }
}

impl Farm {
    fn new(named: &Named, before: Option<(&Named, &Self)>) -> Self {
        let server = |name: &String| {
            let known = before.and_then(|(named, farm)| {
                named.parts.iter().position(|known| known == name).and_then(|at| farm.servers.get(at))
            });
            known.cloned().unwrap_or_default()
        };
        Self {
            own: before.map(|(_, farm)| Arc::clone(&farm.own)).unwrap_or_default(),
            servers: named.parts.iter().map(server).collect(),
        }
    }
}

/// A status's place in `CODES`; what is no status is a server's fault.
fn code(status: u16) -> usize {
    usize::from(status / 100).saturating_sub(1).min(CODES.len() - 1)
}

const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Causes that a server can be.
const FAILURES: [Cause; 4] = [Cause::ConnectFailed, Cause::ServerTls, Cause::ServerClosed, Cause::Timeout];

#[cfg(test)]
mod tests;
