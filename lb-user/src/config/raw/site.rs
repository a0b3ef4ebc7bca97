//! Sites and farms as they are written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::json;

use super::health::HealthTable;
use super::message::{HeadersTable, MaintenanceEntry};
use super::protection::RateEntry;
use super::rewrite::{MapTable, RewriteTable};
use super::values::{ServerEntry, Size, Time};
use super::{connect_timeout, https, min_servers, response_timeout, yes};
use crate::config::spanned::Spanned;

/// `[exchange]`: a farm, a site on every cluster IP and a port rule in one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExchangeTable {
    /// The public host names; the certificate serves them all. The first is asked for in health tests; any but that may be
    /// `*.example.test`, for all names with one label before the domain that are no other site's.
    pub(crate) names: Vec<Spanned<String>>,
    /// File with the certificate chain, in any order: PEM, or PKCS#12 as Windows exports it (`.pfx`).
    pub(crate) certificate: Spanned<PathBuf>,
    /// PEM file with its private key. Default: the certificate's file.
    pub(crate) key: Option<Spanned<PathBuf>>,
    /// File with the password of a PKCS#12 file, in its first line. Default: the password is empty.
    pub(crate) password_file: Option<Spanned<PathBuf>>,
    /// File with an OCSP response (DER) about the certificate, for clients that ask for one. Default: none.
    pub(crate) ocsp: Option<Spanned<PathBuf>>,
    /// Clients show certificates of their own. Default: they are not asked.
    pub(crate) client_certificates: Option<ClientCertificatesTable>,
    /// Where the site listens. Default 443.
    #[serde(default = "https")]
    #[schemars(range(min = 1, max = 65_535))]
    pub(crate) port: Spanned<u16>,
    /// See `FarmTable`.
    pub(crate) servers: Vec<Spanned<ServerEntry>>,
    /// See `FarmTable`.
    #[serde(default = "min_servers")]
    pub(crate) min_servers: Spanned<usize>,
    /// Refused: Extended Protection, which Exchange's servers have on, cannot go through a proxy that speaks to them in clear.
    pub(crate) tls: Option<Spanned<bool>>,
    /// See `FarmTable`.
    #[schemars(extend("enum" = ["same-certificate", "none"]))]
    pub(crate) verify: Option<Spanned<String>>,
    /// See `FarmTable`.
    pub(crate) ca: Option<Spanned<PathBuf>>,
    /// See `FarmTable`.
    #[serde(default)]
    pub(crate) pins: Vec<Spanned<String>>,
    /// Refused but as `"own"`: logons of Windows are a connection's.
    #[schemars(extend("enum" = ["own"]))]
    pub(crate) reuse: Option<Spanned<String>>,
    /// See `FarmTable`.
    #[serde(default)]
    pub(crate) balance: BalanceTable,
    /// What all tests of the profile have in common. Its `path` makes one test of them for all routes; without it each route has
    /// its own, `/owa/healthcheck.htm`, `/ews/healthcheck.htm` and so on, as Exchange tells of each protocol.
    #[serde(default)]
    pub(crate) health: HealthTable,
    /// What is otherwise in the test of a route; the names are those of `route`.
    #[serde(default)]
    pub(crate) tests: BTreeMap<String, Spanned<HealthTable>>,
    /// Longest silence within a request, on all routes in place of each one's own. 1 s to 24 h.
    pub(crate) response_timeout: Option<Spanned<Time>>,
    /// See `FarmTable`.
    #[serde(default = "connect_timeout")]
    pub(crate) connect_timeout: Spanned<Time>,
    /// Who reaches `/ecp`, the administration pages and OWA's options: `"closed"` (default), `"open"`, or a list of networks.
    #[serde(default)]
    pub(crate) ecp: Ecp,
    /// `true`: `/rpc` is published, Outlook Anywhere of Outlook 2010 and earlier. Default `false`.
    #[serde(default)]
    pub(crate) rpc: bool,
    /// `true`: `/api` is published, REST for hybrid set-ups. Default `false`.
    #[serde(default)]
    pub(crate) api: bool,
    /// `false`: requests to port 80 are not redirected. Default `true`, where a port rule lets port 80 through.
    #[serde(default = "yes")]
    pub(crate) redirect_http: bool,
    /// See `SiteTable`.
    pub(crate) acme: Option<Spanned<String>>,
    /// Mitigations of known attacks that are off, by name; see `rollcall check --expand`. Default: none.
    #[serde(default)]
    pub(crate) mitigations_off: Vec<Spanned<String>>,
    /// See `SiteTable`.
    pub(crate) hsts: Option<Spanned<Time>>,
    /// See `SiteTable`.
    #[serde(default)]
    pub(crate) allow: Vec<Spanned<String>>,
    /// See `SiteTable`.
    #[serde(default)]
    pub(crate) deny: Vec<Spanned<String>>,
    /// See `SiteTable`.
    pub(crate) rate: Option<Spanned<RateEntry>>,
    /// See `SiteTable`.
    pub(crate) logon_rate: Option<Spanned<RateEntry>>,
    /// See `SiteTable`.
    pub(crate) maintenance: Option<Spanned<MaintenanceEntry>>,
    /// See `SiteTable`.
    #[serde(default)]
    pub(crate) request_headers: HeadersTable,
    /// See `SiteTable`.
    #[serde(default)]
    pub(crate) response_headers: HeadersTable,
    /// See `SiteTable`.
    #[serde(default)]
    pub(crate) rewrite: Vec<Spanned<RewriteTable>>,
    /// See `SiteTable`.
    #[serde(default)]
    pub(crate) maps: BTreeMap<String, MapTable>,
    /// What is otherwise on a route of the profile: `owa`, `ecp`, `ews`, `activesync`, `autodiscover`, `mapi`, `oab`, `rpc`,
    /// `api`.
    #[serde(default)]
    pub(crate) route: BTreeMap<String, Spanned<BoundsTable>>,
}

