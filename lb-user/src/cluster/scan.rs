//! Which connections this host has, and in which buckets, asked of the kernel by INET_DIAG: the only truth on that, and off the
//! cluster thread.

use std::io;
use std::net::{IpAddr, SocketAddr};

use lb_common::table::Bucket;
use lb_common::verdict::LocalSocket;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};

use super::sets::BucketSet;

/// The buckets of each of `tables` owner tables in which this host has TCP connections, TIME_WAIT included.
///
/// `locate` gives the owner table and the bucket of a connection, from its local and its remote end; `None` if it is not for
/// a cluster IP. Takes time in proportion to the host's connections.
pub fn connections(
    tables: usize,
    locate: impl Fn(SocketAddr, SocketAddr) -> Option<(usize, Bucket)>,
) -> io::Result<Vec<BucketSet>> {
    let mut sets = vec![BucketSet::EMPTY; tables];
    for_each_connection(|local, remote, _| {
        if let Some((table, bucket)) = locate(local, remote)
            && let Some(set) = sets.get_mut(table)
        {
            set.insert(bucket);
        }
    })?;
    Ok(sets)
}

/// The state of a TCP connection, by the names of `ss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Both sides may send.
    Established,
    /// Asked for by this host.
    SynSent,
    /// Asked for by the client, which has not yet confirmed it.
    SynReceived,
    /// One side or both have ended theirs.
    Closing,
    /// Ended lately.
    TimeWait,
}

impl State {
    /// The kernel's include/net/tcp_states.h; 7 is no connection, 10 a listener.
    const fn of(number: u8) -> Self {
        match number {
            2 => Self::SynSent,
            3 | 12 => Self::SynReceived,
            4 | 5 | 8 | 9 | 11 => Self::Closing,
            6 => Self::TimeWait,
            _ => Self::Established,
        }
    }

    /// As one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::SynSent => "syn-sent",
            Self::SynReceived => "half-open",
            Self::Closing => "closing",
            Self::TimeWait => "time-wait",
        }
    }
}

/// Calls `see` with every TCP connection of this host: its local end, its remote end, its state. Takes time in proportion to
/// their number.
pub fn for_each_connection(mut see: impl FnMut(SocketAddr, SocketAddr, State)) -> io::Result<()> {
    for family in [AF_INET, AF_INET6] {
        let any = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
        ask(family, NLM_F_DUMP, any, |response| {
            let (local, remote) = ends(response);
            see(local, remote, State::of(response.header.state));
        })?;
    }
    Ok(())
}

/// Ends every TCP connection of this host that `ends` says, with a reset to the client; gives how many. Takes time in proportion to the
/// host's connections. Needs CAP_NET_ADMIN, and a kernel that can (CONFIG_INET_DIAG_DESTROY).
pub fn end_connections(ends: impl Fn(SocketAddr, SocketAddr) -> bool) -> io::Result<usize> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let any = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
        ask(family, NLM_F_DUMP, any, |response| {
            let (local, remote) = self::ends(response);
            if ends(local, remote) {
                found.push((family, response.header.socket_id.clone()));
            }
        })?;
    }
    let mut ended = 0;
    for (family, id) in found {
        match destroy(family, id) {
            Ok(()) => ended += 1,
            // It has ended by itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ended)
}

/// Ends one connection.
fn destroy(family: u8, id: SocketId) -> io::Result<()> {
    /// include/uapi/linux/sock_diag.h; a request is otherwise as a question.
    const SOCK_DESTROY: u16 = 21;
    let mut bytes = request(family, NLM_F_ACK, id);
    // The type is the third field of a netlink header, after the length.
    if let Some(place) = bytes.get_mut(4..6) {
        place.copy_from_slice(&SOCK_DESTROY.to_ne_bytes());
    }
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (bytes, _) = socket.recv_from_full()?;
    let message = NetlinkMessage::<SockDiagMessage>::deserialize(&bytes).map_err(io::Error::other)?;
    // An acknowledgement is an error without a code.
    let NetlinkPayload::Error(error) = message.payload else {
        return Err(io::Error::other(format!("unknown netlink message {:?}", message.payload)));
    };
    if error.code.is_some() { Err(error.to_io()) } else { Ok(()) }
}

/// What this host's kernel has for the addresses and ports of a TCP packet, as the XDP program would find it. Whether a packet
/// carries the right numbers is another question: the two facts of that kind are false.
pub fn socket_of(local: SocketAddr, remote: SocketAddr) -> io::Result<LocalSocket> {
    const LISTEN: u8 = 10;
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    let id = SocketId {
        source_address: local.ip(),
        source_port: local.port(),
        destination_address: remote.ip(),
        destination_port: remote.port(),
        interface_id: 0,
        cookie: NO_COOKIE,
    };
    let mut found = LocalSocket::None;
    let asked = ask(family, 0, id, |response| {
        found = match (response.header.state, State::of(response.header.state)) {
            (LISTEN, _) => LocalSocket::Listener { cookie_ok: false },
            (_, State::SynReceived) => LocalSocket::HalfOpen { ack_ok: false },
            (_, State::TimeWait) => LocalSocket::TimeWait,
            (_, State::Established | State::SynSent | State::Closing) => LocalSocket::Open,
        };
    });
    match asked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LocalSocket::None),
        asked => asked.map(|()| found),
    }
}

