//! The rules of the portable file.

use proptest::prelude::*;

use super::*;
use crate::shared::sealed::Bytes;

/// The least work, so that many files can be tried.
const LITTLE: u8 = 1;

pub(crate) fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.to_owned()).unwrap()
}

fn portable() -> Portable {
    let files = [("/root/mail.pfx".to_owned(), Bytes(vec![0, 10, 255]))].into();
    Portable {
        generation: GenerationId::from_bytes([7; 32]),
        height: 9,
        by: "arr1".to_owned(),
        time: 1_795_523_467_042,
        text: "# all of it\n[cluster]\n".to_owned(),
        secrets: Secrets { cluster: "00ff".to_owned(), epoch: 3, files },
    }
}

fn sealed() -> Vec<u8> {
    portable().seal(&passphrase("correct horse"), LITTLE).unwrap()
}

fn open(bytes: &[u8]) -> Result<Portable, Unopened> {
    Portable::open(bytes, &passphrase("correct horse"))
}

#[test]
fn each_thing_that_can_be_wrong_with_a_file_is_told_apart() {
    let good = sealed();
    assert_eq!(open(&good), Ok(portable()));
    assert_eq!(Portable::open(&good, &passphrase("wrong horse")), Err(Unopened::Passphrase));
    assert_eq!(open(&good[..good.len() - 1]), Err(Unopened::Truncated));
    assert_eq!(open(&good[..5]), Err(Unopened::Truncated));
    assert_eq!(open(&[]), Err(Unopened::Truncated));
    assert_eq!(open(&[&good[..], b"\n"].concat()), Err(Unopened::Damaged));
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(open(&flipped), Err(Unopened::Damaged));
    let newer = [b"rollcall portable 2\n", &good[20..]].concat();
    assert_eq!(open(&newer), Err(Unopened::Newer { format: 2 }));
    for other in ["age-encryption.org/v1\n", "[cluster]\n", "rollcall portable\n", "rollcall portable 01\n"] {
        assert_eq!(open(other.as_bytes()), Err(Unopened::Other), "{other}");
    }
    assert_eq!(open(&vec![0; MOST_BYTES + 1]), Err(Unopened::Other));
}

#[test]
fn a_file_that_asks_for_too_much_work_costs_none() {
    let good = sealed();
    let age = frame(&good).unwrap();
    let stanza = age.split_inclusive(|byte| *byte == b'\n').nth(1).unwrap();
    assert!(
        stanza.starts_with(b"-> scrypt ") && stanza.ends_with(b" 1\n"),
        "{}",
        String::from_utf8_lossy(stanza)
    );
    let before = b"age-encryption.org/v1\n".len() + stanza.len() - 2;
    for (asked, wanted) in [("20", Unopened::Work { required: 20 }), ("63", Unopened::Work { required: 63 })]
    {
        let costly = [&age[..before], asked.as_bytes(), &age[before + 1..]].concat();
        assert_eq!(open(&framed(&costly)), Err(wanted));
    }
}

#[test]
fn no_part_of_a_file_and_no_file_with_a_flipped_bit_is_taken_for_one() {
    let good = sealed();
    for at in 0..good.len() {
        assert!(open(&good[..at]).is_err(), "{at} bytes");
        for bit in 0..8 {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << bit;
            assert!(open(&flipped).is_err(), "bit {bit} of byte {at}");
        }
    }
}

/// The lines above it keep nobody out: who changes the age file can write others.
#[test]
fn nor_is_one_whose_frame_was_made_to_fit() {
    let good = sealed();
    let age = frame(&good).unwrap();
    for at in 0..age.len() {
        assert!(open(&framed(&age[..at])).is_err(), "{at} bytes");
        let mut flipped = age.to_vec();
        flipped[at] ^= 1;
        assert!(open(&framed(&flipped)).is_err(), "byte {at}");
    }
}

#[test]
fn neither_passphrase_nor_secrets_are_in_what_is_printed_for_a_log() {
    let shown = format!("{:?} {:?}", passphrase("correct horse"), portable());
    assert!(!shown.contains("horse") && !shown.contains("00ff") && shown.contains("3 bytes"), "{shown}");
    let file = String::from_utf8_lossy(&sealed()).into_owned();
    assert!(!file.contains("00ff") && !file.contains("cluster"), "{file}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_exported_is_what_is_imported(
        text in "\\PC{0,200}",
        files in proptest::collection::btree_map("[a-z/.]{1,20}", proptest::collection::vec(any::<u8>(), 0..200), 0..4),
        cluster in "[0-9a-f]{64}",
        numbers in any::<(u64, u64, u64)>(),
        by in "[a-z0-9]{1,63}",
        words in "\\PC{1,40}",
    ) {
        let (height, time, epoch) = numbers;
        let files = files.into_iter().map(|(path, bytes)| (path, Bytes(bytes))).collect();
        let secrets = Secrets { cluster, epoch, files };
        let all = Portable { height, time, by, text, secrets, ..portable() };
        let bytes = all.seal(&passphrase(&words), LITTLE).unwrap();
        prop_assert_eq!(Portable::open(&bytes, &passphrase(&words)), Ok(all));
    }

    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), frames in 0..3_u8) {
        match frames {
            0 => {}
            1 => drop(bytes.splice(0..0, b"rollcall portable 1\n300\n".to_vec())),
            _ => bytes = framed(&bytes),
        }
        prop_assert!(open(&bytes).is_err());
    }
}