/// `[farm.balance]`, `[exchange.balance]`: how requests are spread.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BalanceTable {
    /// `"round-robin"` (default, by weight), `"least-requests"`, `"least-response-time"`, `"least-traffic"`, or the same server for
    /// the same `"hash-url"` or `"hash-client"`, or for the field, cookie or query parameters that `hash_header`, `hash_cookie` or
    /// `hash_query` name.
    #[schemars(extend("enum" = ["round-robin", "least-requests", "least-response-time", "least-traffic", "hash-url", "hash-client"]))]
    pub(crate) algorithm: Option<Spanned<String>>,
    /// A header field's name.
    pub(crate) hash_header: Option<Spanned<String>>,
    /// A cookie's name.
    pub(crate) hash_cookie: Option<Spanned<String>>,
    /// Names of query parameters.
    pub(crate) hash_query: Option<Spanned<Vec<String>>>,
    /// How long the weight of a server that comes back rises until it is whole. Default `"0s"`; up to 1 h.
    pub(crate) slow_start: Option<Spanned<Time>>,
    /// How many requests wait while all servers are at their limit of connections. Default 1000; up to 100,000.
    #[schemars(range(min = 0, max = 100_000))]
    pub(crate) queue: Option<Spanned<usize>>,
    /// How long each waits. Default `"10s"`; up to 10 min.
    pub(crate) queue_timeout: Option<Spanned<Time>>,
    /// With fewer healthy servers than this, health tests are disregarded and requests go to all active servers, of which some may
    /// answer, instead of burying the few; ARR's *minimum servers*. Default 0: never. Up to the number of servers.
    pub(crate) panic_threshold: Option<Spanned<usize>>,
    /// The name of a cookie that brings a client back to its server, such as `"RollcallAffinity"`. Default: there is none, as
    /// Exchange needs none.
    pub(crate) affinity_cookie: Option<Spanned<String>>,
}

