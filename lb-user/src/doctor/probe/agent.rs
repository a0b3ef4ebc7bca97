//! What this node's agent says.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::seen::{Clients, Look};
use super::gateway::Counted;
use crate::config::model::Config;
use crate::control::api::{Answer, Request, Status};
use crate::control::client;

/// How many connections are looked at.
const CONNECTIONS: usize = 2000;

/// Its status; `None`: no agent answers.
pub(super) fn status(config: &Config) -> Option<Status> {
    let answer = client::ask(&config.local.run_dir, &Request::Status).ok()?;
    if let Answer::Status(status) = answer { Some(*status) } else { None }
}

/// What its packet program has counted.
pub(super) fn counted(status: &Status) -> Counted {
    let of = |reason: &str| status.counters.get(reason).map_or(0, |count| count.packets);
    Counted { questions: of("arp-answered"), echoes: of("other-icmp") }
}

/// Where open connections come from.
pub(super) fn clients(config: &Config) -> Look<Clients> {
    let request = Request::Connections { bucket: None, node: None, limit: CONNECTIONS };
    let Ok(Answer::Connections(found)) = client::ask(&config.local.run_dir, &request) else {
        return Look::Not("no agent runs here".to_owned());
    };
    let mut of: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for connection in &found.connections {
        *of.entry(connection.client.ip().to_canonical()).or_default() += 1;
    }
    let most = of.iter().max_by_key(|(_, count)| **count).map(|(address, count)| (*address, *count));
    Look::Seen(Clients { connections: found.connections.len(), addresses: of.len(), most })
}
