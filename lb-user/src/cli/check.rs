//! `rollcall check`: what a configuration means, for the operator to compare with what was meant.

use std::collections::BTreeSet;

use lb_common::table::Affinity;
use serde_json::{Value, json};

mod protection;

use super::doctor;
use super::output::{self, Column, Table};
use crate::config;
use crate::config::model::{
    Action, ClientAddress, Config, Failback, Farm, Filtering, HEARTBEAT_PORT, InitialState, PEER_PORT,
    PortRule, Server, Site, TcpService, Unmatched, Verify,
};
use crate::doctor::Scope;
use crate::shared::origin::Origin;

pub(super) fn run(origin: &Origin, expand: bool, network: bool, json: bool) -> anyhow::Result<()> {
    let config = origin.load()?;
    if expand {
        output::line(config::expanded(&config.cluster).trim_end());
        return Ok(());
    }
    let warnings = config::warnings(&config);
    let findings = if network { doctor::find(&config, Scope::Whole) } else { Vec::new() };
    if json {
        let mut object = as_json(&config, &warnings);
        if network {
            object["network"] = doctor::as_json(&config, &findings);
        }
        output::line(&object.to_string());
    } else {
        show(&config, &warnings);
        if network {
            output::heading("network");
            doctor::show(&findings);
        }
    }
    doctor::verdict(&findings)
}

fn show(config: &Config, warnings: &[String]) {
    let cluster = &config.cluster;
    output::line(&format!("the configuration is sound; this node is {}", config.me().name));
    for warning in warnings {
        output::alarm(&format!("warning: {warning}"));
    }
    output::heading("cluster");
    for ip in &cluster.cluster_ips {
        output::line(&format!("  cluster IP {} in {ip}", ip.address));
    }
    output::line(&format!("  mode {}, observe {}", mode(config), cluster.observe));
    let timing = cluster.timing;
    output::line(&format!(
        "  a peer is suspect after {:?} ({:?} x {})",
        timing.suspect(),
        timing.period,
        timing.multiplier
    ));
    output::line(&format!(
        "  nodes begin {}, fail back {}, hold-down {:?}, ramp {:?}",
        initial_state(cluster.initial_state),
        failback(cluster.failback),
        cluster.hold_down,
        cluster.ramp
    ));
    output::line(&format!("  between nodes: UDP {HEARTBEAT_PORT} heartbeats, TCP {PEER_PORT} replication"));
    output::line(&format!(
        "  interface {}, run folder {}, state folder {}",
        config.local.interface,
        config.local.run_dir.display(),
        config.local.state_dir.display()
    ));
    output::line(&format!("  events: {}", events(config)));
    output::heading("nodes");
    nodes(config).print();
    output::heading("port rules");
    rules(config).print();
    output::heading("sites");
    for site in &cluster.sites {
        show_site(site);
    }
    if !cluster.tcp.is_empty() {
        output::heading("TCP services");
        cluster.tcp.iter().for_each(show_tcp);
    }
    output::heading("protection");
    for line in protection::lines(cluster) {
        output::line(&format!("  {line}"));
    }
    output::heading("servers");
    servers(&cluster.farms, &cluster.tcp).print();
}

fn nodes(config: &Config) -> Table {
    let columns = [
        Column::text("name", 24),
        Column::number("priority"),
        Column::text("address", 15),
        Column::text("second", 15),
        Column::number("weight"),
    ];
    let mut table = Table::new(&columns);
    for node in &config.cluster.nodes {
        let (priority, weight) = (node.priority.to_string(), node.weight.to_string());
        let second = node.second_address.map_or("-".to_owned(), |address| address.to_string());
        table.row(vec![node.name.clone(), priority, node.address.to_string(), second, weight]);
    }
    table
}

fn rules(config: &Config) -> Table {
    let columns = [
        Column::text("ports", 34),
        Column::text("filtering", 12),
        Column::text("affinity", 8),
        Column::text("check", 30),
    ];
    let mut table = Table::new(&columns);
    for rule in &config.cluster.rules {
        table.row(vec![
            rule.to_string(),
            filtering(rule.spread.filtering).to_owned(),
            affinity(rule.affinity),
            check(rule).unwrap_or("-".to_owned()),
        ]);
    }
    table.row(vec!["all others".into(), unmatched(config.cluster.unmatched).into(), "-".into(), "-".into()]);
    table
}

fn check(rule: &PortRule) -> Option<String> {
    rule.check.as_ref().map(|check| check.kind.to_string())
}

fn affinity(affinity: Affinity) -> String {
    match affinity {
        Affinity::None => "none".to_owned(),
        Affinity::Single => "single".to_owned(),
        Affinity::Network { v4, v6 } => format!("/{v4} /{v6}"),
    }
}

fn show_site(site: &Site) {
    let listen: Vec<String> = site.listen.iter().map(ToString::to_string).collect();
    let farms: BTreeSet<&str> = site.service.farms().map(String::as_str).collect();
    let farms: Vec<&str> = farms.into_iter().collect();
    output::line(&format!("  {} -> farm {}", listen.join(", "), farms.join(", ")));
    for name in &site.names {
        output::line(&format!("    {name}"));
    }
    output::line(&format!("    certificate {}", site.certificate.display()));
    for route in &site.service.routes {
        if let Action::Refuse { why } = &route.action {
            output::line(&format!("    refuses {}: {why}", route.words()));
        }
    }
}

