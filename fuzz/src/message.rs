//! What agents ask each other and answer: on any bytes the decoders do not panic, and what is read reads the same once it is written.
#![no_main]

#[allow(dead_code, unreachable_pub, reason = "in the place of a module of the library")]
mod config;
mod library;
#[allow(dead_code, unreachable_pub, reason = "in the place of a module of the library")]
mod proxy;

use libfuzzer_sys::fuzz_target;

use crate::library::shared::message::{Question, Reply};

fuzz_target!(|input: &[u8]| {
    if let Ok(question) = Question::decode(input) {
        let bytes = question.encode();
        assert_eq!(Question::decode(&bytes).as_ref(), Ok(&question));
        // An application is JSON, which has more than one spelling.
        assert!(bytes == input || matches!(question, Question::Join(_)), "two spellings");
    }
    if let Ok(reply) = Reply::decode(input) {
        assert_eq!(Reply::decode(&reply.encode()).as_ref(), Ok(&reply));
        if let Reply::Refused(why) = &reply {
            assert!(why.chars().all(|c| c == '\n' || !c.is_control()) && why.len() <= 3 * 4096);
        }
    }
});
