//! Setting a host up and back, each in a network namespace of its own: a thread leaves the host's for good and ends.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{InspectError, Interface, Link, LinkError, Lock, refresh, teardown};
use crate::config::model::{ClusterIp, Config, Mode, Site};
use crate::dataplane::plan::cluster_mac;
use crate::preflight;

mod attached;

const MAC: [u8; 6] = [0x03, 0xbf, 192, 168, 50, 8];

#[test]
fn setup_makes_the_host_ready_and_teardown_leaves_it_as_it_was() {
    in_namespace(|config| {
        let before = host();
        let link = Link::setup(config, &interface(), MAC).unwrap();

        assert_eq!(setting("nic", "arp_announce"), "2");
        assert_eq!(setting("nic", "arp_ignore"), "3");
        assert_eq!(setting("other", "arp_ignore"), "3");
        assert!(ip("-o address show dev lo").contains("192.168.50.8/32 scope host"));
        assert!(ip("maddress show dev nic").contains("03:bf:c0:a8:32:08"));

        link.teardown().unwrap();
        assert_eq!(host(), before);
        assert!(!config.local.run_dir.join("host-state.json").exists());
    });
}

#[test]
fn a_killed_agents_successor_keeps_what_was_before_the_first() {
    in_namespace(|config| {
        set("nic", "arp_announce", 1);
        let before = host();
        drop(Link::setup(config, &interface(), MAC).unwrap());
        let link = Link::setup(config, &interface(), MAC).unwrap();
        link.teardown().unwrap();
        assert_eq!(host(), before);
    });
}

#[test]
fn a_cluster_ip_that_changed_while_no_agent_ran_leaves_the_loopback_interface() {
    in_namespace(|config| {
        let before = host();
        drop(Link::setup(config, &interface(), MAC).unwrap());
        let mut config = config.clone();
        config.cluster.cluster_ips[0].address = Ipv4Addr::new(192, 168, 50, 9).into();
        let mac = [0x03, 0xbf, 192, 168, 50, 9];
        let link = Link::setup(&config, &interface(), mac).unwrap();
        let addresses = ip("-o address show dev lo");
        assert!(addresses.contains("192.168.50.9/32") && !addresses.contains("192.168.50.8"), "{addresses}");
        link.teardown().unwrap();
        assert_eq!(host(), before);
    });
}

#[test]
fn what_somebody_else_changed_meanwhile_is_left() {
    in_namespace(|config| {
        let link = Link::setup(config, &interface(), MAC).unwrap();
        set("nic", "arp_ignore", 2);
        ip("link del other");
        link.teardown().unwrap();
        assert_eq!(setting("nic", "arp_ignore"), "2");
    });
}

#[test]
fn an_interface_that_comes_later_is_quiet_too_and_put_back() {
    in_namespace(|config| {
        let link = Link::setup(config, &interface(), MAC).unwrap();
        ip("link add late type bridge");
        assert_eq!(setting("late", "arp_ignore"), "3");
        link.teardown().unwrap();
        assert_eq!(setting("late", "arp_ignore"), "0");
    });
}

#[test]
fn what_the_operator_had_set_up_before_stays_after() {
    in_namespace(|config| {
        ip("address add 192.168.50.8/32 dev lo");
        Command::new("bridge")
            .args(["fdb", "add", "03:bf:c0:a8:32:08", "dev", "nic", "self", "permanent"])
            .status()
            .unwrap();
        let before = host();
        let link = Link::setup(config, &interface(), MAC).unwrap();
        assert_eq!(setting("nic", "arp_ignore"), "1", "an address of wider scope needs more");
        link.teardown().unwrap();
        assert_eq!(host(), before);
    });
}

#[test]
fn where_scope_host_addresses_count_as_ordinary_ones_arp_is_stricter() {
    in_namespace(|config| {
        set("all", "route_localnet", 1);
        let link = Link::setup(config, &interface(), MAC).unwrap();
        assert_eq!(setting("nic", "arp_ignore"), "1");
        link.teardown().unwrap();
    });
}

#[test]
fn a_cluster_ip_that_is_an_ordinary_address_is_refused() {
    in_namespace(|config| {
        ip("address add 192.168.50.8/24 dev nic");
        let before = host();
        let error = Link::setup(config, &interface(), MAC).unwrap_err();
        assert!(matches!(error, LinkError::Ordinary { .. }), "{error}");
        assert!(error.to_string().contains("192.168.50.8 is an address of interface nic"), "{error}");
        assert_eq!(host(), before);
    });
}

