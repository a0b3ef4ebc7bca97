//! Port rules: each by itself, no two for one port, and few enough owner tables.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use lb_common::table::{Affinity, RULES, TABLES};

use super::{Problems, checks};
use crate::config::model::{
    Check, ClusterIp, Filtering, Node, PortRule, Priority, Protocol, Spread, Stickiness,
};
use crate::config::problem::Problem;
use crate::config::raw::{ClusterFile, RuleTable};
use crate::config::spanned::Spanned;

/// The checked rules, in the order of their first ports.
pub(super) fn rules(
    raw: &ClusterFile,
    ips: Option<&[ClusterIp]>,
    nodes: Option<&[Node]>,
    problems: &mut Problems,
) -> Option<Vec<PortRule>> {
    let mut rules: Vec<PortRule> = Vec::new();
    let mut sound = true;
    for table in &raw.rule {
        let Some(rule) = rule(table.get_ref(), ips, nodes, problems) else {
            sound = false;
            continue;
        };
        if let Some(other) = rules.iter().find(|other| overlap(&rule, other)) {
            let text = format!("the rule for {rule} overlaps with that for {other}");
            problems
                .add(Problem::at(table.get_ref().ports.span(), text).hint("each port belongs to one rule"));
        }
        rules.push(rule);
    }
    if sound {
        rules.extend(exchange(raw, ips.unwrap_or_default(), &rules));
    }
    // Rule 0 stands for all other ports.
    if rules.len() >= RULES {
        problems.add(Problem::of_file(format!("more than {} port rules", RULES - 1)));
    }
    tables(&rules, problems);
    rules.sort_by_key(|rule| rule.first_port);
    sound.then_some(rules)
}

/// The rules that `[exchange]` brings, where no other lets its ports through: its own, and the one that is redirected to it.
fn exchange(raw: &ClusterFile, ips: &[ClusterIp], rules: &[PortRule]) -> Vec<PortRule> {
    let Some(table) = raw.exchange.as_ref().map(Spanned::get_ref) else {
        return Vec::new();
    };
    let port = *table.port.get_ref();
    let redirected = (table.redirect_http && port != HTTP).then_some(HTTP);
    let covered = |port| ips.iter().any(|ip| rules.iter().any(|rule| rule.covers_tcp(ip.address, port)));
    let ports = [Some(port), redirected].into_iter().flatten();
    ports.filter(|port| *port > 0 && !covered(*port)).map(to_all).collect()
}

fn to_all(port: u16) -> PortRule {
    PortRule {
        ip: None,
        protocol: Protocol::Tcp,
        first_port: port,
        last_port: port,
        affinity: Affinity::None,
        local: true,
        spread: Spread::plain(Filtering::Multiple),
        check: None,
    }
}

fn rule(
    raw: &RuleTable,
    ips: Option<&[ClusterIp]>,
    nodes: Option<&[Node]>,
    problems: &mut Problems,
) -> Option<PortRule> {
    let protocols = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("both", Protocol::Both)];
    let protocol = problems.choice("protocol", &raw.protocol, &protocols);
    let ip = match &raw.ip {
        Some(written) => {
            let known = ips.unwrap_or_default().iter().map(|ip| ip.address);
            let found = written.get_ref().parse().ok().filter(|ip| known.clone().any(|known| known == *ip));
            problems.require(found.map(Some), || not_a_vip(written, known))
        }
        None => Some(None),
    };
    let affinity = affinity(raw, problems);
    let spread = spread(raw, affinity, nodes.unwrap_or_default(), problems);
    let ports = *raw.ports.get_ref();
    let check = check(raw, protocol, ip, ips.unwrap_or_default(), problems);
    Some(PortRule {
        ip: ip?,
        protocol: protocol?,
        first_port: ports.first,
        last_port: ports.last,
        affinity: affinity?,
        local: raw.local,
        spread: spread?,
        check: check?,
    })
}

/// `None`: wrong, or the rule is; `Some(None)`: not given.
fn check(
    raw: &RuleTable,
    protocol: Option<Protocol>,
    ip: Option<Option<IpAddr>>,
    ips: &[ClusterIp],
    problems: &mut Problems,
) -> Option<Option<Check>> {
    let Some(written) = &raw.check else {
        return Some(None);
    };
    let rule = checks::Rule { protocol: protocol?, ports: *raw.ports.get_ref(), ip: ip?, ips };
    checks::check(written, &rule, problems).map(Some)
}

fn not_a_vip(written: &Spanned<String>, known: impl Iterator<Item = IpAddr>) -> Problem {
    let known: Vec<String> = known.map(|ip| ip.to_string()).collect();
    let text = format!("\"{}\" is no cluster IP", written.get_ref());
    Problem::at(written.span(), text)
        .hint(format!("one of {}; without `ip` the rule is for all", known.join(", ")))
}

fn affinity(raw: &RuleTable, problems: &mut Problems) -> Option<Affinity> {
    let v4 = problems.number("prefix_v4", &raw.prefix_v4, 8..=32);
    let v6 = problems.number("prefix_v6", &raw.prefix_v6, 16..=128);
    let network = Affinity::Network { v4: v4?, v6: v6? };
    let choices = [("none", Affinity::None), ("single", Affinity::Single), ("network", network)];
    problems.choice("affinity", &raw.affinity, &choices)
}

