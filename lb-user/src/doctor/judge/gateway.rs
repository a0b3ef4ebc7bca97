//! What the gateway makes of the cluster IP.

use super::super::finding::{Finding, line};
use super::super::machine::Machine;
use super::super::seen::{Gateway, Look, ModeEchoes, Watch};
use super::super::{Subject, mode_name};
use super::ways;
use crate::arp::format_mac;
use crate::config::model::Mode;

const GATEWAY: &str = "gateway";
const CHECK: &str = "echo from cluster IP";

/// A gateway that asks so often has refused the answers.
const REFUSES: u32 = 2;

/// What became of echoes from the cluster IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// They came back to the cluster MAC.
    Back,
    /// The gateway did not take the answer to its question.
    Refused,
    /// It took it, and what it sent did not arrive.
    Lost,
}

pub(super) fn gateway(subject: &Subject, seen: &Look<Gateway>, machine: &Machine) -> Vec<Finding> {
    let seen = match seen {
        Look::Seen(seen) => seen,
        Look::Not(why) => return vec![Finding::not_tested(GATEWAY, why)],
    };
    if !seen.resolves {
        return vec![silent(subject, seen)];
    }
    let mut findings = vec![own_echoes(seen)];
    if let Some(mac) = seen.claimed_by {
        findings.push(claimed(subject, mac));
        return findings;
    }
    findings.push(configured(subject, seen, machine));
    findings.extend(others(subject, seen));
    findings
}

fn silent(subject: &Subject, seen: &Gateway) -> Finding {
    Finding::problem(GATEWAY, format!("{} answers no ARP", seen.address))
        .because(
            "nobody on this network has the gateway's address: it is off, another address, or in another VLAN",
            "correct `gateway` in the cluster file, or the cabling; a node without its gateway does not serve",
        )
        .type_in([line("here", format!("ip neigh show to {} dev {}", seen.address, subject.interface))])
}

fn own_echoes(seen: &Gateway) -> Finding {
    let address = seen.address;
    if seen.own.back > 0 {
        return Finding::ok(GATEWAY, format!("{address} answers ARP and echo"));
    }
    Finding::ok(GATEWAY, format!("{address} answers ARP, and no echo, not even this node's own"))
}

fn claimed(subject: &Subject, mac: [u8; 6]) -> Finding {
    let (ip, mac) = (subject.cluster_ip, format_mac(mac));
    Finding::problem("cluster IP", format!("{mac} answers for {ip}"))
        .because(
            "another machine has the cluster IP; where Windows NLB still runs with it, it is that",
            "remove the address there, or choose another cluster IP",
        )
        .type_in([line("here", format!("ip neigh show | grep -i {mac}"))])
}

fn configured(subject: &Subject, seen: &Gateway, machine: &Machine) -> Finding {
    let Some(echoes) = seen.modes.iter().find(|echoes| echoes.mode == subject.mode) else {
        return other_mode_served(subject, seen);
    };
    let (mode, mac) = (subject.mode, format_mac(subject.mac(subject.mode)));
    let works: Vec<Mode> = seen
        .modes
        .iter()
        .filter(|echoes| echoes.mode != mode && way(echoes) == Way::Back)
        .map(|echoes| echoes.mode)
        .collect();
    match way(echoes) {
        Way::Back => {
            let by = match echoes.by {
                Watch::Socket => "",
                Watch::Counters => " (as counted by the packet program)",
            };
            let (back, sent) = (echoes.echoes.back, echoes.echoes.sent);
            Finding::ok(CHECK, format!("{back} of {sent} came back to {mac}{by}"))
        }
        Way::Refused => refused(subject, seen, &works),
        // A gateway that answers nobody's echoes proves nothing by its silence.
        Way::Lost if seen.own.back == 0 => Finding::not_tested(
            CHECK,
            format!("{} answers no echo; allow it ICMP echo from {}", seen.address, subject.address),
        ),
        Way::Lost => Finding::problem(CHECK, format!("none came back to {mac}"))
            .because(
                format!(
                    "the gateway takes {mac} for the cluster IP, and what it sends there does not arrive here: {}",
                    ways::switch_cause(mode, machine)
                ),
                format!("let the switches deliver to that MAC address{}", ways::other_modes(&works)),
            )
            .type_in(ways::switch_lines(subject, mode, machine)),
    }
}

fn refused(subject: &Subject, seen: &Gateway, works: &[Mode]) -> Finding {
    let (mode, mac) = (subject.mode, format_mac(subject.mac(subject.mode)));
    let what = format!("the gateway does not learn {mac}");
    match mode {
        Mode::Multicast | Mode::Igmp => Finding::problem(CHECK, what)
            .because(
                format!(
                    "{} finds this node's own address, and goes on asking for the cluster IP: it refuses a multicast MAC address in an ARP answer, as RFC 1812 has it",
                    seen.address
                ),
                format!("have it accept that, or give it a static entry{}", ways::other_modes(works)),
            )
            .type_in(ways::router_lines(subject, mode)),
        Mode::Unicast => Finding::problem(CHECK, what)
            .because(
                format!(
                    "{} finds this node's own address, and goes on asking for the cluster IP: something drops an ARP answer that names another MAC address than its frame's source (ARP inspection, port security, a hypervisor's filter)",
                    seen.address
                ),
                format!("let such answers pass at the nodes' ports{}", ways::other_modes(works)),
            )
            .type_in([
                line("Cisco switch, at each node's port", "ip arp inspection trust"),
                line("Proxmox, in the guest's firewall options", "ipfilter: 0"),
            ]),
    }
}

/// A node serves, in another mode than this configuration has.
fn other_mode_served(subject: &Subject, seen: &Gateway) -> Finding {
    match seen.modes.first() {
        Some(echoes) => Finding::problem(CHECK, format!("a node serves in mode {}", mode_name(echoes.mode)))
            .because(
                format!("this node's configuration has mode {}", mode_name(subject.mode)),
                "give all nodes the same configuration",
            )
            .type_in([line("on each node", "rollcall status")]),
        None => Finding::not_tested(CHECK, "the agent went away meanwhile"),
    }
}

/// What is known of the other modes, for who is to choose.
fn others(subject: &Subject, seen: &Gateway) -> Option<Finding> {
    let told = seen.modes.iter().filter(|echoes| echoes.mode != subject.mode).map(|echoes| {
        let how = match way(echoes) {
            Way::Back => "works",
            Way::Refused => "refused",
            Way::Lost => "lost",
        };
        format!("{} {how}", mode_name(echoes.mode))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| Finding::ok("other modes", told.join(", ")))
}

fn way(seen: &ModeEchoes) -> Way {
    if seen.echoes.back > 0 {
        Way::Back
    } else if seen.elsewhere > 0 || seen.asked >= REFUSES {
        Way::Refused
    } else {
        Way::Lost
    }
}
