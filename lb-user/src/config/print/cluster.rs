//! `[cluster]` and `[[node]]`.

use super::{quoted, time};
use crate::config::model::{Cluster, Failback, InitialState, Mode, Node, Unmatched};

/// What all nodes share.
pub(super) fn table(cluster: &Cluster) -> String {
    let Cluster { cluster_ips, mode, unmatched, timing, gateway, observe, .. } = cluster;
    let Cluster { drain_timeout, failback, hold_down, ramp, initial_state, .. } = cluster;
    let ips: Vec<String> = cluster_ips.iter().map(|ip| format!("\"{}/{}\"", ip.address, ip.prefix)).collect();
    let mode = match mode {
        Mode::Multicast => "multicast",
        Mode::Igmp => "igmp",
        Mode::Unicast => "unicast",
    };
    let unmatched = match unmatched {
        Unmatched::Drop => "drop",
        Unmatched::DefaultHost => "default-host",
    };
    let failback = match failback {
        Failback::Immediate => "\"immediate\"".to_owned(),
        Failback::Manual => "\"manual\"".to_owned(),
        Failback::After(after) => time(*after),
    };
    let initial_state = match initial_state {
        InitialState::AsBefore => "as-before",
        InitialState::Started => "started",
        InitialState::Stopped => "stopped",
        InitialState::Suspended => "suspended",
    };
    let gateway = gateway.map(|address| format!("gateway = \"{address}\"\n")).unwrap_or_default();
    let (period, suspect) = (timing.period.as_millis(), timing.multiplier);
    let (drain, hold, ramp) = (time(*drain_timeout), time(*hold_down), time(*ramp));
    format!(
        "[cluster]\nips = [{}]\nmode = \"{mode}\"\nperiod_ms = {period}\nsuspect_after = {suspect}\n{gateway}\
         observe = {observe}\nunmatched = \"{unmatched}\"\ndrain_timeout = {drain}\nfailback = {failback}\n\
         hold_down = {hold}\nramp = {ramp}\ninitial_state = \"{initial_state}\"\n\n",
        ips.join(", ")
    )
}

/// The nodes.
pub(super) fn nodes(nodes: &[Node]) -> String {
    nodes.iter().map(node).collect()
}

fn node(node: &Node) -> String {
    let Node { name, priority, address, second_address, weight, keys } = node;
    let second =
        second_address.map(|address| format!("second_address = \"{address}\"\n")).unwrap_or_default();
    let keys = keys.as_ref().map(|keys| format!("keys = \"{keys}\"\n")).unwrap_or_default();
    format!(
        "[[node]]\nname = {}\naddress = \"{address}\"\n{second}priority = {priority}\nweight = {weight}\n{keys}\n",
        quoted(name)
    )
}
