//! From a request to what becomes of it: a site's access list, mitigations, rules and routes, compiled once. Pure.
//!
//! ```text
//! networks -> maintenance -> path -> mitigations -> rules -> routes -> farm | redirect | answer | refusal
//! ```

mod trace;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;

pub use self::trace::{Line, Miss, Step};
use self::trace::{Trace, Untold};
use super::cause::Cause;
use super::edits::Edits;
use super::headers::{Changes, HeaderError, RuleFieldError, Side, check_rules};
use super::http1::{Head, Known};
use super::path::{Ambiguous, NormalPath};
use super::protect::networks::{Access, AccessList, NetworkError};
use super::rewrite::apply::{Continue, Outcome, Refusal, Variables};
use super::rewrite::location::rewritten;
use super::rewrite::mitigation::{Mitigations, UnknownMitigation};
use super::rewrite::rule::{RuleError, RuleSet};
use super::rewrite::spec::Maps;
use super::route::is_name;
use super::wildcard::Wildcard;
use crate::config::model::{Action, Bounds, HeaderEdits, Maintenance, PLAIN_TEXT, Response, Route, Service};

/// What a site does with requests, ready to be asked.
#[derive(Debug)]
pub struct Policy {
    access: AccessList,
    maintenance: Option<Closed>,
    mitigations: Option<Mitigations>,
    rules: RuleSet,
    routes: Vec<Way>,
    /// Header fields that are changed where no route says so.
    changes: Changed,
    /// The `Strict-Transport-Security` field of every response, the proxy's own too.
    pub hsts: Option<String>,
    /// Whether a `Location` that names what is behind the site is made to name the site.
    rewrite_location: bool,
    /// The farms, for rules and locations that name one.
    farms: Vec<FarmNames>,
}

/// What a farm is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FarmNames {
    /// Its name.
    pub name: String,
    /// Its servers' names and addresses, without ports.
    pub hosts: BTreeSet<String>,
    /// Its health tests' names, its own first.
    pub tests: Vec<String>,
}

/// A route, ready to be asked.
#[derive(Debug)]
struct Way {
    route: Route<usize>,
    networks: Option<AccessList>,
    /// Names of header fields, and what one of their values has to be.
    headers: Vec<(String, Wildcard)>,
    changes: Changed,
    /// The index of the test that counts for it among those of its farm.
    test: usize,
}

/// Header fields that are changed.
#[derive(Debug)]
struct Changed {
    /// Of requests.
    request: Changes,
    /// Of responses.
    response: Changes,
}

/// A site that is closed.
#[derive(Debug)]
struct Closed {
    page: Maintenance,
    /// For whom it is not.
    open_for: Option<AccessList>,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its head.
    pub head: &'a Head,
    /// The name that it asks for, as it was written.
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// The port that the client connected to.
    pub port: u16,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// A server answers it.
    Forward(Forward<'a>),
    /// The client is sent elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The `Location`.
        to: Cow<'a, str>,
        /// The index of the route that says so, if one does.
        route: Option<usize>,
    },
    /// The proxy answers as it is configured to.
    Respond {
        /// With this.
        reply: Reply<'a>,
        /// The index of the route that says so, if one does.
        route: Option<usize>,
    },
    /// It is refused.
    Refuse {
        /// The cause that the log shows.
        cause: Cause,
        /// The status.
        status: u16,
        /// For the operator.
        why: Why<'a>,
        /// The index of the route that was found for it.
        route: Option<usize>,
    },
    /// The client's connection is closed without a word.
    Abort {
        /// The rule that says so.
        rule: String,
    },
}

/// An answer of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// 200 to 599.
    pub status: u16,
    /// The reason phrase, without control characters; empty: the status's own.
    pub reason: Cow<'a, str>,
    /// The body's media type.
    pub content_type: &'a str,
    /// The body.
    pub body: Cow<'a, str>,
    /// When the client is told to come again.
    pub retry_after: Option<Duration>,
}

impl<'a> Reply<'a> {
    /// A text.
    pub fn plain(status: u16, body: impl Into<Cow<'a, str>>) -> Self {
        let (reason, body) = (Cow::Borrowed(""), body.into());
        Self { status, reason, content_type: PLAIN_TEXT, body, retry_after: None }
    }
}

