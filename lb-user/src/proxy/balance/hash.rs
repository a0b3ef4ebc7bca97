//! The same server for the same key, on every node: what the key of a request is, and weighted rendezvous hashing
//! (highest random weight). Pure.
//!
//! When a server leaves, the clients that it had go elsewhere and no other moves; when it comes back, they return to it.

use std::hash::Hasher as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::cookie;
use super::set::ServerSet;
use crate::proxy::http1::Head;

/// What of a request decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashOf {
    /// Path and query, as they were sent; ARR's request hash.
    Url,
    /// All values of a header field, in order; ARR's hash of a server variable `HTTP_*`.
    Header(String),
    /// The first cookie of this name.
    Cookie(String),
    /// The values of these query parameters, as they were sent; names without case. ARR's `queryStringNames`.
    Query(Vec<String>),
    /// The client's address; of an IPv6 address the first 64 bits, because hosts change the rest (RFC 8981).
    Client,
}

impl HashOf {
    /// The request's key; `None`: it has none.
    pub fn key(&self, seed: [u64; 2], target: &str, head: &Head, client: IpAddr) -> Option<u64> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
        match self {
            Self::Url => {
                hasher.write(path.as_bytes());
                feed(&mut hasher, query.unwrap_or_default().as_bytes());
            }
            Self::Header(name) => {
                let named = head.fields().filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
                feed_all(&mut hasher, named.map(|field| field.value))?
            }
            Self::Cookie(name) => feed_all(&mut hasher, cookie::values(head, name).take(1))?,
            Self::Query(names) => feed_all(&mut hasher, parameters(query?, names))?,
            Self::Client => match client.to_canonical() {
                IpAddr::V4(address) => hasher.write(&address.octets()),
                IpAddr::V6(address) => hasher.write(&address.octets()[..8]),
            },
        }
        Some(hasher.finish())
    }
}

/// The parameters' values, in the order of `names`, so that the order in the URL does not matter. Each name costs one look
/// through the query.
fn parameters<'a>(query: &'a str, names: &'a [String]) -> impl Iterator<Item = &'a [u8]> {
    names.iter().filter_map(move |name| {
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    })
}

/// `None`: there are no parts.
fn feed_all<'a>(hasher: &mut SipHasher13, parts: impl Iterator<Item = &'a [u8]>) -> Option<()> {
    let mut parts = parts.peekable();
    parts.peek()?;
    parts.for_each(|part| feed(hasher, part));
    Some(())
}

/// The length goes along: "ab" and "c" are not "a" and "bc".
fn feed(hasher: &mut SipHasher13, part: &[u8]) {
    hasher.write(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
    hasher.write(part);
}

/// What of a server enters the hash: its name alone, so that its place in the configuration does not matter.
pub fn server_seed(seed: [u64; 2], name: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// The server for `key` among `candidates`. Each is chosen for its weight's share of all keys. `None`: there are no candidates.
pub fn rendezvous(
    key: u64,
    candidates: ServerSet,
    seeds: &[u64],
    weight: impl Fn(usize) -> u32,
) -> Option<usize> {
    let draw = |server: usize| Some(exponential(mix(key ^ seeds.get(server)?)) / f64::from(weight(server)));
    let drawn = candidates.iter().filter_map(|server| Some((draw(server)?, server)));
    drawn.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, server)| server)
}

/// An exponentially distributed number of a random one: of several, divided by their weights, each is the least with its weight's
/// probability (C. Schindelhauer and G. Schomaker, *Weighted Distributed Hash Tables*, 2005, section on the logarithmic method).
fn exponential(random: u64) -> f64 {
    let uniform = ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -uniform.ln()
}