fn spread(
    raw: &RuleTable,
    affinity: Option<Affinity>,
    nodes: &[Node],
    problems: &mut Problems,
) -> Option<Spread> {
    let choices =
        [("multiple", Filtering::Multiple), ("single", Filtering::Single), ("disabled", Filtering::Disabled)];
    let filtering = problems.choice("filtering", &raw.filtering, &choices);
    let weights = by_node("weights", &raw.weights, 0..=100, nodes, problems);
    let handling = by_node("handling_priorities", &raw.handling_priorities, 1..=64, nodes, problems);
    let stickiness = stickiness(raw, problems);
    let (filtering, weights, handling) = (filtering?, weights?, handling?);
    if filtering != Filtering::Multiple && !weights.is_empty() {
        let text = "`weights` mean something only with filtering = \"multiple\"";
        problems.add(Problem::at(raw.weights.span(), text).hint("remove them"));
    }
    if let (Filtering::Disabled, Some(check)) = (filtering, &raw.check) {
        let text = "`check` means something only with filtering = \"multiple\" or \"single\"";
        problems.add(Problem::at(check.span(), text).hint("remove it"));
    }
    if filtering != Filtering::Single && !handling.is_empty() {
        let text = "`handling_priorities` mean something only with filtering = \"single\"";
        problems.add(Problem::at(raw.handling_priorities.span(), text).hint("remove them"));
    }
    unique_handling(raw, &handling, nodes, problems);
    if let (Some(written), Some(_)) = (&raw.stickiness_timeout, stickiness?)
        && (filtering != Filtering::Multiple || affinity? == Affinity::None)
    {
        let text = "clients stay with a node only with filtering = \"multiple\" and affinity = \"single\" or \"network\"";
        problems
            .add(Problem::at(written.span(), text).hint("remove `stickiness_timeout`, or change the other"));
    }
    Some(Spread { filtering, weights, handling_priorities: handling, stickiness: stickiness? })
}

/// Numbers by the names of nodes.
fn by_node(
    what: &str,
    raw: &Spanned<BTreeMap<String, Spanned<u8>>>,
    range: std::ops::RangeInclusive<u8>,
    nodes: &[Node],
    problems: &mut Problems,
) -> Option<BTreeMap<Priority, u8>> {
    let mut numbers = BTreeMap::new();
    for (name, number) in raw.get_ref() {
        let node = problems.require(nodes.iter().find(|node| node.name == *name), || {
            let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            let text = format!("`{what}` names \"{name}\", which is no node");
            Problem::at(number.span(), text).hint(format!("its nodes: {}", known.join(", ")))
        });
        let number = problems.number(what, number, range.clone());
        numbers.insert(node?.priority, number?);
    }
    Some(numbers)
}

/// Who takes a `single` rule must never depend on who asks: two nodes with one handling priority would both.
fn unique_handling(
    raw: &RuleTable,
    handling: &BTreeMap<Priority, u8>,
    nodes: &[Node],
    problems: &mut Problems,
) {
    let mut seen: BTreeMap<u8, &str> = BTreeMap::new();
    for node in nodes.iter().filter(|_| !handling.is_empty()) {
        let number = handling.get(&node.priority).copied().unwrap_or(node.priority.number());
        if let Some(other) = seen.insert(number, &node.name) {
            let text = format!("handling priority {number} is that of {other} and of {}", node.name);
            let hint = "give each node its own; one that is not named has its host priority";
            problems.add(Problem::at(raw.handling_priorities.span(), text).hint(hint));
        }
    }
}

fn stickiness(raw: &RuleTable, problems: &mut Problems) -> Option<Option<Stickiness>> {
    let Some(written) = &raw.stickiness_timeout else {
        if let Some(max_hold) = &raw.max_hold {
            let text = "`max_hold` bounds `stickiness_timeout`, which is not given";
            problems.add(Problem::at(max_hold.span(), text));
        }
        return Some(None);
    };
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let timeout = problems.time("stickiness_timeout", written, Duration::from_secs(1)..=minutes(240))?;
    let longest = minutes(7 * 24 * 60);
    let max_hold = match &raw.max_hold {
        Some(written) => problems.time("max_hold", written, timeout..=longest)?,
        None => minutes(12 * 60),
    };
    Some(Some(Stickiness { timeout, max_hold }))
}

/// Whether two rules are for one port of one protocol and cluster IP.
fn overlap(a: &PortRule, b: &PortRule) -> bool {
    let protocols = a.protocol == b.protocol || a.protocol == Protocol::Both || b.protocol == Protocol::Both;
    let ips = a.ip.is_none() || b.ip.is_none() || a.ip == b.ip;
    protocols && ips && a.first_port <= b.last_port && b.first_port <= a.last_port
}

/// Table 0 is the default host's. Where the other rules are too many for one each, those that are spread and checked alike
/// share one.
fn tables(rules: &[PortRule], problems: &mut Problems) {
    let mut kinds = vec![(Spread::plain(Filtering::Single), None)];
    for rule in rules.iter().filter(|rule| rule.spread.filtering != Filtering::Disabled) {
        let kind = (rule.spread.clone(), rule.check.clone());
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.len() > TABLES {
        let text = format!(
            "port rules are spread or checked in {} different ways; there is room for {TABLES}",
            kinds.len()
        );
        let hint = "give some rules the same weights, handling priorities, stickiness and check";
        problems.add(Problem::of_file(text).hint(hint));
    }
}

/// Where requests without TLS come to.
pub(super) const HTTP: u16 = 80;