/// How a request goes to a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Forward<'a> {
    /// The index of the farm.
    pub farm: usize,
    /// The index of the route; `None`: a rule named the farm, and no route is for the request.
    pub route: Option<usize>,
    /// The index of the farm's health test that counts for it.
    pub test: usize,
    /// Its bounds.
    pub bounds: Bounds,
    /// Path and query for the server.
    pub target: Cow<'a, str>,
    /// What is changed of its header fields.
    pub edits: Edits<'a>,
    /// What is changed of its response's.
    pub answer: Edits<'a>,
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Why<'a> {
    /// By the site's list of networks.
    #[error("the client's network may not ask this site")]
    Network,
    /// The path has two readings.
    #[error(transparent)]
    Path(Ambiguous),
    /// It shows a known attack.
    #[error("mitigation {0}")]
    Mitigation(&'static str),
    /// A rule cannot be applied to it.
    #[error("rule {rule:?}: {refusal}")]
    Rule {
        /// The rule.
        rule: String,
        /// Why.
        refusal: Refusal,
    },
    /// Header fields cannot be changed as they are to be.
    #[error("a header field that the site or the route changes: {0}")]
    Headers(Refusal),
    /// A rule sends it to a farm that there is not.
    #[error("a rule names the farm {0:?}, which there is not")]
    NoFarm(String),
    /// A route refuses it.
    #[error("{0}")]
    Route(&'a str),
    /// No route is for it.
    #[error("no route is for this host, path, method, network and header fields")]
    NoRoute,
}

impl Policy {
    /// Compiles what a site does; `farms` are those that its rules may rewrite to.
    pub fn compile(service: &Service<usize>, farms: Vec<FarmNames>) -> Result<Self, PolicyError> {
        let changed = |route: &HeaderEdits| Changed::compile(&service.edits, route, &service.maps);
        let way = |route: &Route<usize>| {
            let networks =
                if route.networks.is_empty() { None } else { Some(AccessList::new(&route.networks, &[])?) };
            let headers = route.headers.iter().map(|(name, value)| (name.clone(), Wildcard::new(value)));
            Ok(Way {
                route: route.clone(),
                networks,
                headers: headers.collect(),
                changes: changed(&route.edits)?,
                test: test_of(route, &farms)?,
            })
        };
        let closed = |page: &Maintenance| {
            let open_for =
                if page.allow.is_empty() { None } else { Some(AccessList::new(&page.allow, &[])?) };
            Ok::<_, PolicyError>(Closed { page: page.clone(), open_for })
        };
        let rules = RuleSet::compile(&service.rewrite, &service.maps)?;
        check_rules(&rules)?;
        Ok(Self {
            rules,
            access: AccessList::new(&service.allow, &service.deny)?,
            maintenance: service.maintenance.as_ref().map(closed).transpose()?,
            mitigations: service
                .mitigations
                .then(|| Mitigations::without(&service.mitigations_off))
                .transpose()?,
            routes: service.routes.iter().map(way).collect::<Result<_, PolicyError>>()?,
            changes: changed(&HeaderEdits::default())?,
            rewrite_location: service.rewrite_location,
            hsts: service.hsts.map(|time| format!("max-age={}", time.as_secs())),
            farms,
        })
    }

    /// What becomes of a request.
    pub fn decide<'a>(&'a self, facts: Facts<'a>) -> Decision<'a> {
        self.run(facts, &mut Untold)
    }

    /// Likewise, and all that was looked at on the way there.
    pub fn explain<'a>(&'a self, facts: Facts<'a>) -> (Decision<'a>, Vec<Step>) {
        let mut steps = Vec::new();
        let decision = self.run(facts, &mut steps);
        (decision, steps)
    }

    fn run<'a>(&'a self, facts: Facts<'a>, trace: &mut impl Trace) -> Decision<'a> {
        let allowed = self.access.access(facts.client) == Access::Allow;
        trace.step(|| Step::Networks { allowed });
        if !allowed {
            return refuse(Cause::Refused, 403, Why::Network);
        }
        let closed = self.maintenance.as_ref().filter(|closed| closed.is_for(facts.client));
        trace.step(|| Step::Maintenance { closed: closed.is_some() });
        if let Some(closed) = closed {
            return Decision::Respond { reply: closed.reply(), route: None };
        }
        let path = match NormalPath::of(facts.target.as_bytes()) {
            Ok(path) => path,
            Err(ambiguous) => return refuse(Cause::BadRequest, 400, Why::Path(ambiguous)),
        };
        trace.step(|| Step::Path { normal: path.as_str().to_owned() });
        trace.step(|| Step::Mitigations { on: self.mitigations.is_some() });
        if let Some(found) =
            self.mitigations.as_ref().and_then(|on| on.find(facts.target, &cookies(facts.head)))
        {
            return refuse(Cause::Refused, 403, Why::Mitigation(found.name));
        }
        if self.rules.is_empty() {
            return self.route(&path, &Asked { path: &path, facts }, Rewritten::not(facts.target), trace);
        }
        self.apply(&path, facts, trace)
    }

    /// The `Location` for the client in place of a response's, if it names a farm of the site or a server of one. `host`: what the
    /// client asked for.
    pub fn location(&self, answer: &Head, host: &str) -> Option<String> {
        if !self.rewrite_location {
            return None;
        }
        let location = std::str::from_utf8(answer.values(Known::Location).next()?).ok()?;
        let is_ours = |name: &str| {
            self.farms.iter().any(|farm| farm.name.eq_ignore_ascii_case(name) || farm.hosts.contains(name))
        };
        rewritten(location, host.strip_suffix(":443").unwrap_or(host), is_ours)
    }

    /// What is changed of the header fields of an answer of the proxy's own to a request; `route`: the one that was found for it. What
    /// cannot be filled in is left out, since the request may be refused for just that.
    pub fn own_answer(&self, facts: Facts<'_>, route: Option<usize>) -> Edits<'_> {
        let changes = &route.map_or(&self.changes, |at| &self.routes[at].changes).response;
        if changes.is_none() {
            return Edits::NONE;
        }
        match NormalPath::of(facts.target.as_bytes()) {
            Ok(path) => changes.fill_what_can_be(Some(&Asked { path: &path, facts })),
            Err(_) => changes.fill_what_can_be(None),
        }
    }

    fn apply<'a>(&'a self, path: &NormalPath, facts: Facts<'a>, trace: &mut impl Trace) -> Decision<'a> {
        let asked = Asked { path, facts };
        match trace.rules(&self.rules, &asked) {
            Outcome::Continue(Continue { url, farm, headers, .. }) => {
                let farm = match farm {
                    None => None,
                    Some(named) => match self.farms.iter().position(|farm| farm.name == named.authority) {
                        Some(farm) => Some(farm),
                        None => return refuse(Cause::Refused, 403, Why::NoFarm(named.authority)),
                    },
                };
                let target = url.as_ref().map_or(Cow::Borrowed(facts.target), |url| Cow::Owned(url.target()));
                let path = url.as_ref().map_or(path, |url| &url.path);
                self.route(path, &asked, Rewritten { target, farm, headers }, trace)
            }
            Outcome::Redirect { status, location, .. } => {
                Decision::Redirect { status, to: Cow::Owned(location), route: None }
            }
            Outcome::Respond { status, reason, description, .. } => {
                let reply = Reply { reason: Cow::Owned(reason), ..Reply::plain(status, description) };
                Decision::Respond { reply, route: None }
            }
            Outcome::Abort { rule } => Decision::Abort { rule },
            Outcome::Refuse { rule, cause } => {
                let over_limit = matches!(cause, Refusal::OverLimit | Refusal::TooLong);
                // Who reaches for the limits is to be seen apart from what the rules are there to refuse.
                let by = if over_limit { Cause::RuleLimit } else { Cause::Refused };
                refuse(by, 403, Why::Rule { rule, refusal: cause })
            }
        }
    }

    /// The first route that fits. A rule may have named the farm already; the route then gives the bounds. What a route refuses, no rule
    /// publishes: `/powershell` is never, however wide a rule's pattern is.
    fn route<'a>(
        &'a self,
        path: &NormalPath,
        asked: &Asked<'a, '_>,
        Rewritten { target, farm: named, headers }: Rewritten<'a>,
        trace: &mut impl Trace,
    ) -> Decision<'a> {
        let facts = asked.facts;
        let method = method(facts.head);
        let found = self.routes.iter().enumerate().find_map(|(index, way)| {
            let miss = way.miss(path, method, facts);
            let fits = miss.is_none();
            trace.step(|| Step::Route { index, name: way.route.words(), miss: miss.map(Miss::from) });
            fits.then_some(index)
        });
        let way = found.map(|at| (at, &self.routes[at]));
        let forward = |farm, route, test, bounds| {
            let Changed { request, response } = found.map_or(&self.changes, |at| &self.routes[at].changes);
            let filled = request.fill(asked, headers).and_then(|edits| {
                let answer = response.fill(asked, BTreeMap::new())?;
                Ok(Forward { farm, route, test, bounds, target, edits, answer })
            });
            filled.map_or_else(|refusal| refuse_at(route, Why::Headers(refusal)), Decision::Forward)
        };
        match (named, way) {
            (_, Some((_, Way { route: Route { action: Action::Refuse { why }, .. }, .. }))) => {
                refuse_at(found, Why::Route(why))
            }
            (Some(farm), way) => {
                let bounds = way.map_or_else(Bounds::default, |(_, way)| way.route.bounds);
                // Another farm than the route's has other tests.
                let its = way.filter(|(_, way)| matches!(way.route.action, Action::Farm(its) if its == farm));
                forward(farm, found, its.map_or(OWN_TEST, |(_, way)| way.test), bounds)
            }
            (None, None) => refuse(Cause::Refused, 403, Why::NoRoute),
            (None, Some((_, way))) => match &way.route.action {
                Action::Farm(farm) => forward(*farm, found, way.test, way.route.bounds),
                Action::Redirect { status, to } => {
                    Decision::Redirect { status: *status, to: Cow::Borrowed(to), route: found }
                }
                Action::Respond(Response { status, content_type, body }) => {
                    let reply = Reply { content_type, ..Reply::plain(*status, body.as_str()) };
                    Decision::Respond { reply, route: found }
                }
                Action::Refuse { why } => refuse_at(found, Why::Route(why)),
            },
        }
    }
}

