//! The lines that let a cluster MAC through: at routers that refuse it in ARP, at switches that do not deliver to it.

use super::super::finding::{Line, line};
use super::super::machine::Machine;
use super::super::{Subject, mode_name};
use crate::arp::format_mac;
use crate::config::model::Mode;

/// What a router needs that refuses a multicast MAC address in an ARP answer, as RFC 1812, section 3.3.2, wants it.
pub(super) fn router_lines(subject: &Subject, mode: Mode) -> Vec<Line> {
    let (ip, mac) = (subject.cluster_ip, subject.mac(mode));
    let dotted = cisco(mac);
    vec![
        line(
            "pfSense, OPNsense (System > Advanced > System Tunables) and FreeBSD",
            "sysctl net.link.ether.inet.allow_multicast=1",
        ),
        line("Cisco IOS", format!("arp {ip} {dotted} ARPA")),
        line("Cisco NX-OS, at the VLAN's interface", format!("ip arp {ip} {dotted}")),
        line(
            "Linux router",
            format!("ip neigh replace {ip} lladdr {} dev INTERFACE nud permanent", format_mac(mac)),
        ),
    ]
}

/// What delivers frames for the cluster MAC to all nodes: at the hypervisor, if there is one, and at switches.
pub(super) fn switch_lines(subject: &Subject, mode: Mode, machine: &Machine) -> Vec<Line> {
    let mut lines = machine.setting(mode).map(|(_, lines)| lines).unwrap_or_default();
    let dotted = cisco(subject.mac(mode));
    let of_switch = match mode {
        Mode::Multicast => vec![
            line("Linux bridge, at each node's port", "ip link set PORT type bridge_slave mcast_router 2"),
            line(
                "Cisco switch",
                format!("mac address-table static {dotted} vlan VLAN interface PORT1 PORT2"),
            ),
        ],
        Mode::Igmp => vec![
            line("Linux bridge, at each node's port", "ip link set PORT type bridge_slave mcast_router 2"),
            line(
                "Cisco switch",
                format!("mac address-table static {dotted} vlan VLAN interface PORT1 PORT2"),
            ),
            line("Cisco switch, if nothing else in the VLAN needs it", "no ip igmp snooping vlan VLAN"),
        ],
        Mode::Unicast => vec![
            line("Linux bridge, at each node's port", "ip link set PORT type bridge_slave flood on"),
            line("Cisco switch, at each node's port", "no switchport block unicast"),
        ],
    };
    for line in of_switch {
        if !lines.iter().any(|known| known.text == line.text) {
            lines.push(line);
        }
    }
    lines
}

/// Why a switch or hypervisor does not deliver in that mode.
pub(super) fn switch_cause(mode: Mode, machine: &Machine) -> String {
    let of_switch = match mode {
        Mode::Multicast | Mode::Igmp => {
            "a switch that snoops IGMP drops frames which carry a unicast address to a multicast MAC address, but for ports of routers and static entries"
        }
        Mode::Unicast => {
            "a switch or hypervisor that does not flood frames for a MAC address which it does not know keeps them from the nodes"
        }
    };
    match machine.setting(mode) {
        Some((of_machine, _)) => format!("{of_switch}; {of_machine}"),
        None => of_switch.to_owned(),
    }
}

/// `, or use mode unicast, which works here`; nothing where no other is known to.
pub(super) fn other_modes(works: &[Mode]) -> String {
    match works {
        [] => String::new(),
        works => {
            let names: Vec<&str> = works.iter().map(|mode| mode_name(*mode)).collect();
            format!("; or set `mode` in the cluster file to one that works here: {}", names.join(", "))
        }
    }
}

/// `03bf.c0a8.3208`.
fn cisco(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}{b:02x}.{c:02x}{d:02x}.{e:02x}{f:02x}")
}