#[test]
fn every_mode_and_an_ipv6_cluster_ip_leave_no_trace() {
    let cases = [
        (Mode::Multicast, "03:bf:c0:a8:32:08", false),
        (Mode::Igmp, "01:00:5e:7f:32:08", true),
        (Mode::Unicast, "02:bf:c0:a8:32:08", false),
    ];
    in_namespace(move |config| {
        let before = host();
        for (mode, mac, joins) in cases {
            let config = dual(config, mode);
            let link = set_up(&config);
            assert_eq!(link.filter, "a filter entry");
            let filter = Command::new("bridge").args(["fdb", "show", "dev", "nic"]).output().unwrap();
            let filter = String::from_utf8(filter.stdout).unwrap();
            assert!(filter.contains(&format!("{mac} self permanent")), "{mode:?}: {filter}");
            let groups = ip("maddress show dev nic");
            assert_eq!(groups.contains("inet  239.255.50.8"), joins, "{mode:?}: {groups}");
            assert!(groups.contains("inet6 ff02::1:ff00:8"), "{groups}");
            let loopback = ip("-6 -o address show dev lo");
            assert!(loopback.contains("fd00::8/128 scope global nodad deprecated"), "{loopback}");
            assert_eq!(interface().addresses, [(Ipv4Addr::new(192, 168, 50, 6), 24)], "the group is none");

            let (during, record) = (host(), fs::read(config.local.run_dir.join("host-state.json")).unwrap());
            drop(link);
            let again = set_up(&config);
            assert_eq!(host(), during, "{mode:?}: set up twice");
            assert_eq!(fs::read(config.local.run_dir.join("host-state.json")).unwrap(), record);
            again.teardown().unwrap();
            assert_eq!(host(), before, "{mode:?}");
        }
    });
}

#[test]
fn another_mode_takes_the_former_ones_entries_away() {
    in_namespace(|config| {
        let before = host();
        drop(set_up(&dual(config, Mode::Igmp)));
        drop(set_up(&dual(config, Mode::Unicast)));
        let unicast = host();
        drop(set_up(config));
        let multicast = host();
        teardown(&config.local.run_dir).unwrap();
        assert_eq!(host(), before);
        // As if there never had been another.
        drop(set_up(&dual(config, Mode::Unicast)));
        assert_eq!(host(), unicast);
        teardown(&config.local.run_dir).unwrap();
        drop(set_up(config));
        assert_eq!(host(), multicast);
    });
}

#[test]
fn an_interface_that_refuses_a_filter_entry_becomes_promiscuous_for_as_long() {
    in_namespace(|config| {
        ip("link add link other name upper type macvlan");
        ip("link set upper up");
        let mut config = dual(config, Mode::Unicast);
        config.local.interface = "upper".to_owned();
        let upper = || ip("-d link show dev upper");
        let before = upper();
        let link = set_up(&config);
        assert!(
            link.filter.starts_with("promiscuous mode: the driver refuses a filter entry ("),
            "{}",
            link.filter
        );
        assert!(upper().contains("PROMISC"), "{}", upper());
        drop(link);
        drop(set_up(&config));
        assert!(upper().contains("PROMISC"));
        // It takes one for a multicast address, and so needs no more.
        config.cluster.mode = Mode::Multicast;
        assert_eq!(set_up(&config).filter, "a filter entry");
        assert!(!upper().contains("PROMISC"));
        config.cluster.mode = Mode::Unicast;
        set_up(&config).teardown().unwrap();
        assert_eq!(upper(), before);

        ip("link set upper promisc on");
        set_up(&config).teardown().unwrap();
        assert!(upper().contains("PROMISC"), "the operator's");
    });
}

#[test]
fn groups_and_addresses_that_the_operator_had_stay() {
    in_namespace(|config| {
        ip("address add fd00::8/128 dev lo");
        ip("address add 239.255.50.8/32 dev nic autojoin");
        ip("-6 neighbour add proxy fd00::8 dev nic");
        let before = host();
        set_up(&dual(config, Mode::Igmp)).teardown().unwrap();
        assert_eq!(host(), before);
    });
}

#[test]
fn an_interface_that_was_down_is_made_ready_again() {
    in_namespace(|config| {
        let config = dual(config, Mode::Igmp);
        drop(set_up(&config));
        let during = host();
        ip("link set nic down");
        ip("link set nic up");
        assert_ne!(host(), during, "the kernel forgets the proxied neighbour");
        refresh(&config.local.run_dir).unwrap();
        assert_eq!(host(), during);
        refresh(&config.local.run_dir).unwrap();
        assert_eq!(host(), during);
    });
}

