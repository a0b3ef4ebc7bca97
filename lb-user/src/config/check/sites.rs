//! Sites: what the proxy publishes, and what it does with requests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use super::headers::edits;
use super::message::maintenance;
use super::names::host_names;
use super::protection::rates;
use super::rewrite::rules;
use super::routes::{Target, access, routes};
use super::rules::HTTP;
use super::{Place, Problems, absolute, is_host};
use crate::config::model::{Clients, ClusterIp, Filtering, PortRule, Route, Service, Site, SiteTls};
use crate::config::problem::Problem;
use crate::config::raw::{
    ClientCertificatesTable, HeadersTable, MaintenanceEntry, MapTable, ProtectionTable, RateEntry,
    RewriteTable, SiteTable, Time,
};
use crate::config::spanned::Spanned;
use crate::proxy::rewrite::mitigation::Mitigations;
use crate::proxy::tls::Alpn;

/// A site, of whichever table.
pub(super) struct Draft<'a> {
    pub(super) names: &'a [Spanned<String>],
    pub(super) certificate: &'a Spanned<PathBuf>,
    pub(super) key: Option<&'a Spanned<PathBuf>>,
    pub(super) tls: Option<SiteTls>,
    pub(super) port: &'a Spanned<u16>,
    /// Whether requests to port 80 are redirected.
    pub(super) redirect: Redirect,
    /// Where challenges go that come there.
    pub(super) acme: Option<&'a Spanned<String>>,
    pub(super) service: Option<Service>,
}

/// Whether requests to port 80 are redirected to a site.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirect {
    No,
    /// Where a rule lets port 80 through.
    IfAdmitted,
    Yes,
}

/// What `[[site]]` says. `farms`: what routes may go to, by name.
pub(super) fn draft<'a>(
    raw: &'a SiteTable,
    farms: &BTreeMap<&str, Target<'_>>,
    shared: &ProtectionTable,
    problems: &mut Problems,
) -> Draft<'a> {
    let service = service(raw, farms, shared, problems);
    let tls = tls(&raw.password_file, &raw.ocsp, raw.client_certificates.as_ref(), problems);
    let protocols = protocols(raw.protocols.as_ref(), problems);
    Draft {
        names: &raw.names,
        certificate: &raw.certificate,
        key: raw.key.as_ref(),
        tls: tls.zip(protocols).map(|(tls, protocols)| SiteTls { protocols, ..tls }),
        port: &raw.port,
        redirect: if raw.redirect_http { Redirect::Yes } else { Redirect::No },
        acme: raw.acme.as_ref(),
        service,
    }
}

fn service(
    raw: &SiteTable,
    farms: &BTreeMap<&str, Target<'_>>,
    shared: &ProtectionTable,
    problems: &mut Problems,
) -> Option<Service> {
    if raw.farm.is_none() && raw.route.is_empty() {
        let problem = Problem::at(raw.certificate.span(), "the site has neither `farm` nor `[[site.route]]`");
        problems.add(problem.hint("farm = \"web\", the name of a [[farm]]"));
    }
    let routes = routes(raw, farms, problems);
    let said = Said {
        hsts: raw.hsts.as_ref(),
        allow: &raw.allow,
        deny: &raw.deny,
        rates: [raw.rate.as_ref(), raw.logon_rate.as_ref()],
        shared,
        mitigations_off: &raw.mitigations_off,
        acme: raw.acme.as_ref(),
        headers: (&raw.request_headers, &raw.response_headers),
        rewrite: &raw.rewrite,
        maps: &raw.maps,
        maintenance: raw.maintenance.as_ref(),
    };
    said.service(routes, raw.mitigations, raw.rewrite_location, problems)
}

/// What both tables say of all requests of their site.
pub(super) struct Said<'a> {
    pub(super) hsts: Option<&'a Spanned<Time>>,
    pub(super) allow: &'a [Spanned<String>],
    pub(super) deny: &'a [Spanned<String>],
    /// Its rate and its rate of logons.
    pub(super) rates: [Option<&'a Spanned<RateEntry>>; 2],
    /// What holds where it says nothing.
    pub(super) shared: &'a ProtectionTable,
    pub(super) mitigations_off: &'a [Spanned<String>],
    pub(super) acme: Option<&'a Spanned<String>>,
    /// Of requests and of responses.
    pub(super) headers: (&'a HeadersTable, &'a HeadersTable),
    pub(super) rewrite: &'a [Spanned<RewriteTable>],
    pub(super) maps: &'a BTreeMap<String, MapTable>,
    pub(super) maintenance: Option<&'a Spanned<MaintenanceEntry>>,
}

