//! A byte for every bucket of a table, in few bytes: as runs, as numbers of a few bits, plain, or as "the same as the table
//! before". What the bytes mean is `wire.rs`'s.

use lb_common::table::BUCKETS;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Malformed, Reader};

/// A byte for every bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ByteMap(pub(super) Box<[u8; BUCKETS]>);

impl Serialize for ByteMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0[..])
    }
}

impl<'de> Deserialize<'de> for ByteMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?.into_boxed_slice();
        bytes.try_into().map(Self).map_err(|_| D::Error::custom("a byte for every bucket is wanted"))
    }
}

impl ByteMap {
    /// What the first table's is compared with.
    pub(super) fn zero() -> Self {
        Self(Box::new([0; BUCKETS]))
    }

    /// Appends it in the shortest form: never more than a byte a bucket and one.
    pub(super) fn put(&self, before: &Self, out: &mut Vec<u8>) {
        if self == before {
            out.push(SAME);
            return;
        }
        let palette = self.palette();
        let packed = PACKED.into_iter().find(|bits| palette.len() <= 1 << bits);
        let packed_length =
            packed.map_or(BUCKETS, |bits| palette.len() + 1 + BUCKETS * usize::from(bits) / 8);
        let runs: Vec<&[u8]> =
            self.0.chunk_by(|a, b| a == b).flat_map(|run| run.chunks(LONGEST_RUN)).collect();
        match packed {
            _ if runs.len() * 2 <= packed_length => {
                out.push(RUNS);
                // A run has 1 to 256 buckets.
                out.extend(runs.iter().flat_map(|run| [run[0], (run.len() - 1) as u8]));
            }
            Some(bits) => self.put_packed(bits, &palette, out),
            None => {
                out.push(PLAIN);
                out.extend(self.0.iter());
            }
        }
    }

    /// Reads what `put` wrote. Takes time and memory in proportion to the buckets, whatever the bytes.
    pub(super) fn read(reader: &mut Reader<'_>, before: &Self) -> Result<Self, Malformed> {
        match reader.u8()? {
            SAME => Ok(before.clone()),
            RUNS => Self::read_runs(reader),
            PLAIN => reader.array().map(|bytes| Self(Box::new(bytes))),
            bits if PACKED.contains(&bits) => Self::read_packed(reader, bits),
            _ => Err(Malformed::Field("form of a table")),
        }
    }

    /// The different bytes of it, in order.
    fn palette(&self) -> Vec<u8> {
        let mut found = [false; 256];
        self.0.iter().for_each(|&byte| found[usize::from(byte)] = true);
        (0..=u8::MAX).filter(|&byte| found[usize::from(byte)]).collect()
    }

    fn put_packed(&self, bits: u8, palette: &[u8], out: &mut Vec<u8>) {
        let mut place = [0; 256];
        for (&byte, number) in palette.iter().zip(0..) {
            place[usize::from(byte)] = number;
        }
        out.extend([bits, palette.len() as u8]);
        out.extend(palette);
        let number = |packed: u8, (&byte, shift): (&u8, u8)| packed | place[usize::from(byte)] << shift;
        let shifts = || (0..8).step_by(usize::from(bits));
        let pack = |bytes: &[u8]| bytes.iter().zip(shifts()).fold(0, number);
        out.extend(self.0.chunks(8 / usize::from(bits)).map(pack));
    }

    fn read_packed(reader: &mut Reader<'_>, bits: u8) -> Result<Self, Malformed> {
        let count = reader.u8()?;
        let palette: Vec<u8> = (0..count).map(|_| reader.u8()).collect::<Result<_, _>>()?;
        let mut map = Self::zero();
        for buckets in map.0.chunks_mut(8 / usize::from(bits)) {
            let mut packed = reader.u8()?;
            for bucket in buckets {
                let number = packed & ((1 << bits) - 1);
                *bucket = *palette.get(usize::from(number)).ok_or(Malformed::Field("byte of a table"))?;
                packed >>= bits;
            }
        }
        Ok(map)
    }

    fn read_runs(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut map = Self::zero();
        let mut rest = &mut map.0[..];
        while !rest.is_empty() {
            let [byte, less] = reader.array()?;
            let (run, tail) =
                rest.split_at_mut_checked(usize::from(less) + 1).ok_or(Malformed::Field("run of a table"))?;
            run.fill(byte);
            rest = tail;
        }
        Ok(map)
    }
}

// The first byte: the form, or how many bits a bucket has.
const SAME: u8 = 0;
const PLAIN: u8 = 8;
const RUNS: u8 = 9;
const PACKED: [u8; 3] = [1, 2, 4];

const LONGEST_RUN: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A map of `colours` different bytes whose neighbours are equal `stay` times in 256.
    fn map(seed: u64, colours: u64, stay: u64) -> ByteMap {
        let (mut state, mut byte) = (seed | 1, 0);
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let mut map = ByteMap::zero();
        for bucket in map.0.iter_mut() {
            if next() % 256 >= stay {
                byte = (next() % colours) as u8;
            }
            *bucket = byte;
        }
        map
    }

    proptest! {
        #[test]
        fn every_map_survives_and_is_never_longer_than_plain(seed: u64, colours in 1u64..=256, stay in 0u64..=256) {
            let (map, before) = (map(seed, colours, stay), ByteMap::zero());
            let mut bytes = Vec::new();
            map.put(&before, &mut bytes);
            prop_assert!(bytes.len() <= BUCKETS + 1, "{}", bytes.len());
            let mut reader = Reader(&bytes);
            prop_assert_eq!(ByteMap::read(&mut reader, &before), Ok(map));
            prop_assert!(reader.0.is_empty());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(form in 0u8..12, mut bytes in prop::collection::vec(any::<u8>(), 1..5000)) {
            bytes[0] = form;
            let _ = ByteMap::read(&mut Reader(&bytes), &ByteMap::zero());
        }
    }

    #[test]
    fn few_owners_take_few_bits_and_long_shares_few_runs() {
        let length = |map: &ByteMap, before: &ByteMap| {
            let mut bytes = Vec::new();
            map.put(before, &mut bytes);
            bytes.len()
        };
        let zero = ByteMap::zero();
        let mut halves = zero.clone();
        halves.0[2048..].fill(7);
        let mut turns = zero.clone();
        turns.0.iter_mut().step_by(2).for_each(|bucket| *bucket = 7);
        let rows =
            [("equal", &halves, &halves, 1), ("halves", &halves, &zero, 33), ("turns", &turns, &zero, 516)];
        for (what, map, before, expected) in rows {
            assert_eq!(length(map, before), expected, "{what}");
        }
    }

    #[test]
    fn a_run_past_the_end_and_a_number_without_a_byte_are_refused() {
        let runs = [vec![RUNS], [3, 255].repeat(15), vec![3, 254, 3, 1]].concat();
        let packed = [vec![1, 1, 9], vec![0; 511], vec![0x80]].concat();
        for bytes in [runs, packed] {
            let read = ByteMap::read(&mut Reader(&bytes), &ByteMap::zero());
            assert!(matches!(read, Err(Malformed::Field(_))), "{read:?}");
        }
    }
}
