//! What operators told nodes, and why one stands by, in words. Pure.

use std::time::Duration;

use super::{Facts, intent_word, name};
use crate::agent::servers;
use crate::clock::Time;
use crate::cluster::node::Aside;
use crate::cluster::operate::Intent;
use crate::config::model::Filtering;

/// Why this node stands by and since when, as the end of a sentence that begins with its name.
pub(super) fn stands_by(aside: &Aside, now: Time) -> String {
    let since = words(now.since(aside.since));
    let why = if aside.held_down { "the others have seen it fall too often" } else { "it came back" };
    let until = aside.until.map(|until| format!(", for {} more", words(until.since(now))));
    let until = until.unwrap_or_default();
    format!("has stood by for {since}, because {why}{until}; `rollcall failback` gives it a share at once")
}

/// What differs from the configuration, a sentence each.
pub(super) fn adjusted(facts: &Facts<'_>) -> Vec<String> {
    let Facts { config, snapshot, .. } = facts;
    let own = [(config.me().priority, snapshot.rank, &snapshot.wants)];
    let peers = snapshot.peers.iter().map(|peer| (peer.node, peer.rank, &peer.wants));
    let mut sentences: Vec<String> = Vec::new();
    for (node, rank, wants) in own.into_iter().chain(peers) {
        if rank != node {
            sentences.push(format!("{} has the priority {rank}", name(config, node)));
        }
        let configured = config.cluster.nodes.iter().find(|other| other.priority == node);
        let configured = configured.map_or(0, |node| node.weight);
        let tables = facts.plan.tables.iter().zip(wants.iter());
        let weighted = tables.filter(|(plan, _)| plan.spread.filtering == Filtering::Multiple);
        for (plan, want) in weighted {
            let planned = plan.spread.weights.get(&node).copied().unwrap_or(configured);
            if want.weight != planned {
                let (name, rules) = (name(config, node), plan.rules.join(", "));
                sentences
                    .push(format!("{name} has the weight {} instead of {planned} for {rules}", want.weight));
            }
        }
    }
    sentences.extend(rules(facts));
    sentences.extend(facts.proxy.iter().flat_map(servers::adjusted));
    sentences
}

/// The rules of which this node has no share because its operator wants that.
pub(super) fn rules(facts: &Facts<'_>) -> impl Iterator<Item = String> {
    let tables = facts.plan.tables.iter().enumerate();
    tables.filter_map(|(index, plan)| {
        let intent = facts.snapshot.mandate.table(index).intent;
        let rules = plan.rules.join(", ");
        (intent != Intent::Started)
            .then(|| format!("{rules} is {} on this node by its operator", intent_word(intent)))
    })
}

/// A length of time in its two largest units.
fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
