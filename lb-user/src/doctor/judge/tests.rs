//! Observations -> findings, as tables.

use super::super::finding::Severity;
use super::super::firewall::{Fate, Incoming, Obstacle, Place};
use super::super::host::Manager;
use super::super::machine::Machine;
use super::super::seen::{
    Bridge, Counted, Echoes, Gateway, Hearing, Heartbeats, Managed, ModeEchoes, Peer, Reach, Server, Watch,
};
use super::*;
use crate::config::model::Mode;

const MODES: [Mode; 3] = [Mode::Unicast, Mode::Igmp, Mode::Multicast];

fn subject() -> Subject {
    Subject {
        node: "arr1".into(),
        interface: "eth0".into(),
        address: [192, 168, 50, 6].into(),
        cluster_ip: [192, 168, 50, 8].into(),
        first_ip: [192, 168, 50, 8].into(),
        mode: Mode::Multicast,
        shares: true,
        sticks: true,
    }
}

fn all(sent: u32) -> Echoes {
    Echoes { sent, back: sent }
}

fn none(sent: u32) -> Echoes {
    Echoes { sent, back: 0 }
}

fn echoes(mode: Mode, echoes: Echoes, asked: u32) -> ModeEchoes {
    ModeEchoes { mode, echoes, elsewhere: 0, asked, by: Watch::Socket }
}

fn gateway(modes: Vec<ModeEchoes>) -> Gateway {
    Gateway { address: [192, 168, 50, 1].into(), resolves: true, own: all(5), claimed_by: None, modes }
}

fn peer(port: Reach, heartbeats: Heartbeats) -> Peer {
    Peer { name: "arr2".into(), address: [192, 168, 50, 7].into(), port, heartbeats }
}

fn counted(arrive: &[Mode]) -> Counted {
    let modes = MODES.map(|mode| (mode, if arrive.contains(&mode) { all(5) } else { none(5) }));
    Counted { node: "arr2".into(), mac: Some([2, 0, 0, 0, 0, 7]), listens: true, modes: modes.to_vec() }
}

/// A cluster where everything works.
fn sound() -> Observations {
    Observations {
        interface: Ok(Port { up: true, carrier: true, has_address: true }),
        gateway: Look::Seen(gateway(MODES.map(|mode| echoes(mode, all(5), 1)).to_vec())),
        frames: Look::Seen(vec![counted(&MODES)]),
        hearing: Look::Seen(Hearing { serving: 2, deaf: Vec::new() }),
        machine: Machine::HyperV,
        bridge: None,
        managers: Vec::new(),
        firewall: Look::Seen(Vec::new()),
        peers: Look::Seen(vec![peer(Reach::Open, Heartbeats::Heard)]),
        servers: Look::Seen(vec![Server {
            name: "exchange sbex1".into(),
            address: ([10, 0, 0, 36], 443).into(),
            reach: Reach::Open,
        }]),
        clients: Look::Seen(Clients {
            connections: 40,
            addresses: 9,
            most: Some(([203, 0, 113, 9].into(), 8)),
        }),
    }
}

fn wrong(subject: &Subject, seen: &Observations) -> Vec<Finding> {
    let findings = examine(subject, seen);
    findings.into_iter().filter(|finding| finding.severity > Severity::NotTested).collect()
}

/// The one thing that is wrong.
fn only(subject: &Subject, seen: &Observations) -> Finding {
    let mut wrong = wrong(subject, seen);
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    wrong.remove(0)
}

fn says(finding: &Finding, line: &str) -> bool {
    finding.lines.iter().any(|known| known.text == line)
}

#[test]
fn where_everything_works_every_finding_is_ok() {
    let findings = examine(&subject(), &sound());
    assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:#?}");
    assert!(findings.len() >= 10, "{findings:#?}");
}

#[test]
fn what_is_wrong_has_a_cause_a_cure_and_what_is_ok_has_none() {
    let mut seen = sound();
    seen.peers = Look::Seen(vec![peer(Reach::Silent, Heartbeats::Missing)]);
    seen.gateway = Look::Seen(gateway(vec![echoes(Mode::Multicast, none(5), 4)]));
    seen.frames = Look::Seen(vec![counted(&[])]);
    for finding in examine(&subject(), &seen) {
        let bad = finding.severity > Severity::NotTested;
        assert_eq!(
            (!finding.cause.is_empty(), !finding.cure.is_empty(), !finding.lines.is_empty()),
            (bad, bad, bad),
            "{finding:?}"
        );
    }
}