#[test]
fn an_ipv6_cluster_ip_is_nobodys_ordinary_address_and_needs_ipv6() {
    in_namespace(|config| {
        let config = dual(config, Mode::Multicast);
        ip("address add fd00::8/64 dev nic nodad");
        let error = Link::setup(&config, &interface(), MAC).unwrap_err().to_string();
        assert!(
            error.contains("fd00::8 is an address of interface nic; hint: ip address del fd00::8/64"),
            "{error}"
        );
        ip("address del fd00::8/64 dev nic");
        fs::write("/proc/sys/net/ipv6/conf/nic/disable_ipv6", "1").unwrap();
        let before = host();
        let error = Link::setup(&config, &interface(), MAC).unwrap_err().to_string();
        assert!(error.contains("fd00::8 needs IPv6, which is off on interface nic"), "{error}");
        assert_eq!(host(), before);
    });
}

#[test]
fn a_record_of_the_version_before_is_understood() {
    in_namespace(|config| {
        ip("address add 192.168.50.8/32 dev lo scope host");
        let nic = interface();
        let record = format!(
            r#"{{"netns":{},"index":{},"settings":[{{"interface":"nic","name":"arp_ignore","was":0,"set":3}}],"mac":null,"addresses":["192.168.50.8"]}}"#,
            nic.netns, nic.index
        );
        fs::write(config.local.run_dir.join("host-state.json"), record).unwrap();
        teardown(&config.local.run_dir).unwrap();
        assert!(!ip("-o address show dev lo").contains("192.168.50.8"));
    });
}

#[test]
fn settings_that_would_keep_frames_from_the_service_are_told() {
    in_namespace(|config| {
        assert_eq!(set_up(config).warnings, [""; 0]);
        set("nic", "drop_unicast_in_l2_multicast", 1);
        fs::write("/proc/sys/net/ipv6/conf/all/drop_unicast_in_l2_multicast", "1").unwrap();
        let mut config = config.clone();
        config.local.xdp_interface = Some("peer".to_owned());
        config.local.vlans = vec![50];
        let warnings = set_up(&config).warnings;
        assert!(
            warnings[0].starts_with("net.ipv4.conf.nic.drop_unicast_in_l2_multicast is 1"),
            "{warnings:?}"
        );
        assert!(
            warnings[1].starts_with("net.ipv6.conf.all.drop_unicast_in_l2_multicast is 1"),
            "{warnings:?}"
        );
        // As the driver of veth does unless it is told otherwise.
        assert!(warnings[2].ends_with("ethtool -K peer rxvlan off"), "{warnings:?}");
        assert_eq!(super::recorded(&config.local.run_dir), Some(Interface::inspect("peer").unwrap().key()));
        teardown(&config.local.run_dir).unwrap();
    });
}

#[test]
fn observing_changes_nothing() {
    in_namespace(|config| {
        let mut config = config.clone();
        config.cluster.observe = true;
        let before = host();
        drop(Link::setup(&config, &interface(), MAC).unwrap());
        assert_eq!(host(), before);
    });
}

#[test]
fn the_kernel_answers_nobody_for_the_cluster_ip_but_still_for_other_addresses() {
    in_namespace(|config| {
        ip("address add 10.9.9.9/32 dev lo");
        ip("address add fd00::6/64 dev nic nodad");
        let link = set_up(&dual(config, Mode::Multicast));
        let asks = |address: &str| preflight::probe_from("peer", address.parse().unwrap()).unwrap();
        assert!(asks("192.168.50.8").is_empty());
        assert_eq!(asks("10.9.9.9"), [interface().mac]);
        assert!(asks("fd00::8").is_empty());
        assert_eq!(asks("fd00::6"), [interface().mac]);
        link.teardown().unwrap();
    });
}

