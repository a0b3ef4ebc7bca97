//! The affinity cookie: a client comes back to the server that has its session, whichever node it reaches. Pure.
//!
//! The cookie holds a token for the server and a proof that a node of this cluster made it. Nothing is stored, so every node
//! that has the key knows it. It names no address, and it authenticates nobody: who copies it reaches the same server.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use thiserror::Error;

use super::cookie;
use crate::proxy::http1::{Head, Known};

/// A farm's affinity cookies: one value for each server, made once.
pub struct Affinity {
    name: String,
    /// What a client of each server is told, in the servers' order.
    issued: Box<[String]>,
    /// Token to what it stands for, under all keys.
    accepted: BTreeMap<String, Accepted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Accepted {
    server: usize,
    proof: String,
    is_current: bool,
}

/// What a client's cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Index of its server.
    pub server: usize,
    /// It was made with the current key, so that it need not be made anew.
    pub is_current: bool,
}

impl Affinity {
    /// The cookies of the farm named `farm` with these servers. `keys` come from the cluster's secret: the first makes
    /// cookies, all are accepted, so that keys can be changed under clients that have some; a farm without a key accepts none
    /// and makes none.
    pub fn new<'a>(
        name: &str,
        farm: &str,
        servers: impl Iterator<Item = &'a str> + Clone,
        keys: &[[u8; 32]],
    ) -> Result<Self, AffinityError> {
        if !is_cookie_name(name) {
            return Err(AffinityError::Name { name: name.chars().take(MAX_NAME).collect() });
        }
        let (mut issued, mut accepted) = (Vec::new(), BTreeMap::new());
        for (number, key) in keys.iter().enumerate() {
            let key = farm_key(key, farm);
            for (server, server_name) in servers.clone().enumerate() {
                let token = hex(&sign(&key, b"server", server_name.as_bytes())[..TOKEN_BYTES]);
                let proof = hex(&sign(&key, b"token", token.as_bytes())[..PROOF_BYTES]);
                if number == 0 {
                    issued.push(set_cookie(name, &token, &proof));
                }
                accepted.entry(token).or_insert(Accepted { server, proof, is_current: number == 0 });
            }
        }
        Ok(Self { name: name.to_owned(), issued: issued.into(), accepted })
    }

    /// The server that the client's cookie names. Of several cookies of the name (RFC 6265, section 5.4: for other paths or
    /// domains) the first few are looked at.
    pub fn claim(&self, request: &Head) -> Option<Claim> {
        cookie::values(request, &self.name).take(MAX_COOKIES).find_map(|value| self.verify(value))
    }

    fn verify(&self, value: &[u8]) -> Option<Claim> {
        let (token, proof) = cookie::split_once(value, b'.')?;
        let accepted = self.accepted.get(str::from_utf8(token).ok()?)?;
        verify_slices_are_equal(proof, accepted.proof.as_bytes()).ok()?;
        Some(Claim { server: accepted.server, is_current: accepted.is_current })
    }

    /// The `Set-Cookie` that tells a client of its server: unless it said so itself, or the server's response opts out with
    /// `Arr-Disable-Session-Affinity: True`, as ARR 3.0 has it.
    pub fn answer(&self, server: usize, claim: Option<Claim>, response: &Head) -> Option<&str> {
        let opts_out =
            response.values(Known::DisableAffinity).any(|value| value.eq_ignore_ascii_case(b"true"));
        let known = claim == Some(Claim { server, is_current: true });
        if opts_out || known { None } else { self.issued.get(server).map(String::as_str) }
    }
}

impl fmt::Debug for Affinity {
    /// Without the proofs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Affinity({}, ..)", self.name)
    }
}

/// A token of RFC 9110, section 5.6.2, of sensible length; RFC 6265, section 4.1.1.
fn is_cookie_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_token)
}

/// A key for each farm, so that one farm's cookies mean nothing in another.
fn farm_key(key: &[u8; 32], farm: &str) -> hmac::Key {
    let derived = sign(&hmac::Key::new(HMAC_SHA256, key), b"rollcall affinity cookie v1", farm.as_bytes());
    hmac::Key::new(HMAC_SHA256, &derived)
}

/// The purpose has no zero byte in it, so no two purposes meet.
fn sign(key: &hmac::Key, purpose: &[u8], text: &[u8]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    context.update(purpose);
    context.update(&[0]);
    context.update(text);
    let mut tag = [0; 32];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("invariant: a string takes all that is written");
        text
    })
}

/// `SameSite=None`: without it a browser leaves the cookie out where the page is in a frame of another site, as add-ins and
/// portals have it, and the session would be lost there. It guards nothing that another site could misuse.
fn set_cookie(name: &str, token: &str, proof: &str) -> String {
    format!("{name}={token}.{proof}; Path=/; Secure; HttpOnly; SameSite=None")
}

/// Why there are no affinity cookies.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AffinityError {
    /// The name is none for a cookie.
    #[error(
        "\"{name}\" cannot be a cookie's name; hint: use up to {MAX_NAME} letters, digits and -, such as {DEFAULT_NAME}"
    )]
    Name {
        /// The name, cut off when it is long.
        name: String,
    },
}

/// The cookie's name where none is given.
pub const DEFAULT_NAME: &str = "RollcallAffinity";

const MAX_NAME: usize = 64;

/// Most cookies of the name that are looked at.
const MAX_COOKIES: usize = 4;

/// Enough that no two of a farm's servers ever meet.
const TOKEN_BYTES: usize = 8;

