//! The sockets for heartbeats, and which datagrams the kernel lets into them. Classic BPF (Documentation/networking/filter.rst); a
//! source can be forged, so what it lets in proves nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

use crate::sys::datagrams::{choose_socket_by, stamp_arrivals};

/// How much may wait for a paused agent: at 64 nodes half a second of heartbeats.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How much of strangers may wait.
const STRANGERS_BUFFER: usize = 32 << 10;

/// Where the IPv4 header begins for a filter (linux/filter.h: SKF_NET_OFF), and the source address in it.
const SOURCE: u32 = (-0x10_0000_i32 as u32) + 12;
/// Where a filter of a UDP socket finds the payload.
const PAYLOAD: u32 = 8;
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALL: u32 = u32::MAX;

/// For datagrams of the nodes with these addresses. Nobody else can have a socket there.
pub(super) fn of_nodes(
    own: SocketAddrV4,
    sources: impl Iterator<Item = Ipv4Addr> + Clone,
    may_come_later: bool,
) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // An address of which the interface is not there yet may be bound all the same.
    socket.set_freebind_v4(may_come_later)?;
    socket.bind(&own.into())?;
    socket.set_nonblocking(true)?;
    let udp = UdpSocket::from(socket);
    stamp_arrivals(&udp)?;
    only_from(&udp, sources)?;
    // Beyond the system's limit where this process may; else what the limit allows.
    if set_socket_recv_buffer_size_force(&udp, RECEIVE_BUFFER).is_err() {
        set_socket_recv_buffer_size(&udp, RECEIVE_BUFFER)?;
    }
    Ok(udp)
}

/// For datagrams of all others to the address of `nodes`, so that a node that comes from a wrong address is noticed, and what it
/// sends takes neither room nor time of the others'.
pub(super) fn of_strangers(
    nodes: &UdpSocket,
    sources: impl Iterator<Item = Ipv4Addr> + Clone,
) -> io::Result<UdpSocket> {
    // Only now: its address was bound without, so no other agent has one there, and the first of the two is its own.
    SockRef::from(nodes).set_reuse_port(true)?;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&nodes.local_addr()?.into())?;
    socket.set_nonblocking(true)?;
    let strangers = UdpSocket::from(socket);
    set_socket_recv_buffer_size(&strangers, STRANGERS_BUFFER)?;
    choose_by(&strangers, sources)?;
    only_ours(&strangers)?;
    Ok(strangers)
}

/// Gives datagrams from these addresses to the first of both sockets, and all others to this one.
pub(super) fn choose_by(
    strangers: &UdpSocket,
    sources: impl Iterator<Item = Ipv4Addr> + Clone,
) -> io::Result<()> {
    choose_socket_by(strangers, &mut by_source(sources, 0, 1)?)
}

/// Lets the kernel drop datagrams from other addresses than these before they take room in the queue, or the time of a
/// look at their seal.
pub(super) fn only_from(udp: &UdpSocket, sources: impl Iterator<Item = Ipv4Addr> + Clone) -> io::Result<()> {
    SockRef::from(udp).attach_filter(&by_source(sources, ALL, 0)?)
}

/// Lets the kernel drop what does not begin as our datagrams do.
fn only_ours(udp: &UdpSocket) -> io::Result<()> {
    let magic = u32::from_be_bytes(super::super::wire::MAGIC);
    SockRef::from(udp).attach_filter(&[
        SockFilter::new(LOAD_WORD, 0, 0, PAYLOAD),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, magic),
        SockFilter::new(RETURN, 0, 0, ALL),
        SockFilter::new(RETURN, 0, 0, 0),
    ])
}