#[test]
fn preflight_tells_what_is_wrong_with_interface_and_network() {
    type Spoil = fn(&mut Config);
    let cases: [(Spoil, &str, bool); 6] = [
        (|config| config.local.interface = "eth7".into(), "there is no interface eth7; hint:", true),
        (
            |config| config.cluster.nodes[0].address = [192, 168, 50, 9].into(),
            "interface nic has 192.168.50.6, not",
            true,
        ),
        (
            |config| config.cluster.cluster_ips[0].address = [10, 0, 0, 8].into(),
            "cluster IP 10.0.0.8 is not in the network of interface nic, which has 192.168.50.6/24",
            true,
        ),
        // Seen from `nic`, the other end of the cable is another machine.
        (
            |_| drop(ip("address add 192.168.50.8/32 dev other")),
            "answers for cluster IP 192.168.50.8; hint:",
            false,
        ),
        (
            |config| {
                ip("address del 192.168.50.8/32 dev other");
                ip("address add fd00::8/64 dev peer nodad");
                *config = dual(config, Mode::Multicast);
            },
            "answers for cluster IP fd00::8; hint:",
            false,
        ),
        (|_| drop(ip("link set nic down")), "interface nic is down; hint: ip link set nic up", false),
    ];
    in_namespace(move |config| {
        assert_eq!(preflight::check(config, MAC, false).unwrap(), interface());
        for (spoil, expected, configuration) in cases {
            let mut config = config.clone();
            spoil(&mut config);
            let errors = preflight::check(&config, MAC, false).unwrap_err();
            assert!(errors.to_string().contains(expected), "{expected}: {errors}");
            assert_eq!(errors.is_configuration(), configuration, "{expected}");
        }
    });
}

#[test]
fn a_fellow_nodes_answer_is_no_obstacle_and_a_taken_port_is() {
    in_namespace(|config| {
        ip("address add 192.168.50.8/32 dev other");
        let fellow = Interface::inspect("peer").unwrap().mac;
        assert!(preflight::check(config, fellow, false).is_ok());
        let _taken = std::net::UdpSocket::bind("0.0.0.0:7644").unwrap();
        let errors = preflight::check(config, fellow, false).unwrap_err().to_string();
        assert!(errors.contains("UDP port 7644 of 192.168.50.6 is taken by another program"), "{errors}");
        assert!(preflight::check(config, fellow, true).is_ok(), "the earlier agent's own");
    });
}

#[test]
fn a_port_is_taken_by_who_listens_on_the_cluster_ip_or_on_all_addresses_alone() {
    in_namespace(|config| {
        let mut config = config.clone();
        config.cluster.sites.push(Site {
            names: vec!["mail.example.test".to_owned()],
            listen: vec!["192.168.50.8:443".parse().unwrap()],
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            redirect: Vec::new(),
            tls: Default::default(),
            service: crate::config::model::Service::to_farm(
                "exchange",
                crate::config::model::Bounds::default(),
            ),
        });
        let elsewhere = TcpListener::bind("192.168.50.6:443").unwrap();
        assert_eq!(preflight::check(&config, MAC, false).unwrap(), interface());
        drop(elsewhere);
        let _everywhere = listener_on("0.0.0.0:443");
        let errors = preflight::check(&config, MAC, false).unwrap_err().to_string();
        assert!(errors.contains("TCP port 443 of 192.168.50.8 is taken by another program"), "{errors}");
    });
}

/// A process that another test has just forked has all sockets of this one until it runs its program: one that was closed here may
/// listen for a moment still.
fn listener_on(address: &str) -> TcpListener {
    for _ in 0..1000 {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            listening => return listening.unwrap(),
        }
    }
    panic!("{address} never became free");
}

#[test]
fn a_carrier_that_came_back_was_lost_all_the_same() {
    in_namespace(|_| {
        let before = interface();
        ip("link set peer down");
        assert!(!interface().carrier);
        ip("link set peer up");
        let after = interface();
        assert_eq!((after.carrier, after.carrier_losses), (true, before.carrier_losses + 1));
    });
}

#[test]
fn an_interface_is_told_as_it_is() {
    in_namespace(|_| {
        ip("route add default via 192.168.50.1");
        let nic = interface();
        assert_eq!(nic.addresses, [(Ipv4Addr::new(192, 168, 50, 6), 24)]);
        assert_eq!((nic.kind.as_deref(), nic.up, nic.carrier), (Some("veth"), true, true));
        assert_eq!(nic.gateway, Some(Ipv4Addr::new(192, 168, 50, 1).into()));
        ip("route del default via 192.168.50.1");
        assert_eq!(interface().gateway, None);
        ip("-6 addr add fd00:50::6/64 dev nic nodad");
        ip("-6 route add default via fd00:50::1 dev nic");
        let nic = interface();
        assert_eq!(nic.gateway, Some("fd00:50::1".parse().unwrap()), "a router of IPv6 alone");
        assert_eq!(nic.asks_from(), Some("fd00:50::6".parse().unwrap()), "the only one");
        ip("-6 addr add fe80::6/64 dev nic nodad");
        assert_eq!(interface().asks_from(), Some("fe80::6".parse().unwrap()));
        let error = Interface::inspect("eth7").unwrap_err();
        assert!(matches!(error, InspectError::Missing { .. }));
        assert!(error.to_string().ends_with("one of: nic, other, peer"), "{error}");
    });
}

