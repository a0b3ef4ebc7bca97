//! What this host itself is like.

use super::super::Subject;
use super::super::finding::{Finding, line};
use super::super::firewall::{Fate, Obstacle, Place};
use super::super::host::Manager;
use super::super::machine::Machine;
use super::super::seen::{Bridge, Look, Managed, Observations};
use crate::config::model::Mode;

/// What the agent sets on an interface, and a program that manages that interface may remove.
pub(super) fn managers(subject: &Subject, seen: &[Managed]) -> Vec<Finding> {
    let check = |managed: &Managed| format!("manager of {}", managed.interface);
    if seen.is_empty() {
        return vec![Finding::ok("network manager", "none manages lo or the cluster interface")];
    }
    let finding = |managed: &Managed| {
        let (name, by) = (&managed.interface, manager(managed.by));
        let kept = match (name.as_str(), subject.mode) {
            ("lo", _) => "the cluster IPs, which the agent keeps on the loopback interface",
            (_, Mode::Igmp) => "the multicast group that the agent joins there",
            // Of the other modes there is nothing on the interface but a filter entry, which managers leave alone.
            (_, Mode::Multicast | Mode::Unicast) => {
                return Finding::ok(check(managed), format!("{by}; nothing of the agent's is there"));
            }
        };
        Finding::warning(check(managed), format!("{by} manages {name}"))
            .because(
                format!("when it sets {name} up again it removes what it does not know: {kept}"),
                format!(
                    "take {name} out of its hands, once the host's own addresses on it are set otherwise"
                ),
            )
            .type_in(release(managed))
    };
    seen.iter().map(finding).collect()
}

fn manager(by: Manager) -> &'static str {
    match by {
        Manager::NetworkManager => "NetworkManager",
        Manager::Networkd => "systemd-networkd",
    }
}

fn release(managed: &Managed) -> [super::super::finding::Line; 2] {
    let name = &managed.interface;
    match managed.by {
        Manager::NetworkManager => [
            line("here", format!("nmcli device set {name} managed no")),
            line(
                "here, to last",
                format!(
                    "printf '[keyfile]\\nunmanaged-devices=interface-name:{name}\\n' > /etc/NetworkManager/conf.d/rollcall-{name}.conf"
                ),
            ),
        ],
        Manager::Networkd => [
            line(
                "here",
                format!(
                    "printf '[Match]\\nName={name}\\n[Link]\\nUnmanaged=yes\\n' > /etc/systemd/network/00-rollcall-{name}.network"
                ),
            ),
            line("here", "networkctl reload"),
        ],
    }
}

/// A bridge of this host between the network and the node.
pub(super) fn bridge(subject: &Subject, seen: Option<&Bridge>) -> Option<Finding> {
    const CHECK: &str = "bridge snooping";
    let seen = seen?;
    let (bridge, name) = (&seen.name, &subject.interface);
    let multicast = match subject.mode {
        Mode::Multicast | Mode::Igmp => true,
        Mode::Unicast => false,
    };
    if !multicast || !seen.snooping || seen.router == 2 {
        let why = match (seen.snooping, multicast) {
            (false, _) => "does not snoop",
            (true, true) => "gives the node all multicast",
            (true, false) => "snoops, which is nothing to mode unicast",
        };
        return Some(Finding::ok(CHECK, format!("{bridge} {why}")));
    }
    let own = if seen.itself {
        format!("ip link set dev {bridge} type bridge mcast_router 2")
    } else {
        format!("ip link set dev {name} type bridge_slave mcast_router 2")
    };
    Some(
        Finding::warning(CHECK, format!("{bridge} of this host snoops"))
            .because(
                "with a querier in the network a bridge that snoops drops frames which carry a unicast address to a multicast MAC address, but for ports of routers",
                "declare the way to the node a router's, or switch snooping off",
            )
            .type_in([
                line("here", own),
                line("here, in place of it", format!("ip link set dev {bridge} type bridge mcast_snooping 0")),
            ]),
    )
}

/// What this host runs on.
pub(super) fn machine(subject: &Subject, seen: &Observations) -> Finding {
    const CHECK: &str = "hypervisor";
    let name = seen.machine.name();
    let Some((cause, lines)) = seen.machine.setting(subject.mode) else {
        return match &seen.machine {
            Machine::Other(_) => {
                Finding::not_tested(CHECK, format!("{name}: its settings are not known here"))
            }
            Machine::Hardware
            | Machine::HyperV
            | Machine::Vmware
            | Machine::Kvm
            | Machine::Xen
            | Machine::VirtualBox
            | Machine::Cloud(_) => Finding::ok(CHECK, name),
        };
    };
    if arrives(subject, seen) {
        return Finding::ok(CHECK, format!("{name}, which lets frames for the cluster MAC through"));
    }
    Finding::warning(CHECK, format!("{name}: a setting that cannot be read here"))
        .because(cause, "see to it that the hypervisor delivers frames for the cluster MAC to each node")
        .type_in(lines)
}

/// Whether a frame for the cluster MAC of the configured mode is known to have come in here.
fn arrives(subject: &Subject, seen: &Observations) -> bool {
    let gateway = seen.gateway.seen();
    gateway.is_some_and(|gateway| {
        gateway.modes.iter().any(|echoes| echoes.mode == subject.mode && echoes.echoes.back > 0)
    })
}

/// What this host's packet filter does.
pub(super) fn firewall(seen: &Look<Vec<Obstacle>>) -> Vec<Finding> {
    const CHECK: &str = "firewall of this host";
    let obstacles = match seen {
        Look::Seen(obstacles) => obstacles,
        Look::Not(why) => return vec![Finding::not_tested(CHECK, why)],
    };
    let mut findings: Vec<Finding> = obstacles.iter().filter_map(dropped).collect();
    let unsure: Vec<&str> = obstacles
        .iter()
        .filter(|obstacle| obstacle.fate == Fate::Unsure)
        .map(|obstacle| obstacle.packet.what.as_str())
        .collect();
    if !unsure.is_empty() {
        let why = format!("it has rules that are not understood here, for {}", unsure.join(", "));
        findings.push(Finding::not_tested(CHECK, why));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "lets in what has to come in"));
    }
    findings
}

fn dropped(obstacle: &Obstacle) -> Option<Finding> {
    let Fate::Dropped(Place { family, table, chain, policy }) = &obstacle.fate else { return None };
    let packet = &obstacle.packet;
    let (protocol, port) = (packet.protocol, packet.port);
    let by = if *policy { "policy" } else { "rule" };
    let of = match (packet.from, family.as_str()) {
        (Some(from), _) => format!("ip saddr {from} "),
        (None, _) => format!("ip daddr {} ", packet.to),
    };
    let insert = format!("nft insert rule {family} {table} {chain} {of}{protocol} dport {port} accept");
    let upper = protocol.to_uppercase();
    let finding = Finding::problem(format!("firewall: {protocol} {port}"), format!("drops {}", packet.what))
        .because(
            format!("a {by} of the chain {chain} in the table {family} {table} drops {upper} port {port}"),
            format!("let {upper} port {port} in, in the firewall's own configuration so that it lasts"),
        );
    Some(finding.type_in([
        line("here, until the next start", insert),
        line(
            "here, where firewalld rules",
            format!("firewall-cmd --permanent --add-port={port}/{protocol} && firewall-cmd --reload"),
        ),
        line("here, where ufw rules", format!("ufw allow {port}/{protocol}")),
    ]))
}
