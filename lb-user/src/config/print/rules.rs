//! `[[rule]]`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lb_common::table::Affinity;

use super::{quoted, time};
use crate::config::model::{
    Check, CheckKind, Cluster, Filtering, Node, PortRule, Priority, Protocol, Spread, Stickiness,
};

/// The rules, those that `[exchange]` brings among them.
pub(super) fn tables(cluster: &Cluster) -> String {
    cluster.rules.iter().map(|rule| table(rule, &cluster.nodes)).collect()
}

fn table(rule: &PortRule, nodes: &[Node]) -> String {
    let PortRule { ip, protocol, first_port, last_port, affinity, local, spread, check } = rule;
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Both => "both",
    };
    let ports = match first_port == last_port {
        true => first_port.to_string(),
        false => format!("\"{first_port}-{last_port}\""),
    };
    let ip = ip.map(|ip| format!("ip = \"{ip}\"\n")).unwrap_or_default();
    let check = check.as_ref().map(|check| format!("check = {}\n", inline(check))).unwrap_or_default();
    format!(
        "[[rule]]\n{ip}protocol = \"{protocol}\"\nports = {ports}\n{}local = {local}\n{}{check}\n",
        self::affinity(*affinity),
        self::spread(spread, nodes)
    )
}

fn affinity(affinity: Affinity) -> String {
    match affinity {
        Affinity::None => "affinity = \"none\"\n".to_owned(),
        Affinity::Single => "affinity = \"single\"\n".to_owned(),
        Affinity::Network { v4, v6 } => {
            format!("affinity = \"network\"\nprefix_v4 = {v4}\nprefix_v6 = {v6}\n")
        }
    }
}

fn spread(spread: &Spread, nodes: &[Node]) -> String {
    let Spread { filtering, weights, handling_priorities, stickiness } = spread;
    let filtering = match filtering {
        Filtering::Multiple => "multiple",
        Filtering::Single => "single",
        Filtering::Disabled => "disabled",
    };
    let mut text = format!("filtering = \"{filtering}\"\n");
    for (key, numbers) in [("weights", weights), ("handling_priorities", handling_priorities)] {
        if !numbers.is_empty() {
            let _ = writeln!(text, "{key} = {{ {} }}", by_name(numbers, nodes));
        }
    }
    if let Some(Stickiness { timeout, max_hold }) = stickiness {
        let _ = writeln!(text, "stickiness_timeout = {}\nmax_hold = {}", time(*timeout), time(*max_hold));
    }
    text
}

fn by_name(numbers: &BTreeMap<Priority, u8>, nodes: &[Node]) -> String {
    let named = nodes.iter().filter_map(|node| Some((&node.name, numbers.get(&node.priority)?)));
    let named: Vec<String> = named.map(|(name, number)| format!("{} = {number}", quoted(name))).collect();
    named.join(", ")
}

fn inline(check: &Check) -> String {
    let Check { kind, interval, timeout, failures, successes } = check;
    let kind = match kind {
        CheckKind::Tcp { address } => {
            format!("tcp = true, address = \"{}\", port = {}", address.ip(), address.port())
        }
        CheckKind::Http { address, path, host, status, body } => {
            // An address with its port is no host name, but what is asked for where none is given.
            let host = if *host == address.to_string() {
                String::new()
            } else {
                format!(", host = {}", quoted(host))
            };
            format!(
                "http = {}, address = \"{}\", port = {}{host}, status = {status}, body = {}",
                quoted(path),
                address.ip(),
                address.port(),
                quoted(body)
            )
        }
        CheckKind::Command { program, arguments } => {
            let words =
                std::iter::once(program.to_string_lossy().into_owned()).chain(arguments.iter().cloned());
            format!("command = {}", quoted(&words.collect::<Vec<_>>().join(" ")))
        }
    };
    let (interval, timeout) = (time(*interval), time(*timeout));
    format!(
        "{{ {kind}, interval = {interval}, timeout = {timeout}, failures = {failures}, successes = {successes} }}"
    )
}
