//! The reader of server names: on any bytes it does not panic, a name is none that a map of host names could mistake, and more
//! bytes never change an answer.
#![no_main]

#[path = "../../lb-user/src/proxy/tcp/sni.rs"]
#[allow(dead_code, unreachable_pub, reason = "a module of the proxy, of which this needs a part")]
mod sni;

use libfuzzer_sys::fuzz_target;

use crate::sni::{Hello, read};

fuzz_target!(|input: &[u8]| {
    let [cut, bytes @ ..] = input else { return };
    let whole = read(bytes);
    if let Ok(Hello::Whole(Some(name))) = &whole {
        assert!(
            !name.is_empty() && !name.contains(|letter: char| letter.is_ascii_uppercase() || letter <= ' ')
        );
    }
    let part = read(&bytes[..bytes.len() * usize::from(*cut) / 256]);
    if part != Ok(Hello::Incomplete) {
        assert_eq!(whole, part);
    }
});