impl Said<'_> {
    /// With the site's routes, what it does.
    pub(super) fn service(
        &self,
        routes: Option<Vec<Route>>,
        mitigations: bool,
        rewrite_location: bool,
        problems: &mut Problems,
    ) -> Option<Service> {
        let hsts = hsts(self.hsts, problems);
        let maintenance = maintenance(self.maintenance, problems);
        let acme = acme(self.acme, problems);
        let access = access(self.allow, self.deny, problems);
        let rates = rates(self.rates, self.shared, problems);
        let off = mitigations_off(self.mitigations_off, problems);
        let (rewrite, maps) = rules(self.rewrite, self.maps, problems)?;
        let edits = edits(self.headers.0, self.headers.1, &maps, problems);
        let (allow, deny) = access?;
        Some(Service {
            routes: routes?,
            rewrite,
            maps,
            rewrite_location,
            acme: acme?,
            edits: edits?,
            mitigations,
            mitigations_off: off?,
            allow,
            deny,
            rates: rates?,
            hsts: hsts?,
            maintenance: maintenance?,
        })
    }
}

/// A site's TLS, with HTTP/1.1 alone.
pub(super) fn tls(
    password: &Option<Spanned<PathBuf>>,
    ocsp: &Option<Spanned<PathBuf>>,
    clients: Option<&ClientCertificatesTable>,
    problems: &mut Problems,
) -> Option<SiteTls> {
    let mut file = |what, raw: &Option<Spanned<PathBuf>>| match raw {
        Some(raw) => absolute(what, raw, problems).map(Some),
        None => Some(None),
    };
    let (password, ocsp) = (file("password_file", password), file("ocsp", ocsp));
    let clients = match clients {
        None => Some(Clients::Unasked),
        Some(raw) => {
            let ca = absolute("ca", &raw.ca, problems);
            let modes = [("required", true), ("optional", false)];
            let required = raw.mode.as_ref().map_or(Some(true), |mode| problems.choice("mode", mode, &modes));
            ca.zip(required)
                .map(|(ca, required)| if required { Clients::Required(ca) } else { Clients::Optional(ca) })
        }
    };
    Some(SiteTls { password: password?, ocsp: ocsp?, clients: clients?, ..SiteTls::default() })
}

/// What clients may speak.
fn protocols(raw: Option<&Spanned<Vec<Spanned<String>>>>, problems: &mut Problems) -> Option<Vec<Alpn>> {
    let Some(list) = raw else {
        return Some(vec![Alpn::H2, Alpn::Http11]);
    };
    let known = [("h2", Alpn::H2), ("http/1.1", Alpn::Http11)];
    let mut seen = BTreeMap::new();
    let mut protocols = Vec::new();
    for name in list.get_ref() {
        let place = Place { what: "the protocol", span: name.span() };
        problems.unique(&mut seen, name.get_ref().clone(), "this site", place);
        protocols.push(problems.choice("protocols", name, &known)?);
    }
    problems.require((!protocols.is_empty()).then_some(protocols), || {
        Problem::at(list.span(), "`protocols` is empty").hint("protocols = [\"h2\", \"http/1.1\"]")
    })
}

fn mitigations_off(raw: &[Spanned<String>], problems: &mut Problems) -> Option<BTreeSet<String>> {
    let mut off = BTreeSet::new();
    for name in raw {
        let one = BTreeSet::from([name.get_ref().clone()]);
        match Mitigations::without(&one) {
            Ok(_) => off.extend(one),
            Err(error) => problems.add(Problem::of_error(name.span(), error)),
        }
    }
    (off.len() == raw.len()).then_some(off)
}

/// The server that challenges go to.
fn acme(raw: Option<&Spanned<String>>, problems: &mut Problems) -> Option<Option<SocketAddrV4>> {
    let Some(raw) = raw else {
        return Some(None);
    };
    let text = raw.get_ref();
    let address = text.parse().ok().or_else(|| Some(SocketAddrV4::new(text.parse().ok()?, HTTP)));
    let sound = |at: &SocketAddrV4| (is_host(*at.ip()) || at.ip().is_loopback()) && at.port() > 0;
    let problem = || {
        Problem::at(raw.span(), format!("\"{text}\" is not the address of a server")).hint(
            "acme = \"10.0.0.5\" or \"10.0.0.5:8080\", where the program that asks for certificates answers",
        )
    };
    problems.require(address.filter(sound), problem).map(Some)
}

