//! NLB to cluster, nodes and port rules. Pure.

use std::collections::BTreeSet;

use super::Mapper;
use crate::iis::draft::{Draft, Fill, Node, PortRule};
use crate::iis::nlb::{self, Nlb};

impl Mapper<'_> {
    /// Adds what NLB was, and the port rules that what is published needs.
    pub(super) fn cluster(&mut self, draft: &mut Draft) {
        let none = Nlb::default();
        let nlb = self.known.nlb.as_ref().unwrap_or(&none).clone();
        let prefix = |ip: &std::net::IpAddr| match (ip, nlb.prefix) {
            (std::net::IpAddr::V6(_), _) => Some(64),
            (std::net::IpAddr::V4(_), prefix) => prefix,
        };
        let what = "the cluster IP with its network's prefix length, such as 192.168.50.8/24";
        let ips = nlb.ips.iter().map(|ip| {
            Fill::of(prefix(ip).map(|prefix| format!("{ip}/{prefix}")), &format!("{ip} with {what}"))
        });
        draft.ips = ips.collect();
        if draft.ips.is_empty() {
            draft.ips.push(Fill::Blank(what.to_owned()));
        }
        if !nlb.nodes.is_empty() {
            self.remarks.push(ADDRESSES.to_owned());
        }
        draft.mode = nlb.mode;
        draft.nodes = self.nodes(&nlb);
        draft.rules = self.port_rules(&nlb, draft);
    }

    fn nodes(&self, nlb: &Nlb) -> Vec<Node> {
        let address = |host: &nlb::Host| {
            let named = || self.address(&host.name).map(|address| address.to_string());
            host.address.map(|address| address.to_string()).or_else(named)
        };
        let node = |host: &nlb::Host| Node {
            name: Fill::of((!host.name.is_empty()).then(|| host.name.clone()), "this node's name"),
            address: Fill::of(address(host), "this node's own address in the cluster IP's network"),
            priority: host.priority,
        };
        if nlb.nodes.is_empty() {
            let host = |priority| node(&nlb::Host { priority, ..nlb::Host::default() });
            return vec![host(1), host(2)];
        }
        nlb.nodes.iter().map(node).collect()
    }

    fn port_rules(&mut self, nlb: &Nlb, draft: &Draft) -> Vec<PortRule> {
        let faces =
            draft.sites.iter().map(|site| &site.face).chain(draft.exchange.as_ref().map(|one| &one.face));
        let served: BTreeSet<u16> =
            faces.flat_map(|face| [Some(face.port), face.redirect_http.then_some(80)]).flatten().collect();
        let mut rules = Vec::new();
        for rule in &nlb.rules {
            rules.extend(self.port_rule(rule, nlb, &served));
        }
        let covers = |rules: &[PortRule], port: u16| {
            rules.iter().any(|rule| rule.protocol != "udp" && rule.ports.0 <= port && port <= rule.ports.1)
        };
        // [exchange] brings its own.
        let own = draft.exchange.is_some() && nlb.rules.is_empty();
        for port in served.into_iter().filter(|_| !own) {
            if covers(&rules, port) {
                continue;
            }
            let filtering = if nlb.rules.is_empty() { "multiple" } else { "single" };
            if filtering == "single" {
                self.remarks.push(format!(
                    "no port rule of NLB was for port {port}: the default host took it, and takes it here"
                ));
            }
            let ports = (port, port);
            rules.push(PortRule {
                protocol: "tcp",
                ports,
                filtering,
                affinity: "none",
                ..PortRule::default()
            });
        }
        rules
    }

    fn port_rule(&mut self, rule: &nlb::PortRule, nlb: &Nlb, served: &BTreeSet<u16>) -> Vec<PortRule> {
        let named = |list: &[(u32, u32)]| -> Vec<(String, u32)> {
            let name = |priority: u32| {
                nlb.nodes.iter().find(|host| host.priority == priority && !host.name.is_empty())
            };
            list.iter().filter_map(|(host, number)| Some((name(*host)?.name.clone(), *number))).collect()
        };
        let blocks =
            rule.filtering == "disabled" && served.iter().any(|port| (rule.first..=rule.last).contains(port));
        if blocks {
            self.remarks.push(format!(
                "the port rule of line {} blocks ports that sites need: it is left out",
                rule.line
            ));
            return Vec::new();
        }
        let made = |ports: (u16, u16)| PortRule {
            ip: rule.ip,
            protocol: rule.protocol,
            ports,
            filtering: rule.filtering,
            affinity: rule.affinity,
            sticky: if rule.affinity == "none" { 0 } else { rule.timeout.min(240) },
            weights: if rule.filtering == "multiple" { named(&rule.weights) } else { Vec::new() },
            handling: if rule.filtering == "single" { named(&rule.handling) } else { Vec::new() },
        };
        if rule.last - rule.first < WIDE {
            return vec![made((rule.first.max(1), rule.last))];
        }
        // NLB's default rule is for all ports, which would show the nodes' own services to the world.
        let within: Vec<u16> =
            served.iter().copied().filter(|port| (rule.first..=rule.last).contains(port)).collect();
        let ports: Vec<String> = within.iter().map(ToString::to_string).collect();
        self.remarks.push(format!(
            "the port rule of line {}, for ports {} to {}, is narrowed to what is published: {}",
            rule.line,
            rule.first,
            rule.last,
            if ports.is_empty() { "nothing".to_owned() } else { ports.join(", ") }
        ));
        within.into_iter().map(|port| PortRule { protocol: "tcp", ..made((port, port)) }).collect()
    }
}

const ADDRESSES: &str = "nodes have the names and addresses of the Windows hosts: while both run the new ones need their own, and a spare \
                         cluster IP; `rollcall plan cutover` says how";

/// As many ports are no service's.
const WIDE: u16 = 1000;