/// A program that gives `known` for datagrams from `sources` and `other` for all others.
fn by_source(
    sources: impl Iterator<Item = Ipv4Addr> + Clone,
    known: u32,
    other: u32,
) -> io::Result<Vec<SockFilter>> {
    let count = u8::try_from(sources.clone().count()).map_err(io::Error::other)?;
    let mut program = vec![SockFilter::new(LOAD_WORD, 0, 0, SOURCE)];
    // From each comparison over those left and over the other answer.
    let compare = |(source, left): (Ipv4Addr, u8)| SockFilter::new(JUMP_IF_EQUAL, left, 0, u32::from(source));
    program.extend(sources.zip((1..=count).rev()).map(compare));
    program.push(SockFilter::new(RETURN, 0, 0, other));
    program.push(SockFilter::new(RETURN, 0, 0, known));
    Ok(program)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::datagrams::{BATCH, Room, send};
    use crate::wall::WallTime;

    fn sources() -> impl Iterator<Item = Ipv4Addr> + Clone {
        [[127, 0, 0, 2], [127, 0, 0, 3]].map(Ipv4Addr::from).into_iter()
    }

    fn nodes() -> UdpSocket {
        of_nodes(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), sources(), false).unwrap()
    }

    fn say(source: &str, text: &[u8], to: &UdpSocket) {
        UdpSocket::bind((source, 0)).unwrap().send_to(text, to.local_addr().unwrap()).unwrap();
    }

    fn heard(by: &UdpSocket) -> Vec<u8> {
        let (mut heard, mut room) = (Vec::new(), Room::default());
        while let Ok(datagrams) = room.receive(by, 2) {
            let datagrams = datagrams.to_vec();
            datagrams.iter().for_each(|datagram| heard.extend_from_slice(room.bytes(datagram)));
        }
        heard
    }

    #[test]
    fn the_kernel_drops_datagrams_from_other_addresses_than_the_peers() {
        let nodes = nodes();
        for (source, text) in
            [("127.0.0.9", b"a"), ("127.0.0.2", b"b"), ("127.0.0.1", b"c"), ("127.0.0.3", b"d")]
        {
            say(source, text, &nodes);
        }
        assert_eq!(heard(&nodes), b"bd");
    }

    #[test]
    fn what_comes_from_other_addresses_and_looks_like_ours_has_a_socket_of_its_own() {
        let nodes = nodes();
        let strangers = of_strangers(&nodes, sources()).unwrap();
        for (source, text) in [
            ("127.0.0.9", b"RLCL1"),
            ("127.0.0.2", b"RLCL2"),
            ("127.0.0.9", b"noise"),
            ("127.0.0.9", b"RLCL3"),
            ("127.0.0.3", b"RLCL4"),
        ] {
            say(source, text, &nodes);
        }
        assert_eq!(heard(&nodes), b"RLCL2RLCL4");
        assert_eq!(heard(&strangers), b"RLCL1RLCL3");
    }

    #[test]
    fn a_second_agent_cannot_take_the_address_of_the_first() {
        let nodes = nodes();
        let _strangers = of_strangers(&nodes, sources()).unwrap();
        let std::net::SocketAddr::V4(own) = nodes.local_addr().unwrap() else { panic!("IPv4") };
        let second = of_nodes(own, sources(), false);
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_datagram_bears_its_source_and_the_time_of_its_arrival() {
        let nodes = nodes();
        let before = WallTime::now();
        say("127.0.0.2", b"x", &nodes);
        let after = WallTime::now();
        let mut room = Room::default();
        let [datagram] = *room.receive(&nodes, BATCH).unwrap() else { panic!("one was sent") };
        assert_eq!((datagram.length, datagram.from), (1, Ipv4Addr::new(127, 0, 0, 2)));
        let stamp = u64::try_from(datagram.stamp.unwrap().as_millis()).unwrap();
        assert!((before.unix_ms()..=after.unix_ms()).contains(&stamp));
        assert_eq!(room.receive(&nodes, BATCH).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn datagrams_that_come_together_each_bear_their_own_source_and_time() {
        let nodes = nodes();
        // The kernel begins to stamp a moment after it was asked to; until then a datagram gets the time at which it is read.
        say("127.0.0.2", b"zero", &nodes);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(heard(&nodes), b"zero");
        say("127.0.0.2", b"one", &nodes);
        std::thread::sleep(Duration::from_millis(20));
        say("127.0.0.3", b"two, longer", &nodes);
        say("127.0.0.2", b"", &nodes);
        let mut room = Room::default();
        let datagrams = room.receive(&nodes, BATCH).unwrap().to_vec();
        let seen: Vec<_> =
            datagrams.iter().map(|datagram| (datagram.from.octets()[3], room.bytes(datagram))).collect();
        assert_eq!(seen, [(2, &b"one"[..]), (3, b"two, longer"), (2, b"")]);
        let stamps: Vec<_> = datagrams.iter().map(|datagram| datagram.stamp.unwrap()).collect();
        assert!(stamps[0] < stamps[1] && stamps[1] <= stamps[2], "{stamps:?}");
    }

    #[test]
    fn datagrams_are_sent_in_their_order_up_to_the_first_that_cannot_be() {
        let (nodes, sender) = (nodes(), UdpSocket::bind("127.0.0.2:0").unwrap());
        let std::net::SocketAddr::V4(to) = nodes.local_addr().unwrap() else { panic!("IPv4") };
        let too_long = vec![0; 70_000];
        let all: [&[u8]; 4] = [b"a", b"b", &too_long, b"c"];
        let parcels = |from: usize| all[from..].iter().map(|bytes| (to, *bytes));
        assert_eq!(send(&sender, parcels(0)).unwrap(), 2);
        assert_eq!(send(&sender, parcels(2)).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(send(&sender, parcels(3)).unwrap(), 1);
        assert_eq!(heard(&nodes), b"abc");
        assert_eq!(send(&sender, std::iter::repeat_n((to, &b"x"[..]), BATCH + 9)).unwrap(), BATCH);
        assert_eq!(heard(&nodes).len(), BATCH);
    }
}
