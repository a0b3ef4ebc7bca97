//! Whatever a client sends to log on is read, or found unreadable: nothing of it panics, what is read of a user is bounded, and
//! NTLM is read alike in all of its wrappings.
#![no_main]

#[path = "../../lb-user/src/proxy/protect/credentials/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the proxy's own module, of which this needs the readers alone")]
mod credentials;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;

use crate::credentials::ntlm::{self, Ntlm};
use crate::credentials::spnego::{self, Token};
use crate::credentials::{Claim, FORM_BYTES, User, Who};

fuzz_target!(|input: &[u8]| {
    let token = STANDARD.encode(input);
    check(Claim::of_authorization(input));
    check(Claim::of_authorization(format!("Basic {token}").as_bytes()));
    let bare = Claim::of_authorization(format!("NTLM {token}").as_bytes()).map(|claim| claim.who);
    let negotiate = Claim::of_authorization(format!("Negotiate {token}").as_bytes()).map(|claim| claim.who);
    check(Some(Claim::of_owa_form(Some(input))));
    check(Some(Claim::of_owa_form(Some(&[b"username=", input].concat()))));
    match spnego::token(input) {
        // A wrapping changes nothing.
        Token::Ntlm(message) if message.len() == input.len() => assert_eq!(bare, negotiate),
        Token::Ntlm(message) => {
            assert!(!matches!(ntlm::message(message), Ntlm::Authenticate(_)) || named(&negotiate))
        }
        Token::Kerberos | Token::Other => assert_eq!(negotiate, Some(Who::Unnamed)),
        Token::Malformed => assert_eq!(negotiate, Some(Who::Unreadable)),
    }
    if input.starts_with(b"NTLMSSP\0") {
        assert_eq!(spnego::token(&wrapped(input)), Token::Ntlm(input));
    }
});

fn check(claim: Option<Claim<'_>>) {
    if let Some(Claim { who: Who::User(user), .. }) = claim {
        assert!((1..=User::LONGEST * 4).contains(&user.bytes().len()));
        assert!(FORM_BYTES > user.bytes().len());
    }
}

fn named(who: &Option<Who>) -> bool {
    matches!(who, Some(Who::User(_)))
}

/// NegTokenResp around a token (RFC 4178, section 4.2.2).
fn wrapped(token: &[u8]) -> Vec<u8> {
    [0x04, 0xa2, 0x30, 0xa1].into_iter().fold(token.to_vec(), |content, tag| {
        let length = (content.len() as u32).to_be_bytes();
        [&[tag, 0x84], &length[..], &content].concat()
    })
}