#[test]
fn a_router_that_goes_on_asking_refuses_the_answer_and_its_lines_have_the_clusters_addresses() {
    let mut seen = sound();
    let modes = vec![
        echoes(Mode::Unicast, all(5), 1),
        echoes(Mode::Igmp, none(5), 3),
        echoes(Mode::Multicast, none(5), 3),
    ];
    (seen.gateway, seen.machine) = (Look::Seen(gateway(modes)), Machine::Hardware);
    let finding = only(&subject(), &seen);
    assert_eq!((finding.check.as_str(), finding.severity), ("echo from cluster IP", Severity::Problem));
    assert!(says(&finding, "sysctl net.link.ether.inet.allow_multicast=1"), "{finding:#?}");
    assert!(says(&finding, "arp 192.168.50.8 03bf.c0a8.3208 ARPA"), "{finding:#?}");
    assert!(finding.cure.ends_with("one that works here: unicast"), "{}", finding.cure);
}

#[test]
fn a_router_that_keeps_what_it_knew_refuses_too() {
    let mut seen = sound();
    let kept = ModeEchoes { elsewhere: 5, ..echoes(Mode::Multicast, none(5), 0) };
    (seen.gateway, seen.machine) = (Look::Seen(gateway(vec![kept])), Machine::Hardware);
    assert!(only(&subject(), &seen).cause.contains("RFC 1812"));
}

#[test]
fn a_router_that_took_the_answer_and_is_not_heard_is_behind_a_switch_that_drops() {
    let mut seen = sound();
    for asked in [0, 1] {
        let lost = vec![echoes(Mode::Unicast, all(5), 1), echoes(Mode::Multicast, none(5), asked)];
        (seen.gateway, seen.machine) = (Look::Seen(gateway(lost)), Machine::Hardware);
        let finding = only(&subject(), &seen);
        assert!(finding.cause.contains("snoops IGMP"), "{finding:#?}");
        assert!(says(&finding, "mac address-table static 03bf.c0a8.3208 vlan VLAN interface PORT1 PORT2"));
        assert!(!finding.cause.contains("RFC 1812"));
    }
}

#[test]
fn a_router_that_answers_no_echo_at_all_proves_nothing_unless_it_goes_on_asking() {
    let mut seen = sound();
    let of = |asked| {
        let silent = gateway(vec![echoes(Mode::Multicast, none(5), asked)]);
        Look::Seen(Gateway { own: none(5), ..silent })
    };
    (seen.gateway, seen.machine) = (of(1), Machine::Hardware);
    assert_eq!(wrong(&subject(), &seen), []);
    let findings = examine(&subject(), &seen);
    assert!(findings.iter().any(|finding| finding.check == "echo from cluster IP" && finding.severity == Severity::NotTested));
    seen.gateway = of(3);
    assert_eq!(only(&subject(), &seen).severity, Severity::Problem);
}

#[test]
fn a_gateway_without_an_answer_and_a_taken_cluster_ip_are_named() {
    let mut seen = sound();
    seen.machine = Machine::Hardware;
    seen.gateway = Look::Seen(Gateway { resolves: false, ..gateway(Vec::new()) });
    assert_eq!(only(&subject(), &seen).what, "192.168.50.1 answers no ARP");
    seen.gateway = Look::Seen(Gateway { claimed_by: Some([0, 21, 93, 1, 2, 3]), ..gateway(Vec::new()) });
    assert_eq!(only(&subject(), &seen).what, "00:15:5d:01:02:03 answers for 192.168.50.8");
    seen.gateway = Look::Seen(gateway(vec![echoes(Mode::Unicast, all(5), 0)]));
    assert_eq!(only(&subject(), &seen).what, "a node serves in mode unicast");
}

#[test]
fn frames_that_reach_a_node_in_another_mode_alone_say_which() {
    let mut seen = sound();
    seen.frames = Look::Seen(vec![counted(&[Mode::Unicast])]);
    let finding = only(&subject(), &seen);
    assert_eq!(finding.what, "unicast 5/5, igmp 0/5, multicast 0/5");
    assert!(finding.cure.ends_with("one that works here: unicast"), "{}", finding.cure);
    seen.frames = Look::Seen(vec![Counted { listens: false, modes: Vec::new(), ..counted(&[]) }]);
    assert_eq!(wrong(&subject(), &seen), [], "where nobody listens nothing is known");
}

