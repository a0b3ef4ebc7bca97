//! The rules of the door.

use std::net::Ipv4Addr;

use super::*;

fn key(number: u8) -> VerifyingKey {
    VerifyingKey([number; 32])
}

fn node(number: u8) -> Node {
    Node { name: format!("n{number}"), address: Ipv4Addr::new(10, 0, 0, number), key: key(number) }
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

/// Nodes 1 and 2 are listed.
fn doors() -> Doors {
    let mut doors = Doors::default();
    assert_eq!(doors.set_nodes(&[node(1), node(2)]), Vec::<u64>::new());
    doors
}

/// Somebody with this key, inside.
fn inside(doors: &mut Doors, number: u8) -> u64 {
    let seat = doors.knock(address(number)).unwrap();
    doors.enter(seat, key(number)).unwrap();
    seat
}

#[test]
fn connections_are_few_from_an_address_and_leave_room_for_nodes() {
    let mut doors = doors();
    let seats: Vec<u64> = (0..8).map(|_| doors.knock(address(9)).unwrap()).collect();
    assert_eq!(doors.knock(address(9)), Err(Turned::Address));
    doors.leave(seats[3]);
    doors.knock(address(9)).unwrap();
    for number in 0..56 {
        doors.knock(address(100 + number)).unwrap();
    }
    assert_eq!(doors.knock(address(99)), Err(Turned::Full));
    doors.knock(address(1)).unwrap();
}

#[test]
fn never_more_than_128_connections() {
    let mut doors = Doors::default();
    let nodes: Vec<Node> = (1..=30).map(node).collect();
    doors.set_nodes(&nodes);
    let all: Vec<Result<u64, Turned>> =
        (1..=30).flat_map(|n| [n; 8]).map(|n| doors.knock(address(n))).collect();
    assert_eq!(all.iter().filter(|knocked| knocked.is_ok()).count(), 128);
    assert_eq!(all.last(), Some(&Err(Turned::Full)));
}

#[test]
fn strangers_come_in_only_while_admitted_and_only_so_many() {
    let mut doors = doors();
    let seat = doors.knock(address(7)).unwrap();
    assert_eq!(doors.enter(seat, key(7)), Err(Turned::Stranger));
    assert!(!doors.may_enter(key(7)) && doors.may_enter(key(1)));
    doors.admit(1);
    assert_eq!(doors.enter(seat, key(7)), Ok(None));
    let other = doors.knock(address(8)).unwrap();
    assert_eq!(doors.enter(other, key(8)), Err(Turned::Stranger));
    let again = doors.knock(address(7)).unwrap();
    assert_eq!(doors.enter(again, key(7)), Ok(Some(seat)));
    doors.leave(again);
    doors.leave(seat);
    assert_eq!(doors.enter(other, key(8)), Ok(None));
    assert!(matches!(doors.ask(other), Ok((_, Who::Stranger))));
}

#[test]
fn a_node_has_one_connection_the_newest() {
    let mut doors = doors();
    let first = inside(&mut doors, 1);
    let second = doors.knock(address(1)).unwrap();
    assert_eq!(doors.enter(second, key(1)), Ok(Some(first)));
}

#[test]
fn questions_are_bounded_by_node_across_connections_and_for_strangers_together() {
    let mut doors = doors();
    doors.admit(9);
    let first = inside(&mut doors, 1);
    let numbers: Vec<u64> = (0..4).map(|_| doors.ask(first).unwrap().0).collect();
    assert_eq!(doors.ask(first), Err(Turned::Busy));
    doors.leave(first);
    let again = inside(&mut doors, 1);
    assert_eq!(doors.ask(again), Err(Turned::Busy));
    doors.answered(numbers[0]);
    assert!(matches!(doors.ask(again), Ok((_, Who::Node(name))) if name == "n1"));
    let strangers = [inside(&mut doors, 7), inside(&mut doors, 8), inside(&mut doors, 9)];
    doors.ask(strangers[0]).unwrap();
    doors.ask(strangers[1]).unwrap();
    assert_eq!(doors.ask(strangers[2]), Err(Turned::Busy));
    let two = inside(&mut doors, 2);
    doors.ask(two).unwrap();
}

#[test]
fn who_is_listed_no_more_is_cut_off_and_who_is_now_goes_on() {
    let mut doors = doors();
    doors.admit(2);
    let (one, two, seven) = (inside(&mut doors, 1), inside(&mut doors, 2), inside(&mut doors, 7));
    doors.ask(seven).unwrap();
    assert_eq!(doors.set_nodes(&[node(2), node(7)]), [one]);
    doors.leave(one);
    assert_eq!(doors.ask(seven).unwrap().1, Who::Node("n7".to_owned()));
    assert_eq!(doors.ask(two).unwrap().1, Who::Node("n2".to_owned()));
    assert_eq!(doors.admit(0), Vec::<u64>::new());
}

#[test]
fn strangers_who_wait_for_an_answer_may_stay_when_no_more_are_admitted() {
    let mut doors = doors();
    doors.admit(2);
    let (waits, idle) = (inside(&mut doors, 7), inside(&mut doors, 8));
    let (question, _) = doors.ask(waits).unwrap();
    assert_eq!(doors.admit(0), [idle]);
    doors.leave(idle);
    assert_eq!(doors.ask(waits), Err(Turned::Stranger));
    doors.answered(question);
    assert_eq!(doors.admit(0), [waits]);
}

#[test]
fn a_seat_that_was_left_asks_and_enters_no_more() {
    let mut doors = doors();
    let seat = inside(&mut doors, 1);
    doors.leave(seat);
    assert_eq!(doors.ask(seat), Err(Turned::Gone));
    assert_eq!(doors.enter(seat, key(1)), Err(Turned::Gone));
}
