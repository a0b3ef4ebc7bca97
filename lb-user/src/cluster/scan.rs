//! Which buckets this host has connections in, asked of the kernel by INET_DIAG: the only truth on that, and off the cluster
//! thread.

use std::io;
use std::net::{IpAddr, SocketAddr};

use lb_common::table::Bucket;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
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
    for_each_connection(|local, remote| {
        if let Some((table, bucket)) = locate(local, remote)
            && let Some(set) = sets.get_mut(table)
        {
            set.insert(bucket);
        }
    })?;
    Ok(sets)
}

fn for_each_connection(mut see: impl FnMut(SocketAddr, SocketAddr)) -> io::Result<()> {
    dump(AF_INET, &mut see)?;
    dump(AF_INET6, &mut see)
}

fn dump(family: u8, see: &mut impl FnMut(SocketAddr, SocketAddr)) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    socket.send(&request(family), 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => note(&response, see),
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

fn note(response: &InetResponse, see: &mut impl FnMut(SocketAddr, SocketAddr)) {
    let id = &response.header.socket_id;
    // A socket of a listener on [::] has the addresses of its IPv4 client in IPv6 form.
    let end = |address: IpAddr, port| SocketAddr::new(address.to_canonical(), port);
    see(end(id.source_address, id.source_port), end(id.destination_address, id.destination_port));
}

fn request(family: u8) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut states = StateFlags::all();
    states.remove(StateFlags::LISTEN | StateFlags::CLOSE);
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states,
        socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
    };
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
}
