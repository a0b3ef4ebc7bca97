//! What a site does with requests. The proxy works with the same types: there a farm is a number instead of a name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{HeaderEdits, Maintenance, Response};
use crate::proxy::path::{Case, NormalPath};
use crate::proxy::protect::networks::Network;
use crate::proxy::protect::rate::SiteRates;
use crate::proxy::rewrite::spec::{Maps, RuleSpec};
use crate::proxy::tls::Alpn;

/// What there is to a site's TLS beside its certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteTls {
    /// What clients may speak, the preferred first; at least one.
    pub protocols: Vec<Alpn>,
    /// The password of a PKCS#12 file, in its first line; `None`: it is empty.
    pub password: Option<PathBuf>,
    /// An OCSP response (DER) about the certificate.
    pub ocsp: Option<PathBuf>,
    /// Whether clients show certificates.
    pub clients: Clients,
}

impl Default for SiteTls {
    /// As `[exchange]` has it.
    fn default() -> Self {
        Self { protocols: vec![Alpn::Http11], password: None, ocsp: None, clients: Clients::Unasked }
    }
}

/// Whether a site's clients show certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Clients {
    /// They are not asked.
    #[default]
    Unasked,
    /// They may, under these CAs (PEM file).
    Optional(PathBuf),
    /// They must.
    Required(PathBuf),
}

/// What a site does with requests, once its name and the handshake have chosen it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service<F = String> {
    /// The first one that fits a request says what becomes of it; where none does, it is refused.
    pub routes: Vec<Route<F>>,
    /// Tried before the routes, with the meaning of IIS's URL Rewrite.
    pub rewrite: Vec<RuleSpec>,
    /// The maps of `rewrite`.
    pub maps: Maps,
    /// Whether a `Location` that names a server or its farm is made to name the site; ARR's
    /// `reverseRewriteHostInResponseHeaders`.
    pub rewrite_location: bool,
    /// Where challenges of certificate authorities to its names go, which come to port 80 (RFC 8555, 8.3).
    pub acme: Option<SocketAddrV4>,
    /// Header fields that are changed on all routes.
    pub edits: HeaderEdits,
    /// Whether requests that show a known attack on Exchange are refused.
    pub mitigations: bool,
    /// The mitigations that are off all the same.
    pub mitigations_off: BTreeSet<String>,
    /// Networks that may ask; empty: all.
    pub allow: Vec<Network>,
    /// Networks that may not.
    pub deny: Vec<Network>,
    /// How often each client may ask.
    pub rates: SiteRates,
    /// How long browsers are told to come over TLS alone (RFC 6797); `None`: they are not.
    pub hsts: Option<Duration>,
    /// While it is set, requests are answered with 503 and this.
    pub maintenance: Option<Maintenance>,
}

/// Which requests, and what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route<F = String> {
    /// Which paths.
    pub path: PathMatch,
    /// Whether letters of both cases are the same in it, as everywhere in IIS.
    pub ignore_case: bool,
    /// Which of the site's names, lower case; empty: all.
    pub hosts: Vec<String>,
    /// What header fields have to say: lower-case name to what one of its values is, in letters of either case, where `*` is any
    /// text.
    pub headers: BTreeMap<String, String>,
    /// Which methods; empty: all.
    pub methods: Vec<String>,
    /// Clients in which networks; empty: all.
    pub networks: Vec<Network>,
    /// Header fields that are changed, in place of the site's edits of the same names.
    pub edits: HeaderEdits,
    /// What becomes of the request.
    pub action: Action<F>,
    /// Which of its farm's health tests says whether a server takes it; `None`: the farm's own.
    pub test: Option<String>,
    /// How big and how long it may be.
    pub bounds: Bounds,
}

/// Which paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathMatch {
    /// This one and all below it, by whole segments; `/` is all.
    Under(String),
    /// This one alone.
    Exactly(String),
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action<F = String> {
    /// A server of this farm answers it.
    Farm(F),
    /// The client is sent elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// A path or a whole URL.
        to: String,
    },
    /// The proxy answers it.
    Respond(Response),
    /// It is refused with 403.
    Refuse {
        /// For the operator: what it says in `rollcall check`, `rollcall explain` and the access log.
        why: String,
    },
}

