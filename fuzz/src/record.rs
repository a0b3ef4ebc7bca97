//! Records from other nodes and the disk: on any bytes the decoder does not panic, and each record has one spelling. The input is looked at as
//! it is, and as a record's text.
#![no_main]

#[allow(dead_code, unreachable_pub, reason = "in the place of a module of the library")]
mod config;
mod library;
#[allow(dead_code, unreachable_pub, reason = "in the place of a module of the library")]
mod proxy;

use libfuzzer_sys::fuzz_target;

use crate::library::shared::generation::Roster;
use crate::library::shared::record::SignedRecord;

fuzz_target!(|input: &[u8]| {
    check(input);
    check(&[BEFORE, input, b"\n"].concat());
});

fn check(bytes: &[u8]) {
    let Ok(record) = SignedRecord::decode(bytes) else { return };
    assert!(record.encode() == bytes, "two spellings");
    assert!(record.check(&[&Roster::new()]).is_err(), "nobody is a node");
}

/// A kind and a signature.
const BEFORE: &[u8] = b"rollcall record 1\n\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
