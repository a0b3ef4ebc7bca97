//! The parts that no machine state decides; the ARP probe on a live interface is in `dataplane/link/tests.rs`.

use super::*;

#[test]
fn only_an_arp_reply_for_the_address_counts() {
    let mac = [2, 0, 0, 0, 0, 9];
    let v4 = Ipv4Addr::new(192, 168, 50, 8);
    let address = IpAddr::V4(v4);
    let question = Arp::question(v4, BROADCAST, (v4, mac));
    assert_eq!(answer_for(&question.encode(), address), None, "a request");
    let reply = Arp { operation: Operation::Reply, ..question };
    assert_eq!(answer_for(&reply.encode(), address), Some(mac));
    assert_eq!(answer_for(&reply.encode(), [192, 168, 50, 9].into()), None);
    let mut other = reply.encode();
    other[13] = 0;
    assert_eq!(answer_for(&other, address), None, "not ARP");
}

#[test]
fn only_an_advertisement_of_the_ipv6_address_counts() {
    let address: std::net::Ipv6Addr = "fd00::8".parse().unwrap();
    let (own, cluster) = ([2, 0, 0, 0, 0, 9], [0x03, 0xbf, 192, 168, 50, 8]);
    assert_eq!(answer_for(&ndp::question(address, own), address.into()), None);
    let advertised = ndp::announcement(address, cluster, own);
    assert_eq!(answer_for(&advertised, address.into()), Some(cluster));
    assert_eq!(answer_for(&advertised, "fd00::9".parse().unwrap()), None);
}

#[test]
fn a_wrong_interface_is_the_configurations_fault_and_a_foreign_answer_the_networks() {
    let missing = InspectError::Missing { name: "eth7".into(), known: "eth0".into() };
    assert!(PreflightErrors(vec![missing.into()]).is_configuration());
    let answered =
        PreflightError::Answered { address: Ipv4Addr::LOCALHOST.into(), mac: "02:00:00:00:00:01".into() };
    assert!(!PreflightErrors(vec![answered]).is_configuration());
}
