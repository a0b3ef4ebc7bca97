//! Generations from other nodes and the disk: on any bytes the decoder does not panic, and each generation has one spelling, so that no two
//! files have one name. The input is looked at as it is, and as a header's text, to which the fuzzer finds no way through the lines before it.
#![no_main]

#[allow(dead_code, unreachable_pub, reason = "in the place of a module of the library")]
mod config;
mod library;
#[allow(dead_code, unreachable_pub, reason = "in the place of a module of the library")]
mod proxy;

use libfuzzer_sys::fuzz_target;

use crate::library::shared::generation::{Generation, decode};

fuzz_target!(|input: &[u8]| {
    check(input);
    check(&[BEFORE, input, b"\n"].concat());
});

fn check(bytes: &[u8]) {
    let Ok((head, content)) = decode(bytes) else {
        assert!(Generation::decode(bytes).is_err());
        return;
    };
    // Whoever signed it, it is no node of itself but by its own word.
    let _ = (head.check(None), head.check(Some(&head)));
    let again = match content {
        Some(content) => Generation { head, content }.encode(),
        None => head.encode(),
    };
    assert!(again == bytes, "two spellings");
}

/// A kind and a signature.
const BEFORE: &[u8] = b"rollcall generation 1\n\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
