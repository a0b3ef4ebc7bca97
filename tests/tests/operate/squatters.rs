//! Another machine in the DMZ uses an address that is a node's own, or the cluster IP.

use std::net::{Ipv4Addr, UdpSocket};

use rollcall_tests::lab::{CLUSTER_IP, GATEWAY, NODE_DMZ, Plan, mac_text};
use rollcall_tests::node::Cluster;
use rollcall_tests::sys::Namespace;

/// The machine's MAC address.
const MAC: [u8; 6] = [0x02, 0xbb, 0, 0, 0, 1];

#[test]
fn a_node_whose_own_address_another_machine_has_tells_it_and_does_not_start_beside_it() {
    taken([Ipv4Addr::new(192, 168, 50, 6), Ipv4Addr::new(192, 168, 50, 7)], "own-address-taken");
}

#[test]
fn nodes_tell_of_a_machine_that_answers_for_the_cluster_ip_and_do_not_start_beside_it() {
    taken([CLUSTER_IP; 2], "cluster-ip-taken");
}

/// The machine has the first address while arr1, the default host, serves, and the second while arr2 starts.
fn taken([of_serving, of_starting]: [Ipv4Addr; 2], kind: &str) {
    let mut cluster = Cluster::start_on(&Plan::light(2)).unwrap();
    cluster.node("arr2").control(&["stop"]).unwrap();
    cluster.node("arr2").wait_until("it has left", |status| status.state == "stopped").unwrap();

    let squatter = cluster.lab.stranger("squatter", of_serving).unwrap();
    squatter.ip(&format!("link set {NODE_DMZ} address {}", mac_text(MAC))).unwrap();
    speak(&squatter, of_serving);
    let serving = cluster.node("arr1");
    let told = serving.wait_for_event(kind, |event| event.kind == kind).unwrap();
    assert!(told.warning && told.text.contains(&mac_text(MAC)), "{told:?}");
    let status =
        serving.wait_until("its status says so", |status| status.problem.as_ref() == Some(&told.text));
    let status = status.unwrap();
    assert_eq!((status.state.as_str(), status.lease), ("serving", true), "a node that serves goes on");

    squatter.ip(&format!("addr flush dev {NODE_DMZ}\naddr add {of_starting}/24 dev {NODE_DMZ}")).unwrap();
    let starting = cluster.node("arr2");
    starting.control(&["start"]).unwrap();
    let told = starting.wait_for_event(kind, |event| event.kind == kind).unwrap();
    assert!(told.warning && told.text.contains(&mac_text(MAC)), "{told:?}");
    let status =
        starting.wait_until("its status says so", |status| status.problem.as_ref() == Some(&told.text));
    let status = status.unwrap();
    assert_eq!((status.state.as_str(), status.lease), ("starting", false), "it starts beside the machine");

    squatter.ip(&format!("link set {NODE_DMZ} down")).unwrap();
    cluster.converge().unwrap();
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// Says something to the router, so that all hear by ARP who has that address.
fn speak(squatter: &Namespace, address: Ipv4Addr) {
    let socket = squatter.enter(|| UdpSocket::bind((address, 0))).unwrap().unwrap();
    socket.send_to(b"", (GATEWAY, 9)).unwrap();
}
