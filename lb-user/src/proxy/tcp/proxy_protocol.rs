//! The PROXY protocol's header, by which a server that trusts this node learns whom a connection is from, and this node from a proxy
//! that it trusts. Pure.
//!
//! "The PROXY protocol, versions 1 & 2" (haproxy.org, proxy-protocol.txt), sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use crate::config::model::HeaderVersion;

/// The header of a connection that `client` made to `address`.
pub fn header(version: HeaderVersion, client: SocketAddr, address: SocketAddr) -> Vec<u8> {
    let (from, to) = alike(client.ip(), address.ip());
    match version {
        HeaderVersion::V1 => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), address.port()).into_bytes()
        }
        HeaderVersion::V2 => {
            let mut block = Vec::with_capacity(LONGEST_BLOCK);
            for ip in [from, to] {
                match ip {
                    IpAddr::V4(ip) => block.extend(ip.octets()),
                    IpAddr::V6(ip) => block.extend(ip.octets()),
                }
            }
            block.extend(client.port().to_be_bytes());
            block.extend(address.port().to_be_bytes());
            version_2(PROXY, if from.is_ipv4() { TCP_OVER_IPV4 } else { TCP_OVER_IPV6 }, &block)
        }
    }
}

/// The header of a connection that this node makes for itself: a health test.
pub fn local_header(version: HeaderVersion) -> Vec<u8> {
    match version {
        HeaderVersion::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
        HeaderVersion::V2 => version_2(LOCAL, UNSPECIFIED, &[]),
    }
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Not all of a header has come yet.
    Incomplete,
    /// A header, and what it says.
    Header {
        /// Its bytes.
        length: usize,
        /// Whom the connection is from; `None`: the proxy itself, or it does not say.
        client: Option<SocketAddr>,
    },
}

/// No header stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the connection does not begin with a PROXY protocol header")]
pub struct NoHeader;

/// Reads the header at the start of what has come; at most [`LONGEST_HEADER`] bytes of it are of use.
pub fn read(came: &[u8]) -> Result<Beginning, NoHeader> {
    let begins = |start: &[u8]| {
        let most = start.len().min(came.len());
        start[..most] == came[..most]
    };
    if begins(SIGNATURE) {
        return read_version_2(came);
    }
    if begins(b"PROXY ") {
        return read_version_1(came);
    }
    Err(NoHeader)
}

fn read_version_1(came: &[u8]) -> Result<Beginning, NoHeader> {
    let line = &came[..came.len().min(LONGEST_LINE)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if came.len() < LONGEST_LINE { Ok(Beginning::Incomplete) } else { Err(NoHeader) };
    };
    let text = std::str::from_utf8(&line[..end]).map_err(|_| NoHeader)?;
    let mut words = text.split(' ').skip(1);
    let family = words.next().ok_or(NoHeader)?;
    if family == "UNKNOWN" {
        return Ok(Beginning::Header { length: end + 2, client: None });
    }
    let mut addresses = [IpAddr::V4(Ipv4Addr::UNSPECIFIED); 2];
    let mut ports = [0_u16; 2];
    for address in &mut addresses {
        *address = words.next().and_then(|word| word.parse().ok()).ok_or(NoHeader)?;
    }
    for port in &mut ports {
        *port = words.next().and_then(|word| word.parse().ok()).ok_or(NoHeader)?;
    }
    let fits = match family {
        "TCP4" => addresses.iter().all(IpAddr::is_ipv4),
        "TCP6" => addresses.iter().all(IpAddr::is_ipv6),
        _ => false,
    };
    if !fits || words.next().is_some() {
        return Err(NoHeader);
    }
    Ok(Beginning::Header { length: end + 2, client: Some(SocketAddr::new(addresses[0], ports[0])) })
}

