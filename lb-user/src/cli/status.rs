//! `rollcall status`: what is wrong, in a sentence, then tables that fit 80 columns (names and rules that are longer are cut).

use std::path::Path;

use anyhow::Context as _;

use super::ask::unexpected;
use super::events::{WIDTH, wrapped};
use super::farm::works;
use super::output::{self, Column, Table, count, size};
use super::reload::waits;
use crate::control::api::{
    Answer, CertificateEntry, ConfigurationStatus, Count, NodeStatus, ProxyStatus, Request, RetiringStatus,
    ServerStatus, Status, StoreStatus, TableStatus,
};
use crate::control::client;
use crate::wall::WallTime;

/// How many of the latest events are shown.
const EVENTS: usize = 10;

pub(super) fn run(run_dir: &Path, json: bool) -> anyhow::Result<()> {
    let answer = client::ask(run_dir, &Request::Status)?;
    let Answer::Status(status) = answer else {
        return Err(unexpected(answer));
    };
    if json {
        output::line(&serde_json::to_string(&status).context("the status cannot be printed")?);
    } else {
        show(&status);
    }
    Ok(())
}

fn show(status: &Status) {
    match &status.problem {
        Some(problem) => output::alarm(problem),
        None => output::line("nothing is wrong"),
    }
    output::heading(&format!("{}: {}", status.node, status.state));
    let lease = if status.lease { "alive" } else { "lapsed: no new connection is accepted" };
    let default_host = status.default_host.as_deref().unwrap_or("unknown");
    output::line(&format!("  lease {lease}; default host {default_host}; epoch {}", status.epoch));
    if let Some(stands_by) = &status.stands_by {
        folded(&format!("{} {stands_by}", status.node));
    }
    let interface = &status.interface;
    let (name, xdp, mac) = (&interface.name, &interface.xdp, &interface.cluster_mac);
    let on = interface.xdp_interface.as_ref().map(|beneath| format!(" on {beneath}")).unwrap_or_default();
    output::line(&format!("  interface {name}, XDP {xdp}{on}, cluster MAC {mac}"));
    if !interface.filter.is_empty() {
        output::line(&format!("  the cluster MAC comes in by {}", interface.filter));
    }
    if let Some(why) = &interface.why {
        output::line(&format!("  XDP is not native: {why}"));
    }
    let (heartbeat, peer) = (status.heartbeat_port, status.peer_port);
    output::line(&format!(
        "  between nodes: UDP {heartbeat} heartbeats, TCP {peer} replication; agent pid {}",
        status.pid
    ));
    show_configuration(&status.configuration);
    unlike(&status.nodes, &status.node).iter().for_each(|sentence| folded(sentence));
    output::heading("nodes");
    nodes(status).print();
    if !status.heartbeats.remarks.is_empty() {
        output::heading("heartbeats");
        status.heartbeats.remarks.iter().for_each(|sentence| folded(sentence));
    }
    if !status.certificates.is_empty() {
        output::heading("certificates that end soon, or have");
        status.certificates.iter().for_each(|certificate| folded(&ending(certificate)));
    }
    if !status.adjusted.is_empty() {
        output::heading("what operators changed");
        status.adjusted.iter().for_each(|sentence| folded(sentence));
    }
    output::heading("what this node holds, in buckets");
    tables(status).print();
    show_services(status);
    output::heading("port rules: what became of their packets on this node");
    rules(status).print();
    if let Some(proxy) = &status.proxy {
        show_proxy(proxy);
    }
    show_counters(status);
    show_events(status);
}

fn show_configuration(configuration: &ConfigurationStatus) {
    if let Some(applied) = configuration.applied {
        output::line(&format!("  configuration {}, in force since {}", configuration.hash, applied.local()));
    }
    if let Some(generation) = &configuration.generation {
        let id: String = generation.chars().take(12).collect();
        match configuration.confirm_by {
            Some(until) => output::line(&format!(
                "  generation {id} is on trial until {}: rollcall config confirm",
                until.local()
            )),
            None => output::line(&format!("  generation {id} of the shared configuration")),
        }
    }
    if let Some(objection) = &configuration.objection {
        folded(objection);
    }
    if let Some(store) = &configuration.store {
        folded(&kept_outside(store));
    }
    if let Some(nodes) = &configuration.waits_for {
        output::line(&format!("  another configuration is prepared; {}", waits(nodes)));
    }
    if let Some(refused) = &configuration.refused {
        folded(&format!("a later one was not applied: {refused}"));
    }
}