/// Any socket, whatever its cookie.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// Sends a request and calls `see` with each socket of the answer.
fn ask(family: u8, flags: u16, id: SocketId, mut see: impl FnMut(&InetResponse)) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    socket.send(&request(family, flags, id), 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    see(&response);
                    // Of a dump more may follow, and its end is told.
                    if flags != NLM_F_DUMP {
                        return Ok(());
                    }
                }
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(_) | NetlinkPayload::Noop | NetlinkPayload::Overrun(_) => {}
                payload => return Err(io::Error::other(format!("unknown netlink message {payload:?}"))),
            }
            // Messages are aligned to four bytes; one never has length 0, or deserialize had failed.
            let length = usize::try_from(message.header.length).unwrap_or(rest.len()).next_multiple_of(4);
            rest = rest.get(length.max(4)..).unwrap_or_default();
        }
    }
}

/// The local and the remote end.
fn ends(response: &InetResponse) -> (SocketAddr, SocketAddr) {
    let id = &response.header.socket_id;
    // A socket of a listener on [::] has the addresses of its IPv4 client in IPv6 form.
    let end = |address: IpAddr, port| SocketAddr::new(address.to_canonical(), port);
    (end(id.source_address, id.source_port), end(id.destination_address, id.destination_port))
}

fn request(family: u8, flags: u16, socket_id: SocketId) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut states = StateFlags::all();
    states.remove(StateFlags::LISTEN | StateFlags::CLOSE);
    let request =
        InetRequest { family, protocol: IPPROTO_TCP, extensions: ExtensionFlags::empty(), states, socket_id };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_living_connection_is_found_and_a_listener_is_none() {
        // The second makes IPv6 sockets with mapped addresses.
        for address in ["127.0.0.1:0", "[::]:0"] {
            found_at(address);
        }
    }

    fn found_at(address: &str) {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let locate =
            |local: SocketAddr, _: SocketAddr| (local.port() == port).then_some((0, Bucket::of_hash(7)));
        assert!(connections(1, locate).unwrap()[0].is_empty());
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(connections(1, locate).unwrap()[0].len(), 1);
        drop((client, server));
    }

    #[test]
    fn the_kernel_tells_what_it_has_for_a_packet() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let local = listener.local_addr().unwrap();
            let stranger = SocketAddr::new(local.ip(), 9);
            assert_eq!(socket_of(local, stranger).unwrap(), LocalSocket::Listener { cookie_ok: false });
            let mut client = TcpStream::connect(local).unwrap();
            let remote = client.local_addr().unwrap();
            let (server, _) = listener.accept().unwrap();
            assert_eq!(socket_of(local, remote).unwrap(), LocalSocket::Open);
            drop((listener, server));
            let _ = std::io::Read::read(&mut client, &mut [0]);
            drop(client);
            // The server closed first, so its end waits.
            assert_eq!(socket_of(local, remote).unwrap(), LocalSocket::TimeWait);
            assert_eq!(socket_of(local, stranger).unwrap(), LocalSocket::None);
        }
    }

    #[test]
    fn the_connections_that_are_meant_end_with_a_reset_and_no_others() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let host = if address.starts_with("[::1]") { "::1" } else { "127.0.0.1" };
            let [mut meant, other] = [(); 2].map(|()| TcpStream::connect((host, port)).unwrap());
            let _accepted = [(); 2].map(|()| listener.accept().unwrap());
            let client = meant.local_addr().unwrap();
            let ends = |local: SocketAddr, remote| local.port() == port && remote == client;
            assert_eq!(end_connections(ends).unwrap(), 1, "{address}");
            let read = std::io::Read::read(&mut meant, &mut [0]).unwrap_err();
            assert_eq!(read.kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(end_connections(ends).unwrap(), 0);
            other.set_nonblocking(true).unwrap();
            let read = std::io::Read::read(&mut &other, &mut [0]).unwrap_err();
            assert_eq!(read.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn connections_are_told_with_their_state() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let client = TcpStream::connect(local).unwrap();
        let mut states = Vec::new();
        for_each_connection(|near, _, state| states.extend((near == local).then_some(state))).unwrap();
        assert_eq!(states, [State::Established]);
        drop(client);
    }
}