fn show_tcp(service: &TcpService) {
    let listen: Vec<String> = service.listen.iter().map(ToString::to_string).collect();
    let pools: Vec<String> = service.pools().map(|(name, _)| name).collect();
    output::line(&format!("  {} -> {}", listen.join(", "), pools.join(", ")));
    let seen = match service.client_address {
        ClientAddress::Hidden => "hidden: servers see this node's",
        ClientAddress::Header(_) => "in a PROXY protocol header, which servers must expect",
    };
    output::line(&format!("    the client's address is {seen}"));
    output::line(&format!(
        "    idle timeout {:?}, at most {} connections, {} of one client",
        service.idle_timeout, service.max_connections, service.max_connections_per_client
    ));
}

fn servers(farms: &[Farm], tcp: &[TcpService]) -> Table {
    let columns = [
        Column::text("farm", 36),
        Column::text("name", 16),
        Column::text("address", 21),
        Column::text("health test", 32),
        Column::number("needed"),
    ];
    let mut table = Table::new(&columns);
    let mut rows = |farm: &str, servers: &[Server], test: &str, needed: usize| {
        for server in servers {
            let needed = format!("{needed} of {}", servers.len());
            let (name, address) = (server.name.clone(), server.address.to_string());
            table.row(vec![farm.to_owned(), name, address, test.to_owned(), needed]);
        }
    };
    for farm in farms {
        let own = farm.tests.first().map_or("", |test| &test.path);
        let tests = match farm.tests.len() {
            0 | 1 => own.to_owned(),
            count => format!("{own}, {} more", count - 1),
        };
        rows(&farm.name, &farm.servers, &tests, farm.min_servers);
    }
    for service in tcp {
        service.pools().for_each(|(name, servers)| rows(&name, servers, &service.health.words(), 1));
    }
    table
}

fn as_json(config: &Config, warnings: &[String]) -> Value {
    let cluster = &config.cluster;
    let ips = cluster.cluster_ips.iter().map(|ip| format!("{}/{}", ip.address, ip.prefix));
    let nodes = cluster.nodes.iter().map(|node| {
        json!({
            "name": node.name, "priority": node.priority, "address": node.address,
            "second_address": node.second_address, "weight": node.weight,
        })
    });
    let rules = cluster.rules.iter().map(|rule| {
        let (filtering, affinity) = (filtering(rule.spread.filtering), affinity(rule.affinity));
        json!({ "ports": rule.to_string(), "filtering": filtering, "affinity": affinity, "check": check(rule) })
    });
    let sites = cluster.sites.iter().map(|site| {
        json!({ "names": site.names, "listen": site.listen, "certificate": site.certificate, "redirect": site.redirect,
            "service": site.service,
        })
    });
    let farms = cluster.farms.iter().map(|farm| {
        json!({
            "name": farm.name, "servers": farm.servers, "min_servers": farm.min_servers,
            "verify": verify(&farm.verify), "tests": farm.tests, "reuse": farm.reuse,
        })
    });
    json!({
        "node": config.local.name,
        "interface": config.local.interface,
        "run_dir": config.local.run_dir,
        "state_dir": config.local.state_dir,
        "on_event": config.local.on_event,
        "syslog": config.local.syslog,
        "cluster_ips": ips.collect::<Vec<_>>(),
        "mode": mode(config),
        "observe": cluster.observe,
        "period_ms": cluster.timing.period.as_millis(),
        "suspect_ms": cluster.timing.suspect().as_millis(),
        "failback": failback(cluster.failback),
        "hold_down_ms": cluster.hold_down.as_millis(),
        "ramp_ms": cluster.ramp.as_millis(),
        "initial_state": initial_state(cluster.initial_state),
        "unmatched": unmatched(cluster.unmatched),
        "nodes": nodes.collect::<Vec<_>>(),
        "rules": rules.collect::<Vec<_>>(),
        "sites": sites.collect::<Vec<_>>(),
        "farms": farms.collect::<Vec<_>>(),
        "tcp": cluster.tcp,
        "protection": cluster.protection,
        "protection_off": protection::off(cluster),
        "heartbeat_port": HEARTBEAT_PORT,
        "peer_port": PEER_PORT,
        "warnings": warnings,
    })
}

fn mode(config: &Config) -> String {
    format!("{:?}", config.cluster.mode).to_lowercase()
}

/// Where events go beside the log of events.
fn events(config: &Config) -> String {
    let program = config.local.on_event.as_ref().map(|path| path.display().to_string());
    let syslog = config.local.syslog.then(|| "syslog".to_owned());
    let all: Vec<String> = syslog.into_iter().chain(program).collect();
    if all.is_empty() { "neither to syslog nor to a program".to_owned() } else { all.join(", ") }
}

fn failback(failback: Failback) -> String {
    match failback {
        Failback::Immediate => "immediate".to_owned(),
        Failback::After(time) => format!("after {time:?}"),
        Failback::Manual => "manual".to_owned(),
    }
}

fn initial_state(state: InitialState) -> &'static str {
    match state {
        InitialState::AsBefore => "as-before",
        InitialState::Started => "started",
        InitialState::Stopped => "stopped",
        InitialState::Suspended => "suspended",
    }
}

fn filtering(filtering: Filtering) -> &'static str {
    match filtering {
        Filtering::Multiple => "multiple",
        Filtering::Single => "single",
        Filtering::Disabled => "disabled",
    }
}

fn unmatched(unmatched: Unmatched) -> &'static str {
    match unmatched {
        Unmatched::Drop => "drop",
        Unmatched::DefaultHost => "default-host",
    }
}

fn verify(verify: &Verify) -> String {
    match verify {
        Verify::SameCertificate => "same-certificate".to_owned(),
        Verify::Ca(path) => format!("ca {}", path.display()),
        Verify::Pins(pins) => {
            let pins: Vec<String> = pins.iter().map(ToString::to_string).collect();
            pins.join(" ")
        }
        Verify::Nothing => "none".to_owned(),
        Verify::Clear => "no TLS".to_owned(),
    }
}