#[test]
fn a_hypervisor_is_blamed_until_frames_are_known_to_arrive() {
    for (machine, mode, line) in [
        (Machine::HyperV, Mode::Unicast, Some("Set-VMNetworkAdapter -VMName NAME -MacAddressSpoofing On")),
        (Machine::Kvm, Mode::Igmp, Some("ip link set PORT type bridge_slave mcast_router 2")),
        (
            Machine::Vmware,
            Mode::Unicast,
            Some(
                "Get-VirtualPortGroup -Name NAME | Get-SecurityPolicy | Set-SecurityPolicy -AllowPromiscuous $true -MacChanges $true -ForgedTransmits $true",
            ),
        ),
        (Machine::Vmware, Mode::Multicast, None),
        (Machine::Hardware, Mode::Unicast, None),
    ] {
        let (subject, mut seen) = (Subject { mode, ..subject() }, sound());
        seen.machine = machine.clone();
        assert_eq!(wrong(&subject, &seen), [], "{machine:?} {mode:?}");
        seen.gateway = Look::Not("without the network".into());
        let found = wrong(&subject, &seen);
        let told = found.iter().any(|finding| line.is_some_and(|line| says(finding, line)));
        assert_eq!(
            (found.len(), told),
            (usize::from(line.is_some()), line.is_some()),
            "{machine:?} {mode:?}: {found:#?}"
        );
    }
}

#[test]
fn a_bridge_that_snoops_is_in_the_way_of_multicast_alone() {
    let bridge = Bridge { name: "br0".into(), itself: false, snooping: true, router: 1 };
    for (bridge, mode, line) in [
        (bridge.clone(), Mode::Multicast, Some("ip link set dev eth0 type bridge_slave mcast_router 2")),
        (
            Bridge { itself: true, ..bridge.clone() },
            Mode::Igmp,
            Some("ip link set dev br0 type bridge mcast_router 2"),
        ),
        (bridge.clone(), Mode::Unicast, None),
        (Bridge { snooping: false, ..bridge.clone() }, Mode::Multicast, None),
        (Bridge { router: 2, ..bridge }, Mode::Multicast, None),
    ] {
        let (subject, mut seen) = (Subject { mode, ..subject() }, sound());
        seen.bridge = Some(bridge.clone());
        let found = wrong(&subject, &seen);
        assert_eq!(
            found.iter().any(|finding| line.is_some_and(|line| says(finding, line))),
            line.is_some(),
            "{bridge:?} {mode:?}"
        );
        assert_eq!(found.len(), usize::from(line.is_some()), "{bridge:?} {mode:?}");
    }
}

#[test]
fn a_manager_is_a_danger_where_the_agent_has_an_address() {
    for (interface, by, mode, line) in [
        ("lo", Manager::NetworkManager, Mode::Unicast, Some("nmcli device set lo managed no")),
        ("lo", Manager::Networkd, Mode::Unicast, Some("networkctl reload")),
        ("eth0", Manager::NetworkManager, Mode::Igmp, Some("nmcli device set eth0 managed no")),
        ("eth0", Manager::NetworkManager, Mode::Multicast, None),
        ("eth0", Manager::Networkd, Mode::Unicast, None),
    ] {
        let (subject, mut seen) = (Subject { mode, ..subject() }, sound());
        seen.managers = vec![Managed { interface: interface.into(), by }];
        let found = wrong(&subject, &seen);
        assert_eq!(
            found.iter().any(|finding| line.is_some_and(|line| says(finding, line))),
            line.is_some(),
            "{interface} {by:?} {mode:?}"
        );
    }
}

#[test]
fn a_firewall_that_drops_is_named_with_its_chain_and_one_that_is_not_understood_is_not_judged() {
    let packet = Incoming {
        what: "heartbeats of arr2".into(),
        protocol: "udp",
        port: 7644,
        from: Some([192, 168, 50, 7].into()),
        to: [192, 168, 50, 6].into(),
        interface: "eth0".into(),
    };
    let place = Place { family: "inet".into(), table: "filter".into(), chain: "input".into(), policy: true };
    let mut seen = sound();
    seen.firewall = Look::Seen(vec![Obstacle { packet: packet.clone(), fate: Fate::Dropped(place) }]);
    let finding = only(&subject(), &seen);
    assert!(
        says(&finding, "nft insert rule inet filter input ip saddr 192.168.50.7 udp dport 7644 accept"),
        "{finding:#?}"
    );
    assert!(finding.cause.starts_with("a policy of the chain input"), "{}", finding.cause);
    seen.firewall = Look::Seen(vec![Obstacle { packet, fate: Fate::Unsure }]);
    assert_eq!(wrong(&subject(), &seen), []);
}