/// `client_certificates = { .. }`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientCertificatesTable {
    /// PEM file of the CAs that vouch for clients.
    pub(crate) ca: Spanned<PathBuf>,
    /// `"required"` (default) or `"optional"`: a client may show none.
    #[schemars(extend("enum" = ["required", "optional"]))]
    pub(crate) mode: Option<Spanned<String>>,
}

/// Who reaches `/ecp`.
#[derive(Debug, Default)]
pub(crate) enum Ecp {
    #[default]
    Closed,
    Open,
    Networks(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for Ecp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EcpVisitor)
    }
}

impl JsonSchema for Ecp {
    fn schema_name() -> Cow<'static, str> {
        "Ecp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "\"closed\", \"open\" or a list of networks such as [\"10.0.0.0/8\"]",
            "anyOf": [{ "enum": ["closed", "open"] }, { "type": "array", "items": { "type": "string" } }]
        })
    }
}

struct EcpVisitor;

impl<'de> Visitor<'de> for EcpVisitor {
    type Value = Ecp;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"closed\", \"open\" or a list of networks such as [\"10.0.0.0/8\"]")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ecp, E> {
        match text {
            "closed" => Ok(Ecp::Closed),
            "open" => Ok(Ecp::Open),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Ecp, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Ecp::Networks)
    }
}

/// `[[site]]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteTable {
    /// See `ExchangeTable`.
    pub(crate) names: Vec<Spanned<String>>,
    /// See `ExchangeTable`.
    pub(crate) certificate: Spanned<PathBuf>,
    /// See `ExchangeTable`.
    pub(crate) key: Option<Spanned<PathBuf>>,
    /// See `ExchangeTable`.
    pub(crate) password_file: Option<Spanned<PathBuf>>,
    /// See `ExchangeTable`.
    pub(crate) ocsp: Option<Spanned<PathBuf>>,
    /// See `ExchangeTable`.
    pub(crate) client_certificates: Option<ClientCertificatesTable>,
    /// What clients may speak, the preferred first. Default `["h2", "http/1.1"]`. A site that is logged on to with NTLM or
    /// Kerberos needs HTTP/1.1, as Exchange does; `[exchange]` has that alone.
    #[schemars(extend("items" = json!({ "type": "string", "enum": ["h2", "http/1.1"] })))]
    pub(crate) protocols: Option<Spanned<Vec<Spanned<String>>>>,
    /// Where it listens, on every cluster IP. Default 443. A `[[rule]]` must name the port.
    #[serde(default = "https")]
    #[schemars(range(min = 1, max = 65_535))]
    pub(crate) port: Spanned<u16>,
    /// The farm that answers what no `[[site.route]]` is for. Without it, that is refused.
    pub(crate) farm: Option<Spanned<String>>,
    /// Which requests go elsewhere, in order; the first that fits counts.
    #[serde(default)]
    pub(crate) route: Vec<Spanned<RouteTable>>,
    /// Rules that are tried before the routes.
    #[serde(default)]
    pub(crate) rewrite: Vec<Spanned<RewriteTable>>,
    /// The maps of `rewrite`, by name.
    #[serde(default)]
    pub(crate) maps: BTreeMap<String, MapTable>,
    /// Header fields of requests that are changed on their way to servers. Default: none. Values may have server variables, as in a
    /// rule. What frames a message or belongs to a connection, and what the proxy itself says of the client, cannot be.
    #[serde(default)]
    pub(crate) request_headers: HeadersTable,
    /// Header fields of responses that are changed on their way to clients: servers', and the proxy's own answers for the site, from
    /// `respond` and `maintenance` to errors, but not what comes without TLS. Of an answer to a path that is refused, values with server
    /// variables are left out. Default: none.
    #[serde(default)]
    pub(crate) response_headers: HeadersTable,
    /// `true`: a `Location` that names a server or its farm is made to name the site. Default `false`.
    #[serde(default)]
    pub(crate) rewrite_location: bool,
    /// `true`: requests to port 80 are redirected to the site. Default `false`. A `[[rule]]` must name port 80.
    #[serde(default)]
    pub(crate) redirect_http: bool,
    /// The server that answers the challenges of a certificate authority to the site's names, `/.well-known/acme-challenge/TOKEN` at port
    /// 80: `"10.0.0.5"` (port 80) or `"10.0.0.5:8080"`. Default: none. Needs `redirect_http`.
    pub(crate) acme: Option<Spanned<String>>,
    /// How long browsers are told to come over TLS alone, such as `"365d"`: by every answer over TLS that is for the site, the proxy's own
    /// too. Default: they are not told.
    pub(crate) hsts: Option<Spanned<Time>>,
    /// Networks that may ask, such as `"10.0.0.0/8"`. Default: all.
    #[serde(default)]
    pub(crate) allow: Vec<Spanned<String>>,
    /// Networks that may not; of nested networks the inner one counts.
    #[serde(default)]
    pub(crate) deny: Vec<Spanned<String>>,
    /// See `ProtectionTable`; here for this site. Default: as there.
    pub(crate) rate: Option<Spanned<RateEntry>>,
    /// See `ProtectionTable`; here for this site. Default: as there.
    pub(crate) logon_rate: Option<Spanned<RateEntry>>,
    /// While it is set, requests are answered with 503 and this text, or as the table says.
    pub(crate) maintenance: Option<Spanned<MaintenanceEntry>>,
    /// `true`: requests that show a known attack on Exchange are refused. Default `false`; `[exchange]` has it on.
    #[serde(default)]
    pub(crate) mitigations: bool,
    /// See `ExchangeTable`.
    #[serde(default)]
    pub(crate) mitigations_off: Vec<Spanned<String>>,
}

