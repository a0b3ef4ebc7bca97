//! What would become of a request, and why, for `rollcall explain https://..`: the names of sites, the policy and the choice of
//! servers are asked as they are when serving; what servers do is told by the proxy's status. Pure.

use std::net::SocketAddr;

use super::balance::eligible::View;
use super::balance::set::ServerSet;
use super::http1::{Head, Length, request};
use super::policy::{Decision, Facts, Forward, Policy};
use super::redirect::Redirects;
use super::route::Routes;
use super::snapshot::Snapshot;
use crate::control::api::{
    Asked, FarmExplanation, ProxyStatus, RequestExplanation, ServerExplanation, ServerStatus, Step,
};

/// Explains a request to what `snapshot` says and the compiled policies of its sites, by a proxy in this state. An error is a sentence for who asked.
pub fn explain(
    asked: &Asked,
    snapshot: &Snapshot,
    policies: &[Policy],
    proxy: Option<&ProxyStatus>,
) -> Result<RequestExplanation, String> {
    let url = Url::read(&asked.url)?;
    let text = head_text(asked, &url)?;
    let mut head = Head::default();
    let limits = snapshot.limits.of_heads();
    let read = head.read_request(text.as_bytes(), &limits).and_then(|()| request::framing(&head));
    let framing = match read {
        Ok(framing) => framing,
        Err(violation) => {
            return Ok(RequestExplanation {
                summary: format!("refused with {}: {violation}", violation.status()),
                site_why: "it is no request that a site could be looked for".to_owned(),
                ..RequestExplanation::default()
            });
        }
    };
    if !url.tls {
        return without_tls(&url, &head, &framing, snapshot);
    }
    let address = listening(snapshot, url.port, |site| &site.listen)?;
    let routes = Routes::at(snapshot, address);
    let Some(site) = routes.site(Some(url.host), framing.host) else {
        return Ok(RequestExplanation {
            summary: "refused with 421 (unknown_host)".to_owned(),
            site_why: no_site(&routes, url.host, framing.host),
            ..RequestExplanation::default()
        });
    };
    let first = snapshot.sites[site].names.first().cloned().unwrap_or_default();
    let facts =
        Facts { head: &head, host: framing.host, target: framing.target, client: asked.from, port: url.port };
    let policy = policies.get(site).ok_or("the site has no policy")?;
    let (decision, steps) = policy.explain(facts);
    let steps = steps.iter().map(|step| {
        let line = step.line();
        Step { what: line.what, result: line.result }
    });
    let mut explanation = RequestExplanation {
        site_why: format!("the handshake names {}, and {} is a name of the site", url.host, framing.host),
        site: Some(first),
        steps: steps.collect(),
        remarks: vec![REMARK.to_owned()],
        ..RequestExplanation::default()
    };
    explanation.summary = match decision {
        Decision::Forward(forward) => {
            let farm = farm(&forward, snapshot, proxy);
            let summary = forwarded(&forward, &farm, framing.body, asked);
            explanation.farm = Some(farm);
            summary
        }
        Decision::Redirect { status, to, .. } => format!("redirected with {status} to {to}"),
        Decision::Respond { reply, .. } => format!("answered by the proxy with {}", reply.status),
        Decision::Refuse { cause, status, why, .. } => format!("refused with {status} ({cause}): {why}"),
        Decision::Abort { rule } => format!("the connection is closed without an answer by rule {rule}"),
    };
    Ok(explanation)
}

/// An absolute URL, cut into parts.
struct Url<'a> {
    tls: bool,
    host: &'a str,
    port: u16,
    target: String,
}

