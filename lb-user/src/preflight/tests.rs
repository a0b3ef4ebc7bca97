//! The parts that no machine state decides; the ARP probe on a live interface is in `dataplane/link_tests.rs`.

use super::*;

#[test]
fn only_an_arp_reply_for_the_address_counts() {
    let mac = [2, 0, 0, 0, 0, 9];
    let address = Ipv4Addr::new(192, 168, 50, 8);
    let question = Arp::question(address, BROADCAST, (address, mac));
    assert_eq!(answer_for(&question.encode(), address), None, "a request");
    let reply = Arp { operation: Operation::Reply, ..question };
    assert_eq!(answer_for(&reply.encode(), address), Some(mac));
    assert_eq!(answer_for(&reply.encode(), Ipv4Addr::new(192, 168, 50, 9)), None);
    let mut other = reply.encode();
    other[13] = 0;
    assert_eq!(answer_for(&other, address), None, "not ARP");
}

#[test]
fn a_wrong_interface_is_the_configurations_fault_and_a_foreign_answer_the_networks() {
    let missing = InspectError::Missing { name: "eth7".into(), known: "eth0".into() };
    assert!(PreflightErrors(vec![missing.into()]).is_configuration());
    let answered = PreflightError::Answered { address: Ipv4Addr::LOCALHOST, mac: "02:00:00:00:00:01".into() };
    assert!(!PreflightErrors(vec![answered]).is_configuration());
}