/// HMAC-SHA256 cut to 128 bits; RFC 2104, section 5 allows half.
const PROOF_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVERS: [&str; 3] = ["ex1", "ex2", "ex3"];
    const OLD: [u8; 32] = [1; 32];
    const NEW: [u8; 32] = [2; 32];

    fn affinity(farm: &str, keys: &[[u8; 32]]) -> Affinity {
        Affinity::new(DEFAULT_NAME, farm, SERVERS.into_iter(), keys).unwrap()
    }

    /// The cookie that a client of the server is told.
    fn told(affinity: &Affinity, server: usize) -> String {
        let told = affinity.answer(server, None, &Head::default());
        let (cookie, attributes) = told.unwrap().split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=None");
        cookie.to_owned()
    }

    fn claim(affinity: &Affinity, cookies: &str) -> Option<Claim> {
        affinity.claim(&Head::of_request("/", &[("Cookie", cookies)]))
    }

    #[test]
    fn every_node_of_the_cluster_knows_the_cookie() {
        for server in 0..SERVERS.len() {
            let cookie = told(&affinity("mail", &[OLD]), server);
            let other_node = affinity("mail", &[OLD]);
            let cookies = format!("a=b; {DEFAULT_NAME}=stale; {cookie}; c=d");
            assert_eq!(claim(&other_node, &cookies), Some(Claim { server, is_current: true }));
        }
    }

    #[test]
    fn a_server_is_known_by_its_name_wherever_it_stands_in_the_configuration() {
        let cookie = told(&affinity("mail", &[OLD]), 2);
        let moved = Affinity::new(DEFAULT_NAME, "mail", ["ex3", "ex1"].into_iter(), &[OLD]).unwrap();
        assert_eq!(claim(&moved, &cookie), Some(Claim { server: 0, is_current: true }));
        let gone = Affinity::new(DEFAULT_NAME, "mail", ["ex1", "ex2"].into_iter(), &[OLD]).unwrap();
        assert_eq!(claim(&gone, &cookie), None);
    }

    #[test]
    fn a_cookie_of_the_old_key_is_accepted_and_made_anew() {
        let cookie = told(&affinity("mail", &[OLD]), 1);
        let rotated = affinity("mail", &[NEW, OLD]);
        let old = claim(&rotated, &cookie);
        assert_eq!(old, Some(Claim { server: 1, is_current: false }));
        assert!(rotated.answer(1, old, &Head::default()).is_some());
        assert_eq!(claim(&affinity("mail", &[NEW]), &cookie), None);
    }

    #[test]
    fn a_cookie_of_another_farm_or_a_forged_one_says_nothing() {
        let farm = affinity("mail", &[OLD]);
        let good = told(&farm, 0);
        let (token, proof) = good.split_once('=').unwrap().1.split_once('.').unwrap();
        let other_proof = told(&farm, 1).split_once('.').unwrap().1.to_owned();
        assert_eq!(claim(&affinity("web", &[OLD]), &good), None);
        for value in [
            String::new(),
            ".".to_owned(),
            token.to_owned(),
            format!("{token}."),
            format!("{token}.{other_proof}"),
            format!("{token}.{}", &proof[1..]),
            format!("{token}.{proof}0"),
            format!("{token}.{}", proof.to_uppercase()),
            format!("{}.{proof}", &token[1..]),
            format!("\"{token}.{proof}\""),
        ] {
            assert_eq!(claim(&farm, &format!("{DEFAULT_NAME}={value}")), None, "{value}");
        }
        let many = format!("{DEFAULT_NAME}=x; ").repeat(MAX_COOKIES) + &good;
        assert_eq!(claim(&farm, &many), None, "only the first few are looked at");
    }

    #[test]
    fn the_cookie_tells_nothing_of_the_server() {
        let cookie = told(&affinity("mail", &[OLD]), 0);
        assert!(!cookie.contains("ex1"));
        let value = cookie.split_once('=').unwrap().1;
        assert_eq!(value.len(), 2 * (TOKEN_BYTES + PROOF_BYTES) + 1);
        assert_ne!(value, told(&affinity("mail", &[NEW]), 0).split_once('=').unwrap().1);
    }

    #[test]
    fn a_client_is_told_once_and_not_where_the_server_opts_out() {
        let farm = affinity("mail", &[OLD]);
        let current = |server| Some(Claim { server, is_current: true });
        for (claim, opt_out, told) in [
            (None, None, true),
            (current(0), None, false),
            (current(1), None, true),
            (None, Some("True"), false),
            (None, Some("true "), false),
            (current(1), Some("TRUE"), false),
            (None, Some("False"), true),
            (None, Some(""), true),
        ] {
            let fields: Vec<_> =
                opt_out.map(|value| ("Arr-Disable-Session-Affinity", value)).into_iter().collect();
            let response = Head::of_request("/", &fields);
            assert_eq!(farm.answer(0, claim, &response).is_some(), told, "{claim:?} {opt_out:?}");
        }
    }

    #[test]
    fn without_a_key_there_are_no_cookies() {
        let farm = affinity("mail", &[]);
        assert_eq!(farm.answer(0, None, &Head::default()), None);
        assert_eq!(claim(&farm, &told(&affinity("mail", &[OLD]), 0)), None);
    }

    #[test]
    fn a_name_is_one_that_cookies_may_have() {
        let long = "a".repeat(MAX_NAME + 1);
        for name in ["", "a b", "a=b", "a;b", "é", "a\r\nb", &long] {
            assert!(Affinity::new(name, "mail", SERVERS.into_iter(), &[OLD]).is_err(), "{name}");
        }
        for name in [DEFAULT_NAME, "__Host-Rollcall.1"] {
            assert!(Affinity::new(name, "mail", SERVERS.into_iter(), &[OLD]).is_ok(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_cookie_is_survived(value in "[ -~\u{80}-\u{ff}]{0,200}") {
            prop_assert_eq!(claim(&affinity("mail", &[OLD]), &value), None);
        }
    }
}