fn read_version_2(came: &[u8]) -> Result<Beginning, NoHeader> {
    let Some((start, rest)) = came.split_first_chunk::<16>() else {
        return Ok(Beginning::Incomplete);
    };
    let [.., command, family, high, low] = *start;
    let block = usize::from(u16::from_be_bytes([high, low]));
    let length = start.len() + block;
    if length > LONGEST_HEADER || !matches!(command, LOCAL | PROXY) {
        return Err(NoHeader);
    }
    let Some(block) = rest.get(..block) else {
        return Ok(Beginning::Incomplete);
    };
    let port = |at: usize| block.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let client = match (command, family) {
        (PROXY, TCP_OVER_IPV4) => {
            let ip = block.first_chunk::<4>().ok_or(NoHeader)?;
            port(10).ok_or(NoHeader)?;
            Some(SocketAddr::new(Ipv4Addr::from(*ip).into(), port(8).ok_or(NoHeader)?))
        }
        (PROXY, TCP_OVER_IPV6) => {
            let ip = block.first_chunk::<16>().ok_or(NoHeader)?;
            port(34).ok_or(NoHeader)?;
            Some(SocketAddr::new(Ipv6Addr::from(*ip).into(), port(32).ok_or(NoHeader)?))
        }
        // The proxy's own connection, or one of a kind that no client of ours has.
        (_, _) => None,
    };
    Ok(Beginning::Header { length, client })
}

/// Both addresses in one family, as a header has them: IPv4 where both are.
fn alike(client: IpAddr, address: IpAddr) -> (IpAddr, IpAddr) {
    let mapped = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        IpAddr::V6(ip) => IpAddr::V6(ip),
    };
    let (client, address) = (client.to_canonical(), address.to_canonical());
    let same = client.is_ipv4() == address.is_ipv4();
    if same { (client, address) } else { (mapped(client), mapped(address)) }
}

fn version_2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("invariant: at most LONGEST_BLOCK bytes");
    let mut header = Vec::with_capacity(SIGNATURE.len() + 4 + block.len());
    header.extend_from_slice(SIGNATURE);
    header.extend([command, family]);
    header.extend(length.to_be_bytes());
    header.extend_from_slice(block);
    header
}

/// No protocol that a server may expect begins so.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, and the sender's own connection.
const LOCAL: u8 = 0x20;

/// Version 2, and a connection on behalf of another.
const PROXY: u8 = 0x21;

const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// A line of version 1 with its end (section 2.1).
const LONGEST_LINE: usize = 107;

/// A header of version 2 with more than any proxy adds to its addresses (section 2.2.7).
pub const LONGEST_HEADER: usize = 2048;

