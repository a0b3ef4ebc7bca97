//! The XDP program on the interfaces that the tests make: where it is attached, and what it and the others' kernels make of
//! hearing tests and announcements.

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::announce::Announcer;
use crate::arp::Arp;
use crate::clock::Time;
use crate::config::model::{Priority, XdpChoice};
use crate::dataplane::{Dataplane, Plan, pins_of};
use crate::hearing::{Path as Ends, Sender};
use crate::ndp;
use crate::sys::{FrameSocket, Received};

#[test]
fn a_hearing_test_is_heard_by_who_lets_the_cluster_mac_in() {
    in_namespace(|config| {
        mount_bpffs();
        for (mode, choice) in [
            (Mode::Multicast, XdpChoice::Auto),
            (Mode::Igmp, XdpChoice::Native),
            (Mode::Unicast, XdpChoice::Auto),
        ] {
            let config = dual(config, mode);
            let plan = Plan::new(&config, [0; 2]);
            let dataplane = Dataplane::attach(&plan, "nic", choice, &pins_of("nic").unwrap()).unwrap();
            let link = set_up(&config);
            let hearing = dataplane.hearing();
            let all = || (1..=Priority::MAX).filter_map(Priority::new);
            assert!(hearing.read(all()).unwrap().is_empty());
            let (node, before) = (Priority::new(64).unwrap(), Time::now());
            let peer = Interface::inspect("peer").unwrap();
            let own = ([192, 168, 50, 7].into(), peer.mac);
            let cluster = (config.cluster.probed(), plan.config.cluster_mac);
            let sender = Sender::open(peer.index, &Ends { node, own, cluster }).unwrap();
            let heard = (0..100).find_map(|_| {
                sender.send().unwrap();
                std::thread::sleep(Duration::from_millis(10));
                hearing.read(all()).unwrap().get(&node).copied()
            });
            // The program reads the coarse clock, which may lag a tick.
            assert!(heard.unwrap() + Time::coarse_tick() >= before, "{mode:?}: the agent's own clock");
            assert_eq!(hearing.read(all()).unwrap().len(), 1);
            link.teardown().unwrap();
            dataplane.detach().unwrap();
        }
    });
}

#[test]
fn announcements_give_the_cluster_mac_and_come_from_the_own_one() {
    in_namespace(|config| {
        let config = dual(config, Mode::Unicast);
        let mac = cluster_mac(Mode::Unicast, config.cluster.cluster_ips[0].address);
        let peer = Interface::inspect("peer").unwrap();
        let arp = FrameSocket::open(peer.index, Received::Arp).unwrap();
        let ndp = FrameSocket::open(peer.index, Received::Ipv6).unwrap();
        let nic = interface();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        // A new interface drops what it is given until the kernel has noted its carrier, on a busy machine for some seconds.
        let announce = || {
            runtime.block_on(async {
                let announcer =
                    Announcer::open(nic.index, &config.cluster.cluster_ips, mac, nic.mac).unwrap();
                // The first round goes out at once.
                let _ = tokio::time::timeout(Duration::from_millis(100), announcer.announce()).await;
            });
        };
        let first = first_frame(&announce, &arp, |frame| Arp::decode(frame).is_some());
        let first = Arp::decode(&first).unwrap();
        assert_eq!((first.from, first.sender), (nic.mac, ([192, 168, 50, 8].into(), mac)));
        let found = &first_frame(&announce, &ndp, |frame| ndp::advertised(frame).is_some());
        assert_eq!(
            ndp::advertised(found).map(|(address, mac)| (IpAddr::V6(address), mac)),
            Some(("fd00::8".parse().unwrap(), mac))
        );
        assert_eq!(found[6..12], nic.mac);
    });
}

/// The first frame that is `wanted`, after `send` was done often enough.
fn first_frame(send: &dyn Fn(), socket: &FrameSocket, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut frame = [0; 128];
    for _ in 0..100 {
        send();
        while let Ok(length) = socket.recv(&mut frame) {
            if wanted(&frame[..length]) {
                return frame[..length].to_vec();
            }
        }
    }
    panic!("no such frame came");
}

#[test]
fn an_interface_with_jumbo_frames_takes_the_program_natively() {
    in_namespace(|config| {
        mount_bpffs();
        ip("link set peer mtu 9000");
        ip("link set nic mtu 9000");
        let plan = Plan::new(config, [0; 2]);
        let pins = pins_of("nic").unwrap();
        let dataplane = Dataplane::attach(&plan, "nic", XdpChoice::Native, &pins).unwrap();
        assert_eq!(dataplane.status().xdp, "native");
        assert!(ip("link show dev nic").contains("mtu 9000"));
        dataplane.detach().unwrap();
    });
}

#[test]
fn the_program_goes_to_the_interface_beneath_and_its_pins_are_that_ones() {
    in_namespace(|config| {
        mount_bpffs();
        ip("link add link nic name upper type macvlan");
        ip("link set upper up");
        let plan = Plan::new(config, [0; 2]);
        let pins = pins_of("nic").unwrap();
        let dataplane = Dataplane::attach_beneath(&plan, "upper", "nic", XdpChoice::Auto, &pins).unwrap();
        let status = dataplane.status();
        assert_eq!((status.name.as_str(), status.xdp_interface.as_deref()), ("upper", Some("nic")));
        assert!(Interface::inspect("nic").unwrap().xdp.is_some());
        assert!(Interface::inspect("upper").unwrap().xdp.is_none());
        dataplane.detach().unwrap();
        assert!(Interface::inspect("nic").unwrap().xdp.is_none());
    });
}

fn mount_bpffs() {
    const PLACE: &str = "/sys/fs/bpf";
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    if !mounts.contains(" /sys/fs/bpf bpf ") {
        Command::new("mount").args(["-t", "bpf", "bpf", PLACE]).status().unwrap();
    }
}