impl Changed {
    fn compile(site: &HeaderEdits, route: &HeaderEdits, maps: &Maps) -> Result<Self, HeaderError> {
        let HeaderEdits { request, response } = site;
        Ok(Self {
            request: Changes::compile(Side::Request, request, &route.request, maps)?,
            response: Changes::compile(Side::Response, response, &route.response, maps)?,
        })
    }
}

impl Way {
    /// Why it is not for such a request; `None`: it is.
    fn miss(&self, path: &NormalPath, method: &str, facts: Facts<'_>) -> Option<Differs<'_>> {
        let Route { hosts, .. } = &self.route;
        let differs = |(name, value): &&(String, Wildcard)| {
            let named = facts.head.fields().filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
            !named.into_iter().any(|field| value.fits(field.value))
        };
        if !self.route.is_for(path) {
            Some(Differs::Path)
        } else if !self.route.takes(method) {
            Some(Differs::Method)
        } else if self.networks.as_ref().is_some_and(|list| list.access(facts.client) == Access::Deny) {
            Some(Differs::Network)
        } else if !hosts.is_empty() && !hosts.iter().any(|name| is_name(facts.host, name)) {
            Some(Differs::Host)
        } else {
            self.headers.iter().find(differs).map(|(name, _)| Differs::Header(name))
        }
    }
}

/// What about a request is not as a route wants it.
enum Differs<'a> {
    Path,
    Method,
    Network,
    Host,
    /// The field's name.
    Header(&'a str),
}

impl From<Differs<'_>> for Miss {
    fn from(differs: Differs<'_>) -> Self {
        match differs {
            Differs::Path => Self::Path,
            Differs::Method => Self::Method,
            Differs::Network => Self::Network,
            Differs::Host => Self::Host,
            Differs::Header(name) => Self::Header { name: name.to_owned() },
        }
    }
}

