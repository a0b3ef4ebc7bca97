//! The addresses of nodes: where their heartbeats go.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use super::{Place, Problems, is_host};
use crate::config::model::{ClusterIp, Node};
use crate::config::problem::Problem;
use crate::config::raw::{ClusterTable, NodeTable};
use crate::config::spanned::Spanned;

/// Nodes and cluster IPs share a network, and no address is both.
pub(super) fn networks(
    table: &ClusterTable,
    ips: &[ClusterIp],
    raw: &[Spanned<NodeTable>],
    nodes: &[Node],
    problems: &mut Problems,
) {
    let written = ips.iter().zip(table.ip.iter().chain(&table.ips));
    // Nodes have IPv4 addresses.
    for (ip, written) in written.filter(|(ip, _)| ip.address.is_ipv4()) {
        // One wrong cluster IP is not as many wrong nodes.
        if !nodes.iter().any(|node| ip.covers(node.address)) {
            let (vip, first) = (ip.address, &nodes[0]);
            let text = format!(
                "cluster IP {vip} is in the network {ip}, but no node is: {} has {}",
                first.name, first.address
            );
            let hint = "cluster IP and nodes share one network: correct the cluster IP or its prefix length";
            problems.add(Problem::at(written.span(), text).hint(hint));
            continue;
        }
        for node in nodes {
            let written = raw.iter().map(Spanned::get_ref).find(|raw| *raw.name.get_ref() == node.name);
            let span = written.map_or(0..0, |raw| raw.address.span());
            let (address, vip) = (node.address, ip.address);
            if IpAddr::V4(address) == vip {
                let text = format!("node {}'s own address {address} is the cluster IP", node.name);
                problems.add(Problem::at(span, text).hint("each node keeps an address of its own beside it"));
            } else if !ip.covers(address) || (ClusterIp { address: address.into(), ..*ip }).is_edge() {
                let text = format!(
                    "node {}'s address {address} is no host of {ip}, the network of cluster IP {vip}",
                    node.name
                );
                problems.add(Problem::at(span, text).hint("correct one of the two, or the prefix length"));
            }
        }
    }
}

/// A second path leads through a network of its own, from every node to every other.
pub(super) fn second_path(
    ips: Option<&[ClusterIp]>,
    raw: &[Spanned<NodeTable>],
    nodes: &[Node],
    problems: &mut Problems,
) {
    let mut taken: BTreeMap<_, _> = nodes.iter().map(|node| (node.address, node.name.clone())).collect();
    let some_have = nodes.iter().any(|node| node.second_address.is_some());
    for node in nodes {
        let Some(table) = raw.iter().map(Spanned::get_ref).find(|raw| *raw.name.get_ref() == node.name)
        else {
            continue;
        };
        let (Some(address), Some(written)) = (node.second_address, &table.second_address) else {
            if some_have {
                let text = format!("node {} has no `second_address`, but others have one", node.name);
                let hint = "a second path leads to every node: give it one, or remove those of the others";
                problems.add(Problem::at(table.name.span(), text).hint(hint));
            }
            continue;
        };
        let place = Place { what: "address", span: written.span() };
        problems.unique(&mut taken, address, &node.name, place);
        apart(ips.unwrap_or_default(), node, address.into(), written.span(), problems);
    }
}

/// A second path through the cluster IP's network would fail with the first.
fn apart(ips: &[ClusterIp], node: &Node, address: IpAddr, place: Range<usize>, problems: &mut Problems) {
    let host = matches!(address, IpAddr::V4(address) if is_host(address));
    if !host {
        let text = format!("node {}'s second address {address} is not that of a host", node.name);
        problems.add(Problem::at(place, text).hint("such as \"10.0.0.6\""));
    } else if let Some(ip) = ips.iter().find(|ip| ip.covers(address)) {
        let text = if ip.address == address {
            format!("node {}'s second address {address} is a cluster IP", node.name)
        } else {
            format!("node {}'s second address {address} is in {ip}, the network of the first", node.name)
        };
        let hint = "it belongs to another network, on other switches, such as that of the servers";
        problems.add(Problem::at(place, text).hint(hint));
    }
}
