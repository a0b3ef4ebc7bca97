//! Datagrams on their way out of one socket: they are collected, and then leave in their order by few system calls.

use std::io;
use std::net::{SocketAddrV4, UdpSocket};

use crate::config::model::Priority;
use crate::sys::datagrams::send;

/// Collects datagrams. Their buffers are used again.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    parcels: Vec<Parcel>,
    /// How many of them are waiting; the others are empty.
    waiting: usize,
}

#[derive(Debug)]
struct Parcel {
    node: Priority,
    to: SocketAddrV4,
    bytes: Vec<u8>,
    beats: bool,
}

/// So many datagrams are collected at most: a round of 64 nodes.
const MOST: usize = 64;

impl Outbox {
    /// An empty buffer for a datagram to `node`; `beats`: it is a heartbeat.
    pub(super) fn add(&mut self, node: Priority, to: SocketAddrV4, beats: bool) -> &mut Vec<u8> {
        if self.waiting == self.parcels.len() {
            self.parcels.push(Parcel { node, to, bytes: Vec::with_capacity(1500), beats });
        }
        let parcel = &mut self.parcels[self.waiting];
        self.waiting += 1;
        (parcel.node, parcel.to, parcel.beats) = (node, to, beats);
        parcel.bytes.clear();
        &mut parcel.bytes
    }

    /// Whether it has to be sent before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= MOST
    }

    /// Sends all that was added. One that cannot be sent holds up none of the others; gives the first heartbeat that was not sent, and why.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> Option<(Priority, io::Error)> {
        let mut unsent = None;
        let mut left = &self.parcels[..self.waiting];
        while let [first, rest @ ..] = left {
            match send(socket, left.iter().map(|parcel| (parcel.to, &parcel.bytes[..]))) {
                Ok(sent) => left = left.get(sent.max(1)..).unwrap_or_default(),
                Err(error) => {
                    if first.beats && unsent.is_none() {
                        unsent = Some((first.node, error));
                    }
                    left = rest;
                }
            }
        }
        self.waiting = 0;
        unsent
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn node(number: u8) -> Priority {
        Priority::new(number).unwrap()
    }

    fn heard(by: &UdpSocket) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut buffer = [0; 16];
        while let Ok(length) = by.recv(&mut buffer) {
            heard.extend_from_slice(&buffer[..length]);
        }
        heard
    }

    #[test]
    fn what_cannot_be_sent_holds_up_nothing_and_the_first_such_heartbeat_is_named() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_nonblocking(true).unwrap();
        let std::net::SocketAddr::V4(good) = receiver.local_addr().unwrap() else { panic!("IPv4") };
        // Without SO_BROADCAST the kernel refuses this one.
        let bad = SocketAddrV4::new(Ipv4Addr::BROADCAST, 7644);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        type Parcels<'a> = &'a [(SocketAddrV4, bool)];
        let rows: [(&str, Parcels<'_>, &[u8], Option<u8>); 6] = [
            ("all go out", &[(good, true), (good, false), (good, true)], b"012", None),
            ("one in the middle", &[(good, true), (bad, true), (good, true)], b"02", Some(1)),
            ("the first and the last", &[(bad, true), (good, true), (bad, true)], b"1", Some(0)),
            ("one that is no heartbeat", &[(good, true), (bad, false), (good, true)], b"02", None),
            ("no heartbeat, then one", &[(bad, false), (bad, true), (good, true)], b"2", Some(1)),
            ("none", &[], b"", None),
        ];
        let mut outbox = Outbox::default();
        for (what, parcels, expected, unsent) in rows {
            for ((to, beats), number) in parcels.iter().zip(0u8..) {
                outbox.add(node(number + 1), *to, *beats).push(b'0' + number);
            }
            let told = outbox.send(&socket).map(|(node, error)| (node, error.kind()));
            let expected_told = unsent.map(|number| (node(number + 1), io::ErrorKind::PermissionDenied));
            assert_eq!(told, expected_told, "{what}");
            assert_eq!(heard(&receiver), expected, "{what}");
        }
    }

    #[test]
    fn a_round_of_the_largest_cluster_goes_out_whole() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_nonblocking(true).unwrap();
        let std::net::SocketAddr::V4(to) = receiver.local_addr().unwrap() else { panic!("IPv4") };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut outbox = Outbox::default();
        for number in 1..=64 {
            assert!(!outbox.is_full());
            outbox.add(node(number), to, true).push(number);
        }
        assert!(outbox.is_full());
        assert!(outbox.send(&socket).is_none());
        assert_eq!(heard(&receiver), (1..=64).collect::<Vec<u8>>());
    }
}