#[test]
fn heartbeats_that_stay_away_are_a_problem_where_the_other_agent_runs() {
    for (port, heartbeats, listens, expected) in [
        (Reach::Open, Heartbeats::Heard, true, None),
        (Reach::Open, Heartbeats::Missing, false, Some(("heartbeats of arr2", Severity::Problem))),
        (Reach::Open, Heartbeats::Unknown("no agent".into()), true, None),
        (Reach::Silent, Heartbeats::Heard, true, Some(("peer port of arr2", Severity::Problem))),
        (Reach::Refused, Heartbeats::Heard, true, Some(("peer port of arr2", Severity::Warning))),
        (
            Reach::Failed("no route".into()),
            Heartbeats::Heard,
            true,
            Some(("peer port of arr2", Severity::Problem)),
        ),
    ] {
        let mut seen = sound();
        seen.peers = Look::Seen(vec![peer(port.clone(), heartbeats.clone())]);
        seen.frames = Look::Seen(vec![Counted { listens, ..counted(&MODES) }]);
        let found = wrong(&subject(), &seen);
        let told: Vec<_> = found.iter().map(|finding| (finding.check.as_str(), finding.severity)).collect();
        assert_eq!(told, Vec::from_iter(expected), "{port:?} {heartbeats:?}");
    }
}

#[test]
fn the_peer_port_is_no_problem_where_nobody_uses_it() {
    let subject = Subject { shares: false, ..subject() };
    for (port, expected) in [(Reach::Refused, None), (Reach::Silent, Some(Severity::Warning))] {
        let mut seen = sound();
        seen.peers = Look::Seen(vec![peer(port.clone(), Heartbeats::Heard)]);
        let severities: Vec<_> = wrong(&subject, &seen).iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, Vec::from_iter(expected), "{port:?}");
    }
}

#[test]
fn a_deaf_node_and_a_server_that_is_not_reached_are_problems() {
    let mut seen = sound();
    seen.hearing = Look::Seen(Hearing { serving: 2, deaf: vec!["arr2".into()] });
    assert_eq!(only(&subject(), &seen).what, "arr2 hears nothing");
    for reach in [Reach::Silent, Reach::Refused, Reach::Failed("no route to host".into())] {
        let mut seen = sound();
        seen.servers = Look::Seen(vec![Server {
            name: "exchange sbex1".into(),
            address: ([10, 0, 0, 36], 443).into(),
            reach,
        }]);
        let finding = only(&subject(), &seen);
        assert_eq!((finding.check.as_str(), finding.severity), ("server exchange sbex1", Severity::Problem));
    }
}

#[test]
fn many_connections_from_one_address_alone_are_a_router_that_rewrites_sources() {
    let router = ([192, 168, 50, 1].into(), 40);
    for (clients, expected) in [
        (Clients { connections: 40, addresses: 1, most: Some(router) }, Severity::Warning),
        (Clients { connections: 40, addresses: 2, most: Some((router.0, 39)) }, Severity::Ok),
        (Clients { connections: 19, addresses: 1, most: Some((router.0, 19)) }, Severity::NotTested),
        (Clients::default(), Severity::NotTested),
    ] {
        for sticks in [true, false] {
            let (subject, mut seen) = (Subject { sticks, ..subject() }, sound());
            seen.clients = Look::Seen(clients);
            let findings = examine(&subject, &seen);
            let finding = findings.iter().find(|finding| finding.check == "clients' addresses").unwrap();
            assert_eq!(finding.severity, expected, "{clients:?}");
            assert_eq!(finding.cause.contains("affinity"), sticks && expected == Severity::Warning);
        }
    }
}

#[test]
fn an_interface_that_cannot_carry_the_cluster_is_a_problem() {
    let port = Port { up: true, carrier: true, has_address: true };
    for (interface, line) in [
        (Port { up: false, ..port }, "ip link set eth0 up"),
        (Port { carrier: false, ..port }, "ip -s link show eth0"),
        (Port { has_address: false, ..port }, "ip address show dev eth0"),
    ] {
        let mut seen = sound();
        seen.interface = Ok(interface);
        assert!(says(&only(&subject(), &seen), line));
    }
    let mut seen = sound();
    seen.interface = Err("there is no interface eth0; hint: one of: eth1".into());
    let finding = only(&subject(), &seen);
    assert_eq!(
        (finding.what.as_str(), finding.cure.as_str()),
        ("there is no interface eth0", "one of: eth1")
    );
}