/// How big a request may be, and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Longest time in which nothing moves in either direction.
    pub silence: Duration,
    /// Longest time for all of it, if any.
    pub total: Option<Duration>,
    /// Most bytes of its body.
    pub body: u64,
}

impl<F> Route<F> {
    /// Whether it is for requests with this path; of hosts, header fields and networks `proxy::policy` says.
    pub fn is_for(&self, path: &NormalPath) -> bool {
        let case = if self.ignore_case { Case::Insensitive } else { Case::Sensitive };
        match &self.path {
            PathMatch::Under(prefix) => path.is_under(prefix, case),
            PathMatch::Exactly(exact) if self.ignore_case => path.as_str().eq_ignore_ascii_case(exact),
            PathMatch::Exactly(exact) => path.as_str() == exact,
        }
    }

    /// Whether it is for requests with this method.
    pub fn takes(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|known| known == method)
    }

    /// Its path, in words.
    pub fn words(&self) -> String {
        match &self.path {
            PathMatch::Under(path) => format!("{path} and all below"),
            PathMatch::Exactly(path) => format!("{path} alone"),
        }
    }
}

impl Service {
    /// A service that hands every request to one farm.
    pub fn to_farm(farm: &str, bounds: Bounds) -> Self {
        Self {
            routes: vec![Route {
                path: PathMatch::Under("/".to_owned()),
                ignore_case: false,
                hosts: Vec::new(),
                headers: BTreeMap::new(),
                methods: Vec::new(),
                networks: Vec::new(),
                edits: HeaderEdits::default(),
                action: Action::Farm(farm.to_owned()),
                test: None,
                bounds,
            }],
            rewrite: Vec::new(),
            maps: Maps::new(),
            rewrite_location: false,
            acme: None,
            edits: HeaderEdits::default(),
            mitigations: false,
            mitigations_off: BTreeSet::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            rates: SiteRates::default(),
            hsts: None,
            maintenance: None,
        }
    }
}

impl<F> Service<F> {
    /// The farms that answer any of its requests.
    pub fn farms(&self) -> impl Iterator<Item = &F> {
        self.routes.iter().filter_map(|route| match &route.action {
            Action::Farm(farm) => Some(farm),
            Action::Redirect { .. } | Action::Respond(_) | Action::Refuse { .. } => None,
        })
    }

    /// The same with other farms, or what `farm` says of the first that it does not know.
    pub fn try_map<G, E>(self, farm: impl Fn(F) -> Result<G, E>) -> Result<Service<G>, E> {
        let route = |route: Route<F>| {
            let action = match route.action {
                Action::Farm(name) => Action::Farm(farm(name)?),
                Action::Redirect { status, to } => Action::Redirect { status, to },
                Action::Respond(response) => Action::Respond(response),
                Action::Refuse { why } => Action::Refuse { why },
            };
            let Route { path, ignore_case, hosts, headers, methods, networks, edits, test, bounds, .. } =
                route;
            Ok(Route { path, ignore_case, hosts, headers, methods, networks, edits, action, test, bounds })
        };
        let Self {
            routes,
            rewrite,
            maps,
            rewrite_location,
            acme,
            edits,
            mitigations,
            mitigations_off,
            allow,
            deny,
            rates,
            hsts,
            maintenance,
        } = self;
        let routes = routes.into_iter().map(route).collect::<Result<_, E>>()?;
        Ok(Service {
            routes,
            rewrite,
            maps,
            rewrite_location,
            acme,
            edits,
            mitigations,
            mitigations_off,
            allow,
            deny,
            rates,
            hsts,
            maintenance,
        })
    }
}

impl Default for Bounds {
    /// What nothing else is said of: an hour of silence (ActiveSync holds a request for up to 59 minutes), no end, 2 GiB.
    fn default() -> Self {
        Self { silence: Duration::from_secs(3600), total: None, body: 2 << 30 }
    }
}