/// Two IPv6 addresses and two ports.
const LONGEST_BLOCK: usize = 36;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(client: &str, address: &str) -> String {
        let header = header(HeaderVersion::V1, client.parse().unwrap(), address.parse().unwrap());
        String::from_utf8(header).unwrap()
    }

    #[test]
    fn version_1_is_a_line_of_text() {
        for (client, address, line) in [
            ("203.0.113.5:40000", "192.168.50.8:25", "PROXY TCP4 203.0.113.5 192.168.50.8 40000 25\r\n"),
            ("[2001:db8::5]:1", "[2001:db8::8]:65535", "PROXY TCP6 2001:db8::5 2001:db8::8 1 65535\r\n"),
            ("[::ffff:203.0.113.5]:9", "192.168.50.8:25", "PROXY TCP4 203.0.113.5 192.168.50.8 9 25\r\n"),
            ("203.0.113.5:9", "[2001:db8::8]:25", "PROXY TCP6 ::ffff:203.0.113.5 2001:db8::8 9 25\r\n"),
        ] {
            assert_eq!(text(client, address), line);
        }
        assert_eq!(local_header(HeaderVersion::V1), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_is_signature_command_family_length_addresses_and_ports() {
        let v2 = |client: &str, address: &str| {
            header(HeaderVersion::V2, client.parse().unwrap(), address.parse().unwrap())
        };
        let four = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x05\xc0\xa8\x32\x08\x9c\x40\x00\x19";
        assert_eq!(v2("203.0.113.5:40000", "192.168.50.8:25"), four);
        let six = v2("[2001:db8::5]:40000", "[2001:db8::8]:993");
        assert_eq!(six[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(six[16..20], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(six[48..], [0x9c, 0x40, 0x03, 0xe1]);
        assert_eq!(local_header(HeaderVersion::V2), b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00");
    }

    fn client(bytes: &[u8]) -> Result<Option<SocketAddr>, NoHeader> {
        match read(bytes)? {
            Beginning::Incomplete => panic!("incomplete: {bytes:?}"),
            Beginning::Header { length, client } => {
                assert_eq!(length, bytes.len());
                Ok(client)
            }
        }
    }

    #[test]
    fn a_header_that_is_none_is_no_beginning() {
        for text in [
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 203.0.113.5 192.168.50.8 40000\r\n",
            "PROXY TCP4 203.0.113.5 192.168.50.8 40000 25 1\r\n",
            "PROXY TCP4 203.0.113.5  192.168.50.8 40000 25\r\n",
            "PROXY TCP4 2001:db8::5 2001:db8::8 1 2\r\n",
            "PROXY TCP6 203.0.113.5 192.168.50.8 1 2\r\n",
            "PROXY TCP4 203.0.113.5 192.168.50.8 70000 25\r\n",
            "PROXY UDP4 203.0.113.5 192.168.50.8 1 2\r\n",
            "PROXY TCP4\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(read(text.as_bytes()), Err(NoHeader), "{text:?}");
        }
        let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        assert_eq!(read(too_long.as_bytes()), Err(NoHeader));
        let v2 = |command: u8, family: u8, block: &[u8]| version_2(command, family, block);
        for bytes in [
            v2(0x11, TCP_OVER_IPV4, &[0; 12]),
            v2(0x22, TCP_OVER_IPV4, &[0; 12]),
            v2(PROXY, TCP_OVER_IPV4, &[0; 11]),
            v2(PROXY, TCP_OVER_IPV6, &[0; 35]),
            v2(PROXY, TCP_OVER_IPV4, &[0; LONGEST_HEADER]),
        ] {
            assert_eq!(read(&bytes), Err(NoHeader), "{bytes:?}");
        }
    }

    #[test]
    fn a_proxys_own_connection_names_no_client_and_what_follows_addresses_is_passed_over() {
        assert_eq!(client(b"PROXY UNKNOWN\r\n"), Ok(None));
        assert_eq!(client(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), Ok(None));
        assert_eq!(client(&version_2(LOCAL, TCP_OVER_IPV4, &[1; 12])), Ok(None));
        assert_eq!(client(&version_2(PROXY, 0x31, &[1; 216])), Ok(None), "a Unix socket");
        let more =
            version_2(PROXY, TCP_OVER_IPV4, &[203, 0, 113, 5, 1, 1, 1, 1, 0x9c, 0x40, 0, 25, 4, 0, 1, 0]);
        assert_eq!(client(&more), Ok(Some("203.0.113.5:40000".parse().unwrap())));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_whole_and_not_before(from: SocketAddr, to: SocketAddr, cut: prop::sample::Index) {
            for version in [HeaderVersion::V1, HeaderVersion::V2] {
                let header = header(version, from, to);
                let read_back = client(&header).unwrap().unwrap();
                prop_assert_eq!(read_back.ip().to_canonical(), from.ip().to_canonical());
                prop_assert_eq!(read_back.port(), from.port());
                prop_assert_eq!(read(&header[..cut.index(header.len())]), Ok(Beginning::Incomplete));
                let followed = [&header[..], b"GET /"].concat();
                prop_assert_eq!(read(&followed), read(&header));
            }
        }

        #[test]
        fn any_bytes_are_a_header_or_none(bytes: Vec<u8>, version in 0..3_usize) {
            let start: &[u8] = [&b""[..], b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11"][version];
            if let Ok(Beginning::Header { length, .. }) = read(&[start, &bytes].concat()) {
                prop_assert!(length <= LONGEST_HEADER.min(start.len() + bytes.len()));
            }
        }

        #[test]
        fn a_line_of_version_1_fits_the_107_bytes_that_a_receiver_must_take(client: SocketAddr, address: SocketAddr) {
            let line = header(HeaderVersion::V1, client, address);
            prop_assert!(line.len() <= 107 && line.ends_with(b"\r\n"));
        }

        #[test]
        fn the_length_of_version_2_is_that_of_what_follows(client: SocketAddr, address: SocketAddr) {
            let header = header(HeaderVersion::V2, client, address);
            prop_assert_eq!(usize::from(u16::from_be_bytes([header[14], header[15]])), header.len() - 16);
        }
    }
}
