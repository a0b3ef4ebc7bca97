//! Tests of the services behind port rules.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::Problems;
use super::names::{host_name, not_a_host_name};
use crate::config::model::{Check, CheckKind, ClusterIp, Protocol};
use crate::config::problem::Problem;
use crate::config::raw::{CheckTable, Ports};
use crate::config::spanned::Spanned;

/// The rule that a check belongs to.
pub(super) struct Rule<'a> {
    pub(super) protocol: Protocol,
    pub(super) ports: Ports,
    /// The cluster IP that it is for; `None`: all.
    pub(super) ip: Option<IpAddr>,
    /// All cluster IPs.
    pub(super) ips: &'a [ClusterIp],
}

/// The checked test of a rule's service.
pub(super) fn check(raw: &Spanned<CheckTable>, rule: &Rule<'_>, problems: &mut Problems) -> Option<Check> {
    let table = raw.get_ref();
    let kind = kind(table, &raw.span(), rule, problems);
    let second = Duration::from_secs(1);
    let interval = problems.time("interval", &table.interval, second / 10..=second * 3600);
    let timeout = problems.time("timeout", &table.timeout, second / 100..=second * 60);
    let failures = problems.number("failures", &table.failures, 1..=100);
    let successes = problems.number("successes", &table.successes, 1..=100);
    Some(Check {
        kind: kind?,
        interval: interval?,
        timeout: timeout?,
        failures: failures?,
        successes: successes?,
    })
}

fn kind(
    table: &CheckTable,
    place: &Range<usize>,
    rule: &Rule<'_>,
    problems: &mut Problems,
) -> Option<CheckKind> {
    let network = network_only(table);
    if table.http.is_none() {
        useless(http_only(table), "http", problems);
    }
    match (&table.tcp, &table.http, &table.command) {
        (Some(tcp), None, None) => {
            if !tcp.get_ref() {
                let text = "`tcp = false` tests nothing";
                problems.add(Problem::at(tcp.span(), text).hint("tcp = true, or no `check`"));
            }
            of_tcp(tcp.span(), rule, problems);
            Some(CheckKind::Tcp { address: target(table, rule, problems)? })
        }
        (None, Some(path), None) => {
            of_tcp(path.span(), rule, problems);
            http(table, path, rule, problems)
        }
        (None, None, Some(words)) => {
            useless(network, "tcp` or `http", problems);
            command(words, problems)
        }
        (None, None, None) | (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            let text = "`check` needs one of `tcp`, `http` and `command`";
            problems.add(Problem::at(place.clone(), text).hint("check = { tcp = true }"));
            None
        }
    }
}

/// The keys that say where, as far as they are given.
fn network_only(table: &CheckTable) -> Vec<(&'static str, Range<usize>)> {
    let address = table.address.as_ref().map(|raw| ("address", raw.span()));
    let port = table.port.as_ref().map(|raw| ("port", raw.span()));
    address.into_iter().chain(port).collect()
}

/// The keys about requests and answers, as far as they are given.
fn http_only(table: &CheckTable) -> Vec<(&'static str, Range<usize>)> {
    let host = table.host.as_ref().map(|raw| ("host", raw.span()));
    let status = table.status.as_ref().map(|raw| ("status", raw.span()));
    let body = table.body.as_ref().map(|raw| ("body", raw.span()));
    host.into_iter().chain(status).chain(body).collect()
}

fn useless(keys: Vec<(&str, Range<usize>)>, with: &str, problems: &mut Problems) {
    for (key, span) in keys {
        let text = format!("`{key}` means something only in a check by `{with}`");
        problems.add(Problem::at(span, text).hint("remove it"));
    }
}

/// No connection can be made to a service that speaks UDP alone.
fn of_tcp(place: Range<usize>, rule: &Rule<'_>, problems: &mut Problems) {
    if rule.protocol == Protocol::Udp {
        let text = "a rule for UDP alone cannot be checked by TCP or HTTP";
        problems.add(Problem::at(place, text).hint("check = { command = \"/path/to/program argument\" }"));
    }
}

/// Where the service is asked: by default where clients reach it.
fn target(table: &CheckTable, rule: &Rule<'_>, problems: &mut Problems) -> Option<SocketAddr> {
    let address = match &table.address {
        Some(raw) => {
            let one = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
            problems.require(raw.get_ref().parse().ok().filter(one), || {
                let text = format!("\"{}\" is not the address of a service", raw.get_ref());
                Problem::at(raw.span(), text).hint("one of this host's, such as \"127.0.0.1\"")
            })
        }
        None => rule.ip.or_else(|| rule.ips.first().map(|ip| ip.address)),
    };
    let port = match &table.port {
        Some(raw) => problems.number("port", raw, 1..=u16::MAX),
        None => Some(rule.ports.first),
    };
    Some(SocketAddr::new(address?, port?))
}

fn http(
    table: &CheckTable,
    raw: &Spanned<String>,
    rule: &Rule<'_>,
    problems: &mut Problems,
) -> Option<CheckKind> {
    let address = target(table, rule, problems);
    let path = problems.path("check", raw);
    let host = match &table.host {
        Some(name) => problems.require(host_name(name.get_ref()), || not_a_host_name(name)),
        None => address.map(|address| address.to_string()),
    };
    let status = match &table.status {
        Some(status) => problems.number("status", status, 100..=599),
        None => Some(200),
    };
    let body = table.body.as_ref().map(|body| body.get_ref().clone());
    Some(CheckKind::Http {
        address: address?,
        path: path?,
        host: host?,
        status: status?,
        body: body.unwrap_or_default(),
    })
}

/// A relative path would mean another program for each folder that the agent is started in.
fn command(raw: &Spanned<String>, problems: &mut Problems) -> Option<CheckKind> {
    let text = raw.get_ref();
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let program = words.next().map(PathBuf::from).filter(|program| program.is_absolute());
    let program = program.filter(|_| !text.chars().any(char::is_control));
    let program = problems.require(program, || {
        Problem::at(raw.span(), format!("\"{text}\" is not a program's path from the root with arguments"))
            .hint("\"/usr/local/bin/dns-ok example.test\"; no shell reads it, words end at spaces")
    })?;
    Some(CheckKind::Command { program, arguments: words.map(str::to_owned).collect() })
}
