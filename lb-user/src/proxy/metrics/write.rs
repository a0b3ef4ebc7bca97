//! What is counted, as text, family by family. What each means is said where it is counted.

use super::text::{Exposition, Kind};
use super::{CODES, FAILURES, HandshakeFailed, Metrics, Route, Server};
use crate::proxy::cause::Cause;

impl Metrics {
    /// All of it, as OpenMetrics text: `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    pub fn text(&self) -> String {
        let mut out = Exposition::default();
        self.write_connections(&mut out);
        self.write_sites(&mut out);
        self.write_routes(&mut out);
        self.write_logons(&mut out);
        self.write_servers(&mut out);
        self.write_services(&mut out);
        out.finish()
    }

    fn write_connections(&self, out: &mut Exposition) {
        out.family(Kind::Gauge, "rollcall_proxy_connections", "", "Client connections that are open.");
        out.gauge(&[], self.all.open.value());
        out.family(Kind::Gauge, "rollcall_proxy_requests_in_flight", "", "Requests that are not over.");
        out.gauge(&[], self.all.in_flight.value());
        out.family(Kind::Counter, "rollcall_proxy_accepted_connections", "", "Client connections.");
        out.counter(&[], self.all.accepted.value());
        let help = "Client connections that were closed at once.";
        out.family(Kind::Counter, "rollcall_proxy_refused_connections", "", help);
        let [client, all] = &self.all.connections_refused;
        for (reason, count) in [("client", client), ("all", all)] {
            out.counter(&[("reason", reason)], count.value());
        }
        let help = "TLS handshakes with clients.";
        out.family(Kind::Histogram, "rollcall_proxy_handshake_seconds", "seconds", help);
        for (resumed, handshakes) in ["false", "true"].into_iter().zip(&self.all.handshakes) {
            out.histogram(&[("resumed", resumed)], handshakes);
        }
        let help = "TLS handshakes with clients that came to nothing.";
        out.family(Kind::Counter, "rollcall_proxy_failed_handshakes", "", help);
        for (why, count) in HandshakeFailed::ALL.into_iter().zip(&self.all.handshakes_failed) {
            out.counter(&[("reason", why.as_str())], count.value());
        }
        let help = "Lines that the reader of the access log was too slow for.";
        out.family(Kind::Counter, "rollcall_proxy_log_lost_lines", "", help);
        out.counter(&[], self.all.log_lost.value());
    }

    fn write_sites(&self, out: &mut Exposition) {
        let names = || self.layout.sites.iter().map(|site| site.name.as_str()).chain([""]);
        let help = "Answers that no server gave, by cause.";
        out.family(Kind::Counter, "rollcall_proxy_own_answers", "", help);
        for (name, site) in names().zip(&self.sites) {
            for (cause, count) in Cause::ALL.into_iter().zip(&site.own.own_answers) {
                out.counter(&[("site", name), ("cause", cause.as_str())], count.value());
            }
        }
        out.family(Kind::Counter, "rollcall_proxy_rate_refused", "", "Requests that came too soon.");
        for (name, site) in names().zip(&self.sites) {
            for (class, count) in ["general", "authentication"].into_iter().zip(&site.own.rate_refused) {
                out.counter(&[("site", name), ("class", class)], count.value());
            }
        }
    }

    fn write_routes(&self, out: &mut Exposition) {
        out.family(Kind::Counter, "rollcall_proxy_requests", "", "Requests, by what they were answered.");
        for ([site, name], route) in self.routes() {
            for (code, count) in CODES.into_iter().zip(&route.requests) {
                out.counter(&[site, name, ("code", code)], count.value());
            }
        }
        let help = "Requests that were answered with 403 or 404.";
        out.family(Kind::Counter, "rollcall_proxy_denied_requests", "", help);
        out.counter(&[], self.all.denied.value());
        let help = "Answers that ended before their time for a server's fault.";
        out.family(Kind::Counter, "rollcall_proxy_broken_responses", "", help);
        out.counter(&[], self.all.broken.value());
        let help = "From a request's first byte to its response's last.";
        out.family(Kind::Histogram, "rollcall_proxy_request_seconds", "seconds", help);
        self.routes().for_each(|(labels, route)| out.histogram(&labels, &route.took));
        out.family(Kind::Counter, "rollcall_proxy_received_bytes", "bytes", "Bodies of requests.");
        self.routes().for_each(|(labels, route)| out.counter(&labels, route.received.value()));
        out.family(Kind::Counter, "rollcall_proxy_sent_bytes", "bytes", "Bodies of responses.");
        self.routes().for_each(|(labels, route)| out.counter(&labels, route.sent.value()));
    }

    fn write_logons(&self, out: &mut Exposition) {
        out.family(Kind::Counter, "rollcall_proxy_logons", "", "Attempts to log on, by verdict.");
        let verdicts = ["passed", "delayed", "refused_pair", "refused_network", "refused_crowd"];
        for (verdict, count) in verdicts.into_iter().zip(&self.all.judged) {
            out.counter(&[("verdict", verdict)], count.value());
        }
        let help = "Attempts to log on that passed, by what came of them.";
        out.family(Kind::Counter, "rollcall_proxy_logon_outcomes", "", help);
        for (outcome, count) in ["failed", "succeeded", "unknown"].into_iter().zip(&self.all.outcomes) {
            out.counter(&[("outcome", outcome)], count.value());
        }
    }

    fn write_servers(&self, out: &mut Exposition) {
        out.family(Kind::Gauge, "rollcall_proxy_server_healthy", "", "Whether a server is healthy.");
        self.servers().for_each(|(labels, server)| out.gauge(&labels, server.healthy.value()));
        let help = "Connections to servers, TLS included.";
        out.family(Kind::Histogram, "rollcall_proxy_server_connect_seconds", "seconds", help);
        self.servers().for_each(|(labels, server)| out.histogram(&labels, &server.connect));
        let help = "From a request's head to the first byte of a server's response.";
        out.family(Kind::Histogram, "rollcall_proxy_server_first_byte_seconds", "seconds", help);
        self.servers().for_each(|(labels, server)| out.histogram(&labels, &server.first_byte));
        out.family(Kind::Counter, "rollcall_proxy_server_responses", "", "Responses of servers.");
        for ([farm, name], server) in self.servers() {
            for (code, count) in CODES.into_iter().zip(&server.responses) {
                out.counter(&[farm, name, ("code", code)], count.value());
            }
        }
        let help = "Requests that a server failed, by cause.";
        out.family(Kind::Counter, "rollcall_proxy_server_failures", "", help);
        for ([farm, name], server) in self.servers() {
            for (cause, count) in Cause::ALL.into_iter().zip(&server.failures) {
                if FAILURES.contains(&cause) {
                    out.counter(&[farm, name, ("cause", cause.as_str())], count.value());
                }
            }
        }
    }

    fn write_services(&self, out: &mut Exposition) {
        let farms = || self.layout.farms.iter().map(|farm| farm.name.as_str()).zip(&self.farms);
        out.family(Kind::Gauge, "rollcall_proxy_farm_waiting", "", "Requests that wait for a server.");
        farms().for_each(|(name, farm)| out.gauge(&[("farm", name)], farm.own.waiting.value()));
        let help = "Requests that went to another server, nothing having been sent.";
        out.family(Kind::Counter, "rollcall_proxy_retries", "", help);
        farms().for_each(|(name, farm)| out.counter(&[("farm", name)], farm.own.retries.value()));
        let services = || self.layout.services.iter().map(String::as_str).zip(&self.services);
        let help = "Connections of TCP services, by why they ended.";
        out.family(Kind::Counter, "rollcall_proxy_tcp_connections", "", help);
        for (name, service) in services() {
            let causes = Cause::ALL.into_iter().map(Cause::as_str).chain([""]);
            for (cause, count) in causes.zip(&service.connections) {
                out.counter(&[("service", name), ("cause", cause)], count.value());
            }
        }
        let help = "From a TCP connection's first byte to its end.";
        out.family(Kind::Histogram, "rollcall_proxy_tcp_connection_seconds", "seconds", help);
        services().for_each(|(name, service)| out.histogram(&[("service", name)], &service.took));
        out.family(
            Kind::Counter,
            "rollcall_proxy_tcp_received_bytes",
            "bytes",
            "From clients of TCP services.",
        );
        services().for_each(|(name, service)| out.counter(&[("service", name)], service.received.value()));
        out.family(Kind::Counter, "rollcall_proxy_tcp_sent_bytes", "bytes", "To clients of TCP services.");
        services().for_each(|(name, service)| out.counter(&[("service", name)], service.sent.value()));
    }

    fn routes(&self) -> impl Iterator<Item = ([(&str, &str); 2], &Route)> {
        let named = self.layout.sites.iter().map(|site| (site.name.as_str(), site.parts.as_slice()));
        named.chain([("", &[][..])]).zip(&self.sites).flat_map(|((name, routes), site)| {
            let labels = move |route| [("site", name), ("route", route)];
            routes
                .iter()
                .map(String::as_str)
                .chain([""])
                .map(labels)
                .zip(site.routes.iter().map(|route| &**route))
        })
    }

    fn servers(&self) -> impl Iterator<Item = ([(&str, &str); 2], &Server)> {
        self.layout.farms.iter().zip(&self.farms).flat_map(|(names, farm)| {
            let labels = |server| [("farm", names.name.as_str()), ("server", server)];
            names
                .parts
                .iter()
                .map(String::as_str)
                .map(labels)
                .zip(farm.servers.iter().map(|server| &**server))
        })
    }
}
