//! From a client's address and port to its bucket: the one function that the XDP program, the agent, `status` and the lab's
//! measurements compute alike.

use crate::table::{Affinity, Bucket};

/// The bucket of a client's flow.
///
/// The hash is keyed, so that nobody outside can choose source ports that all fall to one node. With `Affinity::Single` the
/// port does not count. `addr` is in network order, `port` in the host's.
#[inline(always)]
pub fn bucket_of(seed: [u64; 2], affinity: Affinity, addr: [u8; 4], port: u16) -> Bucket {
    let port = match affinity {
        Affinity::None => port,
        Affinity::Single => 0,
    };
    let word = u32::from_le_bytes(addr) as u64 | (port.to_be() as u64) << 32;
    Bucket::of_hash(siphash_1_3(seed, word))
}

/// SipHash-1-3 (Aumasson and Bernstein, 2012) of the eight bytes of `word`, least significant first.
#[inline(always)]
fn siphash_1_3(key: [u64; 2], word: u64) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    v[3] ^= word;
    round(&mut v);
    v[0] ^= word;
    // The last block holds the message's length, 8, in its top byte, and no message bytes.
    let last = 8 << 56;
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

    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;

    use super::*;

    proptest! {
        #[test]
        fn the_hash_is_siphash_1_3(key: [u64; 2], word: u64) {
            let mut oracle = SipHasher13::new_with_keys(key[0], key[1]);
            oracle.write(&word.to_le_bytes());
            prop_assert_eq!(siphash_1_3(key, word), oracle.finish());
        }

        #[test]
        fn affinity_single_ignores_the_port(seed: [u64; 2], addr: [u8; 4], a: u16, b: u16) {
            prop_assert_eq!(
                bucket_of(seed, Affinity::Single, addr, a),
                bucket_of(seed, Affinity::Single, addr, b)
            );
        }
    }

    /// Fixed for ever: nodes of different versions must agree.
    #[test]
    fn buckets_of_the_fixed_vectors() {
        let seed = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let rows = [
            (Affinity::None, [203, 0, 113, 10], 40_000, 2910),
            (Affinity::None, [203, 0, 113, 10], 40_001, 2797),
            (Affinity::Single, [203, 0, 113, 10], 40_001, 333),
            (Affinity::None, [0, 0, 0, 0], 0, 3324),
        ];
        for (affinity, addr, port, bucket) in rows {
            assert_eq!(bucket_of(seed, affinity, addr, port).index(), bucket, "{affinity:?} {addr:?}:{port}");
        }
    }
}