/// The nodes that work with another generation than the node called `me`, or try one, as far as they say.
fn unlike(nodes: &[NodeStatus], me: &str) -> Vec<String> {
    let own = nodes.iter().find(|node| node.name == me).and_then(|node| node.generation.as_deref());
    let short = |id: &str| id.chars().take(12).collect::<String>();
    let others = || nodes.iter().filter(|node| node.name != me);
    let behind = others().filter(|node| node.generation.is_some() && node.generation.as_deref() != own);
    let behind = behind.filter_map(|node| {
        let id = node.generation.as_deref()?;
        Some(format!("{} works with another generation: {}", node.name, short(id)))
    });
    let tried = others().filter_map(|node| {
        let id = node.candidate.as_deref()?;
        Some(format!("{} tries generation {}", node.name, short(id)))
    });
    behind.chain(tried).collect()
}

/// A store that is no node.
fn kept_outside(StoreStatus { kind, since, why }: &StoreStatus) -> String {
    let since = since.map(|since| since.local());
    match (since, why) {
        (Some(since), None) => format!("{kind} has it, too, since {since}"),
        (Some(since), Some(why)) => {
            format!("{kind} is away since {since}, and the nodes go on without it: {why}")
        }
        (None, _) => format!("{kind} was not asked yet"),
    }
}

/// A certificate that ends soon, or has.
fn ending(certificate: &CertificateEntry) -> String {
    let CertificateEntry { sites, not_after, days_left, same_on, .. } = certificate;
    let end = not_after.map_or_else(|| "?".to_owned(), WallTime::local);
    let when = match days_left {
        Some(days) if *days < 0 => format!("expired at {end}: clients warn or refuse"),
        Some(1) => format!("expires in 1 day, at {end}"),
        Some(days) => format!("expires in {days} days, at {end}"),
        None => format!("expires at {end}"),
    };
    let same = if same_on.is_empty() {
        String::new()
    } else {
        format!("; the servers of {} need the new one, too", same_on.join(", "))
    };
    format!("{}: {when}{same}", sites.join(", "))
}

fn nodes(status: &Status) -> Table {
    let mut table = Table::new(&[
        Column::text("name", 14),
        Column::number("prio"),
        Column::text("address", 15),
        Column::text("state", 9),
        Column::number("holds"),
        Column::text("ready", 5),
        Column::number("silent"),
        Column::number("passed"),
    ]);
    for node in &status.nodes {
        let silent = node.silent_ms.map_or("-".to_owned(), |ms| match ms {
            0..10_000 => format!("{ms} ms"),
            10_000.. => format!("{} s", ms / 1000),
        });
        let ready = if node.ready { "yes" } else { "no" };
        let ready = if node.deaf { "deaf" } else { ready };
        let passed = node.passed.map_or("-".to_owned(), |count| size(count.bytes));
        table.row(vec![
            node.name.clone(),
            node.priority.to_string(),
            node.address.clone(),
            node.state.clone(),
            node.holds.to_string(),
            ready.to_owned(),
            silent,
            passed,
        ]);
    }
    table
}

fn tables(status: &Status) -> Table {
    let mut table = Table::new(&[
        Column::text("rules", 24),
        Column::text("filtering", 9),
        Column::text("sticky", 13),
        Column::number("mine"),
        Column::number("arriving"),
        Column::number("departing"),
    ]);
    for row in &status.tables {
        let counts = [row.mine, row.arriving, row.departing].map(|count| count.to_string());
        let texts = [named(&row.ports), row.filtering.clone(), stickiness(row)];
        table.row(texts.into_iter().chain(counts).collect());
    }
    table
}