/// A good mixer of 64 bits: the finish of MurmurHash3. Key and seed are keyed hashes already.
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let bits = (bits ^ bits >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SEED: [u64; 2] = [1, 2];

    fn key(of: &HashOf, uri: &str, fields: &[(&str, &str)], client: &str) -> Option<u64> {
        let head = Head::of_request(uri, fields);
        of.key(SEED, uri, &head, client.parse().unwrap())
    }

    #[test]
    fn only_what_decides_changes_the_key() {
        let header = HashOf::Header("x-anchormailbox".to_owned());
        let cookie = HashOf::Cookie("session".to_owned());
        let query = HashOf::Query(vec!["user".to_owned(), "folder".to_owned()]);
        let client = HashOf::Client;
        let one = "192.0.2.1";
        for (of, first, second, same) in [
            (&HashOf::Url, ("/a?b", "", one), ("/a?b", "x", "192.0.2.2"), true),
            (&HashOf::Url, ("/a?b", "", one), ("/a?c", "", one), false),
            (&HashOf::Url, ("/a?b", "", one), ("/ab", "", one), false),
            (&header, ("/", "x", one), ("/y", "x", "192.0.2.2"), true),
            (&header, ("/", "x", one), ("/", "y", one), false),
            (&cookie, ("/", "x", one), ("/y", "x", "192.0.2.2"), true),
            (&cookie, ("/", "x", one), ("/", "y", one), false),
            (&query, ("/?user=a&folder=b", "", one), ("/x?folder=b&z=1&USER=a", "", "192.0.2.2"), true),
            (&query, ("/?user=a&folder=b", "", one), ("/?user=b&folder=a", "", one), false),
            (&query, ("/?user=ab&folder=c", "", one), ("/?user=a&folder=bc", "", one), false),
            (&query, ("/?user", "", one), ("/?user=", "", one), true),
            (&client, ("/a", "", one), ("/b", "x", one), true),
            (&client, ("/", "", one), ("/", "", "192.0.2.2"), false),
            (&client, ("/", "", one), ("/", "", "::ffff:192.0.2.1"), true),
            (&client, ("/", "", "2001:db8::1"), ("/", "", "2001:db8::2"), true),
            (&client, ("/", "", "2001:db8::1"), ("/", "", "2001:db8:0:1::1"), false),
        ] {
            let key = |(uri, value, client): (&str, &str, &str)| {
                let cookie = format!("other=1; session={value}; session={client}");
                key(of, uri, &[("x-anchormailbox", value), ("cookie", &cookie)], client).unwrap()
            };
            assert_eq!(key(first) == key(second), same, "{of:?} {first:?} {second:?}");
        }
    }

    #[test]
    fn a_request_without_what_decides_has_no_key() {
        let names = vec!["user".to_owned()];
        for of in [
            HashOf::Header("x-anchormailbox".to_owned()),
            HashOf::Cookie("session".to_owned()),
            HashOf::Query(names),
        ] {
            for uri in ["/", "/?", "/?users=1&=2&"] {
                assert_eq!(key(&of, uri, &[("cookie", "other=1")], "192.0.2.1"), None, "{of:?} {uri}");
            }
        }
    }

    fn seeds(servers: usize) -> Vec<u64> {
        (0..servers).map(|server| server_seed(SEED, &format!("server {server}"))).collect()
    }

    #[test]
    fn each_server_gets_its_weights_share_of_the_keys() {
        let weights = [100, 100, 200, 400];
        let mut counts = [0_u32; 4];
        for key in 0..80_000_u64 {
            let key = server_seed([3, 4], &key.to_string());
            counts[rendezvous(key, ServerSet::first(4), &seeds(4), |server| weights[server]).unwrap()] += 1;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            assert!(count.abs_diff(weight * 100) < weight * 3, "{counts:?}");
        }
    }

    proptest! {
        #[test]
        fn a_server_that_leaves_moves_its_own_keys_alone(
            weights in vec(1..=256_000_u32, 2..20),
            keys in vec(any::<u64>(), 50),
            leaver in any::<proptest::sample::Index>(),
        ) {
            let seeds = seeds(weights.len());
            let all = ServerSet::first(weights.len());
            let leaver = leaver.index(weights.len());
            let rest = all - [leaver].into_iter().collect();
            for key in keys {
                let before = rendezvous(key, all, &seeds, |server| weights[server]).unwrap();
                let after = rendezvous(key, rest, &seeds, |server| weights[server]).unwrap();
                prop_assert_ne!(after, leaver);
                prop_assert!(before == leaver || before == after);
            }
        }

        #[test]
        fn a_weight_that_rises_only_wins_keys(
            weights in vec(1..=1000_u32, 2..20),
            rise in 1..=1000_u32,
            keys in vec(any::<u64>(), 50),
        ) {
            let seeds = seeds(weights.len());
            let all = ServerSet::first(weights.len());
            for key in keys {
                let before = rendezvous(key, all, &seeds, |server| weights[server]);
                let more = |server: usize| weights[server] + if server == 0 { rise } else { 0 };
                let after = rendezvous(key, all, &seeds, more);
                prop_assert!(after == before || after == Some(0));
            }
        }
    }
}