/// `[[site.route]]`: which requests, and what becomes of them. One of `farm`, `redirect`, `respond` and `refuse`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteTable {
    /// The path, and all below it by whole segments.
    pub(crate) path: Option<Spanned<String>>,
    /// The path alone, in place of `path`.
    pub(crate) exact: Option<Spanned<String>>,
    /// `true`: letters of both cases are the same. Default `false`.
    #[serde(default)]
    pub(crate) ignore_case: bool,
    /// Some of the site's names. Default: all.
    #[serde(default)]
    pub(crate) hosts: Vec<Spanned<String>>,
    /// Header fields and what one of their values has to be: `{ "User-Agent" = "*Outlook*" }`, in letters of either case, where
    /// `*` is any text. Default: any.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Spanned<String>>,
    /// Methods. Default: all.
    #[serde(default)]
    pub(crate) methods: Vec<Spanned<String>>,
    /// Networks of clients. Default: all.
    #[serde(default)]
    pub(crate) networks: Vec<Spanned<String>>,
    /// See `SiteTable`; in place of what the site does to fields of the same names.
    #[serde(default)]
    pub(crate) request_headers: HeadersTable,
    /// See `SiteTable`; in place of what the site does to fields of the same names.
    #[serde(default)]
    pub(crate) response_headers: HeadersTable,
    /// The farm that answers.
    pub(crate) farm: Option<Spanned<String>>,
    /// With `farm`: which of its tests says whether a server takes these requests. Default: `[farm.health]`.
    pub(crate) test: Option<Spanned<String>>,
    /// A path or URL that the client is sent to.
    pub(crate) redirect: Option<Spanned<String>>,
    /// The text that it is answered with, of up to 64 KiB.
    pub(crate) respond: Option<Spanned<String>>,
    /// The media type of `respond`. Default `"text/plain; charset=utf-8"`.
    pub(crate) content_type: Option<Spanned<String>>,
    /// It is refused with 403, and this is why, for the operator.
    pub(crate) refuse: Option<Spanned<String>>,
    /// The status of `redirect` (default 302) or `respond` (default 200).
    pub(crate) status: Option<Spanned<u16>>,
    /// See `BoundsTable`.
    pub(crate) idle_timeout: Option<Spanned<Time>>,
    /// See `BoundsTable`.
    pub(crate) total_timeout: Option<Spanned<Time>>,
    /// See `BoundsTable`.
    pub(crate) body_limit: Option<Spanned<Size>>,
}

