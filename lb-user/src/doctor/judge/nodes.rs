//! The other nodes and the servers: what reaches them, and what comes from them.

use super::super::finding::{Finding, line};
use super::super::machine::Machine;
use super::super::seen::{Counted, Hearing, Heartbeats, Look, Peer, Reach, Server};
use super::super::{Subject, mode_name};
use super::ways;
use crate::arp::format_mac;
use crate::config::model::{HEARTBEAT_PORT, Mode, PEER_PORT};

/// Frames sent to the cluster MACs.
pub(super) fn frames(subject: &Subject, seen: &Look<Vec<Counted>>, machine: &Machine) -> Vec<Finding> {
    match seen {
        Look::Not(why) => vec![Finding::not_tested("frames to nodes", why)],
        Look::Seen(counted) => counted.iter().map(|node| frames_to(subject, node, machine)).collect(),
    }
}

fn frames_to(subject: &Subject, seen: &Counted, machine: &Machine) -> Finding {
    let check = format!("frames to {}", seen.node);
    if seen.mac.is_none() {
        return Finding::problem(check, "its host answers no ARP")
            .because(
                format!("{} is off, or not in this network", seen.node),
                "start it, or correct its `address` in the cluster file, or the cabling",
            )
            .type_in([line(format!("on {}", seen.node), "ip -4 address show")]);
    }
    if !seen.listens {
        let why =
            format!("nobody answers there; run the agent, or: rollcall doctor --listen, on {}", seen.node);
        return Finding::not_tested(check, why);
    }
    let told: Vec<String> = seen
        .modes
        .iter()
        .map(|(mode, echoes)| format!("{} {}/{}", mode_name(*mode), echoes.back, echoes.sent))
        .collect();
    let arrive = |wanted: Mode| seen.modes.iter().any(|(mode, echoes)| *mode == wanted && echoes.back > 0);
    if arrive(subject.mode) {
        return Finding::ok(check, told.join(", "));
    }
    let works: Vec<Mode> = seen.modes.iter().map(|(mode, _)| *mode).filter(|mode| arrive(*mode)).collect();
    let (mode, mac) = (subject.mode, format_mac(subject.mac(subject.mode)));
    Finding::problem(check, told.join(", "))
        .because(
            format!(
                "{} gets what is sent to its own MAC address, and nothing that is sent to {mac}: {}",
                seen.node,
                ways::switch_cause(mode, machine)
            ),
            format!("let the switches deliver to that MAC address{}", ways::other_modes(&works)),
        )
        .type_in(ways::switch_lines(subject, mode, machine))
}

/// What the agents' own tests say.
pub(super) fn hearing(subject: &Subject, seen: &Look<Hearing>, machine: &Machine) -> Option<Finding> {
    const CHECK: &str = "agents' hearing test";
    let seen = match seen {
        Look::Seen(seen) => seen,
        Look::Not(why) => return Some(Finding::not_tested(CHECK, why)),
    };
    if seen.serving < 2 {
        return Some(Finding::not_tested(CHECK, "fewer than two nodes serve"));
    }
    if seen.deaf.is_empty() {
        return Some(Finding::ok(CHECK, format!("no node of {} is deaf", seen.serving)));
    }
    let (mode, names) = (subject.mode, seen.deaf.join(", "));
    let mac = format_mac(subject.mac(mode));
    Some(
        Finding::problem(CHECK, format!("{names} hears nothing"))
            .because(
                format!(
                    "frames for {mac} reach other nodes and not {names}: {}",
                    ways::switch_cause(mode, machine)
                ),
                "let the switches deliver to that MAC address at its port",
            )
            .type_in(ways::switch_lines(subject, mode, machine)),
    )
}

/// Heartbeats and peer ports.
pub(super) fn peers(subject: &Subject, seen: &Look<Vec<Peer>>, frames: &Look<Vec<Counted>>) -> Vec<Finding> {
    let peers = match seen {
        Look::Seen(peers) => peers,
        Look::Not(why) => return vec![Finding::not_tested("ports of nodes", why)],
    };
    let runs = |peer: &Peer| {
        let counted = frames.seen().and_then(|all| all.iter().find(|counted| counted.node == peer.name));
        counted.is_some_and(|counted| counted.listens) || peer.port == Reach::Open
    };
    peers.iter().flat_map(|peer| [heartbeats(subject, peer, runs(peer)), peer_port(subject, peer)]).collect()
}

