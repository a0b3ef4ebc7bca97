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
    let hash = if client.v6 {
        siphash_1_3(seed, v6_words(rule, client, port))
    } else {
        siphash_1_3(seed, [v4_word(rule, client, port)])
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

/// SipHash-1-3 (Aumasson and Bernstein, 2012) of the bytes of `words`, each least significant first.
#[inline(always)]
fn siphash_1_3<const N: usize>(key: [u64; 2], words: [u64; N]) -> u64 {
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
    // The last block holds the message's length in its top byte, and no message bytes.
    let last = (8 * N as u64) << 56;
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
        #[test]
        fn the_hash_is_siphash_1_3(key: [u64; 2], words: [u64; 3]) {
            let [first, ..] = words;
            prop_assert_eq!(siphash_1_3(key, [first]), oracle(key, &[first]));
            prop_assert_eq!(siphash_1_3(key, words), oracle(key, &words));
        }

        #[test]
        fn masks_count_the_same_on_both_paths(seed: [u64; 2], ip: IpAddr, port: u16, affinity in any_affinity()) {
            let (rule, client) = (Rule::new(1, affinity), Address::from(ip));
            let port_word = (port & rule.port_mask).to_be() as u64;
            let [high, low] = rule.v6_mask;
            let hash = if client.v6 {
                oracle(seed, &[client.high & high, client.low & low, port_word])
            } else {
                oracle(seed, &[client.low & rule.v4_mask | port_word << 32])
            };
            prop_assert_eq!(bucket_of(seed, &rule, &client, port), Bucket::of_hash(hash));
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

    fn oracle(key: [u64; 2], words: &[u64]) -> u64 {
        let mut oracle = SipHasher13::new_with_keys(key[0], key[1]);
        words.iter().for_each(|word| oracle.write(&word.to_le_bytes()));
        oracle.finish()
    }

    /// Fixed for ever: nodes of different versions must agree.
    #[test]
    fn buckets_of_the_fixed_vectors() {
        let seed = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let network = Affinity::Network { v4: 24, v6: 64 };
        let rows = [
            (Affinity::None, "203.0.113.10", 40_000, 2910),
            (Affinity::None, "203.0.113.10", 40_001, 2797),
            (Affinity::Single, "203.0.113.10", 40_001, 333),
            (Affinity::None, "0.0.0.0", 0, 3324),
            (network, "203.0.113.10", 40_000, 0),
            (Affinity::None, "2001:db8::10", 40_000, 0),
            (Affinity::Single, "2001:db8::10", 40_000, 0),
            (network, "2001:db8::10", 40_000, 0),
        ];
        for (affinity, ip, port, bucket) in rows {
            let client = Address::from(ip.parse::<IpAddr>().unwrap());
            let found = bucket_of(seed, &Rule::new(1, affinity), &client, port);
            assert_eq!(found.index(), bucket, "{affinity:?} {ip}:{port}");
        }
    }
}
