//! Whom a limit counts: the network that a client can take its addresses from.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How many leading bits of an address name a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientPrefixes {
    /// Of an IPv4 address, 8 to 32; default 32. Fewer count a whole office, or a carrier's NAT pool, as one client.
    pub v4: u8,
    /// Of an IPv6 address, 16 to 128; default 64, the smallest network that a subscriber gets (RFC 4291, section 2.5.4), from
    /// which a host may take any address it likes. Providers give /56 and /48 too (RFC 6177): who has one is up to 65,536 clients.
    pub v6: u8,
}

impl Default for ClientPrefixes {
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

/// A client's network. An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientNetwork(u128);

impl ClientNetwork {
    /// The network of the client with this address. Prefixes longer than the address count it whole.
    pub fn of(address: IpAddr, prefixes: ClientPrefixes) -> Self {
        let (bits, kept) = match address.to_canonical() {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), 96 + u32::from(prefixes.v4)),
            IpAddr::V6(v6) => (v6.to_bits(), u32::from(prefixes.v6)),
        };
        Self(bits & !u128::MAX.checked_shr(kept).unwrap_or(0))
    }

    /// What the tables hash.
    pub(super) fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one_client() {
        for (one, other, same) in [
            ("203.0.113.5", "203.0.113.5", true),
            ("203.0.113.5", "203.0.113.6", false),
            ("203.0.113.5", "::ffff:203.0.113.5", true),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("0.0.0.0", "::", false),
        ] {
            let network =
                |address: &str| ClientNetwork::of(address.parse().unwrap(), ClientPrefixes::default());
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        }
    }

    #[test]
    fn prefixes_widen_a_client() {
        let network =
            |address: &str, v4, v6| ClientNetwork::of(address.parse().unwrap(), ClientPrefixes { v4, v6 });
        assert_eq!(network("203.0.113.5", 24, 64), network("203.0.113.77", 24, 64));
        assert_ne!(network("203.0.113.5", 24, 64), network("203.0.112.5", 24, 64));
        assert_eq!(network("2001:db8:0:1::1", 32, 48), network("2001:db8:0:2::1", 32, 48));
        assert_ne!(network("2001:db8::1", 255, 255), network("2001:db8::2", 255, 255));
    }
}