/// RFC 6797, 6.1.1; a year is what browsers' preload lists ask for.
fn hsts(raw: Option<&Spanned<Time>>, problems: &mut Problems) -> Option<Option<Duration>> {
    let day = Duration::from_secs(86_400);
    match raw {
        None => Some(None),
        Some(raw) => problems.time("hsts", raw, Duration::ZERO..=day * 3650).map(Some),
    }
}

/// The checked sites.
pub(super) fn sites(
    drafts: Vec<Draft<'_>>,
    ips: Option<&[ClusterIp]>,
    rules: Option<&[PortRule]>,
    problems: &mut Problems,
) -> Option<Vec<Site>> {
    let (mut taken, mut sites, count) = (BTreeMap::new(), Vec::new(), drafts.len());
    for draft in drafts {
        let port = problems.number("port", draft.port, 1..=u16::MAX);
        if let (Some(port), Some(rules)) = (port, rules) {
            let span =
                if draft.port.span().is_empty() { draft.certificate.span() } else { draft.port.span() };
            let place = Place { what: "the site's port", span };
            admitted(port, place, ips.unwrap_or_default(), rules, problems);
        }
        for name in draft.names {
            let key = format!("{}:{}", name.get_ref(), draft.port.get_ref());
            problems.unique(&mut taken, key, "another site", Place { what: "the name", span: name.span() });
        }
        let names = host_names(draft.names, draft.certificate.span(), problems);
        let certificate = absolute("certificate", draft.certificate, problems);
        let key = absolute("key", draft.key.unwrap_or(draft.certificate), problems);
        let redirect = redirect(&draft, ips, rules, problems);
        if let (Some(acme), Some(None)) = (draft.acme, redirect) {
            let problem = Problem::at(acme.span(), "`acme` needs port 80, where certificate authorities ask");
            problems.add(problem.hint("redirect_http = true, and a [[rule]] with ports = 80"));
        }
        let listen = |port: Option<u16>| {
            let at = |ip: &ClusterIp| Some(SocketAddr::new(ip.address, port?));
            ips.unwrap_or_default().iter().filter_map(at).collect()
        };
        let site = || {
            Some(Site {
                names: names?,
                listen: listen(port),
                redirect: listen(redirect?),
                certificate: certificate?,
                key: key?,
                tls: draft.tls?,
                service: draft.service?,
            })
        };
        sites.extend(site());
    }
    (sites.len() == count).then_some(sites)
}

/// The port whose requests are redirected, if any.
fn redirect(
    draft: &Draft<'_>,
    ips: Option<&[ClusterIp]>,
    rules: Option<&[PortRule]>,
    problems: &mut Problems,
) -> Option<Option<u16>> {
    let lets = |rule: &&PortRule| rule.spread.filtering != Filtering::Disabled;
    let admits = |ip: &ClusterIp| {
        rules
            .unwrap_or_default()
            .iter()
            .find(|rule| rule.covers_tcp(ip.address, HTTP))
            .is_some_and(|rule| lets(&rule))
    };
    let admitted = ips.unwrap_or_default().iter().any(admits);
    match draft.redirect {
        _ if *draft.port.get_ref() == HTTP => Some(None),
        Redirect::No => Some(None),
        Redirect::Yes if !admitted && rules.is_some() => {
            let problem = Problem::at(
                draft.certificate.span(),
                "no rule lets port 80 through, which `redirect_http` needs",
            );
            problems.add(problem.hint("[[rule]] with ports = 80"));
            None
        }
        Redirect::Yes => Some(Some(HTTP)),
        Redirect::IfAdmitted => Some(admitted.then_some(HTTP)),
    }
}

/// A port that no rule lets through would never be reached.
pub(super) fn admitted(
    port: u16,
    place: Place<'_>,
    ips: &[ClusterIp],
    rules: &[PortRule],
    problems: &mut Problems,
) {
    let admitting = |ip: &ClusterIp| rules.iter().find(|rule| rule.covers_tcp(ip.address, port));
    let lets =
        |ip: &ClusterIp| admitting(ip).is_some_and(|rule| rule.spread.filtering != Filtering::Disabled);
    if ips.iter().any(lets) {
        return;
    }
    let Place { what, span } = place;
    let text = match ips.iter().find_map(admitting) {
        Some(_) => format!("{what} {port} is in a rule with filtering = \"disabled\""),
        None => format!("no rule lets {what} {port} through"),
    };
    problems.add(Problem::at(span, text).hint(format!("[[rule]] with ports = {port}")));
}
