//! Join tokens as an operator types them: on any text the reader does not panic, and each token is one word.
#![no_main]

#[allow(dead_code, unreachable_pub, reason = "in the place of a module of the library")]
mod config;
mod library;
#[allow(dead_code, unreachable_pub, reason = "in the place of a module of the library")]
mod proxy;

use libfuzzer_sys::fuzz_target;

use crate::library::shared::token::Token;

fuzz_target!(|input: &str| {
    for word in [input, &format!("rollcall-join-{input}")] {
        if let Ok(token) = word.parse::<Token>() {
            assert_eq!(token.word(), word.trim());
            // What is printed for a log is no token.
            assert!(format!("{token:?}").parse::<Token>().is_err());
        }
    }
});