impl Closed {
    fn is_for(&self, client: IpAddr) -> bool {
        self.open_for.as_ref().is_none_or(|list| list.access(client) == Access::Deny)
    }

    fn reply(&self) -> Reply<'_> {
        let Maintenance { body, content_type, retry_after, allow: _ } = &self.page;
        Reply { content_type, retry_after: Some(*retry_after), ..Reply::plain(503, body.as_str()) }
    }
}

/// The test that counts for a route's requests; where it has no farm, it does not matter which.
fn test_of(route: &Route<usize>, farms: &[FarmNames]) -> Result<usize, PolicyError> {
    let (Action::Farm(farm), Some(name)) = (&route.action, &route.test) else {
        return Ok(OWN_TEST);
    };
    let tests = farms.get(*farm).map_or(&[][..], |farm| &farm.tests);
    let found = tests.iter().position(|test| test == name);
    found.ok_or_else(|| PolicyError::NoTest { test: name.clone() })
}

/// The index of a farm's own test.
const OWN_TEST: usize = 0;

fn refuse(cause: Cause, status: u16, why: Why<'_>) -> Decision<'_> {
    Decision::Refuse { cause, status, why, route: None }
}

fn refuse_at(route: Option<usize>, why: Why<'_>) -> Decision<'_> {
    Decision::Refuse { cause: Cause::Refused, status: 403, why, route }
}

/// A method is a token, so it is ASCII.
fn method(head: &Head) -> &str {
    std::str::from_utf8(head.method()).unwrap_or_default()
}

/// All cookies, as the mitigations look at them.
fn cookies(head: &Head) -> Cow<'_, str> {
    let mut values = head.values(Known::Cookie);
    match (values.next(), values.next()) {
        (None, _) => Cow::Borrowed(""),
        (Some(one), None) => String::from_utf8_lossy(one),
        (Some(one), Some(two)) => {
            let all: Vec<_> = [one, two].into_iter().chain(values).map(String::from_utf8_lossy).collect();
            Cow::Owned(all.join("; "))
        }
    }
}

/// What rules have made of a request.
struct Rewritten<'a> {
    /// Path and query.
    target: Cow<'a, str>,
    /// The farm that they named.
    farm: Option<usize>,
    /// Header fields that they set: lower-case name to value.
    headers: BTreeMap<String, String>,
}