/// How the services behind this node's rules are.
fn show_services(status: &Status) {
    let services = status.tables.iter().filter_map(|table| Some((table, table.service.as_ref()?)));
    let services: Vec<_> = services.collect();
    if services.is_empty() {
        return;
    }
    output::heading("services on this node");
    let mut table =
        Table::new(&[Column::text("rules", 24), Column::text("works", 7), Column::text("tests", 43)]);
    for (rules, service) in &services {
        let works = match service.works {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        table.row(vec![named(&rules.ports), works.to_owned(), service.tests.join(", ")]);
    }
    table.print();
    for (rules, service) in services {
        if let Some(trouble) = &service.trouble {
            folded(&format!("{}: {trouble}", named(&rules.ports)));
        }
    }
}

/// Prints a sentence that may be longer than a line.
fn folded(sentence: &str) {
    for part in wrapped(sentence, WIDTH - 2) {
        output::line(&format!("  {part}"));
    }
}

/// The rules, or what stands for them where there is none.
fn named(rules: &str) -> String {
    if rules.is_empty() { "all others".to_owned() } else { rules.to_owned() }
}

/// For how long a client stays, and how many buckets stay because of it.
fn stickiness(table: &TableStatus) -> String {
    let time = match table.sticky_seconds {
        0 => return "no".to_owned(),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    };
    if table.sticking == 0 { time } else { format!("{time}, {}", table.sticking) }
}

/// Every node hears every packet: what others answer is no loss, and is not shown as one.
fn rules(status: &Status) -> Table {
    let mut table = Table::new(&[
        Column::text("rule", 22),
        Column::number("passed"),
        Column::number("bytes"),
        Column::number("left to others"),
        Column::number("refused"),
    ]);
    for rule in &status.rules {
        let Count { packets, bytes } = rule.accepted;
        table.row(vec![
            named(&rule.rule),
            count(packets),
            size(bytes),
            count(rule.left_to_others.packets),
            count(rule.refused.packets),
        ]);
    }
    table
}

fn show_proxy(proxy: &ProxyStatus) {
    output::heading("proxy");
    let pid = proxy.pid.map_or("none".to_owned(), |pid| pid.to_string());
    let ready = if proxy.ready { "ready" } else { "not ready" };
    let alive = if proxy.alive { ready } else { "dead" };
    output::line(&format!(
        "  {alive}, pid {pid}, {} connections, {} requests, {} restarts",
        proxy.connections, proxy.requests, proxy.restarts,
    ));
    if !proxy.closed.is_empty() {
        let kinds: Vec<String> = proxy.closed.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        folded(&format!("closed at the end of drain timeouts: {}", kinds.join(", ")));
    }
    if let Some(RetiringStatus { pid, connections, requests }) = &proxy.retiring {
        output::line(&format!(
            "  pid {pid} finishes what it has: {connections} connections, {requests} requests"
        ));
    }
    let columns = [
        Column::text("farm", 16),
        Column::text("server", 16),
        Column::text("address", 21),
        Column::text("state", 8),
        Column::text("healthy", 7),
    ];
    let mut table = Table::new(&columns);
    for server in &proxy.servers {
        let ServerStatus { farm, name, address, state, .. } = server;
        table.row(vec![farm.clone(), name.clone(), address.clone(), state.clone(), works(server)]);
    }
    table.print();
    show_certificates(proxy);
}

/// The certificate that each server presents: which have the old one and which the new.
fn show_certificates(proxy: &ProxyStatus) {
    let columns = [
        Column::text("server", 16),
        Column::text("presents", 26),
        Column::text("valid until", 11),
        Column::text("it is", 17),
    ];
    let mut table = Table::new(&columns);
    let presented = proxy.servers.iter().filter_map(|server| Some((server, server.presents.as_ref()?)));
    let rows: Vec<_> = presented.collect();
    if rows.is_empty() {
        return;
    }
    for (server, presents) in rows {
        let day = |end: WallTime| end.to_string().chars().take(10).collect();
        let short = presents.sha256.chars().take(23).collect::<String>() + "...";
        let until = presents.not_after.map_or_else(|| "unknown".to_owned(), day);
        table.row(vec![server.name.clone(), short, until, presents.whose.clone()]);
    }
    output::heading("certificates of servers");
    table.print();
}

fn show_counters(status: &Status) {
    let mut table =
        Table::new(&[Column::text("reason", 30), Column::number("packets"), Column::number("bytes")]);
    let counted: Vec<_> = status.counters.iter().filter(|(_, count)| count.packets > 0).collect();
    if counted.is_empty() {
        return;
    }
    for (reason, count) in counted {
        table.row(vec![reason.clone(), count.packets.to_string(), count.bytes.to_string()]);
    }
    output::heading("verdicts");
    table.print();
}

fn show_events(status: &Status) {
    if status.events.is_empty() {
        return;
    }
    output::heading("latest events (rollcall events tells more)");
    for event in status.events.iter().skip(status.events.len().saturating_sub(EVENTS)) {
        let mut lines = wrapped(event, WIDTH - 4).into_iter();
        output::line(&format!("  {}", lines.next().unwrap_or_default()));
        lines.for_each(|line| output::line(&format!("    {line}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_work_with_another_generation_or_try_one_are_named() {
        let node = |name: &str, generation: Option<&str>, candidate: Option<&str>| NodeStatus {
            name: name.to_owned(),
            generation: generation.map(str::to_owned),
            candidate: candidate.map(str::to_owned),
            ..NodeStatus::default()
        };
        let (old, new) = (Some("0123456789abcdef"), Some("fedcba9876543210"));
        let nodes = [
            node("arr1", new, None),
            node("arr2", old, None),
            node("arr3", new, old),
            node("arr4", None, None),
        ];
        let said = unlike(&nodes, "arr1");
        assert_eq!(
            said,
            ["arr2 works with another generation: 0123456789ab", "arr3 tries generation 0123456789ab"]
        );
        assert_eq!(unlike(&[node("arr1", None, None), node("arr2", None, None)], "arr1"), [""; 0]);
    }
}