impl<'a> Url<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(format!("\"{text}\" begins neither with https:// nor with http://")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = match authority.rsplit_once(':') {
            None => (authority, if tls { 443 } else { 80 }),
            Some((host, port)) => {
                (host, port.parse().map_err(|_| format!("\"{port}\" in \"{text}\" is no port"))?)
            }
        };
        if host.is_empty() || host.contains(['@', '[', ']']) {
            return Err(format!("\"{text}\" has no host name"));
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { tls, host, port, target })
    }

    fn host_field(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { self.host.to_owned() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// The request's head as a client would send it.
fn head_text(asked: &Asked, url: &Url<'_>) -> Result<String, String> {
    let mut text = format!("{} {} HTTP/1.1\r\n", asked.method, url.target);
    if !asked.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: {}\r\n", url.host_field()));
    }
    for (name, value) in &asked.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let parts = asked.headers.iter().flat_map(|(name, value)| [name, value]);
    if parts.chain([&asked.method, &url.target]).any(|part| part.contains(['\r', '\n', '\0'])) {
        return Err("a method, path or header field cannot have line ends in it".to_owned());
    }
    Ok(text + "\r\n")
}

/// Where sites listen at this port, or redirect.
fn listening(
    snapshot: &Snapshot,
    port: u16,
    of: impl Fn(&super::snapshot::Site) -> &[SocketAddr],
) -> Result<SocketAddr, String> {
    let all = snapshot.sites.iter().flat_map(|site| of(site).iter().copied());
    let found = all.into_iter().find(|address| address.port() == port);
    found.ok_or_else(|| format!("nothing is published at port {port}"))
}

fn without_tls(
    url: &Url<'_>,
    head: &Head,
    framing: &request::Framing<'_>,
    snapshot: &Snapshot,
) -> Result<RequestExplanation, String> {
    let redirects = Redirects::at(snapshot, listening(snapshot, url.port, |site| &site.redirect)?);
    let asks = matches!(head.method(), b"GET" | b"HEAD");
    let challenge = redirects.challenge(framing.host, framing.target).filter(|_| asks);
    let location = redirects.location(framing.host, framing.target);
    let (summary, why) = match (challenge, location) {
        (Some(server), _) => (
            format!("{server} answers it: it is a challenge of a certificate authority"),
            "its site names who answers challenges",
        ),
        (None, None) => ("refused with 421 (unknown_host)".to_owned(), "no site here has this name"),
        (None, Some(to)) if asks => {
            (format!("redirected with 302 to {to}"), "its site takes requests without TLS and redirects them")
        }
        (None, Some(_)) => (
            "refused with 403 (refused)".to_owned(),
            "what is sent without TLS is not redirected: it went over the line already",
        ),
    };
    Ok(RequestExplanation { summary, site_why: why.to_owned(), ..RequestExplanation::default() })
}

fn no_site(routes: &Routes, sni: &str, host: &str) -> String {
    match (routes.greeted(Some(sni)), routes.site(Some(host), host)) {
        (None, _) => format!("no site here has the name {sni}"),
        (Some(_), None) => format!("no site here has the name {host}"),
        (Some(_), Some(_)) => {
            format!(
                "{host} belongs to a site with another certificate or other client authentication than {sni}"
            )
        }
    }
}

fn farm(forward: &Forward<'_>, snapshot: &Snapshot, proxy: Option<&ProxyStatus>) -> FarmExplanation {
    let farm = &snapshot.farms[forward.farm];
    let its = |server: &&ServerStatus| server.farm == farm.name;
    let servers: Vec<&ServerStatus> =
        proxy.map(|proxy| proxy.servers.iter().filter(its).collect()).unwrap_or_default();
    let view = view(&servers, forward.test, farm.balance.panic_threshold);
    let candidates = view.candidates(ServerSet::EMPTY);
    let server = |(index, server): (usize, &&ServerStatus)| {
        let test = server.tests.get(forward.test).cloned().unwrap_or_default();
        ServerExplanation {
            name: server.name.clone(),
            state: server.state.clone(),
            health: test.health,
            finding: test.finding,
            tested_ms: test.tested_ms,
            takes_new: candidates.contains(index),
            keeps: view.keeps(index),
        }
    };
    FarmExplanation {
        name: farm.name.clone(),
        target: forward.target.to_string(),
        test: farm.tests.get(forward.test).map(|test| test.name.clone()).unwrap_or_default(),
        idle_seconds: forward.bounds.silence.as_secs(),
        total_seconds: forward.bounds.total.map(|total| total.as_secs()),
        body_bytes: forward.bounds.body,
        servers: servers.iter().enumerate().map(server).collect(),
    }
}

/// What the farm at work knows, from what it said last.
fn view(servers: &[&ServerStatus], test: usize, min_servers: usize) -> View {
    let those = |fits: &dyn Fn(&ServerStatus) -> bool| {
        let all = servers.iter().enumerate();
        all.filter(|(_, server)| fits(server)).map(|(index, _)| index).collect::<ServerSet>()
    };
    let is = |server: &ServerStatus, health: &str| {
        server.tests.get(test).is_some_and(|test| test.health == health)
    };
    View {
        active: those(&|server| server.state == "active"),
        admitting: those(&|server| server.state != "disabled"),
        backups: those(&|server| server.backup),
        healthy: those(&|server| is(server, "healthy")),
        unhealthy: those(&|server| is(server, "unhealthy")),
        min_servers,
    }
}

fn forwarded(forward: &Forward<'_>, farm: &FarmExplanation, body: Length, asked: &Asked) -> String {
    if matches!(body, Length::Exact(length) if length > forward.bounds.body) {
        return format!("refused with 413 (limit): its body may have {} bytes", forward.bounds.body);
    }
    let taking: Vec<&str> =
        farm.servers.iter().filter(|server| server.takes_new).map(|server| server.name.as_str()).collect();
    let (method, target) = (&asked.method, &farm.target);
    match taking[..] {
        [] => format!(
            "refused with 503 (no_healthy_server): no server of farm {} takes a new client",
            farm.name
        ),
        [server] => format!("{server} of farm {} gets {method} {target}", farm.name),
        _ => format!("{} of farm {} gets {method} {target}", taking.join(" or "), farm.name),
    }
}

/// What is not looked at.
const REMARK: &str = "limits that count (connections, rates, failed logons) and the client's affinity cookie or open connection are not looked at";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::HealthTest;
    use crate::control::api::TestStatus;
    use crate::proxy::policy::FarmNames;
    use crate::proxy::snapshot::tests::one_site;

    fn asked(method: &str, url: &str, headers: &[(&str, &str)]) -> Asked {
        Asked {
            url: url.to_owned(),
            method: method.to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            from: "203.0.113.5".parse().unwrap(),
        }
    }

    fn proxy(state: &str, health: &str) -> ProxyStatus {
        let test = TestStatus { health: health.to_owned(), ..TestStatus::default() };
        let server = ServerStatus {
            farm: "exchange".to_owned(),
            name: "sbex1".to_owned(),
            state: state.to_owned(),
            tests: vec![test],
            ..ServerStatus::default()
        };
        ProxyStatus { servers: vec![server], ..ProxyStatus::default() }
    }

    fn explained(asked: &Asked, proxy: &ProxyStatus) -> RequestExplanation {
        let mut snapshot = one_site("192.168.50.8:443".parse().unwrap());
        snapshot.sites[0].redirect = vec!["192.168.50.8:80".parse().unwrap()];
        snapshot.farms[0].tests = vec![HealthTest::plain("mail.example.test")];
        let farm = FarmNames {
            name: "exchange".to_owned(),
            hosts: Default::default(),
            tests: vec!["default".to_owned()],
        };
        let policy = Policy::compile(&snapshot.sites[0].service, vec![farm]).unwrap();
        explain(asked, &snapshot, &[policy], Some(proxy)).unwrap()
    }

    #[test]
    fn what_becomes_of_a_request_is_said_in_a_sentence() {
        let mail = "https://mail.example.test/owa/?a=b";
        for (asked, state, health, wanted) in [
            (asked("GET", mail, &[]), "active", "healthy", "sbex1 of farm exchange gets GET /owa/?a=b"),
            (asked("GET", mail, &[]), "active", "unhealthy", "refused with 503 (no_healthy_server)"),
            (asked("GET", mail, &[]), "drain", "healthy", "refused with 503 (no_healthy_server)"),
            (
                asked("POST", mail, &[("Content-Length", "9999999999")]),
                "active",
                "healthy",
                "refused with 413",
            ),
            (
                asked("GET", "https://other.test/", &[]),
                "active",
                "healthy",
                "refused with 421 (unknown_host)",
            ),
            (asked("GET", mail, &[("Host", "other.test")]), "active", "healthy", "refused with 421"),
            (asked("GET", mail, &[("Transfer-Encoding", "x")]), "active", "healthy", "refused with "),
            (asked("GET", "https://mail.example.test/a%2fb", &[]), "active", "healthy", "refused with 400"),
            (
                asked("GET", "http://mail.example.test/x", &[]),
                "active",
                "healthy",
                "redirected with 302 to https://mail.example.test/x",
            ),
            (asked("POST", "http://mail.example.test/x", &[]), "active", "healthy", "refused with 403"),
        ] {
            let said = explained(&asked, &proxy(state, health)).summary;
            assert!(said.starts_with(wanted), "{asked:?} {state} {health}: {said}");
        }
    }

    #[test]
    fn all_that_was_looked_at_is_told_in_order() {
        let explained =
            explained(&asked("GET", "https://mail.example.test/owa/", &[]), &proxy("active", "healthy"));
        let steps: Vec<_> =
            explained.steps.iter().map(|step| format!("{} {}", step.what, step.result)).collect();
        assert_eq!(
            steps,
            [
                "networks let the client in",
                "maintenance the site is open",
                "path is matched as /owa/",
                "mitigations are off",
                "route 1: / and all below matches",
            ]
        );
        let farm = explained.farm.unwrap();
        assert!(farm.servers[0].takes_new && farm.servers[0].keeps, "{farm:?}");
        assert_eq!(farm.test, "default");
    }

    #[test]
    fn what_is_no_url_is_an_error() {
        for url in ["mail.example.test/owa", "ftp://a/", "https:///x", "https://a:b/", "https://u@a/"] {
            assert!(Url::read(url).is_err(), "{url}");
        }
    }
}