#[test]
fn a_second_agent_on_an_interface_is_refused_with_the_firsts_pid() {
    let folder = folder();
    let first = Lock::take_in(&folder, "1-2", "eth0").unwrap();
    let error = Lock::take_in(&folder, "1-2", "eth0").unwrap_err().to_string();
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    drop(Lock::take_in(&folder, "1-3", "eth1").unwrap());
    drop(first);
    drop(Lock::take_in(&folder, "1-2", "eth0").unwrap());
    assert!(!folder.exists(), "nothing is left");
}

#[test]
fn a_run_folder_without_record_needs_no_teardown() {
    teardown(Path::new("/nonexistent/rollcall")).unwrap();
}

/// Runs `test` in a new network namespace with the interfaces `nic` (192.168.50.6/24), `peer` (the other end) and `other`.
fn in_namespace(test: impl FnOnce(&Config) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: only the network namespace is left, on which no other thread's memory or descriptors depend.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("these tests need root");
        // Without link-local addresses, whose state changes with time.
        fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1").unwrap();
        for command in [
            "link set lo up",
            "link add nic type veth peer name peer",
            "link add other type bridge",
            "address add 192.168.50.6/24 dev nic",
            "link set nic up",
            "link set peer up",
            "link set other up",
        ] {
            ip(command);
        }
        let run_dir = folder();
        test(&config(run_dir.clone()));
        let _ = fs::remove_dir_all(run_dir);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn config(run_dir: PathBuf) -> Config {
    let file = run_dir.join("cluster.toml");
    fs::create_dir_all(&run_dir).unwrap();
    let text = "[cluster]\nip = \"192.168.50.8/24\"\nmode = \"multicast\"\n\
                [[node]]\nname = \"arr1\"\naddress = \"192.168.50.6\"\npriority = 1\n";
    fs::write(&file, text).unwrap();
    let mut config = crate::config::load_for(&file, None).unwrap();
    config.local.interface = "nic".to_owned();
    config.local.run_dir = run_dir;
    config
}

/// `config` in this mode, with an IPv6 cluster IP beside the other.
fn dual(config: &Config, mode: Mode) -> Config {
    let mut config = config.clone();
    config.cluster.mode = mode;
    config.cluster.cluster_ips.push(ClusterIp { address: "fd00::8".parse().unwrap(), prefix: 64 });
    config
}

fn set_up(config: &Config) -> Link {
    let mac = cluster_mac(config.cluster.mode, config.cluster.cluster_ips[0].address);
    Link::setup(config, &Interface::inspect(&config.local.interface).unwrap(), mac).unwrap()
}

fn interface() -> Interface {
    Interface::inspect("nic").unwrap()
}

/// All that `setup` may touch, once the kernel has done what it puts off: an IPv6 address is tentative for a moment, and its local
/// route comes a little later, on a busy machine much later.
fn host() -> BTreeMap<String, String> {
    let mut before = look();
    for _ in 0..500 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let now = look();
        if now == before && !now.values().any(|text| text.contains("tentative")) {
            return now;
        }
        before = now;
    }
    panic!("the host does not come to rest: {before:?}");
}

fn look() -> BTreeMap<String, String> {
    let mut host = BTreeMap::new();
    for interface in ["all", "default", "lo", "nic", "peer", "other"] {
        for name in ["arp_announce", "arp_ignore"] {
            host.insert(format!("{interface}/{name}"), setting(interface, name));
        }
    }
    let commands = [
        "-o address show dev lo",
        "-o address show dev nic",
        "maddress show dev nic",
        "-6 neighbour show proxy",
        "-4 route show table all",
        "-6 route show dev lo table all",
    ];
    for command in commands {
        // Their order says nothing.
        let mut lines: Vec<_> = ip(command).lines().map(str::to_owned).collect();
        lines.sort_unstable();
        host.insert(command.to_owned(), lines.join("\n"));
    }
    host.insert("promiscuous".to_owned(), ip("link show dev nic").contains("PROMISC").to_string());
    host
}

fn setting(interface: &str, name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{interface}/{name}")).unwrap().trim().to_owned()
}

fn set(interface: &str, name: &str, value: u32) {
    fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/{name}"), value.to_string()).unwrap();
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    // Lifetimes count down and say nothing about what was set up.
    String::from_utf8(output.stdout).unwrap()
}

fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("rollcall-link-{}-{number}", std::process::id()))
}