/// `runs`: something of this cluster's answers on that node.
fn heartbeats(subject: &Subject, peer: &Peer, runs: bool) -> Finding {
    let check = format!("heartbeats of {}", peer.name);
    match &peer.heartbeats {
        Heartbeats::Heard => Finding::ok(check, format!("UDP {HEARTBEAT_PORT} from {}", peer.address)),
        Heartbeats::Unknown(why) => Finding::not_tested(check, why),
        Heartbeats::Missing if runs => Finding::problem(check, "none arrive, and its agent runs")
            .because(
                format!("a firewall, here or there, drops UDP port {HEARTBEAT_PORT}, or the nodes have different cluster secrets"),
                format!("let UDP port {HEARTBEAT_PORT} through between nodes, both ways; `rollcall status` counts heartbeats that are refused"),
            )
            .type_in([
                line(
                    "here",
                    format!("nft insert rule inet filter input ip saddr {} udp dport {HEARTBEAT_PORT} accept", peer.address),
                ),
                line(
                    format!("on {}", peer.name),
                    format!("nft insert rule inet filter output ip daddr {} udp dport {HEARTBEAT_PORT} accept", subject.address),
                ),
            ]),
        Heartbeats::Missing => Finding::warning(check, "none arrive")
            .because(
                format!("{}'s agent does not run, or a firewall drops UDP port {HEARTBEAT_PORT}", peer.name),
                "start it, then look again",
            )
            .type_in([line(format!("on {}", peer.name), "rollcall status")]),
    }
}

fn peer_port(subject: &Subject, peer: &Peer) -> Finding {
    let check = format!("peer port of {}", peer.name);
    let lines = || {
        let (own, name) = (subject.address, &peer.name);
        [
            line(
                format!("on {name}"),
                format!("nft insert rule inet filter input ip saddr {own} tcp dport {PEER_PORT} accept"),
            ),
            line(
                format!("on {name}, where firewalld rules"),
                format!("firewall-cmd --permanent --add-port={PEER_PORT}/tcp && firewall-cmd --reload"),
            ),
        ]
    };
    match &peer.port {
        Reach::Open => Finding::ok(check, format!("TCP {PEER_PORT} is open")),
        Reach::Refused if subject.shares => {
            Finding::warning(check, format!("nobody listens on TCP {PEER_PORT}"))
                .because("the agent there does not run, or does not share its configuration", "start it")
                .type_in([line(format!("on {}", peer.name), "rollcall run")])
        }
        Reach::Refused => Finding::ok(check, format!("TCP {PEER_PORT} is reached; nobody uses it")),
        Reach::Silent if subject.shares => {
            Finding::problem(check, format!("TCP {PEER_PORT}: no answer within 2 s"))
                .because(
                    format!("a firewall on the way drops it, or {} is off", peer.name),
                    format!("let TCP port {PEER_PORT} through between nodes, both ways"),
                )
                .type_in(lines())
        }
        Reach::Silent => Finding::warning(check, format!("TCP {PEER_PORT}: no answer within 2 s"))
            .because(
                format!("a firewall on the way drops it, or {} is off; nodes that share their configuration need it", peer.name),
                format!("let TCP port {PEER_PORT} through between nodes before they do"),
            )
            .type_in(lines()),
        Reach::Failed(why) => Finding::problem(check, format!("TCP {PEER_PORT}: {why}"))
            .because(format!("this host does not reach {}", peer.address), "correct its routes or the node's `address`")
            .type_in([line("here", format!("ip route get {}", peer.address))]),
    }
}

/// Ports of servers.
pub(super) fn servers(seen: &Look<Vec<Server>>) -> Vec<Finding> {
    match seen {
        Look::Not(why) => vec![Finding::not_tested("servers", why)],
        Look::Seen(servers) => servers.iter().map(server).collect(),
    }
}

fn server(seen: &Server) -> Finding {
    let check = format!("server {}", seen.name);
    let address = seen.address;
    let reached = [line("here", format!("curl -kv --max-time 5 https://{address}/"))];
    match &seen.reach {
        Reach::Open => Finding::ok(check, format!("{address} is open")),
        Reach::Refused => Finding::problem(check, format!("{address}: nobody listens"))
            .because("the host refuses the connection: its service does not run, or listens on another port", "start it, or correct its `address`")
            .type_in(reached),
        Reach::Silent => Finding::problem(check, format!("{address}: no answer within 2 s"))
            .because(
                "a firewall between this node and the server drops it, or the server is off; each node needs the way, not one alone",
                format!("let TCP port {} through from each node to {}", address.port(), address.ip()),
            )
            .type_in(reached),
        Reach::Failed(why) => Finding::problem(check, format!("{address}: {why}"))
            .because("this host does not reach the server", "correct its routes or the server's `address`")
            .type_in([line("here", format!("ip route get {}", address.ip()))]),
    }
}