impl<'a> Rewritten<'a> {
    /// Nothing else.
    fn not(target: &'a str) -> Self {
        Self { target: Cow::Borrowed(target), farm: None, headers: BTreeMap::new() }
    }
}

/// A request as rules see it.
struct Asked<'a, 'p> {
    path: &'p NormalPath,
    facts: Facts<'a>,
}

impl Variables for Asked<'_, '_> {
    fn target(&self) -> &str {
        self.facts.target
    }

    fn path(&self) -> &NormalPath {
        self.path
    }

    fn method(&self) -> &str {
        method(self.facts.head)
    }

    fn header(&self, name: &str) -> Option<String> {
        let is = |field: &[u8]| field.eq_ignore_ascii_case(name.as_bytes());
        let values = self.facts.head.fields().filter(|field| is(field.name) && field.known.crosses());
        let values: Vec<_> = values.map(|field| String::from_utf8_lossy(field.value).into_owned()).collect();
        let between = if name == "cookie" { "; " } else { ", " };
        (!values.is_empty()).then(|| values.join(between))
    }

    fn is_tls(&self) -> bool {
        true
    }

    fn port(&self) -> u16 {
        self.facts.port
    }

    fn client(&self) -> IpAddr {
        self.facts.client
    }
}

/// Why a site's service cannot be compiled. It is the configuration's fault, which checks the same.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// A list of networks.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The mitigations that are to be off.
    #[error(transparent)]
    Mitigation(#[from] UnknownMitigation),
    /// A rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// What a rule does with a header field.
    #[error(transparent)]
    RuleField(#[from] RuleFieldError),
    /// A header field that is changed.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A route names a test that its farm does not have.
    #[error("a route names the health test {test:?}, which its farm does not have")]
    NoTest {
        /// The name.
        test: String,
    },
}

#[cfg(test)]
mod tests;