/// How big requests may be, and how long they may take.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BoundsTable {
    /// Longest time in which nothing moves in either direction. Default: the farm's `response_timeout`. 1 s to 24 h.
    pub(crate) idle_timeout: Option<Spanned<Time>>,
    /// Longest time for all of it. Default: none. 1 s to 24 h.
    pub(crate) total_timeout: Option<Spanned<Time>>,
    /// Most bytes of its body, such as `"64MiB"`. Default 2 GiB.
    pub(crate) body_limit: Option<Spanned<Size>>,
}

/// `[[farm]]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FarmTable {
    /// Unique name; `exchange` is taken where there is an `[exchange]`.
    pub(crate) name: Spanned<String>,
    /// Each `"10.0.0.36"` (port 443), `"10.0.0.36:8443"` or `{ name = "sbex1", address = "10.0.0.36", weight = 100 }`, where
    /// `state = "drain"` or `"disabled"`, `backup = true` and `connections = 500` may stand, too.
    pub(crate) servers: Vec<Spanned<ServerEntry>>,
    /// How many of them a node must reach; one that reaches fewer hands its share to nodes that reach enough. Default 1; up to
    /// the number of servers.
    #[serde(default = "min_servers")]
    pub(crate) min_servers: Spanned<usize>,
    /// `false`: servers are spoken to without TLS, at port 80 unless they say another. All that clients send then travels in clear to
    /// them. Default `true`.
    pub(crate) tls: Option<Spanned<bool>>,
    /// `"same-certificate"` (default: the server presents the site's own certificate, as Exchange's Extended Protection
    /// demands) or `"none"`.
    #[schemars(extend("enum" = ["same-certificate", "none"]))]
    pub(crate) verify: Option<Spanned<String>>,
    /// PEM file of the CA that vouches for the servers, in place of `verify`.
    pub(crate) ca: Option<Spanned<PathBuf>>,
    /// SHA-256 fingerprints of the servers' certificates or public keys, in place of `verify`: `["sha256:.."]`.
    #[serde(default)]
    pub(crate) pins: Vec<Spanned<String>>,
    /// `"own"` (default): each connection to a server belongs to one client connection. `"shared"`: whoever asks next may get it, for
    /// servers that know no logon of Windows (NTLM, Negotiate, Kerberos); where one is seen all the same, that connection stays its
    /// client's own.
    #[schemars(extend("enum" = ["own", "shared"]))]
    pub(crate) reuse: Option<Spanned<String>>,
    /// How requests are spread over the servers.
    #[serde(default)]
    pub(crate) balance: BalanceTable,
    /// How a server proves that it works.
    #[serde(default)]
    pub(crate) health: HealthTable,
    /// Further tests, by name, for routes with `test = "NAME"`. What one leaves out is as in `health`.
    #[serde(default)]
    pub(crate) tests: BTreeMap<String, Spanned<HealthTable>>,
    /// Longest time in which nothing moves within a request. Default `"1h"`: ActiveSync holds a request open for up to
    /// 59 minutes. 1 s to 24 h.
    #[serde(default = "response_timeout")]
    pub(crate) response_timeout: Spanned<Time>,
    /// Longest time to connect to a server, TLS included. Default `"5s"`; 100 ms to 5 min.
    #[serde(default = "connect_timeout")]
    pub(crate) connect_timeout: Spanned<Time>,
}
