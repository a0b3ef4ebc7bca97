//! Files of `config export`: on any bytes the reader does not panic, and tells a whole file from one that was cut short or damaged, without the
//! passphrase. The input is looked at as it is, as what is sealed in a file, and as what is under the passphrase.
#![no_main]

#[allow(dead_code, unreachable_pub, reason = "in the place of a module of the library")]
mod config;
mod library;
#[allow(dead_code, unreachable_pub, reason = "in the place of a module of the library")]
mod proxy;

use libfuzzer_sys::fuzz_target;

use aws_lc_rs::digest::{SHA256, digest};

use crate::library::shared::portable::{Passphrase, Portable, Unopened};

fuzz_target!(|input: &[u8]| {
    open(input);
    let file = framed(input);
    assert_eq!(Portable::look(&file), Ok(()));
    open(&file);
    for cut in [0, file.len() / 2, file.len() - 1] {
        let cut = Portable::look(&file[..cut]);
        assert!(matches!(cut, Err(Unopened::Truncated | Unopened::Damaged)), "{cut:?}");
    }
    assert_eq!(Portable::look(&[&file[..], b"x"].concat()), Err(Unopened::Damaged));
    if let Ok(portable) = serde_json::from_slice::<Portable>(input) {
        let again = serde_json::to_vec(&portable).unwrap();
        assert_eq!(serde_json::from_slice::<Portable>(&again).unwrap(), portable);
    }
});

/// Without the work that a passphrase costs, which is its purpose.
fn open(bytes: &[u8]) {
    let _ = Portable::look(bytes);
    if !bytes.windows(6).any(|window| window == b"scrypt") {
        let passphrase = Passphrase::new("any".to_owned()).unwrap();
        assert!(Portable::open(bytes, &passphrase).is_err());
    }
}

fn framed(sealed: &[u8]) -> Vec<u8> {
    let sum: String = digest(&SHA256, sealed).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    [format!("rollcall portable 1\n{}\n{sum}\n", sealed.len()).as_bytes(), sealed].concat()
}
