//! The one sentence on what is wrong with which `rollcall status` opens. Pure.

use super::{Facts, name, told};
use crate::agent::expiry::sentence;
use crate::cluster::node::PeerSnapshot;
use crate::cluster::operate::Intent;
use crate::cluster::peer::Standing;
use crate::cluster::wire::Phase;
use crate::config::model::{Config, HEARTBEAT_PORT};
use crate::control::api::CertificateEntry;

/// The worst, if anything is wrong.
pub(super) fn worst(facts: &Facts<'_>, lease: bool) -> Option<String> {
    if facts.config.cluster.observe {
        return None;
    }
    outside(facts)
        .or_else(|| own(facts, lease))
        .or_else(|| service(facts))
        .or_else(|| others(facts))
        .or_else(|| expired(facts))
}

/// Why this node is not, or not yet, one of those that serve.
fn outside(facts: &Facts<'_>) -> Option<String> {
    let Facts { config, snapshot, .. } = facts;
    match snapshot.mandate.intent {
        Intent::Stopped => {
            Some("this node is stopped by its operator: `rollcall start` gives it a share again".to_owned())
        }
        Intent::Suspended => Some(
            "this node is suspended by its operator: only `rollcall resume` on it gives it a share again"
                .to_owned(),
        ),
        Intent::Started | Intent::Draining => {
            snapshot.waiting.as_ref().map(|waiting| waiting.sentence(|node| name(config, node)))
        }
    }
}

/// What is wrong with this node.
fn own(facts: &Facts<'_>, lease: bool) -> Option<String> {
    let snapshot = facts.snapshot;
    if !lease && snapshot.phase == Phase::Serving {
        return Some("the lease has ended: this node accepts no new connections".to_owned());
    }
    if snapshot.health.deaf {
        return Some(
            "this node is deaf: it hears no frames for the cluster MAC, though others do; look at the switch or hypervisor before its interface"
                .to_owned(),
        );
    }
    if snapshot.health.cut_off {
        return Some(
            "this node has stepped down: the gateway answers another node, but not this one; look at this host's port, VLAN and cable"
                .to_owned(),
        );
    }
    if let Some(conflict) = &snapshot.problem {
        return Some(conflict.sentence(|node| name(facts.config, node)));
    }
    snapshot.aside.map(|aside| format!("this node {}", told::stands_by(&aside, facts.now)))
}

/// What is wrong with a service on this node.
fn service(facts: &Facts<'_>) -> Option<String> {
    let dead = facts.proxy.as_ref().filter(|proxy| !proxy.alive);
    if let Some(proxy) = dead {
        return Some(format!("the proxy is not running (started again {} times)", proxy.restarts));
    }
    let mut services = facts.plan.tables.iter().zip(facts.services);
    let failing = services.find_map(|(plan, service)| {
        let service = service.as_ref().filter(|service| service.works == Some(false))?;
        let why = service.trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        Some(format!("the service of {} does not work on this node{why}", plan.rules.join(", ")))
    });
    failing.or_else(|| told::rules(facts).next())
}

/// What is wrong with another node.
fn others(facts: &Facts<'_>) -> Option<String> {
    let Facts { config, snapshot, .. } = facts;
    let troubled =
        |peer: &&PeerSnapshot| peer.filtered || matches!(peer.standing, Standing::Suspect | Standing::Dead);
    let alive = || snapshot.peers.iter().filter(|peer| peer.standing == Standing::Alive);
    let weak = || {
        alive().find_map(|peer| {
            let node = name(config, peer.node);
            if peer.health.deaf {
                return Some(format!("{node} is deaf: it hears no frames for the cluster MAC"));
            }
            peer.health.cut_off.then(|| format!("{node} has stepped down: the gateway does not answer it"))
        })
    };
    snapshot.peers.iter().find(troubled).map(|peer| trouble(config, peer)).or_else(weak)
}

/// Which certificate has expired.
fn expired(facts: &Facts<'_>) -> Option<String> {
    let is_over = |of: &&CertificateEntry| of.days_left.is_some_and(|days| days < 0);
    facts.certificates.iter().find(is_over).map(sentence)
}

fn trouble(config: &Config, peer: &PeerSnapshot) -> String {
    let node = name(config, peer.node);
    if peer.filtered {
        return format!(
            "heartbeats from {node} do not arrive though its data path answers: let UDP port {HEARTBEAT_PORT} through"
        );
    }
    match peer.standing {
        Standing::Dead => format!("{node} is dead: its host answers no ARP"),
        Standing::Suspect => format!(
            "{node} is silent though its host answers ARP: is its agent running, and does a firewall let UDP port {HEARTBEAT_PORT} through?"
        ),
        Standing::Unknown | Standing::Alive | Standing::Stopped => format!("{node} is in trouble"),
    }
}
