//! From a client's address and port to its bucket: the one function that the XDP program, the agent, `status` and the lab's
//! measurements compute alike.

use core::hint::cold_path;

use crate::address::Address;
use crate::table::{Bucket, Rule};

/// The bucket of a client's flow under a rule, which says what of its address and port (in the host's order) counts.
///
/// The hash is keyed, so that nobody outside can choose source ports that all fall to one node.
#[inline(always)]
pub fn bucket_of(seed: [u64; 2], rule: &Rule, client: &Address, port: u16) -> Bucket {
    // Whole words of the message, then its length and the rest of it: an address and a port are 6 or 18 bytes.
    let hash = if client.v6 {
        let [high, low, port] = v6_words(rule, client, port);
        siphash_1_3(seed, [high, low], 18 << 56 | port)
    } else {
        siphash_1_3(seed, [], 6 << 56 | v4_word(rule, client, port))
    };
    Bucket::of_hash(hash)
}

/// What counts of an IPv4 client: address and port share a word.
///
/// Masks are applied only where they change something: a processor guesses a branch and hashes at once, but for a mask, two
/// look-ups away, it would wait 4 ns.
#[inline(always)]
fn v4_word(rule: &Rule, client: &Address, port: u16) -> u64 {
    const ALL: u64 = u32::MAX as u64;
    if rule.v4_mask == ALL && rule.port_mask == u16::MAX {
        return client.low | (port.to_be() as u64) << 32;
    }
    cold_path();
    client.low & rule.v4_mask | ((port & rule.port_mask).to_be() as u64) << 32
}

/// What counts of an IPv6 client. As `v4_word`.
#[inline(always)]
fn v6_words(rule: &Rule, client: &Address, port: u16) -> [u64; 3] {
    let [high, low] = rule.v6_mask;
    if high == u64::MAX && low == u64::MAX && rule.port_mask == u16::MAX {
        return [client.high, client.low, port.to_be() as u64];
    }
    cold_path();
    [client.high & high, client.low & low, (port & rule.port_mask).to_be() as u64]
}

/// SipHash-1-3 (Aumasson and Bernstein, 2012) of a message: its whole words, each least significant byte first, and the last block,
/// which holds the message's length in its top byte and what no word has of the message in the others.
#[inline(always)]
fn siphash_1_3<const N: usize>(key: [u64; 2], words: [u64; N], last: u64) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for word in words {
        v[3] ^= word;
        round(&mut v);
        v[0] ^= word;
    }
    v[3] ^= last;
    round(&mut v);
    v[0] ^= last;
    v[2] ^= 0xff;
    round(&mut v);
    round(&mut v);
    round(&mut v);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use core::hash::Hasher as _;
    use core::net::IpAddr;

    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;

    use super::*;
    use crate::table::Affinity;

    proptest! {
        /// The message is what counts of the client's address, then of its port, as they stand in a packet.
        #[test]
        fn the_hash_is_siphash_1_3_of_address_and_port(seed: [u64; 2], ip: IpAddr, port: u16, affinity in any_affinity()) {
            let (rule, client) = (Rule::new(1, affinity), Address::from(ip));
            let [high, low] = if client.v6 { rule.v6_mask } else { [0, rule.v4_mask] };
            let counted = Address { high: client.high & high, low: client.low & low, ..client };
            let mut oracle = SipHasher13::new_with_keys(seed[0], seed[1]);
            match IpAddr::from(counted) {
                IpAddr::V4(ip) => oracle.write(&ip.octets()),
                IpAddr::V6(ip) => oracle.write(&ip.octets()),
            }
            oracle.write(&(port & rule.port_mask).to_be_bytes());
            prop_assert_eq!(bucket_of(seed, &rule, &client, port), Bucket::of_hash(oracle.finish()));
        }

        #[test]
        fn affinity_single_ignores_the_port(seed: [u64; 2], ip: IpAddr, a: u16, b: u16) {
            let (rule, client) = (Rule::new(1, Affinity::Single), Address::from(ip));
            prop_assert_eq!(bucket_of(seed, &rule, &client, a), bucket_of(seed, &rule, &client, b));
        }

        #[test]
        fn affinity_network_ignores_the_host(seed: [u64; 2], net: [u8; 3], a: u8, b: u8, port: u16) {
            let rule = Rule::new(1, Affinity::Network { v4: 24, v6: 64 });
            let [x, y, z] = net;
            let of = |host| bucket_of(seed, &rule, &Address::v4([x, y, z, host]), port);
            prop_assert_eq!(of(a), of(b));
        }
    }

    fn any_affinity() -> impl Strategy<Value = Affinity> {
        prop_oneof![
            Just(Affinity::None),
            Just(Affinity::Single),
            (0..=32u8, 0..=128u8).prop_map(|(v4, v6)| Affinity::Network { v4, v6 }),
        ]
    }

    /// Fixed for ever: nodes of different versions must agree.
    #[test]
    fn buckets_of_the_fixed_vectors() {
        let seed = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let network = Affinity::Network { v4: 24, v6: 64 };
        let rows = [
            (Affinity::None, "203.0.113.10", 40_000, 3753),
            (Affinity::None, "203.0.113.10", 40_001, 3986),
            (Affinity::Single, "203.0.113.10", 40_001, 573),
            (Affinity::None, "0.0.0.0", 0, 2442),
            (network, "203.0.113.10", 40_000, 1023),
            (Affinity::None, "2001:db8::10", 40_000, 1060),
            (Affinity::Single, "2001:db8::10", 40_000, 2887),
            (network, "2001:db8::10", 40_000, 2600),
        ];
        for (affinity, ip, port, bucket) in rows {
            let client = Address::from(ip.parse::<IpAddr>().unwrap());
            let found = bucket_of(seed, &Rule::new(1, affinity), &client, port);
            assert_eq!(found.index(), bucket, "{affinity:?} {ip}:{port}");
        }
    }
}
