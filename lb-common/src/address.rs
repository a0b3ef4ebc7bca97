//! An IP address as the data path compares, masks and hashes it: two machine words, for both families.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 address.
///
/// An IPv6 address is its sixteen bytes in network order, read as two words of the machine's own order; an IPv4 address is its
/// four bytes, read as one word of 32 bits, in `low`, and the family tells it from an IPv6 address that looks the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether it is an IPv6 address.
    pub v6: bool,
    /// Bytes 0 to 7; 0 for IPv4.
    pub high: u64,
    /// Bytes 8 to 15, or the IPv4 address.
    pub low: u64,
}

impl Address {
    /// An IPv4 address, in network order.
    #[inline(always)]
    pub const fn v4(bytes: [u8; 4]) -> Self {
        Self { v6: false, high: 0, low: u32::from_ne_bytes(bytes) as u64 }
    }

    /// An IPv6 address, in network order: its first and its last eight bytes.
    #[inline(always)]
    pub const fn v6(high: [u8; 8], low: [u8; 8]) -> Self {
        Self { v6: true, high: u64::from_ne_bytes(high), low: u64::from_ne_bytes(low) }
    }

    /// The bytes of an IPv4 address, in network order.
    #[inline(always)]
    pub const fn v4_bytes(&self) -> [u8; 4] {
        (self.low as u32).to_ne_bytes()
    }

    /// The bytes of an IPv6 address, in network order: the first and the last eight.
    #[inline(always)]
    pub const fn v6_bytes(&self) -> ([u8; 8], [u8; 8]) {
        (self.high.to_ne_bytes(), self.low.to_ne_bytes())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::v4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets();
                Self::v6([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p])
            }
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        if !address.v6 {
            return Self::V4(Ipv4Addr::from(address.v4_bytes()));
        }
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = address.v6_bytes();
        Self::V6(Ipv6Addr::from([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_survives_its_words(address: IpAddr) {
            prop_assert_eq!(IpAddr::from(Address::from(address)), address);
        }
    }

    #[test]
    fn the_families_are_told_apart() {
        let v4: IpAddr = Ipv4Addr::new(192, 168, 50, 8).into();
        let mut octets = [0; 16];
        octets[8..12].copy_from_slice(&[192, 168, 50, 8]);
        assert_ne!(Address::from(v4), Address::from(IpAddr::from(Ipv6Addr::from(octets))));
    }
}
